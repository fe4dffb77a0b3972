/** The InfluxDB store on a real server. */
import { randomBytes } from 'node:crypto';
import { systemClock } from '../../src/clock.ts';
import type { InfluxConfig } from '../../src/config.ts';
import { openInfluxStore } from '../../src/store/influx.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { storeContract } from '../contracts/store.ts';
import { removeBuckets } from '../support/influx.ts';
import { needInflux } from '../support/servers.ts';

storeContract('the InfluxDB store keeps the contract', async (context) => {
  const { url, org, token } = needInflux(context);
  const bucket = `contract-${randomBytes(4).toString('hex')}`;
  const config: InfluxConfig = { url, org, token, bucket, timeoutMs: 30_000, createBuckets: true, retentionMs: {} };
  const options = { config, telemetry: silentTelemetry(), clock: systemClock, settleMs: 50 };
  const store = openInfluxStore(options);
  const reader = openInfluxStore(options);
  return {
    store,
    reader,
    async release() {
      await store.close();
      await reader.close();
      await removeBuckets({ url, org, token }, bucket);
    },
  };
});

/** The embedded store keeps the contract. Its faults are in `embeddedFaults.test.ts`. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { storeContract } from '../contracts/store.ts';

storeContract('the embedded store keeps the contract', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-rows-'));
  const options = { folder, maxBytes: 2 ** 30, telemetry: silentTelemetry(), clock: systemClock };
  const store = openEmbeddedStore(options);
  const reader = openEmbeddedStore({ ...options, readOnly: true });
  return {
    store,
    reader,
    async release() {
      await store.close();
      await reader.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
});

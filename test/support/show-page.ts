/**
 * The live page on made-up data, for working on it: `npx tsx test/support/show-page.ts [port] [devices] [trouble]`.
 * With `trouble` Kafka is away and the spool fills.
 */
import { systemClock } from '../../src/clock.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { startView } from '../../src/view/server.ts';
import { FakeFeed } from './fake-feed.ts';

const [port = '8099', devices = '24', trouble] = process.argv.slice(2);
const feed = new FakeFeed(systemClock, { devices: Number(devices) });
if (trouble) {
  const failure = { code: 'KAFKA_UNREACHABLE', message: 'connect ECONNREFUSED 127.0.0.1:9092' } as const;
  const sinceMs = systemClock.nowMs() - 260_000;
  feed.setPart({ kind: 'kafka', name: 'kafka', stage: 'journal', state: 'away', sinceMs, failure });
  let bytes = 8.6 * 2 ** 30;
  setInterval(() => {
    bytes += 500_000;
    feed.telemetry.spoolBytes.set(bytes);
  }, 500);
}
setInterval(() => feed.step(), 250);
const http = { host: '127.0.0.1', port: Number(port), token: 'try' };
const started = await startView({ http, feed, telemetry: silentTelemetry(), clock: systemClock });
console.log(started.ok ? `${started.value.address}  (token: try)` : started.failure.message);
if (!started.ok) process.exit(1);

/**
 * A bridge in a process of its own, to be killed: appends each payload to a file, fsyncs it, and only then settles.
 *   node bridge-process.ts <port> <client id> <file> [early]
 * `early` plants the bug that the promise forbids: it settles at once and writes a little later.
 */
import { fsyncSync, openSync, writeSync } from 'node:fs';
import { systemClock } from '../../src/clock.ts';
import { startBridge } from '../../src/ingress/bridge.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { LIMITS } from './harness.ts';

const [port, clientId, file, early] = process.argv.slice(2) as [string, string, string, string | undefined];
const descriptor = openSync(file, 'a');
let waiting: (() => void)[] = [];
setInterval(() => {
  const durable = waiting;
  waiting = [];
  fsyncSync(descriptor);
  for (const settle of durable) settle();
}, 5);

const bridge = startBridge({
  source: {
    url: `mqtt://127.0.0.1:${port}`,
    topics: ['sensors/#'],
    clientId,
    username: null,
    password: null,
    tls: null,
  },
  limits: LIMITS,
  accept: ({ payload }, settled) => {
    const line = `${Buffer.from(payload)}\n`;
    if (early) {
      settled({ kind: 'accepted' });
      setTimeout(() => writeSync(descriptor, line), 100);
      return;
    }
    writeSync(descriptor, line);
    waiting.push(() => settled({ kind: 'accepted' }));
  },
  telemetry: silentTelemetry(),
  clock: systemClock,
  received: () => Date.now(),
  reconnectMs: 50,
});
if (!bridge.ok) throw new Error(bridge.failure.message);

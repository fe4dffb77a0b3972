/**
 * A bridge in a process of its own, to be killed: appends each payload to a file, fsyncs it, and only then settles.
 *   node bridge-process.ts <port> <client id> <file> [held]
 * `held`, a number, plants the bug that the promise forbids: it settles at once and writes when so many newer ones have
 * come, or HELD_MS later.
 */
import { fsyncSync, openSync, writeSync } from 'node:fs';
import { systemClock } from '../../src/clock.ts';
import { startBridge } from '../../src/ingress/bridge.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { LIMITS } from './harness.ts';

const HELD_MS = 3_000;

const [port, clientId, file, atMost] = process.argv.slice(2) as [string, string, string, string | undefined];
const heldAtMost = Number(atMost);
const descriptor = openSync(file, 'a');
let waiting: (() => void)[] = [];
const held: string[] = [];
let flush: NodeJS.Timeout | undefined;

function writeBeyond(count: number): void {
  for (const line of held.splice(0, held.length - count)) writeSync(descriptor, line);
}

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
    if (atMost) {
      settled({ kind: 'accepted' });
      held.push(line);
      if (held.length > heldAtMost) writeBeyond(heldAtMost);
      clearTimeout(flush);
      flush = setTimeout(() => writeBeyond(0), HELD_MS);
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

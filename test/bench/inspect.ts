/** How long inspection takes for one reading: decode, schema, tags, registry, metrics; about 90 bytes of JSON, three metrics. */

import { decodeJson } from '../../src/inspect/decode/json.ts';
import { DEFAULT_LIMITS, type Inspector } from '../../src/inspect/inspect.ts';
import type { Message } from '../../src/reading.ts';
import { inspectorFor, makeMessage, NOW, SCHEMA } from '../inspect/sample.ts';

const DEVICES = 1_000;
const MESSAGES = 100_000;
const ROUNDS = 9;

/** Nanoseconds of CPU time a reading, garbage collection included, the best of nine rounds. */
export async function run(): Promise<Readonly<Record<string, number>>> {
  const figures: Record<string, number> = {};
  const measure = (name: string, messages: readonly Message[], one: (message: Message) => unknown) => {
    let best = Number.POSITIVE_INFINITY;
    for (let round = 0; round < ROUNDS; round++) {
      const before = process.cpuUsage();
      for (const message of messages) one(message);
      const { user, system } = process.cpuUsage(before);
      best = Math.min(best, user + system);
    }
    const nanoseconds = Math.round((best * 1e3) / messages.length);
    figures[name] = nanoseconds;
    console.log(`${name.padEnd(48)} ${String(nanoseconds).padStart(6)} ns`);
  };
  const accepted = (inspector: Inspector) => (message: Message) => {
    if (inspector.inspect(message).kind !== 'readings') throw new Error('a reading of the benchmark was refused');
  };

  const plain = environment();
  measure('JSON.parse of the text alone', plain, ({ payload }) => JSON.parse((payload as Buffer).toString('latin1')));
  measure('decode: checks, parse, walk', plain, ({ payload }) => decodeJson(payload, DEFAULT_LIMITS));
  measure('inspect, no schema', plain, accepted(inspectorFor()));
  measure('inspect, schema', plain, accepted(inspectorFor({}, { schema: SCHEMA })));
  const enrich = {
    registry: 'devices.csv',
    by: 'device',
    tags: ['model', 'room'],
    scale: { temperature: 'factor' },
    unknown: 'refuse' as const,
  };
  const rows = Array.from({ length: DEVICES }, (_, i) => `d${i},m${i % 7},r${i % 50},1.01`);
  const registry = ['device,model,room,factor', ...rows].join('\n');
  measure('inspect, schema and registry', plain, accepted(inspectorFor({ enrich }, { schema: SCHEMA, registry })));
  const clicks = { topic: 'web/{app}/clicks', key: 'page', tags: ['page', 'action'], metrics: [], time: 'timestamp' };
  const identified = inspectorFor({ ...clicks, identity: ['userid', 'page', 'timestamp'], sequence: null });
  measure('inspect, tags and identity from the payload', clickStream(), accepted(identified));
  return figures;
}

/** Topics and payloads are strings and buffers of their own, as they come from a socket. */
function environment(): Message[] {
  return Array.from({ length: MESSAGES }, (_, i) => {
    const temperature = 20 + (i % 100) / 10;
    const values = { temperature, humidity: 40 + (i % 30) / 2, pressure: 1013.2 };
    const topic = Buffer.from(`sensors/site${i % 10}/d${i % DEVICES}/environment`).toString();
    return makeMessage({ ts: NOW + i, seq: i, ...values }, { topic, receivedMs: NOW + i });
  });
}

function clickStream(): Message[] {
  return Array.from({ length: MESSAGES }, (_, i) => {
    const topic = Buffer.from(`web/app${i % 3}/clicks`).toString();
    const click = { timestamp: NOW + i, userid: `u${i % 5_000}`, page: `/p/${i % 200}`, action: 'view' };
    return makeMessage(click, { topic, receivedMs: NOW + i });
  });
}

if (process.argv[1] === import.meta.filename) await run();

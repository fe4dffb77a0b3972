/**
 * How long inspection takes for one reading: decode, schema, tags, registry, metrics; about 90 bytes of JSON, three metrics;
 * and the same three metrics in every other format.
 */
import { gzipSync } from 'node:zlib';
import { encode as encodeMsgpack } from '@msgpack/msgpack';
import { encode as encodeCbor } from 'cborg';
import { BirthMemory } from '../../src/inspect/births.ts';
import { decodeJson } from '../../src/inspect/decode/json.ts';
import { DEFAULT_LIMITS, type Inspector } from '../../src/inspect/inspect.ts';
import type { Message } from '../../src/reading.ts';
import { sparkplug, TYPE } from '../inspect/decode/sparkplug-payload.ts';
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
  // The same three metrics in each format; without a schema, as in `inspect, no schema`.
  for (const [name, changes, payloads] of formats()) {
    const messages = plain.map(({ receivedMs, topic }, i) => ({
      topic: changes.topic ? Buffer.from(`spBv1.0/plant/DDATA/n${i % DEVICES}/d`).toString() : topic,
      client: 'c',
      payload: payloads[i % payloads.length]!,
      receivedMs,
    }));
    const inspector = inspectorFor(changes, { births: born() });
    measure(`inspect, ${name}, ${payloads[0]!.length} bytes`, messages, accepted(inspector));
  }
  return figures;
}

type Format = [name: string, changes: Parameters<typeof inspectorFor>[0] & object, payloads: readonly Uint8Array[]];

const DIFFERENT = 256;

function formats(): Format[] {
  const payloads = (make: (values: typeof VALUES) => Uint8Array) =>
    Array.from({ length: DIFFERENT }, (_, i) => make({ ...VALUES, temperature: 20 + i / 100 }));
  const text = (value: unknown) => Buffer.from(JSON.stringify(value));
  const common = { ts: NOW, seq: 7 };
  const lines = (values: object) =>
    `environment,room=hall ${Object.entries(values).map(([key, value]) => `${key}=${value}`)} ${NOW}`;
  const uplink = (values: object) => ({
    end_device_ids: { device_id: 'd1', dev_eui: '0004A30B001C0530', application_ids: { application_id: 'app1' } },
    uplink_message: { f_port: 1, f_cnt: 5, received_at: '2023-11-14T22:13:20Z', decoded_payload: values },
  });
  const records = (values: object) =>
    Object.entries(values).map(([n, v], i) => (i === 0 ? { bn: 'urn:dev:d1:', bt: NOW / 1_000, n, v } : { n, v }));
  const none = { time: null, sequence: null };
  return [
    ['json', {}, payloads((values) => text({ ...common, ...values }))],
    ['json in gzip', { compression: 'gzip' }, payloads((values) => gzipSync(text({ ...common, ...values })))],
    ['cbor', { format: 'cbor' }, payloads((values) => encodeCbor({ ...common, ...values }))],
    ['msgpack', { format: 'msgpack' }, payloads((values) => encodeMsgpack({ ...common, ...values }))],
    ['senml, JSON', { ...none, format: 'senml', time: 'time' }, payloads((values) => text(records(values)))],
    [
      'senml, CBOR',
      { ...none, format: 'senml', time: 'time' },
      payloads((values) => encodeCbor(labelled(records(values)))),
    ],
    [
      'line-protocol',
      { ...none, format: 'line-protocol', precision: 'ms', time: 'time' },
      payloads((values) => Buffer.from(lines(values))),
    ],
    ['lorawan', { ...none, format: 'lorawan', time: 'uplink.time' }, payloads((values) => text(uplink(values)))],
    [
      'sparkplug-b',
      { ...none, format: 'sparkplug-b', time: 'timestamp', topic: 'spBv1.0/{group}/+/{node}/{device}' },
      payloads((values) => {
        const metrics = Object.values(values).map((value, at) => ({ alias: at + 1, double_value: value }));
        // The last message once more, as after a reconnect, so that messages need no order here.
        return sparkplug(0, metrics, NOW);
      }),
    ],
  ];
}

const VALUES = { temperature: 20, humidity: 40.5, pressure: 1013.2 };

/** The integer labels of SenML in CBOR. */
function labelled(records: readonly object[]): Map<number, unknown>[] {
  const labels: Record<string, number> = { bn: -2, bt: -3, n: 0, v: 2 };
  return records.map((record) => new Map(Object.entries(record).map(([key, value]) => [labels[key]!, value])));
}

/** The births of as many Sparkplug nodes with one device each. */
function born(): BirthMemory {
  const births = new BirthMemory();
  const metrics = Object.keys(VALUES).map((name, i) => ({ alias: i + 1, name, type: TYPE.double }));
  for (let i = 0; i < DEVICES; i++) {
    births.nodeBorn('plant', `n${i}`, [], 0, 0);
    births.deviceBorn('plant', `n${i}`, 'd', metrics);
  }
  return births;
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

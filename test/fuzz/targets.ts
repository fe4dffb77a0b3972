/**
 * What is fuzzed: for each way in that takes bytes from outside, well-formed samples to start from, and a function that gives
 * bytes to the code and throws when something is not as it must be. Each says what must hold.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { encode as encodeMsgpack } from '@msgpack/msgpack';
import { encode as encodeCbor } from 'cborg';
import { generate, type Packet } from 'mqtt-packet';
import { decodeAlert } from '../../src/alert.ts';
import { formatMistake } from '../../src/config/report.ts';
import { parseConfig } from '../../src/config.ts';
import { parseExpression } from '../../src/expression.ts';
import { bodyKind, splitBody } from '../../src/ingress/http-body.ts';
import { parseUsers } from '../../src/ingress/users.ts';
import { parseCsv } from '../../src/inspect/csv.ts';
import { compileSchema } from '../../src/inspect/validate.ts';
import type { LogRecord } from '../../src/log.ts';
import { accountRecords, decodeAccount } from '../../src/parts/account.ts';
import { decodeReading, decodeRefusal, encodeReading, encodeRefusal, payloadOf } from '../../src/reading.ts';
import { decodeCheckpoint } from '../../src/rollup/checkpoint.ts';
import { decodeLate, lateRecord } from '../../src/rollup/late.ts';
import { decodePane, decodeTick } from '../../src/rollup/panes.ts';
import { readingOf, tagsOf } from '../../src/rollup/record.ts';
import { parseTemplate } from '../../src/stream.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { parseDurationMs, parseSizeBytes } from '../../src/units.ts';
import { startHarness } from '../ingress/harness.ts';
import { sparkplug, TYPE } from '../inspect/decode/sparkplug-payload.ts';
import { inspectorFor, makeMessage, NOW, SCHEMA, TOPIC } from '../inspect/sample.ts';
import { MemoryDisk } from '../journal/memory-disk.ts';
import {
  append,
  commitAs,
  numberOf,
  opened,
  readEverything,
  readerOf,
  recordOf,
  recordsOf,
} from '../journal/spool-fixture.ts';
import { connectPacket, RawClient } from '../support/mqtt-raw.ts';

export interface Target {
  readonly name: string;
  readonly seeds: readonly Buffer[];
  /** Of a run in CI. */
  readonly runs: number;
  run(bytes: Buffer): void | Promise<void>;
  close?(): Promise<void>;
}

const CONTROL = /[\p{Cc}\p{Cs}]/u;
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

/** Whatever the payload: an answer, the payload kept whole, and readings that survive the log as they are. */
function payloads(name: string, format: string, seeds: readonly Uint8Array[], changes: object = {}): Target {
  const stream = { format, time: null, sequence: null, metrics: ['temperature', 'v'], ...changes } as Parameters<
    typeof inspectorFor
  >[0];
  const topic = (changes as { topic?: string }).topic === undefined ? TOPIC : 'spBv1.0/g/DDATA/n/d';
  const inspector = inspectorFor(stream, format === 'json' ? { schema: SCHEMA } : {});
  return {
    name: `payload ${name}`,
    seeds: seeds.map((seed) => Buffer.from(seed)),
    runs: 1_500,
    run(bytes) {
      const sent = Buffer.from(bytes);
      for (const at of topic === TOPIC ? [TOPIC] : [topic, 'spBv1.0/g/DBIRTH/n/d', 'spBv1.0/g/NBIRTH/n']) {
        const inspection = inspector.inspect(makeMessage(bytes, { topic: at }));
        assert.ok(bytes.equals(sent), 'the payload was written into');
        if (inspection.kind === 'refused') {
          const { refusal } = inspection;
          assert.doesNotMatch(refusal.reason, CONTROL);
          assert.ok(sent.equals(decodeRefusal(encodeRefusal(refusal))!.payload));
          continue;
        }
        for (const reading of inspection.readings) {
          const text = encodeReading(reading);
          assert.equal(payloadOf(text), reading.payload);
          const counted = readingOf(Buffer.from(text))!;
          assert.deepEqual(tagsOf(counted.tags), decodeReading(text)!.tags);
          for (const value of Object.values(counted.values)) assert.ok(Number.isFinite(value));
        }
      }
    },
  };
}

const PAYLOADS: readonly Target[] = [
  payloads('json', 'json', [
    json({ ts: NOW, seq: 3, temperature: 21.5 }),
    json([
      { ts: NOW, temperature: 1e-7 },
      { ts: NOW, temperature: -0 },
    ]),
  ]),
  payloads('gzip', 'json', [gzipSync(json({ temperature: 1 }))], { compression: 'gzip' }),
  payloads('cbor', 'cbor', [encodeCbor({ temperature: 21.5, deep: [1, { a: null }] })]),
  payloads('msgpack', 'msgpack', [encodeMsgpack([{ temperature: 1 }, { v: 2 ** 40 }])]),
  payloads('senml', 'senml', [
    json([
      { bn: 'a:', bt: 1.7e9, n: 'temperature', u: 'Cel', v: 120.1 },
      { n: 'v', t: -5, v: 1 },
    ]),
  ]),
  payloads('line-protocol', 'line-protocol', [
    Buffer.from('m,a=b\\ c temperature=1.5,g="x\\"y",v=12i 1556813561098000000\nm v=t\n'),
  ]),
  payloads('lorawan', 'lorawan', [
    json({ deviceInfo: { devEui: '01' }, fCnt: 4, object: { temperature: 1.5 }, rxInfo: [{ rssi: -48 }] }),
  ]),
  payloads(
    'sparkplug-b',
    'sparkplug-b',
    [
      sparkplug(1, [
        { name: 'temperature', alias: 1, datatype: TYPE.double, double_value: 1.5 },
        { name: 'v', alias: 2, datatype: TYPE.int64, long_value: -7n },
      ]),
    ],
    { topic: 'spBv1.0/{group}/+/{node}/{device}' },
  ),
];

/** A file of a person: an answer with a place in the file, in words that a terminal can show. */
const FULL = readFileSync(new URL('../support/full-configuration.yaml', import.meta.url));
const FILES: readonly Target[] = [
  {
    name: 'configuration',
    seeds: [FULL, Buffer.from('streams: { s: { topic: "t/{device}", time: ts, metrics: [x], windows: [10s, 1m] } }\n')],
    runs: 300,
    run(bytes) {
      const env = { KAFKA: '127.0.0.1:9092', INFLUX_TOKEN: 'secret-token' };
      const text = bytes.toString();
      const loaded = parseConfig(text, { file: 'm.yaml', env, baseFolder: '/', hostName: 'host' });
      const said = [...loaded.warnings, ...(loaded.ok ? [] : loaded.mistakes)];
      assert.ok(loaded.ok || loaded.mistakes.length > 0, 'refused without a reason');
      const lines = text.split('\n').length;
      for (const mistake of said) {
        assert.ok(mistake.line <= lines + 1, `line ${mistake.line} of ${lines}`);
        assert.doesNotMatch(formatMistake(mistake), CONTROL);
      }
    },
  },
  {
    name: 'files beside it',
    seeds: [
      Buffer.from('device,room,factor\nd1,"a ""b""",2\nd2,,\n'),
      Buffer.from(
        'users:\n  a: { password: "scrypt$x", publish: ["sensors/{user}/#"] }\nanonymous: { publish: ["#"] }\n',
      ),
      json(SCHEMA),
    ],
    runs: 600,
    run(bytes) {
      const text = bytes.toString();
      for (const outcome of [parseCsv(text, 'd.csv'), compileSchema(text, 's.json')]) {
        if (!outcome.ok) assert.doesNotMatch(outcome.failure.message, CONTROL);
        else if (typeof outcome.value === 'function') outcome.value({ temperature: 1 });
      }
      const users = parseUsers(text);
      if (typeof users === 'string') assert.doesNotMatch(users, CONTROL);
    },
  },
  {
    name: 'short texts',
    seeds: ['(temperature - 32) * 5 / 9', 'sensors/{site}/+/{device}', '10s', '64MiB', 'v4;10;20;30'].map((text) =>
      Buffer.from(text),
    ),
    runs: 3_000,
    run(bytes) {
      const text = bytes.toString();
      const expression = parseExpression(text);
      if (typeof expression === 'string') assert.ok(expression.length > 0);
      parseTemplate(text);
      parseDurationMs(text);
      parseSizeBytes(text);
      decodeCheckpoint({ offset: 1, metadata: text });
    },
  },
  {
    name: 'a body of HTTP',
    seeds: [json([{ a: '[,]' }, [1], 2]), Buffer.from('{"a":1}\n\n {"b":2}\r\n')],
    runs: 3_000,
    run(bytes) {
      for (const type of ['', 'application/x-ndjson', 'text/csv']) {
        const parts = splitBody(bytes, bodyKind(type), 100);
        assert.ok(parts === null || parts.length <= 100);
        if (type === 'text/csv') assert.deepEqual(parts, [bytes]);
        let at = 0;
        for (const part of parts ?? []) {
          const found = bytes.indexOf(part, at);
          assert.ok(found >= at, 'a part that is not in the body, or out of order');
          at = found + part.length;
        }
      }
    },
  },
];

const READING = encodeReading({
  ...{
    stream: 's',
    key: 'k',
    timeMs: NOW,
    tags: { device: 'd1' },
    values: { v: 1.5 },
    schema: '0123456789ab',
    batch: [0, 2],
  },
  ...{ sequence: 7, identity: 'i', distinct: ['u', '1'], payload: '{"v":1.5}' },
});
const STORED = { ...recordOf(1), offset: 3, value: Buffer.from(READING) };

/** A value in the log, which may have other writers: read as what it is, or not at all. */
const VALUES: Target = {
  name: 'values in the log',
  seeds: [
    Buffer.from(READING),
    Buffer.from(lateRecord(STORED, 'late', 2).value),
    Buffer.from(
      accountRecords(
        {
          spool: 's',
          from: 1,
          to: 9,
          skipped: null,
          entries: [{ minuteMs: 60_000, device: 'd', readings: 1, letters: 2, refused: 3 }],
        },
        'g',
        1,
      )[0]!.value,
    ),
    Buffer.from(
      encodeRefusal({
        code: 'schema',
        reason: 'r',
        field: '/a',
        stream: 's',
        topic: 't',
        client: 'c',
        payload: Buffer.from('x'),
      }),
    ),
  ],
  runs: 3_000,
  run(bytes) {
    const text = bytes.toString();
    const counted = readingOf(bytes);
    const decoded = decodeReading(text);
    // The payload is not looked at when a reading is counted: there may be one that is no JSON.
    if (counted !== null && decoded !== null && tagsOf(counted.tags) !== null)
      assert.equal(counted.timeMs, decoded.timeMs);
    payloadOf(text);
    decodeRefusal(text);
    decodeLate(bytes);
    decodePane(bytes);
    decodeTick(bytes);
    decodeAlert(bytes);
    const account = decodeAccount(bytes);
    if (account) for (const { readings } of account.entries) assert.ok(readings >= 0);
  },
};

/**
 * A segment or a cursor of a spool that died: what is read was written, in order; what was not hit is all there when it is
 * only the tail that was; and the spool opens and takes records again, or says why not.
 */
async function spoolTarget(): Promise<Target> {
  const telemetry = silentTelemetry();
  const disk = new MemoryDisk(() => 0.9);
  const spool = await opened({ files: disk.restart(), telemetry });
  for (let i = 0; i < 8; i++) await append(spool, recordsOf(7, i * 7, 40 + i));
  await commitAs(readerOf({ spool, files: disk.restart(), telemetry }), 'g', 5, 9);
  disk.crash('kill');
  await spool.close();
  const paths = disk.paths().filter((path) => /\.(seg|cursor)$/.test(path));
  const written = new Map<number, LogRecord>(recordsOf(7 * 8).map((_, i) => [i, recordOf(i, 40 + Math.floor(i / 7))]));
  return {
    name: 'files of the spool',
    // The first byte says which file the others are.
    seeds: paths.map((path, i) => Buffer.concat([Buffer.of(i), disk.content(path)])),
    runs: 150,
    async run(bytes) {
      if (bytes.length === 0) return;
      const hit = disk.copy();
      hit.replace(paths[bytes[0]! % paths.length]!, bytes.subarray(1));
      const judge = (records: Awaited<ReturnType<typeof readEverything>>) => {
        let last = -1;
        for (const record of records) {
          assert.ok(record.offset > last, 'not in order');
          last = record.offset;
          // What is appended afterwards may have the offset of one of which nothing is left.
          const original = numberOf(record) === 999 ? undefined : written.get(record.offset);
          if (original)
            assert.ok(Buffer.from(record.value).equals(original.value), `record ${record.offset} was changed`);
        }
      };
      const reader = readerOf({ files: hit.restart(), telemetry });
      judge(await readEverything(reader));
      await reader.checkpoint('g', 0);
      await reader.close();
      const again = await opened({ files: hit.restart(), telemetry }).catch((error: Error) => error);
      if (again instanceof Error) {
        assert.match(again.message, /^(DATA_DAMAGED|SPOOL_IO)/);
        return;
      }
      await append(again, [recordOf(999)]);
      const after = readerOf({ files: hit.restart(), telemetry });
      const records = await readEverything(after);
      judge(records);
      assert.equal(numberOf(records.at(-1)!), 999);
      await after.close();
      await again.close();
    },
  };
}

const PACKETS: readonly Packet[] = [
  { cmd: 'publish', topic: 'a/b', payload: 'x', qos: 1, messageId: 1, dup: false, retain: false },
  { cmd: 'publish', topic: 'a/b', payload: 'yy', qos: 2, messageId: 2, dup: false, retain: true },
  { cmd: 'pubrel', messageId: 2 },
  { cmd: 'subscribe', messageId: 3, subscriptions: [{ topic: 'a/#', qos: 1 }] },
  { cmd: 'unsubscribe', messageId: 4, unsubscriptions: ['a/#'] },
  { cmd: 'pingreq' },
];

/** Bytes on a connection, from its first or after CONNECT: whatever they are, others are served, and nothing is thrown. */
async function mqttTarget(): Promise<Target> {
  const harness = await startHarness({ retain: () => true });
  const other = await harness.connected();
  let messageId = 0;
  const connect = generate(connectPacket({ will: { topic: 'a/w', payload: Buffer.from('w'), qos: 1, retain: false } }));
  const packets = PACKETS.map((packet) => generate(packet));
  return {
    name: 'MQTT',
    seeds: [Buffer.concat([connect, ...packets]), ...packets, connect],
    runs: 150,
    async run(bytes) {
      const thrown: unknown[] = [];
      const note = (error: unknown) => thrown.push(error);
      process.on('uncaughtException', note).on('unhandledRejection', note);
      try {
        const before = new Set(harness.arrived);
        const client = await RawClient.open(harness.port);
        if (bytes.length % 2 === 0) client.connect();
        client.write(bytes);
        client.stream.end();
        // Read to its end: it answers the end with its own.
        await client.untilClosed();
        messageId = (messageId % 65_535) + 1;
        const count = other.acknowledged().length;
        other.publish('others/are/served', String(messageId), 1, messageId);
        await other.when(() => other.acknowledged().length > count || other.closed, 'the other is acknowledged');
        assert.equal(other.acknowledged().at(-1), messageId);
        for (const { topic } of harness.arrived.filter((message) => !before.has(message))) {
          assert.ok(topic.length > 0 && !/[#+\0]/.test(topic), `a topic name that is none: ${JSON.stringify(topic)}`);
        }
        harness.arrived.length = 0;
        client.end();
        assert.deepEqual(thrown, []);
      } finally {
        process.off('uncaughtException', note).off('unhandledRejection', note);
      }
    },
    close: () => harness.close(),
  };
}

/** By name; each is made when it is wanted. */
export const TARGETS: ReadonlyMap<string, () => Promise<Target>> = new Map([
  ...[...PAYLOADS, ...FILES, VALUES].map((target) => [target.name, async () => target] as const),
  ['files of the spool', spoolTarget] as const,
  ['MQTT', mqttTarget] as const,
]);

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import fc from 'fast-check';
import type { KafkaMessage } from 'kafkajs';
import { crc32c } from '../../src/journal/crc32c.ts';
import { type BatchOptions, encodeBatch } from '../../src/journal/kafka-batch.ts';
import { batchesIn, recordsOf } from '../../src/journal/kafka-batch-read.ts';
import type { LogRecord, RecordKind } from '../../src/log.ts';
import { traceparents } from '../support/traceparents.ts';

interface Decoded {
  readonly lastOffsetDelta: number;
  readonly maxTimestamp: string;
  readonly records: readonly (KafkaMessage & { readonly batchContext: unknown })[];
}

// How kafkajs reads a batch, and its checksum: somebody else's reading of the format.
const require = createRequire(import.meta.url);
const Decoder = require('kafkajs/src/protocol/decoder') as new (bytes: Buffer) => object;
const decode = require('kafkajs/src/protocol/recordBatch/v0/decoder') as (decoder: object) => Promise<Decoded>;
const theirCrc32c = require('kafkajs/src/protocol/recordBatch/crc32C') as (bytes: Buffer) => number;

const kinds: readonly RecordKind[] = ['reading', 'tick', 'refusal', 'late', 'pane', 'requeued', 'alert'];
/** Short and long, ASCII or not: what is wrong in one text must not be made good by another of the same record. */
const text = fc.oneof(
  fc.string({ maxLength: 70 }),
  fc.string({ minLength: 40, maxLength: 70 }),
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc.string({ unit: 'grapheme', minLength: 40, maxLength: 70 }),
);
const untraced = fc.record({
  kind: fc.constantFrom(...kinds),
  key: text,
  receivedMs: fc.oneof(fc.integer({ min: 0, max: 4e12 }), fc.maxSafeNat()),
  stream: fc.string(),
  topic: text,
  value: fc.uint8Array({ maxLength: 10_000 }),
});
const record: fc.Arbitrary<LogRecord> = fc.oneof(
  untraced,
  fc.record({ one: untraced, trace: traceparents }).map(({ one, trace }) => ({ ...one, trace })),
);
/** In a spool: of few digits and of many, around the powers of ten. */
const offset = fc.oneof(
  fc.maxSafeNat(),
  fc.tuple(fc.integer({ min: 0, max: 15 }), fc.integer({ min: -1, max: 1 })).map(([power, by]) => 10 ** power + by),
);
const options: fc.Arbitrary<BatchOptions> = fc.record({
  gateway: fc.oneof(fc.constant(''), fc.string({ unit: 'grapheme', maxLength: 100 })),
  implied: fc.constantFrom(...kinds),
  compression: fc.constantFrom('none', 'gzip'),
});
const tick: LogRecord = { kind: 'tick', key: '', receivedMs: 5, stream: '', topic: '', value: new Uint8Array() };
const plain: BatchOptions = { gateway: 'plant-7', implied: 'reading', compression: 'none' };

describe('a record batch', () => {
  it('is read by another implementation as the records that went in', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 20 }), options, async (records, how) => {
        const batch = encodeBatch(records, how);
        const decoded = await decode(new Decoder(batch));
        assert.equal(decoded.lastOffsetDelta, records.length - 1);
        assert.equal(decoded.maxTimestamp, String(Math.max(...records.map(({ receivedMs }) => receivedMs))));
        for (const [i, { key, value, timestamp, offset, headers = {} }] of decoded.records.entries()) {
          const text = (name: string) => headers[name]?.toString() ?? '';
          const kind = text('kind') || how.implied;
          const trace = headers.traceparent && { trace: text('traceparent') };
          const [stream, topic, receivedMs] = [text('stream'), text('topic'), Number(timestamp)];
          assert.deepEqual(
            { kind, key: key?.toString() ?? '', receivedMs, stream, topic, value, ...trace },
            { ...records[i], value: Buffer.from(records[i]!.value) },
          );
          assert.equal(text('gateway'), how.gateway);
          assert.equal(offset, String(i));
        }
      }),
    );
  });

  it('is read back as the records that went in, with their places in the spool', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(record, offset), { minLength: 1, maxLength: 20 }),
        options,
        async (some, how) => {
          const spooled = some.map(([one, at]) => ({ ...one, offset: at }));
          const batch = await encodeBatch(spooled, { ...how, spool: 'plant-7' });
          const read = [];
          for await (const piece of recordsOf(batchesIn(batch), { from: 0, to: some.length }, how.implied))
            read.push(...piece.records);
          assert.deepEqual(
            read,
            spooled.map((one, i) => {
              return {
                ...one,
                value: Buffer.from(one.value),
                offset: i,
                origin: { spool: 'plant-7', offset: one.offset },
              };
            }),
          );
        },
      ),
    );
  });

  it('carries its checksum and its length', async () => {
    const batch = encodeBatch([tick, { ...tick, receivedMs: 3 }], plain);
    assert.equal(batch.readUInt32BE(8), batch.length - 12);
    assert.equal(batch.readUInt32BE(17), theirCrc32c(batch.subarray(21)));
  });

  it('has a header of the kind only where the topic does not imply it, and no key where there is none', async () => {
    const batch = encodeBatch([tick, { ...tick, kind: 'reading' }], plain);
    const { records } = await decode(new Decoder(batch));
    const [asTick, asReading] = [records[0]!, records[1]!];
    assert.equal(asTick.key, null);
    assert.deepEqual(Object.keys(asTick.headers!), ['gateway', 'kind']);
    assert.deepEqual(Object.keys(asReading.headers!), ['gateway']);
  });
});

describe('crc32c', () => {
  it('gives the check value of the standard', () => {
    assert.equal(crc32c(Buffer.from('123456789'), 0, 9), 0xe3069283);
  });

  it('agrees with another implementation on any piece of any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(20), (bytes, from) => {
        fc.pre(from <= bytes.length);
        assert.equal(crc32c(bytes, from, bytes.length), theirCrc32c(Buffer.from(bytes.subarray(from))));
      }),
    );
  });
});

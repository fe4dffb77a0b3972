import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { encodeBatch } from '../../src/journal/kafka-batch.ts';
import { batchesIn, recordsOf } from '../../src/journal/kafka-batch-read.ts';
import type { LogRecord, RecordKind, StoredRecord } from '../../src/log.ts';

// How kafkajs writes a batch: somebody else's writing of the format.
const require = createRequire(import.meta.url);
const theirRecord = require('kafkajs/src/protocol/recordBatch/record/v0') as (record: object) => object;
const { RecordBatch } = require('kafkajs/src/protocol/recordBatch/v0') as {
  RecordBatch(batch: object): Promise<{ buffer: Buffer }>;
};

interface Foreign {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly deltaMs: number;
  readonly headers: Readonly<Record<string, Buffer | Buffer[]>>;
}

const FIRST_MS = 1_700_000_000_000;
const FIRST_OFFSET = 3_000_000_000;
const END = 2 ** 40;
const plain: LogRecord = {
  ...{ kind: 'reading', key: 'k', receivedMs: FIRST_MS, stream: 's', topic: 't' },
  value: Buffer.from('v'),
};

async function byKafkajs(records: readonly Foreign[], options: object = {}): Promise<Buffer> {
  const written = records.map(({ deltaMs, ...rest }, offsetDelta) => {
    return theirRecord({ offsetDelta, timestampDelta: deltaMs, ...rest });
  });
  const batch = await RecordBatch({
    ...{ firstOffset: FIRST_OFFSET, firstTimestamp: FIRST_MS, maxTimestamp: FIRST_MS + 77 },
    ...{ lastOffsetDelta: records.length - 1, records: written, ...options },
  });
  return batch.buffer;
}

async function read(bytes: Buffer, from = 0, implied: RecordKind = 'reading'): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  for await (const piece of recordsOf(batchesIn(bytes), { from, to: END }, implied)) records.push(...piece.records);
  return records;
}

const bytes = fc.uint8Array({ maxLength: 300 }).map((each) => Buffer.from(each));
const foreign: fc.Arbitrary<Foreign> = fc.record({
  key: fc.option(bytes),
  value: fc.option(bytes),
  deltaMs: fc.oneof(fc.integer({ min: -1_000, max: 100_000 }), fc.integer({ min: -(2 ** 40), max: 2 ** 40 })),
  headers: fc.dictionary(
    fc.string({ maxLength: 12 }),
    fc.oneof(bytes, fc.array(bytes, { minLength: 1, maxLength: 3 })),
    {
      noNullPrototype: true,
    },
  ),
});

describe('record batches of Kafka', () => {
  it('are read as another implementation wrote them, packed or not, from any offset on', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(foreign, { minLength: 1, maxLength: 20 }), fc.nat(22), async (records, skip) => {
        const all = records.map(({ key, value, deltaMs }, i) => ({
          key: key?.toString() ?? '',
          value: value ?? Buffer.alloc(0),
          receivedMs: FIRST_MS + deltaMs,
          offset: FIRST_OFFSET + i,
        }));
        for (const compression of [0, 1]) {
          const found = await read(await byKafkajs(records, { compression }), FIRST_OFFSET + skip);
          assert.deepEqual(
            found.map(({ key, value, receivedMs, offset }) => ({ key, value, receivedMs, offset })),
            all.slice(skip),
          );
        }
      }),
    );
  });

  it('of another producer, without headers or value, read as what the topic implies', async () => {
    const [record] = await read(await byKafkajs([{ key: null, value: null, deltaMs: 7, headers: {} }]), 0, 'late');
    assert.deepEqual(record, {
      ...{ kind: 'late', key: '', receivedMs: FIRST_MS + 7, stream: '', topic: '' },
      ...{ value: Buffer.alloc(0), offset: FIRST_OFFSET },
    });
    const headers = {
      kind: Buffer.from('nonsense'),
      topic: [Buffer.from('a'), Buffer.from('b')],
      at: Buffer.from('x-'),
    };
    const [odd] = await read(await byKafkajs([{ key: null, value: null, deltaMs: 0, headers }]));
    assert.equal(odd!.kind, 'reading');
    assert.equal(odd!.topic, 'a');
    assert.equal(odd!.origin, undefined);
  });

  it('carry the broker’s stamp where the broker stamps', async () => {
    const batch = await byKafkajs([{ key: null, value: null, deltaMs: 7, headers: {} }]);
    batch.writeInt16BE(0x08, 21);
    assert.equal((await read(batch))[0]!.receivedMs, FIRST_MS + 77);
  });

  it('come in pieces without a gap, whatever was compacted away or is not among them', async () => {
    const large = await encodeBatch(new Array(1_500).fill(plain), {
      ...{ gateway: 'g', implied: 'reading', compression: 'gzip' },
    });
    const emptied = await byKafkajs([], { firstOffset: 1_500, lastOffsetDelta: 9 });
    const next = Buffer.from(large);
    next.writeBigInt64BE(1_512n);
    const range = { from: 0, to: 3_020 };
    const pieces = [];
    const batches = batchesIn(Buffer.concat([large, emptied, next]));
    for await (const { records, nextOffset } of recordsOf(batches, range, 'reading')) {
      pieces.push([records.length, nextOffset]);
    }
    assert.deepEqual(pieces, [
      [1_500, 1_512],
      [1_500, 3_020],
    ]);
  });

  it('of transactions say what their markers say', async () => {
    const marker = { key: Buffer.from([0, 0, 0, 1]), value: Buffer.alloc(6), deltaMs: 0, headers: {} };
    const bytes = await byKafkajs([marker], { producerId: 5, transactional: true });
    bytes.writeInt16BE(0x30, 21);
    const [batch] = batchesIn(bytes);
    assert.equal(batch!.isControl, true);
    assert.equal(batch!.inTransaction, true);
    assert.equal(batch!.producerId, '5');
    assert.deepEqual(batch!.marker, marker.key);
  });

  it('that are cut off are left for the next fetch, and all before them is read', async () => {
    const batch = await byKafkajs([{ key: null, value: Buffer.from('v'), deltaMs: 0, headers: {} }]);
    for (let length = 0; length < batch.length; length++) {
      assert.equal((await read(Buffer.concat([batch, batch.subarray(0, length)]))).length, 1);
    }
  });

  it('that are none, or packed otherwise, are an error and no bug', async () => {
    const good = await encodeBatch([plain, { ...plain, trace: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` }], {
      ...{ gateway: 'g', implied: 'tick', compression: 'none' },
      spool: 'spool',
    });
    const snappy = Buffer.from(good);
    snappy.writeInt16BE(2, 21);
    await assert.rejects(read(snappy), { name: 'KafkaBatchUnreadable', message: 'snappy at offset 0' });
    const old = Buffer.from(good);
    old.writeInt8(1, 16);
    assert.throws(() => batchesIn(old), /before 0.11/);
    const torn = Buffer.concat([good.subarray(0, 61), gzipSync(good.subarray(61)).subarray(0, 20)]);
    torn.writeInt16BE(1, 21);
    torn.writeUInt32BE(torn.length - 12, 8);
    await assert.rejects(read(torn), /unexpected end of file/);
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.nat(255), async (at, byte) => {
        const changed = Buffer.from(good);
        changed[at] = byte;
        await read(changed).catch((thrown) => assert.equal(thrown.constructor, Error));
      }),
      { numRuns: 2_000 },
    );
  });
});

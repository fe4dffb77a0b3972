import assert from 'node:assert/strict';
import fc from 'fast-check';
import { murmur2, partitionOf } from '../../src/journal/kafka-partition.ts';

/** Computed with Kafka 3.9.2's own `Utils.murmur2` and `toPositive(hash) % 12`. */
const FROM_JAVA: readonly [key: string, hash: number, partition: number][] = [
  ['', 275646681, 9],
  ['a', -1563381124, 4],
  ['ab', 316155434, 2],
  ['abc', 479470107, 3],
  ['21', -973932308, 0],
  ['foobar', -790332482, 6],
  ['device-0', -38391478, 10],
  ['device-1', 1007784178, 10],
  ['device-12345', -1720012903, 1],
  ['gerät-7/水', -792094386, 2],
  ['a-little-bit-long-string', -985981536, 8],
  ['a-little-bit-longer-string', -1486304829, 11],
  ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971, 5],
  ['00:1B:44:11:3A:B7', -810172505, 3],
];

describe('the partition of a key', () => {
  for (const [key, hash, partition] of FROM_JAVA) {
    it(`is that of Kafka’s Java client for ${JSON.stringify(key)}`, () => {
      assert.equal(murmur2(Buffer.from(key)), hash);
      assert.equal(partitionOf(key, 12), partition);
    });
  }

  it('is that of its UTF-8 bytes, however long it is and whatever is in it', () => {
    const keys = fc.oneof(fc.string({ unit: 'binary', maxLength: 300 }), fc.string({ minLength: 80, maxLength: 90 }));
    fc.assert(
      fc.property(keys, fc.integer({ min: 1, max: 1_000 }), (key, partitions) => {
        assert.equal(partitionOf(key, partitions), (murmur2(Buffer.from(key)) & 0x7fffffff) % partitions);
      }),
    );
  });

  it('spreads device names evenly', () => {
    const counts = new Array<number>(12).fill(0);
    for (let i = 0; i < 12_000; i++) counts[partitionOf(`device-${i}`, 12)]!++;
    for (const count of counts) assert.ok(count > 850 && count < 1_150, counts.join(' '));
  });
});

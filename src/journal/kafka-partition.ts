/**
 * Which partition a key, or the text that spreads readings in its place (spread.ts), belongs to: murmur2 over its UTF-8 bytes,
 * made positive, modulo the number of partitions. The same as the default partitioner of Kafka's Java client, so that other
 * producers and consumers of the topics agree.
 */

const SEED = 0x9747b28c | 0;
const MULTIPLIER = 0x5bd1e995;

export function partitionOf(key: string, partitions: number): number {
  const fits = key.length <= SHORT_BYTES / MOST_BYTES_OF_UNIT;
  const hash = fits ? murmur2(short, short.write(key)) : murmur2(Buffer.from(key));
  return (hash & 0x7fffffff) % partitions;
}

/** Where the bytes of most keys are put, one after the other: to make a buffer for each takes longer than the hash. */
const SHORT_BYTES = 256;
const short = Buffer.alloc(SHORT_BYTES);
/** UTF-8, of a UTF-16 unit. */
const MOST_BYTES_OF_UNIT = 3;

/** A signed 32-bit integer, as Java has it; of the first `length` bytes. */
export function murmur2(bytes: Uint8Array, length = bytes.length): number {
  let hash = SEED ^ length;
  let at = 0;
  for (; length - at >= 4; at += 4) {
    let block = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    block = Math.imul(block, MULTIPLIER);
    block ^= block >>> 24;
    hash = Math.imul(hash, MULTIPLIER) ^ Math.imul(block, MULTIPLIER);
  }
  const rest = length - at;
  if (rest === 3) hash ^= bytes[at + 2]! << 16;
  if (rest >= 2) hash ^= bytes[at + 1]! << 8;
  if (rest >= 1) hash = Math.imul(hash ^ bytes[at]!, MULTIPLIER);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, MULTIPLIER);
  return hash ^ (hash >>> 15);
}

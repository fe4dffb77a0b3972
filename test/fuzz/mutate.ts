/** Bytes changed at random, from a seed: the same seed, the same bytes. */

/** Numbers from 0 to less than 1 (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const MAX_BYTES = 16_384;
/** Borders of lengths and signs, in one, two and four bytes. */
const NUMBERS = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];
/** What means something in one format or another. */
const WORDS = [
  '{',
  '}',
  '[',
  ']',
  '"',
  '\\',
  ',',
  ':',
  '\n',
  '\0',
  'null',
  '1e999',
  '-0',
  '__proto__',
  'é',
  '\ud83c',
  '&a',
  '*a',
  '!!',
  `$\{A}`,
];

type Change = (bytes: Buffer, at: number, random: () => number, seeds: readonly Buffer[]) => Buffer;

const splice = (bytes: Buffer, at: number, remove: number, insert: Uint8Array) =>
  Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)]);
const below = (random: () => number, limit: number) => Math.floor(random() * limit);

const CHANGES: readonly Change[] = [
  (bytes, at, random) => splice(bytes, at, 1, Buffer.of((bytes[at] ?? 0) ^ (1 << below(random, 8)))),
  (bytes, at, random) => splice(bytes, at, 1, Buffer.of(below(random, 256))),
  (bytes, at, random) => splice(bytes, at, 0, Buffer.of(below(random, 256))),
  (bytes, at, random) => splice(bytes, at, 1 + below(random, 16), Buffer.alloc(0)),
  (bytes, at, random) => splice(bytes, at, 0, bytes.subarray(at, at + 1 + below(random, 64))),
  (bytes, at) => bytes.subarray(0, at),
  (bytes, at) => bytes.subarray(at),
  (bytes, at, random) => splice(bytes, at, 0, Buffer.from(WORDS[below(random, WORDS.length)]!)),
  (bytes, at, random) => {
    const size = [1, 2, 4][below(random, 3)]!;
    const number = Buffer.alloc(4);
    number.writeUInt32BE(NUMBERS[below(random, NUMBERS.length)]!);
    const part = number.subarray(4 - size);
    return splice(bytes, at, size, random() < 0.5 ? part : Buffer.from(part).reverse());
  },
  (bytes, at, random, seeds) => {
    const other = seeds[below(random, seeds.length)]!;
    return splice(bytes, at, below(random, bytes.length + 1), other.subarray(below(random, other.length + 1)));
  },
];

/** One of the seeds with one to eight changes. */
export function mutate(seeds: readonly Buffer[], random: () => number): Buffer {
  let bytes = seeds[below(random, seeds.length)]!;
  for (let changes = 1 + below(random, 8); changes > 0; changes--) {
    const change = CHANGES[below(random, CHANGES.length)]!;
    bytes = change(bytes, below(random, bytes.length + 1), random, seeds).subarray(0, MAX_BYTES);
  }
  return Buffer.from(bytes);
}

/** Less of what still fails: pieces are left out as long as it does, large ones first. */
export async function shrink(bytes: Buffer, fails: (bytes: Buffer) => Promise<boolean>): Promise<Buffer> {
  let smallest = bytes;
  for (let size = Math.max(1, smallest.length >> 1); size >= 1; size >>= 1) {
    for (let at = 0; at < smallest.length; ) {
      const less = splice(smallest, at, size, Buffer.alloc(0));
      if (await fails(less)) smallest = Buffer.from(less);
      else at += size;
    }
  }
  return smallest;
}

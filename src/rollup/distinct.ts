/**
 * How many different values a field had: exact up to EXACT_VALUES, an estimate above. The same to the last bit whatever the
 * order and grouping of `add` and `merge`, like everything in a cell, so a replay, a takeover, a merge of panes and
 * `verify` give equal rows.
 *
 * A value is its hash of 53 bits (two values in a million million million share one). Up to the limit the hashes are kept, and
 * their number is the answer. Beyond it they become a HyperLogLog sketch of 4,096 registers: which register a hash belongs to
 * is in its first 12 bits, and a register holds the longest run of leading zeros among the rest, plus one. What the sketch holds
 * depends on the set alone, because a set that is ever above the limit ends as the maximum over all its hashes. The estimate
 * is Ertl's (2017, "New cardinality estimation algorithms for HyperLogLog sketches", the improved raw estimator): unbiased at
 * every size, standard error 1.04 / sqrt(4096) = 1.6 %. Pure.
 */

/** Above this many different values the number is an estimate. */
export const EXACT_VALUES = 1_000;
const REGISTERS = 4_096;
/** Bits of a hash behind those that choose the register. */
const REST_BITS = 41;
const REST = 2 ** REST_BITS;

export class Distinct {
  #exact: Set<number> | null = new Set();
  #registers: Uint8Array | null = null;

  add(value: string): void {
    this.#addHash(hashOf(value));
  }

  /** Adds all that `other`, a different object, has seen. */
  merge(other: Distinct): void {
    if (other.#exact !== null) {
      for (const hash of other.#exact) this.#addHash(hash);
      return;
    }
    const mine = this.#registers ?? this.#spill();
    const theirs = other.#registers!;
    for (let i = 0; i < REGISTERS; i++) if (theirs[i]! > mine[i]!) mine[i] = theirs[i]!;
  }

  get count(): number {
    return this.#exact !== null ? this.#exact.size : Math.round(estimate(this.#registers!));
  }

  /** JSON: the hashes, ascending, or the registers as text. Equal contents are equal texts. */
  encode(): string {
    if (this.#exact !== null) return JSON.stringify([...this.#exact].sort((a, b) => a - b));
    return JSON.stringify(Buffer.from(this.#registers!).toString('base64'));
  }

  /** Null: `parsed` is not what `encode` wrote. */
  static of(parsed: unknown): Distinct | null {
    const distinct = new Distinct();
    if (typeof parsed === 'string') {
      const registers = Buffer.from(parsed, 'base64');
      if (registers.length !== REGISTERS || registers.some((value) => value > REST_BITS + 1)) return null;
      distinct.#exact = null;
      distinct.#registers = new Uint8Array(registers);
    } else {
      if (!Array.isArray(parsed) || parsed.length > EXACT_VALUES) return null;
      if (!parsed.every((hash) => Number.isSafeInteger(hash) && hash >= 0)) return null;
      for (const hash of parsed) distinct.#addHash(hash);
    }
    return distinct;
  }

  #addHash(hash: number): void {
    if (this.#exact === null) {
      put(this.#registers!, hash);
      return;
    }
    this.#exact.add(hash);
    if (this.#exact.size > EXACT_VALUES) this.#spill();
  }

  #spill(): Uint8Array {
    const registers = new Uint8Array(REGISTERS);
    for (const hash of this.#exact!) put(registers, hash);
    this.#exact = null;
    this.#registers = registers;
    return registers;
  }
}

function put(registers: Uint8Array, hash: number): void {
  const index = Math.floor(hash / REST);
  const rest = hash - index * REST;
  const high = Math.floor(rest / 2 ** 32);
  // `high` has nine bits.
  const zeros = high !== 0 ? Math.clz32(high) - 23 : 9 + Math.clz32(rest >>> 0);
  if (zeros + 1 > registers[index]!) registers[index] = zeros + 1;
}

/** Of the number of registers with each value, so the order of the registers does not matter. */
function estimate(registers: Uint8Array): number {
  const counts = new Array<number>(REST_BITS + 2).fill(0);
  for (const value of registers) counts[value]!++;
  let z = REGISTERS * tau(1 - counts[REST_BITS + 1]! / REGISTERS);
  for (let k = REST_BITS; k >= 1; k--) z = 0.5 * (z + counts[k]!);
  z += REGISTERS * sigma(counts[0]! / REGISTERS);
  return (REGISTERS * REGISTERS) / (2 * Math.LN2 * z);
}

function sigma(start: number): number {
  if (start === 1) return Number.POSITIVE_INFINITY;
  let [x, y, z, before] = [start, 1, start, -1];
  while (z !== before) {
    x *= x;
    before = z;
    z += x * y;
    y += y;
  }
  return z;
}

function tau(start: number): number {
  if (start === 0 || start === 1) return 0;
  let [x, y, z, before] = [start, 1, 1 - start, -1];
  while (z !== before) {
    x = Math.sqrt(x);
    before = z;
    y *= 0.5;
    z -= (1 - x) ** 2 * y;
  }
  return z / 3;
}

/** 53 bits of the text: two hashes of 32 bits (murmur3's mixing, over UTF-16 code units) with different seeds. */
function hashOf(text: string): number {
  const low = hash32(text, 0x9747b28c);
  const high = hash32(text, 0x3c6ef372);
  return (high & 0x1fffff) * 2 ** 32 + low;
}

function hash32(text: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < text.length; i++) {
    let k = Math.imul(text.charCodeAt(i), 0xcc9e2d51);
    k = (k << 15) | (k >>> 17);
    hash ^= Math.imul(k, 0x1b873593);
    hash = (hash << 13) | (hash >>> 19);
    hash = Math.imul(hash, 5) + 0xe6546b64;
  }
  hash ^= text.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

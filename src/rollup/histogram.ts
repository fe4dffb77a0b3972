/**
 * A histogram of doubles from which percentiles are read. Integers only, so equal contents are equal whatever the order
 * of `add` and `merge`.
 *
 * Buckets are log-linear: a double's sign, exponent and 6 highest mantissa bits name its bucket, 64 to each power of two;
 * zero has a bucket of its own. A percentile is given as the number of its bucket [low, high) that has the same relative
 * distance from both ends, 2 * low * high / (low + high): never more than 1/129 = 0.775 % from any value in the bucket.
 *
 * Percentile p of n values is by nearest rank: the value at position ceil(p / 100 * n) of the ascending list, counted
 * from 1. There is no interpolation.
 *
 * Kept as one short array, bucket, count, bucket, count, ... with ascending buckets. Telemetry of one series in one window has a few to a few hundred buckets;
 * the domain of Millrace (|x| from 1e-140 to 1e150) has 123,000.
 */

/** Mantissa bits that fall away from the high word of a double, which holds 20 of them: 6 stay. */
const DROPPED_BITS = 14;

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer);
const HIGH_WORD = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;

/** Ascends with the value: negative below 0, 0 for zero, positive above. */
export function bucketOf(value: number): number {
  double[0] = value;
  const bits = (words[HIGH_WORD]! & 0x7fffffff) >>> DROPPED_BITS;
  return value < 0 ? -bits : bits;
}

/** The number that stands for the bucket's values. */
export function middleOf(bucket: number): number {
  if (bucket === 0) return 0;
  const low = lowerEnd(Math.abs(bucket));
  const high = lowerEnd(Math.abs(bucket) + 1);
  // 2 * low * high would overflow or underflow at the ends of the domain.
  const middle = 2 * low * (high / (low + high));
  return bucket < 0 ? -middle : middle;
}

function lowerEnd(bits: number): number {
  double[0] = 0;
  words[HIGH_WORD] = bits << DROPPED_BITS;
  return double[0]!;
}

export class Histogram {
  #entries: number[] = [];

  add(value: number): void {
    this.#count(bucketOf(value), 1);
  }

  merge(other: Histogram): void {
    const entries = other.#entries;
    for (let i = 0; i < entries.length; i += 2) this.#count(entries[i]!, entries[i + 1]!);
  }

  /** The value at position `rank` (from 1) of the ascending list, as its bucket's number. */
  valueAtRank(rank: number): number {
    const entries = this.#entries;
    let seen = 0;
    for (let i = 0; i < entries.length; i += 2) {
      seen += entries[i + 1]!;
      if (seen >= rank) return middleOf(entries[i]!);
    }
    return Number.NaN;
  }

  /** Bucket, count, bucket, count, ...: ascending buckets. */
  entries(): number[] {
    return [...this.#entries];
  }

  /** The inverse of `entries`; the caller has checked that buckets ascend and counts are positive integers. */
  static of(entries: readonly number[]): Histogram {
    const histogram = new Histogram();
    histogram.#entries = [...entries];
    return histogram;
  }

  #count(bucket: number, by: number): void {
    const entries = this.#entries;
    let low = 0;
    let high = entries.length >>> 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (entries[2 * middle]! < bucket) low = middle + 1;
      else high = middle;
    }
    const at = 2 * low;
    if (entries[at] === bucket) entries[at + 1]! += by;
    else if (at === entries.length) entries.push(bucket, by);
    else entries.splice(at, 0, bucket, by);
  }
}

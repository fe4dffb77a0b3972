/**
 * The aggregate of one metric of one series in one window: exact, and the same to the last bit whatever the order and
 * grouping of `add` and `merge`. It is what makes a replay, a takeover and a merge of panes give equal rows.
 *
 * Values are finite, never -0, and 0 or 1e-140 <= |x| <= 1e150 (checked before the log); up to 1e8 of them.
 *
 * | statistic   | rule |
 * |-------------|------|
 * | sum         | the exact sum, rounded once |
 * | mean        | sum / count, `sum` being the rounded one |
 * | stddev      | population: square root of the exact variance rounded once |
 * | first, last | value of the smallest / largest (timeMs, value) |
 * | p50 p95 p99 | nearest rank, from a histogram: within 0.78 % of the true value, never outside [min, max] |
 *
 * The text form (a record of the panes topic) is compact JSON, numbers only, so it needs no escapes inside other JSON:
 * `[1,count,min,max,firstMs,first,lastMs,last,[sum],[squares],[bucket,count,...]]`
 * where [sum] and [squares] are canonical expansions (exact-sum.ts); `[1,0]` is the empty aggregate. 1 is the version.
 */
import type { Statistic } from '../row.ts';
import { ExactSum, variance } from './exact-sum.ts';
import { bucketOf, Histogram } from './histogram.ts';

const VERSION = 1;

export class Aggregate {
  count = 0;
  #min = Number.POSITIVE_INFINITY;
  #max = Number.NEGATIVE_INFINITY;
  #firstMs = Number.POSITIVE_INFINITY;
  #first = Number.NaN;
  #lastMs = Number.NEGATIVE_INFINITY;
  #last = Number.NaN;
  #sum = new ExactSum();
  #squares = new ExactSum();
  #histogram = new Histogram();

  add(timeMs: number, value: number): void {
    this.count++;
    this.#include(timeMs, value, timeMs, value, value, value);
    this.#sum.add(value);
    this.#squares.addSquare(value);
    this.#histogram.add(value);
  }

  /** Adds all that `other`, a different object, has seen. */
  merge(other: Aggregate): void {
    if (other.count === 0) return;
    this.count += other.count;
    this.#include(other.#firstMs, other.#first, other.#lastMs, other.#last, other.#min, other.#max);
    this.#sum.merge(other.#sum);
    this.#squares.merge(other.#squares);
    this.#histogram.merge(other.#histogram);
  }

  /** Of at least one value. */
  statistics(): Record<Statistic, number> {
    const sum = this.#sum.round();
    return {
      sum,
      mean: sum / this.count,
      min: this.#min,
      max: this.#max,
      // One value, or equal ones: exactly 0, without the long arithmetic.
      stddev: this.#min === this.#max ? 0 : Math.sqrt(variance(this.count, this.#sum, this.#squares)),
      first: this.#first,
      last: this.#last,
      p50: this.#percentile(50),
      p95: this.#percentile(95),
      p99: this.#percentile(99),
    };
  }

  encode(): string {
    if (this.count === 0) return JSON.stringify([VERSION, 0]);
    return JSON.stringify([
      VERSION,
      this.count,
      this.#min,
      this.#max,
      this.#firstMs,
      this.#first,
      this.#lastMs,
      this.#last,
      this.#sum.canonical(),
      this.#squares.canonical(),
      this.#histogram.entries(),
    ]);
  }

  /** Null unless `text` is what `encode` writes for some content. */
  static decode(text: string): Aggregate | null {
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      return null;
    }
    if (!Array.isArray(parsed) || parsed[0] !== VERSION) return null;
    const aggregate = new Aggregate();
    const [, count, min, max, firstMs, first, lastMs, last, sum, squares, entries] = parsed;
    if (count !== 0) {
      if (![count, min, max, firstMs, first, lastMs, last].every(isFiniteNumber)) return null;
      if (![sum, squares, entries].every((list) => Array.isArray(list) && list.every(isFiniteNumber))) return null;
      if (!Number.isSafeInteger(count) || count < 1 || firstMs > lastMs) return null;
      if (!(min <= Math.min(first, last) && Math.max(first, last) <= max)) return null;
      if (!isHistogram(entries, count, min, max)) return null;
      aggregate.count = count;
      aggregate.#include(firstMs, first, lastMs, last, min, max);
      for (const part of sum) aggregate.#sum.add(part);
      for (const part of squares) aggregate.#squares.add(part);
      aggregate.#histogram = Histogram.of(entries);
    }
    // The whole form at once: no other text stands for the same content.
    return aggregate.encode() === text ? aggregate : null;
  }

  #include(firstMs: number, first: number, lastMs: number, last: number, min: number, max: number): void {
    if (min < this.#min) this.#min = min;
    if (max > this.#max) this.#max = max;
    if (firstMs < this.#firstMs || (firstMs === this.#firstMs && first < this.#first)) {
      this.#firstMs = firstMs;
      this.#first = first;
    }
    if (lastMs > this.#lastMs || (lastMs === this.#lastMs && last > this.#last)) {
      this.#lastMs = lastMs;
      this.#last = last;
    }
  }

  #percentile(percent: number): number {
    const rank = Math.ceil((percent * this.count) / 100);
    return Math.min(Math.max(this.#histogram.valueAtRank(rank), this.#min), this.#max);
  }
}

function isFiniteNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** Ascending buckets from that of `min` to that of `max`, with positive counts that add up to `count`. */
function isHistogram(entries: readonly number[], count: number, min: number, max: number): boolean {
  let total = 0;
  for (let i = 0; i < entries.length; i += 2) {
    const times = entries[i + 1]!;
    if (!(times >= 1) || !Number.isSafeInteger(times)) return false;
    if (i > 0 && !(entries[i]! > entries[i - 2]!)) return false;
    if (!Number.isInteger(entries[i])) return false;
    total += times;
  }
  return total === count && entries[0] === bucketOf(min) && entries[entries.length - 2] === bucketOf(max);
}

/**
 * The model: what comes now is compared with what came before. Pure; one object a series, bounded by the constants below.
 *
 * For the window i of a series, in the order of their starts:
 *   shape(i)     the values of i and the SHAPE - 1 windows before it
 *   candidates   shapes that end at least SHAPE windows before i, out of the windows that start within
 *                HISTORY + SHAPE windows' time before i
 *   neighbours   the NEIGHBOURS candidates with the smallest Euclidean distance to shape(i); of equal ones the older
 *   distance(i)  the root of their mean squared distance, a value: in the unit of the value
 *   score(i)     distance(i) / the largest distance within MEMORY windows' time before i; null below LEAST_DISTANCES of them.
 *                Where nothing ever moved (that largest is 0): 0 if nothing moves now, else MAX_SCORE.
 *   alarm(i)     score(i) reaches the threshold, and no score within QUIET windows' time before i did
 *   forecast(i)  of the h-th window after i: value(i) + the mean over the neighbours j of value(j + h) - value(j).
 *                Bounds: the COVERAGE quantile of the errors of the one-step forecasts within MEMORY windows' time, wider for
 *                h > 1 as the neighbours' ways part. None below LEAST_ERRORS.
 *
 * No look-ahead: whatever is said about i comes from windows that start at or before it. Every cut is one of time and not of
 * what this object happens to have seen, so all of it is a function of the windows of `horizonMs` before i: an object made
 * anew from those says the same to the bit. A window that is not newer than the newest is passed over; an absent one leaves
 * a gap in time and none in the shapes.
 */
import { MAX_AHEAD, type Score } from '../scored.ts';
import { lowerBound } from '../search.ts';

export const SHAPE = 19;
export const HISTORY = 600;
export const NEIGHBOURS = 27;
export const MEMORY = 800;
export const QUIET = 90;
export const LEAST_DISTANCES = 100;
export const LEAST_ERRORS = 30;
export const COVERAGE = 0.9;
/** The largest score that is told. */
export const MAX_SCORE = 1_000;
/** Fewer candidates than this say nothing. */
const LEAST_CANDIDATES = NEIGHBOURS + 2;

/** What was said about the windows that start this long before one has a say in what is said about it. */
export function memoryMs(stepMs: number): number {
  return (MEMORY + QUIET) * stepMs;
}

/** Windows that start this long before one have a say in what is said about it. */
export function horizonMs(stepMs: number): number {
  return memoryMs(stepMs) + (HISTORY + SHAPE + 1) * stepMs;
}

export type Opinion = Pick<Score, 'expected' | 'low' | 'high' | 'distance' | 'score' | 'alarm'>;

/** What was said about a window when it came; giving it back spares working it out again. */
export type Known = Pick<Opinion, 'distance' | 'expected' | 'score'>;

export interface Ahead {
  readonly startMs: number;
  readonly expected: number;
  readonly low: number;
  readonly high: number;
}

interface Past {
  readonly startMs: number;
  readonly value: number;
}

interface Found {
  readonly distance: number;
  /** Indices in #values where the neighbours end. */
  readonly ends: readonly number[];
}

export class Neighbours {
  readonly #stepMs: number;
  readonly #threshold: number;
  readonly #startsMs: number[] = [];
  readonly #values: number[] = [];
  readonly #distances: Past[] = [];
  /** Absolute errors of one-step forecasts, and the same by size. */
  readonly #errors: Past[] = [];
  readonly #ascendingErrors: number[] = [];
  #lastUnusualMs = Number.NEGATIVE_INFINITY;
  /** Of the newest window; undefined: not looked for yet, null: too few candidates. */
  #found: Found | null | undefined = null;

  constructor(stepMs: number, threshold: number) {
    this.#stepMs = stepMs;
    this.#threshold = threshold;
  }

  /** Start of the newest window; -Infinity before the first. */
  get newestMs(): number {
    return this.#startsMs.at(-1) ?? Number.NEGATIVE_INFINITY;
  }

  /** A window before those about which something is to be said or was said: only its value has a say. */
  prime(startMs: number, value: number): void {
    if (startMs <= this.newestMs) return;
    this.#startsMs.push(startMs);
    this.#values.push(value);
    this.#found = undefined;
    this.#forget(startMs);
  }

  /** Null: it is not newer than the newest, or there is too little to compare it with. */
  add(startMs: number, value: number, known?: Known): Opinion | null {
    if (startMs <= this.newestMs) return null;
    const forecast = known === undefined ? this.#forecastOf(startMs) : null;
    const expected = known === undefined ? (forecast?.expected ?? null) : known.expected;
    this.prime(startMs, value);
    if (expected !== null) this.#remember({ startMs, value: Math.abs(value - expected) });
    const distance = known?.distance ?? this.#neighbours()?.distance;
    if (distance === undefined) return null;
    const score = known === undefined ? this.#score(distance) : known.score;
    this.#distances.push({ startMs, value: distance });
    const isUnusual = score !== null && score >= this.#threshold;
    const alarm = isUnusual && startMs - this.#lastUnusualMs > QUIET * this.#stepMs;
    if (isUnusual) this.#lastUnusualMs = startMs;
    return { expected, low: forecast?.low ?? null, high: forecast?.high ?? null, distance, score, alarm };
  }

  /**
   * The next `count` windows, MAX_AHEAD at most: a neighbour ends SHAPE windows before now, so its successors are known.
   * None while there is too little to go by.
   */
  ahead(count: number): Ahead[] {
    const found = this.#neighbours();
    if (found === null || this.#errors.length < LEAST_ERRORS) return [];
    const margin = quantile(this.#ascendingErrors, COVERAGE);
    const spreadNext = this.#changes(found, 1).spread;
    return Array.from({ length: Math.min(count, MAX_AHEAD) }, (_, i) => {
      const { mean, spread } = this.#changes(found, i + 1);
      const startMs = this.newestMs + (i + 1) * this.#stepMs;
      const expected = this.#values.at(-1)! + mean;
      const half = margin * (spreadNext > 0 ? Math.max(1, spread / spreadNext) : 1);
      return { startMs, expected, low: expected - half, high: expected + half };
    });
  }

  /** What was forecast for the window that starts then; bounds only once there are errors to go by. */
  #forecastOf(startMs: number): { expected: number; low: number | null; high: number | null } | null {
    const found = this.#neighbours();
    if (found === null || startMs !== this.newestMs + this.#stepMs) return null;
    const expected = this.#values.at(-1)! + this.#changes(found, 1).mean;
    if (this.#errors.length < LEAST_ERRORS) return { expected, low: null, high: null };
    const margin = quantile(this.#ascendingErrors, COVERAGE);
    return { expected, low: expected - margin, high: expected + margin };
  }

  /** How the values changed in `steps` windows after each neighbour: mean and standard deviation. */
  #changes({ ends }: Found, steps: number): { mean: number; spread: number } {
    let sum = 0;
    let squares = 0;
    for (const end of ends) {
      const change = this.#values[end + steps]! - this.#values[end]!;
      sum += change;
      squares += change * change;
    }
    const mean = sum / ends.length;
    return { mean, spread: Math.sqrt(Math.max(0, squares / ends.length - mean * mean)) };
  }

  #score(distance: number): number | null {
    if (this.#distances.length < LEAST_DISTANCES) return null;
    let largest = 0;
    for (const { value } of this.#distances) if (value > largest) largest = value;
    if (largest === 0) return distance === 0 ? 0 : MAX_SCORE;
    return Math.min(MAX_SCORE, distance / largest);
  }

  #remember(error: Past): void {
    this.#errors.push(error);
    this.#ascendingErrors.splice(lowerBound(this.#ascendingErrors, error.value), 0, error.value);
  }

  /** Cuts by time what has no say about the window that starts now. */
  #forget(nowMs: number): void {
    const oldestMs = nowMs - (HISTORY + SHAPE) * this.#stepMs;
    let count = 0;
    while (this.#startsMs[count]! < oldestMs) count++;
    if (count > 0) {
      this.#startsMs.splice(0, count);
      this.#values.splice(0, count);
    }
    const rememberedMs = nowMs - MEMORY * this.#stepMs;
    forgetBefore(this.#distances, rememberedMs);
    for (const { value } of forgetBefore(this.#errors, rememberedMs)) {
      this.#ascendingErrors.splice(lowerBound(this.#ascendingErrors, value), 1);
    }
  }

  #neighbours(): Found | null {
    this.#found ??= this.#found === null ? null : nearest(this.#values);
    return this.#found;
  }
}

/** Of the shape that ends with the last value; null: too few candidates. */
function nearest(values: readonly number[]): Found | null {
  const newest = values.length - 1;
  const last = newest - SHAPE;
  if (last - SHAPE + 2 < LEAST_CANDIDATES) return null;
  const squares = new Float64Array(NEIGHBOURS).fill(Number.POSITIVE_INFINITY);
  const ends: number[] = new Array(NEIGHBOURS).fill(-1);
  let worst = Number.POSITIVE_INFINITY;
  for (let end = SHAPE - 1; end <= last; end++) {
    let sum = 0;
    // Finite for all values that are admitted: |x| <= 1e150.
    for (let back = 0; back < SHAPE && sum < worst; back++) {
      const difference = values[newest - back]! - values[end - back]!;
      sum += difference * difference;
    }
    if (!(sum < worst)) continue;
    let at = NEIGHBOURS - 1;
    while (at > 0 && squares[at - 1]! > sum) {
      squares[at] = squares[at - 1]!;
      ends[at] = ends[at - 1]!;
      at--;
    }
    squares[at] = sum;
    ends[at] = end;
    worst = squares[NEIGHBOURS - 1]!;
  }
  let total = 0;
  for (const square of squares) total += square;
  return { distance: Math.sqrt(total / (NEIGHBOURS * SHAPE)), ends };
}

function forgetBefore(past: Past[], oldestMs: number): Past[] {
  let count = 0;
  while (count < past.length && past[count]!.startMs < oldestMs) count++;
  return count > 0 ? past.splice(0, count) : [];
}

/** The smallest of the values that `share` of them do not exceed. */
function quantile(ascending: readonly number[], share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.ceil(share * (ascending.length + 1)) - 1)]!;
}

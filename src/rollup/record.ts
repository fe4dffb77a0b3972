/**
 * What the engine takes from the value of a `reading` record. Inspection has checked all of this before the log; it is
 * checked again because a log may have other writers, and one bad value must not stop a partition or spoil a sum.
 */
import { decodeReading, type Reading } from '../reading.ts';

export type CountableReading = Omit<Reading, 'key' | 'payload'>;

/** The domain of exact sums and sums of squares (exact-sum.ts). */
const LARGEST_VALUE = 1e150;
const SMALLEST_VALUE = 1e-140;
/** The range of JavaScript's dates: no window beyond it has exact ends. */
const LARGEST_TIME_MS = 8.64e15;

const decoder = new TextDecoder();

/** Null when the record is not a reading that can be counted. */
export function readingOf(value: Uint8Array): CountableReading | null {
  const reading = decodeReading(Buffer.isBuffer(value) ? value.toString() : decoder.decode(value));
  if (reading === null || !(Math.abs(reading.timeMs) <= LARGEST_TIME_MS)) return null;
  for (const name in reading.tags) if (typeof reading.tags[name] !== 'string') return null;
  for (const name in reading.values) {
    const size = Math.abs(reading.values[name]!);
    if (!(size <= LARGEST_VALUE) || (size < SMALLEST_VALUE && size !== 0)) return null;
    if (typeof reading.values[name] !== 'number') return null;
  }
  return reading;
}

const double = new Float64Array(1);
const words = new Int32Array(double.buffer);

/** Equal for equal values; different ones have the same one in two thousand million cases. */
export function fingerprintOf(values: Readonly<Record<string, number>>, metrics: readonly string[]): number {
  let hash = 0;
  for (let i = 0; i < metrics.length; i++) {
    const value = values[metrics[i]!];
    // NaN, which no reading holds, stands for "no value".
    double[0] = typeof value === 'number' ? value + 0 : Number.NaN;
    hash = Math.imul(Math.imul(hash ^ words[0]!, 0x9e3779b1) ^ words[1]!, 0x85ebca6b);
    hash ^= hash >>> 15;
  }
  return hash >> 1;
}

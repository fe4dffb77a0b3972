/**
 * What the engine takes from the value of a `reading` record. Inspection has checked all of this before the log; it is
 * checked again because a log may have other writers, and one bad value must not stop a partition or spoil a sum.
 *
 * This is most of what a reading costs, so the text is not parsed as a whole: encodeReading (reading.ts) writes its parts
 * in a fixed order, the payload, which nobody needs here, is left alone, and the tags stay text, by which the series is
 * found. A raw `"` never occurs inside of a JSON string, so the marks between the parts cannot be mistaken. A text that
 * does not look like that is read by `decodeReading`.
 */
import { decodeReading } from '../reading.ts';

export interface CountableReading {
  readonly stream: string;
  readonly timeMs: number;
  /** JSON, to be read by `tagsOf`. Equal texts are equal tags. */
  readonly tags: string;
  /** Not checked yet: see `fingerprintOf`. */
  readonly values: Readonly<Record<string, unknown>>;
  readonly sequence: number | undefined;
  readonly identity: string | undefined;
  /** Not checked yet: see `Cell.addDistinct`. */
  readonly distinct: readonly unknown[] | undefined;
}

/** The domain of exact sums and sums of squares (exact-sum.ts). */
const LARGEST_VALUE = 1e150;
const SMALLEST_VALUE = 1e-140;
/** The range of JavaScript's dates: no window beyond it has exact ends. */
const LARGEST_TIME_MS = 8.64e15;

const decoder = new TextDecoder();

/** Null when the record is not a reading. */
export function readingOf(value: Uint8Array): CountableReading | null {
  const text = Buffer.isBuffer(value) ? value.toString() : decoder.decode(value);
  return scan(text) ?? parse(text);
}

const HEAD = '{"stream":"';
const TIME = '","time":';
const TAGS = ',"tags":{';
const VALUES = '},"values":{';
const SEQUENCE = ',"sequence":';
const PAYLOAD = ',"payload":';
const [ZERO, NINE, CLOSE] = [0x30, 0x39, 0x7d];

/** Null: not in the form that `encodeReading` gives to an ordinary reading. */
function scan(text: string): CountableReading | null {
  if (!text.startsWith(HEAD) || text.charCodeAt(text.length - 1) !== CLOSE) return null;
  const streamEnd = text.indexOf('"', HEAD.length);
  if (!text.startsWith(TIME, streamEnd)) return null;
  const stream = text.slice(HEAD.length, streamEnd);
  if (stream.includes('\\')) return null;
  let at = streamEnd + TIME.length;
  let timeMs = 0;
  const timeEnd = at + 15;
  for (let code = text.charCodeAt(at); code >= ZERO && code <= NINE && at < timeEnd; code = text.charCodeAt(at)) {
    timeMs = timeMs * 10 + (code - ZERO);
    at++;
  }
  const digits = at - streamEnd - TIME.length;
  if (digits === 0 || (digits > 1 && text.charCodeAt(at - digits) === ZERO) || !text.startsWith(TAGS, at)) return null;
  const tagsStart = at + TAGS.length - 1;
  const tagsEnd = text.indexOf(VALUES, tagsStart) + 1;
  if (tagsEnd === 0) return null;
  const valuesStart = tagsEnd + VALUES.length - 2;
  const valuesEnd = text.indexOf('}', valuesStart) + 1;
  if (valuesEnd === 0) return null;
  const tail = tailOf(text, passed(text, valuesEnd));
  if (tail === null) return null;
  const values = parseObject(text.slice(valuesStart, valuesEnd));
  if (values === null) return null;
  const { sequence, identity, distinct } = tail;
  return { stream, timeMs, tags: text.slice(tagsStart, tagsEnd), values, sequence, identity, distinct };
}

const SCHEMA = ',"schema":"';
const BATCH = ',"batch":[';

/** Behind what says how the reading came in, which does not count. */
function passed(text: string, from: number): number {
  let at = from;
  if (text.startsWith(SCHEMA, at)) at = text.indexOf('"', at + SCHEMA.length) + 1;
  if (at > 0 && text.startsWith(BATCH, at)) at = text.indexOf(']', at + BATCH.length) + 1;
  return at;
}

type Tail = Pick<CountableReading, 'sequence' | 'identity' | 'distinct'>;
const NO_TAIL: Tail = { sequence: undefined, identity: undefined, distinct: undefined };
const TAILS = [SEQUENCE, ',"identity":"', ',"distinct":['];

/** What stands between the values and the payload, or the end. */
function tailOf(text: string, at: number): Tail | null {
  if (text.startsWith(PAYLOAD, at)) return NO_TAIL;
  if (text.charCodeAt(at) === CLOSE) return at === text.length - 1 ? NO_TAIL : null;
  if (!TAILS.some((mark) => text.startsWith(mark, at))) return null;
  const end = text.indexOf(PAYLOAD, at);
  const parsed = parseObject(`{${text.slice(at + 1, end < 0 ? text.length - 1 : end)}}`);
  if (parsed === null) return null;
  const { sequence, identity, distinct, ...rest } = parsed;
  for (const _ in rest) return null;
  return {
    sequence: typeof sequence === 'number' ? sequence : undefined,
    identity: typeof identity === 'string' ? identity : undefined,
    distinct: Array.isArray(distinct) ? distinct : undefined,
  };
}

function parse(text: string): CountableReading | null {
  const reading = decodeReading(text);
  if (reading === null || !(Math.abs(reading.timeMs) <= LARGEST_TIME_MS)) return null;
  const { stream, timeMs, tags, values, sequence, identity, distinct } = reading;
  return { stream, timeMs, tags: JSON.stringify(tags), values, sequence, identity, distinct };
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Null when they are not texts by name. */
export function tagsOf(text: string): Record<string, string> | null {
  const tags = parseObject(text);
  for (const name in tags) if (typeof tags[name] !== 'string') return null;
  return tags as Record<string, string> | null;
}

const double = new Float64Array(1);
const words = new Int32Array(double.buffer);
const FINGERPRINT_BITS = 18;

/** So many, so that one and the distance of two times in the largest window fit into the 53 bits of an exact integer. */
export const FINGERPRINTS = 2 ** FINGERPRINT_BITS;

/**
 * An integer from 0 to FINGERPRINTS that is equal for equal values of these metrics; different ones have the same in one of
 * 260,000 cases. Null when a value is none that can be added up.
 */
export function fingerprintOf(values: Readonly<Record<string, unknown>>, metrics: readonly string[]): number | null {
  let hash = 0;
  for (let i = 0; i < metrics.length; i++) {
    const value = values[metrics[i]!];
    if (value === undefined) {
      hash = Math.imul(hash ^ 1, 0x85ebca6b);
      continue;
    }
    if (typeof value !== 'number') return null;
    const size = Math.abs(value);
    if (!(size <= LARGEST_VALUE) || (size < SMALLEST_VALUE && size !== 0)) return null;
    double[0] = value + 0;
    hash = Math.imul(Math.imul(hash ^ words[0]!, 0x9e3779b1) ^ words[1]!, 0x85ebca6b);
    hash ^= hash >>> 15;
  }
  return hash >>> (32 - FINGERPRINT_BITS);
}

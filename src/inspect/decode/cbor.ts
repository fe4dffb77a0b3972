/**
 * CBOR payloads (RFC 8949): one map = one reading, an array of maps = a batch.
 *
 * Tags understood: 0 and 1 (times, passed on as they are), 2 and 3 (big integers, if a double holds them), 4 (decimal
 * fractions), 21 to 23, 32 to 36 (their content), 37 (UUID, as bytes), 55799 (says that this is CBOR). Any other tag
 * could change what a number means, so it is refused. Refused too: a key that appears twice, NaN and the infinities,
 * integers beyond 2^53, anything behind the first item, indefinite lengths that do not end.
 */
import { decode, type TagDecodeControl } from 'cborg';
import { messageOf } from '../../errors.ts';
import { Problem, printable, show } from '../refusal.ts';
import { type Decoded, type DecodeLimits, sizeProblem } from './document.ts';
import { plainDocuments, tooDeep } from './plain.ts';

export function decodeCbor(payload: Uint8Array, limits: DecodeLimits): Decoded | Problem {
  const value = readCbor(payload, limits);
  return value instanceof Problem ? value : plainDocuments(value, limits);
}

/** The item as the library makes it: maps are Maps, large integers bigints. Not yet checked by plain.ts. */
export function readCbor(payload: Uint8Array, limits: DecodeLimits): unknown {
  const size = sizeProblem(payload, limits);
  if (size) return size;
  try {
    return decode(payload, OPTIONS);
  } catch (error) {
    if (error instanceof Problem) return error;
    // The library goes down into the nesting by calling itself; nothing it holds outlives the call.
    if (error instanceof RangeError && /call stack/.test(error.message)) return tooDeep(limits);
    return new Problem('malformed', '', `not CBOR: ${printable(messageOf(error))}`);
  }
}

const content = (item: TagDecodeControl) => item();

const TAGS: Record<number, (item: TagDecodeControl) => unknown> = {
  0: content,
  1: content,
  2: (item) => bigInteger(item(), 0n),
  3: (item) => bigInteger(item(), -1n),
  4: (item) => decimalFraction(item()),
  55799: content,
};
for (const tag of [21, 22, 23, 32, 33, 34, 35, 36, 37]) TAGS[tag] = content;

const OPTIONS = { useMaps: true, rejectDuplicateMapKeys: true, tags: TAGS };

/** Longer ones are beyond 2^53 whatever they say, and would only cost time. */
const BIG_INTEGER_BYTES = 64;

/** `sign` 0n: n, -1n: -1 - n. */
function bigInteger(bytes: unknown, sign: 0n | -1n): bigint | Problem {
  if (!(bytes instanceof Uint8Array)) throw new Problem('malformed', '', 'a big integer (tag 2 or 3) is not bytes');
  if (bytes.length > BIG_INTEGER_BYTES) {
    throw new Problem('number-out-of-range', '', `an integer of ${bytes.length} bytes is beyond 2^53`);
  }
  const magnitude = bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
  return sign === 0n ? magnitude : -1n - magnitude;
}

/** [exponent, mantissa]: read as the decimal number it spells, so rounded once. */
function decimalFraction(parts: unknown): number {
  const [exponent, mantissa] = Array.isArray(parts) && parts.length === 2 ? parts : [];
  const whole = (value: unknown) => Number.isSafeInteger(value) || typeof value === 'bigint';
  if (!whole(exponent) || !whole(mantissa)) {
    throw new Problem('malformed', '', `a decimal fraction (tag 4) is ${show(parts)}, expected two integers`);
  }
  return Number(`${mantissa}e${exponent}`);
}

/**
 * JSON payloads (RFC 8259): one object = one reading; an array of objects = a batch, all of it accepted or none.
 *
 * The text kept with a reading is the payload as sent, whitespace included, for a single object; it is exactly one
 * valid JSON value and is embedded as it is. The elements of a batch are written anew by JSON.stringify, so an integer
 * beyond 2^53 or a repeated key in a batch is kept only as it was understood.
 *
 * Refused, though a lenient parser takes it: bytes that are not UTF-8, a byte order mark, NaN and Infinity, a number
 * that overflows to infinity (1e999), the keys `__proto__` and `constructor` with `prototype` in it, anything nested
 * deeper than the limit. Of a key that appears twice in one object the last value counts.
 *
 * V8's JSON.parse keeps its own stack on the heap, so depth can be checked afterwards, in the one walk that checks
 * everything else; the walk itself goes no deeper than the limit.
 */
import { isAscii, isUtf8 } from 'node:buffer';
import { messageOf } from '../../errors.ts';
import { Problem, printable } from '../refusal.ts';
import type { Decoded, DecodeLimits, Document } from './document.ts';

export function decodeJson(payload: Uint8Array, limits: DecodeLimits): Decoded | Problem {
  if (payload.length === 0) return new Problem('empty', '', 'the payload is empty');
  if (payload.length > limits.payloadBytes) {
    return new Problem('too-large', '', `${payload.length} bytes is above the limit of ${limits.payloadBytes} bytes`);
  }
  const text = decodeText(payload);
  if (text instanceof Problem) return text;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return malformed(text, messageOf(error));
  }
  if (typeof value !== 'object' || value === null) {
    return new Problem('malformed', '', `the payload is ${nameOf(value)}, expected an object or an array of objects`);
  }
  const found = walk(value, limits.depth);
  if (found) return new Problem(found.code, found.pointer, found.reason || tooDeep(limits.depth));
  if (!Array.isArray(value)) return { documents: [value as Document], texts: [text], batch: false, source: text };
  return decodeBatch(value, limits, text);
}

function decodeBatch(elements: readonly unknown[], limits: DecodeLimits, source: string): Decoded | Problem {
  if (elements.length === 0) return new Problem('empty', '', 'the batch holds no reading');
  if (elements.length > limits.batchReadings) {
    return new Problem('too-large', '', `${elements.length} readings is above the limit of ${limits.batchReadings}`);
  }
  const texts: string[] = [];
  for (let i = 0; i < elements.length; i++) {
    const element = elements[i];
    if (typeof element !== 'object' || element === null || Array.isArray(element)) {
      return new Problem('malformed', `/${i}`, `reading ${i + 1} of the batch is ${nameOf(element)}, not an object`);
    }
    texts.push(JSON.stringify(element));
  }
  return { documents: elements as readonly Document[], texts, batch: true, source };
}

/** Whether a number beyond 2^53 was written as an integer, so that the double may be another one: 1e300 was not. */
export function isInexact(value: number, source: string): boolean {
  if (!Number.isInteger(value) || Number.isSafeInteger(value)) return false;
  const integers = source.match(/(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/g) ?? [];
  return integers.some((digits) => Number(digits) === value);
}

export function decodeText(payload: Uint8Array): string | Problem {
  const bytes = Buffer.isBuffer(payload)
    ? payload
    : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  if (isAscii(bytes)) return bytes.toString('latin1');
  if (isUtf8(bytes)) return bytes.toString('utf8');
  return new Problem('not-utf8', '', 'the payload is not valid UTF-8');
}

export function malformed(text: string, thrown: string): Problem {
  if (text.charCodeAt(0) === 0xfeff) {
    return new Problem('malformed', '', 'the payload starts with a byte order mark, which JSON does not allow');
  }
  if (/^\s*$/.test(text)) return new Problem('empty', '', 'the payload is blank');
  return new Problem('malformed', '', `not JSON: ${printable(thrown)}`);
}

function nameOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return `a ${typeof value}`;
}

export function tooDeep(levels: number): string {
  return `objects and arrays are nested deeper than the limit of ${levels} levels`;
}

interface Found {
  readonly code: 'too-deep' | 'forbidden-key' | 'number-out-of-range';
  /** '' = too deep. */
  readonly reason: string;
  /** Built from the inside out while the walk returns, so that the usual case builds nothing. */
  pointer: string;
}

/** `levels` = how many containers may still be entered, this one included. */
export function walk(container: object, levels: number): Found | null {
  if (levels === 0) {
    return { code: 'too-deep', reason: '', pointer: '' };
  }
  if (Array.isArray(container)) {
    for (let i = 0; i < container.length; i++) {
      const found = check(container[i], levels);
      if (found) return at(i, found);
    }
    return null;
  }
  for (const key in container) {
    const value = (container as Document)[key];
    if (key === '__proto__' || (key === 'constructor' && isObject(value) && Object.hasOwn(value, 'prototype'))) {
      return { code: 'forbidden-key', reason: `the key "${key}" is not allowed`, pointer: pointerTo(key) };
    }
    const found = check(value, levels);
    if (found) return at(key, found);
  }
  return null;
}

function check(value: unknown, levels: number): Found | null {
  if (typeof value === 'number') {
    if (value - value === 0) return null;
    return { code: 'number-out-of-range', reason: 'a number is too large for a double', pointer: '' };
  }
  return isObject(value) ? walk(value, levels - 1) : null;
}

export function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function at(key: string | number, found: Found): Found {
  found.pointer = pointerTo(key) + found.pointer;
  return found;
}

export function pointerTo(key: string | number): string {
  return `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

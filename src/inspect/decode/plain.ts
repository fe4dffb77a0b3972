/**
 * What the libraries of binary formats hand out, as plain JSON values; shared by their decoders. The one walk that checks
 * everything: depth, keys, numbers. 64-bit integers come as bigints: one that a double cannot hold exactly is refused,
 * because the next one would be the same number. Dates become epoch milliseconds, bytes become base64 text, undefined is
 * absent. Integer keys become text. Values without a form in JSON are refused.
 */
import { Problem, show } from '../refusal.ts';
import { type Decoded, type DecodeLimits, type Document, decoded } from './document.ts';
import { pointerTo } from './json.ts';

/** A map is one reading, a list of maps a batch. `value` is owned by nobody else. */
export function plainDocuments(value: unknown, limits: DecodeLimits): Decoded | Problem {
  if (Array.isArray(value) && value.length > limits.batchReadings) {
    return new Problem('too-large', '', `${value.length} readings is above the limit of ${limits.batchReadings}`);
  }
  const plain = toPlain(value, limits.depth);
  if (plain instanceof Problem) return plain.code === 'too-deep' ? tooDeep(limits) : plain;
  if (!Array.isArray(plain)) {
    if (isMap(plain)) return decoded([plain], false, limits);
    return new Problem('malformed', '', `the payload is ${show(plain)}, expected a map or an array of maps`);
  }
  for (let i = 0; i < plain.length; i++) {
    if (isMap(plain[i])) continue;
    return new Problem('malformed', `/${i}`, `reading ${i + 1} of the batch is ${show(plain[i])}, not a map`);
  }
  return decoded(plain as Document[], true, limits);
}

export function tooDeep(limits: DecodeLimits): Problem {
  return new Problem('too-deep', '', `maps and arrays are nested deeper than the limit of ${limits.depth} levels`);
}

export function isMap(value: unknown): value is Document {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `levels` = how many containers may still be entered. */
export function toPlain(value: unknown, levels: number): unknown {
  switch (typeof value) {
    case 'string':
      // What the libraries make of bytes that are not UTF-8; two names must not become one.
      return value.includes('\ufffd') ? new Problem('not-utf8', '', 'a text is not valid UTF-8') : value;
    case 'boolean':
    case 'undefined':
      return value;
    case 'number':
      return value - value === 0 ? value : new Problem('number-invalid', '', `${value} is not a finite number`);
    case 'bigint':
      return exactNumber(value);
    case 'object':
      return value === null ? null : container(value, levels);
    default:
      return new Problem('malformed', '', 'a value has no form in JSON');
  }
}

/** The integer as a number, or why not. */
export function exactNumber(value: bigint): number | Problem {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return number;
  const hint = 'is beyond 2^53 and cannot be kept exactly; send it as text';
  return new Problem('number-out-of-range', '', `the integer ${value.toString().slice(0, 40)} ${hint}`);
}

/** Sent again as part of another place in the payload. */
export function under(key: string | number, { code, field, reason }: Problem): Problem {
  return new Problem(code, pointerTo(key) + field, reason);
}

function container(value: object, levels: number): unknown {
  if (value instanceof Uint8Array) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  }
  if (value instanceof Date) return toPlain(Math.floor(value.getTime()), levels);
  if (levels === 0) return new Problem('too-deep', '', '');
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const plain = toPlain(value[i], levels - 1);
      if (plain instanceof Problem) return under(i, plain);
      value[i] = plain ?? null;
    }
    return value;
  }
  const entries = value instanceof Map ? value : isPlain(value) ? Object.entries(value) : null;
  if (entries === null) return new Problem('malformed', '', 'a value has no form in JSON');
  const plain: Record<string, unknown> = {};
  for (const [key, inner] of entries) {
    const name = typeof key === 'number' && Number.isSafeInteger(key) ? String(key) : key;
    if (typeof name !== 'string' || name.includes('\ufffd')) {
      return new Problem('malformed', '', `a map has the key ${show(key)}; expected text or an integer`);
    }
    if (name === '__proto__') return forbidden(name);
    if (Object.hasOwn(plain, name))
      return new Problem('malformed', pointerTo(name), `the key ${show(name)} is there twice`);
    const item = toPlain(inner, levels - 1);
    if (item instanceof Problem) return under(name, item);
    if (name === 'constructor' && isMap(item) && Object.hasOwn(item, 'prototype')) return forbidden(name);
    if (item !== undefined) plain[name] = item;
  }
  return plain;
}

export function forbidden(key: string): Problem {
  return new Problem('forbidden-key', pointerTo(key), `the key "${key}" is not allowed`);
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/**
 * InfluxDB line protocol: each line is one reading, its document `{ measurement, ...tags, ...fields, time }`. Tags are
 * text, fields are numbers, booleans or text, `time` is epoch milliseconds (rounded down), absent where the line has none.
 *
 *   measurement[,tag=value...] field=value[,field=value...] [timestamp]
 *
 * The timestamp's unit is the stream's `precision`. `1i` and `1u` are integers: beyond 2^53 they are refused. Escapes: `\`
 * before comma or space in a measurement; before comma, equals sign or space in tags and field keys; before quote or
 * backslash in a text field; anywhere else a backslash is itself. Text in quotes may hold line ends. Empty lines and those
 * that begin with `#` are passed over. One name for two of measurement, tags, fields and time is refused, since one of
 * them would be lost.
 */
import { isUtf8 } from 'node:buffer';
import { Problem, show } from '../refusal.ts';
import { type Decoder, type Document, decoded, sizeProblem } from './document.ts';
import { exactNumber, forbidden } from './plain.ts';

export type Precision = 'ns' | 'us' | 'ms' | 's';

const PER_MS: Readonly<Record<Precision, bigint>> = { ns: 1_000_000n, us: 1_000n, ms: 1n, s: 1n };

export function lineProtocolDecoder(precision: Precision): Decoder {
  return (payload, limits) => {
    const size = sizeProblem(payload, limits);
    if (size) return size;
    if (!isUtf8(payload)) return new Problem('not-utf8', '', 'the payload is not valid UTF-8');
    const text = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('utf8');
    const lines = new Lines(text, precision);
    const documents: Document[] = [];
    for (let line = lines.next(); line !== null; line = lines.next()) {
      if (line instanceof Problem) return documents.length === 0 && lines.isLast ? line : line.within(documents.length);
      if (documents.length >= limits.batchReadings) {
        return new Problem('too-large', '', `more than ${limits.batchReadings} readings, which is the limit`);
      }
      documents.push(line);
    }
    return decoded(documents, documents.length > 1, limits);
  };
}

/** A field's value without quotes: number, integer, unsigned integer. */
const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;
const INTEGER = /^-?\d+i$/;
const UNSIGNED = /^\d+u$/;
const TIMESTAMP = /^-?\d+$/;
/** Longer than any 64-bit integer. */
const INTEGER_LENGTH = 24;
const TRUE = ['t', 'T', 'true', 'True', 'TRUE'];
const FALSE = ['f', 'F', 'false', 'False', 'FALSE'];

class Lines {
  readonly #text: string;
  readonly #precision: Precision;
  #at = 0;

  constructor(text: string, precision: Precision) {
    this.#text = text;
    this.#precision = precision;
  }

  /** Nothing but blanks follows what was read. */
  get isLast(): boolean {
    const end = this.#text.indexOf('\n', this.#at);
    return end < 0 || /^\s*$/.test(this.#text.slice(end));
  }

  /** Null at the end. After a problem there is no next one. */
  next(): Document | Problem | null {
    const text = this.#text;
    for (;;) {
      while (this.#at < text.length && ' \t\r\n'.includes(text[this.#at]!)) this.#at++;
      if (this.#at >= text.length) return null;
      if (text[this.#at] !== '#') return this.#line();
      const end = text.indexOf('\n', this.#at);
      this.#at = end < 0 ? text.length : end;
    }
  }

  #line(): Document | Problem {
    const document: Record<string, unknown> = {};
    const measurement = this.#name(', ', ', ');
    if (measurement === '') return malformed('a line has no measurement');
    document.measurement = measurement;
    while (this.#take(',')) {
      const key = this.#name('=', ',= ');
      if (!this.#take('=')) return malformed(`the tag ${show(key)} has no value`);
      const value = this.#name(', ', ',= ');
      if (key === '' || value === '') return malformed(`a tag has an empty name or value: ${show(`${key}=${value}`)}`);
      const problem = set(document, key, value);
      if (problem) return problem;
    }
    this.#blanks();
    do {
      const key = this.#name('=', ',= ');
      if (key === '') return malformed(`${show(measurement)} has no field where one is expected`);
      if (!this.#take('=')) return malformed(`the field ${show(key)} has no value`);
      const value = this.#text[this.#at] === '"' ? this.#quoted() : this.#value();
      if (value instanceof Problem) return value;
      const problem = set(document, key, value);
      if (problem) return problem;
    } while (this.#take(','));
    this.#blanks();
    const problem = this.#stamp(document);
    if (problem) return problem;
    this.#blanks();
    const next = this.#text[this.#at];
    if (next === undefined || next === '\n') return document;
    return malformed(`something follows the timestamp: ${show(this.#text.slice(this.#at, this.#at + 20))}`);
  }

  /** Sets the document's time, where the line has one. */
  #stamp(document: Record<string, unknown>): Problem | null {
    const word = this.#word();
    if (word === '') return null;
    if (!TIMESTAMP.test(word) || word.length > INTEGER_LENGTH) return malformed(`${show(word)} is not a timestamp`);
    const stamp = BigInt(word);
    const perMs = PER_MS[this.#precision];
    const ms = this.#precision === 's' ? stamp * 1_000n : (stamp - (((stamp % perMs) + perMs) % perMs)) / perMs;
    const exact = exactNumber(ms);
    return exact instanceof Problem
      ? malformed(`the timestamp ${stamp} is out of range`)
      : set(document, 'time', exact);
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #blanks(): void {
    while (this.#at < this.#text.length && ' \t\r'.includes(this.#text[this.#at]!)) this.#at++;
  }

  /** Up to one of `ends`, or the end of the line; `\` before one of `escaped` is dropped. */
  #name(ends: string, escaped: string): string {
    const text = this.#text;
    const from = this.#at;
    let name = '';
    let copied = from;
    let at = from;
    for (; at < text.length; at++) {
      const character = text[at]!;
      if (character === '\\' && at + 1 < text.length && escaped.includes(text[at + 1]!)) {
        name += text.slice(copied, at);
        copied = ++at;
      } else if (character === '\n' || character === '\r' || ends.includes(character)) {
        break;
      }
    }
    this.#at = at;
    return name + text.slice(copied, at);
  }

  #quoted(): string | Problem {
    const text = this.#text;
    let value = '';
    let copied = ++this.#at;
    for (let at = copied; at < text.length; at++) {
      const character = text[at]!;
      if (character === '\\' && (text[at + 1] === '"' || text[at + 1] === '\\')) {
        value += text.slice(copied, at);
        copied = ++at;
      } else if (character === '"') {
        this.#at = at + 1;
        return value + text.slice(copied, at);
      }
    }
    return malformed('a text in quotes does not end');
  }

  #word(): string {
    const from = this.#at;
    while (this.#at < this.#text.length && !', \t\r\n'.includes(this.#text[this.#at]!)) this.#at++;
    return this.#text.slice(from, this.#at);
  }

  #value(): number | boolean | Problem {
    const word = this.#word();
    if (TRUE.includes(word)) return true;
    if (FALSE.includes(word)) return false;
    if (INTEGER.test(word) || UNSIGNED.test(word)) {
      if (word.length <= INTEGER_LENGTH) return exactNumber(BigInt(word.slice(0, -1)));
      return new Problem('number-out-of-range', '', `the integer ${show(word)} is beyond 2^53`);
    }
    if (!NUMBER.test(word)) return malformed(`${show(word)} is not a field value`);
    const number = Number(word);
    if (number - number === 0) return number;
    return new Problem('number-out-of-range', '', 'a number is too large for a double');
  }
}

function set(document: Record<string, unknown>, key: string, value: unknown): Problem | null {
  if (key === '__proto__') return forbidden(key);
  if (Object.hasOwn(document, key)) return malformed(`the name ${show(key)} is there twice in one line`);
  document[key] = value;
  return null;
}

function malformed(what: string): Problem {
  return new Problem('malformed', '', `not line protocol: ${what}`);
}

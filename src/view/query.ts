/**
 * Query parameters, checked: each reader answers a value or throws nothing and collects a `BadParameter` that names the
 * field, the value and what is expected. The first one becomes a 400.
 */
import type { RowQuery } from '../row.ts';
import { rowMetrics, rowTags, type Stream } from '../stream.ts';

export interface BadParameter {
  readonly field: string;
  readonly value: string;
  readonly expected: string;
}

export type Parameters = Readonly<Record<string, unknown>>;

/** Reads the parameters of one request. After reading, `bad` is the first that was wrong, or null. */
export class ParameterReader {
  readonly #parameters: Parameters;
  readonly #known = new Set<string>();
  #bad: BadParameter | null = null;

  constructor(parameters: unknown) {
    this.#parameters = (parameters ?? {}) as Parameters;
  }

  /** The text of a parameter; undefined when absent or empty. Given twice is an error. */
  text(field: string, maxLength = 1_000): string | undefined {
    this.#known.add(field);
    const value = Object.hasOwn(this.#parameters, field) ? this.#parameters[field] : undefined;
    if (value === undefined || value === '') return undefined;
    if (typeof value !== 'string') return this.refuse(field, String(value), 'once, not several times');
    if (value.length > maxLength)
      return this.refuse(field, `${value.slice(0, 40)}…`, `at most ${maxLength} characters`);
    return value;
  }

  integer(field: string, fallback: number, min: number, max: number): number {
    const text = this.text(field);
    if (text === undefined) return fallback;
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    this.refuse(field, text, `a whole number from ${min} to ${max}`);
    return fallback;
  }

  oneOf<T extends string>(field: string, allowed: readonly T[], fallback: T): T {
    const text = this.text(field);
    if (text === undefined) return fallback;
    if ((allowed as readonly string[]).includes(text)) return text as T;
    this.refuse(field, text, `one of ${allowed.join(', ')}`);
    return fallback;
  }

  /** Epoch milliseconds, or RFC 3339 with its offset. */
  time(field: string, fallback: number): number {
    const text = this.text(field);
    if (text === undefined) return fallback;
    const ms = parseTimeMs(text);
    if (ms !== null) return ms;
    this.refuse(field, text, 'epoch milliseconds such as 1700000000000, or RFC 3339 such as 2026-01-31T12:00:00Z');
    return fallback;
  }

  /** `required`: absence is an error too. */
  stream(streams: Readonly<Record<string, Stream>>, required: boolean): Stream | undefined {
    const text = this.text('stream');
    if (text === undefined && !required) return undefined;
    const stream = text !== undefined && Object.hasOwn(streams, text) ? streams[text] : undefined;
    if (!stream) this.refuse('stream', text ?? '', `one of ${Object.keys(streams).join(', ')}`);
    return stream;
  }

  window(stream: Stream | undefined, required: boolean): string | undefined {
    const text = this.text('window');
    if ((text === undefined && !required) || !stream) return undefined;
    const labels = stream.windows.map((window) => window.label);
    if (text !== undefined && labels.includes(text)) return text;
    this.refuse('window', text ?? '', `one of ${labels.join(', ')}, the windows of the stream ${stream.name}`);
    return undefined;
  }

  metric(stream: Stream | undefined): string | undefined {
    const text = this.text('metric');
    const known = stream ? rowMetrics(stream) : [];
    if (text === undefined || !stream || known.includes(text)) return text;
    const expected = known.length > 0 ? `one of ${known.join(', ')}` : 'absent: the stream counts events';
    return this.refuse('metric', text, expected);
  }

  tag(field: string, stream: Stream | undefined): string | undefined {
    const text = this.text(field);
    const known = stream ? rowTags(stream) : [];
    if (!stream || (text !== undefined && known.includes(text))) return text;
    return this.refuse(field, text ?? '', `the name of a tag, one of ${known.join(', ')}`);
  }

  series(): Readonly<Record<string, string>> | undefined {
    const text = this.text('series', 4_000);
    if (text === undefined) return undefined;
    const tags = parseSeries(text);
    return (
      tags ?? this.refuse('series', text, 'tags such as device=d1,site=a, with \\ before a comma, = or \\ in a value')
    );
  }

  refuse(field: string, value: string, expected: string): undefined {
    this.#bad ??= { field, value: value.slice(0, 200), expected };
  }

  /** Call last: a parameter that nobody read is an error too, so that a misspelt one is not silently ignored. */
  bad(): BadParameter | null {
    for (const field of Object.keys(this.#parameters)) {
      if (!this.#known.has(field)) {
        this.refuse(
          field.slice(0, 60),
          String(this.#parameters[field]),
          `only the parameters ${[...this.#known].join(', ')}`,
        );
      }
    }
    return this.#bad;
  }
}

export function readRowQuery(
  parameters: unknown,
  streams: Readonly<Record<string, Stream>>,
): { readonly query: RowQuery } | { readonly bad: BadParameter } {
  const reader = new ParameterReader(parameters);
  const stream = reader.stream(streams, true);
  const window = reader.window(stream, true);
  const fromMs = reader.time('from', 0);
  const toMs = reader.time('to', MAX_TIME_MS);
  const tags = reader.series();
  const metric = reader.metric(stream);
  const limit = reader.integer('limit', 0, 1, MAX_LIMIT);
  if (fromMs > toMs) reader.refuse('from', String(fromMs), 'a time not after to');
  const bad = reader.bad();
  if (bad) return { bad };
  return {
    query: {
      stream: stream!.name,
      window: window!,
      fromMs,
      toMs,
      ...(tags ? { tags } : undefined),
      ...(metric !== undefined ? { metric } : undefined),
      ...(limit > 0 ? { limit } : undefined),
    },
  };
}

/** The largest time that a Date can hold. */
export const MAX_TIME_MS = 8_640_000_000_000_000;
const MAX_LIMIT = 1_000_000_000;

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/;

export function parseTimeMs(text: string): number | null {
  if (/^-?\d{1,16}$/.test(text)) {
    const ms = Number(text);
    return Math.abs(ms) <= MAX_TIME_MS ? ms : null;
  }
  // A plus sign that was not percent-encoded arrives as a space.
  const match = RFC3339.exec(text.replace(/ (\d\d:\d\d)$/, '+$1'));
  if (!match) return null;
  const [, year, month, day, hour, minute, second, fraction = '', zone] = match;
  const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)));
  // Date.UTC carries 31 February over to March: such a day does not exist.
  if (date.getUTCMonth() !== Number(month) - 1 || date.getUTCDate() !== Number(day)) return null;
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return null;
  const millis = Number(fraction.slice(1).padEnd(3, '0').slice(0, 3));
  const offset = zone!.toUpperCase() === 'Z' ? 0 : offsetMinutes(zone!);
  if (offset === null) return null;
  const ms = Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(day),
    Number(hour),
    Number(minute),
    Number(second),
    millis,
  );
  return ms - offset * 60_000;
}

function offsetMinutes(zone: string): number | null {
  const hours = Number(zone.slice(1, 3));
  const minutes = Number(zone.slice(4, 6));
  if (hours > 23 || minutes > 59) return null;
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes);
}

/** The inverse of `seriesName`; null when the text is not a list of tags. */
export function parseSeries(text: string): Record<string, string> | null {
  const tags: Record<string, string> = Object.create(null);
  let name: string | null = null;
  let part = '';
  const finish = (): boolean => {
    if (name === null || name === '' || name in tags) return false;
    tags[name] = part;
    name = null;
    part = '';
    return true;
  };
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (char === '\\') {
      i++;
      if (i >= text.length) return null;
      part += text[i];
    } else if (char === '=') {
      if (name !== null) return null;
      name = part;
      part = '';
    } else if (char === ',') {
      if (!finish()) return null;
    } else {
      part += char;
    }
  }
  return finish() ? { ...tags } : null;
}

/**
 * The two things a payload can become: readings, or a refusal. Made by `inspect/`, carried by the log, folded by
 * `rollup/`. Their JSON forms, which are the values of records in the log, are at the end of this file.
 */

/** One device's values at one time. */
export interface Reading {
  /** Name of the stream, as in the configuration. */
  readonly stream: string;
  /** What the reading is ordered by, within its series at least; see journal/spread.ts. Default: the device. */
  readonly key: string;
  /** Event time, epoch milliseconds, an integer: the device's stamp, or the gateway's where the payload has none. */
  readonly timeMs: number;
  /** Topic captures, payload tags and registry tags. Names in ascending order of their UTF-16 code units. */
  readonly tags: Readonly<Record<string, string>>;
  /** `tags` as JSON, where many readings share them. */
  readonly tagsText?: string;
  /** Metric values after scaling; finite, never -0, 0 or 1e-140 <= |x| <= 1e150. A metric absent from the payload is absent here. */
  readonly values: Readonly<Record<string, number>>;
  /** The version of the schema that it was judged by, where the stream has one: see inspect/validate.ts. */
  readonly schema?: string;
  /** Of a reading that came in a list: its place in it from 0, and how many there were. They stand in the log one behind the other. */
  readonly batch?: readonly [number, number];
  /** The device's own counter, where the stream names one. */
  readonly sequence?: number;
  /** What makes two messages the same event, where the stream names fields for it; otherwise series + time. */
  readonly identity?: string;
  /** Name and text of each value whose different ones are counted, where the stream names some: [name, text, name, text]. */
  readonly distinct?: readonly string[];
  /** The payload as JSON text: exactly the device's bytes if it was JSON, otherwise what was understood of it. */
  readonly payload?: string;
  /** The traceparent that travels beside it in the log, where the stream asks for one. Not part of its JSON form. */
  readonly trace?: string;
}

/** Why a payload was refused. Closed: a metric label and a column of `millrace deadletters`. */
export type RefusalCode =
  | 'unknown-topic'
  | 'empty'
  | 'not-utf8'
  | 'too-large'
  | 'too-deep'
  | 'malformed'
  | 'forbidden-key'
  /** Sparkplug B: what an alias or type means was in a birth that the gateway has not seen. */
  | 'no-birth'
  | 'schema'
  | 'time-missing'
  | 'time-invalid'
  | 'time-future'
  | 'number-invalid'
  | 'number-out-of-range'
  | 'tag-invalid'
  | 'identity-missing'
  | 'sequence-invalid'
  | 'unknown-device'
  | 'too-many-series'
  /** Kafka refused the record for good. */
  | 'log-refused'
  /** The store refused the row for good. */
  | 'store-refused';

/** A payload that failed inspection, kept whole with its reason. */
export interface Refusal {
  readonly code: RefusalCode;
  /** One sentence for a person: the field, the value, what was expected. */
  readonly reason: string;
  /** JSON pointer of the offending field, '' for the whole payload. */
  readonly field: string;
  /** The version of the stream's schema, where it has one. */
  readonly schema?: string;
  /** '' when no stream's topic matches. */
  readonly stream: string;
  readonly topic: string;
  /** MQTT client id; '' when not from MQTT. */
  readonly client: string;
  readonly payload: Uint8Array;
  /** As of a reading; not part of its JSON form. */
  readonly trace?: string;
}

/** What arrived, before anyone looked into it. */
export interface Message {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly client: string;
  /** Gateway's stamp, epoch milliseconds, never running backwards. */
  readonly receivedMs: number;
  /** A dead letter sent again: what came before and after it when it was first sent is not what came now. */
  readonly replayed?: boolean;
}

export type Inspection =
  | { readonly kind: 'readings'; readonly readings: readonly Reading[] }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** The text that names a series' tags, unique per set of tags: `device=d1,site=a`, with `\`, `,` and `=` escaped by `\`. */
export function seriesName(tags: Readonly<Record<string, string>>): string {
  let name = '';
  for (const key in tags) name += `${name === '' ? '' : ','}${escapePart(key)}=${escapePart(tags[key]!)}`;
  return name;
}

const SPECIAL = /[\\,=]/;

function escapePart(text: string): string {
  return SPECIAL.test(text) ? text.replace(/[\\,=]/g, '\\$&') : text;
}

/**
 * The value of a `reading` record, compact JSON, the form that every reader of `telemetry.readings` sees:
 * `{"stream":"environment","time":1700000000000,"tags":{…},"values":{…},"schema":"9f86d081884c","batch":[0,3],"sequence":7,
 * "identity":"…","distinct":[…],"payload":{…}}`; all from `schema` on only where there is one; `payload` is the device's JSON, byte for byte.
 */
export function encodeReading(reading: Reading): string {
  const tags = reading.tagsText ?? JSON.stringify(reading.tags);
  let text = `{"stream":${written(reading.stream).quoted},"time":${reading.timeMs},"tags":${tags},"values":{${valuesText(reading.values)}}`;
  if (reading.schema !== undefined) text += `,"schema":"${reading.schema}"`;
  if (reading.batch !== undefined) text += `,"batch":[${reading.batch[0]},${reading.batch[1]}]`;
  if (reading.sequence !== undefined) text += `,"sequence":${reading.sequence}`;
  if (reading.identity !== undefined) text += `,"identity":${JSON.stringify(reading.identity)}`;
  if (reading.distinct !== undefined) text += `,"distinct":${JSON.stringify(reading.distinct)}`;
  if (reading.payload !== undefined) text += `,"payload":${reading.payload}`;
  return `${text}}`;
}

/** JSON.stringify would look at each name again for every reading, which costs more than writing the numbers. */
function valuesText(values: Readonly<Record<string, number>>): string {
  let text = '';
  for (const name in values) {
    const { first, next } = written(name);
    text += text === '' ? first + values[name] : next + values[name];
  }
  return text;
}

/** A name as JSON: alone, and as it stands before a value, the first of an object or a later one. */
interface WrittenName {
  readonly quoted: string;
  readonly first: string;
  readonly next: string;
}

/** Names of streams and metrics. They come from the configuration, so there are few. */
const names = new Map<string, WrittenName>();
const MAX_NAMES = 10_000;

function written(name: string): WrittenName {
  let found = names.get(name);
  if (found === undefined) {
    const quoted = JSON.stringify(name);
    // joined, so that V8 makes one piece of it: what is put together otherwise is taken apart again for every reading
    found = { quoted, first: [quoted, ':'].join(''), next: [',', quoted, ':'].join('') };
    if (names.size < MAX_NAMES) names.set(name, found);
  }
  return found;
}

/** What readers behind the log need of a reading; null when the value is not one of ours. */
export function decodeReading(value: string): Omit<Reading, 'key' | 'payload' | 'tagsText'> | null {
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(value);
  } catch {
    return null;
  }
  const { stream, time, tags, values, schema, batch, sequence, identity, distinct } = parsed ?? {};
  if (typeof stream !== 'string' || !Number.isSafeInteger(time)) return null;
  if (typeof tags !== 'object' || tags === null || typeof values !== 'object' || values === null) return null;
  return {
    stream,
    timeMs: time as number,
    tags: tags as Record<string, string>,
    values: values as Record<string, number>,
    ...(typeof schema === 'string' && SCHEMA_VERSION.test(schema) ? { schema } : undefined),
    ...(isPlace(batch) ? { batch } : undefined),
    ...(typeof sequence === 'number' ? { sequence } : undefined),
    ...(typeof identity === 'string' ? { identity } : undefined),
    ...(Array.isArray(distinct) ? { distinct } : undefined),
  };
}

/** Of inspect/validate.ts. */
const SCHEMA_VERSION = /^[0-9a-f]{12}$/;

function isPlace(value: unknown): value is [number, number] {
  return Array.isArray(value) && value.length === 2 && value.every((part) => Number.isSafeInteger(part) && part >= 0);
}

/** The payload of a `reading` record, byte for byte; null when it has none, or the record is not as `encodeReading` makes it. */
export function payloadOf(value: string): string | null {
  const reading = decodeReading(value);
  if (reading === null) return null;
  const head = `${encodeReading({ ...reading, key: '' }).slice(0, -1)},"payload":`;
  return value.startsWith(head) && value.endsWith('}') ? value.slice(head.length, -1) : null;
}

/** The value of a `refusal` record: `{"code":…,"reason":…,"field":…,"stream":…,"topic":…,"client":…,"payload":"<base64>"}`. */
export function encodeRefusal(refusal: Refusal): string {
  const { trace: _, ...kept } = refusal;
  return JSON.stringify({ ...kept, payload: Buffer.from(refusal.payload).toString('base64') });
}

export function decodeRefusal(value: string): Refusal | null {
  try {
    const parsed = JSON.parse(value);
    return { ...parsed, payload: Buffer.from(parsed.payload, 'base64') };
  } catch {
    return null;
  }
}

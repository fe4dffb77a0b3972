/**
 * A record of the log as Kafka keeps it in a record batch (made by kafka-batch.ts), and back.
 *   key        the record's key; none for a tick, or when the record has no key
 *   timestamp  the received stamp
 *   value      as it is; empty for a tick
 *   headers    stream, topic (MQTT), gateway: where not empty; kind: where it is not what the topic implies;
 *              at: `<spool>-<offset>`, its place in the gateway's spool, where it came through one;
 *              traceparent: where the record has one
 * A record of another producer without our headers reads as what its topic implies. Of headers of one name the first counts.
 */
import { isRecordKind, type LogRecord, type Origin, type RecordKind, type StoredRecord } from '../log.ts';
import { parseTraceparent } from '../traceparent.ts';

/** Offset, timestamp, lengths and header names of one message; a close upper bound. */
const OVERHEAD_BYTES = 64;

/** About what the record takes in a request, uncompressed. */
export function messageBytes(record: LogRecord): number {
  const { value, key, stream, topic, trace = '' } = record;
  return value.byteLength + key.length + stream.length + topic.length + trace.length + OVERHEAD_BYTES;
}

/** What all records of a batch have in common. */
export interface BatchHead {
  readonly baseOffset: number;
  readonly baseMs: number;
  /** Where the broker stamps records: the one stamp of all of them. */
  readonly stampMs: number | null;
  readonly records: number;
}

/** The bytes of records, and how far they are read. Throws an Error where they end too early. */
export class RecordBytes {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** A zigzag varint. */
  integer(): number {
    const { bytes } = this;
    const from = this.at;
    let byte = bytes[this.at++]!;
    let value = byte & 0x7f;
    for (let shift = 7; byte > 0x7f; shift += 7) {
      if (shift > MAX_INT_SHIFT) return this.#long(from);
      byte = bytes[this.at++]!;
      value |= (byte & 0x7f) << shift;
    }
    return (value >>> 1) ^ -(value & 1);
  }

  /** Passes what stands behind its length, and answers the length; 0 where there is none. */
  pass(): number {
    const length = Math.max(0, this.integer());
    this.at += length;
    if (this.at > this.bytes.length) throw new Error('a record is cut off');
    return length;
  }

  #long(from: number): number {
    this.at = from;
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.bytes[this.at++] ?? 0;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte <= 0x7f || shift > MAX_LONG_SHIFT) return Number((value >> 1n) ^ -(value & 1n));
    }
  }
}

const MAX_INT_SHIFT = 21;
const MAX_LONG_SHIFT = 63n;

/** Their lengths tell them apart. */
const NAMES = ['stream', 'topic', 'kind', 'at', 'traceparent'] as const;
type Name = (typeof NAMES)[number];
const NAME_OF_LENGTH: { readonly name: Name; readonly bytes: Buffer }[] = [];
for (const name of NAMES) NAME_OF_LENGTH[name.length] = { name, bytes: Buffer.from(name) };

/** Reads the records of one topic. */
export class RecordReader {
  readonly #implied: RecordKind;
  readonly #streams = new LastText();
  readonly #spools = new LastText();

  constructor(implied: RecordKind) {
    this.#implied = implied;
  }

  /** Adds the records of a batch, unpacked, from that offset on. Throws an Error when they are not as the head says. */
  read(bytes: Buffer, head: BatchHead, fromOffset: number, records: StoredRecord[]): void {
    const from = new RecordBytes(bytes);
    for (let i = 0; i < head.records; i++) {
      const length = from.integer();
      const end = from.at + length;
      if (length <= 0 || end > bytes.length) throw new Error('a record is cut off');
      // Attributes: none are defined.
      from.at++;
      const record = this.#record(from, head);
      if (from.at !== end) throw new Error('a record is longer or shorter than it says');
      if (record.offset >= fromOffset) records.push(record);
    }
  }

  #record(from: RecordBytes, { baseMs, stampMs, baseOffset }: BatchHead): StoredRecord {
    const { bytes } = from;
    const receivedMs = baseMs + from.integer();
    const offset = baseOffset + from.integer();
    const keyBytes = from.pass();
    const key = textOf(bytes, from.at - keyBytes, from.at);
    const valueBytes = from.pass();
    const value = bytes.subarray(from.at - valueBytes, from.at);
    const { kind, stream = '', topic = '', origin, trace } = this.#headers(from);
    const known = { kind: kind ?? this.#implied, key, receivedMs: stampMs ?? receivedMs, stream, topic, value, offset };
    if (!origin && !trace) return known;
    return { ...known, ...(origin ? { origin } : undefined), ...(trace ? { trace } : undefined) };
  }

  #headers(from: RecordBytes): Headers {
    const { bytes } = from;
    const headers: Headers = {
      kind: undefined,
      stream: undefined,
      topic: undefined,
      origin: undefined,
      trace: undefined,
    };
    for (let left = from.integer(); left > 0; left--) {
      const nameBytes = from.pass();
      const name = nameOf(bytes, from.at - nameBytes, nameBytes);
      const valueBytes = from.pass();
      const start = from.at - valueBytes;
      if (name === 'stream') headers.stream ??= this.#streams.of(bytes, start, from.at);
      else if (name === 'topic') headers.topic ??= textOf(bytes, start, from.at);
      else if (name === 'kind') headers.kind ??= kindOf(textOf(bytes, start, from.at));
      else if (name === 'at') headers.origin ??= this.#originOf(bytes, start, from.at);
      else if (name === 'traceparent') headers.trace ??= parseTraceparent(textOf(bytes, start, from.at)) ?? undefined;
    }
    return headers;
  }

  #originOf(bytes: Buffer, from: number, to: number): Origin | undefined {
    let dash = to - 1;
    let offset = 0;
    for (let unit = 1; dash > from && bytes[dash] !== DASH; dash--, unit *= 10) {
      const digit = bytes[dash]! - ZERO;
      if (digit < 0 || digit > 9) return undefined;
      offset += digit * unit;
    }
    if (dash === from || dash === to - 1 || !Number.isSafeInteger(offset)) return undefined;
    return { spool: this.#spools.of(bytes, from, dash), offset };
  }
}

interface Headers {
  kind: RecordKind | undefined;
  stream: string | undefined;
  topic: string | undefined;
  origin: Origin | undefined;
  trace: string | undefined;
}

/** One text after the other, nearly all of them equal. */
class LastText {
  #bytes = Buffer.alloc(0);
  #text = '';

  of(bytes: Buffer, from: number, to: number): string {
    if (to - from !== this.#bytes.length || !isAt(bytes, from, this.#bytes)) {
      this.#bytes = Buffer.from(bytes.subarray(from, to));
      this.#text = textOf(bytes, from, to);
    }
    return this.#text;
  }
}

const [DASH, ZERO] = [0x2d, 0x30];

function isAt(bytes: Buffer, from: number, text: Buffer): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[from + i] !== text[i]) return false;
  return true;
}

function nameOf(bytes: Buffer, from: number, length: number): Name | null {
  const known = NAME_OF_LENGTH[length];
  return known && isAt(bytes, from, known.bytes) ? known.name : null;
}

function kindOf(text: string): RecordKind | undefined {
  return isRecordKind(text) ? text : undefined;
}

function textOf(bytes: Buffer, from: number, to: number): string {
  return from === to ? '' : bytes.toString('utf8', from, to);
}

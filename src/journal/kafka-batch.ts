/**
 * Records as one record batch of Kafka's format 2, in the bytes that go over the wire; what stands in a message is said in
 * kafka-record.ts. Written here because kafkajs takes an encoder of 512 bytes for every field that is a list, and more
 * time for it than everything else that forwarding does.
 *
 *   at  bytes  field                                     value
 *    0  8      base offset                               0: the broker gives it
 *    8  4      length of what follows
 *   12  4      partition leader epoch                    0: the broker sets it
 *   16  1      format                                    2
 *   17  4      crc32c of everything behind this field
 *   21  2      attributes                                1: gzip, 0: none
 *   23  4      number of records - 1
 *   27  8      timestamp of the first record
 *   35  8      largest timestamp
 *   43  14     producer id, epoch, sequence              -1: not idempotent, no transaction
 *   57  4      number of records
 *   61         the records, compressed together
 *
 * A record: length, attributes (0), timestamp less the first one's, place in the batch, key, value, headers. All integers
 * are zigzag varints, and each text or value stands behind its length, -1 where there is none.
 */
import { constants, gzipSync, type ZlibOptions } from 'node:zlib';
import type { LogRecord, RecordKind } from '../log.ts';
import { crc32c } from './crc32c.ts';

export interface BatchOptions {
  /** Name of this gateway, for the header. */
  readonly gateway: string;
  /** The kind of record that the topic implies. */
  readonly implied: RecordKind;
  readonly compression: 'none' | 'gzip';
  /** The spool that they come from, for the header `at`; absent where they come from none. */
  readonly spool?: string;
}

/** A record of the spool has an offset there. */
type SentRecord = LogRecord & { readonly offset?: number };

const HEAD_BYTES = 61;
const CRC_FROM = 21;
/** Length, attributes, both deltas, number of headers, and the lengths of key and value: at most. */
const RECORD_HEAD_BYTES = 40;
/** The lengths of one header's name and value: at most. */
const HEADER_LENGTHS_BYTES = 10;
const GZIP = 1;
/** zlib makes 9 of 8. */
const LEAST_WINDOW_BITS = 9;
/** Zigzag doubles, and bit operations end at 32 bits. */
const MAX_INT_DELTA = 2 ** 30;

/**
 * The bytes of one batch. At least one record.
 *
 * Compressed at the quickest level and in this thread, which is forward's own: readings are so alike that the level costs
 * little in size, and to hand a batch of a few dozen records to another thread costs more than to compress it.
 */
export function encodeBatch(records: readonly LogRecord[], options: BatchOptions): Buffer {
  const plain = new BatchEncoder(options).encode(records);
  if (options.compression === 'none') return seal(plain, records, 0);
  const packed = gzipSync(plain.subarray(HEAD_BYTES), deflateFor(plain.length));
  return seal(Buffer.concat([plain.subarray(0, HEAD_BYTES), packed]), records, GZIP);
}

/**
 * A window as large as the batch, and a table to match: the defaults take 268 KiB for every batch, however small, and V8
 * counts them, so that it looks for garbage every few dozen batches.
 */
function deflateFor(bytes: number): ZlibOptions {
  const bits = Math.ceil(Math.log2(bytes));
  const windowBits = Math.min(Math.max(bits, LEAST_WINDOW_BITS), constants.Z_MAX_WINDOWBITS);
  // The table of hashes has 2^(memLevel + 7) places of two bytes, and the buffers are as large.
  const memLevel = Math.min(Math.max(bits - 7, constants.Z_MIN_MEMLEVEL), constants.Z_DEFAULT_MEMLEVEL);
  const chunkSize = Math.min(Math.max(bytes, constants.Z_MIN_CHUNK), constants.Z_DEFAULT_CHUNK);
  return { level: constants.Z_BEST_SPEED, windowBits, memLevel, chunkSize };
}

/** Writes the head. */
function seal(batch: Buffer, records: readonly LogRecord[], attributes: number): Buffer {
  let maxMs = 0;
  for (const { receivedMs } of records) if (receivedMs > maxMs) maxMs = receivedMs;
  batch.fill(0, 0, 12);
  batch.writeUInt32BE(batch.length - 12, 8);
  batch.writeUInt32BE(0, 12);
  batch.writeUInt8(2, 16);
  batch.writeUInt16BE(attributes, CRC_FROM);
  batch.writeUInt32BE(records.length - 1, 23);
  batch.writeBigInt64BE(BigInt(records[0]!.receivedMs), 27);
  batch.writeBigInt64BE(BigInt(maxMs), 35);
  batch.fill(0xff, 43, 57);
  batch.writeUInt32BE(records.length, 57);
  batch.writeUInt32BE(crc32c(batch, CRC_FROM, batch.length), 17);
  return batch;
}

class BatchEncoder {
  readonly #implied: RecordKind;
  readonly #gateway: Uint8Array;
  /** What stands before the offset in the header `at`; null: no record has an offset. */
  readonly #spool: Uint8Array | null;
  #bytes = NOTHING;
  #at = 0;
  /** All UTF-16 units of the texts of a record, or'ed. */
  #units = 0;
  /** Records of one stream come one after the other. */
  #stream = '';
  #streamHeader: Uint8Array = NOTHING;

  constructor({ gateway, implied, spool }: BatchOptions) {
    this.#implied = implied;
    this.#spool = spool === undefined ? null : Buffer.from(`${spool}-`);
    this.#gateway = gateway === '' ? NOTHING : header(GATEWAY, gateway);
  }

  /** Space for the head, and the records. */
  encode(records: readonly LogRecord[]): Buffer {
    let most = HEAD_BYTES;
    for (const record of records) most += this.#bytesAtMost(record);
    this.#bytes = Buffer.allocUnsafeSlow(most);
    this.#at = HEAD_BYTES;
    const firstMs = records[0]!.receivedMs;
    for (let i = 0; i < records.length; i++) {
      const record = records[i]!;
      const from = this.#at;
      this.#units = 0;
      this.#record(record, record.receivedMs - firstMs, i, true);
      if (this.#units <= LAST_ASCII) continue;
      this.#at = from;
      this.#record(record, record.receivedMs - firstMs, i, false);
    }
    return this.#bytes.subarray(0, this.#at);
  }

  /** UTF-8 takes at most three bytes for each UTF-16 unit. */
  #bytesAtMost({ key, stream, topic, trace, value }: LogRecord): number {
    const texts = 3 * (key.length + stream.length + topic.length);
    const names = STREAM.length + TOPIC.length + AT.length + 3 * HEADER_LENGTHS_BYTES;
    const spoolBytes = this.#spool?.length ?? 0;
    const headers = this.#gateway.length + names + KIND_MOST_BYTES + spoolBytes + OFFSET_MOST_BYTES;
    const traceBytes = trace === undefined ? 0 : TRACEPARENT.length + HEADER_LENGTHS_BYTES + trace.length;
    return RECORD_HEAD_BYTES + texts + value.length + headers + traceBytes;
  }

  /**
   * `isAscii`: key and topic are taken to be so, which is seen while they are written: were they not, `#units` says it, and
   * what was written is worth nothing. To look at them beforehand takes as long as to write them.
   */
  #record(record: SentRecord, deltaMs: number, place: number, isAscii: boolean): void {
    const { kind, key, stream, topic, trace, value, offset } = record;
    const spool = offset === undefined ? null : this.#spool;
    const digits = spool === null ? 0 : decimalLength(offset!);
    const atBytes = spool === null ? 0 : spool.length + digits;
    const kindHeader = kind === this.#implied ? null : KINDS[kind];
    const keyBytes = key === '' ? -1 : isAscii ? key.length : Buffer.byteLength(key);
    const topicBytes = isAscii ? topic.length : Buffer.byteLength(topic);
    if (stream !== this.#stream) {
      this.#stream = stream;
      this.#streamHeader = stream === '' ? NOTHING : header(STREAM, stream);
    }
    let count = 0;
    let length = 2 + longSize(deltaMs) + intSize(place) + intSize(keyBytes) + Math.max(0, keyBytes);
    length += intSize(value.length) + value.length + this.#streamHeader.length + this.#gateway.length;
    if (this.#streamHeader.length > 0) count++;
    if (topicBytes > 0) {
      count++;
      length += TOPIC.length + intSize(topicBytes) + topicBytes;
    }
    if (spool !== null) {
      count++;
      length += AT.length + intSize(atBytes) + atBytes;
    }
    if (this.#gateway.length > 0) count++;
    if (kindHeader) {
      count++;
      length += kindHeader.length;
    }
    if (trace !== undefined) {
      count++;
      length += TRACEPARENT.length + intSize(trace.length) + trace.length;
    }
    this.#int(length);
    this.#bytes[this.#at++] = 0;
    this.#long(deltaMs);
    this.#int(place);
    this.#int(keyBytes);
    if (keyBytes > 0) this.#text(key);
    this.#int(value.length);
    this.#raw(value);
    // At most six headers: one byte.
    this.#int(count);
    this.#raw(this.#streamHeader);
    if (topicBytes > 0) this.#textHeader(TOPIC, topic, topicBytes);
    if (spool !== null) {
      this.#raw(AT);
      this.#int(atBytes);
      this.#raw(spool);
      this.#decimal(offset!, digits);
    }
    this.#raw(this.#gateway);
    if (kindHeader) this.#raw(kindHeader);
    if (trace !== undefined) this.#textHeader(TRACEPARENT, trace, trace.length);
  }

  #textHeader(name: Uint8Array, text: string, bytes: number): void {
    this.#raw(name);
    this.#int(bytes);
    this.#text(text);
  }

  #text(text: string): void {
    const { length } = text;
    if (length > LOOP_LENGTH) {
      const written = this.#bytes.write(text, this.#at, 'utf8');
      if (written !== length) this.#units |= LAST_ASCII + 1;
      this.#at += written;
      return;
    }
    const bytes = this.#bytes;
    const at = this.#at;
    let units = 0;
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i);
      units |= unit;
      bytes[at + i] = unit;
    }
    this.#units |= units;
    this.#at += units <= LAST_ASCII ? length : bytes.write(text, at, 'utf8');
  }

  #raw(from: Uint8Array): void {
    const { length } = from;
    if (length <= LOOP_LENGTH) {
      const bytes = this.#bytes;
      const at = this.#at;
      for (let i = 0; i < length; i++) bytes[at + i] = from[i]!;
    } else {
      this.#bytes.set(from, this.#at);
    }
    this.#at += length;
  }

  #decimal(value: number, digits: number): void {
    const bytes = this.#bytes;
    let rest = value;
    for (let at = this.#at + digits - 1; at >= this.#at; at--) {
      const digit = rest % 10;
      bytes[at] = ZERO + digit;
      rest = (rest - digit) / 10;
    }
    this.#at += digits;
  }

  #int(value: number): void {
    let rest = (value << 1) ^ (value >> 31);
    while ((rest & ~0x7f) !== 0) {
      this.#bytes[this.#at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.#at++] = rest;
  }

  #long(value: number): void {
    if (value > -MAX_INT_DELTA && value < MAX_INT_DELTA) {
      this.#int(value);
      return;
    }
    for (let rest = zigzag(value); ; rest >>= 7n) {
      const more = rest > 0x7fn;
      this.#bytes[this.#at++] = Number(rest & 0x7fn) | (more ? 0x80 : 0);
      if (!more) return;
    }
  }
}

/** Most texts are short and ASCII, where a loop is quicker than a call into native code. */
const LOOP_LENGTH = 48;
const LAST_ASCII = 0x7f;
const ZERO = 0x30;

function decimalLength(value: number): number {
  let digits = 1;
  for (let least = 10; least <= value; least *= 10) digits++;
  return digits;
}

function intSize(value: number): number {
  let size = 1;
  for (let rest = (value << 1) ^ (value >> 31); (rest & ~0x7f) !== 0; rest >>>= 7) size++;
  return size;
}

function longSize(value: number): number {
  if (value > -MAX_INT_DELTA && value < MAX_INT_DELTA) return intSize(value);
  let size = 1;
  for (let rest = zigzag(value); rest > 0x7fn; rest >>= 7n) size++;
  return size;
}

function zigzag(value: number): bigint {
  const big = BigInt(value);
  return big < 0n ? -2n * big - 1n : 2n * big;
}

const NOTHING: Buffer = Buffer.alloc(0);

/** Text behind its length, as long as both take few bytes. */
function short(text: string): Buffer {
  const bytes = Buffer.from(text);
  const head: number[] = [];
  let rest = bytes.length * 2;
  for (; rest > 0x7f; rest >>>= 7) head.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([...head, rest]), bytes]);
}

function header(name: Uint8Array, value: string): Buffer {
  return Buffer.concat([name, short(value)]);
}

const STREAM = short('stream');
const TOPIC = short('topic');
const AT = short('at');
const GATEWAY = short('gateway');
/** Digits of the largest offset. */
const OFFSET_MOST_BYTES = 16;
const KIND = short('kind');
const TRACEPARENT = short('traceparent');
const KINDS: Readonly<Record<RecordKind, Buffer>> = {
  reading: header(KIND, 'reading'),
  tick: header(KIND, 'tick'),
  refusal: header(KIND, 'refusal'),
  requeued: header(KIND, 'requeued'),
  alert: header(KIND, 'alert'),
  late: header(KIND, 'late'),
  pane: header(KIND, 'pane'),
  command: header(KIND, 'command'),
  outcome: header(KIND, 'outcome'),
  account: header(KIND, 'account'),
};
const KIND_MOST_BYTES = Math.max(...Object.values(KINDS).map(({ length }) => length));

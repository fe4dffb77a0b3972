/**
 * One record as bytes. All integers are little-endian.
 *
 *   at  bytes  field
 *    0  4      length of the whole frame; 0 = nothing was written here
 *    4  4      crc32 of everything behind this field
 *    8  8      offset
 *   16  8      receivedMs
 *   24  4      place in its commit group: offset minus the offset of the group's first record
 *   28  1      kind (KIND_CODES)
 *   29  1      bit 0: key, stream and topic are ASCII; bit 1: of one batch with the next frame; bit 2: has a trace context
 *   30  2      bytes of the key
 *   32  2      bytes of the stream
 *   34  2      bytes of the topic
 *   36         key, stream, topic (UTF-8), 25 bytes of trace context where bit 2 says so, value
 *
 * A commit group is what one fdatasync made durable, and a group is only written after the one before it is durable.
 * So a valid frame proves that everything before its group was durable once, which tells a torn tail from damage.
 */
import { crc32 } from 'node:zlib';
import { type Failure, fail } from '../errors.ts';
import type { NewRecord, RecordKind, StoredRecord } from '../log.ts';
import { readTrace, TRACE_BYTES, writeTrace } from '../traceparent.ts';

export const FRAME_HEAD_BYTES = 36;
/** Largest value of one record. */
export const MAX_VALUE_BYTES = 16 * 2 ** 20;
/** Largest key, stream or topic, in UTF-8. */
export const MAX_NAME_BYTES = 65_535;
export const MAX_FRAME_BYTES = FRAME_HEAD_BYTES + 3 * MAX_NAME_BYTES + TRACE_BYTES + MAX_VALUE_BYTES;

const KIND_CODES: Readonly<Record<RecordKind, number>> = {
  reading: 1,
  tick: 2,
  refusal: 3,
  late: 4,
  pane: 5,
  requeued: 6,
  alert: 7,
  command: 8,
  outcome: 9,
  account: 10,
};
/** By their code less one. */
const KINDS = (Object.keys(KIND_CODES) as RecordKind[]).sort((a, b) => KIND_CODES[a] - KIND_CODES[b]);
const FLAG_ASCII = 1;
const FLAG_JOINED = 2;
const FLAG_TRACE = 4;
const HIGH = 2 ** 32;

/** Bytes with a view on the same memory. */
export interface FrameBuffer {
  readonly bytes: Buffer;
  readonly view: DataView;
}

export function frameBuffer(bytes: Buffer): FrameBuffer {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
}

/** At least as much as the frame of this record takes. */
export function frameBytesAtMost(record: NewRecord): number {
  const { key, stream, topic, trace, value } = record;
  const valueBytes = typeof value === 'string' ? 3 * value.length : value.length;
  const traceBytes = trace === undefined ? 0 : TRACE_BYTES;
  return FRAME_HEAD_BYTES + 3 * (key.length + stream.length + topic.length) + traceBytes + valueBytes;
}

/** Why this record cannot be stored, or null. */
export function sizeFailure(record: NewRecord): Failure | null {
  const { key, stream, topic, value } = record;
  // UTF-8 takes at most three bytes for each UTF-16 unit: longer texts are rare and are measured.
  const valueBytes =
    typeof value === 'string' && value.length > MAX_VALUE_BYTES / 3 ? Buffer.byteLength(value) : value.length;
  if (valueBytes > MAX_VALUE_BYTES) return tooLarge(`the value of ${valueBytes} bytes`, MAX_VALUE_BYTES);
  const most = MAX_NAME_BYTES / 3;
  if (key.length <= most && stream.length <= most && topic.length <= most) return null;
  for (const [name, text] of [['key', key] as const, ['stream', stream] as const, ['topic', topic] as const]) {
    const bytes = Buffer.byteLength(text);
    if (bytes > MAX_NAME_BYTES) return tooLarge(`the ${name} of ${bytes} bytes`, MAX_NAME_BYTES);
  }
  return null;
}

function tooLarge(what: string, limitBytes: number): Failure {
  return fail('RECORD_TOO_LARGE', `${what} is over the spool's limit of ${limitBytes} bytes`).failure;
}

/**
 * Writes the frame at `at`, where frameBytesAtMost(record) bytes are free, and answers its length. The record has
 * passed sizeFailure. `joined`: it counts only together with the next one of its group.
 */
export function encodeFrame(
  target: FrameBuffer,
  at: number,
  record: NewRecord,
  offset: number,
  groupIndex: number,
  joined = false,
): number {
  const { bytes, view } = target;
  const { key, stream, topic, trace, value, receivedMs } = record;
  if (!Number.isSafeInteger(receivedMs) || receivedMs < 0) {
    throw new RangeError(`receivedMs must be a whole number of milliseconds, not ${receivedMs}`);
  }
  const kind = KIND_CODES[record.kind];
  if (kind === undefined) throw new RangeError(`no record is of the kind ${record.kind}`);
  let end = at + FRAME_HEAD_BYTES;
  const keyEnd = writeText(bytes, end, key);
  const streamEnd = writeText(bytes, keyEnd, stream);
  const topicEnd = writeText(bytes, streamEnd, topic);
  const ascii = topicEnd - end === key.length + stream.length + topic.length;
  view.setUint16(at + 30, keyEnd - end, true);
  view.setUint16(at + 32, streamEnd - keyEnd, true);
  view.setUint16(at + 34, topicEnd - streamEnd, true);
  end = topicEnd;
  if (trace !== undefined) {
    writeTrace(bytes, end, trace);
    end += TRACE_BYTES;
  }
  end += writeValue(bytes, end, value);
  setUint53(view, at + 8, offset);
  setUint53(view, at + 16, receivedMs);
  view.setUint32(at + 24, groupIndex, true);
  view.setUint8(at + 28, kind);
  view.setUint8(
    at + 29,
    (ascii ? FLAG_ASCII : 0) | (joined ? FLAG_JOINED : 0) | (trace === undefined ? 0 : FLAG_TRACE),
  );
  view.setUint32(at, end - at, true);
  view.setUint32(at + 4, checksum(bytes, at + 8, end), true);
  return end - at;
}

/** Most names are short and ASCII, where a loop is quicker than a call into native code. */
const LOOP_LENGTH = 48;

function writeText(bytes: Buffer, at: number, text: string): number {
  const length = text.length;
  if (length <= LOOP_LENGTH) {
    let i = 0;
    for (; i < length; i++) {
      const unit = text.charCodeAt(i);
      if (unit > 0x7f) break;
      bytes[at + i] = unit;
    }
    if (i === length) return at + length;
  }
  return at + bytes.write(text, at, 'utf8');
}

function writeValue(bytes: Buffer, at: number, value: Uint8Array | string): number {
  if (typeof value === 'string') return bytes.write(value, at, 'utf8');
  bytes.set(value, at);
  return value.length;
}

/** A plain Uint8Array is made in a third of the time of a Buffer. */
function checksum(bytes: Buffer, from: number, to: number): number {
  return crc32(new Uint8Array(bytes.buffer, bytes.byteOffset + from, to - from));
}

export type FrameCheck =
  /** A whole, valid frame of this many bytes. */
  | number
  /** No frame begins here. */
  | 0
  /** A frame may begin here, but `end` comes before its own end. */
  | -1;

/** What begins at `at`, looking at nothing behind `end`. */
export function checkFrame(source: FrameBuffer, at: number, end: number): FrameCheck {
  if (end - at < FRAME_HEAD_BYTES) return -1;
  const { bytes, view } = source;
  const length = view.getUint32(at, true);
  if (length < FRAME_HEAD_BYTES || length > MAX_FRAME_BYTES) return 0;
  if (at + length > end) return -1;
  const names = view.getUint16(at + 30, true) + view.getUint16(at + 32, true) + view.getUint16(at + 34, true);
  const traceBytes = view.getUint8(at + 29) & FLAG_TRACE ? TRACE_BYTES : 0;
  if (FRAME_HEAD_BYTES + names + traceBytes > length) return 0;
  if (KINDS[view.getUint8(at + 28) - 1] === undefined) return 0;
  return checksum(bytes, at + 8, at + length) === view.getUint32(at + 4, true) ? length : 0;
}

export function frameOffset(source: FrameBuffer, at: number): number {
  return getUint53(source.view, at + 8);
}

export function frameReceivedMs(source: FrameBuffer, at: number): number {
  return getUint53(source.view, at + 16);
}

/** The frame counts only together with the next one. */
export function frameJoined(source: FrameBuffer, at: number): boolean {
  return (source.view.getUint8(at + 29) & FLAG_JOINED) !== 0;
}

/** Offset of the first record of the frame's commit group. */
export function frameGroupFirst(source: FrameBuffer, at: number): number {
  return frameOffset(source, at) - source.view.getUint32(at + 24, true);
}

/** The record of a valid frame. Its value shares the buffer's memory. */
export function decodeFrame(source: FrameBuffer, at: number): StoredRecord {
  const { bytes, view } = source;
  const keyEnd = FRAME_HEAD_BYTES + view.getUint16(at + 30, true);
  const streamEnd = keyEnd + view.getUint16(at + 32, true);
  const topicEnd = streamEnd + view.getUint16(at + 34, true);
  const end = view.getUint32(at, true);
  let key: string;
  let stream: string;
  let topic: string;
  const flags = view.getUint8(at + 29);
  if (flags & FLAG_ASCII) {
    // One native call for the three of them.
    const names = bytes.toString('latin1', at + FRAME_HEAD_BYTES, at + topicEnd);
    key = names.slice(0, keyEnd - FRAME_HEAD_BYTES);
    stream = names.slice(keyEnd - FRAME_HEAD_BYTES, streamEnd - FRAME_HEAD_BYTES);
    topic = names.slice(streamEnd - FRAME_HEAD_BYTES);
  } else {
    key = bytes.toString('utf8', at + FRAME_HEAD_BYTES, at + keyEnd);
    stream = bytes.toString('utf8', at + keyEnd, at + streamEnd);
    topic = bytes.toString('utf8', at + streamEnd, at + topicEnd);
  }
  const valueAt = flags & FLAG_TRACE ? topicEnd + TRACE_BYTES : topicEnd;
  const record: StoredRecord = {
    offset: getUint53(view, at + 8),
    kind: KINDS[view.getUint8(at + 28) - 1]!,
    key,
    receivedMs: getUint53(view, at + 16),
    stream,
    topic,
    value: bytes.subarray(at + valueAt, at + end),
  };
  return flags & FLAG_TRACE ? { ...record, trace: readTrace(bytes, at + topicEnd) } : record;
}

/**
 * The position of the first whole, valid frame that begins in [from, searchEnd) and whose offset is at least `minOffset`
 * and below `belowOffset`; -1 when there is none. Looks at every byte: for damaged files only.
 */
export function findFrame(
  source: FrameBuffer,
  from: number,
  searchEnd: number,
  minOffset: number,
  belowOffset: number,
): number {
  const end = source.bytes.length;
  for (let at = from; at < searchEnd && at + FRAME_HEAD_BYTES <= end; at++) {
    const length = source.view.getUint32(at, true);
    if (length < FRAME_HEAD_BYTES || at + length > end) continue;
    const offset = frameOffset(source, at);
    if (offset >= minOffset && offset < belowOffset && checkFrame(source, at, end) > 0) return at;
  }
  return -1;
}

function setUint53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % HIGH, true);
  view.setUint32(at + 4, Math.floor(value / HIGH), true);
}

function getUint53(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * HIGH + view.getUint32(at, true);
}

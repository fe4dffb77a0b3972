/**
 * The block: what one write of the embedded store adds to a file of rows. Pure: bytes in, bytes out.
 *
 *   header, 48 bytes, little-endian
 *      0 u32 magic "MRB1"
 *      4 u32 crc32 of bytes 8 to headBytes
 *      8 u32 headBytes      header + dictionary + index
 *     12 u32 rowBytes
 *     16 u32 rowCount
 *     20 u32 firstSeries    how many series the blocks before it in this file named
 *     24 u32 newSeries
 *     28 u32 groupCount
 *     32 f64 minStartMs     of its rows
 *     40 f64 maxStartMs
 *   dictionary   for each new series: u32 length, JSON ["stream","metric",{tags by ascending name}]; ids count up from
 *                firstSeries
 *   index        for each group of at most 32 rows: u32 id of its first row's series, u32 offset in the rows,
 *                u32 crc32 of the group's bytes
 *   rows         by ascending series id, then start. So one series of thousands is found with two short reads.
 *
 *   row          varints: id - id of the row before in the group, startMs - minStartMs, count, duplicates, missing, rev
 *                5 bytes: a code of 4 bits for each of the ten statistics, in their order; low half first
 *                then the bytes that the codes ask for, as one run
 *   code         0-8: that many leading bytes (big-endian) of the double, the others are zero
 *                9: null    10: the same bits as the statistic before    11: as min    12: as max
 *   varint       7 bits a byte, low first, high bit = more follow; up to 2^53
 */
import { crc32 } from 'node:zlib';
import { type Row, STATISTICS } from '../row.ts';
import { oncePerSeries, sortTags } from './order.ts';

export const HEADER_BYTES = 48;
/** Rows of one block; a larger write makes several. */
export const MAX_BLOCK_ROWS = 16_384;
/** Header, dictionary and index together; a header that says more is damaged. */
export const MAX_HEAD_BYTES = 512 * 1024 * 1024;
export const MAGIC = Buffer.from('MRB1', 'latin1');

const GROUP_ROWS = 32;
const GROUP_ENTRY_BYTES = 12;
const MAX_ROW_BYTES = 6 * 8 + 5 + 80;
const NULL = 9;
const SAME_AS_PREVIOUS = 10;
const SAME_AS_MIN = 11;
const SAME_AS_MAX = 12;
const MIN = STATISTICS.indexOf('min');
const MAX = STATISTICS.indexOf('max');

/** What the rows of a series have in common. */
export interface Series {
  readonly stream: string;
  readonly metric: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Its text in dictionaries: equal for equal series. */
  readonly text: string;
}

export const seriesText = oncePerSeries((row) => JSON.stringify([row.stream, row.metric, sortTags(row.tags)]));

export interface BlockHead {
  readonly headBytes: number;
  readonly rowBytes: number;
  readonly rowCount: number;
  readonly firstSeries: number;
  readonly minStartMs: number;
  readonly maxStartMs: number;
  readonly newSeries: readonly Series[];
  /** One entry a group, as in the index. */
  readonly groupSeries: Uint32Array;
  readonly groupOffset: Uint32Array;
  readonly groupCrc: Uint32Array;
}

export interface NumberedRow {
  readonly id: number;
  readonly row: Row;
}

/** At most MAX_BLOCK_ROWS rows, at least one, in any order; of two with the same id and start the later one counts. */
export function encodeBlock(rows: readonly NumberedRow[], firstSeries: number, newSeries: readonly string[]): Buffer {
  const sorted = [...rows].sort((a, b) => a.id - b.id || a.row.startMs - b.row.startMs);
  let minStartMs = Number.POSITIVE_INFINITY;
  let maxStartMs = Number.NEGATIVE_INFINITY;
  for (const { row } of sorted) {
    if (row.startMs < minStartMs) minStartMs = row.startMs;
    if (row.startMs > maxStartMs) maxStartMs = row.startMs;
  }
  const groupCount = Math.ceil(sorted.length / GROUP_ROWS);
  const names = newSeries.map((text) => Buffer.from(text));
  const dictionaryBytes = names.reduce((bytes, name) => bytes + 4 + name.length, 0);
  const headBytes = HEADER_BYTES + dictionaryBytes + groupCount * GROUP_ENTRY_BYTES;
  const bytes = Buffer.allocUnsafe(headBytes + sorted.length * MAX_ROW_BYTES);

  let at = HEADER_BYTES;
  for (const name of names) {
    at = bytes.writeUInt32LE(name.length, at);
    at += name.copy(bytes, at);
  }
  let end = headBytes;
  for (let first = 0; first < sorted.length; first += GROUP_ROWS) {
    const start = end;
    let id = sorted[first]!.id;
    at = bytes.writeUInt32LE(id, at);
    at = bytes.writeUInt32LE(start - headBytes, at);
    for (const entry of sorted.slice(first, first + GROUP_ROWS)) {
      end = putVarint(bytes, end, entry.id - id);
      end = putRow(bytes, end, entry.row, minStartMs);
      id = entry.id;
    }
    at = bytes.writeUInt32LE(crc32(bytes.subarray(start, end)), at);
  }
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(headBytes, 8);
  bytes.writeUInt32LE(end - headBytes, 12);
  bytes.writeUInt32LE(sorted.length, 16);
  bytes.writeUInt32LE(firstSeries, 20);
  bytes.writeUInt32LE(newSeries.length, 24);
  bytes.writeUInt32LE(groupCount, 28);
  bytes.writeDoubleLE(minStartMs, 32);
  bytes.writeDoubleLE(maxStartMs, 40);
  bytes.writeUInt32LE(crc32(bytes.subarray(8, headBytes)), 4);
  return bytes.subarray(0, end);
}

/** How many bytes the head of the block has that begins with these HEADER_BYTES; null = no block begins here. */
export function headLength(header: Buffer): number | null {
  if (header.length < HEADER_BYTES || header.compare(MAGIC, 0, MAGIC.length, 0, MAGIC.length) !== 0) return null;
  const headBytes = header.readUInt32LE(8);
  return headBytes >= HEADER_BYTES && headBytes <= MAX_HEAD_BYTES ? headBytes : null;
}

/** Null when the bytes are not exactly a whole, undamaged head. */
export function decodeHead(bytes: Buffer): BlockHead | null {
  const headBytes = headLength(bytes);
  if (headBytes !== bytes.length || crc32(bytes.subarray(8)) !== bytes.readUInt32LE(4)) return null;
  const newSeries: Series[] = [];
  let at = HEADER_BYTES;
  for (let i = bytes.readUInt32LE(24); i > 0; i--) {
    const length = bytes.readUInt32LE(at);
    const text = bytes.toString('utf8', at + 4, at + 4 + length);
    const [stream, metric, tags] = JSON.parse(text);
    newSeries.push({ stream, metric, tags, text });
    at += 4 + length;
  }
  const groups = bytes.readUInt32LE(28);
  const groupSeries = new Uint32Array(groups);
  const groupOffset = new Uint32Array(groups);
  const groupCrc = new Uint32Array(groups);
  for (let group = 0; group < groups; group++, at += GROUP_ENTRY_BYTES) {
    groupSeries[group] = bytes.readUInt32LE(at);
    groupOffset[group] = bytes.readUInt32LE(at + 4);
    groupCrc[group] = bytes.readUInt32LE(at + 8);
  }
  return {
    headBytes,
    rowBytes: bytes.readUInt32LE(12),
    rowCount: bytes.readUInt32LE(16),
    firstSeries: bytes.readUInt32LE(20),
    minStartMs: bytes.readDoubleLE(32),
    maxStartMs: bytes.readDoubleLE(40),
    newSeries,
    groupSeries,
    groupOffset,
    groupCrc,
  };
}

/** Where a group's bytes end in the rows. */
export function groupEnd(head: BlockHead, group: number): number {
  return group + 1 < head.groupOffset.length ? head.groupOffset[group + 1]! : head.rowBytes;
}

/** Which window the rows of a file are of; it is not in the file but in its folder's name. */
export interface WindowOfFile {
  readonly label: string;
  readonly sizeMs: number;
}

/**
 * Calls `take` for each row of the group whose series `seriesOf` knows, in order of writing where two have the same
 * place. `bytes` are exactly the group's. False = the bytes are damaged and nothing was taken.
 */
export function decodeGroup(
  head: BlockHead,
  group: number,
  bytes: Buffer,
  window: WindowOfFile,
  seriesOf: (id: number) => Series | null | undefined,
  take: (row: Row, id: number) => void,
): boolean {
  if (crc32(bytes) !== head.groupCrc[group]) return false;
  const cursor = new Cursor(bytes);
  let id = head.groupSeries[group]!;
  while (cursor.at < bytes.length) {
    id += cursor.varint();
    const series = seriesOf(id);
    if (series) take(cursor.row(series, window, head.minStartMs), id);
    else cursor.skipRow();
  }
  return true;
}

function putVarint(bytes: Buffer, at: number, value: number): number {
  let rest = value;
  let end = at;
  while (rest >= 128) {
    bytes[end++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  bytes[end++] = rest;
  return end;
}

const scratch = Buffer.alloc(8);

function putRow(bytes: Buffer, start: number, row: Row, minStartMs: number): number {
  let at = putVarint(bytes, start, row.startMs - minStartMs);
  at = putVarint(bytes, at, row.count);
  at = putVarint(bytes, at, row.duplicates);
  at = putVarint(bytes, at, row.missing);
  at = putVarint(bytes, at, row.rev);
  const codes = at;
  bytes.fill(0, at, at + 5);
  at += 5;
  let previous: number | null = null;
  for (let i = 0; i < STATISTICS.length; i++) {
    const value = row[STATISTICS[i]!];
    let code: number;
    if (value === null) code = NULL;
    else if (i > 0 && Object.is(value, previous)) code = SAME_AS_PREVIOUS;
    else if (i > MIN && Object.is(value, row.min)) code = SAME_AS_MIN;
    else if (i > MAX && Object.is(value, row.max)) code = SAME_AS_MAX;
    else {
      scratch.writeDoubleBE(value);
      code = 8;
      while (code > 0 && scratch[code - 1] === 0) code--;
      for (let k = 0; k < code; k++) bytes[at++] = scratch[k]!;
    }
    bytes[codes + (i >> 1)]! |= code << ((i & 1) * 4);
    previous = value;
  }
  return at;
}

class Cursor {
  readonly #bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  varint(): number {
    let byte = this.#bytes[this.at++]!;
    if (byte < 128) return byte;
    let value = byte & 127;
    let scale = 128;
    do {
      byte = this.#bytes[this.at++]!;
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte >= 128);
    return value;
  }

  skipRow(): void {
    for (let i = 0; i < 5; i++) while (this.#bytes[this.at++]! >= 128);
    const codes = this.at;
    this.at += 5;
    for (let i = 0; i < STATISTICS.length; i++) {
      const code = this.#code(codes, i);
      if (code <= 8) this.at += code;
    }
  }

  row(series: Series, window: WindowOfFile, minStartMs: number): Row {
    const startMs = minStartMs + this.varint();
    const count = this.varint();
    const duplicates = this.varint();
    const missing = this.varint();
    const rev = this.varint();
    const codes = this.at;
    this.at += 5;
    // In the order of STATISTICS.
    const sum = this.#statistic(codes, 0, null, null, null);
    const mean = this.#statistic(codes, 1, sum, null, null);
    const min = this.#statistic(codes, 2, mean, null, null);
    const max = this.#statistic(codes, 3, min, min, null);
    const stddev = this.#statistic(codes, 4, max, min, max);
    const first = this.#statistic(codes, 5, stddev, min, max);
    const last = this.#statistic(codes, 6, first, min, max);
    const p50 = this.#statistic(codes, 7, last, min, max);
    const p95 = this.#statistic(codes, 8, p50, min, max);
    const p99 = this.#statistic(codes, 9, p95, min, max);
    return {
      stream: series.stream,
      metric: series.metric,
      window: window.label,
      startMs,
      endMs: startMs + window.sizeMs,
      tags: series.tags,
      count,
      sum,
      mean,
      min,
      max,
      stddev,
      first,
      last,
      p50,
      p95,
      p99,
      duplicates,
      missing,
      rev,
    };
  }

  #code(codes: number, i: number): number {
    return (this.#bytes[codes + (i >> 1)]! >> ((i & 1) * 4)) & 15;
  }

  #statistic(codes: number, i: number, previous: number | null, min: number | null, max: number | null): number | null {
    const code = this.#code(codes, i);
    if (code === NULL) return null;
    if (code === SAME_AS_PREVIOUS) return previous;
    if (code === SAME_AS_MIN) return min;
    if (code === SAME_AS_MAX) return max;
    for (let i = 0; i < 8; i++) scratch[i] = i < code ? this.#bytes[this.at + i]! : 0;
    this.at += code;
    return scratch.readDoubleBE();
  }
}

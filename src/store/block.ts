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
 *                A row: varint, its series' id minus that of the row before in the group; then as in `rowcodec.ts`
 */
import { crc32 } from 'node:zlib';
import type { Row } from '../row.ts';
import { oncePerSeries, sortTags } from './order.ts';
import { MAX_ROW_BYTES, putRow, putVarint, RowCursor, type Series, type WindowOfFile } from './rowcodec.ts';

export const HEADER_BYTES = 48;
/** Rows of one block; a larger write makes several. */
export const MAX_BLOCK_ROWS = 16_384;
/** Header, dictionary and index together; a header that says more is damaged. */
export const MAX_HEAD_BYTES = 512 * 1024 * 1024;
export const MAGIC = Buffer.from('MRB1', 'latin1');

const GROUP_ROWS = 32;
const GROUP_ENTRY_BYTES = 12;

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

/**
 * Null when the bytes are not exactly a whole, undamaged head. `known` has series by their text, from other files; new ones
 * are added to it, so that each is decoded and kept once.
 */
export function decodeHead(bytes: Buffer, known: Map<string, Series> = new Map()): BlockHead | null {
  const headBytes = headLength(bytes);
  if (headBytes !== bytes.length || crc32(bytes.subarray(8)) !== bytes.readUInt32LE(4)) return null;
  const newSeries: Series[] = [];
  let at = HEADER_BYTES;
  for (let i = bytes.readUInt32LE(24); i > 0; i--) {
    const length = bytes.readUInt32LE(at);
    const text = bytes.toString('utf8', at + 4, at + 4 + length);
    let series = known.get(text);
    if (!series) {
      const [stream, metric, tags] = JSON.parse(text);
      series = { stream, metric, tags, text };
      known.set(text, series);
    }
    newSeries.push(series);
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
  const cursor = new RowCursor(bytes);
  let id = head.groupSeries[group]!;
  while (cursor.at < bytes.length) {
    id += cursor.varint();
    const series = seriesOf(id);
    if (series) take(cursor.row(series, window, head.minStartMs), id);
    else cursor.skipRow();
  }
  return true;
}

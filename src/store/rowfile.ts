/**
 * One file of the embedded store as its reader sees it: blocks one after the other, and nothing else. What is at the end
 * and is not a whole block is a write that has not finished, or never will: it is not there. What is not a whole block but
 * has one behind it is damage: it is passed over and counted; the rows of all other blocks are read.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { type BlockHead, decodeHead, HEADER_BYTES, headLength, MAGIC } from './block.ts';
import type { Series } from './rowcodec.ts';

/** How files are opened; tests put a failing disk behind it. */
export type OpenFile = (path: string, flags: string) => Promise<FileHandle>;
export const openFile: OpenFile = (path, flags) => open(path, flags);

export interface Block extends BlockHead {
  readonly offset: number;
}

export interface FileScan {
  readonly blocks: Block[];
  /** By id. A series whose definition is damaged is undefined. */
  readonly series: (Series | undefined)[];
  /** End of the last whole block. */
  endOffset: number;
  damagedBytes: number;
}

export function newScan(): FileScan {
  return { blocks: [], series: [], endOffset: 0, damagedBytes: 0 };
}

/** A head is usually no longer than this: one read finds it. */
const FIRST_READ_BYTES = 4_096;
const SEARCH_BYTES = 1024 * 1024;

/** Adds to the scan what was appended since; up to `endOffset` nothing is read again. `known`: see `decodeHead`. */
export async function extendScan(scan: FileScan, file: FileHandle, known = new Map<string, Series>()): Promise<void> {
  const { size } = await file.stat();
  let offset = scan.endOffset;
  while (offset + HEADER_BYTES <= size) {
    const block = await readBlock(file, offset, size, known);
    if (block === null) {
      const next = await findBlock(file, offset + 1, size);
      if (next === null) return;
      scan.damagedBytes += next - offset;
      offset = next;
      continue;
    }
    scan.blocks.push(block);
    block.newSeries.forEach((series, i) => {
      scan.series[block.firstSeries + i] = series;
    });
    offset += block.headBytes + block.rowBytes;
    scan.endOffset = offset;
  }
}

async function readBlock(
  file: FileHandle,
  offset: number,
  size: number,
  known?: Map<string, Series>,
): Promise<Block | null> {
  const start = await readAt(file, offset, Math.min(FIRST_READ_BYTES, size - offset));
  const headBytes = headLength(start);
  if (headBytes === null || offset + headBytes > size) return null;
  const isRead = headBytes <= start.length;
  const bytes = isRead
    ? start.subarray(0, headBytes)
    : Buffer.concat([start, await readAt(file, offset + start.length, headBytes - start.length)]);
  const head = decodeHead(bytes, known);
  return head !== null && offset + head.headBytes + head.rowBytes <= size ? { ...head, offset } : null;
}

/** The first whole block at or after `fromOffset`, or null. */
async function findBlock(file: FileHandle, fromOffset: number, size: number): Promise<number | null> {
  for (let offset = fromOffset; offset + HEADER_BYTES <= size; offset += SEARCH_BYTES) {
    // Overlapping by a magic's length, so that none is missed on the border.
    const bytes = await readAt(file, offset, Math.min(SEARCH_BYTES + MAGIC.length - 1, size - offset));
    for (let at = bytes.indexOf(MAGIC); at >= 0; at = bytes.indexOf(MAGIC, at + 1)) {
      if ((await readBlock(file, offset + at, size)) !== null) return offset + at;
    }
  }
  return null;
}

/** The bytes from `offset` on; fewer than `length` where the file ends. */
export async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let have = 0;
  while (have < length) {
    const { bytesRead } = await file.read(buffer, have, length - have, offset + have);
    if (bytesRead === 0) break;
    have += bytesRead;
  }
  return buffer.subarray(0, have);
}

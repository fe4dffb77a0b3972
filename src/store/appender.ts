/**
 * Appends blocks to one file of rows. The only writer of that file.
 *
 * Opening recovers: what follows the last whole, undamaged block is an append that never finished; it was never
 * acknowledged, and is cut off. Damage before it is left as it is, for a person to look at, and said in the log.
 * A failed write leaves the file as long as it was, and may be tried again. After a failed fdatasync the system may have
 * dropped the bytes and forget to say so next time: the file is never written again (`sealed`), the next part is.
 */
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import type { Row } from '../row.ts';
import { encodeBlock, groupEnd, MAX_BLOCK_ROWS, type NumberedRow, seriesText } from './block.ts';
import { type Block, extendScan, newScan, type OpenFile, readAt } from './rowfile.ts';
import { type RowFile, syncFolder } from './shelf.ts';

export interface Recovery {
  readonly cutBytes: number;
  readonly damagedBytes: number;
}

export class Appender {
  readonly file: RowFile;
  readonly recovery: Recovery;
  readonly #handle: FileHandle;
  readonly #ids: Map<string, number>;
  #seriesCount: number;
  #endOffset: number;
  #sealed = false;

  private constructor(
    file: RowFile,
    handle: FileHandle,
    found: { ids: Map<string, number>; seriesCount: number; endOffset: number; recovery: Recovery },
  ) {
    this.file = file;
    this.recovery = found.recovery;
    this.#handle = handle;
    this.#ids = found.ids;
    this.#seriesCount = found.seriesCount;
    this.#endOffset = found.endOffset;
  }

  /** Opens the file, or makes it. Throws what the file system throws. */
  static async open(file: RowFile, openFile: OpenFile): Promise<Appender> {
    const { handle, isNew } = await openOrCreate(file.path, openFile);
    try {
      if (isNew) await syncFolder(dirname(file.path));
      return new Appender(file, handle, await recover(handle));
    } catch (thrown) {
      await handle.close();
      throw thrown;
    }
  }

  get endOffset(): number {
    return this.#endOffset;
  }

  get sealed(): boolean {
    return this.#sealed;
  }

  /** The bytes that these rows would add, at most MAX_BLOCK_ROWS rows a block. Changes nothing. */
  encode(rows: readonly Row[]): Encoded {
    const newIds = new Map<string, number>();
    let seriesCount = this.#seriesCount;
    const blocks: Buffer[] = [];
    // By start, so that each block covers a short time.
    const sorted = rows.length > MAX_BLOCK_ROWS ? [...rows].sort((a, b) => a.startMs - b.startMs) : rows;
    for (let first = 0; first < sorted.length; first += MAX_BLOCK_ROWS) {
      const firstSeries = seriesCount;
      const newSeries: string[] = [];
      const numbered: NumberedRow[] = sorted.slice(first, first + MAX_BLOCK_ROWS).map((row) => {
        const text = seriesText(row);
        let id = this.#ids.get(text) ?? newIds.get(text);
        if (id === undefined) {
          id = seriesCount++;
          newIds.set(text, id);
          newSeries.push(text);
        }
        return { id, row };
      });
      blocks.push(encodeBlock(numbered, firstSeries, newSeries));
    }
    return { bytes: Buffer.concat(blocks), newIds, seriesCount };
  }

  /** Resolves when the bytes are durable. `encoded` must be from this appender's last `encode`. */
  async append(encoded: Encoded): Promise<void> {
    let written = 0;
    try {
      const { nlink } = await this.#handle.stat();
      if (nlink === 0) {
        this.#sealed = true;
        throw new Error(`${this.file.path} was deleted by someone else while it was open`);
      }
      while (written < encoded.bytes.length) {
        const left = encoded.bytes.length - written;
        const { bytesWritten } = await this.#handle.write(encoded.bytes, written, left, this.#endOffset + written);
        if (bytesWritten === 0) throw new Error(`nothing more can be written to ${this.file.path}`);
        written += bytesWritten;
      }
    } catch (thrown) {
      // Best effort: what stays is overwritten by the next append, and is not a block that anyone acknowledged.
      await this.#handle.truncate(this.#endOffset).catch(() => {});
      throw thrown;
    }
    try {
      await this.#handle.datasync();
    } catch (thrown) {
      this.#sealed = true;
      await this.#handle.truncate(this.#endOffset).catch(() => {});
      throw thrown;
    }
    this.#endOffset += encoded.bytes.length;
    this.#seriesCount = encoded.seriesCount;
    for (const [text, id] of encoded.newIds) this.#ids.set(text, id);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

export interface Encoded {
  readonly bytes: Buffer;
  readonly newIds: ReadonlyMap<string, number>;
  readonly seriesCount: number;
}

async function openOrCreate(path: string, openFile: OpenFile): Promise<{ handle: FileHandle; isNew: boolean }> {
  try {
    return { handle: await openFile(path, 'r+'), isNew: false };
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown;
    return { handle: await openFile(path, 'wx+'), isNew: true };
  }
}

async function recover(handle: FileHandle) {
  const scan = newScan();
  await extendScan(scan, handle);
  let { damagedBytes } = scan;
  let endOffset = 0;
  const { size } = await handle.stat();
  for (const block of scan.blocks) {
    if (await isWhole(handle, block)) endOffset = block.offset + block.headBytes + block.rowBytes;
    else damagedBytes += block.rowBytes;
  }
  if (endOffset < size) {
    await handle.truncate(endOffset);
    await handle.datasync();
  }
  const ids = new Map<string, number>();
  let seriesCount = 0;
  for (const block of scan.blocks) {
    if (block.offset >= endOffset) {
      damagedBytes -= block.rowBytes;
      continue;
    }
    block.newSeries.forEach((series, i) => {
      ids.set(series.text, block.firstSeries + i);
    });
    seriesCount = Math.max(seriesCount, block.firstSeries + block.newSeries.length);
  }
  return { ids, seriesCount, endOffset, recovery: { cutBytes: size - endOffset, damagedBytes } };
}

async function isWhole(handle: FileHandle, block: Block): Promise<boolean> {
  const rows = await readAt(handle, block.offset + block.headBytes, block.rowBytes);
  return block.groupOffset.every(
    (start, group) => crc32(rows.subarray(start, groupEnd(block, group))) === block.groupCrc[group],
  );
}

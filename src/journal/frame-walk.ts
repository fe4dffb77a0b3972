/**
 * Reads the frames of one segment file from its beginning, in chunks. Values handed out share a chunk's memory, and a
 * chunk is never reused.
 */
import { type Files, type OpenFile, readAll } from './files.ts';
import {
  checkFrame,
  type FrameBuffer,
  findFrame,
  frameBuffer,
  frameGroupFirst,
  frameOffset,
  MAX_FRAME_BYTES,
} from './frame.ts';
import type { Landmark } from './landmarks.ts';
import { SEGMENT_HEAD_BYTES, segmentPath } from './segment.ts';

/** Bytes read at once: the least at the end of the log, more and more while there is much to read. */
const LEAST_CHUNK_BYTES = 16 * 2 ** 10;
const MOST_CHUNK_BYTES = 2 ** 20;
/** Zeros at the end of a file are passed over in blocks of this size. */
const ZERO_BLOCK = Buffer.alloc(64 * 2 ** 10);

/** Called for each valid frame in offset order. */
export type VisitFrame = (source: FrameBuffer, at: number, offset: number, position: number) => void;

export class FrameWalk {
  readonly path: string;
  /** Byte in the file where the next frame is expected. */
  position = SEGMENT_HEAD_BYTES;
  /** The offset that it is expected to have. */
  offset: number;
  readonly #file: OpenFile;
  #chunkBytes = LEAST_CHUNK_BYTES;

  private constructor(path: string, file: OpenFile, first: number) {
    this.path = path;
    this.#file = file;
    this.offset = first;
  }

  static async open(files: Files, folder: string, first: number): Promise<FrameWalk> {
    const path = segmentPath(folder, first);
    return new FrameWalk(path, await files.open(path, 'read'), first);
  }

  /** Goes on at a place of this segment where a walk has been. */
  jump({ offset, position }: Landmark): void {
    this.offset = offset;
    this.position = position;
  }

  /**
   * Visits the frames of one chunk, as long as their offset is below `limit`. 'end': no valid frame stands at
   * `position`; a frame may appear there later, or it is the end, or damage: only the caller can know.
   */
  async step(limit: number, visit: VisitFrame): Promise<'more' | 'end'> {
    let size = this.#chunkBytes;
    for (;;) {
      const source = frameBuffer(Buffer.allocUnsafeSlow(size));
      const read = await readAll(this.#file, source.bytes, this.position);
      let at = 0;
      let length = 0;
      while (this.offset < limit) {
        length = checkFrame(source, at, read);
        if (length <= 0 || frameOffset(source, at) !== this.offset) break;
        visit(source, at, this.offset, this.position + at);
        at += length;
        this.offset++;
      }
      this.position += at;
      if (this.offset >= limit) return 'more';
      if (length === -1 && read === size) {
        this.#chunkBytes = Math.min(this.#chunkBytes * 2, MOST_CHUNK_BYTES);
        if (at > 0) return 'more';
        // One frame is larger than the chunk.
        size = Math.min(Math.max(source.view.getUint32(0, true), size * 2), MAX_FRAME_BYTES + 1);
        continue;
      }
      this.#chunkBytes = LEAST_CHUNK_BYTES;
      return 'end';
    }
  }

  /** Whether a frame behind `position` proves that the record expected there was durable once. */
  async wasDurable(): Promise<boolean> {
    const { source, searchEnd } = await this.#rest();
    for (let at = 0; ; at++) {
      at = findFrame(source, at, searchEnd, this.offset, Number.POSITIVE_INFINITY);
      if (at < 0) return false;
      if (frameGroupFirst(source, at) > this.offset) return true;
    }
  }

  /**
   * Moves to the next valid frame behind the damage whose offset is below `limit`. Where there is none `offset` becomes
   * `limit`, and nothing moves when that is infinite.
   */
  async skipDamage(limit: number): Promise<void> {
    const { source, searchEnd } = await this.#rest();
    // It may have been written meanwhile. Otherwise, where the length survived, the next frame begins behind it: a search
    // could find bytes inside the damaged value.
    let found = findFrame(source, 0, Math.min(1, searchEnd), this.offset, limit);
    if (found < 0) {
      const behind = source.bytes.length >= 4 ? source.view.getUint32(0, true) : 0;
      found = findFrame(source, behind, Math.min(behind + 1, searchEnd), this.offset + 1, limit);
    }
    if (found < 0) found = findFrame(source, 0, searchEnd, this.offset, limit);
    if (found < 0) {
      if (limit !== Number.POSITIVE_INFINITY) this.offset = limit;
      return;
    }
    this.position += found;
    this.offset = frameOffset(source, found);
  }

  /** Bytes from `position` to the last one that is not zero. */
  async tornBytes(): Promise<number> {
    const { source, searchEnd } = await this.#rest();
    let end = searchEnd;
    while (end > 0 && source.bytes[end - 1] === 0) end--;
    return end;
  }

  /** Everything from `position` on; `searchEnd` leaves most of the zeros at the end of the file out. */
  async #rest(): Promise<{ source: FrameBuffer; searchEnd: number }> {
    const size = await this.#file.size();
    const bytes = Buffer.alloc(Math.max(0, size - this.position));
    let searchEnd = await readAll(this.#file, bytes, this.position);
    const block = ZERO_BLOCK.length;
    while (searchEnd >= block && bytes.compare(ZERO_BLOCK, 0, block, searchEnd - block, searchEnd) === 0) {
      searchEnd -= block;
    }
    return { source: frameBuffer(bytes), searchEnd };
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

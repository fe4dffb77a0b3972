/**
 * The segments on disk as the writer knows them: how many bytes they take, which one is written to, which may go.
 * No decisions about health: every method rejects with the system error, and says what then holds.
 */
import { type Files, type OpenFile, writeAll } from './files.ts';
import type { KeptSegment, Recovered, SegmentEnd } from './recovery.ts';
import { createSegment, SEGMENT_HEAD_BYTES, segmentPath } from './segment.ts';

interface ActiveSegment {
  readonly first: number;
  readonly file: OpenFile;
  /** Durable bytes: the next group goes here. */
  bytes: number;
}

export class SegmentSet {
  readonly #files: Files;
  readonly #folder: string;
  /** No longer written to, each with at least one durable record, the oldest first. */
  readonly #sealed: KeptSegment[];
  /** Where the log began, should there be no segment before the next one. */
  readonly #origin: number;
  #active: ActiveSegment | null = null;
  #previous: SegmentEnd | null;
  #leftovers: number[];
  #sealedBytes = 0;

  constructor(files: Files, folder: string, { segments, previous, leftovers, origin }: Recovered) {
    this.#files = files;
    this.#folder = folder;
    this.#sealed = [...segments];
    this.#previous = previous;
    this.#origin = origin;
    this.#leftovers = [...leftovers];
    for (const { bytes } of segments) this.#sealedBytes += bytes;
  }

  get activeFirst(): number | null {
    return this.#active?.first ?? null;
  }

  /** Bytes of the active segment, its head included; 0 without one. */
  get activeBytes(): number {
    return this.#active?.bytes ?? 0;
  }

  get totalBytes(): number {
    return this.#sealedBytes + this.activeBytes;
  }

  /** Offset of the oldest record; `end` while there is none. */
  firstOffset(end: number): number {
    return this.#sealed[0]?.first ?? this.#active?.first ?? end;
  }

  /** Makes the segment that the next group goes to. The one before it was retired. After a rejection there is none. */
  async begin(first: number, floorMs: number, preallocateBytes: number, probeBytes: number): Promise<void> {
    const previous = this.#previous ?? { first, end: this.#origin, bytes: 0 };
    const head = {
      first,
      previousFirst: previous.first,
      previousEnd: previous.end,
      previousBytes: previous.bytes,
      floorMs,
    };
    const leftovers = this.#leftovers.filter((leftover) => leftover !== first);
    // It may have got its name although making it failed.
    this.#leftovers.push(first);
    const file = await createSegment(this.#files, this.#folder, head, preallocateBytes, probeBytes);
    this.#active = { first, file, bytes: SEGMENT_HEAD_BYTES };
    // Void now, as the new head says; a file that stays is removed at the next start.
    this.#leftovers = [];
    for (const old of leftovers) await this.#files.remove(segmentPath(this.#folder, old)).catch(() => undefined);
  }

  /** Durable when it resolves. After a rejection the segment must be retired. */
  async write(buffers: readonly Uint8Array[], bytes: number): Promise<void> {
    const active = this.#active!;
    await writeAll(active.file, buffers, active.bytes);
    await active.file.datasync();
    active.bytes += bytes;
  }

  /**
   * Ends the active segment at its durable bytes; `end` is one past its last durable record. Never rejects: what is
   * behind those bytes, zeros or a group that failed, is void by the next segment's head, cut off here or not.
   */
  async retire(end: number): Promise<void> {
    const active = this.#active;
    if (!active) return;
    this.#active = null;
    const { first, bytes, file } = active;
    if (end > first) {
      this.#sealed.push({ first, bytes });
      this.#sealedBytes += bytes;
      this.#previous = { first, end, bytes };
    } else {
      this.#leftovers.push(first);
    }
    await file.close().catch(() => undefined);
    await this.#cut(first, bytes).catch(() => undefined);
  }

  /** Through a new descriptor: the old one may have seen a failed fdatasync. */
  async #cut(first: number, bytes: number): Promise<void> {
    const file = await this.#files.open(segmentPath(this.#folder, first), 'update');
    try {
      await file.truncate(bytes);
    } finally {
      await file.close();
    }
  }

  /** Whether the oldest segment may go: every record in it is below `offset`, and another one carries the end. */
  oldestIsBelow(offset: number): boolean {
    if (this.#sealed.length === 0) return false;
    const next = this.#sealed[1]?.first ?? this.#active?.first;
    return next !== undefined && next <= offset;
  }

  /** The folder is synced after each one: files never vanish out of order. */
  async deleteOldest(): Promise<void> {
    const oldest = this.#sealed[0]!;
    await this.#files.remove(segmentPath(this.#folder, oldest.first));
    this.#sealed.shift();
    this.#sealedBytes -= oldest.bytes;
    await this.#files.syncFolder(this.#folder);
  }
}

/**
 * Room in the spool: which append would exceed maxBytes, and which segments may go to make room. Looks at the readers'
 * checkpoints about every second, ten times as often while the spool is full, and after every new segment.
 */
import { type Failure, fail, messageOf } from '../errors.ts';
import type { Telemetry } from '../telemetry.ts';
import { formatBytes } from '../units.ts';
import type { ReaderCursors } from './reader-cursors.ts';
import { SEGMENT_HEAD_BYTES } from './segment.ts';
import type { SegmentSet } from './segment-set.ts';

export interface SpoolRoomOptions {
  readonly maxBytes: number;
  readonly segmentBytes: number;
  readonly historyBytes: number;
  readonly refreshIntervalMs: number;
  readonly segments: SegmentSet;
  readonly cursors: ReaderCursors;
  readonly telemetry: Telemetry;
  /** Bytes accepted that are not in a segment yet. */
  readonly pendingBytes: () => number;
  readonly durableEnd: () => number;
  /** Appends are refused from now on. */
  readonly stopped: (failure: Failure) => void;
  /** Begins a new segment, so that the active one may be deleted: nobody needs what is in it. */
  readonly turnOver: () => void;
}

export class SpoolRoom {
  readonly #options: SpoolRoomOptions;
  /** Set: the last append was refused for want of this many bytes. */
  #full: { readonly failure: Failure; readonly bytes: number } | null = null;
  #refreshing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(options: SpoolRoomOptions) {
    this.#options = options;
    options.telemetry.spoolLimitBytes.set(options.maxBytes);
  }

  /** Why the spool refuses for want of room, null when it does not. */
  get failure(): Failure | null {
    return this.#full?.failure ?? null;
  }

  /** Null: a frame of this many bytes may be appended. */
  refusal(bytes: number): Failure | null {
    if (this.#free() >= bytes) {
      if (this.#full) this.#freed();
      return null;
    }
    const { maxBytes, stopped } = this.#options;
    if (bytes + 2 * SEGMENT_HEAD_BYTES > maxBytes) {
      return fail('RECORD_TOO_LARGE', `a record of ${bytes} bytes is larger than the whole spool may be`).failure;
    }
    if (this.#full) return this.#full.failure;
    const message = `the spool is full (${formatBytes(maxBytes)}): its readers have to catch up, or spool.max has to grow`;
    const { failure } = fail('SPOOL_FULL', message, { retryable: true });
    this.#full = { failure, bytes };
    stopped(failure);
    this.schedule();
    return failure;
  }

  /** Looks at the checkpoints now. Never rejects. */
  release(): Promise<void> {
    this.#refreshing = this.#refreshing.then(() => this.#release());
    return this.#refreshing;
  }

  schedule(): void {
    if (this.#ended) return;
    clearTimeout(this.#timer);
    const { refreshIntervalMs } = this.#options;
    const again = () => void this.release().then(() => this.schedule());
    this.#timer = setTimeout(again, this.#full ? refreshIntervalMs / 10 : refreshIntervalMs).unref();
  }

  /** Resolves when no deletion is under way any more. */
  end(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    return this.#refreshing;
  }

  /** A segment's head may come on top of a frame. */
  #free(): number {
    const { maxBytes, segments, pendingBytes } = this.#options;
    return maxBytes - segments.totalBytes - pendingBytes() - SEGMENT_HEAD_BYTES;
  }

  #freed(): void {
    this.#full = null;
    this.#options.telemetry.limited('info', 'spool-full-over', {}, 'the spool has room and accepts again');
  }

  async #release(): Promise<void> {
    const { maxBytes, historyBytes, segmentBytes, segments, cursors, telemetry, durableEnd, turnOver } = this.#options;
    await cursors.refresh();
    // Room for the segment being written and the next one: what may go has gone before the spool is full.
    const headroom = 2 * segmentBytes + (this.#full?.bytes ?? 0);
    const keepBytes = Math.min(historyBytes, maxBytes - headroom);
    try {
      while (segments.totalBytes > keepBytes && segments.oldestIsBelow(cursors.slowest)) await segments.deleteOldest();
    } catch (error) {
      const message = `a segment that nobody needs cannot be deleted: ${messageOf(error)}`;
      telemetry.limited('warn', 'spool-delete', {}, message);
    }
    if (this.#full) {
      if (this.#free() >= this.#full.bytes) this.#freed();
      else if (cursors.slowest >= durableEnd()) turnOver();
    }
    telemetry.spoolBytes.set(segments.totalBytes);
    const backlog = cursors.backlog(segments.firstOffset(durableEnd()), durableEnd());
    telemetry.spoolBacklog.set(Math.max(0, ...Object.values(backlog)));
  }
}

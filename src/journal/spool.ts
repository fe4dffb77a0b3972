/**
 * The spool: the log of src/log.ts as segment files in one folder, one partition. This is the writer; one per folder
 * (locked). It is the outage buffer in front of Kafka, and without Kafka it is the log. Who reads it uses
 * spool-reader.ts, in this thread, in another one or in another process.
 *
 * Append: called on the main thread for every publish. `onDurable` fires in the order of the appends: with ok after the
 * record and all before it are written and fdatasynced, with a failure when the record was refused or may be lost.
 * `appendBatch` is the same for records that are one: they are in the log all together or not at all, after a crash too.
 * A failure is one of SPOOL_FULL, SPOOL_NO_SPACE, SPOOL_IO (all may be tried again), RECORD_TOO_LARGE, SPOOL_CLOSED.
 *
 * Commit: one loop takes all that is queued, writes it with one writev, syncs it, tells the callbacks. While busy, groups
 * start at least commitIntervalMs apart; an idle spool starts at once.
 *
 * Failure: when a write or an fdatasync fails, the group and all that is queued behind it fail, and every append is refused
 * with that failure until the spool is healthy again. Nothing is retried on that file. Every probeIntervalMs the spool
 * tries to begin a new segment, really writing about as much as failed; when that is durable it accepts again. The
 * offsets of what failed are never given again: the new segment begins after them and its head declares them void.
 *
 * Limits: all segments together stay within maxBytes; when they would not, appends are refused with SPOOL_FULL and are
 * accepted again as soon as there is room. Room comes from deletion: whole segments whose records all `readers` have
 * passed durably, the oldest first, as long as the total is above historyBytes (less where that leaves no room to
 * write). A reader that never committed holds everything.
 *
 * Files in the folder: `*.seg` (segment.ts, frame.ts), `cursors/` (cursor.ts), `clean` (the end offset at the last
 * clean shutdown, as a cursor), `lock` (folder-lock.ts). What a start does with them: recovery.ts.
 */
import { join } from 'node:path';
import { done, type Failure, fail, type Outcome, succeed } from '../errors.ts';
import type { LogWriter, NewRecord } from '../log.ts';
import { pause } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import { formatBytes } from '../units.ts';
import { CursorWriter } from './cursor.ts';
import type { Damage } from './damage.ts';
import { type Files, type FolderLock, nodeFiles } from './files.ts';
import { frameBytesAtMost, sizeFailure } from './frame.ts';
import { ioFailure } from './io-failure.ts';
import { Progress } from './progress.ts';
import { ReaderCursors } from './reader-cursors.ts';
import { CLEAN_NAME, type Recovered, recover } from './recovery.ts';
import { NewerFormat, SEGMENT_HEAD_BYTES } from './segment.ts';
import { SegmentSet } from './segment-set.ts';
import type { SpoolOptions, SpoolStats } from './spool-options.ts';
import { SpoolRoom } from './spool-room.ts';
import { ChunkPool, type OnDurable, Staging } from './staging.ts';

const COMMIT_INTERVAL_MS = 5;
const PROBE_INTERVAL_MS = 1_000;
const REFRESH_INTERVAL_MS = 1_000;
/** Encoded records that wait for the disk. */
const MAX_QUEUED_BYTES = 64 * 2 ** 20;
/** What a probe writes at most, and at least. */
const MAX_PROBE_BYTES = 2 ** 20;
const MIN_PROBE_BYTES = 64 * 2 ** 10;
/** A crash leaves this much to be looked through at the next start. */
const MAX_SEGMENT_BYTES = 2 ** 30;

/** DATA_LOCKED: another process has the folder. DATA_DAMAGED: written by a newer version. SPOOL_IO: it cannot be read. */
export async function openSpool(options: SpoolOptions): Promise<Outcome<Spool>> {
  const { folder, files = nodeFiles } = options;
  let lock: FolderLock | null = null;
  try {
    await files.makeFolder(folder);
    const locked = await files.lock(folder);
    if (!locked.ok) return locked;
    lock = locked.value;
    const spool = new Spool(options, files, lock, await recover(files, folder));
    await spool.start();
    return succeed(spool);
  } catch (error) {
    await lock?.release();
    if (error instanceof NewerFormat) return fail('DATA_DAMAGED', error.message);
    return { ok: false, failure: ioFailure(`the spool in ${folder} cannot be opened`, error) };
  }
}

export class Spool {
  /** Damage found at the start; readers report what they come across themselves. */
  readonly damage: readonly Damage[];
  /** The log's append, for those who have a list at hand. Closing it leaves the spool open. */
  readonly writer: LogWriter;
  readonly #options: SpoolOptions;
  readonly #files: Files;
  readonly #lock: FolderLock;
  readonly #telemetry: Telemetry;
  readonly #segments: SegmentSet;
  readonly #cursors: ReaderCursors;
  readonly #room: SpoolRoom;
  readonly #progress = new Progress();
  readonly #pool = new ChunkPool();
  readonly #segmentBytes: number;
  #staging: Staging;
  /** Bytes of the group that is being written. */
  #writingBytes = 0;
  #durableEnd: number;
  /** Offsets given to nobody since the start, and the end of the last such hole. */
  #voided = 0;
  #voidTo = 0;
  #lastReceivedMs: number;
  /** Set: every append is refused with it, until a probe succeeds. */
  #failure: Failure | null = null;
  #probeBytes = 0;
  /** A new segment is wanted, though the active one has room. */
  #turnOver = false;
  #loop: Promise<void> | null = null;
  #lastCommitMs = Number.NEGATIVE_INFINITY;
  #probing: Promise<void> = Promise.resolve();
  #probeTimer: NodeJS.Timeout | undefined;
  #closing: Promise<void> | null = null;

  /** Use openSpool. */
  constructor(options: SpoolOptions, files: Files, lock: FolderLock, recovered: Recovered) {
    this.#options = options;
    this.#files = files;
    this.#lock = lock;
    this.#telemetry = options.telemetry;
    this.#segmentBytes = Math.min(options.segmentBytes, MAX_SEGMENT_BYTES);
    this.#segments = new SegmentSet(files, options.folder, recovered);
    this.#cursors = new ReaderCursors(files, options.folder, options.readers, options.holders);
    this.#room = new SpoolRoom({
      ...options,
      segmentBytes: this.#segmentBytes,
      refreshIntervalMs: options.refreshIntervalMs ?? REFRESH_INTERVAL_MS,
      segments: this.#segments,
      cursors: this.#cursors,
      pendingBytes: () => this.#writingBytes + this.#staging.bytes,
      durableEnd: () => this.#durableEnd,
      stopped: (failure) => this.#stopped(failure),
      turnOver: () => {
        this.#turnOver = this.#failure === null;
        this.#wake();
      },
    });
    this.#staging = new Staging(this.#pool, recovered.endOffset);
    this.#lastReceivedMs = recovered.lastReceivedMs;
    // Until there is a segment to write to, readers may read what was there before, and no further.
    this.#durableEnd = recovered.previous?.end ?? recovered.endOffset;
    this.#progress.announceSegment(recovered.previous?.first ?? recovered.endOffset);
    this.#progress.advance(this.#durableEnd);
    this.damage = recovered.damage;
    this.writer = { partitions: 1, append: (records) => this.appendAll(records), close: () => Promise.resolve() };
    for (const { file, position, failure } of recovered.damage) {
      this.#telemetry.log.error({ file, position, code: failure.code }, failure.message);
    }
    if (recovered.tornBytes > 0) {
      const message = `${formatBytes(recovered.tornBytes)} at the end of the spool were never acknowledged and are left out`;
      this.#telemetry.log.info({ bytes: recovered.tornBytes }, message);
    }
  }

  /** Use openSpool. Resolves also when there is no room to write: then the spool is open and not healthy. */
  async start(): Promise<void> {
    await this.#probe();
    await this.release();
    this.#room.schedule();
  }

  /** Memory to be shared with readers in other threads: how far the spool is durable. */
  get progress(): SharedArrayBuffer {
    return this.#progress.shared;
  }

  /** The latest stamp of a durable record, 0 without any: the gateway's clock does not go below it. */
  get lastReceivedMs(): number {
    return this.#lastReceivedMs;
  }

  append(record: NewRecord, onDurable: OnDurable): void {
    const failure = this.#refusal(record);
    if (failure) this.#staging.refuse(failure, onDurable);
    else this.#staging.add(record, onDurable);
    this.#wake();
  }

  /** All of them or none; of no records it is an append of nothing, settled in its turn. */
  appendBatch(records: readonly NewRecord[], onDurable: OnDurable): void {
    const failure = this.#batchRefusal(records);
    if (failure) this.#staging.refuse(failure, onDurable);
    else this.#staging.addBatch(records, onDurable);
    this.#wake();
  }

  /** Resolves when all are durable, or with the first failure. */
  appendAll(records: readonly NewRecord[]): Promise<Outcome> {
    return new Promise((resolve) => {
      let waiting = records.length;
      let first: Outcome = done;
      if (waiting === 0) resolve(done);
      for (const record of records) {
        this.append(record, (outcome) => {
          if (first.ok) first = outcome;
          if (--waiting === 0) resolve(first);
        });
      }
    });
  }

  stats(): SpoolStats {
    const endOffset = this.#durableEnd;
    const firstOffset = this.#segments.firstOffset(endOffset);
    const backlog = this.#cursors.backlog(firstOffset, endOffset);
    const failure = this.#failure ?? this.#room.failure;
    const { totalBytes: bytes } = this.#segments;
    const limitBytes = this.#options.maxBytes;
    const [voided, voidTo] = [this.#voided, this.#voidTo];
    return { bytes, limitBytes, firstOffset, endOffset, backlog, voided, voidTo, healthy: failure === null, failure };
  }

  /** Looks at the readers' checkpoints and deletes what may go. Happens by itself about every second. */
  release(): Promise<void> {
    return this.#room.release();
  }

  /** Everything appended is durable or has failed, the folder is free for another. Later appends: SPOOL_CLOSED. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #refusal(record: NewRecord): Failure | null {
    if (this.#closing || this.#failure) return this.#unwell();
    const tooLarge = sizeFailure(record);
    if (tooLarge) return tooLarge;
    return this.#roomFailure(frameBytesAtMost(record));
  }

  #batchRefusal(records: readonly NewRecord[]): Failure | null {
    if (this.#closing || this.#failure) return this.#unwell();
    let bytes = 0;
    for (const record of records) {
      const tooLarge = sizeFailure(record);
      if (tooLarge) return tooLarge;
      bytes += frameBytesAtMost(record);
    }
    return bytes === 0 ? null : this.#roomFailure(bytes);
  }

  #unwell(): Failure | null {
    return this.#closing ? fail('SPOOL_CLOSED', 'the spool is closed').failure : this.#failure;
  }

  #roomFailure(bytes: number): Failure | null {
    const staged = this.#staging.bytes;
    if (staged > 0 && staged + bytes > MAX_QUEUED_BYTES) {
      const message = `${formatBytes(staged)} already wait for the disk, the limit is ${formatBytes(MAX_QUEUED_BYTES)}`;
      this.#telemetry.limitReached.inc({ limit: 'spool.queue' });
      return fail('SPOOL_IO', message, { retryable: true }).failure;
    }
    return this.#room.refusal(bytes);
  }

  #stopped(failure: Failure): void {
    const { code } = failure;
    this.#telemetry.spoolFailures.inc({ code });
    this.#telemetry.limited('error', `spool-${code}`, { code }, `nothing is acknowledged: ${failure.message}`);
  }

  #wake(): void {
    this.#loop ??= this.#commitSoon();
  }

  async #commitSoon(): Promise<void> {
    // The rest of this turn of the event loop may append more: all of it shares one commit.
    await new Promise<void>((resolve) => setImmediate(resolve));
    await this.#commitAll();
  }

  async #commitAll(): Promise<void> {
    const { clock, commitIntervalMs = COMMIT_INTERVAL_MS } = this.#options;
    while (!this.#staging.isEmpty || this.#turnOver) {
      const waitMs = this.#lastCommitMs + commitIntervalMs - clock.monotonicMs();
      if (waitMs > 0) await pause(waitMs);
      this.#lastCommitMs = clock.monotonicMs();
      const group = this.#staging;
      this.#staging = new Staging(this.#pool, group.first + group.count);
      await this.#commit(group);
    }
    this.#loop = null;
  }

  async #commit(group: Staging): Promise<void> {
    const { clock } = this.#options;
    const startMs = clock.monotonicMs();
    this.#writingBytes = group.bytes;
    try {
      const { activeBytes } = this.#segments;
      const overflows = group.count > 0 && activeBytes + group.bytes > this.#segmentBytes;
      if (!this.#failure && activeBytes > SEGMENT_HEAD_BYTES && (overflows || this.#turnOver)) await this.#rotate();
      this.#turnOver = false;
      if (group.count > 0) await this.#segments.write(group.buffers(), group.bytes);
    } catch (error) {
      this.#turnOver = false;
      this.#writingBytes = 0;
      return this.#fail(ioFailure('the spool cannot write', error), group);
    }
    this.#writingBytes = 0;
    if (group.count > 0) {
      this.#durableEnd = group.first + group.count;
      this.#lastReceivedMs = Math.max(this.#lastReceivedMs, group.lastReceivedMs);
      this.#progress.advance(this.#durableEnd);
      this.#telemetry.spoolCommitSeconds.observe((clock.monotonicMs() - startMs) / 1_000);
    }
    group.settle(done);
  }

  async #rotate(): Promise<void> {
    await this.#segments.retire(this.#durableEnd);
    await this.#begin(this.#durableEnd, 0);
    void this.release();
  }

  async #begin(first: number, probeBytes: number): Promise<void> {
    await this.#segments.begin(first, this.#lastReceivedMs, this.#segmentBytes, probeBytes);
    this.#progress.announceSegment(first);
  }

  async #fail(failure: Failure, group: Staging): Promise<void> {
    this.#failure = failure;
    this.#probeBytes = Math.min(MAX_PROBE_BYTES, Math.max(MIN_PROBE_BYTES, group.bytes));
    const queued = this.#staging;
    this.#staging = new Staging(this.#pool, queued.first + queued.count);
    this.#stopped(failure);
    group.settle({ ok: false, failure });
    queued.settle({ ok: false, failure });
    await this.#segments.retire(this.#durableEnd);
    this.#scheduleProbe();
  }

  #scheduleProbe(): void {
    if (this.#closing) return;
    const { probeIntervalMs = PROBE_INTERVAL_MS } = this.#options;
    this.#probeTimer = setTimeout(() => {
      this.#probing = this.#probe();
    }, probeIntervalMs).unref();
  }

  /** Begins a segment while none is being written to; nothing is staged meanwhile, so its first offset holds. */
  async #probe(): Promise<void> {
    const { first } = this.#staging;
    try {
      await this.#begin(first, this.#probeBytes);
    } catch (error) {
      this.#failure = ioFailure('the spool cannot write', error);
      this.#stopped(this.#failure);
      this.#scheduleProbe();
      return;
    }
    this.#voided += first - this.#durableEnd;
    if (first > this.#durableEnd) this.#voidTo = first;
    this.#durableEnd = first;
    this.#progress.advance(first);
    if (this.#failure) this.#telemetry.limited('info', 'spool-healthy', {}, 'the spool can write and accepts again');
    this.#failure = null;
  }

  async #close(): Promise<void> {
    await this.#loop;
    clearTimeout(this.#probeTimer);
    await this.#probing;
    await this.#room.end();
    await this.#loop;
    await this.#segments.retire(this.#durableEnd);
    const clean = new CursorWriter(this.#files, join(this.#options.folder, CLEAN_NAME));
    const stored = await clean.write({ offset: this.#durableEnd, metadata: '' });
    if (!stored.ok) this.#telemetry.log.warn({ code: stored.failure.code }, stored.failure.message);
    await clean.close();
    await this.#lock.release();
  }
}

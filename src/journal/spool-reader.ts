/**
 * Reads a spool: the log of src/log.ts with the one partition 0. Any number of readers, in any thread or process; they
 * lock nothing and write nothing but their own checkpoints (cursor.ts). A reader in the writer's process is given the
 * spool's `progress`, learns of new records at once, or after its rest, and never sees one that is not durable; others look
 * every POLL_MS.
 *
 * What cannot be read is passed over and reported: `damage`, the log, and the hole in the offsets of the batches.
 * Reading errors (EIO, a folder that is not there yet) are tried again for ever by `consume`; `range` throws them.
 * Groups are not coordinated: that one consumer at a time reads for a group is up to whoever starts them.
 */
import type { Clock } from '../clock.ts';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import type { Checkpoint, ConsumerHandlers, LogBatch, LogConsumer, LogReader } from '../log.ts';
import type { Telemetry } from '../telemetry.ts';
import { CursorWriter, cursorPath, readCursor } from './cursor.ts';
import type { Damage } from './damage.ts';
import { type Files, nodeFiles } from './files.ts';
import { Landmarks } from './landmarks.ts';
import { LogWalk } from './log-walk.ts';
import { Progress } from './progress.ts';
import { findSegments, type SegmentHead } from './segment.ts';
import { SpoolConsumer } from './spool-consumer.ts';

export interface SpoolReaderOptions {
  readonly folder: string;
  /** `progress` of the spool, where it is open in this process. */
  readonly progress?: SharedArrayBuffer;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  readonly files?: Files;
  /** How long `stop` lets the batch under way run before its signal aborts. */
  readonly stopBatchMs?: number;
  /** A consumer that has read everything rests so long before it takes more: each look costs what a few records cost. Default: 0. */
  readonly restMs?: number;
}

export interface SpoolReader extends LogReader {
  /** What this reader passed over so far; at most MAX_DAMAGE entries. */
  readonly damage: readonly Damage[];
}

const MAX_DAMAGE = 1_000;
const STOP_BATCH_MS = 5_000;

export function openSpoolReader(options: SpoolReaderOptions): SpoolReader {
  return new FolderReader(options);
}

class FolderReader implements SpoolReader {
  readonly partitions = 1;
  readonly damage: Damage[] = [];
  readonly #folder: string;
  readonly #files: Files;
  readonly #telemetry: Telemetry;
  readonly #progress: Progress | null;
  readonly #heads = new Map<number, SegmentHead>();
  readonly #landmarks = new Landmarks();
  readonly #stopBatchMs: number;
  readonly #restMs: number;
  readonly #consumers = new Set<SpoolConsumer>();
  readonly #seenDamage = new Set<string>();
  /** Without progress: stands at the end of the log as last seen. */
  #tail: LogWalk | null = null;
  #tailBusy: Promise<unknown> = Promise.resolve();

  constructor(options: SpoolReaderOptions) {
    const { folder, progress, telemetry, files = nodeFiles, stopBatchMs = STOP_BATCH_MS, restMs = 0 } = options;
    this.#stopBatchMs = stopBatchMs;
    this.#restMs = restMs;
    this.#folder = folder;
    this.#files = files;
    this.#telemetry = telemetry;
    this.#progress = progress ? new Progress(progress) : null;
  }

  async consume(group: string, handlers: ConsumerHandlers): Promise<LogConsumer> {
    const cursor = new CursorWriter(this.#files, cursorPath(this.#folder, group));
    const consumer = new SpoolConsumer({
      handlers,
      cursor,
      telemetry: this.#telemetry,
      progress: this.#progress,
      stopBatchMs: this.#stopBatchMs,
      restMs: this.#restMs,
      offsets: () => this.#offsets(),
      checkpoint: () => this.checkpoint(group, 0),
      walk: (fromOffset) => this.#walk(fromOffset),
    });
    this.#consumers.add(consumer);
    consumer.start().finally(() => this.#consumers.delete(consumer));
    return consumer;
  }

  async offsets(partition: number): Promise<Outcome<{ firstOffset: number; endOffset: number }>> {
    mustBeZero(partition);
    return this.#tried(() => this.#offsets());
  }

  async offsetAtTime(partition: number, receivedMs: number): Promise<Outcome<number>> {
    mustBeZero(partition);
    return this.#tried(async () => {
      const { firstOffset, endOffset } = await this.#offsets();
      const { live } = await findSegments(this.#files, this.#folder, this.#heads);
      // All before a segment whose floor is below the time are below it too.
      const start = live.findLast(({ head }) => head !== null && head.floorMs < receivedMs)?.first ?? firstOffset;
      const walk = this.#walk(Math.max(start, firstOffset));
      try {
        for (;;) {
          const batch = await walk.next(endOffset);
          if (!batch) return endOffset;
          const found = batch.records.find((record) => record.receivedMs >= receivedMs);
          if (found) return found.offset;
        }
      } finally {
        await walk.close();
      }
    });
  }

  async *range(partition: number, fromOffset: number, toOffset: number): AsyncGenerator<LogBatch> {
    mustBeZero(partition);
    const { endOffset } = await this.#offsets();
    const stop = Math.min(toOffset, endOffset);
    if (fromOffset >= stop) return;
    const walk = this.#walk(fromOffset);
    try {
      for (;;) {
        const batch = await walk.next(stop);
        if (!batch) return;
        yield { partition: 0, records: batch.records, nextOffset: Math.min(batch.nextOffset, stop), endOffset };
      }
    } finally {
      await walk.close();
    }
  }

  async checkpoint(group: string, partition: number): Promise<Outcome<Checkpoint | null>> {
    mustBeZero(partition);
    const stored = await readCursor(this.#files, cursorPath(this.#folder, group));
    return stored.ok ? succeed(stored.value?.newest ?? null) : stored;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.stop()));
    await this.#tailBusy;
    await this.#tail?.close();
    this.#tail = null;
  }

  async #offsets(): Promise<{ firstOffset: number; endOffset: number }> {
    const { live } = await findSegments(this.#files, this.#folder, this.#heads);
    const endOffset = this.#progress?.durableEnd() ?? (await this.#seenEnd(live.at(-1)?.first ?? 0));
    // A hole before the oldest segment never held a record: whoever stands in it has missed nothing.
    const firstOffset = live[0]?.head?.previousEnd ?? live[0]?.first ?? endOffset;
    return { firstOffset: Math.min(firstOffset, endOffset), endOffset };
  }

  /** The end of the valid frames in the newest segment; goes on where it stopped the last time. */
  #seenEnd(newestFirst: number): Promise<number> {
    const seen = this.#tailBusy.then(async () => {
      this.#tail ??= this.#walk(newestFirst, false);
      while (await this.#tail.next());
      return Math.max(this.#tail.nextOffset, newestFirst);
    });
    this.#tailBusy = seen.catch(() => undefined);
    return seen;
  }

  #walk(fromOffset: number, reports = true): LogWalk {
    return new LogWalk({
      files: this.#files,
      folder: this.#folder,
      progress: this.#progress,
      heads: this.#heads,
      landmarks: this.#landmarks,
      fromOffset,
      onDamage: (damage) => reports && this.#report(damage),
    });
  }

  #report(damage: Damage): void {
    const { file, position, failure } = damage;
    const key = `${file} ${position}`;
    if (this.#seenDamage.has(key) || this.damage.length >= MAX_DAMAGE) return;
    this.#seenDamage.add(key);
    this.damage.push(damage);
    this.#telemetry.limited('error', `spool-damage-${key}`, { file, position, code: failure.code }, failure.message);
  }

  async #tried<T>(read: () => Promise<T>): Promise<Outcome<T>> {
    try {
      return succeed(await read());
    } catch (error) {
      const message = `the spool in ${this.#folder} cannot be read: ${messageOf(error)}`;
      return fail('SPOOL_IO', message, { retryable: true, cause: error });
    }
  }
}

function mustBeZero(partition: number): void {
  if (partition !== 0) throw new RangeError(`a spool has no partition ${partition}`);
}

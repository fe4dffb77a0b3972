/**
 * One consumer of a spool: the loop that hands batches to the handlers, and its checkpoints. States of its life:
 * waiting for the log to be readable -> assigned -> batches -> stopped (in order) or ended (a handler threw).
 */
import { type Failure, fail, messageOf, type Outcome } from '../errors.ts';
import type { Checkpoint, ConsumerHandlers, LogBatch, LogConsumer } from '../log.ts';
import { pause } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import type { CursorWriter } from './cursor.ts';
import { systemCode } from './files.ts';
import type { LogWalk } from './log-walk.ts';
import type { Progress } from './progress.ts';

export interface SpoolConsumerOptions {
  readonly handlers: ConsumerHandlers;
  readonly cursor: CursorWriter;
  readonly telemetry: Telemetry;
  readonly progress: Progress | null;
  /** How long `stop` lets the batch under way run before its signal aborts. */
  readonly stopBatchMs: number;
  /** With progress: how long one that has read everything rests before it takes more. */
  readonly restMs: number;
  readonly offsets: () => Promise<{ firstOffset: number; endOffset: number }>;
  readonly checkpoint: () => Promise<Outcome<Checkpoint | null>>;
  readonly walk: (fromOffset: number) => LogWalk;
}

/** Without progress: how often is looked for new records. */
const POLL_MS = 50;
/** With progress: the longest wait, should a notification be missed. */
const WAIT_MS = 500;
/** Pause after a reading error. */
const RETRY_MS = 1_000;
/** How long `stop` waits for a batch whose signal has aborted before it gives up on it. */
const STOP_ABORTED_MS = 2_000;

export class SpoolConsumer implements LogConsumer {
  readonly #options: SpoolConsumerOptions;
  /** Aborts the waiting for records. */
  readonly #stop = new AbortController();
  /** Aborts the batch under way. */
  readonly #giveUp = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #stopping: Promise<void> | null = null;
  #ended = false;
  /** As last known. */
  #endOffset = 0;
  #trouble: Failure | null = null;

  constructor(options: SpoolConsumerOptions) {
    this.#options = options;
  }

  /** Resolves when the consumer has stopped or ended. */
  start(): Promise<void> {
    this.#running = this.#run();
    return this.#running;
  }

  trouble(): Failure | null {
    return this.#trouble;
  }

  commit(partition: number, checkpoint: Checkpoint): Promise<Outcome> {
    if (partition !== 0) throw new RangeError(`a spool has no partition ${partition}`);
    return this.#options.cursor.write(checkpoint);
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stopInOrder();
    return this.#stopping;
  }

  async #stopInOrder(): Promise<void> {
    this.#stop.abort();
    if (!(await endsWithin(this.#running, this.#options.stopBatchMs))) {
      this.#giveUp.abort();
      await endsWithin(this.#running, STOP_ABORTED_MS);
    }
    try {
      if (!this.#ended) await this.#options.handlers.stopping();
    } finally {
      await this.#options.cursor.close();
    }
  }

  async #run(): Promise<void> {
    const { handlers, walk: openWalk } = this.#options;
    // The caller has its consumer before the first handler is called.
    await new Promise((resolve) => setImmediate(resolve));
    let walk: LogWalk | null = null;
    try {
      const from = await this.#assign();
      if (from === null) return;
      walk = openWalk(from);
      while (!this.#stop.signal.aborted) {
        const batch = await this.#read(walk);
        if (batch) await handlers.batch(batch, this.#giveUp.signal);
      }
    } catch (error) {
      this.#ended = true;
      handlers.ended(error);
    } finally {
      await walk?.close().catch(() => undefined);
    }
  }

  /** Where to start; null when stopped before the log could be read. */
  async #assign(): Promise<number | null> {
    const { offsets, checkpoint, handlers, telemetry } = this.#options;
    while (!this.#stop.signal.aborted) {
      const found = await this.#tried(async () => ({ ...(await offsets()), stored: await checkpoint() }));
      if (!found) continue;
      const { firstOffset, endOffset, stored } = found;
      if (!stored.ok) {
        if (stored.failure.retryable) this.#trouble = stored.failure;
        telemetry.limited('error', 'spool-checkpoint', { code: stored.failure.code }, stored.failure.message);
        if (stored.failure.retryable) {
          await pause(RETRY_MS, this.#stop.signal);
          continue;
        }
      }
      const kept = stored.ok ? stored.value : null;
      const starts = await handlers.assigned([{ partition: 0, checkpoint: kept, firstOffset, endOffset }]);
      return starts.get(0) ?? kept?.offset ?? firstOffset;
    }
    return null;
  }

  async #read(walk: LogWalk): Promise<LogBatch | null> {
    const { progress, offsets, restMs } = this.#options;
    return this.#tried(async () => {
      const batch = await walk.next();
      if (batch) {
        if (progress) this.#endOffset = progress.durableEnd();
        else if (batch.nextOffset >= this.#endOffset) this.#endOffset = (await offsets()).endOffset;
        return { partition: 0, ...batch, endOffset: Math.max(batch.nextOffset, this.#endOffset) };
      }
      if (!progress) {
        await pause(POLL_MS, this.#stop.signal);
        return null;
      }
      // While it rests the writer need not wake it, which is the dearer half of a look.
      if (restMs > 0) await pause(restMs, this.#stop.signal);
      await progress.waitBeyond(walk.nextOffset, WAIT_MS, this.#stop.signal);
      return null;
    });
  }

  /** Null after a pause when the file system fails; anything else that is thrown is a bug and ends the consumer. */
  async #tried<T>(read: () => Promise<T>): Promise<T | null> {
    try {
      const found = await read();
      this.#trouble = null;
      return found;
    } catch (error) {
      if (systemCode(error) === '') throw error;
      const message = `the spool cannot be read, trying again: ${messageOf(error)}`;
      this.#trouble = fail('SPOOL_IO', message, { retryable: true, cause: error }).failure;
      this.#options.telemetry.limited('error', 'spool-read', {}, message);
      await pause(RETRY_MS, this.#stop.signal);
      return null;
    }
  }
}

async function endsWithin(work: Promise<void>, ms: number): Promise<boolean> {
  const limit = new AbortController();
  const ended = work.then(() => true);
  try {
    return await Promise.race([ended, pause(ms, limit.signal).then(() => false)]);
  } finally {
    limit.abort();
  }
}

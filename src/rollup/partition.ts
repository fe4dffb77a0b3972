/**
 * One partition from its assignment to the next one: feeds its engine, and makes durable what the engine gives.
 *
 * A flush does, each step awaited, in this order and no other:
 *   1 closed rows into the store (rows that it refuses for good: to the dead letters, with the reason)
 *     and what `alerts:` makes of them into the log of alerts
 *   2 with two stages: closed panes into the panes topic, and behind them the tick that says that they are there
 *   3 late readings into the late log
 *   4 the commit, with the checkpoint that belongs to exactly these rows and readings
 * A crash between any two of them repeats the earlier ones with equal content; a commit that came first could lose rows.
 *
 * Whatever fails is tried again for ever: a store that is down delays this partition, not the others, and loses nothing that
 * the log still has. Reading stops when more than a flush is pending. When the partition is taken away, or a flush was
 * given up, all that is held here is void: nothing is committed from it any more, the next owner does it again.
 */
import type { Clock } from '../clock.ts';
import type { Failure, Outcome } from '../errors.ts';
import type { Checkpoint, LogBatch, LogRecord, StoredRecord } from '../log.ts';
import { backoff, type pause } from '../retry.ts';
import type { Row } from '../row.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Taken } from './engine.ts';

/** Rows or late readings of one partition at which reading waits for a flush. */
export const MAX_PENDING_ROWS = 20_000;
/** What a flush has under way, and what gathers meanwhile. One record that closes a window of many series may exceed it. */
export const MAX_WAITING_ROWS = 2 * MAX_PENDING_ROWS;
export const MAX_PENDING_LATE = 5_000;
/** How often a partition without room for new series looks for room. */
const ROOM_POLL_MS = 500;

export interface RefusedRow {
  readonly row: Row;
  readonly reason: string;
}

export interface RowStore {
  /** Resolves with ok when every row is durable, but for those that the store will never take. Rows may come again. */
  write(rows: readonly Row[], signal: AbortSignal): Promise<Outcome<{ readonly refused: readonly RefusedRow[] }>>;
  /** Running values of open windows, for looking at; may be lost. */
  running?(rows: readonly Row[]): Promise<Outcome>;
}

/** What a partition needs of the engine; tests put planted mistakes around it. */
export interface PartitionEngine {
  readonly position: number;
  readonly pendingRows: number;
  readonly pendingLate: number;
  readonly frontierMs: number;
  process(record: StoredRecord): boolean;
  take(): Taken;
}

export interface PartitionOptions {
  readonly partition: number;
  readonly store: RowStore;
  /** To the partition of the late log that has the same number: there one repair has all of a window's. */
  appendLate(partition: number, records: readonly LogRecord[]): Promise<Outcome>;
  /** With two stages, of the first: to the partition of the panes topic that has the same number. */
  appendPanes?(partition: number, records: readonly LogRecord[]): Promise<Outcome>;
  deadLetter(refused: readonly RefusedRow[]): Promise<Outcome>;
  commit(partition: number, checkpoint: Checkpoint): Promise<Outcome>;
  /** Resolves with ok when the alerts that these rows raise are durable. */
  readonly alert?: ((rows: readonly Row[]) => Promise<Outcome>) | undefined;
  onClosed?(rows: readonly Row[]): void;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  readonly pause: typeof pause;
}

/** Nobody but a person, or the windows that close, can help: so it is said as long as it lasts. */
const FULL: Failure = {
  code: 'ROLLUP_FULL',
  message:
    'as many series are open as rollup.max_series allows: reading waits, nothing is lost; raise the limit, or start another process',
  retryable: false,
};

/** What a partition waits for, since when, and the last answer. */
export interface Waiting {
  readonly for: 'store' | 'dead letters' | 'panes topic' | 'late log' | 'alert log' | 'log' | 'room for new series';
  readonly sinceMs: number;
  readonly failure: Failure | null;
}

export class PartitionRollup<E extends PartitionEngine> {
  readonly engine: E;
  readonly #options: PartitionOptions;
  readonly #void = new AbortController();
  readonly #backoff = backoff();
  #signal: AbortSignal | null = null;
  #stopping = false;
  #flushing: Promise<void> | null = null;
  #committedPosition: number;
  #committedFrontierMs = Number.NEGATIVE_INFINITY;
  #endOffset: number;
  #expected: number;
  #waiting: Waiting | null = null;
  /** Rows and panes that a flush has taken and that are not durable yet. */
  #flushingRows = 0;

  constructor(engine: E, options: PartitionOptions, endOffset: number) {
    this.engine = engine;
    this.#options = options;
    this.#committedPosition = engine.position;
    this.#expected = engine.position;
    this.#endOffset = endOffset;
  }

  get isVoid(): boolean {
    return this.#void.signal.aborted;
  }

  get endOffset(): number {
    return this.#endOffset;
  }

  /** Where the next batch is expected to begin. */
  get expected(): number {
    return this.#expected;
  }

  get waiting(): Waiting | null {
    return this.#waiting;
  }

  /** Every window that ends at or before it is durable and committed. */
  get committedFrontierMs(): number {
    return this.#committedFrontierMs;
  }

  get isDirty(): boolean {
    const { engine } = this;
    if (this.isVoid) return false;
    return engine.pendingRows > 0 || engine.pendingLate > 0 || engine.position !== this.#committedPosition;
  }

  /** Rows, and panes of the first of two stages, that are closed and not durable yet. */
  get waitingRows(): number {
    return this.engine.pendingRows + this.#flushingRows;
  }

  get isFlushing(): boolean {
    return this.#flushing !== null;
  }

  /** Ours no longer: everything under way gives up, nothing is committed any more. */
  discard(): void {
    this.#void.abort();
  }

  /** No more records are taken; what is pending can still be flushed. */
  stopReading(): void {
    this.#stopping = true;
  }

  /** Follows the consumer's signal for this partition. */
  follow(signal: AbortSignal): void {
    if (signal === this.#signal) return;
    this.#signal = signal;
    if (signal.aborted) this.discard();
    else signal.addEventListener('abort', () => this.discard(), { once: true });
  }

  async process(batch: LogBatch): Promise<void> {
    this.#endOffset = batch.endOffset;
    const newest = batch.records.at(-1);
    if (newest) {
      const { clock, telemetry } = this.#options;
      telemetry.rollupSeconds.observe(Math.max(0, clock.nowMs() - newest.receivedMs) / 1_000);
    }
    for (const record of batch.records) {
      if (this.#stopping || this.isVoid) return;
      while (!this.engine.process(record)) {
        if (!(await this.#waitForRoom())) return;
      }
      if (this.engine.pendingRows >= MAX_PENDING_ROWS || this.engine.pendingLate >= MAX_PENDING_LATE) {
        await this.flush();
      }
    }
    this.#expected = batch.nextOffset;
  }

  /** Resolves when all that was pending at the call is durable and committed, or the partition is void. */
  async flush(): Promise<void> {
    while (this.#flushing) await this.#flushing;
    if (!this.isDirty) return;
    this.#flushing = this.#flushOnce().finally(() => {
      this.#flushing = null;
      this.#flushingRows = 0;
    });
    await this.#flushing;
  }

  async #flushOnce(): Promise<void> {
    const options = this.#options;
    const { position, frontierMs } = this.engine;
    const { rows, panes, late, checkpoint } = this.engine.take();
    this.#flushingRows = rows.length + panes.length;
    if (rows.length > 0) {
      const written = await this.persist('store', (signal) => options.store.write(rows, signal));
      if (written === null) return;
      if (written.refused.length > 0) {
        if ((await this.persist('dead letters', () => options.deadLetter(written.refused))) === null) return;
      }
      this.#observeDurable(rows);
      options.onClosed?.(rows);
      const { alert } = options;
      if (alert && (await this.persist('alert log', () => alert(rows))) === null) return;
    }
    if (panes.length > 0) {
      const { partition, appendPanes } = options;
      if ((await this.persist('panes topic', () => appendPanes!(partition, panes))) === null) return;
    }
    if (late.length > 0) {
      const { partition, appendLate } = options;
      if ((await this.persist('late log', () => appendLate(partition, late))) === null) return;
    }
    if (checkpoint === null) return;
    const committed = await options.commit(options.partition, checkpoint);
    if (committed.ok) {
      this.#committedPosition = position;
      this.#committedFrontierMs = frontierMs;
    } else if (committed.failure.code === 'KAFKA_GENERATION_LOST') {
      this.discard();
    } else {
      // Everything is durable; the next flush commits more.
      this.#say('log', committed.failure);
    }
  }

  /** Once for each window, not for each of its series. */
  #observeDurable(rows: readonly Row[]): void {
    const { clock, telemetry } = this.#options;
    const nowMs = clock.nowMs();
    const ends = new Map(rows.map(({ window, endMs }) => [`${window} ${endMs}`, { window, endMs }]));
    for (const { window, endMs } of ends.values()) {
      telemetry.windowSeconds.labels(window).observe(Math.max(0, nowMs - endMs) / 1_000);
    }
  }

  /** Tries until it works; null = the partition is void, and this and all that follows must not be done. */
  async persist<T>(what: Waiting['for'], action: (signal: AbortSignal) => Promise<Outcome<T>>): Promise<T | null> {
    const { signal } = this.#void;
    const sinceMs = this.#options.clock.nowMs();
    for (let failures = 1; ; failures++) {
      if (signal.aborted) return null;
      const outcome = await action(signal);
      if (outcome.ok && !signal.aborted) {
        this.#waiting = null;
        return outcome.value;
      }
      if (signal.aborted || outcome.ok) return null;
      this.#say(what, outcome.failure);
      this.#waiting = { for: what, sinceMs, failure: outcome.failure };
      await this.#options.pause(Math.max(this.#backoff.delayMs(failures), outcome.failure.retryAfterMs ?? 0), signal);
    }
  }

  async #waitForRoom(): Promise<boolean> {
    const { partition, telemetry, clock } = this.#options;
    telemetry.limitReached.inc({ limit: 'rollup-series' });
    telemetry.limited('error', 'rollup-room', { partition }, FULL.message);
    this.#waiting ??= { for: 'room for new series', sinceMs: clock.nowMs(), failure: FULL };
    await this.#options.pause(ROOM_POLL_MS, this.#void.signal);
    if (this.#waiting?.for === 'room for new series') this.#waiting = null;
    return !this.#stopping && !this.isVoid;
  }

  #say(what: Waiting['for'], failure: Failure): void {
    const { partition, telemetry } = this.#options;
    const level = failure.retryable ? 'warn' : 'error';
    const fields = { partition, code: failure.code, reason: failure.message };
    telemetry.limited(level, `rollup-${what}`, fields, `the rollup waits for the ${what}`);
  }
}

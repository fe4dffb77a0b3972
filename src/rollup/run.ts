/**
 * The rollup on the log's consumer: one engine for each partition that is ours, from the stored commit on.
 *
 * Exactness does not depend on who owns a partition. A process that was thrown out of the group and does not know it yet
 * writes the same rows as the new owner, and its commits are valid ones (engine.ts); at worst a replay gets longer. So there
 * is no fencing here, and whatever the group does, the only duty is the order within a flush (partition.ts).
 *
 * Flushes happen every `flushMs` for each partition that has something pending, when much is pending, and before a stop.
 * Two stages (panes.ts) are two of these, each with a topic and a group of its own.
 *
 * The stop gives what is pending STOP_FLUSH_MS to become durable; what does not is done again by the next start.
 */
import type { Clock } from '../clock.ts';
import type { RollupConfig } from '../config.ts';
import { type Failure, fail, type Outcome, succeed } from '../errors.ts';
import type {
  Assignment,
  Checkpoint,
  ConsumerHandlers,
  LogBatch,
  LogConsumer,
  LogReader,
  LogRecord,
  StoredRecord,
} from '../log.ts';
import { pause } from '../retry.ts';
import type { Row, RunningQuery } from '../row.ts';
import type { Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import { begun } from './begin.ts';
import { decodeCheckpoint, MAX_STREAMS } from './checkpoint.ts';
import { Engine, type EngineOptions, type EngineStats } from './engine.ts';
import { RollupMetrics } from './metrics.ts';
import { secondGroup } from './panes.ts';
import { PartitionRollup, type RefusedRow, type RowStore, type Waiting } from './partition.ts';
import { reread } from './reread.ts';
import type { Restore } from './restore.ts';
import { type Stage, windowsOf } from './window.ts';

/** How long a stop waits for what is pending. */
export const STOP_FLUSH_MS = 8_000;
/** Rows of running values that go to the store, all partitions together. */
const LIVE_ROWS = 2_000;

export interface RollupOptions {
  readonly reader: LogReader;
  /** Consumer group: one for each set of rows in a store. Of two stages: that of the first; the second adds to the name. */
  readonly group: string;
  readonly streams: Readonly<Record<string, Stream>>;
  readonly config: RollupConfig;
  readonly store: RowStore;
  /** Resolves with ok when they are durable in the partition of the late log that has the same number. Some may come twice. */
  appendLate(partition: number, records: readonly LogRecord[]): Promise<Outcome>;
  /** Keeps rows that the store refused for good, with the reason. Some may come twice. */
  deadLetter(refused: readonly RefusedRow[]): Promise<Outcome>;
  /** Absent: 'only'. */
  readonly stage?: Stage;
  /** Of a first stage: resolves with ok when these records are durable in this partition of the panes topic. */
  appendPanes?(partition: number, records: readonly LogRecord[]): Promise<Outcome>;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** Final rows, once they are durable. After a crash some come again. */
  onClosed?(rows: readonly Row[]): void;
  /** Resolves with ok when what these final rows raise is durable; called again until it does, before they are committed. */
  alert?(rows: readonly Row[]): Promise<Outcome>;
  /** Refused payloads that come by in the log, some of them again after a start. */
  onRefusal?(record: StoredRecord): void;
  /** Readings of `watched` streams that come by in the log, counted or not, some of them again after a start. */
  onReadings?(records: readonly StoredRecord[]): Promise<void>;
  readonly watched?: ReadonlySet<string>;
  /**
   * Partitions changed hands: other processes had, or have from now on, some of the series. With each of ours, up to
   * where its windows are durable.
   */
  onAssigned?(partitions: ReadonlyMap<number, number>): void;
  /** The consumer is dead; the process should end and be started again. */
  onEnded?(reason: unknown): void;
  /** For tests. */
  createEngine?(options: EngineOptions, restore: Restore): Engine;
  readonly pause?: typeof pause;
}

export interface PartitionStatus {
  readonly partition: number;
  readonly endOffset: number;
  /** Every window that ends at or before it is durable and committed; null before the first commit. */
  readonly durableToMs: number | null;
  readonly engine: EngineStats;
  readonly waiting: Waiting | null;
}

export interface Rollup {
  status(): PartitionStatus[];
  /** Why the log is not read on, in whole or in part; null: it is. */
  trouble(): Failure | null;
  /** What the open windows hold so far. */
  running(query: RunningQuery): Row[];
  /** Flushes, commits, leaves the group. Bounded in time. */
  stop(): Promise<void>;
}

/** Joins the group and works until `stop`. Fails only on a configuration that cannot work. */
export async function startRollup(options: RollupOptions): Promise<Outcome<Rollup>> {
  const streams = Object.keys(options.streams).length;
  if (streams > MAX_STREAMS) {
    return fail('CONFIG_INVALID', `${streams} streams are configured; one rollup can hold ${MAX_STREAMS}`);
  }
  const rollup = new RunningRollup(options);
  await rollup.join();
  return succeed(rollup);
}

class RunningRollup implements Rollup {
  readonly #options: RollupOptions;
  readonly #pause: typeof pause;
  readonly #metrics: RollupMetrics;
  readonly #stopped = new AbortController();
  #partitions = new Map<number, PartitionRollup<Engine>>();
  #consumer: LogConsumer | null = null;
  #loops: Promise<void>[] = [];

  constructor(options: RollupOptions) {
    this.#options = options;
    this.#pause = options.pause ?? pause;
    this.#metrics = new RollupMetrics(options.telemetry, options.stage ?? 'only');
  }

  async join(): Promise<void> {
    const handlers: ConsumerHandlers = {
      assigned: (assignments) => this.#assigned(assignments),
      batch: (batch, signal) => this.#batch(batch, signal),
      stopping: () => this.#finish(),
      ended: (reason) => this.#ended(reason),
    };
    const { group, stage, reader, store } = this.#options;
    this.#consumer = await reader.consume(stage === 'second' ? secondGroup(group) : group, handlers);

    const { flushMs, liveMs } = this.#options.config;
    this.#loops = [this.#every(flushMs, () => this.#flushDirty())];
    if (store.running) this.#loops.push(this.#every(liveMs, () => this.#showLive()));
  }

  status(): PartitionStatus[] {
    return [...this.#partitions].map(([partition, rollup]) => ({
      partition,
      endOffset: rollup.endOffset,
      durableToMs: Number.isFinite(rollup.committedFrontierMs) ? rollup.committedFrontierMs : null,
      engine: rollup.engine.stats(),
      waiting: rollup.waiting,
    }));
  }

  trouble(): Failure | null {
    return this.#consumer?.trouble() ?? null;
  }

  running({ limit, ...wanted }: RunningQuery): Row[] {
    const rows: Row[] = [];
    for (const { engine, isVoid } of this.#partitions.values()) {
      if (!isVoid && rows.length < limit) rows.push(...engine.provisional(limit - rows.length, wanted));
    }
    return rows;
  }

  async stop(): Promise<void> {
    if (this.#stopped.signal.aborted) return;
    this.#stopped.abort();
    for (const partition of this.#partitions.values()) partition.stopReading();
    // A store that is down must not hold the stop: what waits for it is given up and done again by the next start.
    const stopped = new AbortController();
    const limit = this.#pause(STOP_FLUSH_MS, stopped.signal).then(() => this.#discardAll());
    await this.#consumer?.stop();
    stopped.abort();
    await Promise.all([...this.#loops, limit]);
  }

  async #assigned(assignments: readonly Assignment[]): Promise<ReadonlyMap<number, number>> {
    this.#discardAll();
    this.#partitions = new Map();
    const { reader, telemetry, stage = 'only', config } = this.#options;
    // The second stage reads what the first, which has chosen, hands on.
    const begin = stage === 'second' ? 'earliest' : (config.begin ?? 'earliest');
    const { signal } = this.#stopped;
    const starts = new Map<number, number>();
    const waiting = { reader, telemetry, pause: this.#pause, signal };
    const { continues, ...admission } = config;
    const streams = Object.values(this.#options.streams).filter((each) => windowsOf(each.windows, stage).length > 0);
    const begins = (await begun(assignments, { ...waiting, begin })).map((each) => ({ ...each, continues }));
    for (const assignment of await reread(begins, { ...waiting, streams, admission, stage })) {
      const rollup = this.#restore(assignment);
      starts.set(assignment.partition, rollup.engine.position);
    }
    this.#metrics.assigned(new Set(starts.keys()));
    this.#options.onAssigned?.(
      new Map(assignments.map(({ partition, checkpoint }) => [partition, frontierOf(checkpoint)])),
    );
    return starts;
  }

  #restore(restore: Restore & { partition: number }): PartitionRollup<Engine> {
    const { streams, config, telemetry, clock, stage = 'only', group: firstGroup } = this.#options;
    const { partition } = restore;
    const { graceMs, disorderMs, skewMs } = config;
    const create = this.#options.createEngine ?? ((options, from) => new Engine(options, from));
    const hasRoom = () => this.#openSeries() < config.maxSeries;
    const engine = create(
      { partition, streams, graceMs, disorderMs, skewMs, stage, firstGroup, hasRoom },
      { ...restore, continues: config.continues },
    );
    this.#metrics.beginning(partition, engine);
    const rollup = new PartitionRollup(
      engine,
      {
        partition,
        store: this.#options.store,
        appendLate: (of, records) => this.#options.appendLate(of, records),
        appendPanes: (of, records) => this.#options.appendPanes!(of, records),
        deadLetter: (refused) => this.#options.deadLetter(refused),
        commit: async (of, checkpoint) =>
          this.#consumer?.commit(of, checkpoint) ?? fail('KAFKA_OTHER', 'not joined yet', { retryable: true }),
        alert: this.#options.alert,
        onClosed: (rows) => this.#options.onClosed?.(rows),
        telemetry,
        clock,
        pause: this.#pause,
      },
      restore.endOffset,
    );
    this.#partitions.set(partition, rollup);
    return rollup;
  }

  async #batch(batch: LogBatch, signal: AbortSignal): Promise<void> {
    let rollup = this.#partitions.get(batch.partition);
    if (rollup === undefined || this.#stopped.signal.aborted) return;
    rollup.follow(signal);
    const from = batch.records[0]?.offset ?? batch.nextOffset;
    if (from > rollup.expected) {
      const restored = await this.#afterHole(rollup, batch);
      if (restored === null) return;
      rollup = restored;
      rollup.follow(signal);
    }
    const { onRefusal } = this.#options;
    if (onRefusal) for (const record of batch.records) if (record.kind === 'refusal') onRefusal(record);
    const { watched, onReadings } = this.#options;
    if (onReadings && watched) {
      const found = batch.records.filter(({ kind, stream }) => kind === 'reading' && watched.has(stream));
      if (found.length > 0) await onReadings(found);
    }
    await rollup.process(batch);
  }

  /** Records are missing before this batch: a hole that was always there, or the log's beginning has moved past us. */
  async #afterHole(rollup: PartitionRollup<Engine>, batch: LogBatch): Promise<PartitionRollup<Engine> | null> {
    const { reader } = this.#options;
    const offsets = await rollup.persist('log', () => reader.offsets(batch.partition));
    if (offsets === null || this.#partitions.get(batch.partition) !== rollup) return null;
    const { firstOffset, endOffset } = offsets;
    if (firstOffset <= rollup.expected) return rollup;
    await rollup.flush();
    if (rollup.isVoid || this.#partitions.get(batch.partition) !== rollup) return null;
    const { checkpoint } = rollup.engine.take();
    rollup.discard();
    return this.#restore({ partition: batch.partition, checkpoint, firstOffset, endOffset });
  }

  async #flushDirty(): Promise<void> {
    for (const [partition, rollup] of this.#partitions) {
      this.#metrics.observe(partition, rollup);
      // Not awaited: a partition that waits must not delay the others.
      if (rollup.isDirty && !rollup.isFlushing) rollup.flush().catch((thrown: unknown) => this.#ended(thrown));
    }
  }

  async #showLive(): Promise<void> {
    const { store, telemetry } = this.#options;
    const partitions = [...this.#partitions.values()].filter((rollup) => !rollup.isVoid);
    const limit = Math.ceil(LIVE_ROWS / Math.max(1, partitions.length));
    const rows = partitions.flatMap((rollup) => rollup.engine.provisional(limit));
    if (rows.length === 0) return;
    const written = await store.running?.(rows);
    if (written?.ok === false) {
      const fields = { code: written.failure.code, reason: written.failure.message };
      telemetry.limited('info', 'rollup-live', fields, 'running values were not written');
    }
  }

  /** The consumer is about to leave: the last commits. */
  async #finish(): Promise<void> {
    await Promise.all([...this.#partitions.values()].map((rollup) => rollup.flush()));
    for (const [partition, rollup] of this.#partitions) this.#metrics.observe(partition, rollup);
  }

  #ended(reason: unknown): void {
    this.#discardAll();
    this.#options.onEnded?.(reason);
  }

  #discardAll(): void {
    for (const rollup of this.#partitions.values()) rollup.discard();
  }

  #openSeries(): number {
    let series = 0;
    for (const rollup of this.#partitions.values()) series += rollup.engine.openSeries;
    return series;
  }

  async #every(ms: number, action: () => Promise<void>): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await this.#pause(ms, signal);
      if (!signal.aborted) await action();
    }
  }
}

function frontierOf(checkpoint: Checkpoint | null): number {
  return (checkpoint && decodeCheckpoint(checkpoint)?.frontierMs) ?? Number.NEGATIVE_INFINITY;
}

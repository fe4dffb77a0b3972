/**
 * `repair: auto`: rows of windows that late readings fell into are written again, with these readings counted and `rev` + 1.
 *
 * A reader of the late log like any other (group `<rollup group>-repair`). What is late of one partition of the log is in one
 * partition of the late log, so whatever falls into a window has one owner. Each late reading marks the windows it falls
 * into; a marked window is repaired once it is closed and durable (its end is behind the committed frontier of its
 * partition) and `delayMs` have passed, so that a device that delivers a day at once costs one repair a window and not one a
 * reading. What the row should be is recomputed from the log (recompute.ts); a row that is right already is left alone.
 *
 * A window that late readings hit while it is being repaired is marked anew: the repair may have read the log before them.
 *
 * Restart: committed is the smallest offset of the late log that a marked window still needs; reading it again marks the
 * same windows, and those that were repaired are found right. A store replaces a row by deleting and writing it; so that a
 * crash between the two does not lose how often it was repaired, the revisions about to be written are committed as
 * metadata before. Two that repair the same window at once write the same row.
 *
 * Bounded: MAX_MARKED windows in memory (then reading the late log waits), MAX_BATCH rows a replace, and of the log only the
 * ranges around marked windows are read, for the marked series alone.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { RollupConfig } from '../config.ts';
import { done, type Failure, fail, messageOf, type Outcome } from '../errors.ts';
import type { Assignment, ConsumerHandlers, LogBatch, LogConsumer, LogReader } from '../log.ts';
import { seriesName } from '../reading.ts';
import { pause } from '../retry.ts';
import { type Row, type RowQuery, STATISTICS } from '../row.ts';
import type { Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import { begun } from './begin.ts';
import { committedFrontiers, type Frontiers } from './frontiers.ts';
import { decodeLate } from './late.ts';
import type { RowStore } from './partition.ts';
import { recompute } from './recompute.ts';
import { readingOf, tagsOf } from './record.ts';
import { windowStarts } from './window.ts';

export const MAX_MARKED = 50_000;
/** Rows of one replace; their revisions have to fit into the metadata of a commit. */
const MAX_BATCH = 150;
/** Windows further apart than this are recomputed apart. */
const MAX_SPAN_MS = 3_600_000;
/** "A few minutes after late readings came." */
export const REPAIR_DELAY_MS = 60_000;
const LOOK_EVERY_MS = 5_000;
const HASH_CHARACTERS = 10;

export interface RepairStore {
  /** See store/store.ts: afterwards these places hold these rows, for every reader. */
  replace: RowStore['write'];
  read(query: RowQuery): AsyncIterable<Row>;
}

export interface RepairOptions {
  readonly log: LogReader;
  readonly late: LogReader;
  /** With two stages: the panes topic, whose commits say which larger windows are durable. */
  readonly panes?: LogReader | undefined;
  /** Of the rollup whose rows these are. */
  readonly group: string;
  readonly streams: Readonly<Record<string, Stream>>;
  readonly config: Pick<RollupConfig, 'graceMs' | 'disorderMs' | 'skewMs' | 'continues' | 'begin'>;
  readonly store: RepairStore;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  readonly delayMs?: number;
  readonly lookEveryMs?: number;
  /** The consumer is dead; the process should end and be started again. */
  onEnded?(reason: unknown): void;
}

export interface Repair {
  /** Windows marked and not yet repaired. */
  marked(): number;
  /** Repairs what is due now; resolves when it is tried. */
  look(): Promise<void>;
  stop(): Promise<void>;
}

/** A window of one series that late readings fell into. */
interface Mark {
  readonly logPartition: number;
  readonly stream: string;
  readonly tags: string;
  readonly window: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly markedMs: number;
  /** The first late reading of it, in the late log. */
  readonly lateOffset: number;
}

/** One partition of the late log. */
class LatePartition {
  readonly marks = new Map<string, Mark>();
  /** Being repaired. Whatever hits one of these windows meanwhile may have come too late for it, and marks it anew. */
  underRepair: readonly [string, Mark][] = [];
  position: number;
  committed: number;
  /** Revisions that a crash may have left deleted and not written. */
  readonly revisions: ReadonlyMap<string, number>;

  constructor(position: number, revisions: ReadonlyMap<string, number>) {
    this.position = position;
    this.committed = position;
    this.revisions = revisions;
  }

  /** All below is repaired. */
  floor(): number {
    let floor = this.position;
    for (const mark of this.marks.values()) floor = Math.min(floor, mark.lateOffset);
    for (const [, mark] of this.underRepair) floor = Math.min(floor, mark.lateOffset);
    return floor;
  }

  begin(cluster: readonly [string, Mark][]): void {
    this.underRepair = cluster;
    for (const [key] of cluster) this.marks.delete(key);
  }

  /** `done` false: all of it is still to be repaired. The older mark covers what hit its window meanwhile. */
  end(done: boolean): void {
    if (!done) for (const [key, mark] of this.underRepair) this.marks.set(key, mark);
    this.underRepair = [];
  }
}

export async function startRepair(options: RepairOptions): Promise<Repair> {
  const repair = new RunningRepair(options);
  await repair.join();
  return repair;
}

class RunningRepair implements Repair {
  readonly #options: RepairOptions;
  readonly #stopped = new AbortController();
  #partitions = new Map<number, LatePartition>();
  #consumer: LogConsumer | null = null;
  #looking: Promise<void> = Promise.resolve();
  #loop: Promise<void> = Promise.resolve();

  constructor(options: RepairOptions) {
    this.#options = options;
  }

  async join(): Promise<void> {
    const handlers: ConsumerHandlers = {
      assigned: (assignments) => this.#assigned(assignments),
      batch: (batch, signal) => this.#batch(batch, signal),
      stopping: () => this.#commit(),
      ended: (reason) => this.#options.onEnded?.(reason),
    };
    this.#consumer = await this.#options.late.consume(repairGroup(this.#options.group), handlers);
    this.#loop = this.#run();
  }

  marked(): number {
    let count = 0;
    for (const { marks, underRepair } of this.#partitions.values()) count += marks.size + underRepair.length;
    return count;
  }

  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#look());
    return this.#looking;
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#loop;
    await this.#looking;
    await this.#consumer?.stop();
  }

  async #run(): Promise<void> {
    const { lookEveryMs = LOOK_EVERY_MS } = this.#options;
    while (await pause(lookEveryMs, this.#stopped.signal)) await this.look();
  }

  async #assigned(assignments: readonly Assignment[]): Promise<Map<number, number>> {
    this.#partitions = new Map();
    const { late: reader, config, telemetry } = this.#options;
    const { signal } = this.#stopped;
    const starts = new Map<number, number>();
    // What was late before the rollup began is of windows that it does not have.
    const from = await begun(assignments, { reader, begin: config.begin ?? 'earliest', telemetry, pause, signal });
    for (const { partition, checkpoint, firstOffset } of from) {
      const start = Math.max(checkpoint?.offset ?? firstOffset, firstOffset);
      this.#partitions.set(partition, new LatePartition(start, decodeRevisions(checkpoint?.metadata ?? '')));
      starts.set(partition, start);
    }
    return starts;
  }

  async #batch(batch: LogBatch, signal: AbortSignal): Promise<void> {
    const partition = this.#partitions.get(batch.partition);
    if (!partition) return;
    while (this.marked() >= MAX_MARKED && !signal.aborted && !this.#stopped.signal.aborted) {
      this.#options.telemetry.limitReached.inc({ limit: 'repair.marked' });
      await this.look();
      if (this.marked() >= MAX_MARKED) await pause(LOOK_EVERY_MS, signal);
    }
    if (signal.aborted || this.#stopped.signal.aborted) return;
    const markedMs = this.#options.clock.monotonicMs();
    for (const record of batch.records) {
      const late = record.kind === 'late' ? decodeLate(record.value) : null;
      if (late) this.#mark(partition, late.partition, late.reading, record.offset, markedMs);
    }
    partition.position = batch.nextOffset;
  }

  #mark(partition: LatePartition, logPartition: number, text: string, lateOffset: number, markedMs: number): void {
    const reading = readingOf(Buffer.from(text));
    const stream = reading && this.#options.streams[reading.stream];
    if (!reading || !stream) return;
    for (const { label, sizeMs, everyMs } of stream.windows) {
      for (const startMs of windowStarts({ sizeMs, everyMs }, reading.timeMs, reading.timeMs + 1)) {
        const key = `${logPartition} ${stream.name} ${label} ${startMs} ${reading.tags}`;
        if (partition.marks.has(key)) continue;
        const endMs = startMs + sizeMs;
        const { tags } = reading;
        const mark = { logPartition, stream: stream.name, tags, window: label, startMs, endMs, markedMs, lateOffset };
        partition.marks.set(key, mark);
      }
    }
  }

  async #look(): Promise<void> {
    for (const [number, partition] of this.#partitions) {
      try {
        for (const cluster of await this.#due(partition)) {
          if (this.#stopped.signal.aborted) return;
          partition.begin(cluster);
          let outcome: Outcome | null = null;
          try {
            outcome = await this.#repair(number, partition, cluster);
          } finally {
            partition.end(outcome?.ok === true);
          }
          if (!outcome.ok) {
            const { failure } = outcome;
            this.#options.telemetry.limited(
              'warn',
              'repair',
              { code: failure.code },
              `a repair waits: ${failure.message}`,
            );
            break;
          }
        }
      } catch (error) {
        // The log or the store cannot be read now; the marks stay, and the next look tries again.
        this.#options.telemetry.limited('warn', 'repair', {}, `a repair waits: ${messageOf(error)}`);
      }
    }
    await this.#commit();
  }

  /** Marked windows that are closed, durable and have waited, in clusters that are close in time. */
  async #due(partition: LatePartition): Promise<[string, Mark][][]> {
    const { clock, streams, delayMs = REPAIR_DELAY_MS } = this.#options;
    const frontiers = new Map<number, Frontiers | null>();
    const due: [string, Mark][] = [];
    for (const [key, mark] of partition.marks) {
      if (clock.monotonicMs() - mark.markedMs < delayMs) continue;
      let committed = frontiers.get(mark.logPartition);
      if (committed === undefined) {
        const known = await committedFrontiers(this.#options, mark.logPartition);
        committed = known.ok ? known.value : null;
        frontiers.set(mark.logPartition, committed);
      }
      if (committed !== null && mark.endMs <= committed(streams[mark.stream]!, mark.window)) due.push([key, mark]);
    }
    due.sort(([, a], [, b]) => a.logPartition - b.logPartition || a.startMs - b.startMs);
    const clusters: [string, Mark][][] = [];
    for (const entry of due) {
      const last = clusters.at(-1);
      const first = last?.[0]?.[1];
      const fits = first?.logPartition === entry[1].logPartition && entry[1].startMs - first.startMs < MAX_SPAN_MS;
      if (last && fits) last.push(entry);
      else clusters.push([entry]);
    }
    return clusters;
  }

  async #repair(number: number, partition: LatePartition, cluster: [string, Mark][]): Promise<Outcome> {
    const { log, late, streams, config, store, telemetry } = this.#options;
    const marks = cluster.map(([, mark]) => mark);
    const series = new Set(marks.map((mark) => `${mark.stream} ${mark.tags}`));
    const places = new Set(
      marks.map((mark) => placeOf(mark.stream, mark.window, mark.startMs, tagsOf(mark.tags) ?? {})),
    );
    const recomputed = await recompute(
      { log, late, partition: marks[0]!.logPartition, streams, ...config },
      {
        fromMs: Math.min(...marks.map((mark) => mark.startMs)),
        toMs: Math.max(...marks.map((mark) => mark.startMs)) + 1,
        series: (stream, tags) => series.has(`${stream} ${tags}`),
      },
    );
    if (!recomputed.ok)
      return recomputed.failure.code === 'LOG_TRUNCATED' ? this.#giveUp(recomputed.failure) : recomputed;
    const wrong: Row[] = [];
    for (const row of recomputed.value) {
      if (!places.has(placeOf(row.stream, row.window, row.startMs, row.tags))) continue;
      const stored = await rowAt(store, row);
      if (stored && sameContent(stored, row)) continue;
      const rev = stored ? stored.rev + 1 : (partition.revisions.get(hashOf(row)) ?? 1);
      wrong.push({ ...row, rev });
    }
    for (let from = 0; from < wrong.length; from += MAX_BATCH) {
      const batch = wrong.slice(from, from + MAX_BATCH);
      const journaled = await this.#consumer!.commit(number, {
        offset: partition.floor(),
        metadata: encodeRevisions(batch),
      });
      if (!journaled.ok) return journaled;
      const replaced = await store.replace(batch, this.#stopped.signal);
      if (!replaced.ok) return replaced;
      const refused = new Set(replaced.value.refused.map((each) => each.row));
      for (const row of batch) {
        if (refused.has(row)) continue;
        const stored = await rowAt(store, row);
        if (!stored || !sameContent(stored, row)) {
          return fail('STORE_OTHER', `the row of ${row.stream} at ${row.startMs} does not read back as written`, {
            retryable: true,
          });
        }
        telemetry.repairs.inc({ window: row.window });
      }
      partition.committed = Number.NaN;
    }
    return done;
  }

  /** The readings of these windows are not all there any more: the rows stay as they are. Late readings stay listed. */
  #giveUp(failure: Failure): Outcome {
    this.#options.telemetry.limited(
      'error',
      'repair-truncated',
      { code: failure.code },
      `not repaired: ${failure.message}`,
    );
    return done;
  }

  async #commit(): Promise<void> {
    for (const [number, partition] of this.#partitions) {
      const offset = partition.floor();
      if (offset === partition.committed) continue;
      const outcome = await this.#consumer!.commit(number, { offset, metadata: '' });
      if (outcome.ok) partition.committed = offset;
    }
  }
}

export function repairGroup(group: string): string {
  return `${group}-repair`;
}

/** The stored row of the same place, if there is one. */
export async function rowAt(store: Pick<RepairStore, 'read'>, row: Row): Promise<Row | null> {
  const { stream, window, metric, startMs, tags } = row;
  const name = seriesName(tags);
  for await (const stored of store.read({ stream, window, metric, tags, fromMs: startMs, toMs: startMs + 1 })) {
    // A query's tags are those a row must have; it may have more.
    if (seriesName(stored.tags) === name) return stored;
  }
  return null;
}

/** Everything but `rev`, bit for bit. */
export function sameContent(a: Row, b: Row): boolean {
  if (a.count !== b.count || a.duplicates !== b.duplicates || a.missing !== b.missing) return false;
  return STATISTICS.every((name) => Object.is(a[name], b[name]));
}

function placeOf(stream: string, window: string, startMs: number, tags: Readonly<Record<string, string>>): string {
  return `${stream} ${window} ${startMs} ${seriesName(tags)}`;
}

function hashOf(row: Row): string {
  const place = `${row.metric} ${placeOf(row.stream, row.window, row.startMs, row.tags)}`;
  return createHash('sha256').update(place).digest('base64url').slice(0, HASH_CHARACTERS);
}

/** `<hash>:<rev>,…`, short enough for MAX_BATCH rows in 4,096 characters. */
function encodeRevisions(rows: readonly Row[]): string {
  return rows.map((row) => `${hashOf(row)}:${row.rev}`).join(',');
}

function decodeRevisions(metadata: string): Map<string, number> {
  const revisions = new Map<string, number>();
  for (const entry of metadata === '' ? [] : metadata.split(',')) {
    const [hash = '', rev = ''] = entry.split(':');
    if (Number(rev) > 0) revisions.set(hash, Number(rev));
  }
  return revisions;
}

/**
 * Is what the store holds the truth? Works out every row again from the log, by the rules under which it was written, and
 * compares it with the stored one bit by bit. Reads only; may run while the rollup works.
 *
 * All partitions are read side by side, always the one whose frontier is lowest, once; rows are compared as windows
 * close, in portions of about CHUNK_ROWS. Memory: the open windows of all partitions and one portion, whatever the range.
 *
 * What can be said about a row of the range:
 *   equal, missing, extra, different    its window is closed in every partition, and all of it is in the log
 *   pending      closed, but above the frontier that the rollup has committed: being written. Compared where it is there.
 *   awaited      it differs, and late readings of its window wait for a repair (awaited.ts): it will be written again
 *   open         not closed by the end of the log, as it was at the beginning of the check
 *   out of reach stored, but the log does not go back far enough to tell
 * A series lies in one partition. The rows of another one that has readings of it are missing.
 * A repaired row (rev > 0) holds late readings too: it is compared with a recomputation that has them (recompute.ts).
 *
 * The rules are today's: windows closed under another configuration differ from what it would make of them.
 */
import type { RollupConfig } from '../config.ts';
import { type Outcome, succeed } from '../errors.ts';
import type { LogReader } from '../log.ts';
import { seriesName } from '../reading.ts';
import type { Row, RowQuery } from '../row.ts';
import { STATISTICS } from '../row.ts';
import type { Stream, WindowSize } from '../stream.ts';
import { awaited, type Repaired, repairedTo } from './awaited.ts';
import { recompute } from './recompute.ts';
import { openWalk, type PartitionWalk, type WalkOptions } from './verify-walk.ts';
import { floorTo } from './window.ts';

const CHUNK_ROWS = 20_000;
/** Differences that the report keeps; `onDifference` hears of all. */
const KEPT_DIFFERENCES = 1_000;

export interface VerifyOptions extends WalkOptions {
  /** Where late readings are: needed for repaired rows only. */
  readonly lateReader: LogReader;
  /** `repair: auto`: rows that differ may be awaited. */
  readonly config: WalkOptions['config'] & Partial<Pick<RollupConfig, 'repair'>>;
  /** Windows with fromMs <= start < toMs. */
  readonly toMs: number;
  /** The rows of the store, ascending by startMs. */
  readRows(query: RowQuery): AsyncIterable<Row>;
  /** Only this stream; absent = all. */
  readonly stream?: string;
  /** Are the two values of a field the same? Absent: to the last bit. */
  isEqual?(field: RowField, expected: Row[RowField], stored: Row[RowField]): boolean;
  /** After every portion of the log: every partition was read up to this stamp, and windows that end at or before `frontierMs` are closed. */
  onRead?(readToMs: number, frontierMs: number): Promise<void>;
  onDifference?(difference: Difference): void;
  onProgress?(progress: VerifyProgress): void;
}

export interface Difference {
  readonly kind: 'missing' | 'extra' | 'different';
  /** Null: there must be no such row. */
  readonly expected: Row | null;
  /** Null: there is no such row. */
  readonly stored: Row | null;
  /** Where they differ; empty unless both are there. */
  readonly fields: readonly string[];
}

export interface VerifyProgress {
  /** Every window that ends at or before it has been compared, or will be next. */
  readonly frontierMs: number;
  readonly recordsRead: number;
  readonly recordsInAll: number;
  readonly rowsCompared: number;
}

export interface VerifyReport {
  readonly recordsRead: number;
  /** Rows that were compared; `repaired` are among them. */
  readonly rowsCompared: number;
  readonly repaired: number;
  readonly differences: number;
  /** The first of them. */
  readonly firstDifferences: readonly Difference[];
  readonly pending: number;
  /** Rows that are not as they must be, and that a repair is to write again. */
  readonly awaitingRepair: number;
  readonly open: number;
  readonly outOfReach: number;
  /** Windows that start at or before it were out of reach in some partition; null = none. */
  readonly completeAfterMs: number | null;
}

export async function verify(options: VerifyOptions): Promise<Outcome<VerifyReport>> {
  const walks: PartitionWalk[] = [];
  for (let partition = 0; partition < options.reader.partitions; partition++) {
    const walk = await openWalk(options, partition);
    if (!walk.ok) return walk;
    if (walk.value !== null) walks.push(walk.value);
  }
  const { group, config, lateReader } = options;
  const repaired = group === null || config.repair !== 'auto' ? succeed([]) : await repairedTo(lateReader, group);
  if (!repaired.ok) return repaired;
  return new Verification(options, walks, repaired.value).run();
}

interface Expected {
  readonly row: Row;
  readonly partition: number;
}

class Verification {
  readonly #options: VerifyOptions;
  readonly #walks: readonly PartitionWalk[];
  readonly #lanes: Lane[];
  #held = 0;
  #recordsRead = 0;
  #rowsCompared = 0;
  #repaired = 0;
  #differences = 0;
  readonly #first: Difference[] = [];
  #pending = 0;
  #awaitingRepair = 0;
  /** Before any row was read. */
  readonly #repairedTo: Repaired;
  #outOfReach = 0;

  constructor(options: VerifyOptions, walks: readonly PartitionWalk[], repaired: Repaired) {
    this.#options = options;
    this.#walks = walks;
    this.#repairedTo = repaired;
    this.#lanes = Object.values(options.streams)
      .filter((stream) => options.stream === undefined || stream.name === options.stream)
      .flatMap((stream) => stream.windows.map((window) => new Lane(stream, window, options.fromMs)));
  }

  async run(): Promise<Outcome<VerifyReport>> {
    const { toMs } = this.#options;
    const largestMs = Math.max(0, ...this.#lanes.map(({ window }) => window.sizeMs));
    try {
      // A finished partition with the lowest frontier ends it: nothing beyond can be compared.
      for (let lowest = this.#lowest(); lowest !== null && !lowest.finished; lowest = this.#lowest()) {
        if (lowest.engine.frontierMs >= toMs + largestMs) break;
        await this.#advance(lowest);
        if (this.#held < CHUNK_ROWS) continue;
        const compared = await this.#compareClosed();
        if (!compared.ok) return compared;
      }
      const compared = await this.#compareClosed();
      if (!compared.ok) return compared;
      // Nothing beyond can be compared, but all that was asked for is to be heard of.
      for (const walk of this.#options.onRecord ? this.#walks : []) {
        while (!walk.finished && walk.engine.frontierMs < toMs + largestMs) await this.#advance(walk);
      }
    } finally {
      for (const walk of this.#walks) await walk.batches.return?.();
    }
    const beganAfterMs = this.#walks.map(({ committed }) => committed.beganAfterMs);
    const completeAfterMs = Math.max(this.#completeAfterMs(), ...beganAfterMs);
    return succeed({
      recordsRead: this.#recordsRead,
      rowsCompared: this.#rowsCompared,
      repaired: this.#repaired,
      differences: this.#differences,
      firstDifferences: this.#first,
      pending: this.#pending,
      awaitingRepair: this.#awaitingRepair,
      open: this.#held,
      outOfReach: this.#outOfReach,
      completeAfterMs: completeAfterMs >= this.#options.fromMs ? completeAfterMs : null,
    });
  }

  #lowest(): PartitionWalk | null {
    let lowest: PartitionWalk | null = null;
    for (const walk of this.#walks) {
      const isLower = lowest === null || walk.engine.frontierMs < lowest.engine.frontierMs;
      // Among equals one that can still be moved.
      const isEqual = lowest !== null && walk.engine.frontierMs === lowest.engine.frontierMs;
      if (isLower || (isEqual && lowest!.finished)) lowest = walk;
    }
    return lowest;
  }

  async #advance(walk: PartitionWalk): Promise<void> {
    const { fromMs, toMs, onProgress } = this.#options;
    const next = await walk.batches.next();
    if (next.done) {
      walk.finished = true;
      return;
    }
    const { onRecord, onRead } = this.#options;
    for (const record of next.value.records) {
      walk.heard.fate = null;
      walk.heard.place = null;
      walk.engine.process(record);
      onRecord?.(record, walk.partition, walk.heard.fate, walk.heard.place);
    }
    this.#recordsRead += next.value.records.length;
    for (const row of walk.engine.take().rows) {
      if (row.startMs < fromMs || row.startMs >= toMs) continue;
      const lane = this.#lanes.find(({ stream, window }) => stream.name === row.stream && window.label === row.window);
      if (lane === undefined) continue;
      lane.expect(row, walk.partition);
      this.#held++;
    }
    onProgress?.({
      frontierMs: this.#lowest()!.engine.frontierMs,
      recordsRead: this.#recordsRead,
      recordsInAll: this.#walks.reduce((sum, { records }) => sum + records, 0),
      rowsCompared: this.#rowsCompared,
    });
    if (onRead) {
      const { frontierMs } = this.#lowest()!.engine;
      await onRead(frontierMs + this.#options.config.graceMs + this.#options.config.disorderMs, frontierMs);
    }
  }

  /** Compares every window that is closed in all partitions. */
  async #compareClosed(): Promise<Outcome<void>> {
    const frontierMs = this.#lowest()?.engine.frontierMs ?? Number.NEGATIVE_INFINITY;
    if (frontierMs === Number.NEGATIVE_INFINITY) return succeed(undefined);
    for (const lane of this.#lanes) {
      const { sizeMs, everyMs } = lane.window;
      const closedMs = floorTo(frontierMs - sizeMs, everyMs) + everyMs;
      const untilMs = Math.min(closedMs, this.#options.toMs);
      if (untilMs <= lane.comparedToMs) continue;
      const compared = await this.#compareLane(lane, untilMs);
      if (!compared.ok) return compared;
      lane.comparedToMs = untilMs;
    }
    return succeed(undefined);
  }

  async #compareLane(lane: Lane, untilMs: number): Promise<Outcome<void>> {
    const repaired: Row[] = [];
    const found: Difference[] = [];
    const query = { stream: lane.stream.name, window: lane.window.label, fromMs: lane.comparedToMs, toMs: untilMs };
    for await (const stored of this.#options.readRows(query)) {
      const key = rowKey(stored);
      const expected = lane.expected.get(key);
      if (lane.expected.delete(key)) this.#held--;
      if (stored.rev > 0) repaired.push(stored);
      else if (expected !== undefined) this.#compare(expected.row, stored, found);
      else if (stored.startMs <= this.#completeAfterMs()) this.#outOfReach++;
      else found.push({ kind: 'extra', expected: null, stored, fields: [] });
    }
    for (const [key, { row, partition }] of lane.expected) {
      if (row.startMs >= untilMs) continue;
      lane.expected.delete(key);
      this.#held--;
      const walk = this.#walks.find((candidate) => candidate.partition === partition)!;
      if (row.endMs > walk.committed(lane.stream, row.window)) this.#pending++;
      else if (row.startMs <= walk.committed.beganAfterMs) this.#outOfReach++;
      else found.push({ kind: 'missing', expected: row, stored: null, fields: [] });
    }
    const compared = repaired.length === 0 ? succeed(undefined) : await this.#compareRepaired(lane, repaired, found);
    return compared.ok ? this.#reportAll(lane, found) : compared;
  }

  async #compareRepaired(lane: Lane, repaired: readonly Row[], found: Difference[]): Promise<Outcome<void>> {
    const { reader, lateReader, config } = this.#options;
    const { name } = lane.stream;
    const wanted = { fromMs: repaired[0]!.startMs, toMs: repaired.at(-1)!.startMs + 1, stream: name };
    const rows = new Map<string, Row>();
    for (let partition = 0; partition < reader.partitions; partition++) {
      const streams = { [name]: lane.stream };
      const again = await recompute({ log: reader, late: lateReader, partition, streams, ...config }, wanted);
      if (!again.ok && again.failure.code !== 'LOG_TRUNCATED') return again;
      if (!again.ok) {
        // Whose rows they are cannot be told without this partition.
        this.#outOfReach += repaired.length;
        return succeed(undefined);
      }
      for (const row of again.value) if (row.window === lane.window.label) rows.set(rowKey(row), row);
    }
    for (const stored of repaired) {
      this.#repaired++;
      const expected = rows.get(rowKey(stored));
      if (expected !== undefined) this.#compare({ ...expected, rev: stored.rev }, stored, found);
      else found.push({ kind: 'extra', expected: null, stored, fields: [] });
    }
    return succeed(undefined);
  }

  #compare(expected: Row, stored: Row, found: Difference[]): void {
    this.#rowsCompared++;
    const isEqual = this.#options.isEqual ?? ((_, a, b) => Object.is(a, b));
    const fields = FIELDS.filter((name) => !isEqual(name, expected[name], stored[name]));
    if (fields.length > 0) found.push({ kind: 'different', expected, stored, fields });
  }

  async #reportAll({ window }: Lane, found: readonly Difference[]): Promise<Outcome<void>> {
    if (found.length === 0) return succeed(undefined);
    // A row that no repair has touched is what the rollup wrote.
    const rows = found.filter(({ stored }) => stored === null || stored.rev > 0).map(rowOf);
    const waiting = await awaited(this.#options.lateReader, this.#repairedTo, rows, window);
    if (!waiting.ok) return waiting;
    for (const difference of found) {
      if (waiting.value.has(rowOf(difference))) {
        this.#awaitingRepair++;
        continue;
      }
      this.#differences++;
      if (this.#first.length < KEPT_DIFFERENCES) this.#first.push(difference);
      this.#options.onDifference?.(difference);
    }
    return succeed(undefined);
  }

  #completeAfterMs(): number {
    return Math.max(Number.NEGATIVE_INFINITY, ...this.#walks.map(({ engine }) => engine.completeAfterMs));
  }
}

/** The rows of one window size of one stream. */
class Lane {
  readonly stream: Stream;
  readonly window: WindowSize;
  /** Worked out, not compared yet. */
  readonly expected = new Map<string, Expected>();
  comparedToMs: number;

  constructor(stream: Stream, window: WindowSize, fromMs: number) {
    this.stream = stream;
    this.window = window;
    this.comparedToMs = fromMs;
  }

  /** A series in two partitions has two rows for a place that can hold one: the second is found missing. */
  expect(row: Row, partition: number): void {
    const place = rowKey(row);
    this.expected.set(this.expected.has(place) ? `${place} ${partition}` : place, { row, partition });
  }
}

function rowOf({ expected, stored }: Difference): Row {
  return (expected ?? stored)!;
}

/** Beside its place, all that a row says. */
const FIELDS = ['endMs', 'count', ...STATISTICS, 'duplicates', 'missing', 'rev'] as const;
export type RowField = (typeof FIELDS)[number];

/** Its place within a stream and a window size. */
function rowKey(row: Row): string {
  return `${row.startMs} ${row.metric} ${seriesName(row.tags)}`;
}

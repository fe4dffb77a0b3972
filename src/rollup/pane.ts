/**
 * What the engine holds of open windows: per window a cell for each series, per cell the aggregates of its metrics and
 * what the row says about completeness. A cell is the same, whatever the order and grouping of `add` and `merge`.
 *
 * The base panes of a second stage (panes.ts) are given one whole pane a series instead of readings.
 *
 * Duplicates are told apart in base panes only, and only while they are open: two readings of one series and millisecond,
 * or of one named identity, fall into the same pane, and the first offset wins.
 */
import type { Row } from '../row.ts';
import { lowerBound } from '../search.ts';
import { distinctMetric } from '../stream.ts';
import { Aggregate } from './aggregate.ts';
import { Distinct } from './distinct.ts';
import { FINGERPRINTS } from './record.ts';
import type { Level } from './window.ts';

/** One set of tags of one stream, as long as any open window has a cell for it. */
export interface Series {
  readonly name: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Cells in open windows. */
  cells: number;
  /** The tags as records wrote them. */
  readonly texts: string[];
  /** The cell of its last reading, and the pane that has it. */
  lastPane: OpenWindow | null;
  lastCell: Cell | null;
}

/** How many readings of one series wait to be added together. */
const HELD_READINGS = 16;

export class Cell {
  readonly series: Series;
  /** One for each metric of the stream; null = no value yet. */
  readonly aggregates: (Aggregate | null)[];
  /** Admitted readings. */
  count = 0;
  duplicates = 0;
  /** Admitted readings that carried a sequence number, and the range of these numbers. */
  sequences = 0;
  minSequence = Number.POSITIVE_INFINITY;
  maxSequence = Number.NEGATIVE_INFINITY;
  /** By field; null = none yet. */
  #distinct: Map<string, Distinct> | null = null;
  /**
   * Base pane only: the event times so far, ascending, as distances from the pane's start, each with the fingerprint that
   * came with it first: distance * FINGERPRINTS + fingerprint.
   */
  #known: number[] = [];
  /**
   * Base pane only: readings that are not in the aggregates yet, time and values of each in a row, up to #heldEnd. With many
   * series every reading finds the aggregates of its own out of the processor's cache; adding a few at once pays for that
   * only once.
   */
  #held: number[] = [];
  #heldEnd = 0;

  constructor(series: Series, metrics: number) {
    this.series = series;
    this.aggregates = new Array<Aggregate | null>(metrics).fill(null);
  }

  /** Remembers an event time. Answers null when it is new, else the fingerprint that came with it first. */
  remember(distanceMs: number, fingerprint: number): number | null {
    const known = this.#known;
    const lowest = distanceMs * FINGERPRINTS;
    if (known.length === 0 || known[known.length - 1]! < lowest) {
      known.push(lowest + fingerprint);
      return null;
    }
    const at = lowerBound(known, lowest);
    const found = known[at];
    if (found !== undefined && found < lowest + FINGERPRINTS) return found - lowest;
    known.splice(at, 0, lowest + fingerprint);
    return null;
  }

  /** The window is closed: what takes readings and tells duplicates apart is not needed any more. */
  close(window: OpenWindow): void {
    this.settle();
    this.#known = [];
    this.#held = [];
    const { series } = this;
    if (series.lastPane !== window) return;
    series.lastPane = null;
    series.lastCell = null;
  }

  /** Counts a reading; metrics that it does not have are undefined. */
  add(timeMs: number, values: Readonly<Record<string, unknown>>, metrics: readonly string[]): void {
    this.count++;
    if (metrics.length === 0) return;
    const held = this.#held;
    held[this.#heldEnd++] = timeMs;
    for (let i = 0; i < metrics.length; i++) {
      const value = values[metrics[i]!];
      // Adding zero makes -0 a zero.
      held[this.#heldEnd++] = value === undefined ? Number.NaN : (value as number) + 0;
    }
    if (this.#heldEnd >= HELD_READINGS * (metrics.length + 1)) this.settle();
  }

  /** Brings the aggregates up to date with what was added. */
  settle(): void {
    const held = this.#held;
    const end = this.#heldEnd;
    if (end === 0) return;
    const { aggregates } = this;
    const step = aggregates.length + 1;
    for (let i = 0; i < aggregates.length; i++) {
      let aggregate = aggregates[i]!;
      for (let at = 0; at < end; at += step) {
        const value = held[at + 1 + i]!;
        if (Number.isNaN(value)) continue;
        aggregate ??= new Aggregate();
        aggregate.add(held[at]!, value);
      }
      aggregates[i] = aggregate;
    }
    this.#heldEnd = 0;
  }

  addSequence(sequence: number): void {
    this.sequences++;
    if (sequence < this.minSequence) this.minSequence = sequence;
    if (sequence > this.maxSequence) this.maxSequence = sequence;
  }

  /** `pairs`: name and text of each value, as in the record. Fields that the stream does not count are passed over. */
  addDistinct(pairs: readonly unknown[], fields: readonly string[]): void {
    for (let i = 0; i + 1 < pairs.length; i += 2) {
      const [field, value] = [pairs[i], pairs[i + 1]];
      if (typeof field === 'string' && typeof value === 'string' && fields.includes(field)) {
        this.#distinctOf(field).add(value);
      }
    }
  }

  /** Field and content of each, in the order of `fields`: for a record of the panes topic. */
  distinctOf(fields: readonly string[]): [field: string, distinct: Distinct][] {
    return fields.flatMap((field): [string, Distinct][] => {
      const distinct = this.#distinct?.get(field);
      return distinct ? [[field, distinct]] : [];
    });
  }

  setDistinct(field: string, distinct: Distinct): void {
    this.#distinct ??= new Map();
    this.#distinct.set(field, distinct);
  }

  #distinctOf(field: string): Distinct {
    this.#distinct ??= new Map();
    let distinct = this.#distinct.get(field);
    if (distinct === undefined) {
      distinct = new Distinct();
      this.#distinct.set(field, distinct);
    }
    return distinct;
  }

  merge(other: Cell): void {
    other.settle();
    for (let i = 0; i < other.aggregates.length; i++) {
      const part = other.aggregates[i]!;
      if (part === null) continue;
      const whole = this.aggregates[i] ?? new Aggregate();
      whole.merge(part);
      this.aggregates[i] = whole;
    }
    for (const [field, distinct] of other.#distinct ?? []) this.#distinctOf(field).merge(distinct);
    this.count += other.count;
    this.duplicates += other.duplicates;
    this.sequences += other.sequences;
    if (other.minSequence < this.minSequence) this.minSequence = other.minSequence;
    if (other.maxSequence > this.maxSequence) this.maxSequence = other.maxSequence;
  }

  /**
   * Numbers between the smallest and the largest sequence number that did not arrive. A device that starts again from 0
   * within the window makes this large; numbers that were used twice make it smaller, never negative.
   */
  get missing(): number {
    return this.sequences === 0 ? 0 : Math.max(0, this.maxSequence - this.minSequence + 1 - this.sequences);
  }

  /**
   * One row for each metric that has a value; a stream without metrics has one row with the count. And one for each field
   * whose different values are counted, with their number as `count`.
   */
  rows(window: OpenWindow, rows: Row[]): void {
    this.#metricRows(window, rows);
    if (this.#distinct === null) return;
    const { stream, startMs, endMs } = window;
    const { tags } = this.series;
    const { duplicates, missing } = this;
    const same = { stream, window: window.level.label!, startMs, endMs, tags, ...NO_STATISTICS, duplicates, missing };
    for (const field of window.distinct) {
      const distinct = this.#distinct.get(field);
      if (distinct) rows.push({ ...same, metric: distinctMetric(field), count: distinct.count, rev: 0 });
    }
  }

  #metricRows(window: OpenWindow, rows: Row[]): void {
    this.settle();
    const { stream, metrics } = window;
    const { duplicates, missing } = this;
    const { tags } = this.series;
    const { startMs, endMs } = window;
    const label = window.level.label!;
    if (metrics.length === 0) {
      if (this.count === 0) return;
      rows.push({
        stream,
        metric: '',
        window: label,
        startMs,
        endMs,
        tags,
        count: this.count,
        ...NO_STATISTICS,
        duplicates,
        missing,
        rev: 0,
      });
      return;
    }
    for (let i = 0; i < metrics.length; i++) {
      const aggregate = this.aggregates[i]!;
      if (aggregate === null) continue;
      const s = aggregate.statistics();
      rows.push({
        stream,
        metric: metrics[i]!,
        window: label,
        startMs,
        endMs,
        tags,
        count: aggregate.count,
        sum: s.sum,
        mean: s.mean,
        min: s.min,
        max: s.max,
        stddev: s.stddev,
        first: s.first,
        last: s.last,
        p50: s.p50,
        p95: s.p95,
        p99: s.p99,
        duplicates,
        missing,
        rev: 0,
      });
    }
  }
}

const NO_STATISTICS = {
  sum: null,
  mean: null,
  min: null,
  max: null,
  stddev: null,
  first: null,
  last: null,
  p50: null,
  p95: null,
  p99: null,
} as const;

export class OpenWindow {
  readonly stream: string;
  readonly metrics: readonly string[];
  /** Fields whose different values are counted. */
  readonly distinct: readonly string[];
  readonly level: Level;
  readonly startMs: number;
  readonly endMs: number;
  /** Its rows, or panes, are given out when it closes. False: only there to be merged into its parents. */
  readonly emitted: boolean;
  /** The open windows that this one is merged into when it closes. */
  readonly parents: readonly OpenWindow[];
  /** Offset of the first reading that counts here, and the watermark just before it. */
  readonly minOffset: number;
  readonly watermarkBeforeMs: number;
  readonly cells = new Map<Series, Cell>();
  /** Base pane of a stream with named identities: identity -> fingerprint of the first reading. */
  readonly #identities = new Map<string, number>();

  constructor(fields: Omit<OpenWindow, 'cells' | 'cell' | 'cellOfReading' | 'merge' | 'remember'>) {
    this.stream = fields.stream;
    this.metrics = fields.metrics;
    this.distinct = fields.distinct;
    this.level = fields.level;
    this.startMs = fields.startMs;
    this.endMs = fields.endMs;
    this.emitted = fields.emitted;
    this.parents = fields.parents;
    this.minOffset = fields.minOffset;
    this.watermarkBeforeMs = fields.watermarkBeforeMs;
  }

  /** The cell of a series, made if there is none yet; for a base pane. */
  cellOfReading(series: Series): Cell {
    if (series.lastPane === this) return series.lastCell!;
    const cell = this.cell(series);
    series.lastPane = this;
    series.lastCell = cell;
    return cell;
  }

  cell(series: Series): Cell {
    let cell = this.cells.get(series);
    if (cell === undefined) {
      cell = new Cell(series, this.metrics.length);
      this.cells.set(series, cell);
      series.cells++;
    }
    return cell;
  }

  /** Takes the cell of a closed part; `own`: it may be kept as ours. Answers whether it was kept. */
  merge(cell: Cell, own: boolean): boolean {
    if (own && !this.cells.has(cell.series)) {
      this.cells.set(cell.series, cell);
      return true;
    }
    this.cell(cell.series).merge(cell);
    return false;
  }

  /** Remembers a named identity. Answers null when it is new, else the fingerprint that came with it first. */
  remember(identity: string, fingerprint: number): number | null {
    const first = this.#identities.get(identity);
    if (first !== undefined) return first;
    this.#identities.set(identity, fingerprint);
    return null;
  }
}

/**
 * A closed window of one series: the unit that `rollup/` emits, `store/` keeps, and people look at.
 * Every number is a function of the log alone; two writings of the same row are equal bit for bit.
 */

export interface Row {
  readonly stream: string;
  /** Metric name; '' for a stream without metrics, which counts events. */
  readonly metric: string;
  /** Label of the window size: `10s`, `1m`, or `5m_1m` for five minutes every minute. See `stream.ts`. */
  readonly window: string;
  /** Epoch milliseconds, inclusive. */
  readonly startMs: number;
  /** Epoch milliseconds, exclusive. */
  readonly endMs: number;
  /** Names in ascending order. */
  readonly tags: Readonly<Record<string, string>>;
  readonly count: number;
  /** Null for a stream without metrics, like all below up to p99. */
  readonly sum: number | null;
  readonly mean: number | null;
  readonly min: number | null;
  readonly max: number | null;
  /** Population standard deviation. */
  readonly stddev: number | null;
  /** Value of the smallest event time. */
  readonly first: number | null;
  /** Value of the largest event time. */
  readonly last: number | null;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  /** Redelivered readings that were not counted again. */
  readonly duplicates: number;
  /** Sequence numbers between the smallest and the largest seen that did not arrive; 0 where the stream has no sequence. */
  readonly missing: number;
  /** 0 for the first writing, +1 for each repair. */
  readonly rev: number;
}

/** The statistics, in the order in which they are shown and written. */
export const STATISTICS = ['sum', 'mean', 'min', 'max', 'stddev', 'first', 'last', 'p50', 'p95', 'p99'] as const;
export type Statistic = (typeof STATISTICS)[number];

/** Which rows: all conditions hold together. */
export interface RowQuery {
  readonly stream: string;
  readonly window: string;
  /** Row.startMs >= fromMs */
  readonly fromMs: number;
  /** Row.startMs < toMs */
  readonly toMs: number;
  /** Tags that a row must carry, with these values; absent = any. */
  readonly tags?: Readonly<Record<string, string>>;
  readonly metric?: string;
  /** The newest this many rows at most. */
  readonly limit?: number;
}

/** Which rows of windows that are still open. */
export interface RunningQuery {
  readonly stream: string;
  /** Absent: every window size of the stream. */
  readonly window?: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly metric?: string;
  /** At most this many rows. */
  readonly limit: number;
}

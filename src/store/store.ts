/**
 * The store: where the rows of closed windows are kept, and read from again. Two implementations, InfluxDB
 * (`influx.ts`) and files in the data folder (`embedded.ts`); `test/contracts/store.ts` is the suite that both pass.
 *
 * A row's place is its stream, metric, tags, window and startMs: a store keeps at most one row per place.
 *
 * Who calls: `rollup/` writes, one store object per thread; any number of calls may be under way at once. `view/`,
 * `verify` and the `rows` API read, in the same or another process, while rows are written. No call retries by itself:
 * a failure comes back at once with its code, and the caller decides how long to go on trying.
 *
 * What only rollup can promise, and a store relies on: `write` is only ever given final rows, so a second `write` of a
 * place carries the same bits. A row that differs goes through `replace`, one caller at a time for the same place.
 */
import type { Failure, Outcome } from '../errors.ts';
import type { Row, RowQuery } from '../row.ts';
import type { Score } from '../scored.ts';
import type { WindowSize } from '../stream.ts';

export interface RefusedRow {
  readonly row: Row;
  /** One sentence for a person; goes into the dead letter. */
  readonly reason: string;
}

/** What became of the rows of one call: every row not listed is durable. */
export interface Written {
  /** Rows that this store will never take. They hold no other row back. */
  readonly refused: readonly RefusedRow[];
}

export interface Store {
  /**
   * Makes the places where rows go: buckets or folders. Before the first write, and harmless again later.
   * A failure that is not retryable needs a person: a wrong token, a missing bucket that may not be created.
   */
  prepare(windows: readonly { readonly stream: string; readonly window: WindowSize }[]): Promise<Outcome>;

  /**
   * ok = every row not refused is durable (InfluxDB: answered 204; embedded: fdatasync returned).
   * A failure = any subset may be stored, now or, when a request timed out, a little later; writing the same rows again
   * is safe and is the way on. Aborting the signal ends the waiting, not what is already on its way: STOPPED.
   */
  write(rows: readonly Row[], signal?: AbortSignal): Promise<Outcome<Written>>;

  /**
   * Like `write`, for rows whose place may already hold a different row; afterwards it holds the given one, for every
   * reader, for ever. It changes those places and no other. After a failure a place may be empty, or hold the old or
   * the new row: the caller keeps the rows until a later `replace` of them says ok.
   */
  replace(rows: readonly Row[], signal?: AbortSignal): Promise<Outcome<Written>>;

  /** Values so far of windows that are still open, to be shown. Kept apart from the rows; losing them is harmless. */
  running(rows: readonly Row[]): Promise<Outcome>;

  /**
   * The rows that match, ascending by startMs, then metric, then series name (`order.ts`), each place once; with a limit
   * the last ones of that order. Memory is bounded by the rows of one window start (all series that match), not by the
   * range. A row whose `write` was acknowledged before the call is seen; one written meanwhile may be. Throws ReadFailed,
   * and nothing else expected.
   */
  read(query: RowQuery): AsyncIterable<Row>;

  /**
   * A model's opinions, kept beside the rows: ok = every one is as durable as a row. One that was stored is stored again
   * with the same bits, except after a repair of the rows that it comes from; which of the two counts is then not promised.
   */
  writeScores(scores: readonly Score[]): Promise<Outcome>;

  /** Like `read`, for scores; those of one start in no particular order. */
  readScores(query: RowQuery): AsyncIterable<Score>;

  /** Like `read`, for what `running` wrote within the last hour. */
  readRunning(query: RowQuery): AsyncIterable<Row>;

  /** Whether a write would be likely to succeed now. */
  health(): Promise<Outcome>;

  /** Waits for what is under way, for a bounded time, and lets go of files and sockets. */
  close(): Promise<void>;
}

/** Why `read` could not go on. */
export class ReadFailed extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.message, { cause: failure.cause });
    this.name = 'ReadFailed';
    this.failure = failure;
  }
}

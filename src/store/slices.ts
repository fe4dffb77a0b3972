/**
 * Reading rows in the store's order, with bounded memory, from a source that has its own order (InfluxDB answers series by
 * series; a file has the order of writing). The range is read in slices of time, each sorted here. A slice grows while its
 * answers are small and shrinks when one is too large, down to one window start.
 */
import type { Row, RowQuery } from '../row.ts';
import type { WindowSize } from '../stream.ts';
import { MAX_TIME_MS } from './admit.ts';
import { sortRows } from './order.ts';

/** What a slice aims at, and where it is cut off and read again in smaller ones. */
const AIM_ROWS = 5_000;
const MAX_ROWS = 20_000;
const FIRST_STARTS = 120;
const GROWTH = 16;

export interface SliceSource {
  /** The matching rows of [fromMs, toMs), each place once, in any order; null when they are more than `maxRows`. */
  rows(fromMs: number, toMs: number, maxRows: number): Promise<Row[] | null>;
  /**
   * Where to go on after an empty slice: no matching row of [fromMs, toMs) is older, or newer, than this; null = there is
   * none at all.
   */
  edge(fromMs: number, toMs: number, edge: 'oldest' | 'newest'): Promise<number | null>;
}

/** The rows in order, some at a time: an array costs the layers above less than a row each. */
export async function* readSlices(query: RowQuery, window: WindowSize, source: SliceSource): AsyncGenerator<Row[]> {
  const fromMs = Math.max(0, Math.ceil(query.fromMs));
  const toMs = Math.min(MAX_TIME_MS + 1, Math.ceil(query.toMs));
  if (!(fromMs < toMs)) return;
  if (query.limit === undefined) {
    yield* ascending(fromMs, toMs, window.everyMs, source);
    return;
  }
  let newest: Row[] = [];
  if (query.limit <= 0) return;
  for await (const rows of descending(fromMs, toMs, window.everyMs, source)) {
    newest = rows.concat(newest);
    if (newest.length >= query.limit) break;
  }
  yield newest.slice(-query.limit);
}

async function* ascending(fromMs: number, toMs: number, everyMs: number, source: SliceSource): AsyncGenerator<Row[]> {
  const size = new SliceSize();
  let atMs = fromMs;
  let jump = toMs - fromMs > everyMs * FIRST_STARTS;
  while (atMs < toMs) {
    if (jump) {
      const oldestMs = await source.edge(atMs, toMs, 'oldest');
      if (oldestMs === null) return;
      atMs = oldestMs;
    }
    const endMs = Math.min(toMs, atMs + size.starts * everyMs);
    const rows = await source.rows(atMs, endMs, size.maxRows());
    if (rows !== null) {
      yield sortRows(rows);
      atMs = endMs;
    }
    jump = rows !== null && rows.length === 0;
    size.learn(rows);
  }
}

async function* descending(fromMs: number, toMs: number, everyMs: number, source: SliceSource): AsyncGenerator<Row[]> {
  const size = new SliceSize();
  // How many rows the newest start has is not known, and a few rows may be enough.
  size.starts = 1;
  let atMs = toMs;
  let jump = true;
  while (atMs > fromMs) {
    if (jump) {
      const newestMs = await source.edge(fromMs, atMs, 'newest');
      if (newestMs === null) return;
      atMs = newestMs + 1;
    }
    const startMs = Math.max(fromMs, atMs - size.starts * everyMs);
    const rows = await source.rows(startMs, atMs, size.maxRows());
    if (rows !== null) {
      yield sortRows(rows);
      atMs = startMs;
    }
    jump = rows !== null && rows.length === 0;
    size.learn(rows);
  }
}

class SliceSize {
  /** Window starts in the next slice. */
  starts = FIRST_STARTS;

  /** A slice of one start cannot be made smaller. */
  maxRows(): number {
    return this.starts > 1 ? MAX_ROWS : Number.POSITIVE_INFINITY;
  }

  /** null = the slice had too many rows. */
  learn(rows: readonly Row[] | null): void {
    if (rows === null) this.starts = Math.max(1, Math.floor(this.starts / GROWTH));
    else if (rows.length > 0) {
      const fits = Math.floor((this.starts * AIM_ROWS) / rows.length);
      this.starts = Math.max(1, Math.min(fits, this.starts * GROWTH));
    }
  }
}

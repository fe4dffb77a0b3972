/**
 * The values of one tag that have the most readings, of rows of one window size: top pages of a click stream, the loudest
 * devices of a site. Exact: counts are added up. Pure.
 */
import type { Row } from '../row.ts';

export interface Top {
  /** Different values of the tag. */
  readonly values: number;
  /** Readings in all of them. */
  readonly count: number;
  /** The largest first; equal ones in the order of their text. */
  readonly top: readonly { readonly value: string; readonly count: number }[];
}

/** More values than this in one answer are refused: nobody asked for the tail, and it has to be held in memory. */
export const MAX_TOP_VALUES = 100_000;

/**
 * Null: more than MAX_TOP_VALUES. Rows of other metrics are passed over; '' = those that count the events of a stream without
 * metrics.
 */
export async function topOf(rows: AsyncIterable<Row>, metric: string, by: string, limit: number): Promise<Top | null> {
  const counts = new Map<string, number>();
  let count = 0;
  for await (const row of rows) {
    const value = row.tags[by];
    if (value === undefined || row.metric !== metric) continue;
    counts.set(value, (counts.get(value) ?? 0) + row.count);
    count += row.count;
    if (counts.size > MAX_TOP_VALUES) return null;
  }
  const sorted = [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  return { values: counts.size, count, top: sorted.slice(0, limit).map(([value, n]) => ({ value, count: n })) };
}

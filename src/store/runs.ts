/** Neighbouring rows of one series, so that one delete covers them and nothing between them. Pure. */
import type { Row } from '../row.ts';
import { windowOf } from './admit.ts';
import { placeOf } from './order.ts';

export interface Run {
  /** Any row of the run: all have the same series. */
  readonly row: Row;
  readonly fromMs: number;
  /** Exclusive; nothing but the run's rows lies in [fromMs, toMs). */
  readonly toMs: number;
}

export function runsOf(rows: readonly Row[]): Run[] {
  const bySeries = new Map<string, Row[]>();
  for (const row of rows) {
    const series = placeOf({ ...row, startMs: 0 });
    const group = bySeries.get(series);
    if (group) group.push(row);
    else bySeries.set(series, [row]);
  }
  const runs: Run[] = [];
  for (const group of bySeries.values()) {
    group.sort((a, b) => a.startMs - b.startMs);
    const everyMs = windowOf(group[0]!.window)?.everyMs ?? 1;
    let first = 0;
    for (let i = 1; i <= group.length; i++) {
      if (i < group.length && group[i]!.startMs - group[i - 1]!.startMs === everyMs) continue;
      runs.push({ row: group[first]!, fromMs: group[first]!.startMs, toMs: group[i - 1]!.startMs + 1 });
      first = i;
    }
  }
  return runs;
}

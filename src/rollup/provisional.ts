/**
 * Running values: the rows of windows that are still open. They change until the window closes, so they are for looking
 * at (the live page, `<stream>_live`), never for the measurement of final rows.
 */
import type { Row, RunningQuery } from '../row.ts';
import { Cell, type OpenWindow, type Series } from './pane.ts';

/** Which of them; absent: all. */
export type Wanted = Omit<RunningQuery, 'limit'>;

/** At most `limit` rows: small windows first, then the newest first. Changes nothing in the windows. */
export function provisionalRows(open: Iterable<OpenWindow>, limit: number, wanted?: Wanted): Row[] {
  const windows = [...open];
  const parts = new Map<OpenWindow, OpenWindow[]>(windows.map((window) => [window, []]));
  for (const window of windows) for (const parent of window.parents) parts.get(parent)?.push(window);
  windows.sort((a, b) => a.level.sizeMs - b.level.sizeMs || b.startMs - a.startMs);
  const rows: Row[] = [];
  for (const window of windows) {
    if (!window.emitted || window.level.label === null || (wanted && !isWanted(window, wanted))) continue;
    const tags = Object.entries(wanted?.tags ?? {});
    const found = new Set<Series>();
    collect(window, parts, tags, found);
    for (const series of found) {
      const cell = new Cell(series, window.metrics.length);
      gather(window, cell, parts);
      const from = rows.length;
      cell.rows(window, rows);
      if (wanted?.metric !== undefined) keep(rows, from, wanted.metric);
      if (rows.length >= limit) return rows.slice(0, limit);
    }
  }
  return rows;
}

function isWanted(window: OpenWindow, wanted: Wanted): boolean {
  return window.stream === wanted.stream && (wanted.window === undefined || window.level.label === wanted.window);
}

function collect(
  window: OpenWindow,
  parts: Map<OpenWindow, OpenWindow[]>,
  tags: readonly (readonly [name: string, value: string])[],
  found: Set<Series>,
): void {
  for (const series of window.cells.keys()) {
    if (tags.every(([name, value]) => series.tags[name] === value)) found.add(series);
  }
  for (const part of parts.get(window)!) collect(part, parts, tags, found);
}

/** Of the rows from an index on those of one metric. */
function keep(rows: Row[], from: number, metric: string): void {
  const kept = rows.splice(from).filter((row) => row.metric === metric);
  rows.push(...kept);
}

/** The window's own cell, which holds its closed parts, and those of its open parts. */
function gather(window: OpenWindow, into: Cell, parts: Map<OpenWindow, OpenWindow[]>): void {
  const own = window.cells.get(into.series);
  if (own !== undefined) into.merge(own);
  for (const part of parts.get(window)!) gather(part, into, parts);
}

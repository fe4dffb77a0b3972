/**
 * Running values: the rows of windows that are still open. They change until the window closes, so they are for looking
 * at (the live page, `<stream>_live`), never for the measurement of final rows.
 */
import type { Row } from '../row.ts';
import { Cell, type OpenWindow, type Series } from './pane.ts';

/** At most `limit` rows: small windows first, then the newest first. Changes nothing in the windows. */
export function provisionalRows(open: Iterable<OpenWindow>, limit: number): Row[] {
  const windows = [...open];
  const parts = new Map<OpenWindow, OpenWindow[]>(windows.map((window) => [window, []]));
  for (const window of windows) for (const parent of window.parents) parts.get(parent)?.push(window);
  windows.sort((a, b) => a.level.sizeMs - b.level.sizeMs || b.startMs - a.startMs);
  const rows: Row[] = [];
  for (const window of windows) {
    if (!window.emitted) continue;
    for (const series of seriesIn(window, parts)) {
      const cell = new Cell(series, window.metrics.length);
      gather(window, cell, parts);
      cell.rows(window, rows);
      if (rows.length >= limit) return rows.slice(0, limit);
    }
  }
  return rows;
}

function seriesIn(window: OpenWindow, parts: Map<OpenWindow, OpenWindow[]>): Set<Series> {
  const all = new Set(window.cells.keys());
  for (const part of parts.get(window)!) for (const series of seriesIn(part, parts)) all.add(series);
  return all;
}

/** The window's own cell, which holds its closed parts, and those of its open parts. */
function gather(window: OpenWindow, into: Cell, parts: Map<OpenWindow, OpenWindow[]>): void {
  const own = window.cells.get(into.series);
  if (own !== undefined) into.merge(own);
  for (const part of parts.get(window)!) gather(part, into, parts);
}

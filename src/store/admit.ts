/**
 * Which rows a store can keep: the same answer for every store, so that a configuration can change from one to the
 * other. A refusal here means a bug upstream or a name of absurd length; the row is refused alone, with the reason.
 * Pure.
 */
import { type Row, STATISTICS } from '../row.ts';
import { parseWindow, type WindowSize } from '../stream.ts';
import { oncePerSeries } from './order.ts';
import type { RefusedRow } from './store.ts';

/** UTF-8 bytes of stream, metric, tag names and tag values together. InfluxDB ends at 65,535 bytes after escaping. */
export const MAX_NAME_BYTES = 16 * 1024;

/** The last millisecond but one that InfluxDB's nanoseconds can say (year 2262); ranges end one later. */
export const MAX_TIME_MS = 9_223_372_036_853;

const windows = new Map<string, WindowSize | null>();
const MAX_WINDOWS = 1_000;

/** `parseWindow`, remembered: it is asked once a row. */
export function windowOf(label: string): WindowSize | null {
  let window = windows.get(label);
  if (window === undefined) {
    window = parseWindow(label);
    if (windows.size >= MAX_WINDOWS) windows.clear();
    windows.set(label, window);
  }
  return window;
}

export function admit(rows: readonly Row[]): { admitted: Row[]; refused: RefusedRow[] } {
  const admitted: Row[] = [];
  const refused: RefusedRow[] = [];
  for (const row of rows) {
    const reason = whyNot(row);
    if (reason === null) admitted.push(row);
    else refused.push({ row, reason });
  }
  return { admitted, refused };
}

/** The reason why no store keeps this row, or null. */
export function whyNot(row: Row): string | null {
  const window = windowOf(row.window);
  if (window === null || window.label !== row.window) return `"${row.window}" is not the label of a window size`;
  if (!Number.isSafeInteger(row.startMs) || row.startMs < 0 || row.startMs > MAX_TIME_MS) {
    return `the window start ${row.startMs} is not a time in milliseconds from 1970 to 2262`;
  }
  if (row.endMs - row.startMs !== window.sizeMs) {
    return `the row ends at ${row.endMs}, but a ${row.window} window that starts at ${row.startMs} ends at ${row.startMs + window.sizeMs}`;
  }
  for (const name of ['count', 'duplicates', 'missing', 'rev'] as const) {
    if (!Number.isSafeInteger(row[name]) || row[name] < 0) return `${name} is ${row[name]}, not a count`;
  }
  for (const name of STATISTICS) {
    const value = row[name];
    if (value !== null && !Number.isFinite(value)) return `${name} is ${value}, not a finite number`;
  }
  const nameBytes = nameBytesOf(row);
  if (nameBytes > MAX_NAME_BYTES) {
    return `the names and values of the tags are ${nameBytes} bytes long, more than ${MAX_NAME_BYTES}`;
  }
  return null;
}

const nameBytesOf = oncePerSeries((row) => {
  const texts = [row.stream, row.metric, ...Object.entries(row.tags).flat()];
  return texts.reduce((bytes, text) => bytes + Buffer.byteLength(text), 0);
});

/**
 * Window arithmetic: which windows a time falls into, and out of which smaller ones a larger one is merged. Pure.
 *
 * Windows are half-open, [start, end), and aligned to the epoch in UTC: every start is a multiple of `everyMs`. A tumbling
 * window has everyMs = sizeMs; a hopping one starts every `everyMs` and covers sizeMs, a multiple of it.
 *
 * The base pane of a stream is the tumbling window whose size divides every size and every distance of the stream's
 * windows: normally its smallest window. Only the base pane is given readings. Every other window is merged from the
 * closed windows of its source, the largest tumbling level whose size divides its distance: 10s -> 1m -> 15m -> 1h,
 * 1m -> 5m_1m. As the arithmetic is exact, that is the same as merging all its base panes.
 */
import type { WindowSize } from '../stream.ts';

export interface Level {
  /** Null: a base pane that the stream does not ask for, only there to be merged. */
  readonly label: string | null;
  readonly sizeMs: number;
  readonly everyMs: number;
  /** The levels that are merged from this one. */
  readonly feeds: readonly Level[];
}

/** The largest multiple of `stepMs` that is not above `timeMs`; both integers, exact for all safe integers. */
export function floorTo(timeMs: number, stepMs: number): number {
  const floored = Math.floor(timeMs / stepMs) * stepMs;
  // The quotient is rounded: next to a multiple it may be one off.
  if (floored > timeMs) return floored - stepMs;
  return floored + stepMs <= timeMs ? floored + stepMs : floored + 0;
}

/** Starts of the windows of a level that contain all of [startMs, endMs), ascending; `endMs - startMs` divides `everyMs`. */
export function windowStarts(level: Pick<Level, 'sizeMs' | 'everyMs'>, startMs: number, endMs: number): number[] {
  const starts: number[] = [];
  const last = floorTo(startMs, level.everyMs);
  for (let start = floorTo(endMs - level.sizeMs - 1, level.everyMs) + level.everyMs; start <= last; ) {
    starts.push(start);
    start += level.everyMs;
  }
  return starts;
}

/** Size of the base pane of a stream with these windows. */
export function baseSizeMs(windows: readonly WindowSize[]): number {
  return windows.reduce((size, window) => divisor(divisor(size, window.sizeMs), window.everyMs), 0);
}

/** The base pane's level, from which all others are reached through `feeds`. At least one window. */
export function planLevels(windows: readonly WindowSize[]): Level {
  const baseMs = baseSizeMs(windows);
  const ascending = [...windows].sort((a, b) => a.sizeMs - b.sizeMs || a.everyMs - b.everyMs);
  const isBase = (window: WindowSize) => window.sizeMs === baseMs;
  const label = ascending.find(isBase)?.label ?? null;
  const base = { label, sizeMs: baseMs, everyMs: baseMs, feeds: [] as Level[] };
  const sources = [base];
  for (const window of ascending) {
    if (isBase(window)) continue;
    const level = { ...window, feeds: [] as Level[] };
    const source = sources.findLast((candidate) => window.everyMs % candidate.sizeMs === 0) ?? base;
    source.feeds.push(level);
    if (level.sizeMs === level.everyMs) sources.push(level);
  }
  return base;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

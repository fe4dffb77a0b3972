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
 *
 * Two stages (panes.ts) divide these windows between two engines. The joint is the tumbling pane that the first hands to
 * the second: a minute, or the base pane where that does not divide a minute. The second has the windows that are larger
 * than the joint and can be merged from it, and the joint as its base; the first has all others. A stream without such
 * windows is the first stage's alone.
 */
import type { WindowSize } from '../stream.ts';

/** Which windows an engine has: all of them, or those of one of two stages. */
export type Stage = 'only' | 'first' | 'second';

const JOINT_MS = 60_000;

export interface Level {
  /** Null: a base pane that the stream does not ask for, only there to be merged. */
  readonly label: string | null;
  readonly sizeMs: number;
  readonly everyMs: number;
  /** The levels that are merged from this one. */
  readonly feeds: readonly Level[];
  /** Its closed windows are handed to the second stage. */
  readonly isJoint: boolean;
}

export interface Division {
  readonly first: readonly WindowSize[];
  readonly second: readonly WindowSize[];
  /** Null: nothing is handed on, `second` is empty. */
  readonly jointMs: number | null;
}

export function divide(windows: readonly WindowSize[]): Division {
  const baseMs = baseSizeMs(windows);
  const jointMs = JOINT_MS % baseMs === 0 ? JOINT_MS : baseMs;
  const isSecond = ({ sizeMs, everyMs }: WindowSize) => sizeMs > jointMs && everyMs % jointMs === 0;
  const second = windows.filter(isSecond);
  if (second.length === 0) return { first: windows, second, jointMs: null };
  return { first: windows.filter((window) => !isSecond(window)), second, jointMs };
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

/** The base pane's level, from which all others of the stage are reached through `feeds`. The stage has at least one window. */
export function planLevels(windows: readonly WindowSize[], stage: Stage = 'only'): Level {
  const baseMs = baseSizeMs(windows);
  if (stage === 'only') return plan(windows, baseMs, null);
  const { first, second, jointMs } = divide(windows);
  return stage === 'first' ? plan(first, baseMs, jointMs) : plan(second, jointMs ?? baseMs, null);
}

/** The windows of the stage, which may be none of the second. */
export function windowsOf(windows: readonly WindowSize[], stage: Stage): readonly WindowSize[] {
  return stage === 'only' ? windows : divide(windows)[stage];
}

function plan(windows: readonly WindowSize[], baseMs: number, jointMs: number | null): Level {
  const wanted: (Omit<Level, 'feeds' | 'isJoint'> & { feeds: Level[] })[] = windows.map((window) => ({
    label: window.label,
    sizeMs: window.sizeMs,
    everyMs: window.everyMs,
    feeds: [],
  }));
  // Panes that the stream does not ask for, but that others are made of.
  for (const sizeMs of [baseMs, jointMs]) {
    if (sizeMs === null || wanted.some((level) => level.sizeMs === sizeMs && level.everyMs === sizeMs)) continue;
    wanted.push({ label: null, sizeMs, everyMs: sizeMs, feeds: [] });
  }
  wanted.sort((a, b) => a.sizeMs - b.sizeMs || a.everyMs - b.everyMs);
  const levels = wanted.map((level) => ({
    ...level,
    isJoint: level.sizeMs === jointMs && level.everyMs === jointMs,
  }));
  const sources: typeof levels = [];
  for (const level of levels) {
    sources.findLast((candidate) => level.everyMs % candidate.sizeMs === 0)?.feeds.push(level);
    if (level.sizeMs === level.everyMs) sources.push(level);
  }
  return levels[0]!;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

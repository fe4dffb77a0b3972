/**
 * Numenta's benchmark for streaming anomaly detection: its files, and its way of scoring ("standard" profile), written from
 * its published description (Lavin and Ahmad 2015, "Evaluating Real-time Anomaly Detection Algorithms").
 *   DIR/data/**.csv                      timestamp,value
 *   DIR/labels/combined_windows.json     { file: [[start, end], …] }, the windows in which an anomaly counts as found
 * Of each window the earliest detection counts, more the earlier it is; every detection outside costs, less shortly after
 * a window; a window without any costs 1. The first 15 % of a file (of 5,000 lines at most) are for learning and not scored.
 * 100 = every anomaly found at the start of its window and nothing else; 0 = as good as no detector.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface NabFile {
  readonly name: string;
  readonly timesMs: readonly number[];
  readonly values: readonly number[];
  /** First and last line of each, both inclusive. */
  readonly windows: readonly (readonly [first: number, last: number])[];
  /** Lines before this one are not scored. */
  readonly scoredFrom: number;
}

export interface NabResult {
  readonly score: number;
  readonly found: number;
  readonly windows: number;
  readonly falseAlarms: number;
}

const LEARNING_SHARE = 0.15;
const LEARNING_LINES = 5_000;
const FALSE_ALARM_COST = 0.11;

export function readNab(folder: string): NabFile[] {
  const labels = JSON.parse(readFileSync(join(folder, 'labels/combined_windows.json'), 'utf8'));
  return Object.entries(labels as Record<string, [string, string][]>).map(([name, windows]) => {
    const lines = readFileSync(join(folder, 'data', name), 'utf8')
      .trim()
      .split(/\r?\n/)
      .slice(1);
    const cells = lines.map((line) => line.split(','));
    const timesMs = cells.map(([time]) => timeOf(time!));
    return {
      name,
      timesMs,
      values: cells.map(([, value]) => Number(value)),
      windows: windows.map(([start, end]) => {
        const first = timesMs.findIndex((ms) => ms >= timeOf(start));
        return [first, timesMs.findLastIndex((ms) => ms <= timeOf(end))] as const;
      }),
      scoredFrom: Math.floor(LEARNING_SHARE * Math.min(lines.length, LEARNING_LINES)),
    };
  });
}

function timeOf(text: string): number {
  return Date.parse(`${text.replace(' ', 'T')}Z`);
}

/** `alarms`: for each file the lines of its detections. */
export function scoreNab(files: readonly NabFile[], alarms: readonly (readonly number[])[]): NabResult {
  let points = 0;
  let found = 0;
  let windows = 0;
  let falseAlarms = 0;
  files.forEach((file, k) => {
    const best = file.windows.map(() => -1);
    for (const line of alarms[k]!) {
      if (line < file.scoredFrom) continue;
      const inside = file.windows.findIndex(([first, last]) => line >= first && line <= last);
      if (inside >= 0) {
        const [first, last] = file.windows[inside]!;
        const worth = sigmoid(-(last - line + 1) / (last - first + 1)) / sigmoid(-1);
        best[inside] = Math.max(best[inside]!, worth);
      } else {
        falseAlarms++;
        const before = file.windows.findLast(([, last]) => last < line);
        const cost = before === undefined ? -1 : sigmoid((line - before[1]) / (before[1] - before[0]));
        points += FALSE_ALARM_COST * cost;
      }
    }
    for (const worth of best) points += worth;
    found += best.filter((worth) => worth > -1).length;
    windows += best.length;
  });
  return { score: (100 * (points + windows)) / (2 * windows), found, windows, falseAlarms };
}

/** 1 far to the left of 0, -1 far to its right. */
function sigmoid(position: number): number {
  return position > 3 ? -1 : 2 / (1 + Math.exp(5 * position)) - 1;
}

/** What one engine holds of one stream: its levels, its open windows, the series in them, and counts for telemetry. */

import { seriesName } from '../reading.ts';
import type { Stream } from '../stream.ts';
import type { OpenWindow, Series } from './pane.ts';
import { type Level, planLevels, type Stage, windowsOf } from './window.ts';

/** Readings of this stream, each in exactly one of these; `conflicts` is a part of `duplicates`. */
export interface StreamStats {
  counted: number;
  duplicates: number;
  /** Duplicates that carried other values than the reading that was counted. */
  conflicts: number;
  late: number;
  straggler: number;
  /** On time, but for windows that are durable already or whose beginning is not in the log. */
  outOfReach: number;
}

export class StreamState {
  readonly stream: Stream;
  readonly hash: string;
  /** What panes of this stream carry between two stages. */
  readonly firstHash: string;
  readonly base: Level;
  readonly largestMs: number;
  /** S of this stream. */
  completeAfterMs = Number.NEGATIVE_INFINITY;
  /** Of the first of two stages: panes that start after it are all handed on. Never below `completeAfterMs`. */
  handedAfterMs = Number.NEGATIVE_INFINITY;
  /** By name. */
  readonly series = new Map<string, Series>();
  /** By their tags as they stand in records: JSON. Nearly always one text a series. */
  readonly seriesByTags = new Map<string, Series>();
  readonly stats: StreamStats = { counted: 0, duplicates: 0, conflicts: 0, late: 0, straggler: 0, outOfReach: 0 };
  readonly #windows = new Map<Level, Map<number, OpenWindow>>();
  /** The pane of the last reading: nearly always that of the next one too. */
  lastPaneMs = Number.NaN;
  lastPane: OpenWindow | null = null;

  constructor(stream: Stream, { hash, firstHash }: { hash: string; firstHash: string }, stage: Stage) {
    this.stream = stream;
    this.hash = hash;
    this.firstHash = firstHash;
    this.base = planLevels(stream.windows, stage);
    this.largestMs = Math.max(this.base.sizeMs, ...windowsOf(stream.windows, stage).map((window) => window.sizeMs));
  }

  /** The series with these tags, made if there is none; null = it would be new, and there is no room. */
  addSeries(text: string, tags: Readonly<Record<string, string>>, hasRoom?: () => boolean): Series | null {
    const name = seriesName(tags);
    let series = this.series.get(name);
    if (series === undefined) {
      if (hasRoom?.() === false) return null;
      series = { name, tags, cells: 0, texts: [], lastPane: null, lastCell: null };
      this.series.set(name, series);
    }
    series.texts.push(text);
    this.seriesByTags.set(text, series);
    return series;
  }

  /** A cell of this series is gone. */
  release(series: Series): void {
    series.cells--;
    if (series.cells > 0) return;
    this.series.delete(series.name);
    for (const text of series.texts) this.seriesByTags.delete(text);
  }

  window(level: Level, startMs: number): OpenWindow | undefined {
    return this.#windows.get(level)?.get(startMs);
  }

  setWindow(window: OpenWindow): void {
    let starts = this.#windows.get(window.level);
    if (starts === undefined) {
      starts = new Map();
      this.#windows.set(window.level, starts);
    }
    starts.set(window.startMs, window);
  }

  deleteWindow(window: OpenWindow): void {
    this.#windows.get(window.level)?.delete(window.startMs);
    if (this.lastPane === window) {
      this.lastPane = null;
      this.lastPaneMs = Number.NaN;
    }
  }
}

/**
 * What `score/` says about a closed window of one series: a model's opinion, kept apart from the exact rows and never part of
 * them. Shared by the stage that makes it, the store that keeps it and the view that shows it.
 */
import type { Row, RunningQuery } from './row.ts';

/** The threshold of an alarm where none is configured; `npm run bench -- anomaly` measures it. */
export const DEFAULT_THRESHOLD = 1.02;
/** Windows ahead that a forecast may reach: not beyond a shape's length (score/neighbours.ts). */
export const MAX_AHEAD = 19;

export interface Score extends Pick<Row, 'stream' | 'metric' | 'window' | 'startMs' | 'tags'> {
  /** The statistic that is watched, of this window. */
  readonly value: number;
  /** What was forecast for this window before it came, with bounds that nine of ten values should keep; null: nothing was. */
  readonly expected: number | null;
  readonly low: number | null;
  readonly high: number | null;
  /** How far the newest windows are from everything that they can be compared with, in the unit of the value. */
  readonly distance: number;
  /** `distance` over the largest one of the windows before; 1 = as unusual as anything before. Null: too few to say. */
  readonly score: number | null;
  /** The score reached the threshold, and no window shortly before had. */
  readonly alarm: boolean;
}

/** A forecast of a window that has not closed yet; the same bounds. */
export interface Forecast extends Pick<Row, 'stream' | 'metric' | 'window' | 'startMs' | 'tags'> {
  readonly expected: number;
  readonly low: number;
  readonly high: number;
}

export type ForecastQuery = Omit<RunningQuery, 'window'>;

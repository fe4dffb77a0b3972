/**
 * A score in the numbers of a row, and back: the files of the embedded store know only rows, and scores have files of their
 * own. Which number stands for which is known here alone. Pure.
 */
import type { Row } from '../row.ts';
import type { Score } from '../scored.ts';
import { windowOf } from './admit.ts';

export function rowOfScore(score: Score): Row {
  const { stream, metric, window, startMs, tags, value, expected, low, high, distance, alarm } = score;
  return {
    stream,
    metric,
    window,
    startMs,
    endMs: startMs + (windowOf(window)?.sizeMs ?? 0),
    tags,
    count: alarm ? 1 : 0,
    sum: score.score,
    mean: expected,
    min: low,
    max: high,
    stddev: distance,
    first: null,
    last: value,
    p50: null,
    p95: null,
    p99: null,
    duplicates: 0,
    missing: 0,
    rev: 0,
  };
}

export function scoreOfRow(row: Row): Score {
  const { stream, metric, window, startMs, tags, count, sum, mean, min, max, stddev, last } = row;
  return {
    stream,
    metric,
    window,
    startMs,
    tags,
    value: last!,
    expected: mean,
    low: min,
    high: max,
    distance: stddev!,
    score: sum,
    alarm: count === 1,
  };
}

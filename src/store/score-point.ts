/** A score as a point in InfluxDB, and back; the layout is in `point.ts`. Pure. */
import type { RowQuery } from '../row.ts';
import type { Score } from '../scored.ts';
import { windowOf } from './admit.ts';
import { type Answer, conditions, identifier } from './influxql.ts';
import { decodeSeries, encodeTags, measurementOf, protect, SCORE_FIELDS } from './point.ts';

const FLOATS = ['value', 'expected', 'low', 'high', 'distance', 'score'] as const;

function scoresOf(stream: string): string {
  return measurementOf(`${stream}_scores`);
}

/** One line of line protocol, without a line end; the timestamp is in milliseconds. */
export function encodeScore(score: Score): string {
  let line = `${protect(scoresOf(score.stream))}${encodeTags(score)} alarm=${score.alarm}`;
  for (const name of FLOATS) {
    const value = score[name];
    if (value !== null) line += `,${name}=${Object.is(value, -0) ? '-0' : value}`;
  }
  return `${line} ${score.startMs}`;
}

/** By time; with a limit the newest come first. */
export function selectScores(query: RowQuery): string {
  const fields = SCORE_FIELDS.map((field) => `"${field}"::${field === 'alarm' ? 'boolean' : 'float'}`).join(',');
  const limit = query.limit === undefined ? '' : ` ORDER BY time DESC LIMIT ${query.limit}`;
  return `SELECT ${fields},*::tag FROM ${identifier(scoresOf(query.stream))} WHERE ${conditions(query)}${limit}`;
}

/** Points that are not ours are left out. */
export function* decodeScores({ columns, values }: Answer, stream: string): Generator<Score> {
  const firstTag = 1 + SCORE_FIELDS.length;
  const keys = columns.slice(firstTag);
  for (const [startMs, value, expected, low, high, distance, score, alarm, ...texts] of values) {
    const series = decodeSeries(Object.fromEntries(keys.map((key, i) => [key, String(texts[i] ?? '')])));
    if (series === null || windowOf(series.window) === null) continue;
    if (typeof value !== 'number' || typeof distance !== 'number') continue;
    yield {
      stream,
      ...series,
      startMs: Number(startMs),
      value,
      expected: numberOrNull(expected),
      low: numberOrNull(low),
      high: numberOrNull(high),
      distance,
      score: numberOrNull(score),
      alarm: alarm === true,
    };
  }
}

function numberOrNull(value: number | string | boolean | null | undefined): number | null {
  return typeof value === 'number' ? value : null;
}

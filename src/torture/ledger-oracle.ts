/**
 * What the final rows must be: an outside judge that never looks into the log. It shares no code with `src/`; statistics
 * are computed over plain lists in exact rationals, of the readings that `ledger-readings.ts` says were counted.
 *
 * A row whose window has no open reading must be right to the last bit, percentiles within their bound. With open ones
 * its count must lie between what is certain and what is possible, and no more is asked of it. Duplicates are known as
 * far as acknowledgements go; what was sent again without one, or written twice by the log, can only add to them.
 *
 * No row may be there that is not expected, in any window; rows may be missing only in windows that end after
 * `closedToMs`.
 */
import type { Delivery } from './deliveries.ts';
import { exactSum, exactVariance, nearest, nearestRank } from './exact.ts';
import { expected, type Place, type Reading, type Rules, tagText } from './ledger-readings.ts';

export interface Judged {
  readonly deliveries: readonly Delivery[];
  /** As `GET /api/v1/rows` gives them, parsed. */
  readonly rows: readonly unknown[];
  /** Windows that end at or before it must be there. */
  readonly closedToMs: number;
  /** Windows that end at or before it were judged already, and are not looked at. */
  readonly sinceMs?: number;
  /** The log may hold a record twice although it was sent once: Kafka was away in between. */
  readonly logRepeats?: boolean;
}

export interface Verdict {
  /** What is wrong; empty = every row is right. */
  readonly findings: readonly string[];
  /** Rows that were compared to the last bit. */
  readonly exact: number;
  /** Rows of windows with open readings. */
  readonly open: number;
  /** Rows by window label. */
  readonly byWindow: Readonly<Record<string, number>>;
  /** Distinct readings. */
  readonly counted: number;
  readonly leftOut: number;
}

type Row = Readonly<Record<string, unknown>>;

export function judge(rules: Rules, judged: Judged): Verdict {
  const { deliveries, rows, closedToMs, sinceMs = Number.NEGATIVE_INFINITY, logRepeats = false } = judged;
  const findings: string[] = [];
  const { places, counted, leftOut } = expected(rules, deliveries, sinceMs);
  const found = new Map<string, Row>();
  const byWindow: Record<string, number> = {};
  let [exact, open] = [0, 0];
  for (const row of rows as readonly Row[]) {
    if ((row.endMs as number) <= sinceMs) continue;
    const window = String(row.window);
    const key = rowKey(String(row.stream), String(row.metric), window, Number(row.startMs), tagText(row.tags));
    if (found.has(key)) findings.push(`${key}: stored more than once`);
    found.set(key, row);
    byWindow[window] = (byWindow[window] ?? 0) + 1;
  }
  for (const place of places.values()) {
    const { stream, window, startMs, endMs, tags } = place;
    for (const [index, metric] of (stream.metrics.length > 0 ? stream.metrics : ['']).entries()) {
      const has = (reading: Reading) => metric === '' || reading.values[index] !== undefined;
      const certain = place.counted.filter(has);
      const most = certain.length + place.open.filter(has).length;
      const key = rowKey(stream.name, metric, window, startMs, tags);
      const row = found.get(key);
      if (row === undefined) {
        if (certain.length > 0 && endMs <= closedToMs)
          findings.push(`${key}: missing, with ${certain.length} readings`);
        continue;
      }
      // One of a metric that no reading of the window has stays among the found.
      if (most === 0) continue;
      found.delete(key);
      if (place.open.length === 0) {
        exact++;
        const wrong = differences(row, place, index, certain, logRepeats);
        if (wrong.length > 0) findings.push(`${key}: ${wrong.join('; ')}`);
        continue;
      }
      open++;
      const count = row.count as number;
      if (!(count >= Math.max(1, certain.length) && count <= most)) {
        findings.push(`${key}: count is ${count}, not ${certain.length} to ${most}`);
      }
    }
  }
  for (const key of found.keys()) findings.push(`${key}: nothing was measured there`);
  return { findings, exact, open, byWindow, counted, leftOut };
}

/** The largest relative error of a percentile. */
const PERCENTILE_BOUND = 0.0078;

function differences(row: Row, place: Place, index: number, readings: readonly Reading[], logRepeats: boolean) {
  const { stream, endMs, tags, counted } = place;
  const wrong: string[] = [];
  const want = (field: string, value: unknown) => {
    if (!Object.is(row[field], value)) wrong.push(`${field} is ${row[field]}, not ${value}`);
  };
  want('endMs', endMs);
  want('count', readings.length);
  want('missing', missing(counted));
  want('rev', 0);
  if (JSON.stringify(row.tags) !== tags) wrong.push(`tags are ${JSON.stringify(row.tags)}, not ${tags}`);
  const names = Object.keys(row).sort().join();
  if (names !== FIELDS) wrong.push(`fields are ${names}, not ${FIELDS}`);
  let [least, most] = [0, logRepeats ? Number.POSITIVE_INFINITY : 0];
  for (const { certain, possible } of counted) {
    least += certain - 1;
    most += certain + possible - 1;
  }
  const duplicates = row.duplicates as number;
  if (!(Number.isInteger(duplicates) && duplicates >= least && duplicates <= most)) {
    wrong.push(`duplicates is ${duplicates}, not ${least} to ${most}`);
  }
  if (stream.metrics.length === 0) {
    for (const field of STATISTICS) want(field, null);
    return wrong;
  }
  const points = readings.map(({ timeMs, values }) => ({ timeMs, value: values[index]! + 0 }));
  points.sort((a, b) => a.timeMs - b.timeMs || a.value - b.value);
  const values = points.map((point) => point.value);
  const [min, max] = [Math.min(...values), Math.max(...values)];
  const sum = nearest(exactSum(values));
  want('sum', sum);
  want('mean', sum / values.length);
  want('min', min);
  want('max', max);
  want('stddev', Math.sqrt(nearest(exactVariance(values))));
  want('first', values[0]);
  want('last', values.at(-1));
  for (const percent of [50, 95, 99]) {
    const truth = nearestRank(values, percent);
    const said = row[`p${percent}`] as number;
    const isNear = Math.abs(said - truth) <= Math.abs(truth) * PERCENTILE_BOUND && said >= min && said <= max;
    if (!isNear) wrong.push(`p${percent} is ${said}, too far from ${truth}`);
  }
  return wrong;
}

const STATISTICS = ['sum', 'mean', 'min', 'max', 'stddev', 'first', 'last', 'p50', 'p95', 'p99'];
const FIELDS = ['stream', 'metric', 'window', 'startMs', 'endMs', 'tags', 'count', ...STATISTICS]
  .concat('duplicates', 'missing', 'rev')
  .sort()
  .join();

/** Counters between the smallest and the largest that did not arrive. */
function missing(readings: readonly Reading[]): number {
  const numbers = readings.flatMap((reading) => reading.sequence ?? []).sort((a, b) => a - b);
  return numbers.length === 0 ? 0 : Math.max(0, numbers.at(-1)! - numbers[0]! + 1 - numbers.length);
}

function rowKey(stream: string, metric: string, window: string, startMs: number, tags: string): string {
  return `${stream} ${tags} ${metric} ${window} ${new Date(startMs).toISOString()}`;
}

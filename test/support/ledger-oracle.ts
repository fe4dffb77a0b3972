/**
 * What the final rows must be, from what the devices did and were told: an outside judge that never looks into the log.
 * It shares no code with `src/`: topics, windows, admission and statistics are written here again, from their definitions,
 * over plain lists and exact rationals.
 *
 * What is known of a delivery's received stamp is that it lies between the sending and the acknowledgement, by the same
 * machine's clock; so whether it was late, or too far ahead, is certain or open:
 *   counted    some delivery of the reading was acknowledged, and was in time however its stamp fell
 *   open       none was, but one may have been
 *   left out   all came late for certain, or were refused
 * A row whose window has no open reading must be right to the last bit, percentiles within their bound. With open ones
 * its count must lie between what is certain and what is possible, and no more is asked of it. Duplicates are known as
 * far as acknowledgements go; what was sent again without one, or written twice by the log, can only add to them.
 *
 * No row may be there that is not expected, in any window; rows may be missing only in windows that end after
 * `closedToMs`.
 */
import type { Delivery } from './deliveries.ts';
import { exactSum, exactVariance, nearest, nearestRank } from './exact.ts';

export interface StreamRules {
  readonly name: string;
  /** `sensors/{site}/{device}/environment` */
  readonly topic: string;
  /** Payload field with epoch milliseconds. */
  readonly time: string;
  readonly sequence?: string;
  /** Payload fields or tags; absent: series and time. */
  readonly identity?: readonly string[];
  /** Payload fields that are tags. */
  readonly tags?: readonly string[];
  readonly metrics: readonly string[];
  /** Labels, `10s` or `5m_1m`; the first divides all others. */
  readonly windows: readonly string[];
}

export interface Rules {
  readonly streams: readonly StreamRules[];
  readonly graceMs: number;
  readonly skewMs: number;
}

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

interface Reading {
  readonly timeMs: number;
  /** One for each metric of the stream. */
  readonly values: readonly (number | undefined)[];
  readonly sequence: number | undefined;
  readonly payload: string;
  /** Deliveries that were admitted for certain, and that may have been. */
  certain: number;
  possible: number;
}

/** One series in one window. */
interface Place {
  readonly stream: StreamRules;
  readonly window: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly tags: string;
  readonly counted: Reading[];
  readonly open: Reading[];
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

function expected(rules: Rules, deliveries: readonly Delivery[], sinceMs: number) {
  const places = new Map<string, Place>();
  const readings = new Map<string, { stream: StreamRules; tags: string; reading: Reading }>();
  for (const delivery of deliveries) {
    const stream = rules.streams.find((one) => capturesOf(one.topic, delivery.topic) !== null);
    const payload = delivery.payload === null ? null : parse(delivery.payload);
    if (!stream || !payload) continue;
    const measured = measure(stream, payload);
    if (measured === null) continue;
    const named: Record<string, string> = capturesOf(stream.topic, delivery.topic)!;
    for (const tag of stream.tags ?? []) named[tag] = String(payload[tag]);
    const tags = tagText(named);
    const { timeMs } = measured;
    const identity = stream.identity?.map((field) => named[field] ?? payload[field]) ?? [tags, timeMs];
    const key = `${stream.name} ${JSON.stringify(identity)}`;
    let known = readings.get(key);
    if (known === undefined) {
      known = { stream, tags, reading: { ...measured, payload: delivery.payload!, certain: 0, possible: 0 } };
      readings.set(key, known);
    } else if (stream.metrics.length > 0 && known.reading.payload !== delivery.payload) {
      throw new Error(`two payloads for one reading, ${key}: this judge does not know which came first`);
    }
    const admitted = admission(rules, stream, delivery, timeMs);
    if (admitted === 'certain') known.reading.certain++;
    else if (admitted === 'possible') known.reading.possible++;
  }
  let [counted, leftOut] = [0, 0];
  for (const { stream, tags, reading } of readings.values()) {
    if (reading.certain > 0) counted++;
    else if (reading.possible === 0) leftOut++;
    if (reading.certain + reading.possible === 0) continue;
    for (const window of stream.windows) {
      const { sizeMs, everyMs } = lengths(window);
      for (let startMs = downTo(reading.timeMs, everyMs); startMs + sizeMs > reading.timeMs; startMs -= everyMs) {
        if (startMs + sizeMs <= sinceMs) break;
        const key = `${stream.name} ${window} ${startMs} ${tags}`;
        let place = places.get(key);
        if (place === undefined) {
          place = { stream, window, startMs, endMs: startMs + sizeMs, tags, counted: [], open: [] };
          places.set(key, place);
        }
        (reading.certain > 0 ? place.counted : place.open).push(reading);
      }
    }
  }
  return { places, counted, leftOut };
}

/** Null: such a payload is refused. */
function measure(stream: StreamRules, payload: Record<string, unknown>) {
  const timeMs = payload[stream.time];
  const sequence = stream.sequence === undefined ? undefined : payload[stream.sequence];
  if (typeof timeMs !== 'number') return null;
  if (sequence !== undefined && !(Number.isSafeInteger(sequence) && (sequence as number) >= 0)) return null;
  const values: (number | undefined)[] = [];
  for (const metric of stream.metrics) {
    const value = payload[metric];
    if (value !== undefined && typeof value !== 'number') return null;
    const size = Math.abs(value ?? 0);
    if (size > 1e150 || (size !== 0 && size < 1e-140)) return null;
    values.push(value);
  }
  if (stream.metrics.length > 0 && values.every((value) => value === undefined)) return null;
  return { timeMs, values, sequence: sequence as number | undefined };
}

function admission(
  rules: Rules,
  stream: StreamRules,
  { sentMs, acknowledgedMs }: Delivery,
  timeMs: number,
): 'certain' | 'possible' | 'no' {
  const latestMs = acknowledgedMs ?? Number.POSITIVE_INFINITY;
  const paneMs = lengths(stream.windows[0]!).sizeMs;
  const lateFromMs = downTo(timeMs, paneMs) + paneMs + rules.graceMs;
  if (sentMs >= lateFromMs || timeMs > latestMs + rules.skewMs) return 'no';
  return latestMs < lateFromMs && timeMs <= sentMs + rules.skewMs ? 'certain' : 'possible';
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

/** Tags by ascending names, as text. */
function tagText(tags: unknown): string {
  const entries = Object.entries(tags as Record<string, string>);
  return JSON.stringify(Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1))));
}

function capturesOf(template: string, topic: string): Record<string, string> | null {
  const [levels, parts] = [template.split('/'), topic.split('/')];
  const tags: Record<string, string> = {};
  for (let i = 0; i < Math.max(levels.length, parts.length); i++) {
    const name = /^\{(.+)\}$/.exec(levels[i] ?? '')?.[1];
    if (name !== undefined && parts[i]) tags[name] = parts[i]!;
    else if (levels[i] !== parts[i]) return null;
  }
  return tags;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `5m_1m`: five minutes long, every minute. */
export function lengths(window: string): { sizeMs: number; everyMs: number } {
  const [sizeMs, everyMs] = window.split('_').map((length) => {
    const [, number, unit] = /^(\d+)([a-z]+)$/.exec(length)!;
    return Number(number) * UNITS[unit!]!;
  });
  return { sizeMs: sizeMs!, everyMs: everyMs ?? sizeMs! };
}

function downTo(timeMs: number, stepMs: number): number {
  return timeMs - (((timeMs % stepMs) + stepMs) % stepMs);
}

function parse(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

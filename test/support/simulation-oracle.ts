/**
 * What the rows must be, straight from the definitions, with none of the engine's code and none of its methods: the whole
 * log at once, readings grouped by window, statistics over plain lists in exact rationals.
 */
import type { StoredRecord } from '../../src/log.ts';
import type { Row } from '../../src/row.ts';
import type { Stream } from '../../src/stream.ts';
import { exactSum, exactVariance, nearest, nearestRank } from '../../src/torture/exact.ts';

export interface Rules {
  readonly streams: Readonly<Record<string, Stream>>;
  readonly graceMs: number;
  readonly disorderMs: number;
}

export interface Truth {
  /** Row by `rowKey`. */
  readonly rows: ReadonlyMap<string, Row>;
  readonly late: readonly { readonly offset: number; readonly reason: 'late' | 'straggler' }[];
  readonly admitted: number;
  readonly duplicates: number;
}

export function rowKey(row: Row): string {
  return `${row.stream} ${seriesOf(row.tags)} ${row.metric} ${row.window} ${row.startMs}`;
}

interface Parsed {
  stream: string;
  time: number;
  tags: Record<string, string>;
  values: Record<string, number>;
  sequence?: number;
  identity?: string;
}

interface Group {
  readonly stream: Stream;
  readonly label: string;
  readonly startMs: number;
  readonly sizeMs: number;
  readonly tags: Record<string, string>;
  readonly readings: Parsed[];
  duplicates: number;
}

export function truthOf(records: readonly StoredRecord[], rules: Rules): Truth {
  const groups = new Map<string, Group>();
  const seen = new Set<string>();
  const late: { offset: number; reason: 'late' | 'straggler' }[] = [];
  let admitted = 0;
  let duplicates = 0;
  for (const [index, record] of records.entries()) {
    if (record.kind !== 'reading') continue;
    const reading: Parsed = JSON.parse(Buffer.from(record.value).toString());
    const stream = rules.streams[reading.stream];
    if (stream === undefined) continue;
    const baseMs = stream.windows[0]!.sizeMs;
    const paneEndMs = Math.floor(reading.time / baseMs) * baseMs + baseMs;
    let watermarkMs = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < index; i++) watermarkMs = Math.max(watermarkMs, records[i]!.receivedMs);
    if (paneEndMs + rules.graceMs <= record.receivedMs) {
      late.push({ offset: record.offset, reason: 'late' });
      continue;
    }
    if (paneEndMs <= watermarkMs - rules.graceMs - rules.disorderMs) {
      late.push({ offset: record.offset, reason: 'straggler' });
      continue;
    }
    const identity = reading.identity ?? `${JSON.stringify(reading.tags)} ${reading.time}`;
    const inPane = `${reading.stream} ${paneEndMs} ${reading.identity === undefined} ${identity}`;
    const isFirst = !seen.has(inPane);
    seen.add(inPane);
    if (isFirst) admitted++;
    else duplicates++;
    for (const { label, sizeMs, everyMs } of stream.windows) {
      // Every window start at or before the reading that still covers it.
      for (
        let startMs = Math.floor(reading.time / everyMs) * everyMs;
        startMs + sizeMs > reading.time;
        startMs -= everyMs
      ) {
        const key = [reading.stream, label, startMs, JSON.stringify(reading.tags)].join(' ');
        let group = groups.get(key);
        if (group === undefined) {
          group = { stream, label, startMs, sizeMs, tags: reading.tags, readings: [], duplicates: 0 };
          groups.set(key, group);
        }
        if (isFirst) group.readings.push(reading);
        else group.duplicates++;
      }
    }
  }
  const rows = new Map<string, Row>();
  for (const group of groups.values()) for (const row of rowsOf(group)) rows.set(rowKey(row), row);
  return { rows, late, admitted, duplicates };
}

function rowsOf(group: Group): Row[] {
  const { stream, label, startMs, sizeMs, tags, readings, duplicates } = group;
  const sequences = readings.flatMap((reading) => reading.sequence ?? []);
  const span = sequences.length === 0 ? 0 : Math.max(...sequences) - Math.min(...sequences) + 1;
  const missing = Math.max(0, span - sequences.length);
  const common = { stream: stream.name, window: label, startMs, endMs: startMs + sizeMs, tags };
  const rest = { duplicates, missing, rev: 0 };
  if (stream.metrics.length === 0) {
    const none = { sum: null, mean: null, min: null, max: null, stddev: null, first: null, last: null };
    const percentiles = { p50: null, p95: null, p99: null };
    return readings.length === 0
      ? []
      : [{ ...common, metric: '', count: readings.length, ...none, ...percentiles, ...rest }];
  }
  return stream.metrics.flatMap((metric) => {
    const points = readings
      .filter((reading) => reading.values[metric] !== undefined)
      .map((reading) => ({ time: reading.time, value: reading.values[metric]! }))
      .sort((a, b) => a.time - b.time || a.value - b.value);
    if (points.length === 0) return [];
    const values = points.map((point) => point.value);
    const sum = nearest(exactSum(values));
    const row: Row = {
      ...common,
      metric,
      count: values.length,
      sum,
      mean: sum / values.length,
      min: Math.min(...values),
      max: Math.max(...values),
      stddev: Math.sqrt(nearest(exactVariance(values))),
      first: values[0]!,
      last: values.at(-1)!,
      p50: percentile(values, 50),
      p95: percentile(values, 95),
      p99: percentile(values, 99),
      ...rest,
    };
    return [row];
  });
}

/** The number of the bucket that the value at this rank is in, kept within the values. */
function percentile(values: readonly number[], percent: number): number {
  const value = nearestRank(values, percent);
  if (value === 0) return 0;
  let power = 2 ** Math.floor(Math.log2(Math.abs(value)));
  if (power > Math.abs(value)) power /= 2;
  if (power * 2 <= Math.abs(value)) power *= 2;
  const step = Math.floor((Math.abs(value) / power - 1) * 64);
  const low = power * (1 + step / 64);
  const high = power * (1 + (step + 1) / 64);
  const middle = Math.sign(value) * (2 * low * (high / (low + high)));
  return Math.min(Math.max(middle, Math.min(...values)), Math.max(...values));
}

/** The fields in which two rows differ; empty when they are equal to the last bit. */
export function differences(a: Row, b: Row): string[] {
  const found = Object.keys(a).length === FIELDS.length + 1 ? [] : ['number of fields'];
  for (const name of FIELDS) if (!Object.is(a[name], b[name])) found.push(name);
  if (a.tags !== b.tags && seriesOf(a.tags) !== seriesOf(b.tags)) found.push('tags');
  return found;
}

const FIELDS = [
  ...(['stream', 'metric', 'window', 'startMs', 'endMs', 'count', 'sum', 'mean', 'min', 'max', 'stddev'] as const),
  ...(['first', 'last', 'p50', 'p95', 'p99', 'duplicates', 'missing', 'rev'] as const),
];

function seriesOf(tags: Readonly<Record<string, string>>): string {
  return Object.entries(tags).join();
}

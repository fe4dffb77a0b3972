/**
 * Reads the rows of one query out of one InfluxDB bucket, in the store's order. InfluxDB answers by time, as a stream that
 * waits while nobody reads; here only the rows of one window start are held, to sort them.
 */
import type { InfluxDB } from '@influxdata/influxdb-client';
import type { Row, RowQuery } from '../row.ts';
import type { WindowSize } from '../stream.ts';
import { MAX_TIME_MS } from './admit.ts';
import { type Answer, ask, selectRows, selectTimes } from './influxql.ts';
import { sortRows } from './order.ts';
import { decodeRow, decodeSeries, FIELDS } from './point.ts';

/** What one statement covers: InfluxDB opens every series in every shard of it at once. A day of 10 s rows. */
const STARTS_PER_STATEMENT = 8_640;
/** Series whose decoded tags are kept for the next row. */
const MAX_REMEMBERED_SERIES = 20_000;

export interface InfluxPlace {
  readonly influx: InfluxDB;
  readonly bucket: string;
  readonly measurement: string;
  readonly timeoutMs: number;
}

/** Throws what the client throws, or StatementFailed. */
export async function* readRows(place: InfluxPlace, query: RowQuery, window: WindowSize): AsyncGenerator<Row> {
  const range = { ...query, ...withinTime(query) };
  if (!(range.fromMs < range.toMs)) return;
  if (query.limit === undefined) {
    for await (const rows of byStart(place, range, window)) yield* rows;
  } else if (query.limit > 0) {
    const oldestMs = await edge(place, range, 'DESC', query.limit);
    if (oldestMs === null) return;
    const newest: Row[] = [];
    for await (const rows of byStart(place, { ...range, fromMs: oldestMs }, window)) newest.push(...rows);
    yield* newest.slice(-query.limit);
  }
}

/** The same range in whole milliseconds that InfluxDB can say. */
export function withinTime({ fromMs, toMs }: RowQuery): { fromMs: number; toMs: number } {
  return { fromMs: Math.max(0, Math.ceil(fromMs)), toMs: Math.min(MAX_TIME_MS + 1, Math.ceil(toMs)) };
}

/** All rows of one start after the other. */
async function* byStart(place: InfluxPlace, query: RowQuery, window: WindowSize): AsyncGenerator<Row[]> {
  const spanMs = STARTS_PER_STATEMENT * window.everyMs;
  const remembered = new Map<string, Series>();
  let { fromMs } = query;
  let isEmpty = true;
  while (fromMs < query.toMs) {
    if (isEmpty && query.toMs - fromMs > spanMs) {
      const oldestMs = await edge(place, { ...query, fromMs }, 'ASC', 1);
      if (oldestMs === null) return;
      fromMs = oldestMs;
    }
    const toMs = Math.min(query.toMs, fromMs + spanMs);
    let rows: Row[] = [];
    isEmpty = true;
    for await (const answer of ask(place, selectRows({ ...query, fromMs, toMs }, place.measurement))) {
      for (const row of decode(answer, query.stream, remembered)) {
        isEmpty = false;
        if (rows.length > 0 && rows[0]!.startMs !== row.startMs) {
          yield sortRows(rows);
          rows = [];
        }
        rows.push(row);
      }
    }
    if (rows.length > 0) yield sortRows(rows);
    fromMs = toMs;
  }
}

/** The time of the `limit`th matching row in this order, or of the last if there are fewer; null = there is none. */
async function edge(place: InfluxPlace, query: RowQuery, order: 'ASC' | 'DESC', limit: number): Promise<number | null> {
  let timeMs: number | null = null;
  for await (const { values } of ask(place, selectTimes(query, place.measurement, order, limit))) {
    const last = values.at(-1)?.[0];
    if (typeof last === 'number') timeMs = last;
  }
  return timeMs;
}

type Series = NonNullable<ReturnType<typeof decodeSeries>>;

/** Points that are not ours are left out. */
function* decode({ columns, values }: Answer, stream: string, remembered: Map<string, Series>): Generator<Row> {
  const firstTag = 1 + FIELDS.length;
  const keys = columns.slice(firstTag);
  for (const value of values) {
    const texts = value.slice(firstTag);
    const text = JSON.stringify([keys, texts]);
    let series = remembered.get(text) ?? null;
    if (series === null) {
      series = decodeSeries(Object.fromEntries(keys.map((key, i) => [key, String(texts[i] ?? '')])));
      if (series === null) continue;
      if (remembered.size >= MAX_REMEMBERED_SERIES) remembered.clear();
      remembered.set(text, series);
    }
    const row = decodeRow(stream, series, value[0] as number, value.slice(1, firstTag) as (number | null)[]);
    if (row !== null) yield row;
  }
}

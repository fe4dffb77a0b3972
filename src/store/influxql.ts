/**
 * The queries the InfluxDB store asks, as text, and their answers, read as a stream. InfluxQL and not Flux: Flux can
 * count a row twice while it is in the cache and in a file; InfluxQL was right whenever both were compared. It also
 * writes and reads doubles in the shortest form that comes back to the same bits.
 */
import { type InfluxDB, RequestTimedOutError } from '@influxdata/influxdb-client';
import type { Row, RowQuery } from '../row.ts';
import { compareText } from './order.ts';
import { escapeText, FIELDS, INTEGER_FIELDS, measurementOf, storedTags, tagKey } from './point.ts';

/** Values in one chunk of an answer, so that neither side holds more than this at once. */
const CHUNK_ROWS = 2_000;

/** What InfluxDB says about one statement, with status 200. */
export class StatementFailed extends Error {
  override name = 'StatementFailed';
}

export interface Database {
  /** Without a timeout of its own, which would also count while nobody reads. */
  readonly influx: InfluxDB;
  readonly bucket: string;
  readonly timeoutMs: number;
}

/**
 * Sends statements, joined by `;`, and yields their answers in chunks. Throws StatementFailed, or what the client throws.
 * The wait for each chunk has a limit; a pause of the reader has none.
 */
export async function* ask(where: Database, statements: string): AsyncGenerator<Answer> {
  const path = `/query?db=${encodeURIComponent(where.bucket)}&epoch=ms&chunked=true&chunk_size=${CHUNK_ROWS}`;
  const body = `q=${encodeURIComponent(statements)}`;
  const headers = { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' };
  const cut = new AbortController();
  const chunks = where.influx.transport.iterate(path, body, { method: 'POST', headers, signal: cut.signal });
  for await (const line of linesOf(withLimit(chunks, where.timeoutMs, cut))) {
    const parsed = JSON.parse(line) as { error?: string; results?: { error?: string; series?: Answer[] }[] };
    if (parsed.error !== undefined) throw new StatementFailed(parsed.error);
    for (const result of parsed.results ?? []) {
      if (result.error !== undefined) throw new StatementFailed(result.error);
      yield* result.series ?? [];
    }
  }
}

export interface Answer {
  /** For rows: time, FIELDS in their order, then the keys of tags. */
  readonly columns: readonly string[];
  readonly values: readonly (readonly (number | string | boolean | null)[])[];
}

/** Passes chunks on; when one takes longer than `timeoutMs`, cuts the request. */
async function* withLimit(
  chunks: AsyncIterableIterator<Uint8Array>,
  timeoutMs: number,
  cut: AbortController,
): AsyncGenerator<Uint8Array> {
  try {
    for (;;) {
      const timer = setTimeout(() => cut.abort(), timeoutMs);
      const next = await chunks.next().finally(() => clearTimeout(timer));
      if (next.done) return;
      yield next.value;
    }
  } catch (thrown) {
    throw cut.signal.aborted ? new RequestTimedOutError() : thrown;
  } finally {
    // Closes the socket when there is more to come that nobody wants.
    await chunks.return?.();
  }
}

const NEWLINE = 0x0a;

async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let held: Uint8Array[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      held.push(chunk.subarray(start, end));
      const line = Buffer.concat(held).toString('utf8');
      held = [];
      start = end + 1;
      if (line !== '') yield line;
    }
    if (start < chunk.length) held.push(chunk.subarray(start));
  }
  const rest = Buffer.concat(held).toString('utf8');
  if (rest.trim() !== '') yield rest;
}

const SELECTED = FIELDS.map((field) => `"${field}"::${INTEGER_FIELDS.has(field) ? 'integer' : 'float'}`).join(',');

/** The rows of [fromMs, toMs) that match, by time; those of one time in no particular order. */
export function selectRows(query: RowQuery, measurement: string): string {
  return `SELECT ${SELECTED},*::tag FROM ${identifier(measurementOf(measurement))} WHERE ${conditions(query)}`;
}

/** The times of the oldest or newest rows that match. */
export function selectTimes(query: RowQuery, measurement: string, order: 'ASC' | 'DESC', limit: number): string {
  return `SELECT "count"::integer FROM ${identifier(measurementOf(measurement))} WHERE ${conditions(query)} ORDER BY time ${order} LIMIT ${limit}`;
}

export function conditions(query: RowQuery): string {
  const tags: [string, string][] = [['window', query.window]];
  if (query.metric !== undefined) tags.push(['metric', query.metric === '' ? '' : escapeText(query.metric)]);
  for (const [name, value] of Object.entries(query.tags ?? {})) tags.push([tagKey(name), escapeText(value)]);
  return [...timeRange(query.fromMs, query.toMs), ...tags.map(equals)].join(' AND ');
}

export function selectTagKeys(measurement: string): string {
  return `SHOW TAG KEYS FROM ${identifier(measurementOf(measurement))}`;
}

/**
 * Removes the points of exactly one series in [fromMs, toMs). A condition on the series' own tags alone would also hit
 * every series that carries more tags, so each other tag key of the measurement is required to be absent. (The delete
 * API cannot say that; InfluxQL can.)
 */
export function deleteRun(row: Row, fromMs: number, toMs: number, tagKeys: ReadonlySet<string>): string {
  const own = storedTags(row);
  const absent = new Set(tagKeys);
  for (const [key] of own) absent.delete(key);
  const tags = [...own, ...[...absent].sort(compareText).map((key): [string, string] => [key, ''])];
  const where = [...timeRange(fromMs, toMs), ...tags.map(equals)].join(' AND ');
  return `DELETE FROM ${identifier(measurementOf(row.stream))} WHERE ${where}`;
}

function timeRange(fromMs: number, toMs: number): string[] {
  return [`time >= ${fromMs}ms`, `time < ${toMs}ms`];
}

function equals([key, value]: [string, string]): string {
  return `${identifier(key)} = '${value.replace(/[\\']/g, '\\$&')}'`;
}

export function identifier(name: string): string {
  return `"${name.replace(/[\\"]/g, '\\$&')}"`;
}

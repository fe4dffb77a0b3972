/**
 * Rows that another program made of the same log, for `millrace verify --against`: a file, or a folder with all files in and below it, as
 * Spark and others write them. Names that begin with `_` or `.` are left out, as they leave them out.
 *
 *   NDJSON   a line for each row, as `/api/v1/rows` gives them: {"stream":"s","metric":"v","window":"10s","startMs":…,"tags":{…},"count":3,…}
 *   CSV      the same names in the header line; every other column is a tag, and an empty cell of it is no tag
 *   needed   stream, window, startMs (or RFC 3339), count; metric '' (or none) for a stream without metrics
 *   others   endMs, the statistics, duplicates, missing, rev: a field that no row has is not compared, one that some have is
 *            compared in all. Columns that are none of ours are passed over in NDJSON.
 *
 * Numbers are compared to the last bit, but for those with a tolerance: |a - b| <= tolerance * max(|a|, |b|).
 * Rows outside the range are passed over. The others are held in memory, at most MAX_ROWS. A row that is there twice is a
 * difference, and the first one is compared. What cannot be read is a mistake that names file, line, field and value.
 */
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { messageOf } from '../errors.ts';
import { parseCsv } from '../inspect/csv.ts';
import { seriesName } from '../reading.ts';
import type { RowField, VerifyOptions } from '../rollup/verify.ts';
import { type Row, type RowQuery, STATISTICS } from '../row.ts';
import { lowerBound } from '../search.ts';
import { sortTags } from '../store/order.ts';
import { rowMetrics, type Stream, type WindowSize } from '../stream.ts';
import { parseTimeMs } from './terminal.ts';

const MAX_ROWS = 2_000_000;
const MAX_CSV_BYTES = 512 * 1024 * 1024;
const INTEGERS = ['duplicates', 'missing', 'rev'] as const;
const OPTIONAL = ['endMs', ...STATISTICS, ...INTEGERS] as const;
const KNOWN: ReadonlySet<string> = new Set(['stream', 'metric', 'window', 'startMs', 'count', 'tags', ...OPTIONAL]);

/** The file, or the command line, is not as it must be: the message is for the person. */
export class AgainstMistake extends Error {}

export type Tolerances = ReadonlyMap<string, number>;

/** `sum=1e-12,mean=1e-9` */
export function parseTolerances(text: string): Tolerances {
  const tolerances = new Map<string, number>();
  for (const part of text === '' ? [] : text.split(',')) {
    const [name = '', share = ''] = part.split('=');
    if (!(STATISTICS as readonly string[]).includes(name)) {
      throw new AgainstMistake(`--tolerance ${part}: it is for ${STATISTICS.join(', ')}, such as sum=1e-12`);
    }
    const value = Number(share);
    if (share.trim() === '' || !(value >= 0 && value < 1)) {
      throw new AgainstMistake(`--tolerance ${part}: ${share} is not a share from 0 to below 1, such as 1e-12`);
    }
    tolerances.set(name, value);
  }
  return tolerances;
}

export interface AgainstOptions {
  readonly streams: Readonly<Record<string, Stream>>;
  readonly fromMs: number;
  readonly toMs: number;
  readonly stream?: string | undefined;
}

export interface AgainstRows {
  /** As a store gives them: ascending by start. */
  read(query: RowQuery): AsyncIterable<Row>;
  /** Places that had another row before. */
  readonly repeated: readonly string[];
  /** Fields that no row has. */
  readonly absent: readonly string[];
  /** Rows that were not read: once all is compared, those of windows that are not closed at the end of the log. */
  unread(): number;
  isEqual(tolerances: Tolerances): NonNullable<VerifyOptions['isEqual']>;
}

/** Throws AgainstMistake. */
export async function readAgainst(path: string, options: AgainstOptions): Promise<AgainstRows> {
  const collected = new Collected(options);
  for (const file of await filesOf(path)) await readFileInto(file, collected);
  return collected.finished();
}

async function filesOf(path: string): Promise<string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const files: string[] = [];
    for (const entry of await readdir(path, { withFileTypes: true })) {
      if (/^[._]/.test(entry.name)) continue;
      files.push(...(await filesOf(join(path, entry.name))));
    }
    return files.sort();
  } catch (error) {
    if (error instanceof AgainstMistake) throw error;
    throw new AgainstMistake(`--against ${path} cannot be read: ${messageOf(error)}`);
  }
}

async function readFileInto(file: string, collected: Collected): Promise<void> {
  const lines = createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY });
  let line = 0;
  let isCsv = false;
  try {
    for await (const text of lines) {
      line++;
      if (text.trim() === '') continue;
      isCsv = !text.trimStart().startsWith('{');
      if (isCsv) break;
      collected.add(parseLine(text, `${file}, line ${line}`), `${file}, line ${line}`);
    }
  } catch (error) {
    if (error instanceof AgainstMistake) throw error;
    throw new AgainstMistake(`${file} cannot be read: ${messageOf(error)}`);
  } finally {
    lines.close();
  }
  if (!isCsv) return;
  if (line > 1) throw new AgainstMistake(`${file}, line ${line}: not a JSON object, as the lines before it are`);
  await readCsvInto(file, collected);
}

function parseLine(text: string, place: string): Record<string, unknown> {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new AgainstMistake(`${place}: not JSON: ${messageOf(error)}`);
  }
}

async function readCsvInto(file: string, collected: Collected): Promise<void> {
  if ((await stat(file)).size > MAX_CSV_BYTES) {
    throw new AgainstMistake(`${file} has more than ${MAX_CSV_BYTES} bytes; give NDJSON, which is read line by line`);
  }
  const table = parseCsv(await readFile(file, 'utf8'), file);
  if (!table.ok) throw new AgainstMistake(table.failure.message);
  const { columns, rows } = table.value;
  for (const { line, cells } of rows) {
    const place = `${file}, line ${line}`;
    const fields: Record<string, unknown> = {};
    const tags: Record<string, string> = {};
    for (const [i, name] of columns.entries()) {
      const cell = cells[i]!;
      if (cell === '') continue;
      if (!KNOWN.has(name)) tags[name] = cell;
      else if (name === 'tags') Object.assign(tags, parseLine(cell, `${place}: tags`));
      else fields[name] = isText(name) ? cell : numberOf(cell);
    }
    collected.add({ ...fields, tags }, place);
  }
}

function isText(name: string): boolean {
  return name === 'stream' || name === 'metric' || name === 'window';
}

/** A cell that is no number stays a text, which is a mistake where a number must be. */
function numberOf(cell: string): number | string {
  return cell.trim() === '' || Number.isNaN(Number(cell)) ? cell : Number(cell);
}

class Collected {
  readonly #options: AgainstOptions;
  readonly #lanes = new Map<string, Row[]>();
  readonly #places = new Set<string>();
  readonly #present = new Set<RowField>();
  readonly #repeated: string[] = [];

  constructor(options: AgainstOptions) {
    this.#options = options;
  }

  add(fields: Record<string, unknown>, place: string): void {
    const { streams, fromMs, toMs } = this.#options;
    const { stream, metric = '', window } = fields;
    const known = typeof stream === 'string' && Object.hasOwn(streams, stream) ? streams[stream] : undefined;
    if (known === undefined) {
      throw new AgainstMistake(
        `${place}: stream ${shown(stream)} is not in the configuration, which has ${Object.keys(streams).join(', ')}`,
      );
    }
    if (this.#options.stream !== undefined && known.name !== this.#options.stream) return;
    const size = known.windows.find(({ label }) => label === window);
    if (size === undefined) {
      const labels = known.windows.map(({ label }) => label).join(', ');
      throw new AgainstMistake(`${place}: window ${shown(window)} is not of stream ${known.name}, which has ${labels}`);
    }
    const metrics = known.metrics.length === 0 ? ['', ...rowMetrics(known)] : rowMetrics(known);
    if (typeof metric !== 'string' || !metrics.includes(metric)) {
      const names = metrics.map(shown).join(', ');
      throw new AgainstMistake(`${place}: metric ${shown(metric)} is not of stream ${known.name}, which has ${names}`);
    }
    const startMs = timeOf(fields.startMs, place);
    if (startMs < fromMs || startMs >= toMs) return;
    this.#keep(rowOf(fields, { stream: known.name, metric, startMs }, size, place), place);
  }

  #keep(row: Row, place: string): void {
    for (const name of OPTIONAL) if (row[name] !== undefined && row[name] !== null) this.#present.add(name);
    const name = `${row.stream} ${row.metric || '(count)'} ${row.window} ${new Date(row.startMs).toISOString()} ${seriesName(row.tags)}`;
    if (this.#places.has(name)) {
      this.#repeated.push(`${name}: ${place} has it again`);
      return;
    }
    if (this.#places.size === MAX_ROWS) {
      throw new AgainstMistake(`more than ${MAX_ROWS} rows: narrow them down with --from, --to and --stream`);
    }
    this.#places.add(name);
    const lane = `${row.stream}\n${row.window}`;
    const rows = this.#lanes.get(lane);
    if (rows) rows.push(row);
    else this.#lanes.set(lane, [row]);
  }

  finished(): AgainstRows {
    const present = this.#present;
    const lanes = new Map<string, { rows: Row[]; starts: number[] }>();
    for (const [lane, rows] of this.#lanes) {
      rows.sort((a, b) => a.startMs - b.startMs);
      lanes.set(lane, { rows, starts: rows.map(({ startMs }) => startMs) });
    }
    let unread = this.#places.size;
    return {
      repeated: this.#repeated,
      absent: OPTIONAL.filter((name) => !present.has(name)),
      async *read({ stream, window, fromMs, toMs }) {
        const lane = lanes.get(`${stream}\n${window}`);
        if (lane === undefined) return;
        const end = lowerBound(lane.starts, toMs);
        for (let i = lowerBound(lane.starts, fromMs); i < end; i++) {
          unread--;
          yield lane.rows[i]!;
        }
      },
      unread: () => unread,
      isEqual: (tolerances) => (field, expected, stored) => {
        if (field !== 'count' && !present.has(field)) return true;
        const tolerance = tolerances.get(field) ?? 0;
        if (tolerance === 0 || typeof expected !== 'number' || typeof stored !== 'number') {
          return Object.is(expected, stored);
        }
        return Math.abs(expected - stored) <= tolerance * Math.max(Math.abs(expected), Math.abs(stored));
      },
    };
  }
}

type Known = Pick<Row, 'stream' | 'metric' | 'startMs'>;

function rowOf(fields: Record<string, unknown>, known: Known, { label, sizeMs }: WindowSize, place: string): Row {
  const { stream, metric, startMs } = known;
  const statistics = Object.fromEntries(STATISTICS.map((name) => [name, optionalNumber(fields, name, place)]));
  const integers = Object.fromEntries(INTEGERS.map((name) => [name, optionalNumber(fields, name, place) ?? undefined]));
  const count = optionalNumber(fields, 'count', place);
  if (count === null) throw new AgainstMistake(`${place}: count is not there`);
  const endMs = fields.endMs === undefined || fields.endMs === null ? startMs + sizeMs : timeOf(fields.endMs, place);
  return {
    ...{ stream, metric, window: label, startMs, endMs },
    tags: tagsOf(fields.tags, place),
    count,
    ...(statistics as Pick<Row, (typeof STATISTICS)[number]>),
    ...({ ...integers, rev: integers.rev ?? 0 } as Pick<Row, (typeof INTEGERS)[number]>),
  };
}

function optionalNumber(fields: Record<string, unknown>, name: string, place: string): number | null {
  const value = fields[name];
  if (value === undefined || value === null) return null;
  if (typeof value !== 'number') throw new AgainstMistake(`${place}: ${name} ${shown(value)} is not a number`);
  // A zero of either sign: the rows of the log have no other.
  return value + 0;
}

function timeOf(value: unknown, place: string): number {
  const timeMs = typeof value === 'string' ? parseTimeMs(value) : value;
  if (typeof timeMs !== 'number' || !Number.isSafeInteger(timeMs)) {
    throw new AgainstMistake(
      `${place}: ${shown(value)} is no time in milliseconds since 1970 or as 2026-01-31T12:00:00Z`,
    );
  }
  return timeMs;
}

function tagsOf(value: unknown, place: string): Row['tags'] {
  if (value === undefined || value === null) return {};
  const isMap = typeof value === 'object' && !Array.isArray(value);
  if (!isMap || Object.values(value).some((text) => typeof text !== 'string')) {
    throw new AgainstMistake(`${place}: tags ${shown(value)} are not texts by name`);
  }
  return sortTags(value as Record<string, string>);
}

const SHOWN_CHARACTERS = 60;

function shown(value: unknown): string {
  if (value === undefined) return '(none)';
  const text = JSON.stringify(value);
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
}

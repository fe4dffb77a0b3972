/**
 * A row as InfluxDB keeps it, and back. Pure. The layout, which dashboards rely on:
 *
 *   measurement   the stream
 *   tags          the series' tags, `metric` (absent for a stream without metrics), `window`
 *   time          the window's start, milliseconds
 *   fields        count, duplicates, missing, rev: integers;  sum mean min max stddev first last p50 p95 p99: floats,
 *                 each absent where the row has null. Types never change: InfluxDB keeps one type per field and shard.
 *
 * A score (scored.ts) is a point of the measurement `<stream>_scores` with the same tags, the same time and SCORE_FIELDS.
 *
 * Every row that `admit.ts` lets through comes back bit for bit. InfluxDB cannot hold every text, so two escapes make
 * the way into it reversible; ordinary names and values are not touched by either:
 *   - a tag of the user that is named like one of ours, or like a word reserved by InfluxDB, gets `_` at its end
 *     (`metric` -> `metric_`, `metric_` -> `metric__`), and loses it on the way back;
 *   - a text that InfluxDB would refuse, drop or misread (empty, control characters, `\` before a separator or at the
 *     end, an unpaired surrogate, a leading `%`; for a measurement a leading `#`) becomes `%` + the text with those characters as %XX or %uXXXX.
 */
import { type Row, STATISTICS } from '../row.ts';
import { windowOf } from './admit.ts';
import { compareText, oncePerSeries } from './order.ts';

/** Integer fields first where they are first shown; the order of a line and of every query. */
export const FIELDS = ['count', ...STATISTICS, 'duplicates', 'missing', 'rev'] as const;
export const INTEGER_FIELDS: ReadonlySet<string> = new Set(['count', 'duplicates', 'missing', 'rev']);

/** Fields of a score: floats but for `alarm`, which is a boolean. */
export const SCORE_FIELDS = ['value', 'expected', 'low', 'high', 'distance', 'score', 'alarm'] as const;

const RESERVED = new Set<string>([
  'metric',
  'window',
  'time',
  ...FIELDS,
  ...SCORE_FIELDS,
  ...['_time', '_field', '_measurement', '_value', '_start', '_stop'],
]);

/** The name under which InfluxDB keeps a tag of the user. */
export function tagKey(name: string): string {
  return escapeText(RESERVED.has(withoutUnderscores(name)) ? `${name}_` : name);
}

function tagNameOf(key: string): string {
  const name = unescapeText(key);
  return name.endsWith('_') && RESERVED.has(withoutUnderscores(name)) ? name.slice(0, -1) : name;
}

function withoutUnderscores(name: string): string {
  let end = name.length;
  while (end > 0 && name.charCodeAt(end - 1) === 0x5f) end--;
  return end === name.length ? name : name.slice(0, end);
}

// Control characters, `\` where the line protocol would read it as an escape, halves of surrogate pairs.
const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  /[\x00-\x1f\x7f]|\\(?=[\\,= ]|$)|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
const PERCENT = 0x25;
const UNSAFE_OR_PERCENT = new RegExp(`%|${UNSAFE.source}`, 'g');

/** A text as it stands in InfluxDB: in tags, as a measurement, and in conditions of queries. */
export function escapeText(text: string): string {
  return text !== '' && text.charCodeAt(0) !== PERCENT && !UNSAFE.test(text) ? text : escapeAlways(text);
}

function escapeAlways(text: string): string {
  return `%${text.replace(UNSAFE_OR_PERCENT, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x80 ? `%${code.toString(16).padStart(2, '0')}` : `%u${code.toString(16)}`;
  })}`;
}

/** The measurement of a stream. A line that begins with `#` would be a comment. */
export function measurementOf(stream: string): string {
  return stream.startsWith('#') ? escapeAlways(stream) : escapeText(stream);
}

export function unescapeText(text: string): string {
  if (text.charCodeAt(0) !== PERCENT) return text;
  return text
    .slice(1)
    .replace(/%(?:u([0-9a-f]{4})|([0-9a-f]{2}))/g, (_, wide, narrow) =>
      String.fromCharCode(parseInt(wide ?? narrow, 16)),
    );
}

/** Tags of a row as InfluxDB keeps them, by ascending key; unescaped by the line protocol's rules. */
export function storedTags(row: Pick<Row, 'tags' | 'metric' | 'window'>): [key: string, value: string][] {
  const tags = Object.entries(row.tags).map(([name, value]): [string, string] => [tagKey(name), escapeText(value)]);
  if (row.metric !== '') tags.push(['metric', escapeText(row.metric)]);
  tags.push(['window', row.window]);
  return tags.sort((a, b) => compareText(a[0], b[0]));
}

/** One line of line protocol, without a line end; the timestamp is in milliseconds. */
export function encodeLine(row: Row, measurement = row.stream): string {
  let line = `${measurementOf(measurement).replace(/[, ]/g, '\\$&')}${encodeTags(row)} count=${row.count}i`;
  for (const name of STATISTICS) {
    const value = row[name];
    if (value !== null) line += `,${name}=${Object.is(value, -0) ? '-0' : value}`;
  }
  return `${line},duplicates=${row.duplicates}i,missing=${row.missing}i,rev=${row.rev}i ${row.startMs}`;
}

/** `,key=value` of every tag. */
export const encodeTags = oncePerSeries((row) =>
  storedTags(row)
    .map(([key, value]) => `,${protect(key)}=${protect(value)}`)
    .join(''),
);

const SEPARATORS = /[,= ]/;

export function protect(text: string): string {
  return SEPARATORS.test(text) ? text.replace(/[,= ]/g, '\\$&') : text;
}

/** What InfluxDB answers for one series: its tags, absent ones as ''. */
export type StoredTags = Readonly<Record<string, string>>;

/** The part of a row that all rows of one series share; null when it is not a series of ours. */
export function decodeSeries(stored: StoredTags): Pick<Row, 'metric' | 'window' | 'tags'> | null {
  if (!stored.window) return null;
  const tags: [string, string][] = [];
  for (const [key, value] of Object.entries(stored)) {
    if (key !== 'metric' && key !== 'window' && value !== '') tags.push([tagNameOf(key), unescapeText(value)]);
  }
  tags.sort((a, b) => compareText(a[0], b[0]));
  return { metric: unescapeText(stored.metric ?? ''), window: stored.window, tags: Object.fromEntries(tags) };
}

/** `values` in the order of FIELDS; null when the point is not a row of ours. */
export function decodeRow(
  stream: string,
  series: Pick<Row, 'metric' | 'window' | 'tags'>,
  startMs: number,
  values: readonly (number | null)[],
): Row | null {
  const window = windowOf(series.window);
  const [count, sum, mean, min, max, stddev, first, last, p50, p95, p99, duplicates, missing, rev] = values;
  if (window === null || typeof count !== 'number') return null;
  return {
    stream,
    metric: series.metric,
    window: series.window,
    startMs,
    endMs: startMs + window.sizeMs,
    tags: series.tags,
    count,
    sum: sum ?? null,
    mean: mean ?? null,
    min: min ?? null,
    max: max ?? null,
    stddev: stddev ?? null,
    first: first ?? null,
    last: last ?? null,
    p50: p50 ?? null,
    p95: p95 ?? null,
    p99: p99 ?? null,
    duplicates: duplicates ?? 0,
    missing: missing ?? 0,
    rev: rev ?? 0,
  };
}

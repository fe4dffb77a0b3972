/** The one order in which rows are read: window start, then metric, then series name; text by UTF-16 code units. */
import { seriesName } from '../reading.ts';
import type { Row } from '../row.ts';

interface Ranked {
  readonly metric: string;
  readonly name: string;
  rank: number;
}

/** The rows in reading order; a new array. */
export function sortRows(rows: Iterable<Row>): Row[] {
  // Text is compared once per series, not once per row: readers give all rows of a series the same object of tags.
  const byTags = new Map<Row['tags'], Map<string, Ranked>>();
  const ranked: { row: Row; series: Ranked }[] = [];
  for (const row of rows) {
    let byMetric = byTags.get(row.tags);
    if (!byMetric) {
      byMetric = new Map();
      byTags.set(row.tags, byMetric);
    }
    let series = byMetric.get(row.metric);
    if (!series) {
      series = { metric: row.metric, name: seriesName(row.tags), rank: 0 };
      byMetric.set(row.metric, series);
    }
    ranked.push({ row, series });
  }
  const all = [...byTags.values()].flatMap((byMetric) => [...byMetric.values()]);
  all.sort((a, b) => compareText(a.metric, b.metric) || compareText(a.name, b.name));
  for (const [i, series] of all.entries()) series.rank = i;
  ranked.sort((a, b) => a.row.startMs - b.row.startMs || a.series.rank - b.series.rank);
  return ranked.map(({ row }) => row);
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The same tags with their names in ascending order, safe for any name. */
export function sortTags(tags: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(tags).sort((a, b) => compareText(a[0], b[0])));
}

/** What a series and window size are known by. */
export type OfSeries = Pick<Row, 'stream' | 'metric' | 'window' | 'tags'>;

/**
 * `compute`, called once for each series and window size and remembered as long as its tags are in use: writers give all
 * rows of a series the same object of tags. The result may depend on stream, metric, window and tags only.
 */
export function oncePerSeries<T>(compute: (row: OfSeries) => T): (row: OfSeries) => T {
  const byTags = new WeakMap<Row['tags'], Map<string, T>>();
  return (row) => {
    const rest = `${row.window} ${row.metric.length} ${row.metric}${row.stream}`;
    let known = byTags.get(row.tags);
    const remembered = known?.get(rest);
    if (remembered !== undefined) return remembered;
    const result = compute(row);
    if (!known) {
      known = new Map();
      byTags.set(row.tags, known);
    }
    known.set(rest, result);
    return result;
  };
}

const seriesKey = oncePerSeries((row) =>
  JSON.stringify([row.window, row.stream, row.metric, Object.entries(sortTags(row.tags))]),
);

/** Text that is equal for two rows exactly when they have the same place in a store. */
export function placeOf(row: Row): string {
  return `${row.startMs} ${seriesKey(row)}`;
}

/** Of rows with the same place the last one, in the order in which the places were first named. */
export function lastOfEachPlace(rows: readonly Row[]): Row[] {
  const byPlace = new Map<string, Row>();
  for (const row of rows) byPlace.set(placeOf(row), row);
  return byPlace.size === rows.length ? [...rows] : [...byPlace.values()];
}

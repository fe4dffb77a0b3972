/**
 * A device registry: a CSV table turned into what one stream takes from it, by device. Checked as a whole when it is
 * loaded: the columns exist, no device is listed twice, tags are fit to be tags, factors are numbers other than 0.
 * An empty tag cell means that this device does not have the tag; an empty factor cell means 1.
 */
import { fail, type Outcome, succeed } from '../errors.ts';
import type { Enrichment } from '../stream.ts';
import type { Table } from './csv.ts';
import { tagFault } from './tag.ts';

export interface Device {
  readonly tags: Readonly<Record<string, string>>;
  /** One for each of the stream's metrics, in their order; null = all are 1. */
  readonly factors: readonly number[] | null;
}

/** By the value of `Enrichment.by`. */
export type Registry = ReadonlyMap<string, Device>;

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const LEAST_FACTOR = 1e-100;
const LARGEST_FACTOR = 1e100;

export function buildRegistry(
  table: Table,
  enrich: Enrichment,
  metrics: readonly string[],
  tagBytes: number,
): Outcome<Registry> {
  const factorColumns = metrics.map((metric) => (Object.hasOwn(enrich.scale, metric) ? enrich.scale[metric]! : null));
  const needed = [enrich.by, ...enrich.tags, ...factorColumns.filter((column) => column !== null)];
  const absent = needed.find((column) => !table.columns.includes(column));
  if (absent !== undefined) {
    const present = table.columns.map((column) => `"${column}"`).join(', ');
    return fail('CONFIG_INVALID', `${table.file} has no column "${absent}"; it has ${present}.`);
  }
  const registry = new Map<string, Device>();
  const lines = new Map<string, number>();
  for (const { line, cells } of table.rows) {
    const cell = (column: string) => cells[table.columns.indexOf(column)]!;
    const wrong = (reason: string) => fail('CONFIG_INVALID', `${table.file}, line ${line}: ${reason}.`);
    const by = cell(enrich.by);
    const byFault = tagFault(by, tagBytes);
    if (byFault !== null) return wrong(`the column "${enrich.by}" ${byFault}`);
    const earlier = lines.get(by);
    if (earlier !== undefined) return wrong(`${enrich.by} "${by}" is already listed on line ${earlier}`);
    const tags: Record<string, string> = {};
    for (const name of enrich.tags) {
      const text = cell(name);
      const fault = text === '' ? null : tagFault(text, tagBytes);
      if (fault !== null) return wrong(`the column "${name}" ${fault}`);
      if (text !== '') tags[name] = text;
    }
    const factors: number[] = [];
    for (const column of factorColumns) {
      const text = column === null ? '' : cell(column);
      const factor = text === '' ? 1 : parseFactor(text);
      if (factor === null) return wrong(`the column "${column}" has "${text}", expected a number other than 0`);
      factors.push(factor);
    }
    lines.set(by, line);
    registry.set(by, { tags, factors: factors.every((factor) => factor === 1) ? null : factors });
  }
  return succeed(registry);
}

function parseFactor(text: string): number | null {
  const factor = DECIMAL.test(text) ? Number(text) : Number.NaN;
  const size = Math.abs(factor);
  return size >= LEAST_FACTOR && size <= LARGEST_FACTOR ? factor : null;
}

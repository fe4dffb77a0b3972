/**
 * What goes from the first of two stages to the second, through the panes topic: an hour of windows without an hour of
 * readings to read again after a crash. The first stage reads readings and has the windows up to a minute (window.ts:
 * `divide`); its closed minutes are records of this topic, from which the second merges the larger windows.
 *
 * Partition p of the readings goes to partition p of the panes. Two kinds of records, both with the consumer group of the
 * first stage as key: what another group wrote is not for us.
 *
 *   pane  one series in one closed window. Its text is canonical (aggregate.ts; tags by name): equal panes are equal bytes,
 *         whoever writes them and however often.
 *         `{"stream":…,"rules":…,"start":…,"end":…,"tags":{…},"cell":[count,duplicates,[sequences,min,max],[aggregate,…],[field,distinct,…]]}`
 *         `rules` is the first stage's hash of the stream (checkpoint.ts): panes of other rules are not merged with ours.
 *   tick  `{"frontier":F,"after":{"stream":S},"rules":[…]}`: of the streams with these rules every pane with end <= F that
 *         starts after S is in the topic below this record. It is written when they are durable, and before the commit
 *         that has this F. F is the only clock of the second stage; it is null at the log's true beginning. S only where
 *         there is one: after truncated history, a changed configuration, or a time with one stage. Each start of a first
 *         stage opens with a tick of what it has.
 *
 * A tick moves the clock for all streams, so of one whose rules it does not name, new or changed since, nothing that starts
 * before its F is known to be whole: F is an S for that stream.
 *
 * The second stage takes the first copy of a pane. A pane that ends at or before its clock is a repeat: the first copy
 * stands before the tick. So repeats, by a crash or by a process that was thrown out and does not know it, change nothing.
 */
import type { LogRecord, StoredRecord } from '../log.ts';
import { Aggregate } from './aggregate.ts';
import { Distinct } from './distinct.ts';
import type { Cell, OpenWindow } from './pane.ts';

/** The consumer group of the second stage. */
export function secondGroup(firstGroup: string): string {
  return `${firstGroup}-panes`;
}

export interface PassedPane {
  readonly stream: string;
  readonly rules: string;
  readonly startMs: number;
  readonly endMs: number;
  /** JSON: `tagsOf`. */
  readonly tags: string;
  /** Gives an empty cell the pane's content. */
  fill(cell: Cell): void;
}

export interface PanesTick {
  readonly frontierMs: number;
  /** S by the name of the stream. */
  readonly completeAfterMs: ReadonlyMap<string, number>;
  /** The first stage's hash of each stream that it has. */
  readonly rules: ReadonlySet<string>;
}

/** `receivedMs` is the first stage's watermark: a stamp for Kafka's retention, not a clock. */
export function paneRecord(
  cell: Cell,
  window: OpenWindow,
  rules: string,
  group: string,
  receivedMs: number,
): LogRecord {
  const { stream, startMs, endMs } = window;
  const tags: Record<string, string> = {};
  for (const name of Object.keys(cell.series.tags).sort()) tags[name] = cell.series.tags[name]!;
  const head = JSON.stringify({ stream, rules, start: startMs, end: endMs, tags }).slice(0, -1);
  const { count, duplicates, sequences, minSequence, maxSequence } = cell;
  const range = sequences === 0 ? '[0]' : JSON.stringify([sequences, minSequence, maxSequence]);
  const aggregates = cell.aggregates.map((aggregate) => aggregate?.encode() ?? 'null').join(',');
  const distinct = cell.distinctOf(window.distinct).flatMap(([field, one]) => [JSON.stringify(field), one.encode()]);
  const content = `${count},${duplicates},${range},[${aggregates}],[${distinct.join(',')}]`;
  const value = Buffer.from(`${head},"cell":[${content}]}`);
  return { kind: 'pane', key: group, receivedMs, stream, topic: '', value };
}

/** Null: not a pane of ours. */
export function decodePane(value: Uint8Array): PassedPane | null {
  const parsed = parseObject(value);
  const { stream, rules, start, end, tags, cell } = parsed ?? {};
  if (typeof stream !== 'string' || typeof rules !== 'string' || !Array.isArray(cell)) return null;
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || typeof tags !== 'object') return null;
  const [count, duplicates, range, encoded, fields] = cell;
  if (![count, duplicates].every(Number.isSafeInteger) || !Array.isArray(range) || !Array.isArray(encoded)) return null;
  const [sequences, minSequence = Number.POSITIVE_INFINITY, maxSequence = Number.NEGATIVE_INFINITY] = range;
  const aggregates = encoded.map((part) =>
    part === null ? null : (Aggregate.decode(JSON.stringify(part)) ?? undefined),
  );
  if (aggregates.includes(undefined) || !Array.isArray(fields)) return null;
  const distinct = fields.flatMap((field, i) => (i % 2 === 0 ? [{ field, content: Distinct.of(fields[i + 1]) }] : []));
  if (distinct.some(({ field, content }) => typeof field !== 'string' || content === null)) return null;
  return {
    stream,
    rules,
    startMs: start as number,
    endMs: end as number,
    tags: JSON.stringify(tags),
    fill(into) {
      into.count = count;
      into.duplicates = duplicates;
      into.sequences = sequences;
      into.minSequence = minSequence;
      into.maxSequence = maxSequence;
      for (const [i, aggregate] of aggregates.entries()) into.aggregates[i] = aggregate ?? null;
      for (const { field, content } of distinct) into.setDistinct(field, content!);
    },
  };
}

export function tickRecord(tick: PanesTick, group: string, receivedMs: number): LogRecord {
  const { frontierMs, completeAfterMs, rules } = tick;
  const frontier = Number.isFinite(frontierMs) ? frontierMs : null;
  const after = Object.fromEntries(completeAfterMs);
  const value = Buffer.from(JSON.stringify({ frontier, after, rules: [...rules] }));
  return { kind: 'tick', key: group, receivedMs, stream: '', topic: '', value };
}

/** Null: not a tick of ours. */
export function decodeTick(value: Uint8Array): PanesTick | null {
  const { frontier, after, rules } = parseObject(value) ?? {};
  if ((frontier !== null && !Number.isSafeInteger(frontier)) || typeof after !== 'object' || after === null)
    return null;
  const entries = Object.entries(after);
  if (!entries.every(([, ms]) => Number.isSafeInteger(ms))) return null;
  if (!Array.isArray(rules) || !rules.every((hash) => typeof hash === 'string')) return null;
  const frontierMs = (frontier as number | null) ?? Number.NEGATIVE_INFINITY;
  return { frontierMs, completeAfterMs: new Map(entries), rules: new Set(rules) };
}

/** The time up to which all panes that are not below this record may be below it and lost: see restore.ts. */
export function reachOf(record: StoredRecord): number {
  if (record.kind === 'pane') return decodePane(record.value)?.endMs ?? record.receivedMs;
  return decodeTick(record.value)?.frontierMs ?? record.receivedMs;
}

function parseObject(value: Uint8Array): Record<string, unknown> | null {
  try {
    const parsed = JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString());
    return typeof parsed === 'object' ? parsed : null;
  } catch {
    return null;
  }
}

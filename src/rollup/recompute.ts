/**
 * The rows of some windows as they are when everything in the log that belongs to them is counted, late readings too:
 * what a repair writes, and what a repaired row is verified against. Reads only.
 *
 * It is the engine itself with a grace that nothing exceeds, fed with just the records of these windows in the order of
 * their offsets, so that identity, arithmetic and merging are the engine's. Where they come from: readings that were on
 * time lie in a bounded range of the log, because a reading is accepted at most `skew` ahead of its received stamp and
 * counted at most `grace` (and the log's disorder) behind it; those that were not are in the late log, whole.
 *
 * Memory: the readings of the series asked for, within the windows asked for.
 */
import { fail, type Outcome, succeed } from '../errors.ts';
import type { LogReader, StoredRecord } from '../log.ts';
import type { Row } from '../row.ts';
import type { Stream } from '../stream.ts';
import { Engine } from './engine.ts';
import { decodeLate } from './late.ts';
import { readingOf } from './record.ts';
import { baseSizeMs, floorTo } from './window.ts';

/** How far the received stamps of a partition may be out of order, beyond `disorder`: readings found there were stragglers. */
const SEARCH_MARGIN_MS = 60_000;

export interface RecomputeOptions {
  readonly log: LogReader;
  readonly late: LogReader;
  readonly partition: number;
  readonly streams: Readonly<Record<string, Stream>>;
  readonly graceMs: number;
  readonly disorderMs: number;
  readonly skewMs: number;
  /** See restore.ts. */
  readonly continues?: boolean | undefined;
}

export interface Wanted {
  /** Windows with fromMs <= start < toMs. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly stream?: string;
  /** Whether the series (stream, tags as JSON text in the log) is wanted; absent: all. */
  series?(stream: string, tags: string): boolean;
}

/** Every window of every level that starts in the range, in no order, with rev 0. LOG_TRUNCATED: the log begins too late. */
export async function recompute(options: RecomputeOptions, wanted: Wanted): Promise<Outcome<Row[]>> {
  const { log, partition, streams } = options;
  const chosen = Object.values(streams).filter(
    (stream) => wanted.stream === undefined || stream.name === wanted.stream,
  );
  const largestMs = Math.max(0, ...chosen.flatMap((stream) => stream.windows.map((window) => window.sizeMs)));
  const endMs = wanted.toMs + largestMs;
  const names = new Set(chosen.map((stream) => stream.name));
  const belongs = (value: Uint8Array): boolean => {
    const reading = readingOf(value);
    if (reading === null || !names.has(reading.stream)) return false;
    if (reading.timeMs < wanted.fromMs || reading.timeMs >= endMs) return false;
    return wanted.series?.(reading.stream, reading.tags) ?? true;
  };

  const found = new Map<number, StoredRecord>();
  const onTime = await onTimeRange(options, wanted.fromMs, endMs);
  if (!onTime.ok) return onTime;
  for await (const batch of log.range(partition, onTime.value.from, onTime.value.to)) {
    for (const record of batch.records) {
      if (record.kind === 'reading' && isOnTime(record, options) && belongs(record.value))
        found.set(record.offset, record);
    }
  }
  const late = await lateReadings(options, wanted.fromMs, belongs);
  if (!late.ok) return late;
  for (const record of late.value) found.set(record.offset, record);

  // Without an end to grace there is no late reading, and no window closes before it is asked for.
  const engine = new Engine(
    { partition, streams, graceMs: Number.POSITIVE_INFINITY, disorderMs: 0, skewMs: options.skewMs },
    { checkpoint: null, firstOffset: 0, endOffset: Number.POSITIVE_INFINITY },
  );
  for (const offset of [...found.keys()].sort((a, b) => a - b)) engine.process(found.get(offset)!);
  const rows = engine.provisional(Number.POSITIVE_INFINITY);
  return succeed(rows.filter((row) => row.startMs >= wanted.fromMs && row.startMs < wanted.toMs));
}

/** More than what can be on time is read, so whether a reading was is decided by itself, not by where it was found. */
function isOnTime(record: StoredRecord, { graceMs, streams }: RecomputeOptions): boolean {
  const reading = readingOf(record.value);
  const stream = reading && streams[reading.stream];
  if (!reading || !stream) return false;
  const baseMs = baseSizeMs(stream.windows);
  return record.receivedMs < floorTo(reading.timeMs, baseMs) + baseMs + graceMs;
}

async function onTimeRange(
  { log, partition, graceMs, disorderMs, skewMs, continues = false }: RecomputeOptions,
  fromMs: number,
  toMs: number,
): Promise<Outcome<{ from: number; to: number }>> {
  const known = await log.offsets(partition);
  if (!known.ok) return known;
  const from = await log.offsetAtTime(partition, Math.max(0, fromMs - skewMs - disorderMs - SEARCH_MARGIN_MS));
  if (!from.ok) return from;
  const to = await log.offsetAtTime(partition, toMs + graceMs + disorderMs + SEARCH_MARGIN_MS);
  if (!to.ok) return to;
  const { firstOffset, endOffset } = known.value;
  if ((firstOffset > 0 || continues) && from.value <= firstOffset && firstOffset < endOffset) {
    const since = new Date(fromMs).toISOString();
    return fail('LOG_TRUNCATED', `partition ${partition} of the log does not go back to ${since} any more`);
  }
  return succeed({ from: Math.max(from.value, firstOffset), to: to.value });
}

/** What the late log has of this partition and belongs, as the records of the log that they were. */
async function lateReadings(
  { late, partition }: RecomputeOptions,
  fromMs: number,
  belongs: (value: Uint8Array) => boolean,
): Promise<Outcome<StoredRecord[]>> {
  const found: StoredRecord[] = [];
  for (let latePartition = 0; latePartition < late.partitions; latePartition++) {
    const known = await late.offsets(latePartition);
    if (!known.ok) return known;
    // Nothing is late before its window has ended.
    const from = await late.offsetAtTime(latePartition, Math.max(0, fromMs - SEARCH_MARGIN_MS));
    if (!from.ok) return from;
    const { firstOffset, endOffset } = known.value;
    for await (const batch of late.range(latePartition, Math.max(from.value, firstOffset), endOffset)) {
      for (const record of batch.records) {
        const reading = record.kind === 'late' ? decodeLate(record.value) : null;
        if (reading === null || reading.partition !== partition) continue;
        const value = Buffer.from(reading.reading);
        if (belongs(value)) found.push({ ...record, kind: 'reading', offset: reading.offset, value });
      }
    }
  }
  return succeed(found);
}

/**
 * Rows with every reading in them, late ones and stragglers included: what a repaired row (rev > 0) must hold. Reads
 * only, writes nothing.
 *
 * On-time readings come from the log: those of windows in [fromMs, toMs) lie between the first record received at
 * fromMs - skew and the one that moved the frontier past toMs. The others were put into the late log by the rollup, each
 * with its offset, however much later they came; so nobody has to read the whole log for them. Readings are taken in the
 * order of their offsets in the log, and the first offset of an identity counts, as ever.
 *
 * Memory: the open windows of the range asked for, and its late readings.
 */
import { fail, type Outcome, succeed } from '../errors.ts';
import type { LogReader, StoredRecord } from '../log.ts';
import type { Row } from '../row.ts';
import type { Stream } from '../stream.ts';
import { Engine } from './engine.ts';
import { decodeLate } from './late.ts';
import { readingOf } from './record.ts';

export interface RecomputeOptions {
  readonly reader: LogReader;
  /** The late log; null: there is none. */
  readonly lateReader: LogReader | null;
  readonly stream: Stream;
  readonly graceMs: number;
  readonly disorderMs: number;
  readonly skewMs: number;
  /** Windows with fromMs <= start and end <= toMs. */
  readonly fromMs: number;
  readonly toMs: number;
}

/** The rows of all partitions, all windows of the stream, in no order; `rev` is 0. */
export async function recomputeRows(options: RecomputeOptions): Promise<Outcome<Row[]>> {
  const { reader, stream, fromMs, toMs, skewMs } = options;
  const late = await lateReadings(options);
  if (!late.ok) return late;
  const rows: Row[] = [];
  for (let partition = 0; partition < reader.partitions; partition++) {
    const from = await reader.offsetAtTime(partition, fromMs - skewMs);
    if (!from.ok) return from;
    // The first record that finds the frontier at toMs or later: from here on nothing of the range is on time.
    const end = await reader.offsetAtTime(partition, toMs + options.graceMs + options.disorderMs);
    if (!end.ok) return end;
    const offsets = await reader.offsets(partition);
    if (!offsets.ok) return offsets;
    const { firstOffset } = offsets.value;
    if (from.value === firstOffset && firstOffset > 0) {
      return fail('LOG_TRUNCATED', `partition ${partition} of the log begins too late to compute these windows again`);
    }
    // Without grace there is no late reading, and no window closes before it is asked for.
    const admission = { graceMs: Number.POSITIVE_INFINITY, disorderMs: 0, skewMs };
    const engine = new Engine(
      { partition, streams: { [stream.name]: stream }, ...admission },
      { checkpoint: null, firstOffset: 0, endOffset: Number.POSITIVE_INFINITY },
    );
    const readings = late.value.get(partition) ?? [];
    let next = 0;
    const takeLateBelow = (offset: number) => {
      for (; next < readings.length && readings[next]!.offset < offset; next++) {
        // Below `from` and up to `end` the log itself is read, and has it.
        engine.process(readings[next]!);
      }
    };
    takeLateBelow(from.value);
    for await (const batch of reader.range(partition, from.value, end.value + 1)) {
      for (const record of batch.records) if (isOf(record, options)) engine.process(record);
    }
    while (next < readings.length && readings[next]!.offset <= end.value) next++;
    takeLateBelow(Number.POSITIVE_INFINITY);
    for (const row of engine.provisional(Number.POSITIVE_INFINITY)) {
      if (row.startMs >= fromMs && row.endMs <= toMs) rows.push(row);
    }
  }
  return succeed(rows);
}

function isOf(record: StoredRecord, { stream, fromMs, toMs }: RecomputeOptions): boolean {
  const reading = record.kind === 'reading' ? readingOf(record.value) : null;
  return reading !== null && reading.stream === stream.name && reading.timeMs >= fromMs && reading.timeMs < toMs;
}

/** Late readings of the range by partition of the log, each once, ascending by their offset there. */
async function lateReadings(options: RecomputeOptions): Promise<Outcome<Map<number, StoredRecord[]>>> {
  const { lateReader, fromMs } = options;
  const found = new Map<number, Map<number, StoredRecord>>();
  for (let partition = 0; lateReader !== null && partition < lateReader.partitions; partition++) {
    // Nothing of the range can have been received before its beginning, less the skew.
    const from = await lateReader.offsetAtTime(partition, fromMs - options.skewMs);
    if (!from.ok) return from;
    const offsets = await lateReader.offsets(partition);
    if (!offsets.ok) return offsets;
    for await (const batch of lateReader.range(partition, from.value, offsets.value.endOffset)) {
      for (const record of batch.records) {
        const late = record.kind === 'late' ? decodeLate(record.value) : null;
        if (late === null) continue;
        const original: StoredRecord = {
          ...record,
          kind: 'reading',
          offset: late.offset,
          value: Buffer.from(late.reading),
        };
        if (!isOf(original, options)) continue;
        const readings = found.get(late.partition) ?? new Map<number, StoredRecord>();
        readings.set(late.offset, original);
        found.set(late.partition, readings);
      }
    }
  }
  const sorted = new Map<number, StoredRecord[]>();
  for (const [partition, readings] of found) {
    sorted.set(
      partition,
      [...readings.values()].sort((a, b) => a.offset - b.offset),
    );
  }
  return succeed(sorted);
}

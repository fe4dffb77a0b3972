/**
 * Rows that a repair is still to come for: late readings of their windows stand in the late log at or above what the repair
 * (repair.ts) has committed. Until it comes, such a row may have any of them, or none, or be deleted and not written yet,
 * so it cannot be judged. Reads only.
 */
import { type Outcome, succeed } from '../errors.ts';
import type { LogReader } from '../log.ts';
import { seriesName } from '../reading.ts';
import type { Row } from '../row.ts';
import type { WindowSize } from '../stream.ts';
import { decodeLate } from './late.ts';
import { readingOf, tagsOf } from './record.ts';
import { repairGroup } from './repair.ts';
import { windowStarts } from './window.ts';

/** By partition of the late log: all below was in the rows when this was asked for. */
export type Repaired = readonly number[];

export async function repairedTo(late: LogReader, group: string): Promise<Outcome<Repaired>> {
  const floors: number[] = [];
  for (let partition = 0; partition < late.partitions; partition++) {
    const committed = await late.checkpoint(repairGroup(group), partition);
    if (!committed.ok) return committed;
    floors.push(committed.value?.offset ?? 0);
  }
  return succeed(floors);
}

/** Those of the rows, all of this window size, that are awaited. */
export async function awaited(
  late: LogReader,
  repaired: Repaired,
  rows: readonly Row[],
  window: WindowSize,
): Promise<Outcome<ReadonlySet<Row>>> {
  const byPlace = new Map<string, Row[]>();
  for (const row of rows) {
    const place = placeOf(row.stream, row.startMs, row.tags);
    const same = byPlace.get(place);
    if (same) same.push(row);
    else byPlace.set(place, [row]);
  }
  const found = new Set<Row>();
  for (const [partition, floor] of repaired.entries()) {
    const known = await late.offsets(partition);
    if (!known.ok) return known;
    const { firstOffset, endOffset } = known.value;
    for await (const { records } of late.range(partition, Math.max(floor, firstOffset), endOffset)) {
      for (const { kind, value } of records) {
        const text = kind === 'late' ? decodeLate(value) : null;
        const reading = text && readingOf(Buffer.from(text.reading));
        if (!reading) continue;
        for (const startMs of windowStarts(window, reading.timeMs, reading.timeMs + 1)) {
          for (const row of byPlace.get(placeOf(reading.stream, startMs, tagsOf(reading.tags) ?? {})) ?? []) {
            found.add(row);
          }
        }
      }
    }
  }
  return succeed(found);
}

function placeOf(stream: string, startMs: number, tags: Readonly<Record<string, string>>): string {
  return `${stream} ${startMs} ${seriesName(tags)}`;
}

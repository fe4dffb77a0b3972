/**
 * Finding dead letters in a log, newest first, without reading all of it: from the end backwards in pieces, until enough
 * are found, the asked time is passed, or MAX_SCANNED_RECORDS were looked at. An id is `<partition>-<offset>`.
 */
import { type Outcome, succeed } from '../errors.ts';
import type { LogReader } from '../log.ts';
import { decodeRefusal } from '../reading.ts';
import type { DeadLetter, DeadLetterQuery } from '../view/feed.ts';

const PIECE_RECORDS = 20_000;
export const MAX_SCANNED_RECORDS = 2_000_000;

export interface Search extends DeadLetterQuery {
  wanted?(letter: DeadLetter): boolean;
  /** Default MAX_SCANNED_RECORDS; the command line has time for more. */
  readonly maxScanned?: number;
}

export async function findDeadLetters(reader: LogReader, search: Search): Promise<Outcome<DeadLetter[]>> {
  const { limit, sinceMs, wanted = () => true, maxScanned = MAX_SCANNED_RECORDS } = search;
  const found: DeadLetter[] = [];
  for (let partition = 0; partition < reader.partitions; partition++) {
    const known = await reader.offsets(partition);
    if (!known.ok) return known;
    const start = sinceMs > 0 ? await reader.offsetAtTime(partition, sinceMs) : succeed(known.value.firstOffset);
    if (!start.ok) return start;
    const from = Math.max(start.value, known.value.firstOffset, known.value.endOffset - maxScanned);
    let count = 0;
    for (let end = known.value.endOffset; end > from && count < limit; end -= PIECE_RECORDS) {
      for await (const batch of reader.range(partition, Math.max(from, end - PIECE_RECORDS), end)) {
        for (const record of batch.records) {
          if (record.kind !== 'refusal' || record.receivedMs < sinceMs) continue;
          const refusal = decodeRefusal(textOf(record.value));
          if (!refusal) continue;
          const letter = { id: `${partition}-${record.offset}`, receivedMs: record.receivedMs, refusal };
          if (!wanted(letter)) continue;
          found.push(letter);
          count++;
        }
      }
    }
  }
  return succeed(newestFirst(found).slice(0, limit));
}

export async function deadLetterAt(reader: LogReader, id: string): Promise<Outcome<DeadLetter | null>> {
  const match = /^(\d{1,6})-(\d{1,16})$/.exec(id);
  const [partition, offset] = [Number(match?.[1]), Number(match?.[2])];
  if (!match || partition >= reader.partitions || !Number.isSafeInteger(offset)) return succeed(null);
  const known = await reader.offsets(partition);
  if (!known.ok) return known;
  if (offset < known.value.firstOffset || offset >= known.value.endOffset) return succeed(null);
  for await (const batch of reader.range(partition, offset, offset + 1)) {
    const record = batch.records.find((each) => each.offset === offset && each.kind === 'refusal');
    const refusal = record && decodeRefusal(textOf(record.value));
    if (record && refusal) return succeed({ id, receivedMs: record.receivedMs, refusal });
  }
  return succeed(null);
}

function newestFirst(letters: DeadLetter[]): DeadLetter[] {
  return letters.sort((a, b) => b.receivedMs - a.receivedMs || (a.id < b.id ? 1 : -1));
}

function textOf(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString();
}

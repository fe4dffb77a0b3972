/**
 * Dead letters in a log: finding them, newest first, without reading all of it; going through them, oldest first; and
 * the marks that say which of them were requeued (requeue.ts). An id is `<partition>-<offset>` in the log that keeps
 * them (dead-letter-log.ts).
 *
 * A mark is a record of kind `requeued` that stands behind its letter in the same log: `{"letter":"0-1234"}`.
 */
import { type Outcome, succeed } from '../errors.ts';
import type { LogBatch, LogReader, LogRecord, StoredRecord } from '../log.ts';
import { decodeRefusal } from '../reading.ts';
import type { DeadLetter, DeadLetterQuery } from '../view/feed.ts';

/** Records looked at in one piece, from the end backwards: few at first, since a dead letter may be large. */
const FIRST_PIECE_RECORDS = 256;
const MOST_PIECE_RECORDS = 20_000;
export const MAX_SCANNED_RECORDS = 2_000_000;

export interface Search extends DeadLetterQuery {
  wanted?(letter: DeadLetter): boolean;
  /** Records looked at so far, and in all at most. */
  onProgress?(scanned: number, inAll: number): void;
  /** Default MAX_SCANNED_RECORDS; the command line has time for more. */
  readonly maxScanned?: number;
}

/** A letter with the record that it stands in. */
export interface FoundLetter extends DeadLetter {
  readonly record: StoredRecord;
}

/** The newest letters as they were found, and up to which offset of each partition was looked. */
export interface Findings {
  readonly letters: readonly DeadLetter[];
  readonly ends: readonly number[];
}

export async function findDeadLetters(reader: LogReader, search: Search): Promise<Outcome<DeadLetter[]>> {
  const found = await lookForLetters(reader, search);
  return found.ok ? succeed([...found.value.letters]) : found;
}

/** `known`: findings of an earlier look with the same limit; only what is behind them is read. */
export async function lookForLetters(reader: LogReader, search: Search, known?: Findings): Promise<Outcome<Findings>> {
  const { limit, sinceMs, wanted = () => true, maxScanned = MAX_SCANNED_RECORDS } = search;
  const found: DeadLetter[] = [];
  const marks = new Map<string, number>();
  const ends: number[] = [];
  const ranges: { partition: number; from: number; endOffset: number }[] = [];
  for (let partition = 0; partition < reader.partitions; partition++) {
    const offsets = await reader.offsets(partition);
    if (!offsets.ok) return offsets;
    const { firstOffset, endOffset } = offsets.value;
    ends.push(endOffset);
    found.push(...(known?.letters ?? []).filter((letter) => isIn(letter, partition, firstOffset)));
    const start = sinceMs > 0 ? await reader.offsetAtTime(partition, sinceMs) : succeed(firstOffset);
    if (!start.ok) return start;
    const from = Math.max(start.value, firstOffset, endOffset - maxScanned, known?.ends[partition] ?? 0);
    ranges.push({ partition, from, endOffset });
  }
  const inAll = ranges.reduce((sum, { from, endOffset }) => sum + Math.max(0, endOffset - from), 0);
  let scanned = 0;
  for (const { partition, from, endOffset } of ranges) {
    let count = 0;
    let pieceRecords = FIRST_PIECE_RECORDS;
    for (let end = endOffset; end > from && count < limit; ) {
      const begin = Math.max(from, end - pieceRecords);
      const piece: DeadLetter[] = [];
      for await (const batch of reader.range(partition, begin, end)) {
        readMarks(batch, marks);
        for (const record of batch.records) {
          const letter = record.receivedMs < sinceMs ? null : letterOf(partition, record);
          if (!letter || !wanted(letter)) continue;
          piece.push({ id: letter.id, receivedMs: letter.receivedMs, refusal: letter.refusal });
          // Payloads are large: no more of them are held than are asked for.
          if (piece.length > limit - count) piece.shift();
        }
      }
      found.push(...piece);
      scanned += end - begin;
      search.onProgress?.(scanned, inAll);
      count += piece.length;
      end = begin;
      pieceRecords = Math.min(pieceRecords * 4, MOST_PIECE_RECORDS);
    }
  }
  const newest = found.sort(newestFirst).slice(0, limit);
  return succeed({ letters: newest.map((letter) => withMark(letter, marks.get(letter.id))), ends });
}

function isIn({ id }: DeadLetter, partition: number, firstOffset: number): boolean {
  const place = placeOf(id);
  return place?.partition === partition && place.offset >= firstOffset;
}

export async function deadLetterAt(reader: LogReader, id: string): Promise<Outcome<DeadLetter | null>> {
  const place = placeOf(id);
  if (!place || place.partition >= reader.partitions) return succeed(null);
  const { partition, offset } = place;
  const known = await reader.offsets(partition);
  if (!known.ok) return known;
  if (offset < known.value.firstOffset || offset >= known.value.endOffset) return succeed(null);
  for await (const letter of walkDeadLetters(reader, partition, offset, offset + 1)) {
    return succeed({ id, receivedMs: letter.receivedMs, refusal: letter.refusal });
  }
  return succeed(null);
}

/** The letters of [fromOffset, toOffset), oldest first, one at a time. Marks on the way are added to `marks`. */
export async function* walkDeadLetters(
  reader: LogReader,
  partition: number,
  fromOffset: number,
  toOffset: number,
  marks?: Map<string, number>,
): AsyncGenerator<FoundLetter> {
  for await (const batch of reader.range(partition, fromOffset, toOffset)) {
    if (marks) readMarks(batch, marks);
    for (const record of batch.records) {
      const letter = letterOf(partition, record);
      if (letter) yield letter;
    }
  }
}

/** Null: not an id. */
export function placeOf(id: string): { partition: number; offset: number } | null {
  const match = /^(\d{1,6})-(\d{1,16})$/.exec(id);
  if (!match) return null;
  const [partition, offset] = [Number(match[1]), Number(match[2])];
  return Number.isSafeInteger(offset) ? { partition, offset } : null;
}

export function markRecord(letterId: string, receivedMs: number): LogRecord {
  const value = Buffer.from(JSON.stringify({ letter: letterId }));
  return { kind: 'requeued', key: '', receivedMs, stream: '', topic: '', value };
}

/** Adds the marks of a batch: letter id -> when it was requeued. */
export function readMarks({ records }: LogBatch, marks: Map<string, number>): void {
  for (const record of records) {
    const letter = record.kind === 'requeued' ? markedLetter(record) : null;
    if (letter !== null) marks.set(letter, record.receivedMs);
  }
}

/** The id of the letter that a mark names; null when it is none of ours. */
function markedLetter(record: StoredRecord): string | null {
  try {
    const { letter } = JSON.parse(textOf(record.value)) as { letter?: unknown };
    return typeof letter === 'string' ? letter : null;
  } catch {
    return null;
  }
}

function letterOf(partition: number, record: StoredRecord): FoundLetter | null {
  if (record.kind !== 'refusal') return null;
  const refusal = decodeRefusal(textOf(record.value));
  if (!refusal) return null;
  return { id: `${partition}-${record.offset}`, receivedMs: record.receivedMs, refusal, record };
}

function withMark(letter: DeadLetter, requeuedMs: number | undefined): DeadLetter {
  return requeuedMs === undefined ? letter : { ...letter, requeuedMs };
}

function newestFirst(a: DeadLetter, b: DeadLetter): number {
  const [one, other] = [placeOf(a.id)!, placeOf(b.id)!];
  return b.receivedMs - a.receivedMs || other.partition - one.partition || other.offset - one.offset;
}

function textOf(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString();
}

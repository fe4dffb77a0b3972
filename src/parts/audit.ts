/**
 * Does everything balance, and where is this reading? Reads the log once, in order, with the engine of `verify` on it, which
 * says what became of each reading and compares the store with the log bit by bit; beside it, in step by received stamps,
 * the dead letters and the gateways' accounts. The books (audit-books.ts) join them. Reads only.
 *
 * Without Kafka the spool is the log and holds all of it. With Kafka a second copy of a record, as a crash of the gateway
 * leaves it, is known by its place in the spool, and counts once.
 */
import type { RollupConfig } from '../config.ts';
import { type Outcome, succeed } from '../errors.ts';
import { partitionOf } from '../journal/kafka-partition.ts';
import { spreadOf } from '../journal/spread.ts';
import type { LogReader, Origin, StoredRecord } from '../log.ts';
import { decodeReading } from '../reading.ts';
import type { Fate, FatePlace } from '../rollup/engine.ts';
import { type Difference, type VerifyOptions, type VerifyReport, verify } from '../rollup/verify.ts';
import { baseSizeMs, windowStarts } from '../rollup/window.ts';
import type { Row } from '../row.ts';
import type { Stream } from '../stream.ts';
import { decodeAccount, deviceOf, minuteOf } from './account.ts';
import { AuditBooks, type BooksRange, type Verdict } from './audit-books.ts';

export interface AuditOptions {
  readonly verify: Omit<
    VerifyOptions,
    'fromMs' | 'toMs' | 'onRecord' | 'onRead' | 'onDifference' | 'config' | 'streams'
  >;
  readonly config: RollupConfig;
  readonly streams: Readonly<Record<string, Stream>>;
  /** Topics beside the readings; null: the spool is the log. */
  readonly beside: { readonly deadLetters: LogReader; readonly accounts: LogReader } | null;
  /** Of the spool that is the log; null where there is none, or none yet. */
  readonly spoolId: string | null;
  readonly range: BooksRange;
  /** The event time of readings of `range.device` whose way is wanted. */
  readonly readingMs?: number;
}

/** A reading in the log, and what became of it. */
export interface Found {
  readonly stream: string;
  readonly topic: string;
  readonly timeMs: number;
  readonly receivedMs: number;
  readonly partition: number;
  readonly offset: number;
  readonly origin: Origin | null;
  /** This place of its spool was seen before in this partition. */
  readonly again: boolean;
  readonly fate: Fate;
  readonly windows: readonly FoundWindow[];
}

export interface FoundWindow {
  readonly window: string;
  readonly startMs: number;
  readonly endMs: number;
  /** The log has come so far that no more is counted in it. */
  readonly closed: boolean;
  /** As the store has it, one for each metric; empty: there is none. */
  readonly rows: readonly { readonly metric: string; readonly count: number; readonly rev: number }[];
}

export interface AuditReport extends Verdict {
  readonly verified: VerifyReport;
  /** Differences of rows by the device and the minute in which the window begins. */
  readonly rows: readonly RowImbalance[];
  /** Null: none was asked for. */
  readonly found: readonly Found[] | null;
  readonly balanced: boolean;
}

export interface RowImbalance {
  readonly device: string;
  readonly minuteMs: number;
  readonly difference: Difference;
}

/** Accounts that are read before and behind the range: the first of its accounts may follow one of these, its last may be one. */
const BESIDE_MS = 3_600_000;
const SWEEP_RECORDS = 50_000;
/** Copies of one reading that are shown. */
const MAX_FOUND = 20;
/** Differences that are named; verify counts all. */
const MAX_ROWS = 1_000;

export async function audit(options: AuditOptions): Promise<Outcome<AuditReport>> {
  const { config, streams, range } = options;
  const audited = new Audit(options);
  const besides = options.beside === null ? [] : await audited.openBeside(options.beside);
  if (!Array.isArray(besides)) return besides;
  const baseMs = Math.max(...Object.values(streams).map(({ windows }) => baseSizeMs(windows)));
  const rows: RowImbalance[] = [];
  const verified = await verify({
    ...options.verify,
    config,
    streams,
    // What is received in the range may be of windows that began before it, or will begin after it.
    fromMs: Math.max(0, range.fromMs - config.graceMs - baseMs),
    toMs: range.toMs + config.skewMs,
    onRecord: (record, partition, fate, place) => audited.onRecord(record, partition, fate, place),
    onRead: (readToMs, frontierMs) => audited.onRead(besides, readToMs, frontierMs),
    onDifference: (difference) => {
      const found = rowImbalance(difference, streams);
      if (audited.books.isWanted(found.device) && rows.length < MAX_ROWS) rows.push(found);
    },
  });
  // They were opened before the readings: what an account counts was read, or its partition has not come so far.
  for (const walk of besides) await walk.readTo(range.toMs + BESIDE_MS);
  for (const walk of besides) await walk.end();
  if (!verified.ok) return verified;
  const verdict = audited.finish();
  const found = options.readingMs === undefined ? null : await audited.found(options.verify.readRows);
  const named = range.device === undefined ? verified.value.differences : rows.length;
  const balanced = verdict.imbalances.length === 0 && verdict.gaps.length === 0 && named === 0;
  return succeed({ ...verdict, verified: verified.value, rows, found, balanced });
}

/** A topic beside the readings, read in step with them. */
interface Beside {
  readTo(ms: number): Promise<void>;
  end(): Promise<void>;
}

type Match = Omit<Found, 'windows'> & { readonly tags: Readonly<Record<string, string>> };

class Audit {
  readonly books: AuditBooks;
  readonly #options: AuditOptions;
  /** The largest offset of each spool that was seen, by topic and partition. */
  readonly #reached = new Map<string, Map<string, number>>();
  readonly #matches: Match[] = [];
  #unswept = 0;
  #frontierMs = Number.NEGATIVE_INFINITY;

  constructor(options: AuditOptions) {
    this.#options = options;
    this.books = new AuditBooks(options.range);
  }

  async openBeside({ deadLetters, accounts }: NonNullable<AuditOptions['beside']>): Promise<Beside[] | Outcome<never>> {
    const { range } = this.#options;
    const besides: Beside[] = [];
    for (const [name, reader, fromMs] of [
      ['accounts', accounts, range.fromMs - BESIDE_MS],
      ['deadletters', deadLetters, range.fromMs],
    ] as const) {
      const offsets = await reader.offsets(0);
      if (!offsets.ok) return offsets;
      const from = await reader.offsetAtTime(0, fromMs);
      if (!from.ok) return from;
      const batches = reader.range(0, from.value, offsets.value.endOffset)[Symbol.asyncIterator]();
      besides.push(inStep(batches, (record) => this.#onBeside(name, record)));
    }
    return besides;
  }

  #onBeside(topic: string, record: StoredRecord): void {
    const isAgain = this.#isAgain(`${topic}/0`, record.origin ?? null);
    if (isAgain) return;
    if (record.kind === 'account') this.#onAccount(record);
    else if (record.kind === 'refusal') this.#onLetter(record, record.origin ?? null);
  }

  onRecord(record: StoredRecord, partition: number, fate: Fate | null, place: FatePlace | null): void {
    const { spoolId, beside } = this.#options;
    const here = spoolId === null ? null : { spool: spoolId, offset: record.offset };
    const origin = beside === null ? here : (record.origin ?? null);
    const again = this.#isAgain(`readings/${partition}`, origin);
    this.#unswept++;
    if (record.kind === 'account') this.#onAccount(record);
    if (record.kind === 'refusal') this.#onLetter(record, origin);
    if (record.kind !== 'reading' || fate === null || !this.books.isIn(record.receivedMs)) return;
    const device = record.key;
    if (!this.books.isWanted(device)) return;
    this.books.fate(device, fate, place?.endMs ?? null);
    if (!again) this.books.seen(device, minuteOf(record.receivedMs), 'forwarded', origin);
    this.#match(record, partition, origin, again, fate, place);
  }

  #isAgain(lane: string, origin: Origin | null): boolean {
    if (origin === null) return false;
    const known = this.#reached.get(lane) ?? new Map<string, number>();
    this.#reached.set(lane, known);
    if (origin.offset <= (known.get(origin.spool) ?? -1)) return true;
    known.set(origin.spool, origin.offset);
    return false;
  }

  #onAccount(record: StoredRecord): void {
    const account = decodeAccount(record.value);
    if (account) this.books.account(account);
  }

  #onLetter(record: StoredRecord, origin: Origin | null): void {
    const device = deviceOf(record, this.#options.streams);
    if (!this.books.isIn(record.receivedMs) || !this.books.isWanted(device) || isRow(record.value)) return;
    this.books.seen(device, minuteOf(record.receivedMs), 'deadLettered', origin);
  }

  #match(
    record: StoredRecord,
    partition: number,
    origin: Origin | null,
    again: boolean,
    fate: Fate,
    place: FatePlace | null,
  ): void {
    const { readingMs } = this.#options;
    if (readingMs === undefined || place?.timeMs !== readingMs || this.#matches.length >= MAX_FOUND) return;
    const { topic, receivedMs, offset } = record;
    const tags = decodeReading(Buffer.from(record.value).toString())?.tags ?? {};
    const { stream, timeMs } = place;
    this.#matches.push({ stream, topic, timeMs, receivedMs, partition, offset, origin, again, fate, tags });
  }

  async onRead(besides: readonly Beside[], readToMs: number, frontierMs: number): Promise<void> {
    this.#frontierMs = frontierMs;
    for (const walk of besides) await walk.readTo(readToMs);
    if (this.#unswept < SWEEP_RECORDS) return;
    this.#unswept = 0;
    this.books.sweep(frontierMs);
  }

  finish(): Verdict {
    const { beside, streams, verify: options } = this.#options;
    const { partitions } = options.reader;
    const all = Array.from({ length: partitions }, (_, partition) => partition);
    // Accounts name devices without their streams, and some streams may spread the readings of one device over all partitions.
    const isByKey = spreadOf(streams).size === 0;
    const partitionsOf = (device: string) => (isByKey ? [partitionOf(device, partitions)] : all);
    const reachedIn = (partition: number, spool: string) =>
      this.#reached.get(`readings/${partition}`)?.get(spool) ?? -1;
    const reached = (device: string, spool: string) =>
      beside === null
        ? Number.POSITIVE_INFINITY
        : Math.min(...partitionsOf(device).map((partition) => reachedIn(partition, spool)));
    return this.books.finish(this.#frontierMs, reached);
  }

  async found(readRows: VerifyOptions['readRows']): Promise<Found[]> {
    const all: Found[] = [];
    for (const { tags, ...match } of this.#matches) {
      const windows: FoundWindow[] = [];
      for (const { label, sizeMs, everyMs } of this.#options.streams[match.stream]!.windows) {
        for (const startMs of windowStarts({ sizeMs, everyMs }, match.timeMs, match.timeMs + 1)) {
          const query = { stream: match.stream, window: label, fromMs: startMs, toMs: startMs + 1, tags };
          const rows: { metric: string; count: number; rev: number }[] = [];
          for await (const { metric, count, rev } of readRows(query)) rows.push({ metric, count, rev });
          const endMs = startMs + sizeMs;
          windows.push({ window: label, startMs, endMs, closed: endMs <= this.#frontierMs, rows });
        }
      }
      all.push({ ...match, windows });
    }
    return all;
  }
}

function inStep(
  batches: AsyncIterator<{ readonly records: readonly StoredRecord[] }>,
  onRecord: (record: StoredRecord) => void,
): Beside {
  let waiting: readonly StoredRecord[] = [];
  let at = 0;
  let finished = false;
  return {
    async readTo(ms) {
      while (!finished) {
        for (; at < waiting.length; at++) {
          if (waiting[at]!.receivedMs > ms) return;
          onRecord(waiting[at]!);
        }
        const next = await batches.next();
        finished = next.done === true;
        waiting = next.done ? [] : next.value.records;
        at = 0;
      }
    },
    async end() {
      await batches.return?.();
    },
  };
}

/** A row that the store refused: a dead letter of the rollup's, and no payload of a device's. */
const ROW_MARK = Buffer.from('{"code":"store-refused"');

function isRow(value: Uint8Array): boolean {
  return value.length >= ROW_MARK.length && ROW_MARK.equals(value.subarray(0, ROW_MARK.length));
}

function rowImbalance(difference: Difference, streams: Readonly<Record<string, Stream>>): RowImbalance {
  const row = (difference.expected ?? difference.stored) as Row;
  const device = row.tags[streams[row.stream]?.key ?? ''] ?? row.tags.device ?? '';
  return { device, minuteMs: minuteOf(row.startMs), difference };
}

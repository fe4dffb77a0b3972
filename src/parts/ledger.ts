/**
 * The gateway's books: what became of every reading since this process started, exported by `/metrics` and checked there.
 *
 *   received = pending + refused + dead_lettered + spooled + forwarded
 *
 * The unit is the reading. A payload that inspection refused counts as one reading, a batch as many as it holds. Ticks and
 * requeue marks are not readings. Each term is taken from another place, so that a mistake in one shows:
 *   received       handed to inspection by a device, another broker or a requeue (counted by accept.ts and requeue.ts)
 *   pending        given to the spool, which has not answered yet
 *   refused        the spool answered with a failure: not acknowledged, nothing promised, the device sends it again
 *   dead_lettered  a refused payload that is durable in the spool; and a reading that Kafka refused for good and of which
 *                  `forward` made a dead letter
 *   spooled        durable here and not yet in Kafka: by the spool's offsets beyond what `forward` has read, plus what
 *                  `forward` has read and Kafka has not confirmed. Without Kafka: all that is durable.
 *   forwarded      confirmed by Kafka
 * Not in it: what an earlier run left in the spool (its offsets are below `from`), and publishes that were turned away
 * before anyone looked inside (`millrace_turned_away_total`), because nobody knows how many readings they hold.
 *
 * With `ack: kafka` a reading is `spooled` while its device waits. The difference of the two sides is
 * `millrace_ledger_imbalance_readings`; it is 0 at any moment, also under load, because the numbers of `forward` are those
 * of one moment and offsets say what came after it. When the `forward` thread has to be started again the books begin anew.
 * Only while Kafka's reader has not passed a hole in the offsets (a failed write) the reading of offsets proves nothing.
 */
import type { Outcome } from '../errors.ts';
import type { ForwardTally } from '../journal/forward.ts';
import type { SpoolStats } from '../journal/spool-options.ts';
import type { NewRecord, RecordKind } from '../log.ts';

type SpoolSide = Pick<SpoolStats, 'endOffset' | 'voided' | 'voidTo'>;

export interface LedgerSpool {
  readonly append: (record: NewRecord, onDurable: (outcome: Outcome) => void) => void;
  readonly appendBatch: (records: readonly NewRecord[], onDurable: (outcome: Outcome) => void) => void;
  stats(): SpoolSide;
}

/** Counts by device: see accounts.ts. */
export interface Accounting {
  deviceOf(record: NewRecord): string;
  /** What became of a record in the spool, in the order of the appends. */
  count(kind: RecordKind, device: string, receivedMs: number, durable: boolean): void;
}

export const LEDGER_TERMS = ['received', 'pending', 'refused', 'dead_lettered', 'spooled', 'forwarded'] as const;
export type LedgerTerm = (typeof LEDGER_TERMS)[number];

export interface Books {
  readonly terms: Readonly<Record<LedgerTerm, number>>;
  /** The left side minus the right one. */
  readonly imbalance: number;
}

export class Ledger {
  readonly #spool: LedgerSpool;
  /** Null: no `forward` in this process, so the spool is the log. */
  readonly #forward: (() => ForwardTally | undefined) | null;
  #accounting: Accounting = { deviceOf: () => '', count: () => {} };
  #received = 0;
  /** Of readings and refusals. */
  #offered = 0;
  #failed = 0;
  #readings = 0;
  #refusals = 0;
  /** Ticks and marks that are durable. */
  #others = 0;
  #from: SpoolSide;
  /** The last numbers of `forward`; a thread that is being started again has none. */
  #tally: ForwardTally;

  constructor(spool: LedgerSpool, forward: (() => ForwardTally | undefined) | null) {
    this.#spool = spool;
    this.#forward = forward;
    this.#from = spool.stats();
    this.#tally = nothingRead(this.#from.endOffset);
  }

  account(accounting: Accounting): void {
    this.#accounting = accounting;
  }

  /** Before they are given to `append`. */
  received(readings: number): void {
    this.#received += readings;
  }

  /** The spool's append; every record of this gateway goes through here, or through `appendBatch`. */
  append(record: NewRecord, onDurable: (outcome: Outcome) => void): void {
    this.#offer(record);
    // the record itself is not held until then
    const { kind, receivedMs } = record;
    const device = this.#accounting.deviceOf(record);
    this.#spool.append(record, (outcome) => {
      this.#settle(kind, device, receivedMs, outcome.ok);
      onDurable(outcome);
    });
  }

  /** All of them or none, with one answer. */
  appendBatch(records: readonly NewRecord[], onDurable: (outcome: Outcome) => void): void {
    for (const record of records) this.#offer(record);
    const offered = records.map((record) => {
      return { kind: record.kind, device: this.#accounting.deviceOf(record), receivedMs: record.receivedMs };
    });
    this.#spool.appendBatch(records, (outcome) => {
      for (const { kind, device, receivedMs } of offered) this.#settle(kind, device, receivedMs, outcome.ok);
      onDurable(outcome);
    });
  }

  #offer({ kind }: NewRecord): void {
    if (kind === 'reading' || kind === 'refusal') this.#offered++;
  }

  #settle(kind: RecordKind, device: string, receivedMs: number, durable: boolean): void {
    this.#accounting.count(kind, device, receivedMs, durable);
    const counts = kind === 'reading' || kind === 'refusal';
    if (!durable) {
      if (counts) this.#failed++;
    } else if (kind === 'reading') this.#readings++;
    else if (kind === 'refusal') this.#refusals++;
    else this.#others++;
  }

  /** The books begin here: what is not settled yet is carried over. Answers the spool offset from which `forward` counts. */
  beginAnew(): number {
    const pending = this.#pending();
    this.#received = pending;
    this.#offered = pending;
    this.#failed = this.#readings = this.#refusals = this.#others = 0;
    this.#from = this.#spool.stats();
    this.#tally = nothingRead(this.#from.endOffset);
    return this.#from.endOffset;
  }

  books(): Books {
    const spool = this.#spool.stats();
    const forward = this.#forward === null ? null : (this.#forward() ?? this.#tally);
    if (forward) this.#tally = forward;
    const terms = {
      received: this.#received,
      pending: this.#pending(),
      refused: this.#failed,
      dead_lettered: this.#refusals + (forward?.refused ?? 0),
      spooled: forward ? this.#notInKafka(spool, forward) : this.#durable(spool),
      forwarded: forward?.confirmed ?? 0,
    };
    const { received, ...others } = terms;
    const imbalance = Object.values(others).reduce((rest, count) => rest - count, received);
    return { terms, imbalance };
  }

  #pending(): number {
    return this.#offered - this.#failed - this.#readings - this.#refusals;
  }

  /** Readings in the spool since the beginning, by its offsets. */
  #durable({ endOffset, voided }: SpoolSide): number {
    const records = endOffset - this.#from.endOffset - (voided - this.#from.voided);
    return records - this.#refusals - this.#others;
  }

  #notInKafka({ endOffset, voidTo }: SpoolSide, forward: ForwardTally): number {
    const position = Math.max(forward.position, this.#from.endOffset);
    const othersUnread = this.#refusals + this.#others - forward.readOthers;
    const passedHoles = voidTo <= this.#from.endOffset || position >= voidTo;
    const unread = passedHoles ? endOffset - position - othersUnread : this.#readings - forward.readReadings;
    // When Kafka has all that was read, nothing that was read waits, whatever the counts say.
    return unread + (forward.idle ? 0 : forward.readReadings - forward.confirmed - forward.refused);
  }
}

function nothingRead(position: number): ForwardTally {
  return { position, idle: true, readReadings: 0, readOthers: 0, confirmed: 0, refused: 0 };
}

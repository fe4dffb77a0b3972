/**
 * The log: the one thing that joins the stages, and the only thing that joins threads and processes.
 * An append-only sequence of records in partitions; a record, once durable, never changes.
 *
 * `journal/` has two implementations: the spool (one partition, files in the data folder) and Kafka (many). Everything
 * behind the log is identical with both; `test/contracts/log.ts` is the suite that each of them passes.
 * The interface lives beside the stages, because `rollup/` and `view/` read what `journal/` keeps.
 */
import type { Failure, Outcome } from './errors.ts';

export type RecordKind =
  /** An accepted reading; value = JSON of a Reading. */
  | 'reading'
  /** A heartbeat that carries the gateway's clock to every partition; empty value. */
  | 'tick'
  /** A dead letter; value = JSON of a Refusal, payload in base64. */
  | 'refusal'
  /** Says that a dead letter was sent through inspection and the log again; stands behind the letter in the same log. */
  | 'requeued'
  /** A reading that came too late for its window, with the reason; written by `rollup/`. */
  | 'late'
  /** A closed pane, between the two stages of a rollup. */
  | 'pane'
  /** Something that the user wants to be told; value = JSON of an Alert. */
  | 'alert'
  /** Something that is wanted of a device, and what became of it; see command.ts. */
  | 'command'
  | 'outcome'
  /** What the gateway took in, by minute and device: the left side of `millrace audit`; see parts/account.ts. */
  | 'account';

/** All of them; a kind that is missing here is a type error. */
const KNOWN: Readonly<Record<RecordKind, true>> = {
  reading: true,
  tick: true,
  refusal: true,
  requeued: true,
  late: true,
  pane: true,
  alert: true,
  command: true,
  outcome: true,
  account: true,
};

export function isRecordKind(text: string): text is RecordKind {
  return Object.hasOwn(KNOWN, text);
}

export interface LogRecord {
  readonly kind: RecordKind;
  readonly key: string;
  /** Received stamp, epoch milliseconds. For Kafka: the message's timestamp. */
  readonly receivedMs: number;
  /** Stream name; '' for ticks and for refusals without one. */
  readonly stream: string;
  /** MQTT topic it came from; '' when none. */
  readonly topic: string;
  /** A valid traceparent (traceparent.ts), where the stream asks for one. */
  readonly trace?: string;
  readonly value: Uint8Array;
}

/** A record that is about to be appended: a value that is a text is kept as UTF-8. */
export type NewRecord = Omit<LogRecord, 'value'> & { readonly value: Uint8Array | string };

/** As writers of other logs than the spool take it. */
export function withBytes(record: NewRecord): LogRecord {
  const { value } = record;
  return { ...record, value: typeof value === 'string' ? Buffer.from(value) : value };
}

export interface StoredRecord extends LogRecord {
  /** Position within its partition. Positions grow, and may have holes. */
  readonly offset: number;
  /** Where it stood in the spool it came through; absent in the spool itself, and when it came through none. */
  readonly origin?: Origin;
}

/** A place in a spool. First occurrences of one spool's records have growing offsets within a partition of Kafka. */
export interface Origin {
  /** Of spool-id.ts. */
  readonly spool: string;
  readonly offset: number;
}

export interface LogBatch {
  readonly partition: number;
  /** In offset order. May be empty when only holes were passed. */
  readonly records: readonly StoredRecord[];
  /** Where the next batch continues. */
  readonly nextOffset: number;
  /** The end of the partition as last known: nextOffset === endOffset means caught up. */
  readonly endOffset: number;
}

/** What a reader stores to go on from after a crash. */
export interface Checkpoint {
  readonly offset: number;
  /** At most 4,096 characters. */
  readonly metadata: string;
}

export interface Assignment {
  readonly partition: number;
  /** Null: this group never committed here. */
  readonly checkpoint: Checkpoint | null;
  /** The oldest record still there. Greater than checkpoint.offset means the log was truncated under us. */
  readonly firstOffset: number;
  readonly endOffset: number;
}

export interface ConsumerHandlers {
  /**
   * Called at the start and after every rebalance, before any batch of the new assignment: all that was held for
   * partitions of an earlier assignment is void. Answers where to start, for each partition given.
   */
  assigned(assignments: readonly Assignment[]): Promise<ReadonlyMap<number, number>>;
  /**
   * One batch of one partition; the next one of that partition comes after this promise. Never two at once for one
   * partition. `signal` aborts when the partition is no longer ours: give up waiting, hold nothing back.
   * A throw ends the consumer (`ended` reports it).
   */
  batch(batch: LogBatch, signal: AbortSignal): Promise<void>;
  /** The last moment at which a commit counts, before a stop in order. */
  stopping(): Promise<void>;
  /** The consumer is dead and will not come back by itself; the process should end and be restarted. */
  ended(reason: unknown): void;
}

export interface LogConsumer {
  /** Why reading waits, of all partitions or of one; null: it goes on. */
  trouble(): Failure | null;
  /** Stores a checkpoint. Durable when it resolves with ok. Does not move the reading position. */
  commit(partition: number, checkpoint: Checkpoint): Promise<Outcome>;
  /** Stops reading after the batches under way, calls `stopping`, leaves the group. Bounded in time. */
  stop(): Promise<void>;
}

export interface LogReader {
  readonly partitions: number;
  /** Joins `group`. Within one group each partition has one reader. Retries for ever while the log is away. */
  consume(group: string, handlers: ConsumerHandlers): Promise<LogConsumer>;
  /** firstOffset: oldest record; endOffset: one past the newest. */
  offsets(partition: number): Promise<Outcome<{ firstOffset: number; endOffset: number }>>;
  /** The first offset whose record has receivedMs >= the given one; endOffset when there is none. */
  offsetAtTime(partition: number, receivedMs: number): Promise<Outcome<number>>;
  /** The records of [fromOffset, toOffset), in order, in batches of bounded size. Throws only on a bug or a lost log. */
  range(partition: number, fromOffset: number, toOffset: number): AsyncIterable<LogBatch>;
  /** The stored checkpoint of a group; null when there is none. */
  checkpoint(group: string, partition: number): Promise<Outcome<Checkpoint | null>>;
  close(): Promise<void>;
}

/** Where a record that names no partition goes is decided by its key: murmur2, as Kafka's own clients do. */
export interface LogWriter {
  readonly partitions: number;
  /**
   * Resolves when every record is durable, or with the first failure; then any of them may or may not be in the log,
   * and appending the same records again is safe (readers count a reading once). Order within a partition is kept
   * as long as the caller has one append at a time.
   */
  append(records: readonly LogRecord[]): Promise<Outcome>;
  close(): Promise<void>;
}

/**
 * A lane: the records on their way to one partition of one topic, in spool order, and how that partition is doing.
 * Plain state without I/O or timers; `forward-requests.ts` moves it.
 *
 * The first `inFlight` entries are in the request under way and stay here until it is answered. They, and those behind
 * them, are each sorted by their offset in the spool, so the smallest offset that Kafka may lack is at one of two places.
 */
import type { LogRecord } from '../log.ts';
import { messageBytes } from './kafka-record.ts';
import type { KafkaTopic } from './kafka-topics.ts';

export interface Entry {
  /** Of the spool record that this came from. */
  readonly offset: number;
  readonly record: LogRecord;
  readonly bytes: number;
  /** Not the spool's record but one made from it, which reading the spool again would not bring back. */
  readonly made: boolean;
}

export function entryOf(offset: number, record: LogRecord, made = false): Entry {
  return { offset, record, bytes: messageBytes(record), made };
}

/** With bytes of its own. A value is a view into a large buffer of the spool's, which it would keep in memory for long. */
function owned(entry: Entry): Entry {
  return entry.made ? entry : { ...entry, record: { ...entry.record, value: entry.record.value.slice() } };
}

export class Lane {
  readonly topic: KafkaTopic;
  readonly partition: number;
  readonly entries: Entry[] = [];
  inFlight = 0;
  bytes = 0;
  /** When the first entry that is not in flight came, for the linger. */
  waitingSinceMs = 0;
  /** Some request with this lane has failed and none has succeeded since: no other lane shares its requests. */
  alone = false;
  /** Tries that failed since the last success, not counting those that blamed a record. */
  failures = 0;
  /** The first of these failures. */
  failingSinceMs = 0;
  notBeforeMs = 0;
  /** Entries at the front among which is one that Kafka refuses for good; 0 = none is suspected. */
  suspects = 0;
  /** The smallest offset whose record is in the spool but, for want of room, not here; null: the lane is complete. */
  parkedFrom: number | null = null;
  /** Counts parkings, so that a catching up that was overtaken by another notices. */
  parkings = 0;

  constructor(topic: KafkaTopic, partition: number) {
    this.topic = topic;
    this.partition = partition;
  }

  get name(): string {
    return `${this.topic.name}/${this.partition}`;
  }

  get failing(): boolean {
    return this.failures > 0;
  }

  /** Something to send, and nothing under way. */
  get ready(): boolean {
    return this.inFlight === 0 && this.entries.length > 0;
  }

  /** The smallest spool offset of this partition that Kafka does not have; Infinity when it has all. */
  floor(): number {
    const first = this.entries[0]?.offset ?? Number.POSITIVE_INFINITY;
    const next = this.entries[this.inFlight]?.offset ?? Number.POSITIVE_INFINITY;
    return Math.min(first, next, this.parkedFrom ?? Number.POSITIVE_INFINITY);
  }

  add(entry: Entry, nowMs: number): void {
    if (this.entries.length === this.inFlight) this.waitingSinceMs = nowMs;
    const kept = this.failing ? owned(entry) : entry;
    let at = this.entries.length;
    while (at > this.inFlight && this.entries[at - 1]!.offset > entry.offset) at--;
    if (at === this.entries.length) this.entries.push(kept);
    else this.entries.splice(at, 0, kept);
    this.bytes += entry.bytes;
  }

  /** The request under way has failed. What came meanwhile belongs in its place, which may be in front. */
  takeBack(): void {
    const last = this.entries[this.inFlight - 1];
    const next = this.entries[this.inFlight];
    if (last && next && next.offset < last.offset) this.entries.sort((a, b) => a.offset - b.offset);
    this.inFlight = 0;
  }

  /** It has failed for a reason that may last: so what is here may stay for long. */
  fail(nowMs: number): void {
    this.failures++;
    if (this.failures > 1) return;
    this.failingSinceMs = nowMs;
    this.entries.forEach((entry, index) => {
      this.entries[index] = owned(entry);
    });
  }

  /** How many entries from the front one request takes: within both limits, but at least one. */
  batchLength(maxRecords: number, maxBytes: number): number {
    const most = this.suspects > 0 ? Math.ceil(this.suspects / 2) : maxRecords;
    let bytes = 0;
    let count = 0;
    while (count < this.entries.length && count < most) {
      bytes += this.entries[count]!.bytes;
      if (count > 0 && bytes > maxBytes) break;
      count++;
    }
    return count;
  }

  /** Kafka has these, or somebody else takes care of them. */
  removeFirst(count: number): Entry[] {
    const removed = this.entries.splice(0, count);
    for (const entry of removed) this.bytes -= entry.bytes;
    this.suspects = Math.max(0, this.suspects - count);
    return removed;
  }

  /** Keeps what one request takes and what cannot be read again; the rest is read from the spool later. */
  park(maxRecords: number, maxBytes: number, spoolPosition: number): void {
    const keep = Math.max(this.inFlight, this.batchLength(maxRecords, maxBytes));
    const tail = this.entries.splice(keep);
    const made = tail.filter((entry) => entry.made);
    const firstDropped = tail.find((entry) => !entry.made)?.offset ?? spoolPosition;
    for (const entry of tail) if (!entry.made) this.bytes -= entry.bytes;
    this.entries.push(...made);
    this.parkedFrom = Math.min(firstDropped, this.parkedFrom ?? spoolPosition);
    this.parkings++;
  }
}

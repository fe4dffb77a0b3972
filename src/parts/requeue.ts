/**
 * Sends dead letters through inspection and the log once more. Called by the gateway's API, for the live page and for
 * `millrace deadletters requeue`, and by that command itself where no gateway runs. The letter stays where it is.
 *
 * Once, whatever happens:
 * - When what became of it is durable, a mark is appended (dead-letters.ts) to the log that keeps the letters. So a
 *   letter with a mark has its readings in the log, and is not sent again. The log is the only place that remembers: it
 *   needs no file of its own that a crash could leave behind or ahead of it, a mark goes when its letter goes, and every
 *   gateway on the same Kafka sees it.
 * - A crash between the readings and the mark repeats the readings at the next try, and they are counted once, like
 *   any redelivery: a requeued reading has the same identity every time. Where neither the payload carries a time nor
 *   the stream names an identity, the letter's id is the identity, and the time is when the letter was received.
 * - Two calls at once are done one after the other.
 * A letter that inspection refuses again is answered with the new reason and changes nothing: it has no mark.
 *
 * A reading that Kafka refused (`log-refused`) has passed inspection: it goes to the log as it was. A row that the store
 * refused (`store-refused`) is not a payload: `millrace recompute` writes rows again.
 */
import { done, fail, messageOf, type Outcome, succeed } from '../errors.ts';
import type { LogReader, NewRecord } from '../log.ts';
import { decodeReading, type Inspection, type Message, type Reading } from '../reading.ts';
import type { Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Requeued, RequeueWish } from '../view/feed.ts';
import { readingRecord } from './accept.ts';
import { type FoundLetter, markRecord, placeOf, readMarks, walkDeadLetters } from './dead-letters.ts';

export interface RequeueNeeds {
  /** Where the letters are. */
  readonly deadLetters: LogReader;
  readonly streams: Readonly<Record<string, Stream>>;
  inspect(message: Message): Inspection;
  /** As in accept.ts: durable, in the order of the calls, means what `ack` says. */
  readonly append: (record: NewRecord, onDurable: (outcome: Outcome) => void) => void;
  /** The stamp of what is appended. */
  received(): number;
  /** Called with the number of readings before they are appended. */
  onReceived(readings: number): void;
  /** Nobody else writes marks into this log meanwhile, so that they need not be looked for again. */
  readonly onlyWriter: boolean;
  readonly telemetry: Telemetry;
  onAccepted(reading: Reading, receivedMs: number): void;
}

const GROUP_LETTERS = 100;
const GROUP_BYTES = 4 * 2 ** 20;

export type Requeue = (wishes: readonly RequeueWish[]) => Promise<Outcome<Requeued[]>>;

/** Answers in the order of the wishes. A failure may come after some of them were done. */
export function createRequeue(needs: RequeueNeeds): Requeue {
  const marks = new Marks(needs);
  let last: Promise<unknown> = Promise.resolve();
  return (wishes) => {
    const run = last.then(() =>
      requeueAll(needs, marks, wishes).catch((thrown) =>
        fail('SPOOL_IO', `the dead letters cannot be read: ${messageOf(thrown)}`, { retryable: true, cause: thrown }),
      ),
    );
    last = run;
    return run;
  };
}

async function requeueAll(
  needs: RequeueNeeds,
  marks: Marks,
  wishes: readonly RequeueWish[],
): Promise<Outcome<Requeued[]>> {
  const results = new Map<string, Requeued>();
  const byPartition = new Map<number, Map<number, RequeueWish>>();
  for (const wish of wishes) {
    const place = placeOf(wish.id);
    if (!place || place.partition >= needs.deadLetters.partitions) continue;
    const offsets = byPartition.get(place.partition) ?? new Map();
    byPartition.set(place.partition, offsets.set(place.offset, wish));
  }
  for (const [partition, offsets] of byPartition) {
    const known = await needs.deadLetters.offsets(partition);
    if (!known.ok) return known;
    const from = Math.max(known.value.firstOffset, Math.min(...offsets.keys()));
    const to = Math.min(known.value.endOffset, Math.max(...offsets.keys()) + 1);
    if (from >= to) continue;
    if (partition === 0) {
      const looked = await marks.lookFrom(from);
      if (!looked.ok) return looked;
    }
    const group = new Group(needs, marks, results);
    for await (const letter of walkDeadLetters(needs.deadLetters, partition, from, to)) {
      const wish = offsets.get(letter.record.offset);
      if (!wish || (wish.receivedMs ?? letter.receivedMs) !== letter.receivedMs) continue;
      group.add(letter);
      const settled = group.isFull ? await group.settle() : done;
      if (!settled.ok) return settled;
    }
    const settled = await group.settle();
    if (!settled.ok) return settled;
  }
  return succeed(wishes.map(({ id }) => results.get(id) ?? { kind: 'missing' }));
}

/** Letters that share two group commits of the log: one for what became of them, one for their marks. */
class Group {
  readonly #needs: RequeueNeeds;
  readonly #marks: Marks;
  readonly #results: Map<string, Requeued>;
  #sent: { readonly id: string; readonly readings: readonly Reading[]; readonly appended: Promise<Outcome> }[] = [];
  #bytes = 0;

  constructor(needs: RequeueNeeds, marks: Marks, results: Map<string, Requeued>) {
    this.#needs = needs;
    this.#marks = marks;
    this.#results = results;
  }

  get isFull(): boolean {
    return this.#sent.length >= GROUP_LETTERS || this.#bytes >= GROUP_BYTES;
  }

  add(letter: FoundLetter): void {
    const { id, refusal } = letter;
    const requeuedMs = this.#marks.of(id);
    if (requeuedMs !== undefined) {
      this.#results.set(id, { kind: 'already', requeuedMs });
      return;
    }
    const receivedMs = this.#needs.received();
    const found = readingsOf(this.#needs, letter, receivedMs);
    if (typeof found === 'string') this.#results.set(id, { kind: 'refused', refusal: { ...refusal, reason: found } });
    else if ('refusal' in found) this.#results.set(id, { kind: 'refused', refusal: found.refusal });
    else {
      const { readings } = found;
      const records = readings.map((reading) => {
        // The letter's: what its payload brought, or what it was given when it came.
        const { trace } = letter.record;
        const traced = trace === undefined ? reading : { ...reading, trace };
        const again = readingRecord(traced, receivedMs, refusal.topic);
        // Byte for byte as it was.
        return refusal.code === 'log-refused' ? { ...again, value: refusal.payload } : again;
      });
      this.#needs.telemetry.received.labels('requeue').inc();
      this.#needs.onReceived(records.length);
      this.#bytes += refusal.payload.byteLength;
      this.#sent.push({ id, readings, appended: appendAll(this.#needs, records) });
    }
  }

  /** What is durable is marked, also when some of it is not. */
  async settle(): Promise<Outcome> {
    const { telemetry, onAccepted, received } = this.#needs;
    const sent = this.#sent;
    this.#sent = [];
    this.#bytes = 0;
    let first: Outcome = done;
    const durable: string[] = [];
    for (const { id, readings, appended } of sent) {
      const outcome = await appended;
      if (!outcome.ok) {
        telemetry.turnedAway.labels('failed').inc();
        if (first.ok) first = outcome;
        continue;
      }
      for (const reading of readings) {
        telemetry.accepted.labels(reading.stream).inc();
        onAccepted(reading, received());
      }
      durable.push(id);
      this.#results.set(id, { kind: 'accepted', readings: readings.length });
    }
    const markedMs = received();
    const marked = await appendAll(
      this.#needs,
      durable.map((id) => markRecord(id, markedMs)),
    );
    if (!marked.ok) return marked;
    for (const id of durable) this.#marks.add(id, markedMs);
    return first;
  }
}

/** Resolves when all are durable, or with the first failure; then some of them may be. */
function appendAll({ append }: RequeueNeeds, records: readonly NewRecord[]): Promise<Outcome> {
  return new Promise((resolve) => {
    let first: Outcome = done;
    if (records.length === 0) resolve(done);
    records.forEach((record, index) => {
      append(record, (outcome) => {
        if (first.ok) first = outcome;
        if (index === records.length - 1) resolve(first);
      });
    });
  });
}

/** What the letter becomes; a text says why it cannot become anything. */
export function readingsOf(
  { inspect, streams }: Pick<RequeueNeeds, 'inspect' | 'streams'>,
  { id, refusal, receivedMs: letterMs, record }: FoundLetter,
  receivedMs: number,
): { readings: readonly Reading[] } | Extract<Inspection, { kind: 'refused' }> | string {
  if (refusal.code === 'store-refused') return 'this is a row, not a payload: `millrace recompute` writes rows again';
  if (refusal.code === 'log-refused') {
    const reading = decodeReading(Buffer.from(refusal.payload).toString());
    if (!reading || !streams[reading.stream])
      return 'only the length and hash of it could be kept, or its stream is gone';
    return { readings: [{ ...reading, key: record.key }] };
  }
  const { topic, payload, client } = refusal;
  const inspection = inspect({ topic, payload, client, receivedMs, replayed: true });
  if (inspection.kind === 'refused') return inspection;
  const { readings } = inspection;
  return { readings: readings.map((reading, index) => sameEveryTime(reading, index)) };

  function sameEveryTime(reading: Reading, index: number): Reading {
    if (streams[reading.stream]?.time !== null) return reading;
    const identity = reading.identity ?? `requeued ${id}${readings.length > 1 ? `/${index}` : ''}`;
    return { ...reading, timeMs: letterMs, identity };
  }
}

/** The marks in the log, of letters from some offset on: looked for once, and added to. */
class Marks {
  readonly #needs: RequeueNeeds;
  readonly #marks = new Map<string, number>();
  #from = Number.POSITIVE_INFINITY;
  #to = 0;

  constructor(needs: RequeueNeeds) {
    this.#needs = needs;
  }

  of(letterId: string): number | undefined {
    return this.#marks.get(letterId);
  }

  add(letterId: string, requeuedMs: number): void {
    this.#marks.set(letterId, requeuedMs);
  }

  /** After it, every mark of a letter at this offset or behind is known. A mark stands behind its letter. */
  async lookFrom(offset: number): Promise<Outcome> {
    const { deadLetters, onlyWriter } = this.#needs;
    const known = await deadLetters.offsets(0);
    if (!known.ok) return known;
    const { endOffset } = known.value;
    if (this.#from === Number.POSITIVE_INFINITY) await this.#look(offset, endOffset);
    else {
      if (!onlyWriter) await this.#look(this.#to, endOffset);
      if (offset < this.#from) await this.#look(offset, this.#from);
    }
    this.#from = Math.min(this.#from, offset);
    this.#to = endOffset;
    return succeed(undefined);
  }

  async #look(from: number, to: number): Promise<void> {
    for await (const batch of this.#needs.deadLetters.range(0, from, to)) readMarks(batch, this.#marks);
  }
}

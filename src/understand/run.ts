/**
 * Reads the log like any reader and writes what it understood of messages back into it, in the same partition: there the
 * rollup counts it like every other reading, and alerts see it. Never in the way of the device that waits for its acknowledgement.
 *
 * Progress: a reading made here names the offset of its message. So at a start the partition is read from as far back as a
 * conversation is remembered (from the clock in the commit): what was made there brings back the conversations, and which
 * messages were understood already. The commit only says from where on to read; a process that dies between writing and committing makes
 * nothing twice. Two that both think that a partition is theirs may: the rollup counts such a reading once, by its identity.
 *
 * Received stamps of what is made are those of the writing: one that is made `grace` after its window, because this thread was
 * away or slow, is late and repaired like any other.
 */
import { type Failure, messageOf, type Outcome } from '../errors.ts';
import type { ConsumerHandlers, LogBatch, LogConsumer, LogReader } from '../log.ts';
import type { Reading } from '../reading.ts';
import { backoff, pause } from '../retry.ts';
import type { Stream, UnderstandPlan } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import { Conversations } from './conversations.ts';
import type { Intents } from './intents.ts';
import { type Language, MAX_TEXT } from './language.ts';
import { Agents, readMessage, recall, understand } from './message.ts';

/** Readings of one append. */
const APPEND_AT_MOST = 200;
const COMMIT_EVERY_MS = 1_000;
/** Clocks of gateways that write one partition may differ by this much. */
const CLOCK_MARGIN_MS = 60_000;

export interface UnderstandOptions {
  readonly reader: LogReader;
  readonly group: string;
  readonly streams: Readonly<Record<string, Stream>>;
  readonly intents: ReadonlyMap<string, Intents>;
  readonly language: Language;
  /** Resolves with ok when they are durable in that partition. */
  append(partition: number, readings: readonly Reading[]): Promise<Outcome>;
  readonly telemetry: Telemetry;
  onEnded(reason: unknown): void;
}

export interface UnderstandStatus {
  /** All below was understood; of a log with one partition. Null before anything was read. */
  readonly position: number | null;
  readonly backlog: number;
  readonly failure: Failure | null;
}

export interface Understanding {
  status(): UnderstandStatus;
  stop(): Promise<void>;
}

/** What is remembered of one stream in one partition. */
interface Memory {
  readonly plan: UnderstandPlan;
  readonly conversations: Conversations;
  readonly agents: Agents;
}

/** One partition that is ours. */
interface Place {
  /** By the name of the stream of messages. */
  readonly memories: ReadonlyMap<string, Memory>;
  /** Made when the first batch comes. */
  restored: Promise<void> | null;
  /** Messages up to here were understood before this start. */
  doneTo: number;
  clockMs: number;
  readonly firstClockMs: number | null;
  readonly firstOffset: number;
  nextOffset: number;
  endOffset: number;
  committed: number;
  committedAtMs: number;
}

export async function startUnderstanding(options: UnderstandOptions): Promise<Understanding> {
  const running = new Running(options);
  await running.join();
  return running;
}

class Running implements Understanding {
  readonly #options: UnderstandOptions;
  readonly #stopped = new AbortController();
  #consumer: LogConsumer | null = null;
  #places = new Map<number, Place>();
  #failure: Failure | null = null;

  constructor(options: UnderstandOptions) {
    this.#options = options;
  }

  async join(): Promise<void> {
    const handlers: ConsumerHandlers = {
      assigned: async (assignments) => {
        this.#places = new Map();
        return new Map(
          assignments.map(({ partition, checkpoint, firstOffset, endOffset }) => {
            const nextOffset = Math.max(checkpoint?.offset ?? firstOffset, firstOffset);
            const clockMs = Number(checkpoint?.metadata || Number.NaN);
            this.#places.set(partition, {
              memories: this.#memories(),
              restored: null,
              doneTo: -1,
              clockMs: Number.isFinite(clockMs) ? clockMs : Number.NEGATIVE_INFINITY,
              firstClockMs: Number.isFinite(clockMs) ? clockMs : null,
              firstOffset,
              nextOffset,
              endOffset,
              committed: nextOffset,
              committedAtMs: performance.now(),
            });
            return [partition, nextOffset];
          }),
        );
      },
      batch: (batch, signal) => this.#batch(batch, AbortSignal.any([signal, this.#stopped.signal])),
      stopping: async () => {
        for (const [partition, place] of this.#places) await this.#commit(partition, place);
      },
      ended: (reason) => this.#options.onEnded(reason),
    };
    this.#consumer = await this.#options.reader.consume(this.#options.group, handlers);
  }

  status(): UnderstandStatus {
    const places = [...this.#places.values()];
    const [only] = places;
    return {
      position: places.length === 1 && only ? only.nextOffset : null,
      backlog: places.reduce((sum, { endOffset, nextOffset }) => sum + Math.max(0, endOffset - nextOffset), 0),
      failure: this.#failure,
    };
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#consumer?.stop();
  }

  #memories(): ReadonlyMap<string, Memory> {
    const memories = new Map<string, Memory>();
    for (const { name, understand: plan } of Object.values(this.#options.streams)) {
      if (!plan) continue;
      const { conversations, agents, forgetMs } = plan;
      memories.set(name, {
        plan,
        conversations: new Conversations(conversations, forgetMs),
        agents: new Agents(agents),
      });
    }
    return memories;
  }

  async #batch(batch: LogBatch, signal: AbortSignal): Promise<void> {
    const place = this.#places.get(batch.partition);
    if (!place) return;
    place.restored ??= this.#restore(batch.partition, place, signal);
    await place.restored;
    const { telemetry } = this.#options;
    let made: Reading[] = [];
    const send = async () => {
      const readings = made;
      made = [];
      return readings.length === 0 || this.#append(batch.partition, readings, signal);
    };
    for (const record of batch.records) {
      place.clockMs = Math.max(place.clockMs, record.receivedMs);
      const memory = record.kind === 'reading' ? place.memories.get(record.stream) : undefined;
      if (!memory || record.offset <= place.doneTo) continue;
      const message = readMessage(record, memory.plan, place.clockMs);
      if (message === null) {
        telemetry.notUnderstood.inc({ stream: record.stream, reason: 'no-text' });
        continue;
      }
      if (message.text.length > MAX_TEXT) telemetry.limitReached.inc({ limit: 'message_text' });
      const { evicted } = memory.conversations;
      const { overflowed } = memory.agents;
      const { language } = this.#options;
      const intents = this.#options.intents.get(record.stream)!;
      const reading = understand(message, { ...memory, language, intents });
      if (memory.conversations.evicted > evicted) telemetry.limitReached.inc({ limit: 'conversations' });
      if (memory.agents.overflowed > overflowed) telemetry.limitReached.inc({ limit: 'agents' });
      if (reading === null) telemetry.notUnderstood.inc({ stream: record.stream, reason: 'nothing-new' });
      else made.push(reading);
      if (made.length >= APPEND_AT_MOST && !(await send())) return this.#void(batch.partition);
    }
    if (!(await send())) return this.#void(batch.partition);
    place.nextOffset = batch.nextOffset;
    place.endOffset = batch.endOffset;
    if (performance.now() - place.committedAtMs >= COMMIT_EVERY_MS) await this.#commit(batch.partition, place);
  }

  /** Given up in the middle of a batch: what is in memory is ahead of the log, and must not be committed. */
  #void(partition: number): void {
    this.#places.delete(partition);
  }

  /** Tries until it works; false when given up, because the partition is no longer ours or this is being stopped. */
  async #append(partition: number, readings: readonly Reading[], signal: AbortSignal): Promise<boolean> {
    const { append, telemetry } = this.#options;
    const pauses = backoff({ firstMs: 100, maxMs: 10_000 });
    for (let failures = 1; ; failures++) {
      const outcome = await append(partition, readings);
      this.#failure = outcome.ok ? null : outcome.failure;
      if (outcome.ok) {
        for (const { stream } of readings) telemetry.understood.inc({ stream });
        return true;
      }
      const { code, message } = outcome.failure;
      telemetry.limited('warn', 'understand-append', { code }, `what was understood waits for the log: ${message}`);
      if (!(await pause(pauses.delayMs(failures), signal))) return false;
    }
  }

  async #commit(partition: number, place: Place): Promise<void> {
    place.committedAtMs = performance.now();
    const { nextOffset, clockMs } = place;
    if (nextOffset === place.committed || !Number.isFinite(clockMs)) return;
    const outcome = await this.#consumer?.commit(partition, { offset: nextOffset, metadata: String(clockMs) });
    if (outcome?.ok) place.committed = nextOffset;
  }

  /** From what was made before: the conversations, and which messages were understood. Tries until it works. */
  async #restore(partition: number, place: Place, signal: AbortSignal): Promise<void> {
    const { reader, telemetry } = this.#options;
    const byDerived = new Map([...place.memories.values()].map((memory) => [memory.plan.into, memory]));
    const rememberMs = Math.max(...[...byDerived.values()].map(({ plan }) => plan.forgetMs));
    const pauses = backoff({ firstMs: 250, maxMs: 10_000 });
    for (let failures = 1; ; failures++) {
      try {
        const since =
          place.firstClockMs === null
            ? place.firstOffset
            : orThrow(await reader.offsetAtTime(partition, place.firstClockMs - rememberMs - CLOCK_MARGIN_MS));
        const { firstOffset, endOffset } = orThrow(await reader.offsets(partition));
        for await (const { records } of reader.range(partition, Math.max(since, firstOffset), endOffset)) {
          for (const record of records) {
            const memory = record.kind === 'reading' ? byDerived.get(record.stream) : undefined;
            const offset = memory && recall(record, memory.conversations, memory.agents);
            if (typeof offset === 'number') place.doneTo = Math.max(place.doneTo, offset);
          }
        }
        return;
      } catch (thrown) {
        const fields = { reason: messageOf(thrown) };
        telemetry.limited('warn', 'understand-restore', fields, 'understanding waits: the log cannot be read');
        if (!(await pause(pauses.delayMs(failures), signal))) throw thrown;
      }
    }
  }
}

function orThrow<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) throw new Error(outcome.failure.message);
  return outcome.value;
}

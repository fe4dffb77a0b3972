/**
 * A world for `forward` in which nothing happens by chance: time that is moved by hand, a log in memory (which passes
 * the contract suite of every log), and a Kafka that fails as it is told and watches what it is sent.
 */
import type { Clock, Schedule } from '../../src/clock.ts';
import { done, fail, type Outcome, succeed } from '../../src/errors.ts';
import type { Part, Sender } from '../../src/journal/kafka-sender.ts';
import type {
  Checkpoint,
  ConsumerHandlers,
  LogBatch,
  LogReader,
  LogRecord,
  LogWriter,
  StoredRecord,
} from '../../src/log.ts';

/** A clock and its timers. Real time plays no part. */
export class SimulatedTime implements Clock {
  #now = 1_700_000_000_000;
  #timers: { at: number; task: () => void }[] = [];

  nowMs(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#now;
  }

  readonly schedule: Schedule = (ms, task) => {
    const timer = { at: this.#now + ms, task };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  };

  /** Lets everything happen that happens within that time. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const next = this.#timers.reduce<{ at: number; task: () => void } | null>(
        (first, timer) => (timer.at <= end && (first === null || timer.at < first.at) ? timer : first),
        null,
      );
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = Math.max(this.#now, next.at);
      next.task();
      await settle();
    }
    this.#now = end;
  }

  /** Until the condition holds; throws when it does not within that (simulated) time. */
  async passUntil(condition: () => boolean, limitMs: number, stepMs = 50): Promise<void> {
    for (let passed = 0; !condition(); passed += stepMs) {
      if (passed >= limitMs) throw new Error(`not within ${limitMs} simulated ms`);
      await this.pass(stepMs);
    }
  }
}

/** Everything that needs no time has happened. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** For a `FakeKafka` among real parts. */
export const realTime: { readonly schedule: Schedule } = {
  schedule: (ms, task) => {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};

/** A log with one partition, in memory. */
export class MemoryLog {
  readonly records: StoredRecord[] = [];
  readonly checkpoints = new Map<string, Checkpoint>();
  /** Of what `range` was asked for. */
  readonly ranges: [from: number, to: number][] = [];
  readonly batchRecords: number;
  onCommit: (offset: number) => void = () => {};
  firstOffset = 0;
  #wake: (() => void)[] = [];

  constructor(batchRecords = 50) {
    this.batchRecords = batchRecords;
  }

  append(records: readonly LogRecord[]): void {
    for (const record of records) this.records.push({ ...record, offset: this.records.length });
    for (const wake of this.#wake.splice(0)) wake();
  }

  readonly writer: LogWriter = {
    partitions: 1,
    append: async (records) => {
      this.append(records);
      return done;
    },
    close: async () => {},
  };

  readonly reader: LogReader = {
    partitions: 1,
    consume: async (group, handlers) => this.#consume(group, handlers),
    offsets: async () => succeed({ firstOffset: this.firstOffset, endOffset: this.records.length }),
    offsetAtTime: async (_, receivedMs) => {
      const found = this.records.find((record) => record.receivedMs >= receivedMs);
      return succeed(found?.offset ?? this.records.length);
    },
    range: (_, from, to) => this.#range(from, to),
    checkpoint: async (group) => succeed(this.checkpoints.get(group) ?? null),
    close: async () => {},
  };

  #batch(from: number, to: number): LogBatch {
    const nextOffset = Math.min(from + this.batchRecords, to);
    return { partition: 0, records: this.records.slice(from, nextOffset), nextOffset, endOffset: this.records.length };
  }

  async *#range(from: number, to: number): AsyncGenerator<LogBatch> {
    this.ranges.push([from, to]);
    const end = Math.min(to, this.records.length);
    for (let next = Math.max(from, this.firstOffset); next < end; ) {
      await null;
      const batch = this.#batch(next, end);
      yield batch;
      next = batch.nextOffset;
    }
  }

  #consume(group: string, handlers: ConsumerHandlers) {
    let stopped = false;
    const signal = new AbortController().signal;
    const run = async (): Promise<void> => {
      await null;
      const assignment = {
        partition: 0,
        checkpoint: this.checkpoints.get(group) ?? null,
        firstOffset: this.firstOffset,
        endOffset: this.records.length,
      };
      let next = (await handlers.assigned([assignment])).get(0)!;
      while (!stopped) {
        if (next >= this.records.length) {
          await new Promise<void>((resolve) => this.#wake.push(resolve));
          continue;
        }
        const batch = this.#batch(next, this.records.length);
        await handlers.batch(batch, signal);
        next = batch.nextOffset;
      }
    };
    const running = run().catch((error) => {
      stopped = true;
      handlers.ended(error);
    });
    return {
      trouble: () => null,
      commit: async (_: number, checkpoint: Checkpoint): Promise<Outcome> => {
        this.onCommit(checkpoint.offset);
        this.checkpoints.set(group, checkpoint);
        return done;
      },
      stop: async () => {
        if (stopped) return;
        stopped = true;
        for (const wake of this.#wake.splice(0)) wake();
        await running;
        await handlers.stopping();
      },
    };
  }
}

/** What becomes of one request. `store` names the parts that are stored nevertheless when it fails. */
export interface Fate {
  readonly outcome: Outcome;
  readonly store?: (part: Part) => boolean;
  readonly afterMs?: number;
}

export const unreachable = fail('KAFKA_UNREACHABLE', 'nobody listens there', { retryable: true });
export const tooLarge = fail('KAFKA_RECORD_REFUSED', 'the record is larger than the topic accepts');

/** Stores what it is sent and notes every breach of what a sender may expect. */
export class FakeKafka implements Sender {
  /** `topic/partition` -> what is stored there, in order. */
  readonly logs: Map<string, LogRecord[]>;
  readonly requests: (readonly Part[])[] = [];
  readonly breaches: string[] = [];
  fate: (parts: readonly Part[], number: number) => Fate = () => ({ outcome: done });
  latencyMs = 5;
  mostAtOnce = 0;
  #underWay = new Set<string>();
  #requestsUnderWay = 0;
  readonly #time: { readonly schedule: Schedule };

  /** `logs`: what is stored already, and where the rest goes; for the lives of a process one after the other. */
  constructor(time: { readonly schedule: Schedule }, logs = new Map<string, LogRecord[]>()) {
    this.#time = time;
    this.logs = logs;
  }

  log(name: string): LogRecord[] {
    const log = this.logs.get(name) ?? [];
    this.logs.set(name, log);
    return log;
  }

  async send(parts: readonly Part[]): Promise<Outcome> {
    const names = parts.map(nameOf);
    for (const name of names) {
      if (this.#underWay.has(name)) this.breaches.push(`two requests under way for ${name}`);
      this.#underWay.add(name);
    }
    this.#requestsUnderWay++;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#requestsUnderWay);
    const fate = this.fate(parts, this.requests.push(parts) - 1);
    await new Promise<void>((resolve) => this.#time.schedule(fate.afterMs ?? this.latencyMs, resolve));
    for (const part of parts) {
      if (fate.outcome.ok || fate.store?.(part)) this.log(nameOf(part)).push(...part.records);
    }
    for (const name of names) this.#underWay.delete(name);
    this.#requestsUnderWay--;
    return fate.outcome;
  }

  async close(): Promise<void> {}
}

export function nameOf(part: Part): string {
  return `${part.topic.name}/${part.partition}`;
}

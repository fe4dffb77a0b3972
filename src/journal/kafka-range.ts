/**
 * Reading a piece of one partition, outside of any consumer group that matters: for `verify`, `recompute`, repairs and
 * the commands that list things. kafkajs can only fetch as a member of a group, so a session joins a group of its own
 * with a name nobody else has, commits nothing, and is kept for the next range for a while, since joining may take the
 * broker seconds (`group.initial.rebalance.delay.ms`). Ranges read at the same time have sessions of their own. A
 * session's group is deleted with it.
 */
import { randomUUID } from 'node:crypto';
import type { KafkaConfig } from '../config.ts';
import type { LogBatch } from '../log.ts';
import { backoff, pause } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import { classify, isBug, needsPerson } from './kafka-errors.ts';
import type { KafkaOffsets } from './kafka-offsets.ts';
import { type Generation, openSession, type Session } from './kafka-session.ts';
import type { KafkaTopic } from './kafka-topics.ts';

const SETTINGS = { maxWaitMs: 50, partitionBytes: 2 * 1024 * 1024 };
const IDLE_MS = 15_000;

export interface Ranges {
  read(partition: number, fromOffset: number, toOffset: number): AsyncIterable<LogBatch>;
  close(): Promise<void>;
}

/** What a session hands to the loop that reads: one batch, of which the next comes after `release`. */
type Event = { batch: LogBatch; release: () => void } | { joined: Generation } | { jumped: true } | { ended: unknown };

interface Reader {
  readonly session: Session;
  readonly group: string;
  generation: Generation | null;
  /** Takes the next event; batches of a partition nobody reads do not arise, as all are paused. */
  onEvent: (event: Event) => void;
}

export function kafkaRanges(
  config: KafkaConfig,
  topic: KafkaTopic,
  offsets: KafkaOffsets,
  telemetry: Telemetry,
): Ranges {
  const closing = new AbortController();
  const idle = new Map<Reader, NodeJS.Timeout>();
  const busy = new Set<Reader>();
  const pauses = backoff({ firstMs: 250, maxMs: 5_000 });

  const open = async (): Promise<Reader> => {
    const emit = (event: Event) => reader?.onEvent(event);
    let reader: Reader | null = null;
    let generation: Generation | null = null;
    const handlers = {
      joined: (to: Generation) => {
        generation = to;
        if (reader) reader.generation = to;
        emit({ joined: to });
      },
      batch: (batch: LogBatch) => new Promise<void>((release) => emit({ batch, release })),
      jumped: () => emit({ jumped: true }),
      unreadable: (_partition: number, _offset: number, _to: Generation, reason: unknown) => emit({ ended: reason }),
      broken: (reason: unknown) => emit({ ended: reason }),
    };
    const group = `${config.group}.range-${randomUUID()}`;
    const session = await openSession(config, topic, group, handlers, SETTINGS, telemetry);
    reader = { session, group, generation, onEvent: () => {} };
    void session.ended.then((reason) => {
      const timer = idle.get(reader!);
      clearTimeout(timer);
      idle.delete(reader!);
      emit({ ended: reason ?? new Error('closed') });
    });
    return reader;
  };

  const discard = async (reader: Reader): Promise<void> => {
    await reader.session.close();
    await offsets.forget(reader.group);
  };

  const take = async (): Promise<Reader> => {
    const [known] = idle.keys();
    const reader = known ?? (await open());
    clearTimeout(idle.get(reader));
    idle.delete(reader);
    busy.add(reader);
    return reader;
  };

  const giveBack = (reader: Reader, fit: boolean) => {
    busy.delete(reader);
    reader.onEvent = () => {};
    if (!fit || closing.signal.aborted) return void discard(reader);
    const timer = setTimeout(() => {
      idle.delete(reader);
      void discard(reader);
    }, IDLE_MS);
    timer.unref();
    idle.set(reader, timer);
  };

  /** Reads on one session until the range ends, or the session does. Answers where to go on, or null at the end. */
  async function* readOn(
    reader: Reader,
    partition: number,
    from: number,
    to: number,
  ): AsyncGenerator<LogBatch, { next: number; reason: unknown } | null> {
    const events: Event[] = [];
    let wake = () => {};
    reader.onEvent = (event) => {
      events.push(event);
      wake();
    };
    let next = from;
    let generation = reader.generation;
    let release = () => {};
    if (generation) reader.session.start(generation, partition, next);
    try {
      for (;;) {
        while (events.length === 0) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        const event = events.shift()!;
        if ('ended' in event) return { next, reason: event.ended };
        if ('jumped' in event)
          throw new Error(`LOG_TRUNCATED: ${topic.name}/${partition} no longer has offset ${next}`);
        if ('joined' in event) {
          generation = event.joined;
          reader.session.start(generation, partition, next);
          continue;
        }
        release = event.release;
        const { batch } = event;
        const records = batch.records.filter(({ offset }) => offset >= next && offset < to);
        next = Math.min(batch.nextOffset, to);
        yield { partition, records, nextOffset: next, endOffset: batch.endOffset };
        if (next >= to) return null;
        release();
      }
    } finally {
      if (generation) reader.session.pause(generation, partition);
      release();
    }
  }

  async function* read(partition: number, fromOffset: number, toOffset: number): AsyncGenerator<LogBatch> {
    const bounds = await marksOf(partition);
    let next = Math.max(fromOffset, bounds.firstOffset);
    const to = Math.min(toOffset, bounds.endOffset);
    for (let failures = 1; next < to; failures++) {
      if (closing.signal.aborted) throw new Error('the log is closed');
      let reader: Reader | null = null;
      let fit = false;
      let reason: unknown;
      try {
        reader = await take();
        const rest = yield* readOn(reader, partition, next, to);
        fit = rest === null;
        if (rest === null) return;
        if (rest.next > next) failures = 1;
        next = rest.next;
        reason = rest.reason;
      } catch (thrown) {
        // Without a session: Kafka is away. With one: ours.
        if (reader || isBug(thrown)) throw thrown;
        reason = thrown;
      } finally {
        // Also when the caller stops in the middle.
        if (reader) giveBack(reader, fit || !reasonGiven(reason));
      }
      await wait(reason, failures);
    }
  }

  const wait = async (reason: unknown, failures: number): Promise<void> => {
    const failure = classify(reason, `reading a range of ${topic.name}`);
    telemetry.limited(
      needsPerson(failure) ? 'error' : 'warn',
      `kafka-range ${topic.name}`,
      { code: failure.code },
      failure.message,
      60_000,
    );
    await pause(failure.retryAfterMs ?? pauses.delayMs(failures), closing.signal);
  };

  const marksOf = async (partition: number) => {
    for (let failures = 1; ; failures++) {
      if (closing.signal.aborted) throw new Error('the log is closed');
      const marks = await offsets.marks();
      const found = marks.ok ? marks.value.get(partition) : undefined;
      if (found) return found;
      await wait(marks.ok ? new Error(`no partition ${partition}`) : marks.failure.cause, failures);
    }
  };

  return {
    read,
    close: async () => {
      closing.abort();
      const readers = [...busy, ...idle.keys()];
      for (const timer of idle.values()) clearTimeout(timer);
      idle.clear();
      await Promise.all(readers.map(discard));
    },
  };
}

const reasonGiven = (reason: unknown) => reason !== undefined;

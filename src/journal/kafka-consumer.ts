/**
 * `LogConsumer` on Kafka: sessions one after the other (see kafka-session.ts), and for every assignment the sequence
 *   paused -> handlers of the last assignment done -> offsets, metadata and low marks read -> handlers.assigned -> run
 * A crash of kafkajs, a broker that is away, even at the start, is followed by the next session after a pause, for
 * ever, and said once. Only a throw of the handlers or a bug ends the consumer (`handlers.ended`).
 *
 * A commit that kafkajs overwrote after an offset out of range is put back before the assignment is made again, so that
 * what the handlers see is their own last checkpoint, with `firstOffset` telling them what the log has lost.
 */
import type { KafkaConfig } from '../config.ts';
import { type Failure, fail, type Outcome } from '../errors.ts';
import type { Assignment, Checkpoint, ConsumerHandlers, LogBatch, LogConsumer } from '../log.ts';
import { backoff, pause } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import { classify, isBug, needsPerson } from './kafka-errors.ts';
import type { KafkaOffsets, Marks } from './kafka-offsets.ts';
import { type Generation, openSession, type Session } from './kafka-session.ts';
import type { KafkaTopic } from './kafka-topics.ts';

/** How long `stop` waits for batches under way before it aborts their signal, and again after that. */
const STOP_GRACE_MS = 5_000;

export function kafkaConsumer(
  config: KafkaConfig,
  topic: KafkaTopic,
  group: string,
  handlers: ConsumerHandlers,
  offsets: KafkaOffsets,
  telemetry: Telemetry,
): LogConsumer {
  const settings = { maxWaitMs: config.fetchWaitMs, partitionBytes: config.fetchBytes };
  const stop = new AbortController();
  const under = new Set<Promise<void>>();
  /** Our last commit of each partition of the present generation. */
  const lastCommits = new Map<number, Checkpoint>();
  const pauses = backoff({ firstMs: 250, maxMs: 5_000 });
  let session: Session | null = null;
  let generation: Generation | null = null;
  let stopping = false;
  let dead = false;
  let away: Failure | null = null;
  /** Partitions of the present generation that wait before a batch that cannot be read. */
  const unreadable = new Map<number, Failure>();
  let assigning: Promise<void> = Promise.resolve();

  const say = (failure: Failure) => {
    const level = needsPerson(failure) ? 'error' : 'warn';
    telemetry.limited(level, `kafka-consumer ${group}`, { code: failure.code, group }, failure.message, 60_000);
  };

  /** Nothing is read until the next assignment. */
  const stayAway = (failure: Failure) => {
    away = failure;
    say(failure);
  };

  const die = (reason: unknown) => {
    if (dead) return;
    dead = true;
    stop.abort();
    void session?.close();
    handlers.ended(reason);
  };

  const assign = async (to: Generation): Promise<void> => {
    await Promise.allSettled(under);
    const assignments = await describe(to);
    if (!assignments) return;
    const starts = await handlers.assigned(assignments);
    if (to.signal.aborted || stopping) return;
    if (away) telemetry.log.info({ group, partitions: to.partitions }, 'reading from Kafka again');
    away = null;
    for (const { partition, checkpoint, firstOffset, endOffset } of assignments) {
      if (checkpoint) lastCommits.set(partition, checkpoint);
      const wanted = starts.get(partition);
      if (wanted === undefined) continue;
      const start = Math.min(Math.max(wanted, firstOffset), endOffset);
      if (start !== wanted) {
        const fields = { group, partition, wanted, firstOffset, endOffset };
        telemetry.log.error(
          fields,
          `${topic.name}/${partition} no longer has offset ${wanted}: going on from ${start}`,
        );
      }
      session?.start(to, partition, start);
    }
  };

  /** Null: the generation ended meanwhile. */
  const describe = async (to: Generation): Promise<Assignment[] | null> => {
    for (let failures = 1; ; failures++) {
      if (to.signal.aborted || stopping) return null;
      const marks = await offsets.marks();
      const committed = marks.ok ? await offsets.committed(group) : marks;
      if (marks.ok && committed.ok) {
        return to.partitions.map((partition) => ({
          partition,
          checkpoint: committed.value.get(partition) ?? null,
          ...(marks.value.get(partition) ?? NO_MARKS),
        }));
      }
      if (!committed.ok) stayAway(committed.failure);
      await pause(pauses.delayMs(failures), to.signal);
    }
  };

  /** One assignment at a time, the newest last; a failed one is a bug of the handlers. */
  const reassign = (to: Generation, before?: () => Promise<unknown>) => {
    assigning = assigning.then(async () => {
      try {
        await before?.();
        if (!to.signal.aborted) await assign(to);
      } catch (error) {
        die(error);
      }
    });
  };

  const repair = async (to: Generation): Promise<void> => {
    for (const [partition, checkpoint] of lastCommits) await session?.commit(to, partition, checkpoint);
  };

  const sessionHandlers = {
    joined: (to: Generation) => {
      generation = to;
      lastCommits.clear();
      unreadable.clear();
      reassign(to);
    },
    batch: (batch: LogBatch, to: Generation): Promise<void> => {
      if (stopping || dead) return Promise.resolve();
      unreadable.delete(batch.partition);
      const handled = handlers.batch(batch, to.signal);
      under.add(handled);
      return handled.finally(() => under.delete(handled));
    },
    jumped: (partition: number, to: Generation) => {
      telemetry.log.error({ group, partition }, `the position in ${topic.name}/${partition} was lost: assigning again`);
      for (const one of to.partitions) session?.pause(to, one);
      reassign(to, () => repair(to));
    },
    unreadable: (partition: number, offset: number, to: Generation, reason: unknown) => {
      const failure = classify(reason, `reading ${topic.name}/${partition}`);
      unreadable.set(partition, failure);
      say(failure);
      void pause(failure.retryAfterMs ?? pauses.delayMs(1), to.signal).then(() => {
        if (!stopping) session?.start(to, partition, offset);
      });
    },
    broken: die,
  };

  const run = async (): Promise<void> => {
    for (let failures = 0; !stop.signal.aborted; ) {
      let reason: unknown;
      const before = generation;
      try {
        session = await openSession(config, topic, group, sessionHandlers, settings, telemetry);
        if (stop.signal.aborted) await session.close();
        reason = await session.ended;
      } catch (thrown) {
        reason = thrown;
      }
      if (stop.signal.aborted) return;
      if (isBug(reason)) return die(reason);
      failures = generation === before ? failures + 1 : 1;
      const failure = classify(reason, `reading ${topic.name}`);
      stayAway(failure);
      await pause(failure.retryAfterMs ?? pauses.delayMs(failures), stop.signal);
    }
  };
  const running = run();

  return {
    trouble: () => away ?? unreadable.values().next().value ?? null,
    async commit(partition, checkpoint): Promise<Outcome> {
      const of = generation;
      if (!session || !of || dead || !of.partitions.includes(partition)) {
        return fail('KAFKA_GENERATION_LOST', `${topic.name}/${partition} is not assigned to us`);
      }
      const outcome = await session.commit(of, partition, checkpoint);
      if (outcome.ok && !of.signal.aborted) lastCommits.set(partition, checkpoint);
      return outcome;
    },
    async stop() {
      if (stopping) return void (await running);
      stopping = true;
      if (!dead) {
        if (generation) for (const partition of generation.partitions) session?.pause(generation, partition);
        await within(Promise.allSettled(under), STOP_GRACE_MS);
        await within(assigning, STOP_GRACE_MS);
        await within(Promise.resolve(handlers.stopping()), STOP_GRACE_MS);
      }
      stop.abort();
      await session?.close();
      await within(running, STOP_GRACE_MS);
    },
  };
}

const NO_MARKS: Marks = { firstOffset: 0, endOffset: 0 };

/** Waits, but no longer than that. Failures are the other side's to report. */
async function within(work: Promise<unknown>, limitMs: number): Promise<void> {
  const limit = new AbortController();
  await Promise.race([work.catch(() => {}), pause(limitMs, limit.signal)]);
  limit.abort();
}

/**
 * One life of one kafkajs consumer in a group, made safe. What kafkajs does by itself and we must not let happen:
 * - At every join it goes on from the committed offsets, at once. So at GROUP_JOIN, which it emits before it fetches
 *   anything for the new assignment, every partition is paused in the same turn of the event loop; `start` names the
 *   position and lets it run. A generation ends with the next join, a heartbeat that says so, a crash, or `close`.
 * - When a position is out of range it goes on from the log's beginning and destroys the commit. A batch that was not
 *   fetched from the expected position is therefore not handed on; `jumped` reports it, with the partition paused.
 * - It heartbeats only between batches. A timer does so while a handler is busy, and so notices a lost generation.
 * - An error of ours inside its callback would kill it, silently for a TypeError: none gets in, `broken` reports it.
 * - Batches of the last fetch still arrive after the generation is lost, and after `disconnect`: they are ignored.
 * What kafkajs fetches stays as it came (kafka-fetch.ts) until it is handed on, a few thousand records at a time.
 * kafkajs' own retries are few, so that nothing of a closed session goes on for long; the owner opens the next one.
 */
import { setMaxListeners } from 'node:events';
import type { Consumer, EachBatchPayload } from 'kafkajs';
import type { KafkaConfig } from '../config.ts';
import { done, fail, type Outcome } from '../errors.ts';
import type { Checkpoint, LogBatch, StoredRecord } from '../log.ts';
import { backoff, pause } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import { recordsOf } from './kafka-batch-read.ts';
import { disconnected, kafkaClient } from './kafka-client.ts';
import { classify } from './kafka-errors.ts';
import { type FetchedBatch, fetchWholeBatches } from './kafka-fetch.ts';
import type { KafkaTopic } from './kafka-topics.ts';
import { isFramed, unframed } from './kafka-wire.ts';

export interface Generation {
  readonly partitions: readonly number[];
  /** Aborts when the assignment is no longer ours. */
  readonly signal: AbortSignal;
  /** Where each partition that runs continues: an object of its own for each time that it was started. */
  readonly positions: Map<number, { offset: number }>;
}

export interface SessionHandlers {
  /** A new assignment, all of it paused. Called inside kafkajs' event: returns at once, never throws. */
  joined(generation: Generation): void;
  /** One at a time for each partition. The position moves when it resolves and the generation still stands. */
  batch(batch: LogBatch, generation: Generation): Promise<void>;
  /** The partition was not read from where it should have been, and is paused. */
  jumped(partition: number, generation: Generation): void;
  /** What stands at this offset cannot be read, whoever tries; the partition is paused, the others go on. */
  unreadable(partition: number, offset: number, generation: Generation, reason: unknown): void;
  /** `batch` has thrown. */
  broken(reason: unknown): void;
}

export interface SessionSettings {
  /** How long the broker waits for records before it answers with none; also how long a paused consumer sleeps. */
  readonly maxWaitMs: number;
  readonly partitionBytes: number;
}

export interface Session {
  /** Lets a paused partition run from that offset; nothing when the generation is over. */
  start(generation: Generation, partition: number, offset: number): void;
  pause(generation: Generation, partition: number): void;
  commit(generation: Generation, partition: number, checkpoint: Checkpoint): Promise<Outcome>;
  /** Resolves with the reason when kafkajs has given up, with null after `close`. */
  readonly ended: Promise<unknown>;
  /** Leaves the group. Bounded in time. */
  close(): Promise<void>;
}

/** About 8 s of trying with growing pauses: a broker that restarts is waited for without leaving the group. */
const RETRIES = 10;
/** A commit that kafkajs goes on repeating is not waited for any longer. */
const COMMIT_TIMEOUT_MS = 10_000;

/** Rejects when no broker can be reached. */
export async function openSession(
  config: KafkaConfig,
  topic: KafkaTopic,
  group: string,
  handlers: SessionHandlers,
  settings: SessionSettings,
  telemetry: Telemetry,
): Promise<Session> {
  // A consumer whose session the broker ended for want of a login does not come back by itself: the owner opens the next one.
  const loginFailed = (error: unknown) => setImmediate(() => void finish(error));
  const heartbeatMs = Math.max(100, Math.floor(config.sessionTimeoutMs / 4));
  const client = kafkaClient(config, RETRIES, telemetry, loginFailed);
  fetchWholeBatches(client);
  const consumer: Consumer = client.consumer({
    groupId: group,
    sessionTimeout: config.sessionTimeoutMs,
    rebalanceTimeout: config.sessionTimeoutMs,
    heartbeatInterval: heartbeatMs,
    maxWaitTimeInMs: settings.maxWaitMs,
    maxBytesPerPartition: settings.partitionBytes,
    allowAutoTopicCreation: false,
  });
  let closed = false;
  let generation: (Generation & { readonly end: AbortController }) | null = null;
  /** Of the newest batch: its `heartbeat` and `commitOffsetsIfNecessary` are the ones without kafkajs' retries. */
  let latest: EachBatchPayload | null = null;
  let busy = 0;
  const pauses = backoff({ firstMs: 250, maxMs: 5_000 });
  let resolveEnded: (reason: unknown) => void;
  const ended = new Promise<unknown>((resolve) => {
    resolveEnded = resolve;
  });

  const endGeneration = () => {
    generation?.end.abort();
    generation = null;
    latest = null;
  };

  const pulse = setInterval(() => {
    if (busy === 0 || !latest) return;
    latest.heartbeat().catch((error) => {
      if (classify(error, '').code === 'KAFKA_GENERATION_LOST') endGeneration();
    });
  }, heartbeatMs / 2);

  const finish = async (reason: unknown): Promise<void> => {
    if (closed) return;
    closed = true;
    endGeneration();
    clearInterval(pulse);
    await disconnected(consumer.disconnect);
    resolveEnded(reason);
  };

  const { GROUP_JOIN, REBALANCING, CRASH, END_BATCH_PROCESS } = consumer.events;
  consumer.on(GROUP_JOIN, ({ payload }) => {
    endGeneration();
    if (closed) {
      // The join was under way when we left, and kafkajs does not notice.
      setImmediate(() => void disconnected(consumer.disconnect));
      return;
    }
    const partitions = payload.memberAssignment[topic.name] ?? [];
    consumer.pause([{ topic: topic.name, partitions: [...partitions] }]);
    const end = new AbortController();
    // One for each partition.
    setMaxListeners(0, end.signal);
    generation = { partitions, signal: end.signal, positions: new Map(), end };
    handlers.joined(generation);
  });
  consumer.on(REBALANCING, endGeneration);
  consumer.on(CRASH, ({ payload }) => void finish(payload.error));
  consumer.on(END_BATCH_PROCESS, ({ payload }) => {
    // Only markers of transactions, or records compacted away: kafkajs passes them by without showing them.
    const position = generation?.positions.get(payload.partition);
    if (payload.batchSize > 0 || !generation || !position) return;
    const nextOffset = Number(payload.lastOffset) + 1;
    position.offset = nextOffset;
    const endOffset = Number(payload.highWatermark);
    deliver({ partition: payload.partition, records: [], nextOffset, endOffset }, generation);
  });

  const deliver = async (batch: LogBatch, to: Generation): Promise<void> => {
    busy++;
    try {
      await handlers.batch(batch, to);
    } catch (error) {
      handlers.broken(error);
    } finally {
      busy--;
    }
  };

  /** Until what the readings are framed with is known; null: they are not ours any more. */
  const insist = async (records: readonly StoredRecord[], signal: AbortSignal): Promise<StoredRecord[] | null> => {
    busy++;
    try {
      for (let failures = 1; !signal.aborted; failures++) {
        const read = await unframed(config, topic, records);
        if (read.ok) return read.value;
        const { code, message, retryAfterMs = 0 } = read.failure;
        const level = retryAfterMs > 0 ? 'error' : 'warn';
        telemetry.limited(level, `kafka-wire ${topic.name}`, { code }, `${message}; reading waits`, 60_000);
        await pause(Math.max(retryAfterMs, pauses.delayMs(failures)), signal);
      }
      return null;
    } finally {
      busy--;
    }
  };

  const eachBatch = async (payload: EachBatchPayload): Promise<void> => {
    const { batch } = payload;
    const current = generation;
    const position = current?.positions.get(batch.partition);
    if (closed || !current || !position || batch.isEmpty()) return;
    latest = payload;
    // Not in kafkajs' declarations, but on every batch of the pinned version.
    const fetchedFrom = Number((batch as unknown as { fetchedOffset: string }).fetchedOffset);
    if (fetchedFrom !== position.offset) {
      session.pause(current, batch.partition);
      handlers.jumped(batch.partition, current);
      return;
    }
    try {
      if (!(await handOn(batch, position, current))) return;
    } catch (unread) {
      // `deliver` does not throw.
      if (classify(unread, '').code !== 'KAFKA_BATCH_UNREADABLE') return void finish(unread);
      session.pause(current, batch.partition);
      handlers.unreadable(batch.partition, position.offset, current, unread);
      return;
    }
    const lastOffset = batch.lastOffset();
    payload.resolveOffset(lastOffset);
    position.offset = Number(lastOffset) + 1;
  };

  /** False: before it had all, the partition was paused or is not ours any more. */
  const handOn = async (
    batch: EachBatchPayload['batch'],
    position: { offset: number },
    to: Generation,
  ): Promise<boolean> => {
    const { partition } = batch;
    const endOffset = Number(batch.highWatermark);
    const fetched = (batch.messages as unknown as FetchedBatch[]).map((message) => message.batch);
    const range = { from: position.offset, to: Number(batch.lastOffset()) + 1 };
    for await (const { records: found, nextOffset } of recordsOf(fetched, range, topic.kind)) {
      const records = topic.kind === 'reading' && found.some(isFramed) ? await insist(found, to.signal) : found;
      if (records === null) return false;
      await deliver({ partition, records, nextOffset, endOffset }, to);
      if (to.signal.aborted || to.positions.get(partition) !== position) return false;
      position.offset = nextOffset;
    }
    return true;
  };

  const session: Session = {
    ended,
    start(of, partition, offset) {
      if (of.signal.aborted) return;
      of.positions.set(partition, { offset });
      consumer.seek({ topic: topic.name, partition, offset: String(offset) });
      consumer.resume([{ topic: topic.name, partitions: [partition] }]);
    },
    pause(of, partition) {
      if (of.signal.aborted) return;
      of.positions.delete(partition);
      consumer.pause([{ topic: topic.name, partitions: [partition] }]);
    },
    async commit(of, partition, { offset, metadata }) {
      const doing = `committing offset ${offset} of ${topic.name}/${partition}`;
      if (of.signal.aborted) return fail('KAFKA_GENERATION_LOST', `${doing}: the partition is no longer ours`);
      const partitions = [{ partition, offset: String(offset), metadata }];
      try {
        if (latest) await latest.commitOffsetsIfNecessary({ topics: [{ topic: topic.name, partitions }] });
        else await confirmed(consumer, topic.name, partitions[0]!);
        return done;
      } catch (thrown) {
        return { ok: false, failure: classify(thrown, doing) };
      }
    },
    close: () => finish(null),
  };

  try {
    await consumer.connect();
    await consumer.subscribe({ topics: [topic.name], fromBeginning: true });
  } catch (thrown) {
    await finish(thrown);
    throw thrown;
  }
  // Resolves when the group is joined; failures of it arrive as CRASH.
  consumer
    .run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: topic.partitions,
      eachBatch,
    })
    .catch(finish);
  return session;
}

/**
 * The consumer's own `commitOffsets`, for the time before the first batch. It resolves without having committed when
 * the consumer is not running, so the event that tells of the commit is what counts.
 */
async function confirmed(
  consumer: Consumer,
  topic: string,
  commit: { partition: number; offset: string; metadata: string },
): Promise<void> {
  let seen = false;
  const remove = consumer.on(consumer.events.COMMIT_OFFSETS, ({ payload }) => {
    seen ||= payload.topics.some(
      (one) =>
        one.topic === topic &&
        one.partitions.some(({ partition, offset }) => partition === commit.partition && `${offset}` === commit.offset),
    );
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('not confirmed in time')), COMMIT_TIMEOUT_MS);
    });
    await Promise.race([consumer.commitOffsets([{ topic, ...commit }]), timeout]);
    if (!seen) throw new Error('the consumer is not running');
  } finally {
    clearTimeout(timer);
    remove();
  }
}

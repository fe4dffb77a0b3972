/**
 * The topics of one installation, and making sure that they are as the configuration says.
 *
 * A reading's partition is murmur2 of its key over the *configured* count, so a topic with another count would spread
 * one key over two partitions as soon as it was changed: such a topic is refused at the start, with the way out. So is one
 * whose batches the broker compresses anew by a method that our reader does not know.
 * Kafka being away is no reason not to start: `untilTopicsReady` goes on trying and says so.
 */
import kafkajs, { type Admin, type ITopicConfig } from 'kafkajs';
import type { KafkaConfig } from '../config.ts';
import { done, type Failure, fail, type Outcome } from '../errors.ts';
import type { RecordKind } from '../log.ts';
import { type Backoff, backoff, pause } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import { disconnected, kafkaClient } from './kafka-client.ts';
import { classify, needsPerson } from './kafka-errors.ts';

/** The values of a topic's `compression.type` under which all batches in it can be read: as they were sent, or as we know. */
const READABLE = ['producer', 'gzip', 'uncompressed'];
const { TOPIC } = kafkajs.ConfigResourceTypes;
const TRIES = 30;
const TRY_PAUSE_MS = 100;

export type TopicRole = 'readings' | 'deadletters' | 'late' | 'panes' | 'alerts' | 'commands' | 'accounts';

export interface KafkaTopic {
  readonly name: string;
  readonly partitions: number;
  /** What a record of this topic is when it does not say otherwise in a header. */
  readonly kind: RecordKind;
}

export function kafkaTopics(config: KafkaConfig): Readonly<Record<TopicRole, KafkaTopic>> {
  const topic = (role: TopicRole, partitions: number, kind: RecordKind): KafkaTopic => ({
    name: `${config.prefix}.${role}`,
    partitions,
    kind,
  });
  return {
    readings: topic('readings', config.partitions, 'reading'),
    deadletters: topic('deadletters', 1, 'refusal'),
    late: topic('late', config.partitions, 'late'),
    panes: topic('panes', config.partitions, 'pane'),
    alerts: topic('alerts', 1, 'alert'),
    commands: topic('commands', 1, 'command'),
    accounts: topic('accounts', 1, 'account'),
  };
}

/** One try: every topic is there with the right number of partitions, or the first reason why not. */
export async function prepareTopics(config: KafkaConfig, telemetry: Telemetry): Promise<Outcome> {
  let admin: Admin | null = null;
  try {
    admin = kafkaClient(config, 1, telemetry).admin();
    await admin.connect();
    return await prepare(admin, config, telemetry);
  } catch (thrown) {
    return { ok: false, failure: classify(thrown, `preparing the topics ${config.prefix}.*`) };
  } finally {
    if (admin) await disconnected(admin.disconnect);
  }
}

/** Deletes the topics, with all that is in them. */
export async function deleteTopics(config: KafkaConfig, telemetry: Telemetry): Promise<Outcome> {
  let admin: Admin | null = null;
  try {
    admin = kafkaClient(config, 1, telemetry).admin();
    await admin.connect();
    const names = new Set(Object.values(kafkaTopics(config)).map(({ name }) => name));
    const topics = (await admin.listTopics()).filter((name) => names.has(name));
    if (topics.length > 0) await admin.deleteTopics({ topics });
    return done;
  } catch (thrown) {
    return { ok: false, failure: classify(thrown, `deleting the topics ${config.prefix}.*`) };
  } finally {
    if (admin) await disconnected(admin.disconnect);
  }
}

/**
 * Tries until the topics are ready, the failure is final (a mismatch), or the signal aborts (`STOPPED`). `onWaiting` is
 * told why they are not ready yet.
 */
export async function untilTopicsReady(
  config: KafkaConfig,
  telemetry: Telemetry,
  signal: AbortSignal,
  pauses: Backoff = backoff({ firstMs: 250, maxMs: 5_000 }),
  onWaiting: (failure: Failure) => void = () => {},
): Promise<Outcome> {
  for (let failures = 1; ; failures++) {
    const outcome = await prepareTopics(config, telemetry);
    if (outcome.ok || !outcome.failure.retryable) {
      if (outcome.ok && failures > 1) telemetry.log.info('Kafka is there, and its topics are ready');
      return outcome;
    }
    const { failure } = outcome;
    onWaiting(failure);
    const level = needsPerson(failure) ? 'error' : 'warn';
    telemetry.limited(level, 'kafka-topics', describe(failure), `${failure.message}; trying again`, 5 * 60_000);
    if (!(await pause(failure.retryAfterMs ?? pauses.delayMs(failures), signal))) {
      return fail('STOPPED', 'stopped while waiting for Kafka');
    }
  }
}

function describe(failure: Failure): object {
  return { code: failure.code };
}

async function prepare(admin: Admin, config: KafkaConfig, telemetry: Telemetry): Promise<Outcome> {
  const { commands, ...always } = kafkaTopics(config);
  const wanted = [...Object.values(always), ...(config.commands ? [commands] : [])];
  const existing = new Set(await admin.listTopics());
  const missing = wanted.filter(({ name }) => !existing.has(name));
  if (missing.length > 0) {
    const names = missing.map(({ name }) => name).join(', ');
    if (!config.createTopics) {
      const message = `missing in Kafka: ${names}; create them, or set kafka.create_topics to true`;
      return fail('KAFKA_OTHER', message, { retryable: true });
    }
    // Its own waiting for leaders fails when a broker has not heard of the topics yet.
    await admin.createTopics({ topics: missing.map((topic) => definition(topic, config)), waitForLeaders: false });
    telemetry.log.info({ topics: names }, 'created topics in Kafka');
  }
  const { topics } = await soon(() => admin.fetchTopicMetadata({ topics: wanted.map(({ name }) => name) }));
  // The leaders answer for themselves: they are named a moment before they take records.
  for (const { name } of missing) await soon(() => admin.fetchTopicOffsets(name));
  for (const { name, partitions } of wanted) {
    const found = topics.find((topic) => topic.name === name)?.partitions.length ?? 0;
    if (found !== partitions) return mismatch(name, found, partitions, config);
  }
  for (const { name, compression } of await compressionsOf(admin, wanted)) {
    if (!READABLE.includes(compression)) return unreadable(name, compression);
  }
  return done;
}

/** Empty where we may not ask, or the service does not say: then the reader finds out. */
async function compressionsOf(
  admin: Admin,
  topics: readonly KafkaTopic[],
): Promise<readonly { readonly name: string; readonly compression: string }[]> {
  const configNames = ['compression.type'];
  try {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: topics.map(({ name }) => ({ type: TOPIC, name, configNames })),
    });
    return resources.flatMap(({ resourceName: name, configEntries }) =>
      // A service that does not know the setting may answer without a value.
      configEntries.flatMap(({ configValue: compression }) => (compression ? [{ name, compression }] : [])),
    );
  } catch {
    return [];
  }
}

/** What is asked of topics just made is true a moment later. */
async function soon<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask();
    } catch (thrown) {
      if (tries === TRIES) throw thrown;
      await pause(TRY_PAUSE_MS);
    }
  }
}

function definition(topic: KafkaTopic, config: KafkaConfig): ITopicConfig {
  return {
    topic: topic.name,
    numPartitions: topic.partitions,
    replicationFactor: config.replicationFactor,
    // The record's timestamp is the gateway's received stamp, on which the watermark stands; never the broker's clock.
    configEntries: [{ name: 'message.timestamp.type', value: 'CreateTime' }],
  };
}

function mismatch(name: string, found: number, wanted: number, config: KafkaConfig): Outcome {
  const wayOut =
    wanted === config.partitions && wanted !== 1
      ? `set kafka.partitions to ${found}, or kafka.prefix to a new name, which begins new topics`
      : 'set kafka.prefix to a new name, which begins new topics, or recreate this one';
  return fail(
    'KAFKA_TOPIC_MISMATCH',
    `topic ${name} has ${found} ${found === 1 ? 'partition' : 'partitions'} in Kafka and must have ${wanted}: ${wayOut}`,
  );
}

function unreadable(name: string, compression: string): Outcome {
  return fail(
    'KAFKA_TOPIC_MISMATCH',
    `topic ${name} has compression.type ${compression} in Kafka, which Millrace cannot read: set it to producer, gzip or uncompressed, for the topic or for the brokers`,
  );
}

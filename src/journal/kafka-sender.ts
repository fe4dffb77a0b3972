/**
 * Produce requests, the way kafkajs can be trusted with them:
 * - every message names its partition, and topic and partition are checked against the configuration first: kafkajs
 *   resolves happily when the partition does not exist, and an unknown topic spoils a producer for the known ones;
 * - the answer must name every partition that was sent to;
 * - acks = all, no retries inside kafkajs: one call is one try, bounded by the request timeout;
 * - after a failure that does not blame a record, the producer is replaced. The old one is disconnected when its last
 *   request is over.
 * The caller has at most one request under way for a partition; that is what keeps the order.
 */
import { CompressionTypes, type Message, type Producer } from 'kafkajs';
import type { KafkaConfig } from '../config.ts';
import { done, type Outcome } from '../errors.ts';
import type { LogRecord } from '../log.ts';
import type { Telemetry } from '../telemetry.ts';
import { disconnected, kafkaClient } from './kafka-client.ts';
import { classify } from './kafka-errors.ts';
import { toMessage } from './kafka-record.ts';
import type { KafkaTopic } from './kafka-topics.ts';

/** Records for one partition. */
export interface Part {
  readonly topic: KafkaTopic;
  readonly partition: number;
  readonly records: readonly LogRecord[];
}

export interface Sender {
  /** One request. Ok: all of it is on all in-sync replicas. Otherwise any of it may be there, or come to be. */
  send(parts: readonly Part[]): Promise<Outcome>;
  close(): Promise<void>;
}

/**
 * Records of one partition in one request. kafkajs groups them in time that grows with the square of their number, and
 * encodes them without a pause for anything else; the fixed cost of a request is small beside that from here on.
 */
export const MAX_BATCH_RECORDS = 500;

/** How much earlier than our own timeout the broker gives up waiting for its replicas, so that its reason arrives. */
const BROKER_EARLIER_MS = 500;

interface Link {
  readonly producer: Producer;
  readonly connected: Promise<void>;
  requests: number;
  retired: boolean;
}

export function kafkaSender(config: KafkaConfig, gateway: string, telemetry: Telemetry): Sender {
  let current: Link | null = null;
  const compression = config.compression === 'gzip' ? CompressionTypes.GZIP : CompressionTypes.None;
  const timeout = Math.max(BROKER_EARLIER_MS, config.requestTimeoutMs - BROKER_EARLIER_MS);

  const open = (): Link => {
    const producer = kafkaClient(config, 0, telemetry).producer({
      allowAutoTopicCreation: false,
      createPartitioner: () => (args) => args.message.partition!,
    });
    const connected = producer.connect();
    connected.catch(() => {}); // each request that waits for it reports it
    return { producer, connected, requests: 0, retired: false };
  };

  const retire = (link: Link | null): void => {
    if (current === link) current = null;
    if (link) link.retired = true;
  };

  const release = async (link: Link): Promise<void> => {
    if (link.retired && link.requests === 0) await disconnected(link.producer.disconnect);
  };

  return {
    async send(parts) {
      for (const part of parts) check(part);
      const topics = [...new Set(parts.map(({ topic }) => topic.name))];
      const doing = `appending to ${topics.join(', ')}`;
      let link: Link | null = null;
      try {
        link = current ??= open();
        link.requests++;
        await link.connected;
        const answers = await link.producer.sendBatch({
          acks: -1,
          timeout,
          compression,
          topicMessages: topics.map((topic) => ({ topic, messages: messagesOf(parts, topic, gateway) })),
        });
        for (const { topic, partition } of parts) {
          const answer = answers.find((one) => one.topicName === topic.name && one.partition === partition);
          if (answer?.errorCode !== 0) {
            throw Object.assign(new Error(`no answer for partition ${partition}`), {
              type: 'UNKNOWN_TOPIC_OR_PARTITION',
            });
          }
        }
        return done;
      } catch (thrown) {
        const failure = classify(thrown, doing);
        if (failure.code !== 'KAFKA_RECORD_REFUSED') retire(link);
        return { ok: false, failure };
      } finally {
        if (link) {
          link.requests--;
          void release(link);
        }
      }
    },
    async close() {
      const link = current;
      retire(link);
      if (link) await release(link);
    },
  };
}

function messagesOf(parts: readonly Part[], topic: string, gateway: string): Message[] {
  const messages: Message[] = [];
  for (const part of parts) {
    if (part.topic.name !== topic) continue;
    for (const record of part.records) messages.push(toMessage(record, part.partition, gateway, part.topic.kind));
  }
  return messages;
}

function check({ topic, partition, records }: Part): void {
  if (!Number.isInteger(partition) || partition < 0 || partition >= topic.partitions) {
    throw new RangeError(`topic ${topic.name} has no partition ${partition}`);
  }
  if (records.length === 0) throw new RangeError(`nothing to send to ${topic.name}`);
}

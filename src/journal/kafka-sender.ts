/**
 * Produce requests:
 * - topic and partition are checked against the configuration first: an unknown topic spoils a connection for the known
 *   ones, and a partition that is not there is a mistake of ours;
 * - the answer must name every partition that was sent to;
 * - acks = all, no retries inside kafkajs: one call is one try, bounded by the request timeout;
 * - readings are framed for a schema registry where there is one (kafka-wire.ts);
 * - after a failure that does not blame a record, the connections are replaced. The old ones are ended when their last
 *   request is over.
 * The caller has at most one request under way for a partition; that is what keeps the order.
 */
import type { KafkaConfig } from '../config.ts';
import { done, type Outcome, succeed } from '../errors.ts';
import type { LogRecord } from '../log.ts';
import type { Telemetry } from '../telemetry.ts';
import { encodeBatch } from './kafka-batch.ts';
import { disconnected, kafkaClient } from './kafka-client.ts';
import { classify } from './kafka-errors.ts';
import { type BatchTo, type ProduceLink, produceLink } from './kafka-produce.ts';
import type { KafkaTopic } from './kafka-topics.ts';
import { framed } from './kafka-wire.ts';

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

/** Records of one partition in one request: they are encoded without a pause for anything else. */
export const MAX_BATCH_RECORDS = 2_000;

/** How much earlier than our own timeout the broker gives up waiting for its replicas, so that its reason arrives. */
const BROKER_EARLIER_MS = 500;

interface Link {
  readonly produce: ProduceLink;
  readonly connected: Promise<void>;
  requests: number;
  retired: boolean;
}

/** `spool`: the id of the spool that the records come from, where they come from one. */
export function kafkaSender(config: KafkaConfig, gateway: string, telemetry: Telemetry, spool?: string): Sender {
  let current: Link | null = null;
  const { compression } = config;
  const from = spool === undefined ? undefined : { spool };
  const timeout = Math.max(BROKER_EARLIER_MS, config.requestTimeoutMs - BROKER_EARLIER_MS);

  const encode = async ({ topic, partition, records }: Part): Promise<Outcome<BatchTo>> => {
    const sent = await framed(config, topic, records);
    if (!sent.ok) return sent;
    const batch = encodeBatch(sent.value, { gateway, implied: topic.kind, compression, ...from });
    return succeed({ topic: topic.name, partition, batch });
  };

  const open = (): Link => {
    const produce = produceLink(kafkaClient(config, 0, telemetry));
    const connected = produce.connect();
    connected.catch(() => {}); // each request that waits for it reports it
    return { produce, connected, requests: 0, retired: false };
  };

  const retire = (link: Link | null): void => {
    if (current === link) current = null;
    if (link) link.retired = true;
  };

  const release = async (link: Link): Promise<void> => {
    if (link.retired && link.requests === 0) await disconnected(link.produce.disconnect);
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
        const batches: BatchTo[] = [];
        for (const encoded of await Promise.all(parts.map(encode))) {
          if (!encoded.ok) return encoded;
          batches.push(encoded.value);
        }
        await link.produce.produce(batches, timeout);
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

function check({ topic, partition, records }: Part): void {
  if (!Number.isInteger(partition) || partition < 0 || partition >= topic.partitions) {
    throw new RangeError(`topic ${topic.name} has no partition ${partition}`);
  }
  if (records.length === 0) throw new RangeError(`nothing to send to ${topic.name}`);
}

/**
 * Record batches to Kafka, past kafkajs' producer: that one takes apart and builds up every message, at a multiple of what
 * the rest of forwarding costs. A request is kafkajs' header, our body, its reading of the answer (kafka-internals.ts).
 */
import type { Kafka } from 'kafkajs';
import { makeCluster, type ProtocolRequest, requestDefinition } from './kafka-internals.ts';

export interface BatchTo {
  readonly topic: string;
  readonly partition: number;
  /** As kafka-batch.ts makes it. */
  readonly batch: Uint8Array;
}

export interface ProduceLink {
  connect(): Promise<void>;
  /**
   * acks = all, one try. Resolves when all are on all in-sync replicas. Throws kafkajs' error when one is not, or is not
   * known to be; all requests are over then. Brokers wait `timeoutMs` for their replicas.
   */
  produce(batches: readonly BatchTo[], timeoutMs: number): Promise<void>;
  disconnect(): Promise<void>;
}

interface ProduceAnswer {
  readonly topics: readonly {
    readonly topicName: string;
    readonly partitions: readonly { readonly partition: number; readonly errorCode: number }[];
  }[];
}

const PRODUCE = 0;
/** The body of these versions is the one written here. */
const BODY_VERSIONS = { least: 3, most: 7 };
const METADATA_MAX_AGE_MS = 300_000;

const produceDefinition = requestDefinition('produce');

export function produceLink(client: Kafka): ProduceLink {
  const cluster = makeCluster(client, { metadataMaxAge: METADATA_MAX_AGE_MS, allowAutoTopicCreation: false });

  const send = async (nodeId: string, batches: readonly BatchTo[], timeoutMs: number): Promise<void> => {
    const broker = await cluster.findBroker({ nodeId });
    const { request, response } = broker.lookupRequest(PRODUCE, produceDefinition)({ acks: -1, topicData: [] });
    if (request.apiVersion < BODY_VERSIONS.least || request.apiVersion > BODY_VERSIONS.most) {
      throw new Error(`no request to append can be made in version ${request.apiVersion}`);
    }
    const encode = async () => {
      const buffer = requestBody(batches, timeoutMs);
      return { buf: buffer, buffer };
    };
    const sent = { request: { ...request, encode }, response } as ProtocolRequest;
    const answer = (await broker.connectionPool.send(sent)) as ProduceAnswer;
    for (const { topic, partition } of batches) {
      const partitions = answer.topics.find(({ topicName }) => topicName === topic)?.partitions;
      if (partitions?.find((one) => one.partition === partition)?.errorCode !== 0) throw missing(partition);
    }
  };

  return {
    connect: () => cluster.connect(),
    disconnect: () => cluster.disconnect(),
    async produce(batches, timeoutMs) {
      const topics = [...new Set(batches.map(({ topic }) => topic))];
      await cluster.addMultipleTargetTopics(topics);
      await cluster.refreshMetadataIfNecessary();
      const byLeader = new Map<string, BatchTo[]>();
      for (const batch of batches) {
        const [leader] = Object.keys(cluster.findLeaderForPartitions(batch.topic, [batch.partition]));
        if (leader === undefined) throw missing(batch.partition);
        byLeader.set(leader, [...(byLeader.get(leader) ?? []), batch]);
      }
      const requests = [...byLeader].map(([nodeId, some]) => send(nodeId, some, timeoutMs));
      const failed = (await Promise.allSettled(requests)).find(({ status }) => status === 'rejected');
      if (failed) throw (failed as PromiseRejectedResult).reason;
    },
  };
}

function missing(partition: number): Error {
  return Object.assign(new Error(`no answer for partition ${partition}`), { type: 'UNKNOWN_TOPIC_OR_PARTITION' });
}

/** transactional id (none), acks (all), timeout, and per topic and partition the batch behind its length. */
function requestBody(batches: readonly BatchTo[], timeoutMs: number): Buffer {
  const topics = new Map<string, BatchTo[]>();
  for (const batch of batches) topics.set(batch.topic, [...(topics.get(batch.topic) ?? []), batch]);
  const head = Buffer.alloc(12);
  head.writeInt16BE(-1, 0);
  head.writeInt16BE(-1, 2);
  head.writeInt32BE(timeoutMs, 4);
  head.writeInt32BE(topics.size, 8);
  const pieces: Uint8Array[] = [head];
  for (const [topic, some] of topics) {
    const name = Buffer.from(topic);
    const topicHead = Buffer.alloc(2 + name.length + 4);
    topicHead.writeInt16BE(name.length, 0);
    name.copy(topicHead, 2);
    topicHead.writeInt32BE(some.length, 2 + name.length);
    pieces.push(topicHead);
    for (const { partition, batch } of some) {
      const batchHead = Buffer.alloc(8);
      batchHead.writeInt32BE(partition, 0);
      batchHead.writeInt32BE(batch.length, 4);
      pieces.push(batchHead, batch);
    }
  }
  return Buffer.concat(pieces);
}

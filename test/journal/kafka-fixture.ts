/** What the tests on a real Kafka share: a configuration, topics of their own that go away again, records. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { type Admin, Kafka, logLevel } from 'kafkajs';
import type { KafkaConfig } from '../../src/config.ts';
import { crc32c } from '../../src/journal/crc32c.ts';
import { encodeBatch } from '../../src/journal/kafka-batch.ts';
import { produceLink } from '../../src/journal/kafka-produce.ts';
import type { KafkaTopic } from '../../src/journal/kafka-topics.ts';
import type { LogRecord } from '../../src/log.ts';
import { until } from '../support/until.ts';

export function kafkaConfig(brokers: readonly string[], changes: Partial<KafkaConfig> = {}): KafkaConfig {
  return {
    brokers,
    prefix: `test-${randomUUID().slice(0, 8)}`,
    partitions: 3,
    replicationFactor: 1,
    compression: 'none',
    lingerMs: 20,
    batchBytes: 256 * 1024,
    requestBytes: 8 * 1024 * 1024,
    requestTimeoutMs: 5_000,
    sessionTimeoutMs: 6_000,
    group: 'rollup',
    fetchBytes: 128 * 1024,
    fetchWaitMs: 250,
    createTopics: true,
    tls: null,
    sasl: null,
    schemaRegistry: null,
    ...changes,
  };
}

export async function withAdmin<T>(brokers: readonly string[], use: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    return await use(admin);
  } finally {
    await admin.disconnect();
  }
}

export async function makeTopic(config: KafkaConfig, { name, partitions }: KafkaTopic): Promise<void> {
  await withAdmin(config.brokers, async (admin) => {
    await admin.createTopics({ topics: [{ topic: name, numPartitions: partitions }], waitForLeaders: false });
    // Answered by the leaders themselves: the metadata names them a moment before they take records.
    const isThere = async () => (await admin.fetchTopicOffsets(name)).length === partitions;
    await until(() => isThere().catch(() => false), 10_000, `topic ${name} has its leaders`);
  });
}

export async function dropTopics(config: KafkaConfig): Promise<void> {
  await withAdmin(config.brokers, async (admin) => {
    const ours = (await admin.listTopics()).filter((name) => name.startsWith(`${config.prefix}.`));
    if (ours.length > 0) await admin.deleteTopics({ topics: ours });
  });
}

/** As retention does: the partition begins at `offset` afterwards. */
export async function deleteBefore(
  config: KafkaConfig,
  topic: KafkaTopic,
  partition: number,
  offset: number,
): Promise<void> {
  await withAdmin(config.brokers, async (admin) => {
    await admin.fetchTopicOffsets(topic.name); // kafkajs learns of the topic by this, and deletes nothing without
    await admin.deleteTopicRecords({ topic: topic.name, partitions: [{ partition, offset: String(offset) }] });
  });
}

export function reading(key: string, number: number, value = JSON.stringify({ number })): LogRecord {
  return {
    kind: 'reading',
    key,
    receivedMs: 1_700_000_000_000 + number,
    stream: 'environment',
    topic: `sensors/${key}`,
    value: Buffer.from(value),
  };
}

/** The number that `reading` put into the value. */
export function numberOf(record: LogRecord): number {
  return JSON.parse(Buffer.from(record.value).toString()).number;
}

/** What a writer that is not ours may leave: a batch with a compression that is not read here. */
export async function appendSnappy(config: KafkaConfig, topic: KafkaTopic, partition: number): Promise<void> {
  const batch = snappyBatch(reading('device-0', 999, JSON.stringify({ number: 999, pad: 'x'.repeat(100) })));
  const link = produceLink(new Kafka({ brokers: [...config.brokers], logLevel: logLevel.NOTHING }));
  await link.connect();
  try {
    await link.produce([{ topic: topic.name, partition, batch }], 5_000);
  } finally {
    await link.disconnect();
  }
}

/** As the Java client packs: blocks behind their length, here one that is a single literal. */
function snappyBatch(record: LogRecord): Buffer {
  const plain = encodeBatch([record], { gateway: 'g', implied: 'reading', compression: 'none' });
  const [head, body] = [plain.subarray(0, 61), plain.subarray(61)];
  assert.ok(body.length > 128 && body.length <= 256, 'a length of two bytes, a literal with one more');
  const block = Buffer.concat([
    Buffer.from([(body.length & 0x7f) | 0x80, body.length >> 7]),
    Buffer.from([60 << 2, body.length - 1]),
    body,
  ]);
  const frame = Buffer.alloc(20);
  frame.write('\x82SNAPPY\0', 0, 'latin1');
  frame.writeUInt32BE(1, 8);
  frame.writeUInt32BE(1, 12);
  frame.writeUInt32BE(block.length, 16);
  const batch = Buffer.concat([head, frame, block]);
  batch.writeUInt32BE(batch.length - 12, 8);
  batch.writeInt16BE(2, 21);
  batch.writeUInt32BE(crc32c(batch, 21, batch.length), 17);
  return batch;
}

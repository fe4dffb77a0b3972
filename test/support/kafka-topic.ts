/** Reading a topic as anybody can, with kafkajs and none of the project's code. */
import { randomUUID } from 'node:crypto';
import { Kafka, logLevel } from 'kafkajs';
import { until } from './until.ts';

/** The values of all records that are in the topic now. */
export async function recordsOf(brokers: readonly string[], topic: string): Promise<string[]> {
  const client = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING });
  const admin = client.admin();
  await admin.connect();
  const offsets = await admin.fetchTopicOffsets(topic);
  await admin.disconnect();
  const count = offsets.reduce((sum, { low, high }) => sum + Number(high) - Number(low), 0);
  const values: string[] = [];
  const consumer = client.consumer({ groupId: `reader-${randomUUID()}` });
  await consumer.connect();
  try {
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      eachMessage: async ({ message: { value } }) => {
        values.push(String(value));
      },
    });
    await until(() => values.length >= count, 60_000, `all ${count} records of ${topic}`);
  } finally {
    await consumer.disconnect();
  }
  return values;
}

/** `LogReader` on one Kafka topic. Puts together what consumes, reads ranges and asks for offsets. */
import type { KafkaConfig } from '../config.ts';
import { fail, type Outcome, succeed } from '../errors.ts';
import type { LogConsumer, LogReader } from '../log.ts';
import type { Telemetry } from '../telemetry.ts';
import { kafkaConsumer } from './kafka-consumer.ts';
import { kafkaOffsets } from './kafka-offsets.ts';
import { kafkaRanges } from './kafka-range.ts';
import type { KafkaTopic } from './kafka-topics.ts';

export function kafkaReader(config: KafkaConfig, topic: KafkaTopic, telemetry: Telemetry): LogReader {
  const offsets = kafkaOffsets(config, topic, telemetry);
  const ranges = kafkaRanges(config, topic, offsets, telemetry);
  const consumers = new Set<LogConsumer>();

  const of = <T>(partition: number, answers: Outcome<ReadonlyMap<number, T>>): Outcome<T> => {
    if (!answers.ok) return answers;
    const answer = answers.value.get(partition);
    if (answer === undefined) return fail('KAFKA_OTHER', `${topic.name} has no partition ${partition}`);
    return succeed(answer);
  };

  return {
    partitions: topic.partitions,
    async consume(group, handlers) {
      const consumer = kafkaConsumer(config, topic, group, handlers, offsets, telemetry);
      consumers.add(consumer);
      return consumer;
    },
    offsets: async (partition) => of(partition, await offsets.marks()),
    offsetAtTime: async (partition, receivedMs) => of(partition, await offsets.atTime(receivedMs)),
    range: (partition, fromOffset, toOffset) => ranges.read(partition, fromOffset, toOffset),
    async checkpoint(group, partition) {
      const committed = await offsets.committed(group);
      return committed.ok ? succeed(committed.value.get(partition) ?? null) : committed;
    },
    async close() {
      await Promise.all([...consumers].map((consumer) => consumer.stop()));
      await ranges.close();
      await offsets.close();
    },
  };
}

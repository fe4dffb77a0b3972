/** Kafka passes the suite that every log passes. */
import type { KafkaConfig } from '../../src/config.ts';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { type KafkaTopic, kafkaTopics } from '../../src/journal/kafka-topics.ts';
import { kafkaWriter } from '../../src/journal/kafka-writer.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { type LogUnderTest, logContract } from '../contracts/log.ts';
import { needKafka } from '../support/servers.ts';
import { deleteBefore, dropTopics, kafkaConfig, makeTopic } from './kafka-fixture.ts';

logContract('Kafka', async (context) => {
  const config = kafkaConfig(needKafka(context));
  const topic = kafkaTopics(config).readings;
  await makeTopic(config, topic);
  return open(config, topic);
});

function open(config: KafkaConfig, topic: KafkaTopic): LogUnderTest {
  const telemetry = silentTelemetry();
  const writer = kafkaWriter(config, topic, { gateway: 'plant-7', telemetry });
  const reader = kafkaReader(config, topic, telemetry);
  const closeBoth = () => Promise.all([writer.close(), reader.close()]);
  return {
    writer,
    reader,
    async reopen() {
      await closeBoth();
      return open(config, topic);
    },
    async truncate(partition) {
      const offsets = await reader.offsets(partition);
      if (!offsets.ok) throw new Error(offsets.failure.message);
      const offset = Math.floor((offsets.value.firstOffset + offsets.value.endOffset) / 2);
      await deleteBefore(config, topic, partition, offset);
    },
    async close() {
      await closeBoth();
      await dropTopics(config);
    },
  };
}

import assert from 'node:assert/strict';
import kafkajs from 'kafkajs';
import { pino } from 'pino';
import { freePort } from '../../compose/stack/launch.ts';
import type { KafkaConfig } from '../../src/config.ts';
import { kafkaTopics, prepareTopics, untilTopicsReady } from '../../src/journal/kafka-topics.ts';
import { silentTelemetry, Telemetry } from '../../src/telemetry.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { dropTopics, kafkaConfig, makeTopic, withAdmin } from './kafka-fixture.ts';

const { TOPIC } = kafkajs.ConfigResourceTypes;

/** Refused for good, with this message. */
async function assertMismatch(config: KafkaConfig, message: string): Promise<void> {
  const outcome = await prepareTopics(config, silentTelemetry());
  assert.ok(!outcome.ok);
  assert.equal(outcome.failure.code, 'KAFKA_TOPIC_MISMATCH');
  assert.equal(outcome.failure.retryable, false);
  assert.equal(outcome.failure.message, message);
}

describe('the topics in a real Kafka', () => {
  let brokers: string[];
  before(function () {
    brokers = needKafka(this);
  });

  it('are made when missing, with the configured partitions and the producer’s timestamps, and then found', async () => {
    const config = { ...kafkaConfig(brokers, { partitions: 5 }), commands: true };
    try {
      for (let round = 0; round < 2; round++) {
        const outcome = await prepareTopics(config, silentTelemetry());
        assert.deepEqual(outcome, { ok: true, value: undefined });
      }
      await withAdmin(brokers, async (admin) => {
        const names = Object.values(kafkaTopics(config)).map(({ name }) => name);
        const { topics } = await admin.fetchTopicMetadata({ topics: names });
        const counts = Object.fromEntries(
          topics.map(({ name, partitions }) => [name.split('.')[1], partitions.length]),
        );
        const ones = { deadletters: 1, alerts: 1, commands: 1, accounts: 1 };
        assert.deepEqual(counts, { readings: 5, late: 5, panes: 5, ...ones });
        const { resources } = await admin.describeConfigs({
          includeSynonyms: false,
          resources: [{ type: TOPIC, name: names[0]! }],
        });
        const type = resources[0]!.configEntries.find(({ configName }) => configName === 'message.timestamp.type');
        assert.equal(type?.configValue, 'CreateTime');
      });
    } finally {
      await dropTopics(config);
    }
  });

  it('are refused with another number of partitions, naming topic, both numbers and the way out', async () => {
    const config = kafkaConfig(brokers, { partitions: 4 });
    try {
      await makeTopic(config, { ...kafkaTopics(config).readings, partitions: 2 });
      await assertMismatch(
        config,
        `topic ${config.prefix}.readings has 2 partitions in Kafka and must have 4: ` +
          'set kafka.partitions to 2, or kafka.prefix to a new name, which begins new topics',
      );
      const waited = await untilTopicsReady(config, silentTelemetry(), new AbortController().signal);
      assert.equal(!waited.ok && waited.failure.code, 'KAFKA_TOPIC_MISMATCH', 'it is not tried for ever');
    } finally {
      await dropTopics(config);
    }
  });

  it('are refused when the broker compresses them anew by a method that cannot be read, and taken once it does not', async () => {
    const config = kafkaConfig(brokers);
    const name = `${config.prefix}.readings`;
    const set = (value: string) =>
      withAdmin(brokers, (admin) =>
        admin.alterConfigs({
          validateOnly: false,
          resources: [{ type: TOPIC, name, configEntries: [{ name: 'compression.type', value }] }],
        }),
      );
    try {
      await makeTopic(config, kafkaTopics(config).readings);
      await set('zstd');
      await assertMismatch(
        config,
        `topic ${name} has compression.type zstd in Kafka, which Millrace cannot read: ` +
          'set it to producer, gzip or uncompressed, for the topic or for the brokers',
      );
      await set('gzip');
      assert.deepEqual(await prepareTopics(config, silentTelemetry()), { ok: true, value: undefined });
    } finally {
      await dropTopics(config);
    }
  });

  it('are not made where that is switched off; what is missing is named', async () => {
    const config = kafkaConfig(brokers, { createTopics: false });
    const outcome = await prepareTopics(config, silentTelemetry());
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.retryable, true);
    assert.ok(outcome.failure.message.includes(`${config.prefix}.deadletters`));
  });
});

describe('the topics of a Kafka that is not there', () => {
  it('are tried for until the stop, and that is said once', async () => {
    const config = kafkaConfig([`127.0.0.1:${await freePort()}`]);
    const outcome = await prepareTopics(config, silentTelemetry());
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.code, 'KAFKA_UNREACHABLE');
    assert.equal(outcome.failure.retryable, true);

    const lines: string[] = [];
    const telemetry = new Telemetry(pino({ level: 'info' }, { write: (line: string) => lines.push(line) }));
    let tries = 0;
    const pauses = { delayMs: () => Math.min(1, tries++) };
    const stop = new AbortController();
    const waiting = untilTopicsReady(config, telemetry, stop.signal, pauses);
    await until(() => tries >= 3, 10_000, 'several tries');
    stop.abort();
    const stopped = await waiting;
    assert.equal(!stopped.ok && stopped.failure.code, 'STOPPED');
    assert.equal(lines.length, 1, lines.join(''));
    assert.match(lines[0]!, /KAFKA_UNREACHABLE/);
  });
});

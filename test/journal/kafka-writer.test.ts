import assert from 'node:assert/strict';
import { freePort } from '../../compose/stack/launch.ts';
import { systemClock } from '../../src/clock.ts';
import type { KafkaConfig } from '../../src/config.ts';
import { forwardLimits, startForward } from '../../src/journal/forward.ts';
import { partitionOf } from '../../src/journal/kafka-partition.ts';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { messageBytes } from '../../src/journal/kafka-record.ts';
import { kafkaSender, type Sender } from '../../src/journal/kafka-sender.ts';
import { type KafkaTopic, kafkaTopics, prepareTopics } from '../../src/journal/kafka-topics.ts';
import { kafkaWriter } from '../../src/journal/kafka-writer.ts';
import type { StoredRecord } from '../../src/log.ts';
import { decodeRefusal } from '../../src/reading.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { MemoryLog } from './forward-fixture.ts';
import { dropTopics, kafkaConfig, numberOf, reading, withAdmin } from './kafka-fixture.ts';

const telemetry = silentTelemetry();

async function readAll(config: KafkaConfig, topic: KafkaTopic): Promise<StoredRecord[][]> {
  const reader = kafkaReader(config, topic, telemetry);
  try {
    const partitions: StoredRecord[][] = [];
    for (let partition = 0; partition < topic.partitions; partition++) {
      const records: StoredRecord[] = [];
      for await (const batch of reader.range(partition, 0, Number.MAX_SAFE_INTEGER)) records.push(...batch.records);
      partitions.push(records);
    }
    return partitions;
  } finally {
    await reader.close();
  }
}

describe('writing to a real Kafka', () => {
  let config: KafkaConfig;

  beforeEach(async function () {
    config = kafkaConfig(needKafka(this));
    const outcome = await prepareTopics(config, telemetry);
    assert.ok(outcome.ok);
  });

  // Without a server there is nothing to undo.
  afterEach(() => config && dropTopics(config));

  for (const compression of ['none', 'gzip'] as const) {
    it(`puts each record into the partition of its key, in order, with compression ${compression}`, async () => {
      const topic = kafkaTopics(config).late;
      const writer = kafkaWriter({ ...config, compression, batchBytes: 5_000 }, topic, { gateway: 'g', telemetry });
      const records = Array.from({ length: 500 }, (_, i) => ({
        ...reading(`device-${i % 11}`, i),
        kind: 'late' as const,
      }));
      assert.deepEqual(await writer.append(records), { ok: true, value: undefined });
      await writer.close();
      for (const [partition, stored] of (await readAll(config, topic)).entries()) {
        assert.deepEqual(
          stored.map(numberOf),
          records.filter(({ key }) => partitionOf(key, topic.partitions) === partition).map(numberOf),
        );
        assert.ok(stored.every(({ kind, receivedMs }, i) => kind === 'late' && receivedMs === stored[i]!.receivedMs));
      }
    });
  }

  it('keeps every request below kafka.request, and appends all of it', async () => {
    const topic = kafkaTopics(config).late;
    const sizes: number[] = [];
    const numbers: number[] = [];
    const sender: Sender = {
      async send(parts) {
        const records = parts.flatMap((part) => part.records);
        sizes.push(records.reduce((sum, record) => sum + messageBytes(record), 0));
        numbers.push(...records.map((record) => numberOf(record as StoredRecord)));
        return { ok: true, value: undefined };
      },
      close: async () => {},
    };
    const limits = { batchBytes: 4_000, requestBytes: 6_000 };
    const writer = kafkaWriter({ ...config, ...limits }, topic, { gateway: 'g', telemetry, sender });
    await writer.append(Array.from({ length: 500 }, (_, i) => reading(`device-${i % 11}`, i)));
    assert.ok(sizes.length > 5 && Math.max(...sizes) <= 6_000, `${sizes}`);
    assert.deepEqual(
      numbers.sort((a, b) => a - b),
      Array.from({ length: 500 }, (_, i) => i),
    );
  });

  it('reports a topic that does not exist, and goes on with those that do', async () => {
    const sender = kafkaSender(config, 'g', telemetry);
    const missing = { name: `${config.prefix}.missing`, partitions: 3, kind: 'reading' as const };
    const outcome = await sender.send([{ topic: missing, partition: 1, records: [reading('a', 1)] }]);
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.retryable, true);
    const topic = kafkaTopics(config).readings;
    for (let round = 0; round < 3; round++) {
      assert.deepEqual(await sender.send([{ topic, partition: 1, records: [reading('a', round)] }]), {
        ok: true,
        value: undefined,
      });
    }
    await sender.close();
    assert.equal((await readAll(config, topic))[1]!.length, 3);
  });

  it('reports a partition that Kafka does not have, instead of losing what is sent there', async () => {
    const sender = kafkaSender(config, 'g', telemetry);
    const topic = { ...kafkaTopics(config).readings, partitions: 9 };
    const outcome = await sender.send([{ topic, partition: 7, records: [reading('a', 1)] }]);
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.retryable, true);
    await sender.close();
  });

  it('takes a partition beyond the configured ones for a bug', async () => {
    const sender = kafkaSender(config, 'g', telemetry);
    const topic = kafkaTopics(config).readings;
    await assert.rejects(sender.send([{ topic, partition: 3, records: [reading('a', 1)] }]), RangeError);
    await sender.close();
  });

  it('calls a record refused that is larger than the topic accepts', async () => {
    const sender = kafkaSender(config, 'g', telemetry);
    const large = reading('a', 1, 'x'.repeat(2 * 1024 * 1024));
    const outcome = await sender.send([{ topic: kafkaTopics(config).readings, partition: 0, records: [large] }]);
    assert.equal(!outcome.ok && outcome.failure.code, 'KAFKA_RECORD_REFUSED');
    await sender.close();
  });

  it('forwards a spool whole: readings, ticks, refusals, and what Kafka refuses as a dead letter', async () => {
    const topics = kafkaTopics(config);
    await withAdmin(config.brokers, (admin) =>
      admin.alterConfigs({
        validateOnly: false,
        resources: [
          { type: 2, name: topics.readings.name, configEntries: [{ name: 'max.message.bytes', value: '20000' }] },
        ],
      }),
    );
    const spool = new MemoryLog(200);
    const large = reading('device-3', 777, JSON.stringify({ number: 777, text: 'x'.repeat(30_000) }));
    const tick = { ...reading('', 0), kind: 'tick' as const, stream: '', topic: '', value: new Uint8Array() };
    spool.append(Array.from({ length: 777 }, (_, i) => reading(`device-${i % 7}`, i)));
    spool.append([large, tick]);
    spool.append(Array.from({ length: 500 }, (_, i) => reading(`device-${i % 7}`, 778 + i)));

    const sender = kafkaSender(config, 'plant-7', telemetry);
    const forward = await startForward({
      reader: spool.reader,
      topics,
      sender,
      limits: forwardLimits({ lingerMs: 10, batchBytes: 10_000, requestBytes: 8 * 1024 * 1024 }),
      telemetry,
      clock: systemClock,
      onProgress: () => {},
      onEnded: (reason) => assert.fail(String(reason)),
    });
    await until(() => forward.progress() === 1_279, 15_000, 'everything is forwarded');
    await forward.stop();
    await sender.close();
    assert.equal(spool.checkpoints.get('forward')?.offset, 1_279);

    const label = (record: StoredRecord) => (record.kind === 'tick' ? 'tick' : numberOf(record));
    for (const [partition, stored] of (await readAll(config, topics.readings)).entries()) {
      const expected = spool.records
        .filter(({ kind, key, offset }) => kind === 'tick' || (partitionOf(key, 3) === partition && offset !== 777))
        .map(label);
      // What shared a request with the refused record is there twice.
      assert.deepEqual([...new Set(stored.map(label))], expected);
    }
    const [letters] = await readAll(config, topics.deadletters);
    const refusal = decodeRefusal(Buffer.from(letters![0]!.value).toString())!;
    assert.equal(refusal.code, 'log-refused');
    assert.deepEqual(Buffer.from(refusal.payload), Buffer.from(large.value));
  });
});

describe('writing to a Kafka that is not there', () => {
  it('fails soon, as something to try again', async () => {
    const config = kafkaConfig([`127.0.0.1:${await freePort()}`]);
    const writer = kafkaWriter(config, kafkaTopics(config).late, { gateway: 'g', telemetry });
    const fromMs = performance.now();
    const outcome = await writer.append([reading('a', 1)]);
    assert.equal(!outcome.ok && outcome.failure.code, 'KAFKA_UNREACHABLE');
    assert.equal(!outcome.ok && outcome.failure.retryable, true);
    assert.ok(performance.now() - fromMs < 2_000);
    await writer.close();
  });
});

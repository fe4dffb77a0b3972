/**
 * A broker of our own that is killed, frozen and absent while `forward` fills it and a consumer reads it: whatever it
 * does, every record of the spool is read in the end, in order per key. Each test proves that the fault happened.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { type KafkaServer, startKafka } from '../../compose/stack/servers.ts';
import { systemClock } from '../../src/clock.ts';
import type { KafkaConfig } from '../../src/config.ts';
import { type Forward, forwardLimits, startForward } from '../../src/journal/forward.ts';
import { partitionOf } from '../../src/journal/kafka-partition.ts';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { kafkaSender, type Sender } from '../../src/journal/kafka-sender.ts';
import { kafkaTopics, prepareTopics, untilTopicsReady } from '../../src/journal/kafka-topics.ts';
import type { LogConsumer, LogReader } from '../../src/log.ts';
import { Telemetry } from '../../src/telemetry.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { MemoryLog } from './forward-fixture.ts';
import { kafkaConfig, numberOf, reading } from './kafka-fixture.ts';

describe('an outage of Kafka', function () {
  this.timeout(90_000);
  let dir: string;
  let server: KafkaServer;
  let config: KafkaConfig;
  let lines: string[];
  let telemetry: Telemetry;
  let spool: MemoryLog;
  let sender: Sender;
  let forward: Forward;
  let reader: LogReader;
  let consumer: LogConsumer;
  /** Per partition, the numbers in the order in which they were read. */
  let read: number[][];
  let appended: number;
  let filling: NodeJS.Timeout;

  before(async function () {
    needKafka(this); // where there is one for all, the parts for one of our own are there too
    dir = mkdtempSync(join(tmpdir(), 'millrace-outage-'));
    server = await startKafka({ dir });
  });

  after(async () => {
    await server?.kill();
    if (dir) rmSync(dir, { recursive: true, force: true });
  });

  beforeEach(() => {
    config = kafkaConfig(server.brokers, { requestTimeoutMs: 2_000, sessionTimeoutMs: 6_000 });
    lines = [];
    telemetry = new Telemetry(pino({ level: 'info' }, { write: (line: string) => lines.push(line) }));
    spool = new MemoryLog(100);
    read = [[], [], []];
    appended = 0;
  });

  afterEach(async () => {
    clearInterval(filling);
    await forward?.stop();
    await sender?.close();
    await reader?.close();
  });

  /** Every record of the log, also those of before. */
  async function start(): Promise<void> {
    const topics = kafkaTopics(config);
    sender = kafkaSender(config, 'g', telemetry);
    forward = await startForward({
      reader: spool.reader,
      topics,
      sender,
      limits: forwardLimits(config),
      telemetry,
      clock: systemClock,
      onProgress: () => {},
      onEnded: (reason) => assert.fail(String(reason)),
    });
    reader = kafkaReader(config, topics.readings, telemetry);
    consumer = await reader.consume('rollup', {
      assigned: async (assignments) =>
        new Map(assignments.map((one) => [one.partition, one.checkpoint?.offset ?? one.firstOffset])),
      batch: async (batch) => {
        read[batch.partition]!.push(...batch.records.map(numberOf));
        await consumer.commit(batch.partition, { offset: batch.nextOffset, metadata: 'm' });
      },
      stopping: async () => {},
      ended: (reason) => assert.fail(String(reason)),
    });
  }

  function fill(): void {
    filling = setInterval(() => {
      spool.append(Array.from({ length: 20 }, (_, i) => reading(`device-${i}`, appended + i)));
      appended += 20;
    }, 10);
  }

  const numbersRead = () => read.reduce((sum, numbers) => sum + new Set(numbers).size, 0);
  const failures = async () => (await telemetry.forwardFailures.get()).values.reduce((sum, one) => sum + one.value, 0);
  /** A machine under load may have an outage more than we made; each is said once for every reason. */
  function saidOncePerOutage(): void {
    const codes = new Set<string>();
    let outages = 0;
    for (const { msg, code } of lines.map((line) => JSON.parse(line))) {
      if (msg.startsWith('Kafka takes records again')) {
        outages++;
        codes.clear();
      } else if (msg.startsWith('Kafka does not take records')) {
        assert.ok(!codes.has(code), lines.join(''));
        codes.add(code);
      }
    }
    assert.ok(outages >= 1 && codes.size === 0, lines.join(''));
  }

  async function finish(): Promise<void> {
    clearInterval(filling);
    await until(() => forward.progress() === appended, 40_000, 'everything is forwarded');
    await until(() => numbersRead() === appended, 40_000, 'everything is read');
    for (const [partition, numbers] of read.entries()) {
      const expected = spool.records.filter(({ key }) => partitionOf(key, 3) === partition).map(numberOf);
      assert.deepEqual([...new Set(numbers)], expected, `first occurrences in partition ${partition} are in order`);
    }
  }

  it('by kill -9 under load loses nothing and changes no order; it is said once, and once that it is over', async () => {
    assert.ok((await prepareTopics(config, telemetry)).ok);
    await start();
    fill();
    await until(() => numbersRead() > 500, 20_000, 'records flow');
    await until(() => forward.failure() === null, 20_000, 'nothing is wrong before');
    const before = forward.progress();
    lines.length = 0;
    await server.kill();
    await until(async () => (await failures()) > 2, 20_000, 'requests fail');
    const held = forward.progress();
    await server.restart();
    await until(() => forward.progress() > held + 500, 30_000, 'records flow again');
    assert.ok(held >= before);
    await finish();
    saidOncePerOutage();
    assert.ok((await failures()) > lines.length, 'far from every failure was said');
  });

  it('by a broker that hangs longer than a request may take loses nothing and changes no order', async () => {
    assert.ok((await prepareTopics(config, telemetry)).ok);
    await start();
    fill();
    await until(() => numbersRead() > 500, 20_000, 'records flow');
    server.freeze();
    try {
      await until(async () => (await failures()) > 0, 20_000, 'a request fails');
    } finally {
      server.thaw();
    }
    await finish();
  });

  it('before the start keeps nothing from starting; all of it flows when Kafka comes', async () => {
    await server.kill();
    const stop = new AbortController();
    const ready = untilTopicsReady(config, telemetry, stop.signal);
    await start();
    spool.append(Array.from({ length: 200 }, (_, i) => reading(`device-${i % 20}`, i)));
    appended = 200;
    await until(async () => (await failures()) > 1, 20_000, 'requests fail');
    await server.restart();
    assert.deepEqual(await ready, { ok: true, value: undefined });
    await finish();
  });

  it('does not keep anything from stopping', async () => {
    assert.ok((await prepareTopics(config, telemetry)).ok);
    await start();
    fill();
    await until(() => numbersRead() > 500, 20_000, 'records flow');
    await server.kill();
    await until(async () => (await failures()) > 1, 20_000, 'requests fail');
    clearInterval(filling);
    const fromMs = performance.now();
    await Promise.all([forward.stop(), consumer.stop()]);
    assert.ok(performance.now() - fromMs < 15_000, `${performance.now() - fromMs} ms`);
  });
});

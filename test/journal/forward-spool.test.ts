/** `forward` on the real spool, on disk and in real time; Kafka is the fake that fails as it is told. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { done } from '../../src/errors.ts';
import { type Forward, forwardLimits, startForward } from '../../src/journal/forward.ts';
import { partitionOf } from '../../src/journal/kafka-partition.ts';
import { kafkaTopics } from '../../src/journal/kafka-topics.ts';
import { openSpool, type Spool } from '../../src/journal/spool.ts';
import { openSpoolReader, type SpoolReader } from '../../src/journal/spool-reader.ts';
import type { LogRecord } from '../../src/log.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { until } from '../support/until.ts';
import { FakeKafka, nameOf, realTime, unreachable } from './forward-fixture.ts';
import { kafkaConfig, numberOf, reading } from './kafka-fixture.ts';

const telemetry = silentTelemetry();
const topics = kafkaTopics(kafkaConfig([], { prefix: 't', partitions: 3 }));
const limits = {
  ...forwardLimits({ lingerMs: 5, batchBytes: 8_000, requestBytes: 8 * 1024 * 1024 }),
  batchRecords: 50,
  laneBytes: 40_000,
  queuedBytes: 200_000,
  uncheckedBytes: 2_000,
  parkAfterMs: 100,
  commitMs: 50,
  drainMs: 500,
};
const TOTAL = 6_000;

describe('forward on the real spool', () => {
  let folder: string;
  let spool: Spool;
  let reader: SpoolReader;
  let kafka: FakeKafka;
  let forward: Forward;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'millrace-forward-'));
    const opened = await openSpool({
      folder,
      maxBytes: 64 * 2 ** 20,
      segmentBytes: 128 * 1024,
      historyBytes: 0,
      commitIntervalMs: 1,
      readers: ['forward'],
      clock: systemClock,
      telemetry,
    });
    assert.ok(opened.ok);
    spool = opened.value;
    kafka = new FakeKafka(realTime);
    kafka.latencyMs = 2;
  });

  afterEach(async () => {
    await forward.stop();
    await reader.close();
    await spool.close();
    await rm(folder, { recursive: true });
    assert.deepEqual(kafka.breaches, []);
  });

  async function start(): Promise<void> {
    reader = openSpoolReader({ folder, progress: spool.progress, clock: systemClock, telemetry });
    forward = await startForward({
      reader,
      topics,
      sender: kafka,
      limits,
      telemetry,
      clock: systemClock,
      backoff: { delayMs: () => 20 },
      onProgress: () => {},
      onEnded: (reason) => assert.fail(String(reason)),
    });
  }

  const records: LogRecord[] = Array.from({ length: TOTAL }, (_, i) =>
    i % 100 === 7
      ? { ...reading('', i), kind: 'tick', stream: '', topic: '', value: new Uint8Array() }
      : reading(`device-${i % 40}`, i, JSON.stringify({ number: i, pad: 'x'.repeat(i % 150) })),
  );
  const label = (record: LogRecord) => (record.kind === 'tick' ? record.receivedMs : numberOf(record));
  const inPartition = (partition: number) => (record: LogRecord) =>
    record.kind === 'tick' || partitionOf(record.key, 3) === partition;
  const first = (partition: number) => [...new Set(kafka.log(`t.readings/${partition}`).map(label))];

  async function append(from: number, to: number): Promise<void> {
    for (let at = from; at < to; at += 500) assert.ok((await spool.writer.append(records.slice(at, at + 500))).ok);
  }

  it('passes over a partition that takes nothing, reads it again from the disk, and commits all of it', async () => {
    let healed = false;
    kafka.fate = (parts) => ({
      outcome: healed || !parts.some((part) => nameOf(part) === 't.readings/1') ? done : unreachable,
    });
    await start();
    await append(0, TOTAL);
    for (const partition of [0, 2]) {
      const expected = records.filter(inPartition(partition)).map(label);
      await until(() => first(partition).length === expected.length, 15_000, `partition ${partition} has everything`);
      assert.deepEqual(first(partition), expected);
    }
    assert.equal(first(1).length, 0);
    assert.ok(forward.queuedBytes() < limits.queuedBytes);
    assert.ok(forward.progress() < 10);
    healed = true;
    await until(() => forward.progress() === TOTAL, 15_000, 'everything is forwarded');
    assert.deepEqual(first(1), records.filter(inPartition(1)).map(label));
    const checkpoint = async () => {
      const stored = await reader.checkpoint('forward', 0);
      return stored.ok ? stored.value?.offset : undefined;
    };
    await until(async () => (await checkpoint()) === TOTAL, 5_000, 'it is committed');
  });

  it('goes on after a crash from its commit: nothing is missing, and first occurrences are in order', async () => {
    await start();
    await append(0, TOTAL / 2);
    await until(() => forward.progress() > TOTAL / 4, 15_000, 'some is forwarded');
    // As a crash leaves it: what was not committed is forwarded again.
    const dead = kafka.fate;
    kafka.fate = () => ({ outcome: unreachable });
    await forward.stop();
    await reader.close();
    kafka.fate = dead;
    await append(TOTAL / 2, TOTAL);
    await start();
    await until(() => forward.progress() === TOTAL, 15_000, 'everything is forwarded');
    for (let partition = 0; partition < 3; partition++) {
      assert.deepEqual(first(partition), records.filter(inPartition(partition)).map(label));
    }
  });
});

/** The consumer on a real Kafka, beyond what the contract of every log asks: groups of several, truncation, loss. */
import assert from 'node:assert/strict';
import { Kafka, logLevel } from 'kafkajs';
import { pino } from 'pino';
import type { KafkaConfig } from '../../src/config.ts';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { type KafkaTopic, kafkaTopics } from '../../src/journal/kafka-topics.ts';
import { kafkaWriter } from '../../src/journal/kafka-writer.ts';
import type { Assignment, LogBatch, LogConsumer, LogReader, LogWriter } from '../../src/log.ts';
import { Telemetry } from '../../src/telemetry.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';
import {
  appendSnappy,
  deleteBefore,
  dropTopics,
  kafkaConfig,
  makeTopic,
  numberOf,
  reading,
  withAdmin,
} from './kafka-fixture.ts';

/** Lines of the log. */
const said: string[] = [];
const telemetry = new Telemetry(pino({ level: 'warn' }, { write: (line: string) => void said.push(line) }));
const GROUP = 'group';

describe('consuming a real Kafka', function () {
  this.timeout(30_000);
  let config: KafkaConfig;
  let topic: KafkaTopic;
  let writer: LogWriter;
  let members: Member[];

  beforeEach(async function () {
    config = kafkaConfig(needKafka(this), { partitions: 4, sessionTimeoutMs: 3_000 });
    topic = kafkaTopics(config).readings;
    await makeTopic(config, topic);
    writer = kafkaWriter(config, topic, { gateway: 'g', telemetry });
    members = [];
  });

  afterEach(async () => {
    // Without a server there is nothing to undo.
    if (!config) return;
    await Promise.all(members.map((member) => member.stop()));
    await writer.close();
    await dropTopics(config);
  });

  /** A member of the group that commits every batch it has handled. */
  class Member {
    readonly reader: LogReader = kafkaReader(config, topic, telemetry);
    readonly assignments: (readonly Assignment[])[] = [];
    /** Of batches whose commit succeeded. */
    readonly counted: number[] = [];
    readonly aborted: number[] = [];
    ends: unknown[] = [];
    consumer!: LogConsumer;
    handle: (batch: LogBatch, signal: AbortSignal) => Promise<void> = async () => {};

    static async join(handle?: Member['handle']): Promise<Member> {
      const member = new Member();
      if (handle) member.handle = handle;
      members.push(member);
      member.consumer = await member.reader.consume(GROUP, {
        assigned: async (assignments) => {
          member.assignments.push(assignments);
          return new Map(assignments.map((one) => [one.partition, one.checkpoint?.offset ?? one.firstOffset]));
        },
        batch: async (batch, signal) => {
          await member.handle(batch, signal);
          if (signal.aborted) {
            member.aborted.push(batch.partition);
            return;
          }
          const metadata = `P=${batch.nextOffset}`;
          const outcome = await member.consumer.commit(batch.partition, { offset: batch.nextOffset, metadata });
          if (outcome.ok) member.counted.push(...batch.records.map(numberOf));
        },
        stopping: async () => {},
        ended: (reason) => member.ends.push(reason),
      });
      return member;
    }

    partitions(): number[] {
      return (this.assignments.at(-1) ?? []).map(({ partition }) => partition);
    }

    async stop(): Promise<void> {
      members = members.filter((member) => member !== this);
      await this.consumer?.stop();
      await this.reader.close();
    }
  }

  const append = async (from: number, count: number, pad = '') => {
    const records = Array.from({ length: count }, (_, i) => {
      return reading(`device-${(from + i) % 40}`, from + i, JSON.stringify({ number: from + i, pad }));
    });
    assert.deepEqual(await writer.append(records), { ok: true, value: undefined });
  };
  const partitionEnd = async (partition: number) => {
    const reader = kafkaReader(config, topic, telemetry);
    const offsets = await reader.offsets(partition);
    await reader.close();
    assert.ok(offsets.ok);
    return offsets.value.endOffset;
  };
  const counted = () => members.flatMap((member) => member.counted);

  it('spreads the partitions over two members, each record counted once, checkpoints and metadata kept', async () => {
    const first = await Member.join();
    await append(0, 400);
    await until(() => counted().length >= 400, 15_000, 'the first has read all');
    assert.deepEqual(first.partitions().sort(), [0, 1, 2, 3]);

    const second = await Member.join();
    let appended = 400;
    await until(
      async () => {
        await append(appended, 20);
        appended += 20;
        return first.partitions().length === 2 && second.partitions().length === 2;
      },
      15_000,
      'both have two partitions',
    );
    assert.deepEqual([...first.partitions(), ...second.partitions()].sort(), [0, 1, 2, 3]);
    for (const { checkpoint } of [...first.assignments.at(-1)!, ...second.assignments.at(-1)!]) {
      assert.equal(checkpoint?.metadata, `P=${checkpoint?.offset}`);
    }
    await append(appended, 100);
    appended += 100;
    await until(() => counted().length >= appended, 15_000, 'both have read all');
    assert.ok(second.counted.length > 0);

    await append(appended, 100);
    appended += 100;
    const byFirst = [...first.counted];
    await first.stop();
    byFirst.push(...first.counted.slice(byFirst.length));
    await append(appended, 100);
    appended += 100;
    const all = () => [...byFirst, ...second.counted].sort((a, b) => a - b);
    await until(() => all().length >= appended, 15_000, 'the second has taken over');
    assert.deepEqual(
      all(),
      Array.from({ length: appended }, (_, i) => i),
    );
  });

  it('aborts the signal of a handler that is busy when another member joins, and lets that one have its share', async () => {
    await append(0, 40);
    let abortedBy: 'signal' | null = null;
    const stuck = await Member.join((_, signal) => {
      return new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          abortedBy = 'signal';
          resolve();
        });
      });
    });
    await until(() => stuck.partitions().length === 4, 10_000, 'the first is alone');
    const second = await Member.join();
    await until(() => abortedBy !== null, 10_000, 'the handler was told');
    await until(() => second.partitions().length === 2, 10_000, 'the second has its share');
    await until(() => stuck.assignments.length === 2, 10_000, 'the first was assigned again');
    assert.deepEqual(stuck.counted, []);
  });

  it('keeps its place in the group while a batch takes longer than the session timeout', async () => {
    let slow = 0;
    const member = await Member.join(async (_, signal) => {
      if (slow++ > 0) return;
      await new Promise((resolve) => setTimeout(resolve, 4_000));
      assert.ok(!signal.aborted);
    });
    await append(0, 1);
    await until(() => member.counted.length === 1, 15_000, 'the slow batch was committed');
    assert.equal(member.assignments.length, 1);
  });

  it('is assigned again, with its own checkpoint, when the log is truncated past its position', async () => {
    const partition = 0;
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const keys = Array.from({ length: 200 }, (_, i) => `device-${i}`);
    await append(0, 2_000, 'x'.repeat(3_000));
    let seen = 0;
    const member = await Member.join(async (batch) => {
      if (batch.partition === partition && seen++ === 0) await held;
    });
    await until(() => seen > 0, 10_000, 'the first batch is being handled');
    const offsets = await member.reader.offsets(partition);
    assert.ok(offsets.ok && keys.length > 0);
    await append(2_000, 400, 'x'.repeat(3_000));
    const end = await member.reader.offsets(partition);
    assert.ok(end.ok);
    const cut = end.value.endOffset - 5;
    await deleteBefore(config, topic, partition, cut);
    release();
    await until(() => member.assignments.length >= 2, 15_000, 'assigned again');
    const again = member.assignments.at(-1)!.find((one) => one.partition === partition)!;
    assert.equal(again.firstOffset, cut);
    assert.ok(again.checkpoint, 'the checkpoint that kafkajs destroys is put back');
    assert.match(again.checkpoint.metadata, /^P=\d+$/);
    assert.ok(again.checkpoint.offset < cut);
    await until(async () => {
      const checkpoint = await member.reader.checkpoint(GROUP, partition);
      return checkpoint.ok && checkpoint.value?.offset === end.value.endOffset;
    }, 15_000);
  });

  it('waits before a batch that somebody compressed with snappy, says so, and reads the other partitions', async () => {
    const partition = 0;
    const before = await partitionEnd(partition);
    await appendSnappy(config, topic, partition);
    await append(0, 400);
    const member = await Member.join();
    const inOthers = 400 - ((await partitionEnd(partition)) - before - 1);
    await until(() => member.counted.length === inOthers, 15_000, 'the other partitions have been read');
    await until(() => said.some((line) => line.includes('snappy at offset 0')), 5_000, 'it was said');
    assert.match(said.join(''), /"code":"KAFKA_BATCH_UNREADABLE".*let them use gzip or none/);
    assert.equal(member.consumer.trouble()?.code, 'KAFKA_BATCH_UNREADABLE');
    await deleteBefore(config, topic, partition, before + 1);
    await until(() => member.counted.length === 400, 15_000, 'the partition goes on behind it');
    assert.equal(member.consumer.trouble(), null);
    assert.deepEqual(member.ends, []);
  });

  it('does not start a partition that the answer to the assignment leaves out', async () => {
    await append(0, 100);
    const reader = kafkaReader(config, topic, telemetry);
    const seen = new Set<number>();
    const consumer = await reader.consume('other', {
      assigned: async () => new Map([[2, 0]]),
      batch: async ({ partition }) => {
        seen.add(partition);
      },
      stopping: async () => {},
      ended: () => {},
    });
    await until(() => seen.size > 0, 10_000, 'a partition is read');
    await new Promise((resolve) => setTimeout(resolve, 600));
    assert.deepEqual([...seen], [2]);
    await consumer.stop();
    await reader.close();
  });

  it('refuses a commit for a partition that is not its own', async () => {
    const [first, second] = [await Member.join(), await Member.join()];
    await until(() => first.partitions().length === 2 && second.partitions().length === 2, 15_000, 'they share');
    const theirs = second.partitions()[0]!;
    const outcome = await first.consumer.commit(theirs, { offset: 0, metadata: '' });
    assert.equal(!outcome.ok && outcome.failure.code, 'KAFKA_GENERATION_LOST');
  });

  it('commits before the first batch has come', async () => {
    const member = await Member.join();
    await until(() => member.partitions().length === 4, 10_000, 'assigned');
    const checkpoint = { offset: 0, metadata: 'nothing yet' };
    assert.deepEqual(await member.consumer.commit(1, checkpoint), { ok: true, value: undefined });
    assert.deepEqual(await member.reader.checkpoint(GROUP, 1), { ok: true, value: checkpoint });
  });

  it('ends, and says so, when the handlers of an assignment throw', async () => {
    const reader = kafkaReader(config, topic, telemetry);
    const ends: unknown[] = [];
    const consumer = await reader.consume(GROUP, {
      assigned: async () => {
        throw new TypeError('a bug');
      },
      batch: async () => {},
      stopping: async () => {},
      ended: (reason) => ends.push(reason),
    });
    await until(() => ends.length > 0, 10_000, 'ended');
    assert.match(String(ends[0]), /a bug/);
    await consumer.stop();
    await reader.close();
  });

  it('passes over what transactions aborted, and their markers, to the very end', async () => {
    const kafka = new Kafka({ brokers: [...config.brokers], logLevel: logLevel.NOTHING });
    const producer = kafka.producer({ transactionalId: config.prefix, idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    for (const value of ['kept', 'aborted', 'kept', 'aborted']) {
      const transaction = await producer.transaction();
      await transaction.send({ topic: topic.name, messages: new Array(3).fill({ partition: 0, value }) });
      await (value === 'kept' ? transaction.commit() : transaction.abort());
    }
    await producer.disconnect();
    const reader = kafkaReader(config, topic, telemetry);
    const found: string[] = [];
    let next = 0;
    for await (const batch of reader.range(0, 0, 1_000_000)) {
      found.push(...batch.records.map(({ value }) => Buffer.from(value).toString()));
      next = batch.nextOffset;
    }
    await reader.close();
    assert.deepEqual(found, new Array(6).fill('kept'));
    assert.equal(next, 4 * (3 + 1));
  });

  it('reads two ranges at once, also in turns, and leaves no group behind', async () => {
    await append(0, 3_000, 'x'.repeat(500));
    const reader = kafkaReader(config, topic, telemetry);
    const iterators = [0, 1].map((partition) => reader.range(partition, 0, 1_000_000)[Symbol.asyncIterator]());
    const counts = [0, 0];
    for (let open = 2; open > 0; ) {
      open = 0;
      for (const [i, iterator] of iterators.entries()) {
        const next = await iterator.next();
        if (next.done) continue;
        open++;
        counts[i]! += next.value.records.length;
      }
    }
    const ends = await Promise.all([0, 1].map((partition) => reader.offsets(partition)));
    assert.deepEqual(
      counts,
      ends.map((end) => end.ok && end.value.endOffset),
    );
    await reader.close();
    await until(
      () =>
        withAdmin(config.brokers, async (admin) => {
          const { groups } = await admin.listGroups();
          return !groups.some(({ groupId }) => groupId.startsWith(`${config.group}.range-`));
        }),
      10_000,
      'the groups of the ranges are gone',
    );
  });
});

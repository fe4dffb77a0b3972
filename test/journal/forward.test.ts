import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { done, fail } from '../../src/errors.ts';
import { type Forward, type ForwardLimits, forwardLimits, startForward } from '../../src/journal/forward.ts';
import { partitionOf } from '../../src/journal/kafka-partition.ts';
import { kafkaTopics } from '../../src/journal/kafka-topics.ts';
import type { Spread } from '../../src/journal/spread.ts';
import type { LogRecord, StoredRecord } from '../../src/log.ts';
import { decodeRefusal, encodeReading } from '../../src/reading.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { logContract } from '../contracts/log.ts';
import { FakeKafka, MemoryLog, nameOf, SimulatedTime, tooLarge, unreachable } from './forward-fixture.ts';
import { kafkaConfig, numberOf, reading } from './kafka-fixture.ts';

const config = kafkaConfig([], { prefix: 't', partitions: 3, lingerMs: 50 });
const topics = kafkaTopics(config);
const tick: LogRecord = {
  kind: 'tick',
  key: '',
  receivedMs: 1_700_000_000_000,
  stream: '',
  topic: '',
  value: new Uint8Array(),
};
const refusal: LogRecord = { ...tick, kind: 'refusal', key: 'd1', value: Buffer.from('{"code":"malformed"}') };
/** One key for each of the three partitions. */
const keys = [0, 1, 2].map((partition) => {
  for (let n = 0; ; n++) if (partitionOf(`device-${n}`, 3) === partition) return `device-${n}`;
});

logContract('the log in memory that forward is tested with', async () => {
  const open = (log: MemoryLog) => ({
    writer: log.writer,
    reader: log.reader,
    reopen: async () => open(log),
    close: async () => {},
  });
  return open(new MemoryLog());
});

describe('forward', () => {
  let time: SimulatedTime;
  let spool: MemoryLog;
  let kafka: FakeKafka;
  let progress: number[];
  let ends: unknown[];
  let forward: Forward;

  beforeEach(() => {
    time = new SimulatedTime();
    spool = new MemoryLog();
    kafka = new FakeKafka(time);
    progress = [];
    ends = [];
  });

  afterEach(() => {
    assert.deepEqual(kafka.breaches, []);
    assert.deepEqual(ends, []);
  });

  async function start(limits: Partial<ForwardLimits> = {}, spread?: Spread): Promise<void> {
    forward = await startForward({
      ...(spread && { spread }),
      reader: spool.reader,
      topics,
      sender: kafka,
      limits: { ...forwardLimits(config), ...limits },
      telemetry: silentTelemetry(),
      clock: time,
      schedule: time.schedule,
      onProgress: (offset) => progress.push(offset),
      onEnded: (reason) => ends.push(reason),
    });
  }

  const stored = (name: string) => (kafka.logs.get(name) ?? []) as StoredRecord[];
  const offsetsOf = (name: string) => stored(name).map(({ offset }) => offset);
  const isPartition = (name: string) => (part: Parameters<typeof nameOf>[0]) => nameOf(part) === name;

  it('sends each reading to the partition of its key, in the order of the spool', async () => {
    const records = Array.from({ length: 200 }, (_, i) => reading(`device-${i % 17}`, i));
    spool.append(records);
    await start();
    await time.pass(1_000);
    for (let partition = 0; partition < 3; partition++) {
      const expected = records.filter(({ key }) => partitionOf(key, 3) === partition).map(numberOf);
      assert.deepEqual(stored(`t.readings/${partition}`).map(numberOf), expected);
    }
    assert.equal(forward.progress(), 200);
  });

  it('sends all readings of a series to one partition, where their keys say nothing about the series', async () => {
    const records = Array.from({ length: 60 }, (_, i) => {
      const [key, tags] = [`conversation-${i % 17}`, { team: `team-${i % 5}` }];
      return reading(key, i, encodeReading({ stream: 'environment', key, timeMs: i, tags, values: {} }));
    });
    spool.append(records);
    await start({}, new Map([['environment', ['team']]]));
    await time.pass(1_000);
    const teamOf = (record: LogRecord) => JSON.parse(Buffer.from(record.value).toString()).tags.team as string;
    const teams = [0, 1, 2].map((partition) => new Set(stored(`t.readings/${partition}`).map(teamOf)));
    assert.equal(new Set(teams.flatMap((each) => [...each])).size, 5);
    assert.equal(
      teams.reduce((sum, { size }) => sum + size, 0),
      5,
      'no team is in two partitions',
    );
    assert.ok(teams.filter(({ size }) => size > 0).length > 1, 'they are spread');
  });

  it('sends a tick to every partition of the readings, in its place among them', async () => {
    const [a, b] = keys as [string, string];
    spool.append([reading(a, 0), tick, reading(a, 2), reading(b, 3), tick, reading(b, 5)]);
    await start();
    await time.pass(1_000);
    assert.deepEqual(offsetsOf('t.readings/0'), [0, 1, 2, 4]);
    assert.deepEqual(offsetsOf('t.readings/1'), [1, 3, 4, 5]);
    assert.deepEqual(offsetsOf('t.readings/2'), [1, 4]);
    assert.deepEqual(stored('t.readings/2')[0], { ...tick, offset: 1 });
  });

  it('sends refusals, late readings and panes to the topics of those names', async () => {
    spool.append([refusal, { ...refusal, kind: 'late' }, { ...refusal, kind: 'pane' }]);
    await start();
    await time.pass(1_000);
    const partition = partitionOf('d1', 3);
    assert.deepEqual(offsetsOf('t.deadletters/0'), [0]);
    assert.deepEqual(offsetsOf(`t.late/${partition}`), [1]);
    assert.deepEqual(offsetsOf(`t.panes/${partition}`), [2]);
  });

  it('sends at once what comes alone, and what comes within the linger after that in one request', async () => {
    await start({ lingerMs: 50 });
    await time.pass(0);
    spool.append([reading(keys[0]!, 0)]);
    await time.pass(1);
    assert.deepEqual(kafka.requests.flat().map(nameOf), ['t.readings/0']);
    spool.append([reading(keys[1]!, 1)]);
    await time.pass(30);
    spool.append([reading(keys[2]!, 2)]);
    await time.pass(18);
    assert.equal(kafka.requests.length, 1);
    await time.pass(2);
    assert.equal(kafka.requests.length, 2);
    assert.deepEqual(kafka.requests[1]!.map(nameOf), ['t.readings/1', 't.readings/2']);
  });

  it('fills batches while there is more to read, and does not linger with one that is full', async () => {
    spool = new MemoryLog(4);
    spool.append(Array.from({ length: 25 }, (_, i) => reading(keys[0]!, i)));
    await start({ lingerMs: 60_000, batchRecords: 10 });
    await time.pass(100);
    assert.deepEqual(
      kafka.requests.map((parts) => parts[0]!.records.length),
      [10, 10, 5],
    );
  });

  it('has one request under way for a partition, and never more than the limit in all', async () => {
    kafka.latencyMs = 30;
    await start({ lingerMs: 1, batchRecords: 2, requestBytes: 1, requests: 2 });
    for (let round = 0; round < 20; round++) {
      spool.append(Array.from({ length: 9 }, (_, i) => reading(keys[i % 3]!, round * 9 + i)));
      await time.pass(7);
    }
    await time.passUntil(() => forward.progress() === 180, 20_000);
    assert.equal(kafka.mostAtOnce, 2);
  });

  it('repeats a failed request before anything behind it', async () => {
    kafka.fate = (_, number) => ({ outcome: number < 3 ? unreachable : done });
    await start();
    spool.append(Array.from({ length: 5 }, (_, i) => reading(keys[0]!, i)));
    await time.pass(80);
    spool.append(Array.from({ length: 5 }, (_, i) => reading(keys[0]!, 5 + i)));
    await time.pass(5_000);
    assert.deepEqual(stored('t.readings/0').map(numberOf), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('repeats whole what was stored although the answer was lost', async () => {
    kafka.fate = (_, number) => (number === 0 ? { outcome: unreachable, store: () => true } : { outcome: done });
    await start();
    spool.append([reading(keys[0]!, 0), reading(keys[0]!, 1)]);
    await time.pass(5_000);
    assert.deepEqual(stored('t.readings/0').map(numberOf), [0, 1, 0, 1]);
    assert.equal(forward.progress(), 2);
  });

  it('finds by itself which partition of a failed request is to blame', async () => {
    const blocked = isPartition('t.readings/1');
    kafka.fate = (parts) => ({ outcome: parts.some(blocked) ? unreachable : done });
    await start();
    spool.append(keys.map((key, i) => reading(key, i)));
    await time.pass(1_000);
    assert.deepEqual(offsetsOf('t.readings/0'), [0]);
    assert.deepEqual(offsetsOf('t.readings/1'), []);
    assert.deepEqual(offsetsOf('t.readings/2'), [2]);
    assert.equal(forward.progress(), 1, 'progress is held back by the blocked partition');
  });

  it('tries all partitions at once when the first works again', async () => {
    let healed = false;
    kafka.fate = () => ({ outcome: healed ? done : unreachable });
    await start();
    spool.append(keys.map((key, i) => reading(key, i)));
    await time.pass(60_000);
    healed = true;
    // Pauses are at most 5 s by then; that of the luckiest partition counts for all.
    await time.passUntil(() => kafka.logs.size === 3 && stored('t.readings/0').length > 0, 10_000, 10);
    await time.pass(100);
    assert.equal(forward.progress(), 3);
  });

  describe('progress and commits', () => {
    it('reports progress as soon as it is made, and commits it about once a second', async () => {
      await start({ commitMs: 1_000 });
      await time.pass(0);
      spool.append([reading(keys[0]!, 0)]);
      await time.pass(100);
      assert.equal(progress.at(-1), 1);
      assert.equal(spool.checkpoints.get('forward'), undefined);
      await time.pass(1_000);
      assert.deepEqual(spool.checkpoints.get('forward'), { offset: 1, metadata: '' });
    });

    it('never passes a record that Kafka may not have', async () => {
      const blocked = isPartition('t.readings/2');
      let healed = false;
      kafka.fate = (parts) => ({ outcome: !healed && parts.some(blocked) ? unreachable : done });
      await start();
      spool.append([...keys.slice(0, 2), ...keys, ...keys].map((key, i) => reading(key, i)));
      await time.pass(10_000);
      assert.equal(forward.progress(), 4, 'offset 4 is the first of the blocked partition');
      assert.equal(spool.checkpoints.get('forward')?.offset, 4);
      healed = true;
      await time.pass(12_000);
      assert.equal(forward.progress(), 8);
    });

    it('does not take a tick for done before every partition has it', async () => {
      const blocked = isPartition('t.readings/0');
      kafka.fate = (parts) => ({ outcome: parts.some(blocked) ? unreachable : done });
      await start();
      spool.append([reading(keys[1]!, 0), tick, reading(keys[1]!, 2)]);
      await time.pass(3_000);
      assert.deepEqual(offsetsOf('t.readings/1'), [0, 1, 2]);
      assert.equal(forward.progress(), 1);
    });

    it('goes on from its commit, repeating what came after it', async () => {
      spool.checkpoints.set('forward', { offset: 7, metadata: '' });
      spool.append(Array.from({ length: 10 }, (_, i) => reading(keys[0]!, i)));
      await start();
      await time.pass(1_000);
      assert.deepEqual(stored('t.readings/0').map(numberOf), [7, 8, 9]);
    });

    it('sends what the spool has and commits it when it is stopped, without lingering', async () => {
      await start({ lingerMs: 60_000 });
      spool.append([reading(keys[0]!, 0)]);
      await time.pass(10);
      spool.append(keys.map((key, i) => reading(key, 1 + i)));
      await time.pass(10);
      assert.equal(forward.progress(), 1);
      const stopped = forward.stop();
      await time.pass(50);
      await stopped;
      assert.equal(spool.checkpoints.get('forward')?.offset, 4);
    });

    it('stops at once while Kafka is away, with the commit where it was', async () => {
      kafka.fate = () => ({ outcome: unreachable });
      spool.append(keys.map((key, i) => reading(key, i)));
      await start();
      await time.pass(3_000);
      let over = false;
      const stopped = forward.stop().then(() => {
        over = true;
      });
      await time.pass(100);
      assert.ok(over, 'it did not wait for Kafka');
      await stopped;
      assert.equal(spool.checkpoints.get('forward')?.offset, 0);
    });

    it('stops within its limit when a request hangs', async () => {
      kafka.fate = () => ({ outcome: done, afterMs: 3_600_000 });
      spool.append([reading(keys[0]!, 0)]);
      await start({ drainMs: 5_000 });
      await time.pass(1_000);
      const stopped = forward.stop();
      await time.pass(5_100);
      await stopped;
    });
  });

  describe('a record that Kafka refuses for good', () => {
    const refusing = (guilty: (record: LogRecord) => boolean) => {
      kafka.fate = (parts) => {
        const bad = parts.filter((part) => part.records.some(guilty));
        if (bad.length === 0) return { outcome: done };
        // Kafka stores the other partitions of the request.
        return { outcome: tooLarge, store: (part) => !bad.includes(part) };
      };
    };
    const isGuilty = (record: LogRecord) => record.kind === 'reading' && [3, 61].includes(numberOf(record));

    it('is taken out of its batch and kept whole as a dead letter; all others arrive in order', async () => {
      refusing(isGuilty);
      const records = Array.from({ length: 100 }, (_, i) => reading(keys[0]!, i));
      spool.append(records);
      await start();
      await time.pass(5_000);
      const first = [...new Set(stored('t.readings/0').map(numberOf))];
      assert.deepEqual(
        first,
        records.map(numberOf).filter((n) => n !== 3 && n !== 61),
      );
      const letters = stored('t.deadletters/0').map((letter) => decodeRefusal(Buffer.from(letter.value).toString())!);
      assert.equal(letters.length, 2);
      for (const [i, letter] of letters.entries()) {
        assert.equal(letter.code, 'log-refused');
        assert.match(letter.reason, /larger than the topic accepts/);
        assert.equal(letter.topic, `sensors/${keys[0]}`);
        assert.deepEqual(Buffer.from(letter.payload), Buffer.from(records[[3, 61][i]!]!.value));
      }
      assert.equal(forward.progress(), 100);
    });

    it('is found with few requests', async () => {
      refusing(isGuilty);
      spool.append(Array.from({ length: 1_000 }, (_, i) => reading(keys[0]!, i)));
      await start({ batchRecords: 1_000, batchBytes: 1e9 });
      await time.passUntil(() => forward.progress() === 1_000, 20_000);
      assert.ok(kafka.requests.length < 60, `${kafka.requests.length} requests`);
    });

    it('never makes a dead letter be stored twice: they share no request with what may be refused', async () => {
      refusing((record) => record.kind === 'reading' && record.value.byteLength > 1_000);
      const large = 'x'.repeat(2_000);
      const values = Array.from({ length: 60 }, (_, i) => JSON.stringify({ number: i, pad: i % 7 === 3 ? large : '' }));
      spool.append(values.map((value, i) => reading(keys[i % 3]!, i, value)));
      spool.append([refusal]);
      await start();
      await time.pass(10_000);
      assert.equal(forward.progress(), 61);
      assert.equal(stored('t.deadletters/0').length, 9 + 1);
      const mixed = kafka.requests.filter((parts) => new Set(parts.map(({ topic }) => topic.name)).size > 1);
      assert.deepEqual(mixed, []);
    });

    it('keeps progress until its dead letter is stored', async () => {
      const deadLetters = isPartition('t.deadletters/0');
      kafka.fate = (parts) => {
        if (parts.some((part) => part.records.some(isGuilty))) return { outcome: tooLarge };
        return { outcome: parts.some(deadLetters) ? unreachable : done };
      };
      spool.append(Array.from({ length: 10 }, (_, i) => reading(keys[0]!, i)));
      await start();
      await time.pass(5_000);
      assert.deepEqual(
        [...new Set(stored('t.readings/0').map(numberOf))],
        [0, 1, 2, 4, 5, 6, 7, 8, 9],
        'it blocks nothing',
      );
      assert.equal(forward.progress(), 3);
    });

    it('is replaced by its length and hash when even the dead letter is too large', async () => {
      const large = reading(keys[0]!, 3, JSON.stringify({ number: 3, text: 'x'.repeat(5_000) }));
      refusing((record) => record.value.byteLength > 2_000);
      spool.append([reading(keys[0]!, 2), large, reading(keys[0]!, 4)]);
      await start();
      await time.pass(5_000);
      const [letter] = stored('t.deadletters/0').map((one) => decodeRefusal(Buffer.from(one.value).toString())!);
      const sha256 = createHash('sha256').update(large.value).digest('hex');
      assert.deepEqual(JSON.parse(Buffer.from(letter!.payload).toString()), { bytes: large.value.byteLength, sha256 });
      assert.match(letter!.reason, /replaced by length and hash/);
      assert.equal(letter!.code, 'log-refused');
      assert.equal(forward.progress(), 3);
    });

    it('waits for a person when nothing more can be taken away, and is not given up', async () => {
      refusing((record) => record.kind === 'refusal');
      spool.append([{ ...refusal, value: Buffer.from('{}') }, reading(keys[0]!, 1)]);
      await start();
      await time.pass(60_000);
      assert.deepEqual([...new Set(offsetsOf('t.readings/0'))], [1]);
      assert.equal(forward.progress(), 0);
      assert.ok(kafka.requests.length > 5, 'it is tried again');
    });
  });

  describe('a partition that takes nothing', () => {
    const limits = {
      laneBytes: 20_000,
      queuedBytes: 100_000,
      batchBytes: 4_000,
      batchRecords: 20,
      parkAfterMs: 1_000,
      uncheckedBytes: 1_000,
    };
    const blocked = isPartition('t.readings/1');
    let healed: boolean;

    beforeEach(() => {
      healed = false;
      kafka.fate = (parts) => ({ outcome: !healed && parts.some(blocked) ? unreachable : done });
    });

    async function fill(from: number, count: number): Promise<void> {
      const records = Array.from({ length: count }, (_, i) =>
        (from + i) % 50 === 0 ? tick : reading(keys[(from + i) % 3]!, from + i),
      );
      spool.append(records);
      await time.pass(2_000);
    }

    it('does not keep the others waiting, in bounded memory, and catches up in order when it works again', async () => {
      await start(limits);
      for (let round = 0; round < 20; round++) {
        await fill(round * 200, 200);
        assert.ok(forward.queuedBytes() <= limits.queuedBytes + 5_000, `${forward.queuedBytes()} bytes`);
      }
      await time.pass(5_000);
      assert.equal(stored('t.readings/0').length, 1_387, 'the others have everything');
      assert.equal(stored('t.readings/1').length, 0);
      assert.ok(forward.progress() <= 1);
      assert.deepEqual(spool.ranges, [], 'nothing is read again while it is blocked');

      healed = true;
      await time.passUntil(() => forward.progress() === 4_000, 60_000);
      const offsets = offsetsOf('t.readings/1');
      assert.deepEqual(
        offsets,
        spool.records
          .filter(({ kind, key }) => kind === 'tick' || partitionOf(key, 3) === 1)
          .map(({ offset }) => offset),
      );
      assert.ok(spool.ranges.length > 0, 'what was dropped was read again');
    });

    it('is followed by live records in order, when they come while it catches up', async () => {
      await start(limits);
      await fill(0, 2_000);
      await time.pass(5_000);
      healed = true;
      for (let round = 0; round < 10; round++) {
        spool.append(keys.map((key, i) => reading(key, 2_000 + round * 3 + i)));
        await time.pass(20);
      }
      await time.passUntil(() => forward.progress() === 2_030, 60_000);
      const offsets = offsetsOf('t.readings/1');
      assert.deepEqual(
        offsets,
        [...offsets].sort((x, y) => x - y),
      );
    });

    it('may fail again while it catches up', async () => {
      await start(limits);
      await fill(0, 3_000);
      for (let round = 0; round < 5; round++) {
        healed = true;
        await time.passUntil(() => stored('t.readings/1').length > round * 20, 15_000, 5);
        healed = false;
        await fill(3_000 + round * 300, 300);
      }
      healed = true;
      await time.passUntil(() => forward.progress() === 4_500, 60_000);
      const offsets = offsetsOf('t.readings/1');
      assert.deepEqual(
        offsets,
        [...new Set(offsets)].sort((x, y) => x - y),
      );
    });

    it('does not make the spool be read for nothing when all of Kafka is away', async () => {
      kafka.fate = () => ({ outcome: healed ? done : unreachable });
      await start(limits);
      await fill(0, 5_000);
      await time.pass(60_000);
      assert.ok(forward.queuedBytes() <= limits.queuedBytes + 5_000);
      healed = true;
      await time.passUntil(() => forward.progress() === 5_000, 60_000);
      assert.deepEqual(spool.ranges, []);
    });

    it('does not take all requests when its requests hang', async () => {
      kafka.fate = (parts) =>
        parts.some((part) => !blocked(part) && part.topic.name === 't.readings')
          ? { outcome: parts.some(blocked) ? unreachable : done }
          : { outcome: unreachable, afterMs: 30_000 };
      await start(limits);
      await fill(0, 30);
      await fill(30, 60);
      assert.ok(stored('t.readings/0').length > 20);
    });
  });

  it('ends, and says so, when the spool is lost', async () => {
    spool.append([reading(keys[0]!, 0)]);
    Object.defineProperty(spool.records, 'slice', {
      value: () => {
        throw new Error('the disk is gone');
      },
    });
    await start();
    await time.pass(100);
    assert.match(String(ends.pop()), /the disk is gone/);
  });

  it('keeps what it counts equal to what Kafka has', async () => {
    const telemetry = silentTelemetry();
    kafka.fate = (_, number) => ({ outcome: number === 1 ? fail('KAFKA_OTHER', 'x', { retryable: true }) : done });
    forward = await startForward({
      reader: spool.reader,
      topics,
      sender: kafka,
      limits: forwardLimits(config),
      telemetry,
      clock: time,
      schedule: time.schedule,
      onProgress: () => {},
      onEnded: (reason) => ends.push(reason),
    });
    spool.append([tick, refusal, reading(keys[0]!, 2)]);
    await time.pass(1_000);
    spool.append([tick, reading(keys[1]!, 4)]);
    await time.pass(5_000);
    const { values } = await telemetry.forwarded.get();
    assert.deepEqual(
      values.map(({ labels, value }) => [labels.topic, value]),
      [
        ['t.readings', 8],
        ['t.deadletters', 1],
      ],
    );
    assert.equal((await telemetry.forwardFailures.get()).values[0]?.value, 1);
  });
});

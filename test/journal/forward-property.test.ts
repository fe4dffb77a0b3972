/**
 * Random failures and crashes of `forward`, in simulated time. Whatever happens, afterwards:
 * - every record of the spool is in its partition, or, if Kafka refused it for good, among the dead letters
 * - first occurrences in a partition are in spool order, ticks included
 * - no commit and no report of progress was ever ahead of what Kafka had
 * - no partition had two requests under way, and memory stayed within its limits
 * The same run with a bug planted must notice; otherwise it proves nothing.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Schedule } from '../../src/clock.ts';
import { done, fail } from '../../src/errors.ts';
import { type Forward, forwardLimits, startForward } from '../../src/journal/forward.ts';
import { type Entry, Lane } from '../../src/journal/forward-lane.ts';
import { partitionOf } from '../../src/journal/kafka-partition.ts';
import type { Part, Sender } from '../../src/journal/kafka-sender.ts';
import { kafkaTopics } from '../../src/journal/kafka-topics.ts';
import type { LogRecord, StoredRecord } from '../../src/log.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { FakeKafka, type Fate, MemoryLog, SimulatedTime, tooLarge, unreachable } from './forward-fixture.ts';
import { kafkaConfig, reading } from './kafka-fixture.ts';

const PARTITIONS = 3;
const topics = kafkaTopics(kafkaConfig([], { prefix: 't', partitions: PARTITIONS }));
const limits = {
  ...forwardLimits({ lingerMs: 20, batchBytes: 1_500, requestBytes: 8 * 1024 * 1024 }),
  batchRecords: 7,
  laneBytes: 5_000,
  queuedBytes: 20_000,
  uncheckedBytes: 500,
  parkAfterMs: 400,
  commitMs: 100,
  drainMs: 300,
};
/** The unchecked part, a tick for each lane, and what catching up adds at the same time. */
const SLACK_BYTES = 20_000;
const notLeader = fail('KAFKA_OTHER', 'the leader has moved', { retryable: true });

interface Scenario {
  readonly seed: number;
  readonly records: number;
  /** Of 100 requests. */
  readonly failing: number;
  readonly crashes: number;
  readonly poison: number;
  readonly blockedPartition: number;
}

const scenarios: fc.Arbitrary<Scenario> = fc.record({
  seed: fc.integer({ min: 1, max: 2 ** 31 }),
  records: fc.integer({ min: 20, max: 600 }),
  failing: fc.integer({ min: 0, max: 60 }),
  crashes: fc.integer({ min: 0, max: 3 }),
  poison: fc.integer({ min: 0, max: 4 }),
  blockedPartition: fc.integer({ min: -1, max: PARTITIONS - 1 }),
});

/** Small and fast; the same numbers from the same seed on every machine. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

function makeRecords(scenario: Scenario, random: (below: number) => number): LogRecord[] {
  const poisonous = new Set(Array.from({ length: scenario.poison }, () => random(scenario.records)));
  return Array.from({ length: scenario.records }, (_, i) => {
    const base = reading(`device-${random(8)}`, i, JSON.stringify({ number: i, text: 'x'.repeat(random(60)) }));
    if (poisonous.has(i)) return { ...base, value: Buffer.from(JSON.stringify({ number: i, poison: true })) };
    const kind = random(20);
    if (kind === 0) return { ...base, kind: 'tick', key: '', stream: '', topic: '', value: new Uint8Array() };
    if (kind === 1) return { ...base, kind: 'refusal', value: Buffer.from('{}') };
    return base;
  });
}

const isPoison = (record: LogRecord) =>
  Buffer.from(record.value).includes('"poison":true') && record.kind === 'reading';

/** Where a record must arrive. */
function targets(record: LogRecord): string[] {
  if (record.kind === 'tick') return Array.from({ length: PARTITIONS }, (_, p) => `t.readings/${p}`);
  if (record.kind === 'refusal' || isPoison(record)) return ['t.deadletters/0'];
  return [`t.readings/${partitionOf(record.key, PARTITIONS)}`];
}

/** Runs the scenario; answers what was broken. */
async function run(scenario: Scenario, sabotage: (sender: Sender) => Sender = (sender) => sender): Promise<string[]> {
  const random = randomFrom(scenario.seed);
  const time = new SimulatedTime();
  const spool = new MemoryLog(1 + random(40));
  const faults: string[] = [];
  const records = makeRecords(scenario, random);
  const logs = new Map<string, LogRecord[]>();
  let healed = false;

  const fate = (parts: readonly Part[]): Fate => {
    const afterMs = 1 + random(30);
    const poisoned = parts.filter((part) => part.records.some(isPoison));
    if (poisoned.length > 0) return { outcome: tooLarge, afterMs, store: (part) => !poisoned.includes(part) };
    if (healed) return { outcome: done, afterMs };
    if (parts.some((part) => part.topic.name === 't.readings' && part.partition === scenario.blockedPartition)) {
      const blockedOnly = (part: Part) => part.partition !== scenario.blockedPartition;
      return { outcome: notLeader, afterMs, store: blockedOnly };
    }
    if (random(100) >= scenario.failing) return { outcome: done, afterMs };
    const lostAnswer = random(3) === 0;
    const partly = random(2) === 0;
    return { outcome: unreachable, afterMs: 1 + random(300), store: () => lostAnswer || (partly && random(2) === 0) };
  };

  const missingBelow = (offset: number): string | null => {
    const there = new Map(
      [...logs].map(([name, log]) => [name, new Set((log as StoredRecord[]).map((r) => r.offset))]),
    );
    for (const record of spool.records.slice(0, offset)) {
      for (const name of targets(record))
        if (!there.get(name)?.has(record.offset)) return `${record.offset} in ${name}`;
    }
    return null;
  };
  const checkAhead = (what: string, offset: number) => {
    const missing = missingBelow(offset);
    if (missing) faults.push(`${what} ${offset} is ahead: Kafka does not have ${missing}`);
  };

  /** One life of the process. After `crash` nothing of it has any effect, but requests under way may arrive. */
  const live = async () => {
    let alive = true;
    let last = 0;
    const kafka = new FakeKafka(time, logs);
    kafka.fate = fate;
    const schedule: Schedule = (ms, task) => time.schedule(ms, () => alive && task());
    const sender = sabotage(kafka);
    spool.onCommit = (offset) => checkAhead('commit', offset);
    const forward: Forward = await startForward({
      reader: spool.reader,
      topics,
      sender: {
        send: async (parts) => {
          if (!alive) return new Promise(() => {});
          const outcome = await sender.send(parts);
          return alive ? outcome : new Promise(() => {});
        },
        close: async () => {},
      },
      limits,
      telemetry: silentTelemetry(),
      clock: time,
      schedule,
      backoff: { delayMs: (failures) => Math.min(20 * 2 ** failures, 500) },
      onProgress: (offset) => {
        if (!alive) return;
        if (offset < last) faults.push(`progress went back from ${last} to ${offset}`);
        last = offset;
        checkAhead('progress', offset);
      },
      onEnded: (reason) => faults.push(`ended: ${reason}`),
    });
    return {
      forward,
      check: () => {
        if (forward.queuedBytes() > limits.queuedBytes + SLACK_BYTES) faults.push('too much in memory');
        for (const breach of kafka.breaches.splice(0)) faults.push(breach);
      },
      crash: () => {
        alive = false;
      },
    };
  };

  let life = await live();
  let appended = 0;
  for (let crash = 0; crash <= scenario.crashes; crash++) {
    const until = crash === scenario.crashes ? records.length : random(records.length);
    while (appended < until) {
      const count = Math.min(1 + random(60), until - appended);
      spool.append(records.slice(appended, appended + count));
      appended += count;
      await time.pass(random(200));
      life.check();
    }
    if (crash === scenario.crashes) break;
    if (random(4) === 0) {
      const stopped = life.forward.stop();
      await time.pass(1_000);
      await stopped;
    }
    life.crash();
    life = await live();
  }
  await time.pass(1_000 + random(3_000));
  life.check();
  healed = true;
  await time
    .passUntil(() => life.forward.progress() >= records.length || faults.length > 0, 120_000)
    .catch(() => {
      faults.push(`stuck at ${life.forward.progress()} of ${records.length}`);
    });
  life.check();
  const missing = missingBelow(records.length);
  if (missing) faults.push(`lost: ${missing}`);
  for (const [name, log] of logs) {
    if (name.startsWith('t.deadletters')) continue;
    const first = [...new Set((log as StoredRecord[]).map(({ offset }) => offset))];
    const wrong = first.findIndex((offset, i) => i > 0 && offset < first[i - 1]!);
    if (wrong > 0) faults.push(`${name}: ${first[wrong]} came after ${first[wrong - 1]}`);
  }
  life.crash();
  return faults;
}

describe('forward under random failures', function () {
  this.timeout(60_000);

  it('loses nothing, keeps the order, and is never ahead of Kafka', async () => {
    await fc.assert(
      fc.asyncProperty(scenarios, async (scenario) => {
        assert.deepEqual(await run(scenario), []);
      }),
      { numRuns: 80 },
    );
  });

  describe('notices', () => {
    /** Scenarios in which everything happens at once, one after the other until the bug shows. */
    async function caught(pattern: RegExp, sabotage?: (sender: Sender) => Sender): Promise<void> {
      for (let seed = 1; seed <= 60; seed++) {
        const scenario = { seed, records: 400, failing: 30, crashes: 2, poison: 1, blockedPartition: seed % 3 };
        const faults = await run(scenario, sabotage);
        if (faults.some((fault) => pattern.test(fault))) return;
      }
      assert.fail(`the planted bug was not noticed as ${pattern}`);
    }

    async function withBug<K extends 'floor' | 'removeFirst' | 'add' | 'park'>(
      method: K,
      bug: (original: Lane[K]) => Lane[K],
      pattern: RegExp,
    ): Promise<void> {
      const original = Lane.prototype[method];
      Lane.prototype[method] = bug(original) as never;
      try {
        await caught(pattern);
      } finally {
        Lane.prototype[method] = original;
      }
    }

    it('an acknowledgement of what was not stored', async () => {
      let count = 0;
      await caught(/ahead|lost/, (sender) => ({
        ...sender,
        send: (parts) => (++count % 17 === 0 ? Promise.resolve(done) : sender.send(parts)),
        close: () => sender.close(),
      }));
    });

    it('a batch that is sent back to front', async () => {
      await caught(/came after/, (sender) => ({
        send: (parts) => sender.send(parts.map((part) => ({ ...part, records: [...part.records].reverse() }))),
        close: () => sender.close(),
      }));
    });

    it('a tick that one partition does not get', async () => {
      await caught(/ahead|lost/, (sender) => ({
        send: (parts) => {
          const left = parts.map((part) => ({
            ...part,
            records: part.partition === 1 ? part.records.filter(({ kind }) => kind !== 'tick') : part.records,
          }));
          return sender.send(left);
        },
        close: () => sender.close(),
      }));
    });

    it('progress that does not wait for a parked partition', async () => {
      const bug = (original: Lane['floor']) =>
        function (this: Lane): number {
          const parkedFrom = this.parkedFrom;
          this.parkedFrom = null;
          const floor = original.call(this);
          this.parkedFrom = parkedFrom;
          return floor;
        };
      await withBug('floor', bug, /ahead/);
    });

    it('progress that does not wait for the request under way', async () => {
      const bug = () =>
        function (this: Lane): number {
          return Math.min(this.entries[this.inFlight]?.offset ?? Infinity, this.parkedFrom ?? Infinity);
        };
      await withBug('floor', bug, /ahead/);
    });

    it('a record too many taken for sent', async () => {
      const bug = (original: Lane['removeFirst']) =>
        function (this: Lane, count: number): Entry[] {
          return original.call(this, count + (this.entries.length > 12 ? 1 : 0));
        };
      await withBug('removeFirst', bug, /ahead|lost/);
    });

    it('a dead letter that is dropped when its partition is parked', async () => {
      const bug = (original: Lane['add']) =>
        function (this: Lane, entry: Entry, nowMs: number): void {
          original.call(this, entry.made && this.failing ? { ...entry, made: false } : entry, nowMs);
        };
      const original = Lane.prototype.add;
      Lane.prototype.add = bug(original);
      try {
        // Only dead letters are blocked, and many records are refused.
        for (let seed = 1; seed <= 40; seed++) {
          const deadLettersBlocked = (sender: Sender): Sender => ({
            send: (parts) => (blocked() && parts.some(toDeadLetters) ? later() : sender.send(parts)),
            close: () => sender.close(),
          });
          let sends = 0;
          const blocked = () => ++sends < 150;
          const toDeadLetters = (part: Part) => part.topic.name === 't.deadletters';
          const later = async () => unreachable;
          const scenario = { seed, records: 600, failing: 0, crashes: 0, poison: 90, blockedPartition: -1 };
          if ((await run(scenario, deadLettersBlocked)).some((fault) => /ahead|lost/.test(fault))) return;
        }
        assert.fail('the planted bug was not noticed');
      } finally {
        Lane.prototype.add = original;
      }
    });
  });
});

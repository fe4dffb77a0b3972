/**
 * The contract of src/log.ts as tests. Every implementation is run through them: `logContract('spool', open)`.
 *
 * Neutral about the implementation: any number of partitions, a key decides its partition, only the kind `reading` is
 * appended (an implementation may send other kinds elsewhere), stamps never go back, sizes stay far under a megabyte.
 * Holes between offsets are allowed, so nothing here counts offsets; it compares contents.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type {
  Assignment,
  Checkpoint,
  ConsumerHandlers,
  LogBatch,
  LogConsumer,
  LogReader,
  LogRecord,
  LogWriter,
  StoredRecord,
} from '../../src/log.ts';
import { until } from '../support/until.ts';

/** One log, empty when opened by the factory. */
export interface LogUnderTest {
  readonly writer: LogWriter;
  readonly reader: LogReader;
  /** Closes writer and reader and opens the same log again: the answer replaces this object. */
  reopen(): Promise<LogUnderTest>;
  /** Deletes some of the oldest records of the partition, at least one and never all. Absent where nothing can. */
  truncate?(partition: number): Promise<void>;
  /** Closes writer and reader and removes the log. */
  close(): Promise<void>;
}

export interface LogContractOptions {
  /** For one test; joining a real consumer group takes seconds. */
  readonly timeoutMs?: number;
}

/** `open` makes a new, empty log; it may skip the test through the context. */
export function logContract(
  name: string,
  open: (context: Mocha.Context) => Promise<LogUnderTest>,
  { timeoutMs = 20_000 }: LogContractOptions = {},
): void {
  describe(`${name} keeps the contract of a log`, function () {
    this.timeout(timeoutMs);
    const deadlineMs = timeoutMs * 0.8;
    let log: LogUnderTest;
    let consumers: LogConsumer[];

    beforeEach(async function () {
      consumers = [];
      log = await open(this);
    });

    afterEach(async () => {
      await Promise.all(consumers.map((consumer) => consumer.stop()));
      await log?.close();
    });

    async function consume(group: string, behaviour: Behaviour = {}): Promise<Seen> {
      const seen = new Seen();
      const consumer = await log.reader.consume(group, seen.handlers(behaviour));
      consumers.push(consumer);
      seen.consumer = consumer;
      return seen;
    }

    async function stop(seen: Seen): Promise<void> {
      consumers = consumers.filter((consumer) => consumer !== seen.consumer);
      await seen.consumer.stop();
    }

    async function append(records: readonly LogRecord[]): Promise<void> {
      const outcome = await log.writer.append(records);
      assert.ok(outcome.ok, outcome.ok ? '' : outcome.failure.message);
    }

    /** Appends and reads back, so that offsets are known. */
    async function appendAndRead(records: readonly LogRecord[], all = records.length): Promise<StoredRecord[]> {
      await append(records);
      const seen = await consume(uniqueGroup());
      await until(() => seen.records.length >= all, deadlineMs, 'every record was consumed');
      await stop(seen);
      return seen.records;
    }

    it('gives back every record whole, and those of one key in order', async () => {
      const records = manyRecords(2_000, 7);
      for (let i = 0; i < records.length; i += 500) await append(records.slice(i, i + 500));
      const seen = await consume(uniqueGroup());
      await until(() => seen.records.length >= records.length, deadlineMs, 'every record was consumed');
      assert.equal(seen.records.length, records.length);
      assert.deepEqual(byKey(seen.records), byKey(records));
      assert.deepEqual(seen.faults, []);
    });

    it('keeps the records of one key in one partition', async () => {
      await append(manyRecords(300, 9));
      const seen = await consume(uniqueGroup());
      await until(() => seen.records.length >= 300, deadlineMs, 'every record was consumed');
      const partitions = new Map<string, Set<number>>();
      for (const batch of seen.batches) {
        for (const { key } of batch.records) {
          partitions.set(key, (partitions.get(key) ?? new Set()).add(batch.partition));
        }
      }
      for (const [key, set] of partitions) assert.equal(set.size, 1, `key ${key} is in ${set.size} partitions`);
    });

    it('names every partition, without a checkpoint and before any batch, to a new group', async () => {
      await append(manyRecords(20, 5));
      const seen = await consume(uniqueGroup());
      await until(() => seen.records.length >= 20, deadlineMs, 'every record was consumed');
      assert.equal(seen.batchesBeforeAssignment, 0);
      const assigned = seen.assignments[0]!;
      assert.deepEqual(
        assigned.map((assignment) => assignment.partition).sort((a, b) => a - b),
        Array.from({ length: log.reader.partitions }, (_, partition) => partition),
      );
      for (const { checkpoint, firstOffset, endOffset } of assigned) {
        assert.equal(checkpoint, null);
        assert.ok(endOffset >= firstOffset);
      }
    });

    it('delivers what is appended while it is being consumed, and says when it has caught up', async () => {
      const seen = await consume(uniqueGroup());
      for (let round = 0; round < 3; round++) {
        const records = manyRecords(50, 3, round * 50);
        await append(records);
        await until(() => seen.records.length >= 50 * (round + 1), deadlineMs, `round ${round} was consumed`);
      }
      assert.equal(seen.records.length, 150);
      for (const batch of seen.lastBatches.values()) assert.ok(batch.nextOffset <= batch.endOffset);
      await until(
        () => [...seen.lastBatches.values()].every((batch) => batch.nextOffset === batch.endOffset),
        deadlineMs,
        'each last batch reaches the end',
      );
    });

    it('never delivers a batch of a partition while the one before it is being handled', async () => {
      await append(manyRecords(1_000, 4));
      const seen = await consume(uniqueGroup(), { batch: () => new Promise((resolve) => setTimeout(resolve, 2)) });
      for (let i = 0; i < 5; i++) await append(manyRecords(20, 4, 1_000 + i * 20));
      await until(() => seen.records.length >= 1_100, deadlineMs, 'every record was consumed');
      assert.deepEqual(seen.faults, []);
    });

    it('starts where the answer to the assignment says', async () => {
      const stored = await appendAndRead(manyRecords(200, 1));
      const from = stored[120]!.offset;
      const partition = await partitionOf(stored[0]!.key);
      const seen = await consume(uniqueGroup(), { startAt: new Map([[partition, from]]) });
      await until(() => seen.records.length >= 80, deadlineMs, 'the rest was consumed');
      assert.deepEqual(seen.records, stored.slice(120));
    });

    it('keeps offset and metadata of a commit over a reopen, for that group alone', async () => {
      const group = uniqueGroup();
      const other = uniqueGroup();
      const stored = await appendAndRead(manyRecords(40, 1));
      const partition = await partitionOf(stored[0]!.key);
      const checkpoint: Checkpoint = { offset: stored[15]!.offset, metadata: 'P=17 F=1700000000000 "näher" 水' };
      const first = await consume(group);
      await until(() => first.records.length >= 40, deadlineMs, 'every record was consumed');
      assertOk(await first.consumer.commit(partition, checkpoint));
      await stop(first);

      log = await log.reopen();
      assert.deepEqual(await log.reader.checkpoint(group, partition), { ok: true, value: checkpoint });
      assert.deepEqual(await log.reader.checkpoint(other, partition), { ok: true, value: null });
      const second = await consume(group);
      await until(() => second.assignments.length > 0, deadlineMs, 'partitions were assigned');
      const assignment = second.assignments[0]!.find((candidate) => candidate.partition === partition)!;
      assert.deepEqual(assignment.checkpoint, checkpoint);
      await until(() => second.records.length >= 25, deadlineMs, 'the rest was consumed');
      assert.deepEqual(second.records, stored.slice(15));
    });

    it('keeps the last commit, also one that goes back', async () => {
      const group = uniqueGroup();
      const stored = await appendAndRead(manyRecords(30, 1));
      const partition = await partitionOf(stored[0]!.key);
      const seen = await consume(group);
      await until(() => seen.records.length >= 30, deadlineMs, 'every record was consumed');
      for (const index of [5, 20, 10]) {
        const checkpoint = { offset: stored[index]!.offset, metadata: `at ${index}` };
        assertOk(await seen.consumer.commit(partition, checkpoint));
        assert.deepEqual(await log.reader.checkpoint(group, partition), { ok: true, value: checkpoint });
      }
    });

    it('goes on reading where it was after a commit of an older offset', async () => {
      const stored = await appendAndRead(manyRecords(30, 1));
      const partition = await partitionOf(stored[0]!.key);
      const seen = await consume(uniqueGroup());
      await until(() => seen.records.length >= 30, deadlineMs, 'every record was consumed');
      assertOk(await seen.consumer.commit(partition, { offset: stored[3]!.offset, metadata: '' }));
      await append(manyRecords(10, 1, 30));
      await until(() => seen.records.length >= 40, deadlineMs, 'the new records were consumed');
      assert.deepEqual(seen.records.slice(0, 30), stored);
      assert.equal(seen.records.length, 40);
    });

    it('stores metadata of 4,096 characters', async () => {
      const group = uniqueGroup();
      const stored = await appendAndRead(manyRecords(1, 1));
      const partition = await partitionOf(stored[0]!.key);
      const seen = await consume(group);
      await until(() => seen.records.length >= 1, deadlineMs, 'the record was consumed');
      const checkpoint = { offset: stored[0]!.offset, metadata: 'm'.repeat(4_096) };
      assertOk(await seen.consumer.commit(partition, checkpoint));
      assert.deepEqual(await log.reader.checkpoint(group, partition), { ok: true, value: checkpoint });
    });

    it('lets two groups read the same log on their own', async () => {
      const records = manyRecords(60, 3);
      const [one, two] = [await consume(uniqueGroup()), await consume(uniqueGroup())];
      await append(records);
      for (const seen of [one, two]) {
        await until(() => seen.records.length >= 60, deadlineMs, 'every record was consumed');
        assert.deepEqual(byKey(seen.records), byKey(records));
      }
    });

    it('counts a commit made while stopping, and delivers nothing afterwards', async () => {
      const group = uniqueGroup();
      const stored = await appendAndRead(manyRecords(10, 1));
      const partition = await partitionOf(stored[0]!.key);
      const checkpoint = { offset: stored[9]!.offset, metadata: 'the last word' };
      const seen: Seen = await consume(group, {
        stopping: async () => assertOk(await seen.consumer.commit(partition, checkpoint)),
      });
      await until(() => seen.records.length >= 10, deadlineMs, 'every record was consumed');
      await stop(seen);
      assert.equal(seen.stops, 1);
      await append(manyRecords(10, 1, 10));
      const later = await consume(group);
      await until(() => later.records.length >= 11, deadlineMs, 'the next consumer has read on');
      assert.equal(seen.records.length, 10);
      assert.deepEqual(later.assignments[0]!.find((a) => a.partition === partition)!.checkpoint, checkpoint);
    });

    it('lets the batch under way end before it calls stopping', async () => {
      await append(manyRecords(5, 1));
      const order: string[] = [];
      let release = (): void => {};
      const seen = await consume(uniqueGroup(), {
        batch: async () => {
          order.push('batch');
          await new Promise<void>((resolve) => {
            release = resolve;
          });
          order.push('batch ended');
        },
        stopping: async () => {
          order.push('stopping');
        },
      });
      await until(() => order.length === 1, deadlineMs, 'a batch is under way');
      const stopped = stop(seen);
      setTimeout(() => release(), 50);
      await stopped;
      assert.deepEqual(order, ['batch', 'batch ended', 'stopping']);
    });

    it('reports a throw of the batch handler as the end of the consumer', async () => {
      await append(manyRecords(5, 1));
      const seen = await consume(uniqueGroup(), {
        batch: async () => {
          throw new RangeError('a bug in the handler');
        },
      });
      await until(() => seen.ends.length > 0, deadlineMs, 'ended was called');
      assert.match(String(seen.ends[0]), /a bug in the handler/);
      assert.equal(seen.batches.length, 1);
    });

    it('reads any range of offsets, each record once and in order', async () => {
      const stored = await appendAndRead(manyRecords(500, 1));
      const partition = await partitionOf(stored[0]!.key);
      const end = stored[499]!.offset + 1;
      for (const [from, to] of [
        [0, 500],
        [100, 101],
        [250, 499],
        [30, 30],
      ] as const) {
        const toOffset = to === 500 ? end : stored[to]!.offset;
        assert.deepEqual(await readRange(partition, stored[from]!.offset, toOffset), stored.slice(from, to));
      }
      assert.deepEqual(await readRange(partition, end, end + 100), []);
    });

    it('ends a range at the end of the log as it was when the reading began', async () => {
      const stored = await appendAndRead(manyRecords(50, 1));
      const partition = await partitionOf(stored[0]!.key);
      assert.deepEqual(await readRange(partition, stored[10]!.offset, Number.MAX_SAFE_INTEGER), stored.slice(10));
    });

    it('leaves a range early without harm', async () => {
      const stored = await appendAndRead(manyRecords(50, 1));
      const partition = await partitionOf(stored[0]!.key);
      for await (const batch of log.reader.range(partition, stored[0]!.offset, stored[49]!.offset + 1)) {
        assert.deepEqual(plain(batch.records[0]!), stored[0]);
        break;
      }
      assert.equal((await readRange(partition, stored[40]!.offset, stored[49]!.offset)).length, 9);
    });

    it('finds the first record received at or after a time', async () => {
      const records = Array.from({ length: 100 }, (_, i) => ({
        ...manyRecords(1, 1, i)[0]!,
        receivedMs: START_MS + Math.floor(i / 4) * 1_000,
      }));
      const stored = await appendAndRead(records);
      const partition = await partitionOf(stored[0]!.key);
      const offsets = await log.reader.offsets(partition);
      assert.ok(offsets.ok);
      const cases: readonly (readonly [number, number])[] = [
        [START_MS - 5_000, stored[0]!.offset],
        [START_MS, stored[0]!.offset],
        [START_MS + 1, stored[4]!.offset],
        [START_MS + 10_000, stored[40]!.offset],
        [START_MS + 24_000, stored[96]!.offset],
        [START_MS + 24_001, offsets.value.endOffset],
      ];
      for (const [time, offset] of cases) {
        assert.deepEqual(await log.reader.offsetAtTime(partition, time), { ok: true, value: offset });
      }
    });

    it('tells first and end offset', async () => {
      const stored = await appendAndRead(manyRecords(10, 1));
      const partition = await partitionOf(stored[0]!.key);
      const offsets = await log.reader.offsets(partition);
      assert.ok(offsets.ok);
      assert.ok(offsets.value.firstOffset <= stored[0]!.offset);
      assert.ok(offsets.value.endOffset > stored[9]!.offset);
    });

    it('keeps every byte: an empty key, every byte value, UTF-8 names, a large record, a trace context', async () => {
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
      const large = new Uint8Array(600_000).map((_, i) => (i * 31) & 255);
      const base = { kind: 'reading', receivedMs: START_MS, stream: 'environment', topic: 'sensors/a/b' } as const;
      const records: LogRecord[] = [
        { ...base, key: '', value: bytes },
        { ...base, key: 'gerät-7/水', stream: 'température', topic: 'sensors/großer saal/🌡', value: bytes },
        { ...base, key: 'large', value: large },
        { ...base, key: 'no topic', stream: '', topic: '', value: Uint8Array.of(0) },
        { ...base, key: 'traced', trace: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', value: bytes },
      ];
      const stored = await appendAndRead(records);
      assert.deepEqual(byKey(stored), byKey(records));
    });

    it('accepts an append of nothing', async () => {
      assertOk(await log.writer.append([]));
    });

    it('goes on after a reopen with offsets that grow', async () => {
      const before = await appendAndRead(manyRecords(10, 1));
      log = await log.reopen();
      await append(manyRecords(10, 1, 10));
      const partition = await partitionOf(before[0]!.key);
      const all = await readRange(partition, before[0]!.offset, Number.MAX_SAFE_INTEGER);
      assert.deepEqual(all.slice(0, 10), before);
      assert.equal(all.length, 20);
      for (let i = 1; i < all.length; i++) assert.ok(all[i]!.offset > all[i - 1]!.offset);
    });

    it('shows in the assignment that the log was truncated under a checkpoint', async function () {
      if (!log.truncate) return this.skip();
      const group = uniqueGroup();
      for (let i = 0; i < 300; i += 100) await append(manyRecords(100, 1, i));
      const stored = await appendAndRead(manyRecords(100, 1, 300), 400);
      const partition = await partitionOf(stored[0]!.key);
      const first = await consume(group);
      await until(() => first.records.length >= 400, deadlineMs, 'every record was consumed');
      assertOk(await first.consumer.commit(partition, { offset: stored[0]!.offset, metadata: 'old' }));
      await stop(first);
      await log.truncate(partition);

      const seen = await consume(group);
      await until(() => seen.assignments.length > 0, deadlineMs, 'partitions were assigned');
      const { checkpoint, firstOffset } = seen.assignments[0]!.find((a) => a.partition === partition)!;
      assert.ok(checkpoint);
      assert.ok(firstOffset > checkpoint.offset, `first offset ${firstOffset} is past ${checkpoint.offset}`);
    });

    async function partitionOf(key: string): Promise<number> {
      for (let partition = 0; partition < log.reader.partitions; partition++) {
        const offsets = await log.reader.offsets(partition);
        assert.ok(offsets.ok);
        const { firstOffset, endOffset } = offsets.value;
        for await (const batch of log.reader.range(partition, firstOffset, endOffset)) {
          if (batch.records.some((record) => record.key === key)) return partition;
        }
      }
      throw new assert.AssertionError({ message: `no partition has the key "${key}"` });
    }

    async function readRange(partition: number, from: number, to: number): Promise<StoredRecord[]> {
      const records: StoredRecord[] = [];
      for await (const batch of log.reader.range(partition, from, to)) {
        assert.equal(batch.partition, partition);
        records.push(...batch.records.map(plain));
      }
      return records;
    }
  });
}

interface Behaviour {
  /** Overrides where a partition starts; the default is its checkpoint, else its first offset. */
  readonly startAt?: ReadonlyMap<number, number>;
  readonly batch?: (batch: LogBatch) => Promise<void>;
  readonly stopping?: () => Promise<void>;
}

/** What one consumer was given, and which rules of the interface were broken on the way. */
class Seen {
  readonly records: StoredRecord[] = [];
  readonly batches: LogBatch[] = [];
  readonly assignments: (readonly Assignment[])[] = [];
  readonly lastBatches = new Map<number, LogBatch>();
  readonly ends: unknown[] = [];
  readonly faults: string[] = [];
  batchesBeforeAssignment = 0;
  stops = 0;
  consumer!: LogConsumer;
  readonly #busy = new Set<number>();

  handlers(behaviour: Behaviour): ConsumerHandlers {
    return {
      assigned: async (assignments) => {
        this.assignments.push(assignments);
        return new Map(
          assignments.map(({ partition, checkpoint, firstOffset }) => [
            partition,
            behaviour.startAt?.get(partition) ?? checkpoint?.offset ?? firstOffset,
          ]),
        );
      },
      batch: async (batch) => {
        if (this.assignments.length === 0) this.batchesBeforeAssignment++;
        if (this.#busy.has(batch.partition)) this.faults.push(`two batches of partition ${batch.partition} at once`);
        this.#busy.add(batch.partition);
        const last = this.lastBatches.get(batch.partition);
        let next = last?.nextOffset ?? 0;
        for (const { offset } of batch.records) {
          if (offset < next) this.faults.push(`offset ${offset} came after ${next - 1}`);
          next = offset + 1;
        }
        if (batch.nextOffset < next) this.faults.push(`next offset ${batch.nextOffset} after ${next - 1}`);
        this.lastBatches.set(batch.partition, batch);
        this.batches.push(batch);
        this.records.push(...batch.records.map(plain));
        try {
          await behaviour.batch?.(batch);
        } finally {
          this.#busy.delete(batch.partition);
        }
      },
      stopping: async () => {
        this.stops++;
        await behaviour.stopping?.();
      },
      ended: (reason) => {
        this.ends.push(reason);
      },
    };
  }
}

const START_MS = 1_700_000_000_000;
const run = randomUUID();
let groups = 0;

function uniqueGroup(): string {
  groups++;
  return `group-${run}-${groups}`;
}

/** `count` records over `keys` keys; record i of all is the same whatever the count. */
function manyRecords(count: number, keys: number, start = 0): LogRecord[] {
  return Array.from({ length: count }, (_, index) => {
    const i = start + index;
    return {
      kind: 'reading',
      key: `device-${i % keys}`,
      receivedMs: START_MS + i,
      stream: 'environment',
      topic: `sensors/site/device-${i % keys}/environment`,
      value: new TextEncoder().encode(JSON.stringify({ number: i, text: 'x'.repeat(i % 90) })),
    };
  });
}

/** Values as plain arrays, so that a Buffer equals a Uint8Array. */
function plain(record: StoredRecord): StoredRecord {
  return { ...record, value: Uint8Array.from(record.value) };
}

function byKey(records: readonly LogRecord[]): Map<string, object[]> {
  const result = new Map<string, object[]>();
  for (const { kind, key, receivedMs, stream, topic, trace, value } of records) {
    const list = result.get(key) ?? [];
    list.push({ kind, receivedMs, stream, topic, trace, value: Buffer.from(value).toString('base64') });
    result.set(key, list);
  }
  return new Map([...result].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function assertOk(outcome: { readonly ok: boolean }): void {
  assert.deepEqual(outcome.ok, true, JSON.stringify(outcome));
}

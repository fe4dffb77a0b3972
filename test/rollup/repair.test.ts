import assert from 'node:assert/strict';
import { ManualClock } from '../../src/clock.ts';
import { done, fail, type Outcome, succeed } from '../../src/errors.ts';
import type { StoredRecord } from '../../src/log.ts';
import { Engine } from '../../src/rollup/engine.ts';
import { type Repair, startRepair } from '../../src/rollup/repair.ts';
import type { Row, RowQuery } from '../../src/row.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { MemoryLog } from '../support/memory-log.ts';
import { Random } from '../support/random.ts';
import { makeStream, readingRecord, tickRecord } from '../support/readings.ts';
import { rowKey } from '../support/simulation-oracle.ts';

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % 3_600_000);
const RULES = { graceMs: 2_000, disorderMs: 1_000, skewMs: 60_000 };
const STREAMS = { s: makeStream('s', { metrics: ['value'], windows: ['10s', '1m', '5m_1m'] }) };

interface Reading {
  readonly key: string;
  readonly timeMs: number;
  readonly values: { readonly value: number };
}

/** Some devices, one reading every few seconds. */
function readings(random: Random, seconds: number): Reading[] {
  const list: Reading[] = [];
  for (let second = 0; second < seconds; second += random.integer(1, 4)) {
    const key = `d${random.integer(1, 3)}`;
    list.push({ key, timeMs: START_MS + second * 1_000, values: { value: random.next() * 1e6 - 5e5 } });
  }
  return list;
}

/** A store that replaces as InfluxDB has to: it deletes, then it writes. */
class FragileStore {
  readonly rows = new Map<string, Row>();
  replaced = 0;
  /** Calls that end after the deletion. */
  failures = 0;
  /** What happens meanwhile, once. */
  meanwhile: (() => Promise<void>) | null = null;

  async replace(rows: readonly Row[]): Promise<Outcome<{ refused: never[] }>> {
    for (const row of rows) this.rows.delete(rowKey(row));
    const { meanwhile } = this;
    this.meanwhile = null;
    await meanwhile?.();
    if (this.failures > 0) {
      this.failures--;
      return fail('STORE_UNREACHABLE', 'gone between the deletion and the write', { retryable: true });
    }
    for (const row of rows) this.rows.set(rowKey(row), row);
    this.replaced += rows.length;
    return succeed({ refused: [] });
  }

  async *read(query: RowQuery): AsyncIterable<Row> {
    for (const row of this.rows.values()) {
      const fits = row.stream === query.stream && row.window === query.window && row.metric === query.metric;
      if (fits && row.startMs >= query.fromMs && row.startMs < query.toMs) {
        if (Object.entries(query.tags ?? {}).every(([name, value]) => row.tags[name] === value)) yield row;
      }
    }
  }
}

interface Bench {
  readonly log: MemoryLog;
  readonly late: MemoryLog;
  readonly store: FragileStore;
  readonly clock: ManualClock;
  lateReadings: number;
}

/** What a rollup leaves behind that read these records: rows in the store, late readings in the late log, its commit. */
function afterRollup(records: readonly StoredRecord[]): Bench {
  const engine = new Engine(
    { partition: 0, streams: STREAMS, ...RULES },
    { checkpoint: null, firstOffset: 0, endOffset: 0 },
  );
  for (const record of records) engine.process(record);
  const { rows, late, checkpoint } = engine.take();
  const store = new FragileStore();
  for (const row of rows) store.rows.set(rowKey(row), row);
  const log = new MemoryLog([records]);
  log.setCheckpoint(0, checkpoint!);
  const lateLog = new MemoryLog([late.map((record, offset) => ({ ...record, offset }))]);
  return { log, late: lateLog, store, clock: new ManualClock(), lateReadings: late.length };
}

const started: Repair[] = [];

async function start({ log, late, store, clock }: Bench): Promise<Repair> {
  const telemetry = silentTelemetry();
  const group = 'rollup';
  // The test looks when it wants to: no loop of its own within the test's time.
  const pace = { delayMs: 1_000, lookEveryMs: 3_600_000 };
  const repair = await startRepair({
    log,
    late,
    group,
    streams: STREAMS,
    config: RULES,
    store,
    telemetry,
    clock,
    ...pace,
  });
  started.push(repair);
  return repair;
}

/** Marks what the late log has, and lets the delay pass. */
async function mark(bench: Bench): Promise<void> {
  await bench.late.deliver();
  bench.clock.advance(2_000);
}

/** In order, each received as it was measured. */
function inOrder(list: readonly Reading[], endMs: number): StoredRecord[] {
  const records = list.map((reading, offset) => readingRecord(offset, reading));
  return [...records, tickRecord(records.length, endMs)];
}

/** In any order, many of them long after their windows; the stamps of the log only grow. */
function shuffled(random: Random, list: readonly Reading[], endMs: number): StoredRecord[] {
  const waits = list.map((reading) => ({
    reading,
    atMs: reading.timeMs + (random.chance(0.5) ? random.integer(0, 300_000) : 0),
  }));
  waits.sort((a, b) => a.atMs - b.atMs);
  const records = waits.map(({ reading, atMs }, offset) => readingRecord(offset, reading, atMs));
  return [...records, tickRecord(records.length, endMs)];
}

function contents(rows: Iterable<Row>): object[] {
  return [...rows].map(({ rev: _, ...row }) => row).sort((a, b) => (rowKey(a as Row) < rowKey(b as Row) ? -1 : 1));
}

function rowsInOrder(list: readonly Reading[], endMs: number): Row[] {
  return [...afterRollup(inOrder(list, endMs)).store.rows.values()];
}

describe('A repair', () => {
  afterEach(async () => {
    for (const repair of started.splice(0)) await repair.stop();
  });

  for (let seed = 1; seed <= 20; seed++) {
    it(`gives what was published shuffled and late the rows of the run in order (seed ${seed})`, async () => {
      const random = new Random(seed);
      const list = readings(random, 900);
      const endMs = START_MS + 3_600_000;
      const bench = afterRollup(shuffled(random, list, endMs));
      assert.ok(bench.lateReadings > 20, 'readings were late');
      const expected = contents(rowsInOrder(list, endMs));
      assert.notDeepEqual(contents(bench.store.rows.values()), expected, 'rows were incomplete before');
      const repair = await start(bench);
      await mark(bench);
      await repair.look();
      assert.deepEqual(contents(bench.store.rows.values()), expected);
      assert.equal(repair.marked(), 0);
      await repair.stop();
    });
  }

  it('counts a revision once, and leaves rows alone that are right', async () => {
    const random = new Random(7);
    const bench = afterRollup(shuffled(random, readings(random, 300), START_MS + 3_600_000));
    const repair = await start(bench);
    await mark(bench);
    await repair.look();
    await repair.stop();
    const { replaced } = bench.store;
    const before = new Map(bench.store.rows);
    assert.ok([...before.values()].some((row) => row.rev === 1));
    assert.ok([...before.values()].every((row) => row.rev <= 1));
    // The late log is read again from its beginning, as after a crash before the commit.
    bench.late.setCheckpoint(0, { offset: 0, metadata: '' });
    const again = await start(bench);
    await mark(bench);
    await again.look();
    await again.stop();
    assert.equal(bench.store.replaced, replaced);
    assert.deepEqual(bench.store.rows, before);
  });

  it('finishes a repair that was cut off between the deletion and the write, with the right revision', async () => {
    const random = new Random(11);
    const list = readings(random, 300);
    const endMs = START_MS + 3_600_000;
    const bench = afterRollup(shuffled(random, list, endMs));
    for (const [key, row] of bench.store.rows) bench.store.rows.set(key, { ...row, rev: 4 });
    bench.store.failures = 1;
    const repair = await start(bench);
    await mark(bench);
    const size = bench.store.rows.size;
    await repair.look();
    assert.ok(bench.store.rows.size < size, 'rows were deleted and not written');
    // kill -9: nothing more is committed. A new process reads the late log from the last commit.
    bench.late.loseGeneration();
    const again = await start(bench);
    await mark(bench);
    await again.look();
    assert.deepEqual(contents(bench.store.rows.values()), contents(rowsInOrder(list, endMs)));
    const revisions = new Set([...bench.store.rows.values()].map((row) => row.rev));
    assert.ok(revisions.has(5), 'repaired rows have one revision more');
    await again.stop();
  });

  it('waits until a window is closed and durable, and commits so that a restart waits for it too', async () => {
    const late = { key: 'd1', timeMs: START_MS + 1_000, values: { value: 1 } };
    const records = [
      readingRecord(0, { key: 'd1', timeMs: START_MS, values: { value: 2 } }),
      readingRecord(1, { key: 'd1', timeMs: START_MS + 30_000, values: { value: 3 } }),
      readingRecord(2, late, START_MS + 30_001),
    ];
    const bench = afterRollup(records);
    assert.equal(bench.lateReadings, 1);
    const repair = await start(bench);
    await mark(bench);
    await repair.look();
    assert.equal([...bench.store.rows.values()].filter((row) => row.rev > 0).length, 1, 'the pane is repaired');
    assert.equal(repair.marked(), 6, 'the minute and the five-minute windows are still open');
    assert.equal(bench.late.commits.at(-1)?.checkpoint.offset ?? 0, 0, 'the late reading is still needed');
    await repair.stop();
  });

  for (const fails of [false, true]) {
    it(`repairs again what late readings hit while it was being repaired${fails ? ', also when that repair failed' : ''}`, async () => {
      const random = new Random(13);
      const list = readings(random, 300);
      const endMs = START_MS + 3_600_000;
      const bench = afterRollup(shuffled(random, list, endMs));
      const [all] = bench.late.records as [StoredRecord[]];
      const last = all.splice(-10);
      const repair = await start(bench);
      await mark(bench);
      let delivered = 0;
      bench.store.meanwhile = async () => {
        all.push(...last);
        await bench.late.deliver();
        delivered = last.length;
      };
      bench.store.failures = fails ? 1 : 0;
      await repair.look();
      assert.equal(delivered, 10, 'they came in the middle');
      assert.ok(repair.marked() > 0, 'their windows are marked');
      assert.ok((bench.late.commits.at(-1)?.checkpoint.offset ?? 0) <= last[0]!.offset, 'a restart reads them again');
      bench.clock.advance(2_000);
      await repair.look();
      assert.deepEqual(contents(bench.store.rows.values()), contents(rowsInOrder(list, endMs)));
      assert.equal(repair.marked(), 0);
    });
  }

  it('does not repair before the delay, so that a burst of late readings costs one repair', async () => {
    const random = new Random(3);
    const bench = afterRollup(shuffled(random, readings(random, 300), START_MS + 3_600_000));
    const repair = await start(bench);
    await bench.late.deliver();
    await repair.look();
    assert.equal(bench.store.replaced, 0);
    bench.clock.advance(2_000);
    await repair.look();
    assert.ok(bench.store.replaced > 0);
    await repair.stop();
  });

  it('tries again when the commit before a replacement fails, without touching the row', async () => {
    const random = new Random(5);
    const list = readings(random, 200);
    const bench = afterRollup(shuffled(random, list, START_MS + 3_600_000));
    const before = new Map(bench.store.rows);
    bench.late.onCommit = () => fail('KAFKA_UNREACHABLE', 'away', { retryable: true });
    const repair = await start(bench);
    await mark(bench);
    await repair.look();
    assert.deepEqual(bench.store.rows, before);
    bench.late.onCommit = () => done;
    await repair.look();
    assert.deepEqual(contents(bench.store.rows.values()), contents(rowsInOrder(list, START_MS + 3_600_000)));
    await repair.stop();
  });
});

import assert from 'node:assert/strict';
import { ManualClock } from '../../src/clock.ts';
import type { RollupConfig } from '../../src/config.ts';
import { done, fail, type Outcome, succeed } from '../../src/errors.ts';
import type { StoredRecord } from '../../src/log.ts';
import { decodeCheckpoint, MAX_STREAMS } from '../../src/rollup/checkpoint.ts';
import { decodeLate } from '../../src/rollup/late.ts';
import { MAX_WAITING_ROWS, type RefusedRow } from '../../src/rollup/partition.ts';
import { type Rollup, type RollupOptions, startRollup } from '../../src/rollup/run.ts';
import type { Row, RunningQuery } from '../../src/row.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { MemoryLog } from '../support/memory-log.ts';
import { makeStream, readingRecord, tickRecord } from '../support/readings.ts';
import { until } from '../support/until.ts';

const T = 1_700_002_800_000;
const away = fail('STORE_UNREACHABLE', 'away', { retryable: true });

const config: RollupConfig = {
  graceMs: 15_000,
  disorderMs: 2_000,
  stages: 1,
  tickMs: 5_000,
  skewMs: 60_000,
  repair: 'off',
  repairDelayMs: 60_000,
  maxSeries: 100,
  flushMs: 2,
  liveMs: 2,
};

/** Readings of one device at T, T + 10 s, ...; every third one is followed by one that is late. Ends with a tick. */
function records(count: number, key = 'd'): StoredRecord[] {
  const list: StoredRecord[] = [];
  for (let i = 0; i < count; i++) {
    const timeMs = T + i * 10_000;
    list.push(readingRecord(list.length, { timeMs, key, values: { value: i } }));
    if (i % 3 === 2)
      list.push(readingRecord(list.length, { timeMs: timeMs - 60_000, key, values: { value: i } }, timeMs));
  }
  list.push(tickRecord(list.length, T + count * 10_000 + 60_000));
  return list;
}

class Bench {
  readonly log: MemoryLog;
  readonly telemetry = silentTelemetry();
  readonly rows: Row[] = [];
  readonly late: number[] = [];
  readonly refused: RefusedRow[] = [];
  readonly closed: Row[] = [];
  /** What was done, in order. */
  readonly steps: string[] = [];
  ended: unknown;
  onWrite: (
    rows: readonly Row[],
  ) => Outcome<{ refused: readonly RefusedRow[] }> | Promise<Outcome<{ refused: readonly RefusedRow[] }>> = () =>
    succeed({ refused: [] });
  onLate: () => Outcome = () => done;

  constructor(...partitions: StoredRecord[][]) {
    this.log = new MemoryLog(partitions);
  }

  async start(overrides: Partial<RollupOptions> = {}): Promise<Rollup> {
    const { log } = this;
    const started = await startRollup({
      reader: log,
      group: 'rollup',
      streams: { s: makeStream('s') },
      config,
      store: {
        write: async (rows) => {
          this.steps.push('write');
          const outcome = await this.onWrite(rows);
          if (outcome.ok) this.rows.push(...rows);
          return outcome;
        },
      },
      appendLate: async (_partition, list) => {
        this.steps.push('late');
        const outcome = this.onLate();
        if (outcome.ok) this.late.push(...list.map((record) => decodeLate(record.value)!.offset));
        return outcome;
      },
      deadLetter: async (list) => {
        this.steps.push('dead letters');
        this.refused.push(...list);
        return done;
      },
      onClosed: (rows) => this.closed.push(...rows),
      onEnded: (reason) => {
        this.ended = reason;
      },
      telemetry: this.telemetry,
      clock: new ManualClock(T),
      ...overrides,
    });
    assert.ok(started.ok);
    const commit = log.onCommit;
    log.onCommit = (partition) => {
      this.steps.push('commit');
      return commit(partition);
    };
    return started.value;
  }

  /** The frontier of the last commit. */
  frontier(partition = 0): number | undefined {
    const last = this.log.commits.findLast((commit) => commit.partition === partition);
    return last && decodeCheckpoint(last.checkpoint)!.frontierMs;
  }

  async metric(name: string): Promise<string> {
    const text = await this.telemetry.registry.getSingleMetricAsString(name);
    return text
      .split('\n')
      .filter((line) => !line.startsWith('#') && line !== '')
      .join(' ');
  }
}

describe('the running rollup', () => {
  let rollup: Rollup | null = null;
  afterEach(async () => {
    await rollup?.stop();
    rollup = null;
  });

  it('makes rows durable, then late readings, and commits last', async () => {
    const bench = new Bench(records(6));
    rollup = await bench.start();
    await bench.log.deliver();
    await until(() => bench.log.commits.length > 0);
    assert.deepEqual(bench.steps, ['write', 'late', 'commit']);
    assert.equal(bench.rows.length, 7, 'six panes and a minute');
    assert.deepEqual(bench.closed, bench.rows);
    assert.deepEqual(bench.late, [3, 7]);
    assert.equal(bench.frontier(), T + 103_000);
    assert.equal(rollup.status()[0]!.durableToMs, T + 103_000);
  });

  it('tries a store that is away again until it works, and commits nothing before', async () => {
    const bench = new Bench(records(6));
    let failures = 0;
    bench.onWrite = () => (failures++ < 3 ? away : succeed({ refused: [] }));
    rollup = await bench.start({ pause: async () => true && (await new Promise((r) => setTimeout(r, 1, true))) });
    await bench.log.deliver();
    await until(() => bench.log.commits.length > 0);
    assert.deepEqual(bench.steps, ['write', 'write', 'write', 'write', 'late', 'commit']);
  });

  it('commits only when what the rows raise is durable, and asks again with the same rows until it is', async () => {
    const bench = new Bench(records(6));
    const asked: (readonly Row[])[] = [];
    const alert = async (rows: readonly Row[]) => {
      asked.push(rows);
      bench.steps.push('alert');
      return asked.length < 3 ? away : done;
    };
    rollup = await bench.start({ alert });
    await bench.log.deliver();
    await until(() => bench.log.commits.length > 0);
    assert.deepEqual(bench.steps, ['write', 'alert', 'alert', 'alert', 'late', 'commit']);
    assert.equal(new Set(asked).size, 1);
  });

  it('puts what is late into the partition of the late log that has the number of its own', async () => {
    const bench = new Bench(records(3), records(3));
    const placed: [number, number][] = [];
    const appendLate: RollupOptions['appendLate'] = async (partition, list) => {
      for (const { value } of list) placed.push([partition, decodeLate(value)!.partition]);
      return done;
    };
    rollup = await bench.start({ appendLate });
    for (const partition of [0, 1]) await bench.log.deliver(partition);
    await until(() => bench.log.commits.length > 1);
    assert.deepEqual(placed.sort(), [
      [0, 0],
      [1, 1],
    ]);
  });

  it('waits for the late log in the same way, with the rows already durable', async () => {
    const bench = new Bench(records(6));
    let failures = 0;
    bench.onLate = () => (failures++ < 2 ? away : done);
    rollup = await bench.start();
    await bench.log.deliver();
    await until(() => bench.log.commits.length > 0);
    assert.deepEqual(bench.steps, ['write', 'late', 'late', 'late', 'commit']);
  });

  it('keeps rows that the store refuses as dead letters with the reason, and goes on', async () => {
    const bench = new Bench(records(6));
    bench.onWrite = (rows) =>
      succeed({ refused: rows.filter((row) => row.sum === 2).map((row) => ({ row, reason: 'two' })) });
    rollup = await bench.start();
    await bench.log.deliver();
    await until(() => bench.log.commits.length > 0);
    assert.deepEqual(bench.steps, ['write', 'dead letters', 'late', 'commit']);
    assert.deepEqual(
      bench.refused.map(({ row, reason }) => [row.sum, reason]),
      [[2, 'two']],
    );
  });

  it('lets the other partitions go on while one waits, and shows what it waits for', async () => {
    const bench = new Bench(records(6, 'stuck'), records(6, 'fine'));
    bench.onWrite = (rows) => (rows[0]!.tags.device === 'stuck' ? away : succeed({ refused: [] }));
    rollup = await bench.start();
    await bench.log.deliver(0);
    await bench.log.deliver(1);
    await until(() => bench.frontier(1) === T + 103_000 && rollup!.status()[0]!.waiting !== null);
    const [stuck, fine] = rollup.status();
    assert.equal(stuck!.waiting!.for, 'store');
    assert.equal(stuck!.waiting!.failure!.code, 'STORE_UNREACHABLE');
    assert.equal(stuck!.durableToMs, null);
    assert.equal(fine!.waiting, null);
    bench.onWrite = () => succeed({ refused: [] });
    await until(() => bench.frontier(0) === T + 103_000);
    assert.equal(rollup.status()[0]!.waiting, null);
  });

  it('says what its log says of itself', async () => {
    const bench = new Bench();
    bench.log.trouble = { code: 'KAFKA_BATCH_UNREADABLE', message: 'a batch in snappy', retryable: false };
    rollup = await bench.start();
    assert.equal(rollup!.trouble()?.code, 'KAFKA_BATCH_UNREADABLE');
  });

  it('says how many rows wait for the store against their limit, those that a write has under way too', async () => {
    const bench = new Bench(records(6));
    bench.onWrite = () => away;
    rollup = await bench.start();
    const waiting = () => bench.metric('millrace_waiting_rows');
    await bench.log.deliver();
    await until(async () => (await waiting()).endsWith(' 7'));
    const limit = await bench.metric('millrace_waiting_rows_limit');
    assert.equal(limit, `millrace_waiting_rows_limit{stage="only",partition="0"} ${MAX_WAITING_ROWS}`);
    bench.onWrite = () => succeed({ refused: [] });
    await until(async () => (await waiting()).endsWith(' 0'));
    bench.log.loseGeneration();
    await bench.log.assign([]);
    assert.equal(await waiting(), '', 'of a partition that is another process’s now, nothing');
  });

  it('gives up what it holds when the partition is taken away, commits none of it, and starts from the last commit', async () => {
    const bench = new Bench(records(6));
    bench.onWrite = () => away;
    rollup = await bench.start();
    await bench.log.deliver();
    await until(() => rollup!.status()[0]!.waiting !== null);
    bench.log.loseGeneration();
    bench.onWrite = () => succeed({ refused: [] });
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(bench.log.commits.length, 0);
    assert.equal(bench.rows.length, 0);
    await bench.log.assign();
    await bench.log.deliver();
    await until(() => bench.frontier() === T + 103_000);
    assert.equal(bench.rows.length, 7);
    assert.deepEqual(bench.late, [3, 7]);
  });

  it('throws its state away when a commit says that the generation is over', async () => {
    const bench = new Bench(records(6));
    bench.log.onCommit = () => fail('KAFKA_GENERATION_LOST', 'over');
    rollup = await bench.start();
    await bench.log.deliver(0, 3);
    await until(() => bench.steps.includes('commit'));
    const { length } = bench.steps;
    await bench.log.deliver();
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.equal(bench.steps.length, length, 'nothing is done for it any more');
  });

  it('commits again when a commit did not go through', async () => {
    const bench = new Bench(records(6));
    let failures = 0;
    bench.log.onCommit = () => (failures++ < 2 ? away : done);
    rollup = await bench.start();
    await bench.log.deliver();
    await until(() => bench.log.commits.length === 1);
    assert.deepEqual(bench.steps, ['write', 'late', 'commit', 'commit', 'commit']);
    assert.equal(bench.frontier(), T + 103_000);
  });

  it('flushes before it stops', async () => {
    const bench = new Bench(records(6));
    const started = await bench.start({ config: { ...config, flushMs: 3_600_000 } });
    await bench.log.deliver();
    assert.deepEqual(bench.steps, []);
    await started.stop();
    assert.deepEqual(bench.steps, ['write', 'late', 'commit']);
  });

  it('stops although the store is away, in bounded time, and commits nothing', async () => {
    const bench = new Bench(records(6));
    bench.onWrite = () => away;
    // Time that passes as soon as somebody waits for it.
    const started = await bench.start({
      pause: (_ms, signal) => new Promise((r) => setTimeout(r, 5, !signal?.aborted)),
    });
    await bench.log.deliver();
    await started.stop();
    assert.equal(bench.log.commits.length, 0);
  });

  it('does not take a hole between offsets for a loss', async () => {
    const list = records(6).map((record) => ({ ...record, offset: record.offset * 3 }));
    const bench = new Bench(list);
    rollup = await bench.start();
    for (let i = 0; i < list.length; i++) await bench.log.deliver(0, 1);
    await until(() => bench.frontier() === T + 103_000);
    assert.equal(bench.rows.length, 7);
  });

  it('leaves out what it cannot know when the log loses records that it had not read', async () => {
    const list = records(40);
    const bench = new Bench(list);
    rollup = await bench.start();
    await bench.log.deliver(0, 4);
    const lost = list.findIndex((record) => record.receivedMs >= T + 100_000);
    bench.log.records[0] = list.slice(lost);
    bench.log.firstOffsets[0] = list[lost]!.offset;
    await bench.log.deliver();
    await until(() => bench.frontier() === T + 443_000);
    const starts = bench.rows.filter((row) => row.window === '10s').map((row) => (row.startMs - T) / 1_000);
    // Received so far: T + 20 s. First after the loss: T + 100 s; with grace, disorder and skew: T + 177 s.
    assert.deepEqual(
      starts,
      Array.from({ length: 22 }, (_, i) => 180 + i * 10),
    );
  });

  it('shows running values of open windows', async () => {
    const bench = new Bench(records(6).slice(0, 2));
    rollup = await bench.start();
    await bench.log.deliver();
    const running = (query: Partial<RunningQuery>) =>
      rollup!.running({ stream: 's', limit: 100, ...query }).map((row) => `${row.window} ${row.count} ${row.sum}`);
    assert.deepEqual(running({}), ['10s 1 1', '10s 1 0', '1m 2 1']);
    assert.deepEqual(running({ window: '1m' }), ['1m 2 1']);
    assert.deepEqual(running({ limit: 2 }), ['10s 1 1', '10s 1 0']);
    assert.deepEqual(running({ stream: 'another' }), []);
    assert.equal(bench.rows.length, 0);
  });

  it('waits before it opens more series than allowed, without losing one, and goes on when others have closed', async () => {
    const many = Array.from({ length: 8 }, (_, i) =>
      readingRecord(i, { timeMs: T, key: `d${i}`, values: { value: i } }),
    );
    const one = [readingRecord(0, { timeMs: T, key: 'other', values: { value: 1 } }), tickRecord(1, T + 500_000)];
    const bench = new Bench(many, one);
    rollup = await bench.start({ config: { ...config, maxSeries: 8 } });
    await bench.log.deliver(1, 1);
    const delivery = bench.log.deliver(0);
    await until(() => rollup!.status()[0]!.waiting?.for === 'room for new series');
    assert.equal(rollup.status()[0]!.engine.position, 7);
    await until(async () => (await bench.metric('millrace_open_series')).includes('{partition="0"} 7'));
    // What /readyz and the page say of the rollup.
    assert.equal(rollup.status()[0]!.waiting?.failure?.code, 'ROLLUP_FULL');
    await bench.log.deliver(1);
    await delivery;
    assert.equal(rollup.status()[0]!.engine.position, 8);
    assert.match(await bench.metric('millrace_limit_reached_total'), /rollup-series"\} [1-9]/);
  });

  it('counts each reading once, a replay included', async () => {
    const bench = new Bench(records(6));
    rollup = await bench.start();
    await bench.log.deliver(0, 5);
    await until(() => bench.log.commits.length > 0);
    await bench.log.assign();
    await bench.log.deliver();
    await until(() => bench.frontier() === T + 103_000);
    await rollup.stop();
    assert.match(await bench.metric('millrace_counted_total'), /\{stream="s"\} 6$/);
    assert.match(await bench.metric('millrace_late_total'), /kind="late"\} 2( |$)/);
    assert.match(await bench.metric('millrace_windows_closed_total'), /"10s"\} 6 .*"1m"\} 1$/);
    assert.match(await bench.metric('millrace_lag_records'), /\} 0$/);
    assert.match(await bench.metric('millrace_frontier_seconds'), new RegExp(`\\} ${(T + 103_000) / 1_000}$`));
  });

  it('says when the consumer has died', async () => {
    const bench = new Bench(records(1));
    rollup = await bench.start();
    bench.log.end('the reason');
    assert.equal(bench.ended, 'the reason');
  });

  it('refuses more streams than a commit can name', async () => {
    const streams = Object.fromEntries(
      Array.from({ length: MAX_STREAMS + 1 }, (_, i) => [`s${i}`, makeStream(`s${i}`)]),
    );
    const options = { streams, reader: new MemoryLog([]) } as unknown as RollupOptions;
    const started = await startRollup(options);
    assert.equal(started.ok, false);
  });
});

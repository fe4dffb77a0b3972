import assert from 'node:assert/strict';
import type { StoredRecord } from '../../src/log.ts';
import { Engine } from '../../src/rollup/engine.ts';
import { lateRecord } from '../../src/rollup/late.ts';
import { recompute } from '../../src/rollup/recompute.ts';
import { type Difference, type VerifyOptions, type VerifyReport, verify } from '../../src/rollup/verify.ts';
import type { Row, RowQuery } from '../../src/row.ts';
import { MemoryLog } from '../support/memory-log.ts';
import { type Rules, rowKey, type Truth, truthOf } from '../support/simulation-oracle.ts';
import { makeWorkload, type Workload } from '../support/simulation-workload.ts';

/** A store that holds what it is given, ascending by start as a real one. */
class Rows {
  readonly byKey = new Map<string, Row>();

  constructor(rows: Iterable<Row>) {
    for (const row of rows) this.byKey.set(rowKey(row), row);
  }

  async *read({ stream, window, fromMs, toMs }: RowQuery): AsyncIterable<Row> {
    const rows = [...this.byKey.values()].filter((row) => row.stream === stream && row.window === window);
    rows.sort((a, b) => a.startMs - b.startMs);
    for (const row of rows) if (row.startMs >= fromMs && row.startMs < toMs) yield row;
  }

  /** The nth row of the stream with metrics that has at least two readings. */
  nth(n: number): Row {
    return [...this.byKey.values()].filter((row) => row.metric !== '' && row.count > 1)[n]!;
  }

  change(row: Row, changes: Partial<Row>): void {
    this.byKey.set(rowKey(row), { ...row, ...changes });
  }
}

interface Installation {
  readonly workload: Workload;
  readonly log: MemoryLog;
  readonly late: MemoryLog;
  readonly rows: Rows;
}

/** What a rollup leaves behind that has read its whole log: but the rows come from the oracle, not from the engine. */
const truths = new Map<string, Truth>();

function truth(seed: number, partition: number, records: readonly StoredRecord[], rules: Rules): Truth {
  const key = `${seed} ${partition} ${records.length} ${rules.graceMs}`;
  const known = truths.get(key) ?? truthOf(records, rules);
  truths.set(key, known);
  return known;
}

function installation(seed: number, until = Number.POSITIVE_INFINITY): Installation {
  const workload = makeWorkload(seed, { shape: 'torn' });
  const partitions = workload.partitions.map((records) => records.slice(0, until));
  const log = new MemoryLog(partitions);
  const late: StoredRecord[] = [];
  const rows: Row[] = [];
  for (const [partition, records] of partitions.entries()) {
    const { rows: trueRows, late: lateOnes } = truth(seed, partition, records, workload);
    const engine = new Engine({ partition, ...workload }, { checkpoint: null, firstOffset: 0, endOffset: 0 });
    for (const record of records) engine.process(record);
    log.setCheckpoint(partition, engine.take().checkpoint!);
    for (const row of trueRows.values()) if (row.endMs <= engine.frontierMs) rows.push(row);
    for (const { offset, reason } of lateOnes) {
      const record = records.find((candidate) => candidate.offset === offset)!;
      const copy = { ...lateRecord(record, reason, partition), offset: late.length };
      // A crash has written some of them twice.
      late.push(copy, ...(late.length % 5 === 0 ? [{ ...copy, offset: late.length + 1 }] : []));
    }
  }
  return {
    workload,
    log,
    late: new MemoryLog([late.map((record, offset) => ({ ...record, offset }))]),
    rows: new Rows(rows),
  };
}

async function check(at: Installation, options: Partial<VerifyOptions> = {}): Promise<VerifyReport> {
  const outcome = await verify({
    reader: at.log,
    lateReader: at.late,
    group: 'rollup',
    streams: at.workload.streams,
    config: at.workload,
    readRows: (query) => at.rows.read(query),
    fromMs: 0,
    toMs: Number.MAX_SAFE_INTEGER,
    ...options,
  });
  assert.ok(outcome.ok, outcome.ok ? '' : outcome.failure.message);
  return outcome.value;
}

function name(difference: Difference): string {
  return `${difference.kind} ${rowKey((difference.stored ?? difference.expected)!)} ${difference.fields.join(',')}`;
}

describe('verify', () => {
  it('finds nothing when every row is true', async () => {
    const at = installation(1);
    const heard: number[] = [];
    const report = await check(at, { onProgress: ({ recordsRead }) => heard.push(recordsRead) });
    const { rowsCompared, differences, pending, open, outOfReach, completeAfterMs } = report;
    assert.deepEqual(
      { rowsCompared, differences, pending, open, outOfReach, completeAfterMs },
      { rowsCompared: at.rows.byKey.size, differences: 0, pending: 0, open: 0, outOfReach: 0, completeAfterMs: null },
    );
    assert.ok(rowsCompared > 200);
    assert.equal(heard.at(-1), report.recordsRead);
  });

  for (const [field, change] of [
    ['sum', (row: Row) => ({ sum: row.sum! + Number.EPSILON * Math.abs(row.sum!) })],
    ['count', (row: Row) => ({ count: row.count + 1 })],
    ['missing', (row: Row) => ({ missing: row.missing + 1 })],
    ['p99', (row: Row) => ({ p99: row.p99! * 1.01 + 1 })],
  ] as const) {
    it(`finds and names the one row in which ${field} was changed`, async () => {
      const at = installation(1);
      const row = at.rows.nth(17);
      at.rows.change(row, change(row));
      const found: Difference[] = [];
      const report = await check(at, { onDifference: (difference) => found.push(difference) });
      assert.deepEqual(found.map(name), [`different ${rowKey(row)} ${field}`]);
      assert.deepEqual(report.firstDifferences, found);
      assert.deepEqual(found[0]!.expected, row);
    });
  }

  it('finds a row that is missing and one that must not exist', async () => {
    const at = installation(1);
    const lost = at.rows.nth(5);
    at.rows.byKey.delete(rowKey(lost));
    const foreign = { ...at.rows.nth(9), tags: { device: 'nobody' } };
    at.rows.change(foreign, {});
    const report = await check(at);
    assert.deepEqual(report.firstDifferences.map(name).sort(), [
      `extra ${rowKey(foreign)} `,
      `missing ${rowKey(lost)} `,
    ]);
  });

  it('misses the rows of a series in a second partition, because the store can hold those of one only', async () => {
    const at = installation(1);
    const [records = []] = at.workload.partitions;
    const rows = new Rows(truth(1, 0, records, at.workload).rows.values());
    const twice = { ...at, log: new MemoryLog([records, records]), rows };
    const found: Difference[] = [];
    const { rowsCompared, open } = await check(twice, { group: null, onDifference: (each) => found.push(each) });
    assert.deepEqual([rowsCompared, open], [rows.byKey.size, 0]);
    const expected = [...rows.byKey.values()].map((row) => `missing ${rowKey(row)} `);
    assert.deepEqual(found.map(name).sort(), expected.sort());
  });

  it('looks only at the range and the stream that it is asked about', async () => {
    const at = installation(1);
    const rows = [...at.rows.byKey.values()];
    const starts = rows.map((row) => row.startMs).sort((a, b) => a - b);
    const fromMs = starts[Math.floor(starts.length / 3)]! + 1;
    const toMs = starts[Math.floor((2 * starts.length) / 3)]!;
    const inside = (row: Row) => row.stream === 's' && row.startMs >= fromMs && row.startMs < toMs;
    for (const row of rows) if (!inside(row)) at.rows.byKey.delete(rowKey(row));
    const report = await check(at, { fromMs, toMs, stream: 's' });
    assert.equal(report.differences, 0);
    assert.equal(report.rowsCompared, rows.filter(inside).length);
    assert.ok(report.rowsCompared > 50);
  });

  it('does not miss what the rollup has not committed yet, nor what is not closed', async () => {
    const at = installation(5, 250);
    const engine = new Engine({ partition: 0, ...at.workload }, { checkpoint: null, firstOffset: 0, endOffset: 0 });
    for (const record of at.log.records[0]!.slice(0, 150)) engine.process(record);
    at.log.setCheckpoint(0, engine.take().checkpoint!);
    const { rows } = truth(5, 0, at.log.records[0]!, at.workload);
    let removed = 0;
    for (const [key, row] of rows) {
      if (row.endMs > engine.frontierMs && at.rows.byKey.delete(key)) removed++;
    }
    const report = await check(at);
    assert.equal(report.differences, 0);
    assert.ok(report.pending > 0 && report.pending <= removed);
    assert.ok(report.rowsCompared > 0);
  });

  it('says what is out of reach when the log lost its beginning, and takes none of it for a difference', async () => {
    const at = installation(1);
    const index = Math.floor(at.log.records[0]!.length / 3);
    at.log.firstOffsets[0] = at.log.records[0]![index]!.offset;
    const planted = [...at.rows.byKey.values()].findLast((row) => row.metric === 'a')!;
    at.rows.change(planted, { max: 1e9 });
    const report = await check(at);
    assert.deepEqual(report.firstDifferences.map(name), [`different ${rowKey(planted)} max`]);
    assert.ok(report.outOfReach > 20);
    assert.ok(report.completeAfterMs! > at.log.records[0]![index]!.receivedMs);
    assert.ok(report.rowsCompared > 50);
  });

  it('takes the beginning of a log that continues another for what it is, and recompute does too', async () => {
    const at = installation(1);
    const config = { ...at.workload, continues: true };
    const firstMs = at.log.records[0]![0]!.receivedMs;
    const report = await check(at, { config });
    assert.equal(report.differences, 0);
    assert.ok(report.outOfReach > 20 && report.completeAfterMs! > firstMs, `${report.outOfReach} out of reach`);
    const wanted = { fromMs: firstMs, toMs: firstMs + 10_000 };
    const again = await recompute({ log: at.log, late: at.late, partition: 0, ...config }, wanted);
    assert.equal(again.ok ? 'done' : again.failure.code, 'LOG_TRUNCATED');
  });

  describe('of repaired rows', () => {
    function repaired(seed: number): Installation & { readonly repairs: Row[] } {
      const at = installation(seed);
      const repairs: Row[] = [];
      for (const [partition, records] of at.workload.partitions.entries()) {
        // Whoever repairs counts every reading.
        const all = truth(seed, partition, records, { ...at.workload, graceMs: Number.MAX_SAFE_INTEGER });
        for (const [key, row] of all.rows) {
          const before = at.rows.byKey.get(key);
          if (before?.count === row.count) continue;
          const repair = { ...row, rev: 2 };
          at.rows.byKey.set(key, repair);
          repairs.push(repair);
        }
      }
      assert.ok(repairs.length > 20);
      return { ...at, repairs };
    }

    it('finds nothing when they hold the late readings too', async () => {
      const at = repaired(7);
      const report = await check(at);
      assert.deepEqual(report.firstDifferences.map(name), []);
      assert.equal(report.repaired, at.repairs.length);
    });

    it('finds one that does not', async () => {
      const at = repaired(7);
      const row = at.repairs[11]!;
      at.rows.change(row, { count: row.count - 1 });
      assert.deepEqual((await check(at)).firstDifferences.map(name), [`different ${rowKey(row)} count`]);
    });

    it('judges none that a repair is still to come for, and names it once the repair has passed it', async () => {
      const at = repaired(7);
      const config = { ...at.workload, repair: 'auto' } as const;
      // As between the two steps of a replacement, and before the second repair.
      const [deleted, stale] = at.repairs as [Row, Row];
      at.rows.byKey.delete(rowKey(deleted));
      at.rows.change(stale, { count: stale.count - 1 });
      const untouched = [...at.rows.byKey.values()].find((row) => row.rev === 0 && row.count > 1)!;
      at.rows.change(untouched, { count: untouched.count + 1 });
      const during = await check(at, { config });
      assert.deepEqual(during.firstDifferences.map(name), [`different ${rowKey(untouched)} count`]);
      assert.ok(during.awaitingRepair >= 1);
      at.late.setCheckpoint(0, { offset: at.late.records[0]!.length, metadata: '' });
      const after = await check(at, { config });
      assert.ok(after.firstDifferences.map(name).includes(`different ${rowKey(stale)} count`));
      assert.equal(after.awaitingRepair, 0);
    });

    it('takes readings that came long after the window from the late log', async () => {
      const at = repaired(7);
      let missed = 0;
      for (const { startMs } of at.repairs.filter((row) => row.window === '10s' && row.metric === 'a').slice(0, 12)) {
        const range = { fromMs: startMs, toMs: startMs + 1 };
        assert.equal((await check(at, range)).differences, 0);
        missed += (await check(at, { ...range, lateReader: new MemoryLog([[]]) })).differences;
      }
      assert.ok(missed > 0);
    });
  });
});

import assert from 'node:assert/strict';
import type { StoredRecord } from '../../src/log.ts';
import { decodeCheckpoint } from '../../src/rollup/checkpoint.ts';
import { Engine, type EngineOptions } from '../../src/rollup/engine.ts';
import { decodeLate } from '../../src/rollup/late.ts';
import type { Restore } from '../../src/rollup/restore.ts';
import type { Row } from '../../src/row.ts';
import { makeStream, readingRecord, tickRecord } from '../support/readings.ts';
import { differences, rowKey, truthOf } from '../support/simulation-oracle.ts';
import { makeWorkload, reconfigured, type ShapeName } from '../support/simulation-workload.ts';

/** A whole hour, so that every window begins here. */
const T = 1_700_002_800_000;
const TRUE_BEGINNING: Restore = { checkpoint: null, firstOffset: 0, endOffset: 0 };

function settings(overrides: Partial<EngineOptions> = {}): EngineOptions {
  const streams = { s: makeStream('s', { metrics: ['v'] }) };
  return { partition: 3, streams, graceMs: 15_000, disorderMs: 2_000, skewMs: 60_000, ...overrides };
}

function feed(engine: Engine, records: readonly StoredRecord[]): Engine {
  for (const record of records) assert.ok(engine.process(record));
  return engine;
}

/** A record list with offsets in order from `first`. */
function log(first: number, ...makers: ((offset: number) => StoredRecord)[]): StoredRecord[] {
  return makers.map((make, index) => make(first + index));
}

const reading =
  (timeMs: number, v: number, receivedMs = timeMs, more: object = {}) =>
  (offset: number) =>
    readingRecord(offset, { timeMs, values: { v }, ...more }, receivedMs);
const tick = (receivedMs: number) => (offset: number) => tickRecord(offset, receivedMs);

function brief(rows: readonly Row[]): string[] {
  return rows.map((row) => `${row.window}@${(row.startMs - T) / 1_000} n=${row.count} sum=${row.sum}`);
}

describe('the rollup engine', () => {
  it('emits a window when the watermark has passed its end by grace and disorder, and not before', () => {
    const engine = feed(new Engine(settings(), TRUE_BEGINNING), log(0, reading(T + 1_000, 4), tick(T + 26_999)));
    assert.deepEqual(engine.take().rows, []);
    feed(engine, log(2, tick(T + 27_000)));
    assert.deepEqual(brief(engine.take().rows), ['10s@0 n=1 sum=4']);
    feed(engine, log(3, tick(T + 77_000)));
    assert.deepEqual(brief(engine.take().rows), ['1m@0 n=1 sum=4']);
  });

  it('takes the clock from ticks, refusals and late readings too, but counts none of them', () => {
    for (const kind of ['tick', 'refusal', 'requeued', 'late', 'pane'] as const) {
      const mover = (offset: number): StoredRecord => ({ ...tickRecord(offset, T + 27_000), kind, stream: 's' });
      const engine = feed(new Engine(settings(), TRUE_BEGINNING), log(0, reading(T, 1), mover));
      assert.deepEqual(brief(engine.take().rows), ['10s@0 n=1 sum=1'], kind);
    }
  });

  it('is not moved by the clocks of devices', () => {
    const ahead = reading(T + 59_000, 9, T);
    const engine = feed(new Engine(settings(), TRUE_BEGINNING), log(0, ahead, reading(T + 1_000, 1)));
    assert.equal(engine.stats().watermarkMs, T + 1_000);
    assert.equal(engine.stats().streams.get('s')!.counted, 2);
  });

  for (const [name, receivedMs, watermarkMs, expected] of [
    ['just in time by its own stamp', T + 24_999, T + 24_999, 'counted'],
    ['late by its own stamp, whatever the watermark says', T + 25_000, T, 'late'],
    ['on time, while the watermark is just below the frontier of its pane', T + 5_000, T + 26_999, 'counted'],
    ['on time by its own stamp, but behind the frontier', T + 5_000, T + 27_000, 'straggler'],
  ] as const) {
    it(`decides: ${name}: ${expected}`, () => {
      const engine = new Engine(settings(), TRUE_BEGINNING);
      feed(engine, log(0, tick(watermarkMs), reading(T + 5_000, 1, receivedMs)));
      const stats = engine.stats().streams.get('s')!;
      assert.equal(stats[expected], 1);
      const { late } = engine.take();
      assert.equal(late.length, expected === 'counted' ? 0 : 1);
      if (expected === 'counted') return;
      const decoded = decodeLate(late[0]!.value)!;
      assert.deepEqual([decoded.reason, decoded.partition, decoded.offset], [expected, 3, 1]);
      assert.equal(JSON.parse(decoded.reading).time, T + 5_000);
      assert.equal(late[0]!.receivedMs, receivedMs);
    });
  }

  it('counts the first offset of an identity, and a duplicate in the row', () => {
    const engine = new Engine(settings(), TRUE_BEGINNING);
    const other = { key: 'd2' };
    feed(engine, log(0, reading(T, 1), reading(T, 1, T + 9), reading(T, 2, T + 9), reading(T, 5, T, other)));
    feed(engine, log(4, reading(T + 3, 1), reading(T + 2, 1), reading(T + 3, 1), tick(T + 100_000)));
    const rows = engine.take().rows.filter((row) => row.window === '10s');
    assert.deepEqual(brief(rows), ['10s@0 n=3 sum=3', '10s@0 n=1 sum=5']);
    assert.deepEqual(
      rows.map((row) => row.duplicates),
      [3, 0],
    );
    const { counted, duplicates, conflicts } = engine.stats().streams.get('s')!;
    assert.deepEqual({ counted, duplicates, conflicts }, { counted: 4, duplicates: 3, conflicts: 1 });
  });

  it('takes named identities over the whole stream, not series and time', () => {
    const engine = new Engine(settings(), TRUE_BEGINNING);
    const first = { identity: 'x', tags: { device: 'd' } };
    const again = { identity: 'x', tags: { device: 'd', model: 'm' } };
    const sameTime = { identity: 'y', tags: { device: 'd' } };
    feed(engine, log(0, reading(T, 1, T, first), reading(T, 1, T, again), reading(T, 1, T, sameTime)));
    feed(engine, log(3, tick(T + 100_000)));
    assert.deepEqual(brief(engine.take().rows.filter((row) => row.window === '10s')), ['10s@0 n=2 sum=2']);
  });

  it('says how many sequence numbers are missing, in every window by itself', () => {
    const engine = new Engine(settings(), TRUE_BEGINNING);
    const records = [1, 2, 5, 9].map((sequence, i) => reading(T + i * 4_000, 1, T + i * 4_000, { sequence }));
    feed(engine, log(0, ...records, tick(T + 100_000)));
    assert.deepEqual(
      engine.take().rows.map((row) => `${row.window} ${row.missing}`),
      ['10s 2', '10s 0', '1m 5'],
    );
  });

  it('counts events of a stream without metrics in one row', () => {
    const streams = { s: makeStream('s', { metrics: [] }) };
    const engine = new Engine(settings({ streams }), TRUE_BEGINNING);
    feed(engine, log(0, reading(T, 1), reading(T + 1, 1), tick(T + 100_000)));
    const [row] = engine.take().rows;
    assert.deepEqual(row, {
      ...{ stream: 's', metric: '', window: '10s', startMs: T, endMs: T + 10_000, tags: { device: 'd' }, count: 2 },
      ...{ sum: null, mean: null, min: null, max: null, stddev: null, first: null, last: null },
      ...{ p50: null, p95: null, p99: null, duplicates: 0, missing: 0, rev: 0 },
    });
  });

  it('merges rolling and long windows out of closed ones, each complete', () => {
    const streams = { s: makeStream('s', { metrics: ['v'], windows: ['10s', '30s', '1m_20s', '2m'] }) };
    const engine = new Engine(settings({ streams }), TRUE_BEGINNING);
    const records = Array.from({ length: 24 }, (_, i) => reading(T + i * 5_000, 1));
    feed(engine, log(0, ...records, tick(T + 1_000_000)));
    const rows = engine.take().rows;
    assert.deepEqual(
      [...rows].sort((a, b) => a.endMs - b.endMs),
      rows,
      'ascending by end',
    );
    assert.deepEqual(brief(rows.filter((row) => row.window === '30s')), [
      ...['30s@0 n=6 sum=6', '30s@30 n=6 sum=6', '30s@60 n=6 sum=6', '30s@90 n=6 sum=6'],
    ]);
    assert.deepEqual(brief(rows.filter((row) => row.window === '1m_20s')), [
      ...['1m_20s@-40 n=4 sum=4', '1m_20s@-20 n=8 sum=8', '1m_20s@0 n=12 sum=12', '1m_20s@20 n=12 sum=12'],
      ...['1m_20s@40 n=12 sum=12', '1m_20s@60 n=12 sum=12', '1m_20s@80 n=8 sum=8', '1m_20s@100 n=4 sum=4'],
    ]);
    assert.deepEqual(brief(rows.filter((row) => row.window === '2m')), ['2m@0 n=24 sum=24']);
  });

  it('holds nothing of a series once its windows are closed', () => {
    const engine = new Engine(settings(), TRUE_BEGINNING);
    for (let i = 0; i < 50; i++) feed(engine, [readingRecord(i, { timeMs: T + i, key: `d${i}`, values: { v: 1 } })]);
    assert.equal(engine.openSeries, 50);
    feed(engine, log(50, tick(T + 40_000)));
    assert.equal(engine.openSeries, 50, 'the minute is still open');
    assert.equal(engine.stats().openAccumulators, 50, 'and has taken over the cells of the pane');
    feed(engine, log(51, tick(T + 77_000)));
    assert.equal(engine.openSeries, 0);
    assert.equal(engine.stats().openAccumulators, 0);
  });

  it('leaves a record of a new series alone while there is no room, and takes it later', () => {
    let room = true;
    const engine = new Engine(settings({ hasRoom: () => room }), TRUE_BEGINNING);
    feed(engine, log(0, reading(T, 1)));
    room = false;
    assert.equal(engine.process(readingRecord(1, { timeMs: T + 1, values: { v: 1 } })), true, 'a known series goes on');
    const newcomer = readingRecord(2, { timeMs: T, key: 'd2', values: { v: 7 } });
    assert.equal(engine.process(newcomer), false);
    assert.equal(engine.position, 2);
    assert.equal(engine.openSeries, 1);
    room = true;
    feed(engine, [newcomer, tickRecord(3, T + 100_000)]);
    assert.deepEqual(brief(engine.take().rows), [
      ...['10s@0 n=2 sum=2', '10s@0 n=1 sum=7', '1m@0 n=2 sum=2', '1m@0 n=1 sum=7'],
    ]);
  });

  it('goes past records that are no readings of ours, and counts them', () => {
    const value = (text: string) => (offset: number) => ({
      ...readingRecord(offset, { timeMs: T }),
      value: Buffer.from(text),
    });
    const json = (part: object) => value(JSON.stringify({ stream: 's', time: T, tags: {}, values: {}, ...part }));
    const engine = feed(
      new Engine(settings(), TRUE_BEGINNING),
      log(
        0,
        ...['', 'null', '[]', '{"stream":"s"', '\u0000'].map(value),
        ...[{ time: 1e16 }, { time: 'x' }, { tags: { a: 1 } }, { tags: { a: ['='] } }, { values: { v: 1e200 } }].map(
          json,
        ),
        ...[{ values: { v: '7' } }, { values: { v: null } }, { values: { v: 1e-200 } }, { tags: null }].map(json),
        json({ time: T + 86_460_001 }),
        json({ stream: 'unheard-of' }),
        json({ values: { v: -0 } }),
        tick(T + 100_000),
      ),
    );
    const stats = engine.stats();
    assert.equal(stats.unreadable, 15);
    assert.equal(stats.unknownStream, 1);
    const [row] = engine.take().rows;
    assert.equal(row!.count, 1);
    assert.ok(Object.is(row!.min, 0), 'a negative zero is zero');
  });

  it('shows of open windows what they would be if they closed now', () => {
    const streams = { s: makeStream('s', { metrics: ['v'], windows: ['10s', '1m', '5m_1m', '15m'] }) };
    const engine = new Engine(settings({ streams }), TRUE_BEGINNING);
    const records = Array.from({ length: 60 }, (_, i) => reading(T + i * 2_300, i * 1.1));
    feed(engine, log(0, ...records));
    const final = new Map(engine.take().rows.map((row) => [rowKey(row), row]));
    const shown = engine.provisional(1_000);
    assert.ok(shown.length > 8);
    assert.deepEqual(brief(engine.provisional(3)), brief(shown.slice(0, 3)));
    const minutes = shown.filter((row) => row.window === '1m');
    const [one] = minutes;
    const { stream, window, tags, metric } = one!;
    assert.deepEqual(brief(engine.provisional(1_000, { stream, window, tags, metric })), brief(minutes));
    assert.deepEqual(engine.provisional(1_000, { stream, tags: { ...tags, device: 'another' } }), []);
    assert.deepEqual(engine.provisional(1_000, { stream, metric: 'another' }), []);
    feed(engine, log(60, tick(T + 10_000_000)));
    for (const row of engine.take().rows) final.set(rowKey(row), row);
    for (const row of shown) assert.deepEqual(differences(row, final.get(rowKey(row))!), [], rowKey(row));
  });
});

describe('the rollup engine after a restart', () => {
  for (const shape of ['busy', 'torn', 'hesitant'] satisfies ShapeName[]) {
    it(`emits exactly the true rows from any commit on, each offset tried: a ${shape} log`, function () {
      this.timeout(30_000);
      const workload = makeWorkload(1, { shape, partitions: 1 });
      const records = workload.partitions[0]!;
      const truth = truthOf(records, workload);
      const options = { partition: 0, ...workload };
      const first = new Engine(options, TRUE_BEGINNING);
      const written = new Set<string>();
      let lateSeen = 0;
      for (const [index, record] of records.entries()) {
        first.process(record);
        const { rows, late, checkpoint } = first.take();
        lateSeen += late.length;
        for (const row of rows) written.add(rowKey(row));
        if (index % 7 !== 0) continue;
        const second = new Engine(options, { checkpoint, firstOffset: 0, endOffset: 1_000 });
        assert.ok(second.position <= record.offset + 1);
        for (const again of records) second.process(again);
        const rest = second.take();
        for (const row of rest.rows) {
          assert.ok(!written.has(rowKey(row)), `emitted again: ${rowKey(row)}`);
          assert.deepEqual(differences(row, truth.rows.get(rowKey(row))!), [], rowKey(row));
        }
        assert.equal(written.size + rest.rows.length, truth.rows.size);
        assert.equal(lateSeen + rest.late.length, truth.late.length);
      }
      assert.ok(truth.rows.size > 100 && truth.late.length > 5);
    });
  }

  it('reads again only what open windows need', () => {
    const engine = feed(new Engine(settings(), TRUE_BEGINNING), log(0, reading(T, 1), reading(T + 61_000, 2)));
    assert.equal(engine.take().checkpoint!.offset, 0);
    feed(engine, log(2, tick(T + 77_000)));
    assert.equal(engine.take().checkpoint!.offset, 1);
    feed(engine, log(3, tick(T + 500_000)));
    const { offset, metadata } = engine.take().checkpoint!;
    assert.equal(offset, 4);
    assert.ok(metadata.length < 80, metadata);
  });

  it('begins in the middle of a log with windows that are certainly complete', () => {
    const engine = new Engine(settings(), { checkpoint: null, firstOffset: 500, endOffset: 1_000 });
    assert.equal(engine.beginning, 'cold');
    assert.equal(engine.take().checkpoint, null, 'nothing is known yet that could be committed');
    const records = Array.from({ length: 40 }, (_, i) => reading(T + i * 5_000, 1));
    feed(engine, log(500, ...records, tick(T + 1_000_000)));
    // First stamp + grace + disorder + skew = T + 77 s.
    assert.equal(brief(engine.take().rows)[0], '10s@80 n=2 sum=2');
  });

  it('does not forget after a crash which windows are incomplete', () => {
    const first = new Engine(settings(), { checkpoint: null, firstOffset: 500, endOffset: 1_000 });
    const records = log(500, ...Array.from({ length: 40 }, (_, i) => reading(T + i * 5_000, 1)), tick(T + 1_000_000));
    feed(first, records.slice(0, 13));
    const { checkpoint } = first.take();
    const second = new Engine(settings(), { checkpoint, firstOffset: 500, endOffset: 1_000 });
    assert.equal(second.beginning, 'resumed');
    feed(second, records);
    feed(first, records);
    const rows = second.take().rows;
    assert.deepEqual(brief(rows), brief(first.take().rows));
    assert.equal(brief(rows)[0], '10s@80 n=2 sum=2');
  });

  it('leaves out what a truncated log may have held, by the watermark at the commit', () => {
    const records = log(0, ...Array.from({ length: 60 }, (_, i) => reading(T + i * 5_000, 1)), tick(T + 1_000_000));
    const first = feed(new Engine(settings(), TRUE_BEGINNING), records.slice(0, 20));
    const { checkpoint } = first.take();
    assert.equal(checkpoint!.offset, 12, 'the minute that is open begins here');
    const second = new Engine(settings(), { checkpoint, firstOffset: 15, endOffset: 1_000 });
    assert.equal(second.beginning, 'truncated');
    assert.deepEqual(second.take().checkpoint, checkpoint, 'nothing better is known before the first record');
    feed(second, records.slice(15));
    // The watermark at P was T + 95 s; nothing below P is more than 60 s ahead of it.
    assert.equal(brief(second.take().rows)[0], '10s@160 n=2 sum=2');
  });

  it('reads a log that was made anew from its beginning, and leaves alone what is durable', () => {
    const first = feed(new Engine(settings(), TRUE_BEGINNING), log(70, reading(T, 1), tick(T + 100_000)));
    const { checkpoint } = first.take();
    assert.equal(checkpoint!.offset, 72);
    const second = new Engine(settings(), { checkpoint, firstOffset: 0, endOffset: 5 });
    assert.equal(second.beginning, 'rewound');
    assert.equal(second.position, 0);
    feed(second, log(0, reading(T, 8), reading(T, 8, T + 90_000), reading(T + 100_000, 2), tick(T + 200_000)));
    const { rows, late } = second.take();
    assert.deepEqual(brief(rows), ['10s@100 n=1 sum=2', '1m@60 n=1 sum=2']);
    assert.equal(late.length, 1, 'its late readings are new ones');
  });

  it('starts over, at the offset it is given, from a commit that is not its own', () => {
    const checkpoint = { offset: 7, metadata: '' };
    const engine = new Engine(settings(), { checkpoint, firstOffset: 0, endOffset: 1_000 });
    assert.equal(engine.beginning, 'foreign');
    assert.equal(engine.position, 7);
  });

  for (const change of ['grace', 'windows', 'metrics'] as const) {
    it(`writes no partial row when ${change} changed, and goes on with the other streams as if nothing was`, () => {
      const before = makeWorkload(4, { shape: 'torn', partitions: 1 });
      const after = reconfigured(before, change);
      const records = before.partitions[0]!;
      const truth = truthOf(records, after);
      for (let cut = 20; cut < records.length; cut += 31) {
        const first = feed(new Engine({ partition: 0, ...before }, TRUE_BEGINNING), records.slice(0, cut));
        const done = new Set(first.take().rows.map(rowKey));
        const { checkpoint } = first.take();
        const second = new Engine({ partition: 0, ...after }, { checkpoint, firstOffset: 0, endOffset: 1_000 });
        assert.equal(second.beginning, 'reconfigured');
        feed(second, records);
        const emitted = new Map(second.take().rows.map((row) => [rowKey(row), row]));
        for (const [key, row] of emitted) {
          assert.deepEqual(differences(row, truth.rows.get(key)!), [], key);
          assert.ok(!done.has(key), 'written once');
        }
        const { watermarkMs, frontierMs } = decodeCheckpoint(checkpoint!)!;
        for (const [key, row] of truth.rows) {
          const unchanged = row.stream === 'e' && change !== 'grace';
          if (row.endMs <= frontierMs || (!unchanged && row.startMs <= watermarkMs + before.skewMs)) continue;
          assert.ok(emitted.has(key), `missing: ${key}`);
        }
      }
    });
  }
});

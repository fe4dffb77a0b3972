import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { StoredRecord } from '../../src/log.ts';
import { encodeReading } from '../../src/reading.ts';
import { Distinct, EXACT_VALUES } from '../../src/rollup/distinct.ts';
import { Engine } from '../../src/rollup/engine.ts';
import { readingOf } from '../../src/rollup/record.ts';
import type { Row } from '../../src/row.ts';
import { makeWindow, parseTemplate, type Stream, type TopicTemplate } from '../../src/stream.ts';

function of(values: Iterable<string>): Distinct {
  const distinct = new Distinct();
  for (const value of values) distinct.add(value);
  return distinct;
}

function* users(count: number, prefix = 'u'): Generator<string> {
  for (let i = 0; i < count; i++) yield `${prefix}${i}`;
}

describe('The number of different values', () => {
  it('is exact up to the limit, however often each comes', () => {
    for (const count of [0, 1, 7, EXACT_VALUES]) assert.equal(of([...users(count), ...users(count)]).count, count);
  });

  it('is an estimate above, within 5 % (three standard errors) at every size', () => {
    for (const count of [1_001, 1_500, 2_500, 5_000, 10_000, 20_000, 50_000, 200_000, 1_000_000]) {
      for (const prefix of ['u', 'visitor-', '']) {
        const found = of(users(count, prefix)).count;
        assert.ok(Math.abs(found / count - 1) < 0.05, `${found} for ${count} of ${prefix}`);
      }
    }
  });

  it('has the error that it says: 1.6 % on average of squares, and no bias', () => {
    const errors = Array.from({ length: 200 }, (_, i) => of(users(3_000, `${i}/`)).count / 3_000 - 1);
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    const square = Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / errors.length);
    assert.ok(Math.abs(mean) < 0.005, `bias ${mean}`);
    assert.ok(square > 0.01 && square < 0.022, `standard error ${square}`);
  });

  it('is the same to the last bit whatever the order and grouping, around the limit too', () => {
    const value = fc.integer({ min: 0, max: 3_000 }).map((i) => `u${i}`);
    const block = fc.tuple(fc.integer({ min: 0, max: 5_000 }), fc.integer({ min: 0, max: 1_200 }));
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.array(value, { maxLength: 20 }),
            block.map(([from, many]) => [...users(from + many)].slice(from)),
          ),
        ),
        fc.array(fc.nat(), { minLength: 8, maxLength: 8 }),
        (groups, order) => {
          const whole = of(groups.flat()).count;
          const sorted = groups
            .map((group, i) => ({ group, at: order[i % order.length]! }))
            .sort((a, b) => a.at - b.at);
          const merged = new Distinct();
          for (const { group } of sorted) merged.merge(of(group));
          assert.equal(merged.count, whole);
          const halves = [new Distinct(), new Distinct()] as const;
          for (const [i, { group }] of sorted.entries()) halves[i % 2]!.merge(of([...group].reverse()));
          halves[1].merge(halves[0]);
          assert.equal(halves[1].count, whole);
          if (new Set(groups.flat()).size <= EXACT_VALUES) assert.equal(whole, new Set(groups.flat()).size);
        },
      ),
      { numRuns: 60 },
    );
  });
});

const T = 1_700_000_000_000;
const STREAM: Stream = {
  name: 'clicks',
  topic: parseTemplate('web/{app}') as TopicTemplate,
  format: 'json',
  schema: null,
  key: 'app',
  identity: [],
  time: 'ts',
  sequence: null,
  tags: [],
  metrics: [],
  distinct: ['userid', 'page'],
  enrich: null,
  score: null,
  windows: [makeWindow(10_000), makeWindow(60_000, 10_000)],
  retain: false,
};
const OPTIONS = { partition: 0, streams: { clicks: STREAM }, graceMs: 1_000, disorderMs: 0, skewMs: 60_000 };

function record(offset: number, timeMs: number, distinct?: string[]): StoredRecord {
  const reading = { stream: 'clicks', key: 'a', timeMs, tags: { app: 'a' }, values: {}, payload: '{}' };
  const value = Buffer.from(encodeReading({ ...reading, ...(distinct ? { distinct } : undefined) }));
  return { offset, kind: 'reading', key: 'a', receivedMs: timeMs, stream: 'clicks', topic: 'web/a', value };
}

const counts = (rows: readonly Row[]) =>
  rows
    .filter(({ window }) => window === '1m_10s')
    .map(({ metric, startMs, count }) => `${(startMs - T) / 1_000} ${metric} ${count}`)
    .sort();

describe('Distinct values in windows', () => {
  const first = (fromSecond: number, toSecond: number) =>
    Array.from({ length: toSecond - fromSecond }, (_, i) => fromSecond + i);
  const records = first(0, 200).map((second) =>
    record(second, T + second * 1_000, [
      'userid',
      `u${second % 15}`,
      'page',
      second < 100 ? '/' : '/cart',
      'other',
      'x',
    ]),
  );

  it('are counted for each field in rows of their own, merged over panes, beside the count of events', () => {
    const engine = new Engine(OPTIONS, { checkpoint: null, firstOffset: 0, endOffset: 0 });
    for (const one of records) assert.equal(engine.process(one), true);
    const { rows } = engine.take();
    const row = (metric: string, window: string) =>
      rows.find((one) => one.metric === metric && one.window === window && one.startMs === T + 60_000);
    assert.equal(row('', '10s')!.count, 10);
    assert.equal(row('distinct_userid', '10s')!.count, 10);
    assert.equal(row('distinct_userid', '1m_10s')!.count, 15);
    assert.equal(row('distinct_page', '1m_10s')!.count, 2);
    assert.equal(row('distinct_page', '1m_10s')!.sum, null);
    assert.equal(
      rows.some(({ metric }) => metric === 'distinct_other'),
      false,
    );
  });

  it('are the same after a restore from any commit', () => {
    const whole = new Engine(OPTIONS, { checkpoint: null, firstOffset: 0, endOffset: 0 });
    for (const one of records) whole.process(one);
    const expected = counts(whole.take().rows);
    for (const cut of [1, 37, 100, 163]) {
      const before = new Engine(OPTIONS, { checkpoint: null, firstOffset: 0, endOffset: 0 });
      for (const one of records.slice(0, cut)) before.process(one);
      const { rows, checkpoint } = before.take();
      const after = new Engine(OPTIONS, { checkpoint, firstOffset: 0, endOffset: 200 });
      for (const one of records.slice(after.position)) after.process(one);
      assert.deepEqual([...counts(rows), ...counts(after.take().rows)].sort(), expected, `cut at ${cut}`);
    }
  });

  it('come back from the log, whatever the names are', () => {
    const pairs = ['payload', '","payload":{}', 'ü', '"', 'a', ''];
    const found = readingOf(record(0, T, pairs).value);
    assert.deepEqual(found?.distinct, pairs);
    assert.equal(readingOf(record(0, T).value)?.distinct, undefined);
  });
});

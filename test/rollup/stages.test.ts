import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { StoredRecord } from '../../src/log.ts';
import { Engine, type EngineOptions } from '../../src/rollup/engine.ts';
import { decodePane, decodeTick } from '../../src/rollup/panes.ts';
import { divide } from '../../src/rollup/window.ts';
import type { Row } from '../../src/row.ts';
import { parseWindow, type Stream } from '../../src/stream.ts';
import { Random } from '../support/random.ts';
import { makeStream, readingRecord, tickRecord } from '../support/readings.ts';
import { differences, rowKey, truthOf } from '../support/simulation-oracle.ts';
import { makeWorkload, type ShapeName } from '../support/simulation-workload.ts';
import { TwoStages } from '../support/two-stages.ts';

const T = 1_700_002_800_000;
const SHAPES: readonly ShapeName[] = ['calm', 'busy', 'disordered', 'torn', 'hesitant'];
const ADMISSION = { graceMs: 15_000, disorderMs: 2_000, skewMs: 60_000 };

const seed = fc.integer({ min: 0, max: 1_000_000 });
const windowSets = [
  ['10s', '1m', '2m_1m', '5m'],
  ['10s', '2m'],
  ['5s', '15s', '90s', '3m', '3m_1m'],
  ['20s', '40s', '4m_2m'],
  ['7s', '21s', '42s_21s'],
  ['2m', '4m'],
  ['30s'],
] as const;

interface Scene {
  readonly records: readonly StoredRecord[];
  readonly options: EngineOptions;
  readonly random: Random;
}

function scene(number: number, windows: readonly string[] = windowSets[0]): Scene {
  const workload = makeWorkload(number, { shape: SHAPES[number % SHAPES.length]!, partitions: 1 });
  const s: Stream = { ...workload.streams.s!, windows: windows.map((label) => parseWindow(label)!) };
  const streams = { ...workload.streams, s };
  const options = { partition: 0, streams, ...ADMISSION };
  return { records: workload.partitions[0]!, options, random: new Random(number) };
}

function oneStage({ records, options }: Scene): Row[] {
  const engine = new Engine(options, { checkpoint: null, firstOffset: 0, endOffset: 0 });
  for (const record of records) engine.process(record);
  return engine.take().rows as Row[];
}

/** Every row of `some` is one of `all`, to the last bit; answers which they were. */
function assertAmong(some: readonly Row[], all: readonly Row[]): Set<string> {
  const known = new Map(all.map((row) => [rowKey(row), row]));
  for (const row of some) {
    const same = known.get(rowKey(row));
    assert.ok(same, `there is no such row: ${rowKey(row)}`);
    assert.deepEqual(differences(row, same), [], rowKey(row));
  }
  return new Set(some.map(rowKey));
}

function keys(rows: readonly Row[]): string[] {
  return rows.map(rowKey).sort();
}

describe('two stages', () => {
  for (const [labels, first, second, jointMs] of [
    ['10s 1m 15m 1h 5m_1m', '10s 1m', '15m 1h 5m_1m', 60_000],
    ['10s 15m', '10s', '15m', 60_000],
    ['10s 90s 3m', '10s 90s', '3m', 60_000],
    ['7s 42s', '7s', '42s', 7_000],
    ['5m 1h', '5m', '1h', 300_000],
    ['10s 1m', '10s 1m', '', null],
    ['1h', '1h', '', null],
  ] as const) {
    it(`divide ${labels} into ${first} and ${second || 'nothing'}`, () => {
      const windows = labels.split(' ').map((label) => parseWindow(label)!);
      const division = divide(windows);
      const show = (list: readonly { label: string }[]) => list.map(({ label }) => label).join(' ');
      assert.equal(show(division.first), show(first.split(' ').map((label) => parseWindow(label)!)));
      assert.equal(show(division.second), second);
      assert.equal(division.jointMs, jointMs);
    });
  }

  it('give the rows of one, to the last bit, for any log and any windows', () => {
    fc.assert(
      fc.property(seed, fc.constantFrom(...windowSets), (number, windows) => {
        const one = scene(number, windows);
        const two = new TwoStages(one.options, one.records);
        two.read(Number.POSITIVE_INFINITY, one.random.integer(1, 50));
        two.merge(one.random.integer(1, 50));
        const expected = oneStage(one);
        assertAmong(two.rows, expected);
        assert.deepEqual(keys(two.rows), keys(expected), 'each once, none missing');
        const { rows } = truthOf(one.records, one.options);
        assertAmong(two.rows, [...rows.values()]);
      }),
      { numRuns: 60 },
    );
  });

  it('give the rows of one when both are killed again and again, and everything is written several times', () => {
    fc.assert(
      fc.property(seed, (number) => {
        const one = scene(number);
        const two = new TwoStages(one.options, one.records);
        const { random, records } = one;
        for (let end = 0; end <= records.length; end += random.integer(5, 120)) {
          two.read(end, random.integer(1, 30), { killed: random.chance(0.5) });
          two.merge(random.integer(1, 30), {
            killed: random.chance(0.5),
            endOffset: random.integer(0, two.topic.length),
          });
        }
        two.read(Number.POSITIVE_INFINITY, 20);
        two.merge(20);
        const expected = oneStage(one);
        assert.deepEqual([...assertAmong(two.rows, expected)].sort(), keys(expected));
      }),
      { numRuns: 40 },
    );
  });

  it('write a pane as the same bytes, whoever writes it and whenever', () => {
    const one = scene(4);
    const two = new TwoStages(one.options, one.records);
    for (const end of [150, 220, Number.POSITIVE_INFINITY]) two.read(end, 13, { killed: true });
    const texts = new Map<string, string>();
    let repeated = 0;
    for (const record of two.topic) {
      if (record.kind !== 'pane') continue;
      const text = Buffer.from(record.value).toString();
      const { stream, startMs, tags } = decodePane(record.value)!;
      const place = `${stream} ${startMs} ${tags}`;
      const before = texts.get(place);
      if (before !== undefined) repeated++;
      assert.equal(before ?? text, text);
      texts.set(place, text);
    }
    assert.ok(repeated > 5, 'some panes were written more than once');
  });

  it('write a pane as the same bytes, whatever the order of its readings', () => {
    const values = [1e16, 1, -1e16, 0.1, 3, 1e150, -1e150, 1e-140];
    const texts = new Set<string>();
    for (const order of [values, [...values].reverse(), new Random(1).shuffled(values)]) {
      const streams = { s: makeStream('s', { metrics: ['v'], windows: ['10s', '1m', '5m'] }) };
      const readings = order.map((v, i) =>
        readingRecord(i, { timeMs: T + values.indexOf(v) * 5_000, values: { v } }, T + 41_000),
      );
      const two = new TwoStages({ partition: 0, streams, ...ADMISSION }, [...readings, tickRecord(99, T + 100_000)]);
      two.read(100, 1_000);
      const panes = two.topic.filter((record) => record.kind === 'pane');
      assert.equal(panes.length, 1);
      texts.add(Buffer.from(panes[0]!.value).toString());
    }
    assert.equal(texts.size, 1);
  });

  it('count different values as one stage does, below the exact limit and above it', () => {
    const streams = {
      s: { ...makeStream('s', { metrics: [], windows: ['10s', '1m', '5m', '3m_1m'] }), distinct: ['user', 'page'] },
    };
    const records = Array.from({ length: 6_000 }, (_, i) => {
      const reading = { timeMs: T + i * 100, distinct: ['user', `u${(i * 7) % 2_500}`, 'page', `/${i % 40}`] };
      return readingRecord(i, { ...reading, identity: String(i) });
    });
    const one = {
      records: [...records, tickRecord(6_000, T + 5_000_000)],
      options: { partition: 0, streams, ...ADMISSION },
    };
    const two = new TwoStages(one.options, one.records);
    two.read(Number.POSITIVE_INFINITY, 100);
    two.merge(7);
    const expected = oneStage({ ...one, random: new Random(1) });
    assertAmong(two.rows, expected);
    assert.deepEqual(keys(two.rows), keys(expected));
    const users = expected.filter(({ metric, window }) => metric === 'distinct_user' && window === '5m');
    assert.ok(
      users.some(({ count }) => count > 2_000),
      'above the limit',
    );
  });

  it('write no partial row when the panes topic was made anew, and nothing is known of the old one', () => {
    fc.assert(
      fc.property(seed, (number) => {
        const one = scene(number);
        const { random, records } = one;
        const two = new TwoStages(one.options, records);
        two.read(random.integer(0, records.length), random.integer(1, 30));
        two.topic.length = 0;
        two.secondCheckpoint = null;
        two.read(Number.POSITIVE_INFINITY, random.integer(1, 30));
        two.merge(random.integer(1, 30));
        assertAmong(two.rows, oneStage(one));
      }),
      { numRuns: 60 },
    );
  });

  it('do not mix panes of another group or of other rules with their own', () => {
    const one = scene(7);
    const two = new TwoStages(one.options, one.records);
    two.read(Number.POSITIVE_INFINITY, 20);
    const foreign = two.topic.map((record) => ({ ...record, key: 'other' }));
    const topic = two.topic.splice(0);
    // Another group is ahead: its ticks must not close ours.
    for (const record of [...foreign, ...topic]) two.append(record);
    two.merge(20);
    assert.deepEqual(keys(two.rows), keys(oneStage(one)));
    const otherRules = new TwoStages(one.options, one.records);
    for (const record of topic) otherRules.append(record);
    const engine = otherRules.merge(20, { options: { ...one.options, graceMs: 16_000 } });
    assert.deepEqual(otherRules.rows, []);
    assert.ok(engine.stats().unknownStream > 0);
  });

  it('pass over what is no pane and no tick', () => {
    const strange = [
      '{"frontier":"x","after":{},"rules":[]}',
      '{"frontier":1}',
      '{"frontier":1,"after":{},"rules":[1]}',
    ];
    for (const text of ['', '{', 'null', '[]', '{"stream":"s"}', ...strange]) {
      assert.equal(decodePane(Buffer.from(text)), null);
      assert.equal(decodeTick(Buffer.from(text)), null);
    }
    const two = new TwoStages(scene(1).options, []);
    two.append({ kind: 'pane', key: 'g', receivedMs: T, stream: 's', topic: '', value: Buffer.from('{}') });
    two.append({ kind: 'tick', key: 'g', receivedMs: T, stream: '', topic: '', value: Buffer.from('7') });
    assert.equal(two.merge(1).stats().unreadable, 1);
  });
});

describe('from one stage to two and back', () => {
  it('keeps every short row, leaves out long ones that were open then, and writes none that is partial', () => {
    fc.assert(
      fc.property(seed, (number) => {
        const one = scene(number);
        const { random, records } = one;
        const expected = oneStage(one);
        const two = new TwoStages(one.options, one.records);
        const change = records[random.integer(0, records.length - 1)]!;
        two.read(change.offset, random.integer(1, 30), { stage: 'only' });
        two.read(Number.POSITIVE_INFINITY, random.integer(1, 30));
        two.merge(random.integer(1, 30));
        const seen = assertAmong(two.rows, expected);
        const knownMs = Math.max(0, ...records.filter(({ offset }) => offset < change.offset).map((r) => r.receivedMs));
        for (const row of expected) {
          const mustBeThere = row.window === '10s' || row.window === '1m' || row.startMs > knownMs + ADMISSION.skewMs;
          if (mustBeThere) assert.ok(seen.has(rowKey(row)), `missing: ${rowKey(row)}`);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('writes no partial row however often it goes to and fro, and with the second stage far behind', () => {
    fc.assert(
      fc.property(seed, (number) => {
        const one = scene(number);
        const { random, records } = one;
        const two = new TwoStages(one.options, one.records);
        for (let end = 0; end <= records.length; end += random.integer(5, 150)) {
          const stage = random.chance(0.4) ? 'only' : 'first';
          two.read(end, random.integer(1, 30), { stage, killed: random.chance(0.2) });
          if (random.chance(0.6)) two.merge(random.integer(1, 30), { endOffset: random.integer(0, two.topic.length) });
        }
        two.read(Number.POSITIVE_INFINITY, 20);
        two.merge(20);
        assertAmong(two.rows, oneStage(one));
      }),
      { numRuns: 80 },
    );
  });
});

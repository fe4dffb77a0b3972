import assert from 'node:assert/strict';
import fc from 'fast-check';
import type {
  Alert,
  AlertRule,
  DeadLetterRule,
  EachRule,
  ScoreRule,
  SilentRule,
  ThresholdRule,
} from '../../src/alert.ts';
import { decodeAlert, encodeAlert } from '../../src/alert.ts';
import { AlertEngine, MAX_ACTIVE, MAX_STEP_MS } from '../../src/rollup/alert-engine.ts';
import type { Row } from '../../src/row.ts';
import type { Score } from '../../src/scored.ts';

const HOT: ThresholdRule = {
  kind: 'threshold',
  name: 'hot',
  stream: 's',
  metric: 'temperature',
  window: '10s',
  statistic: 'mean',
  above: 80,
  below: null,
  clear: 75,
  windows: 2,
};
const SILENT: SilentRule = { kind: 'silent', name: 'gone', stream: 's', by: 'device', silentMs: 60_000 };
const BURST: DeadLetterRule = { kind: 'dead-letters', name: 'burst', stream: null, count: 4, withinMs: 10_000 };
const ANGRY: EachRule = {
  kind: 'each',
  name: 'angry',
  stream: 'u',
  metric: 'urgency',
  by: 'conversation',
  above: 0.2,
  below: null,
  clear: 0.1,
  forgetMs: 60_000,
};
const SIZE_MS = 10_000;
const ODD: ScoreRule = {
  kind: 'score',
  name: 'odd',
  stream: 's',
  metric: null,
  window: '10s',
  statistic: 'mean',
  sizeMs: SIZE_MS,
  everyMs: SIZE_MS,
  clear: 1.02,
  calm: 3,
  by: 'device',
};

function row(index: number, mean: number, device = 'd1', more: Partial<Row> = {}): Row {
  const startMs = index * SIZE_MS;
  const statistics = {
    sum: mean,
    min: mean,
    max: mean,
    stddev: 0,
    first: mean,
    last: mean,
    p50: mean,
    p95: mean,
    p99: mean,
  };
  const place = {
    stream: 's',
    metric: 'temperature',
    window: '10s',
    startMs,
    endMs: startMs + SIZE_MS,
    tags: { device },
  };
  return { ...place, count: 1, mean, ...statistics, duplicates: 0, missing: 0, rev: 0, ...more } as Row;
}

const short = (alerts: readonly Alert[]) =>
  alerts.map(({ rule, state, series, atMs }) => `${rule} ${state} ${series} ${atMs}`);

describe('the alert rules', () => {
  describe('on each reading', () => {
    const reading = (key: string, urgency: number, timeMs: number) => ({
      stream: 'u',
      key,
      timeMs,
      tags: { agent: 'anna' },
      values: { urgency },
    });
    /** Key, value and received stamp of each. */
    const feed = (engine: AlertEngine, readings: readonly (readonly [string, number, number])[]) =>
      readings.flatMap(([key, value, atMs]) => engine.read(reading(key, value, atMs - 5), atMs));
    const STORY = [
      ['c1', 0, 1],
      ['c1', 0.5, 2],
      ['c2', 0.9, 3],
      ['c1', 0.6, 4],
      ['c1', 0.15, 5],
      ['c1', 0.1, 6],
      ['c1', 0.3, 7],
    ] as const;
    const TOLD = [
      'angry raised conversation=c1 2',
      'angry raised conversation=c2 3',
      'angry cleared conversation=c1 6',
      'angry raised conversation=c1 7',
    ];

    it('raise at the first beyond the limit, clear at the first within, key by key', () => {
      const alerts = feed(new AlertEngine([ANGRY]), STORY);
      assert.deepEqual(short(alerts), TOLD);
      assert.deepEqual(alerts[0]!.tags, { agent: 'anna', conversation: 'c1' });
      assert.equal(alerts[0]!.sinceMs, -3);
    });

    it('say nothing again when the log is read again after a restart, wherever it was', () => {
      for (let read = 0; read <= STORY.length; read++) {
        const before = feed(new AlertEngine([ANGRY]), STORY.slice(0, read));
        const after = new AlertEngine([ANGRY]);
        after.restore(before, Number.NEGATIVE_INFINITY);
        assert.deepEqual(short([...before, ...feed(after, STORY)]), TOLD, `restarted after ${read}`);
        // The twin: without what was told, the log raises them again.
        if (before.length > 0)
          assert.notDeepEqual([...before, ...feed(new AlertEngine([ANGRY]), STORY)].length, TOLD.length);
      }
    });

    it('clear by themselves after so long, once', () => {
      const engine = new AlertEngine([ANGRY]);
      feed(engine, [['c1', 0.5, 1_000]]);
      assert.deepEqual(engine.quiet(60_999), []);
      assert.deepEqual(short(engine.quiet(61_000)), ['angry cleared conversation=c1 61000']);
      assert.deepEqual(engine.quiet(200_000), []);
      // Read again: it was before that.
      assert.deepEqual(feed(engine, [['c1', 0.5, 1_000]]), []);
    });

    it('leave other streams and readings without the metric alone', () => {
      const engine = new AlertEngine([ANGRY]);
      assert.deepEqual(engine.read({ ...reading('c', 1, 0), stream: 'x' }, 1), []);
      assert.deepEqual(engine.read({ ...reading('c', 1, 0), values: {} }, 1), []);
    });
  });

  describe('on scores', () => {
    const scored = (index: number, score: number | null, more: Partial<Score> = {}): Score => ({
      stream: 's',
      metric: 'temperature',
      window: '10s',
      startMs: index * SIZE_MS,
      tags: { device: 'd1' },
      value: 45.25,
      expected: 20.123456,
      low: 19,
      high: 21,
      distance: 1,
      score,
      alarm: score !== null && score >= 1.3,
      ...more,
    });
    const STORY = [0.5, 1.3, 1.1, 0.9, null, 0.9, 0.9, 1.1, 1.4, 0.2, 0.2, 0.2].map((score, i) => scored(i, score));
    const SERIES = 'device=d1,metric=temperature';
    const TOLD = [
      `odd raised ${SERIES} 20000`,
      `odd cleared ${SERIES} 60000`,
      `odd raised ${SERIES} 90000`,
      `odd cleared ${SERIES} 120000`,
    ];

    it('raise at an alarm, and clear so many windows after the last unusual score', () => {
      const alerts = new AlertEngine([ODD]).scored(STORY);
      assert.deepEqual(short(alerts), TOLD);
      const [raised, cleared] = alerts as [Alert, Alert];
      assert.equal(
        raised.message,
        'temperature (mean over 10s) 45.25 of device=d1 is unusual: score 1.3, 20.12 was forecast',
      );
      assert.deepEqual(raised.tags, { device: 'd1', metric: 'temperature' });
      assert.deepEqual([raised.kind, raised.sinceMs, raised.value], ['score', 10_000, 1.3]);
      assert.equal(cleared.message, `${SERIES}: nothing unusual for 3 windows`);
      assert.equal(cleared.sinceMs, 10_000);
    });

    it('are not cleared while scores lie between the lower limit and the threshold', () => {
      const engine = new AlertEngine([{ ...ODD, clear: 0.8 }]);
      const scores = [1.3, ...Array.from({ length: 20 }, () => 0.9)].map((score, i) => scored(i, score));
      assert.equal(engine.scored(scores).length, 1);
      assert.deepEqual(engine.scoredTo(21 * SIZE_MS), []);
      assert.equal(engine.scored([21, 22, 23].map((i) => scored(i, 0.7))).length, 1);
    });

    it('clear by the clock when no score comes any more, once', () => {
      const engine = new AlertEngine([ODD]);
      engine.scored([scored(1, 1.3)]);
      assert.deepEqual(engine.scoredTo(49_999), []);
      assert.deepEqual(short(engine.scoredTo(50_000)), [`odd cleared ${SERIES} 50000`]);
      assert.deepEqual(engine.scoredTo(90_000), []);
    });

    it('tell nothing again when windows are scored again after a crash, wherever it was', () => {
      for (let told = 0; told <= STORY.length; told++) {
        const before = new AlertEngine([ODD]).scored(STORY.slice(0, told));
        const after = new AlertEngine([ODD]);
        after.restore(before, Number.NEGATIVE_INFINITY);
        assert.deepEqual(short([...before, ...after.scored(STORY)]), TOLD, `crash after ${told}`);
        // The twin: without what was told, scores that come again are told again.
        const forgetful = [...before, ...new AlertEngine([ODD]).scored(STORY)];
        if (before.length > 0) assert.notDeepEqual(short(forgetful), TOLD);
      }
    });

    it('count calm windows anew after a restart, because what was unusual before it is not known', () => {
      const engine = new AlertEngine([ODD]);
      engine.restore(new AlertEngine([ODD]).scored([scored(1, 1.3)]), 200_000);
      assert.deepEqual(engine.scored([scored(19, 0.1), scored(20, 0.1)]), []);
      assert.deepEqual(engine.scoredTo(229_999), []);
      assert.deepEqual(short(engine.scoredTo(230_000)), [`odd cleared ${SERIES} 230000`]);
    });

    it("leave alerts of other processes' series to them, until scores of them come by here", () => {
      const engine = new AlertEngine([ODD]);
      const asked: unknown[] = [];
      engine.restore(new AlertEngine([ODD]).scored([scored(1, 1.3)]), 200_000, (rule, tags) => {
        asked.push(rule.by, tags.device);
        return false;
      });
      assert.deepEqual(asked, ['device', 'd1']);
      assert.deepEqual(engine.scoredTo(900_000), []);
      const alerts = [90, 91, 92].flatMap((i) => engine.scored([scored(i, 0.1)]));
      assert.deepEqual(short(alerts), [`odd cleared ${SERIES} 930000`]);
    });

    it('look at each series alone, at the metric named, and at no other stream', () => {
      const engine = new AlertEngine([
        { ...ODD, metric: 'humidity' },
        { ...ODD, name: 'any' },
      ]);
      const alerts = engine.scored([
        scored(1, 2),
        scored(1, 2, { metric: 'humidity' }),
        scored(1, 2, { tags: { device: 'd2' } }),
        scored(1, 2, { stream: 'other' }),
        scored(1, null, { tags: { device: 'd3' } }),
      ]);
      assert.deepEqual(
        alerts.map(({ rule, series }) => `${rule} ${series}`),
        [
          'any device=d1,metric=temperature',
          'odd device=d1,metric=humidity',
          'any device=d1,metric=humidity',
          'any device=d2,metric=temperature',
        ],
      );
      const [count] = new AlertEngine([ODD]).scored([scored(1, 2, { metric: '', value: 7, expected: null })]);
      assert.equal(count!.series, 'device=d1');
      assert.equal(count!.message, 'count (count over 10s) 7 of device=d1 is unusual: score 2');
    });

    it('count what there was no room for, and tell it once there is', () => {
      const engine = new AlertEngine([ODD]);
      const full = Array.from({ length: MAX_ACTIVE + 1 }, (_, i) => scored(1, 2, { tags: { device: `d${i}` } }));
      assert.equal(engine.scored(full).length, MAX_ACTIVE);
      assert.equal(engine.overflowed, 1);
      engine.scored([scored(4, 0.1, { tags: { device: 'd0' } })]);
      assert.equal(engine.scored([full.at(-1)!]).length, 1);
    });
  });

  describe('on a threshold', () => {
    const run = (means: readonly number[], rule: ThresholdRule = HOT) => {
      const engine = new AlertEngine([rule]);
      return means.flatMap((mean, index) => engine.closed([row(index, mean)]));
    };

    it('raise after so many windows in a row, clear below the lower limit, and are still in between', () => {
      const alerts = run([90, 70, 90, 81, 78, 82, 78, 75, 90]);
      assert.deepEqual(short(alerts), ['hot raised device=d1 40000', 'hot cleared device=d1 80000']);
      assert.match(alerts[0]!.message, /temperature \(mean over 10s\) 81 of device=d1 is above 80/);
      assert.equal(alerts[0]!.sinceMs, 20_000);
      assert.equal(alerts[1]!.sinceMs, 20_000);
    });

    it('work downwards too, and on other statistics', () => {
      const cold = { ...HOT, above: null, below: 5, clear: 8, windows: 1, statistic: 'min' as const };
      assert.deepEqual(short(run([6, 4, 7, 8], cold)), ['hot raised device=d1 20000', 'hot cleared device=d1 40000']);
    });

    it('look at each series alone, and at no other metric, stream or window', () => {
      const engine = new AlertEngine([{ ...HOT, windows: 1 }]);
      const others = [
        row(0, 99, 'a', { metric: 'humidity' }),
        row(0, 99, 'a', { stream: 't' }),
        row(0, 99, 'a', { window: '1m' }),
        row(0, 99, 'a', { mean: null }),
      ];
      assert.deepEqual(engine.closed(others), []);
      assert.deepEqual(short(engine.closed([row(0, 99, 'a'), row(0, 1, 'b')])), ['hot raised device=a 10000']);
      assert.deepEqual(engine.closed([row(1, 1, 'b')]), []);
    });

    it('alternate between raised and cleared for any values, and agree with a plain reading of the rule', () => {
      fc.assert(
        fc.property(
          fc.array(fc.integer({ min: 70, max: 90 }), { maxLength: 60 }),
          fc.integer({ min: 1, max: 4 }),
          (means, windows) => {
            const found = short(run(means, { ...HOT, windows }));
            const expected: string[] = [];
            let raised = false;
            let inARow = 0;
            means.forEach((mean, index) => {
              const atMs = (index + 1) * SIZE_MS;
              inARow = mean > 80 ? inARow + 1 : 0;
              if (!raised && inARow >= windows) {
                raised = true;
                expected.push(`hot raised device=d1 ${atMs}`);
              } else if (raised && mean <= 75) {
                raised = false;
                inARow = 0;
                expected.push(`hot cleared device=d1 ${atMs}`);
              }
            });
            assert.deepEqual(found, expected);
          },
        ),
      );
    });

    it('say the same again, with the same ids, when rows come again after a crash', () => {
      const rows = [90, 90, 70, 90, 90, 90].map((mean, index) => row(index, mean));
      const once = new AlertEngine([HOT]).closed(rows);
      for (let crash = 0; crash <= rows.length; crash++) {
        const before = new AlertEngine([HOT]);
        const durable = before.closed(rows.slice(0, crash));
        const after = new AlertEngine([HOT]);
        after.restore(durable, Number.NEGATIVE_INFINITY);
        const all = [...durable, ...after.closed(rows)];
        assert.deepEqual(new Set(all.map(({ id }) => id)), new Set(once.map(({ id }) => id)), `crash at ${crash}`);
        assert.deepEqual(short(after.active), ['hot raised device=d1 50000']);
      }
    });
  });

  describe('on silence', () => {
    const DEVICES = 3;
    function begin() {
      const engine = new AlertEngine([SILENT]);
      engine.closed(Array.from({ length: DEVICES }, (_, device) => row(0, 1, `d${device}`)));
      engine.clock(10_000);
      return engine;
    }

    it('raise once by the clock of the log, and clear when the device is seen again', () => {
      const engine = begin();
      const alerts: Alert[] = [];
      for (let index = 1; index < 12; index++) {
        if (index < 3) alerts.push(...engine.closed([row(index, 1, 'd0')]));
        alerts.push(...engine.closed([row(index, 1, 'd1'), row(index, 1, 'd2')]));
        alerts.push(...engine.clock((index + 1) * SIZE_MS));
      }
      assert.deepEqual(short(alerts), ['gone raised device=d0 90000']);
      assert.equal(alerts[0]!.sinceMs, 30_000);
      assert.match(alerts[0]!.message, /device=d0 has been silent for more than 1m/);
      const [back] = engine.closed([row(12, 1, 'd0')]);
      assert.equal(back!.state, 'cleared');
      assert.match(back!.message, /is back/);
      assert.deepEqual(engine.active, []);
    });

    it('do not take the time for silence in which nobody listened', () => {
      const engine = begin();
      const downMs = 3_600_000;
      assert.ok(downMs > MAX_STEP_MS);
      assert.deepEqual(engine.clock(10_000 + downMs), []);
      assert.deepEqual(engine.clock(10_000 + downMs + 50_000), []);
      assert.equal(engine.clock(10_000 + downMs + 60_000).length, DEVICES);
    });

    it('go on after a restart: who was seen, and who is known to be silent', () => {
      const engine = begin();
      const [gone] = [
        ...engine.closed([row(1, 1, 'd1'), row(1, 1, 'd2')]),
        ...engine.clock(69_999),
        ...engine.clock(70_000),
      ];
      assert.equal(gone!.series, 'device=d0');
      const again = new AlertEngine([SILENT]);
      again.restore([gone!], 70_000);
      for (const seen of [row(0, 1, 'd0'), row(1, 1, 'd1'), row(1, 1, 'd2')]) again.seen(seen);
      assert.deepEqual(short(again.clock(80_000)), ['gone raised device=d1 80000', 'gone raised device=d2 80000']);
      assert.deepEqual(short(again.closed([row(9, 1, 'd0')])), ['gone cleared device=d0 100000']);
    });

    it('forget alerts of rules that are gone', () => {
      const engine = begin();
      const alerts = engine.clock(71_000).concat(engine.clock(131_000));
      assert.ok(alerts.length > 0);
      const again = new AlertEngine([HOT]);
      again.restore(alerts, 0);
      assert.deepEqual(again.active, []);
    });

    it('are bounded: more alerts than there is room for are counted', () => {
      const engine = new AlertEngine([SILENT]);
      engine.closed(Array.from({ length: MAX_ACTIVE + 5 }, (_, device) => row(0, 1, `d${device}`)));
      engine.clock(10_000);
      engine.clock(60_000);
      assert.equal(engine.clock(80_000).length, MAX_ACTIVE);
      assert.equal(engine.overflowed, 5);
    });
  });

  describe('on dead letters', () => {
    it('raise at the burst, stay raised while it lasts, and clear when it is over', () => {
      const engine = new AlertEngine([BURST]);
      const slow = [0, 20_000, 40_000, 60_000, 80_000].flatMap((atMs) => engine.refused('s', atMs));
      assert.deepEqual(slow, [], 'as many, but not within so long');
      const burst = [100_000, 101_000, 102_000, 103_000, 104_000].flatMap((atMs) => engine.refused('s', atMs));
      assert.deepEqual(short(burst), ['burst raised  103000']);
      assert.deepEqual(engine.quiet(105_000), []);
      assert.deepEqual(short(engine.quiet(114_000)), ['burst cleared  114000']);
      assert.deepEqual(engine.quiet(115_000), []);
    });

    it('count one stream alone where the rule names one', () => {
      const engine = new AlertEngine([{ ...BURST, stream: 's', count: 2 }]);
      assert.deepEqual(engine.refused('t', 1).concat(engine.refused('', 2), engine.refused('s', 3)), []);
      assert.equal(engine.refused('s', 4).length, 1);
    });
  });

  it('give alerts that survive their log, and no others are read from it', () => {
    const [alert] = new AlertEngine([{ ...HOT, windows: 1 }]).closed([row(0, 99)]);
    assert.deepEqual(decodeAlert(encodeAlert(alert!)), alert);
    for (const text of ['', 'null', '1', '{}', '{"id":1,"rule":"x"}'])
      assert.equal(decodeAlert(Buffer.from(text)), null);
  });

  it('have ids that differ between rules, series, beginnings and states', () => {
    const rules: AlertRule[] = [
      { ...HOT, windows: 1 },
      { ...HOT, name: 'hotter', windows: 1 },
    ];
    const engine = new AlertEngine(rules);
    const alerts = [row(0, 99), row(0, 99, 'd2'), row(1, 1), row(2, 99)].flatMap((each) => engine.closed([each]));
    assert.equal(alerts.length, 8);
    assert.equal(new Set(alerts.map(({ id }) => id)).size, 8);
  });
});

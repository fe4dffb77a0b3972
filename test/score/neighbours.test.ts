import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  HISTORY,
  horizonMs,
  LEAST_DISTANCES,
  MAX_SCORE,
  MEMORY,
  memoryMs,
  Neighbours,
  type Opinion,
  QUIET,
} from '../../src/score/neighbours.ts';
import { DEFAULT_THRESHOLD, MAX_AHEAD } from '../../src/scored.ts';
import { Random } from '../support/random.ts';

const STEP_MS = 10_000;
const T0_MS = 1_700_000_000_000;

interface Point {
  readonly startMs: number;
  readonly value: number;
}

/** A daily-like curve with noise; `change` may alter a value. */
function wave(count: number, seed: number, change = (value: number, _i: number) => value): Point[] {
  const random = new Random(seed);
  return Array.from({ length: count }, (_, i) => {
    const value = 20 + 5 * Math.sin((2 * Math.PI * i) / 96) + (random.integer(0, 1_000) - 500) / 1_000;
    return { startMs: T0_MS + i * STEP_MS, value: change(value, i) };
  });
}

function opinions(points: readonly Point[], memory = new Neighbours(STEP_MS, DEFAULT_THRESHOLD)): (Opinion | null)[] {
  return points.map(({ startMs, value }) => memory.add(startMs, value));
}

describe('The model of neighbours', () => {
  it('says nothing before there is something to compare with, and then about every window', () => {
    const said = opinions(wave(400, 1));
    const first = said.findIndex((opinion) => opinion !== null);
    assert.ok(first > 40 && first < 80, `${first}`);
    assert.ok(said.slice(first).every((opinion) => opinion !== null));
    const scored = said.findIndex((opinion) => opinion?.score != null);
    assert.equal(scored, first + LEAST_DISTANCES);
  });

  it('raises one alarm where a curve breaks, and none while it goes on as ever', () => {
    const broken = opinions(wave(1_500, 2, (value, i) => (i >= 1_200 && i < 1_230 ? value + 12 : value)));
    const alarms = broken.flatMap((opinion, i) => (opinion?.alarm ? [i] : []));
    assert.ok(
      alarms.some((i) => i >= 1_200 && i < 1_235),
      `alarms at ${alarms}`,
    );
    assert.equal(alarms.filter((i) => i >= 1_200 && i <= 1_200 + QUIET).length, 1);
    const early = alarms.filter((i) => i > 400 && i < 1_200).length;
    assert.ok(early <= 8, `${early} false alarms in 800 windows`);
  });

  it('notices a series that never moved when it moves, and gives the largest score', () => {
    const flat = opinions(wave(400, 3, (_, i) => (i === 390 ? 8 : 7)));
    assert.equal(flat[389]!.score, 0);
    assert.equal(flat[390]!.score, MAX_SCORE);
    assert.ok(flat[390]!.alarm);
  });

  it('says the same to the bit when made anew from the windows of its horizon, gaps or none', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000 }), fc.integer({ min: 0, max: 5 }), (seed, holes) => {
        const random = new Random(seed);
        const points = wave(2_700, seed).filter((_, i) => i < 2_000 || random.integer(0, 40) >= holes);
        const whole = opinions(points);
        const at = points.length - 1 - random.integer(0, 20);
        const { startMs } = points[at]!;
        const anew = new Neighbours(STEP_MS, DEFAULT_THRESHOLD);
        const horizon = points.filter((p) => p.startMs >= startMs - horizonMs(STEP_MS) && p.startMs <= startMs);
        assert.ok(horizon.length < at, 'something lies outside the horizon');
        let last: Opinion | null = null;
        for (const { startMs: ms, value } of horizon) {
          if (ms < startMs - memoryMs(STEP_MS)) anew.prime(ms, value);
          else last = anew.add(ms, value);
        }
        assert.deepEqual(last, whole[at]);
      }),
      { numRuns: 8 },
    );
  });

  it('says the same when it is given back what it said', () => {
    const points = wave(2_200, 4);
    const whole = opinions(points);
    const at = 2_100;
    const anew = new Neighbours(STEP_MS, DEFAULT_THRESHOLD);
    for (let i = at - MEMORY - QUIET - HISTORY; i < at - MEMORY - QUIET; i++) {
      anew.prime(points[i]!.startMs, points[i]!.value);
    }
    for (let i = at - MEMORY - QUIET; i < at; i++) anew.add(points[i]!.startMs, points[i]!.value, whole[i]!);
    assert.deepEqual(opinions(points.slice(at), anew), whole.slice(at));
  });

  it('does not look ahead: what comes later changes nothing that was said', () => {
    const points = wave(900, 5);
    const changed = points.map((p, i) => (i > 800 ? { ...p, value: -1e6 } : p));
    assert.deepEqual(opinions(points).slice(0, 801), opinions(changed).slice(0, 801));
  });

  it('passes over a window that is not newer than the newest', () => {
    const points = wave(300, 6);
    const memory = new Neighbours(STEP_MS, DEFAULT_THRESHOLD);
    opinions(points, memory);
    assert.equal(memory.add(points[299]!.startMs, 1e6), null);
    assert.equal(memory.add(points[10]!.startMs, 1e6), null);
    const next = { startMs: T0_MS + 300 * STEP_MS, value: 20 };
    assert.deepEqual(memory.add(next.startMs, next.value), opinions([...points, next]).at(-1));
  });

  it('forecasts with bounds that about nine of ten values keep', () => {
    const points = wave(4_000, 7);
    const said = opinions(points);
    const kept = said.flatMap((o, i) =>
      o?.low == null ? [] : [points[i]!.value >= o.low && points[i]!.value <= o.high!],
    );
    const share = kept.filter(Boolean).length / kept.length;
    assert.ok(kept.length > 3_800 && share > 0.87 && share < 0.93, `${share} of ${kept.length}`);
  });

  it('forecasts the windows to come, each at its time, wider the further away', () => {
    const memory = new Neighbours(STEP_MS, DEFAULT_THRESHOLD);
    opinions(wave(1_000, 8), memory);
    const ahead = memory.ahead(6);
    assert.deepEqual(
      ahead.map(({ startMs }) => startMs),
      Array.from({ length: 6 }, (_, i) => T0_MS + (1_000 + i) * STEP_MS),
    );
    for (const { startMs, expected, low, high } of ahead) {
      const truth = 20 + 5 * Math.sin((2 * Math.PI * ((startMs - T0_MS) / STEP_MS)) / 96);
      assert.ok(Math.abs(expected - truth) < 1, `${expected} for ${truth}`);
      assert.ok(low < expected && expected < high);
    }
    assert.ok(ahead[5]!.high - ahead[5]!.low >= ahead[0]!.high - ahead[0]!.low);
    assert.equal(memory.ahead(1_000).length, MAX_AHEAD);
  });

  it('stays finite with the largest and smallest values that are admitted', () => {
    const random = new Random(9);
    const points = wave(400, 9, () => [1e150, -1e150, 1e-140, 0][random.integer(0, 3)]!);
    for (const opinion of opinions(points)) {
      if (opinion === null) continue;
      for (const value of [opinion.distance, opinion.score ?? 0, opinion.expected ?? 0])
        assert.ok(Number.isFinite(value));
    }
  });
});

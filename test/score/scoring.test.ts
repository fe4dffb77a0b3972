import assert from 'node:assert/strict';
import { done, fail, type Outcome } from '../../src/errors.ts';
import type { Row, RowQuery } from '../../src/row.ts';
import { CATCH_UP, Scoring, type ScoringStore } from '../../src/score/scoring.ts';
import type { Score } from '../../src/scored.ts';
import type { Stream } from '../../src/stream.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { makeStream } from '../support/readings.ts';
import { makeRow, T0 } from '../support/rows.ts';

const STEP_MS = 10_000;

/** A store in memory that can be told to fail. */
class MemoryStore implements ScoringStore {
  readonly rows: Row[] = [];
  readonly scores = new Map<string, Score>();
  writesFail = false;
  readsFail = false;
  reads = 0;

  async *read(query: RowQuery): AsyncGenerator<Row> {
    this.reads++;
    if (this.readsFail) throw new Error('the disk is gone');
    yield* this.rows.filter((row) => isWanted(row, query)).sort((a, b) => a.startMs - b.startMs);
  }

  async *readScores(query: RowQuery): AsyncGenerator<Score> {
    const found = [...this.scores.values()].filter((score) => isWanted(score, query));
    yield* found.sort((a, b) => a.startMs - b.startMs);
  }

  async writeScores(scores: readonly Score[]): Promise<Outcome> {
    if (this.writesFail) return fail('STORE_IO', 'no room', { retryable: true });
    for (const score of scores) this.scores.set(placeOf(score), score);
    return done;
  }
}

function placeOf({ stream, metric, startMs, tags }: Score): string {
  return `${stream} ${metric} ${JSON.stringify(tags)} ${startMs}`;
}

function isWanted(row: Score | Row, { stream, window, metric, tags, fromMs, toMs }: RowQuery): boolean {
  if (row.stream !== stream || row.window !== window || row.metric !== metric) return false;
  const match = Object.entries(tags ?? {}).every(([name, value]) => row.tags[name] === value);
  return match && row.startMs >= fromMs && row.startMs < toMs;
}

function scored(windows = ['10s', '1m']): Stream {
  const plan = { window: '10s', metrics: ['value'], statistic: 'mean', threshold: 1.02, ahead: 3 } as const;
  return { ...makeStream('s', { windows }), score: plan };
}

function rowAt(i: number, parts: Partial<Row> = {}): Row {
  const mean = 10 + Math.sin(i / 7) + ((i * 7_919) % 101) / 400 + (i === 450 ? 25 : 0);
  return makeRow({ stream: 's', metric: 'value', startMs: T0 + i * STEP_MS, mean, ...parts });
}

describe('Scoring closed windows', () => {
  let store: MemoryStore;

  beforeEach(() => {
    store = new MemoryStore();
  });

  function start(
    options: { maxSeries?: number; stream?: Stream; alert?: (scores: readonly Score[]) => Promise<Outcome> } = {},
  ): Scoring {
    const { maxSeries = 100, stream = scored(), alert } = options;
    return new Scoring({ streams: { s: stream }, maxSeries, store, alert, telemetry: silentTelemetry() });
  }

  /** Rows become durable and are handed over, one flush after the other. */
  async function feed(scoring: Scoring, rows: readonly Row[]): Promise<void> {
    for (const row of rows) {
      store.rows.push(row);
      scoring.closed([row]);
      await scoring.settled();
    }
  }

  const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
  const series = (from: number, to: number, parts: Partial<Row> = {}) => numbers(from, to).map((i) => rowAt(i, parts));

  it('stores a score for each window, and an alarm where the curve breaks', async () => {
    await feed(start(), series(0, 500));
    const starts = [...store.scores.values()].map((score) => (score.startMs - T0) / STEP_MS);
    assert.equal(starts.at(-1), 499);
    assert.ok(starts.length > 400 && starts.every((at, i) => i === 0 || at === starts[i - 1]! + 1), 'without a gap');
    const alarms = [...store.scores.values()].filter(({ alarm }) => alarm);
    assert.deepEqual(
      alarms.filter(({ startMs }) => startMs >= T0 + 300 * STEP_MS).map(({ startMs }) => (startMs - T0) / STEP_MS),
      [450],
    );
  });

  it('says the same to the bit after any number of crashes as without', async () => {
    await feed(start(), series(0, 620));
    const whole = new Map(store.scores);
    store = new MemoryStore();
    let from = 0;
    for (const to of [40, 41, 130, 300, 455, 456, 600, 620]) {
      await feed(start(), series(from, to));
      from = to;
    }
    assert.deepEqual(store.scores, whole);
  });

  it('scores what was stored while nobody scored, once the series goes on', async () => {
    await feed(start(), series(0, 500));
    const whole = new Map(store.scores);
    store = new MemoryStore();
    await feed(start(), series(0, 400));
    store.rows.push(...series(400, 490)); // these became durable and the process died before it scored them
    await feed(start(), series(490, 500));
    assert.deepEqual(store.scores, whole);
  });

  it(`goes back ${CATCH_UP} windows at most`, async () => {
    await feed(start(), series(0, 100));
    store.rows.push(...series(100, 1_000));
    await feed(start(), series(1_000, 1_001));
    const late = [...store.scores.values()].filter(({ startMs }) => startMs >= T0 + 100 * STEP_MS);
    assert.equal(Math.min(...late.map(({ startMs }) => startMs)), T0 + (1_000 - CATCH_UP) * STEP_MS);
    assert.equal(late.length, CATCH_UP + 1);
  });

  it('comes back to scores that could not be written', async () => {
    await feed(start(), series(0, 300));
    const whole = new Map(store.scores);
    store = new MemoryStore();
    const scoring = start();
    await feed(scoring, series(0, 200));
    store.writesFail = true;
    await feed(scoring, series(200, 250));
    assert.ok(store.scores.size < 200);
    store.writesFail = false;
    await feed(scoring, series(250, 300));
    assert.deepEqual(store.scores, whole);
  });

  it('hands scores to the alerts before they are written, and again after a crash between the two', async () => {
    await feed(start(), series(0, 500));
    const whole = new Map(store.scores);
    store = new MemoryStore();
    const alarms: number[] = [];
    const alert = async (scores: readonly Score[]) => {
      for (const score of scores) {
        assert.ok(!store.scores.has(placeOf(score)), 'told before it is stored');
        if (score.alarm && score.startMs >= T0 + 300 * STEP_MS) alarms.push((score.startMs - T0) / STEP_MS);
      }
      return done;
    };
    await feed(start({ alert }), series(0, 450));
    store.writesFail = true;
    await feed(start({ alert }), series(450, 451));
    assert.deepEqual(alarms, [450]);
    store.writesFail = false;
    await feed(start({ alert }), series(451, 500));
    assert.deepEqual(alarms, [450, 450]);
    assert.deepEqual(store.scores, whole);
  });

  it('writes no score whose alert is not durable, and comes back to it', async () => {
    await feed(start(), series(0, 300));
    const whole = new Map(store.scores);
    store = new MemoryStore();
    let told: Outcome = done;
    const scoring = start({ alert: async () => told });
    await feed(scoring, series(0, 200));
    const { size } = store.scores;
    told = fail('SPOOL_FULL', 'no room', { retryable: true });
    await feed(scoring, series(200, 250));
    assert.equal(store.scores.size, size);
    assert.ok(scoring.isSettled);
    told = done;
    await feed(scoring, series(250, 300));
    assert.deepEqual(store.scores, whole);
  });

  it('goes on when the past cannot be read, and catches up later', async () => {
    await feed(start(), series(0, 300));
    const whole = new Map(store.scores);
    store = new MemoryStore();
    await feed(start(), series(0, 200));
    const scoring = start();
    store.readsFail = true;
    await feed(scoring, series(200, 220));
    store.readsFail = false;
    await feed(scoring, series(220, 300));
    assert.deepEqual(store.scores, whole);
  });

  it('begins anew from the store when partitions changed hands', async () => {
    const scoring = start();
    await feed(scoring, series(0, 200));
    const other = start();
    await feed(other, series(200, 240));
    scoring.reassigned();
    await feed(scoring, series(240, 300));
    const whole = store.scores;
    store = new MemoryStore();
    await feed(start(), series(0, 300));
    assert.deepEqual(whole, store.scores);
  });

  it('keeps series apart, also those that differ by a tag more', async () => {
    const one = series(0, 300, { tags: { device: 'd' } });
    const two = series(0, 300, { tags: { device: 'd', site: 'a' } }).map((row) => ({ ...row, mean: row.mean! * 2 }));
    await feed(
      start({ maxSeries: 1 }),
      one.flatMap((row, i) => [row, two[i]!]),
    );
    const both = [...store.scores.values()];
    store = new MemoryStore();
    await feed(start(), one);
    const alone = [...store.scores.values()];
    assert.deepEqual(
      both.filter(({ tags }) => !('site' in tags)),
      alone,
    );
  });

  it('scores only the windows and metrics that it was asked for, and nothing where it was not asked', async () => {
    const scoring = start();
    const others = series(0, 300).flatMap((row) => [
      { ...row, metric: 'other' },
      { ...row, window: '1m' },
    ]);
    scoring.closed(others);
    await scoring.settled();
    assert.equal(store.reads, 0);
    assert.ok(start({ stream: makeStream('s') }).isIdle);
  });

  it('forecasts the next windows of the series asked for', async () => {
    const scoring = start();
    await feed(scoring, series(0, 400));
    const forecasts = scoring.forecasts({ stream: 's', metric: 'value', tags: { device: 'd1' }, limit: 10 });
    assert.deepEqual(
      forecasts.map(({ startMs }) => (startMs - T0) / STEP_MS),
      [400, 401, 402],
    );
    assert.deepEqual(scoring.forecasts({ stream: 's', tags: { device: 'other' }, limit: 10 }), []);
    assert.equal(scoring.forecasts({ stream: 's', limit: 2 }).length, 2);
  });
});

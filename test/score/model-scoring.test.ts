/** A model of the user's, made here, in a real runtime and a real thread. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { done, type Outcome } from '../../src/errors.ts';
import type { Row, RowQuery } from '../../src/row.ts';
import { MODEL_TAG, ModelScoring } from '../../src/score/model-scoring.ts';
import { RELOAD_AFTER_MS } from '../../src/score/model-thread.ts';
import type { Score } from '../../src/scored.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { linearModel } from '../support/onnx.ts';
import { makeStream } from '../support/readings.ts';
import { makeRow, T0 } from '../support/rows.ts';

const STEP_MS = 10_000;
/** As built: `npm test` does that first. */
const threadEntry = new URL('../../dist/src/score/onnx-thread.js', import.meta.url);
const LIMITS = { batch: 4, queue: 100, timeoutMs: 30_000 };

describe('Scoring with a model of the user', function () {
  this.timeout(60_000);
  let folder: string;
  let scoring: ModelScoring;
  let telemetry: ReturnType<typeof silentTelemetry>;
  let stored: Row[];
  let scores: Score[];
  let nowMs: number;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-model-'));
    telemetry = silentTelemetry();
    [stored, scores, nowMs] = [[], [], 0];
  });
  afterEach(async () => {
    await scoring.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const store = {
    async *read({ tags, fromMs, toMs }: RowQuery) {
      yield* stored.filter((row) => row.tags.device === tags?.device && row.startMs >= fromMs && row.startMs < toMs);
    },
    async writeScores(written: readonly Score[]): Promise<Outcome> {
      scores.push(...written);
      return done;
    },
  };

  function start(model: Buffer | string, limits: Partial<typeof LIMITS> = {}, windows = 3): ModelScoring {
    const file = join(folder, 'model.onnx');
    writeFileSync(file, model);
    const score = {
      window: '10s',
      metrics: ['value'],
      statistic: 'mean',
      threshold: 1.02,
      ahead: 3,
      model: { name: 'mine', file, windows },
    } as const;
    const streams = { s: { ...makeStream('s', { windows: ['10s', '1m'] }), score } };
    const clock = { ...systemClock, monotonicMs: () => nowMs };
    scoring = new ModelScoring({
      streams,
      maxSeries: 10,
      limits: { ...LIMITS, ...limits },
      store,
      telemetry,
      clock,
      threadEntry,
    });
    return scoring;
  }

  const row = (i: number, mean: number, device = 'd1', more: Partial<Row> = {}) =>
    makeRow({ stream: 's', metric: 'value', startMs: T0 + i * STEP_MS, mean, tags: { device }, ...more });
  const short = () => scores.map(({ startMs, tags, score }) => [(startMs - T0) / STEP_MS, tags.device, score]);
  const failures = async () => {
    const { values } = await telemetry.modelFailures.get();
    return Object.fromEntries(values.map(({ labels, value }) => [labels.reason, value]));
  };

  it('gives it the newest windows of each series, oldest first, many at once, and keeps what it answers', async () => {
    start(linearModel([1, 10, 100]));
    const rows = [1, 2, 3, 4, 5].flatMap((value, i) => [row(i, value), row(i, value + 1, 'd2')]);
    scoring.closed([...rows, row(5, 9, 'd1', { metric: 'other' }), row(0, 9, 'd1', { window: '1m' })]);
    await scoring.settled();
    assert.deepEqual(short(), [
      [2, 'd1', 321],
      [2, 'd2', 432],
      [3, 'd1', 432],
      [3, 'd2', 543],
      [4, 'd1', 543],
      [4, 'd2', 654],
    ]);
    const [{ tags, value, alarm }] = scores as [Score];
    assert.deepEqual([tags[MODEL_TAG], value, alarm], ['mine', 3, false]);
    assert.equal(
      (await telemetry.modelSeconds.get()).values.find(({ metricName }) => metricName?.endsWith('_count'))?.value,
      2,
    );
  });

  it('reads the past of a series from the store after a start, and passes over a window that comes again', async () => {
    start(linearModel([1, 10, 100]));
    stored = [row(0, 1), row(1, 2), row(2, 3), row(2, 7, 'd2')];
    scoring.closed([row(3, 4)]);
    scoring.closed([row(3, 4), row(4, 5)]);
    await scoring.settled();
    assert.deepEqual(short(), [
      [3, 'd1', 432],
      [4, 'd1', 543],
    ]);
  });

  it('says why a file is no model, tries it again later, and scores once it is one', async () => {
    start('no model at all');
    scoring.closed([row(0, 1), row(1, 2), row(2, 3)]);
    await scoring.settled();
    assert.deepEqual([scores, await failures()], [[], { load: 1 }]);
    writeFileSync(join(folder, 'model.onnx'), linearModel([1, 10, 100]));
    scoring.closed([row(3, 4)]);
    await scoring.settled();
    assert.deepEqual([scores, await failures()], [[], { load: 1 }]);
    nowMs += RELOAD_AFTER_MS;
    scoring.closed([row(4, 5)]);
    await scoring.settled();
    assert.deepEqual(short(), [[4, 'd1', 543]]);
  });

  it('counts windows whose score is no number, and keeps the others', async () => {
    start(linearModel([1, 1, 1], 'Sqrt'));
    scoring.closed([1, 1, 2, -9, 3, 15].map((value, i) => row(i, value)));
    await scoring.settled();
    assert.deepEqual(short(), [
      [2, 'd1', 2],
      [5, 'd1', 3],
    ]);
    assert.deepEqual(await failures(), { 'not-finite': 2 });
  });

  it('takes no answer of another shape, nor that of a model that wants another number of windows', async () => {
    start(linearModel([1, 1, 1], 'Identity', 2));
    scoring.closed([0, 1, 2].map((i) => row(i, i)));
    await scoring.settled();
    assert.deepEqual([scores, await failures()], [[], { shape: 1 }]);
    await scoring.stop();
    start(linearModel([1, 1, 1]), {}, 2);
    scoring.closed([0, 1, 2].map((i) => row(i, i)));
    await scoring.settled();
    assert.deepEqual([scores, await failures()], [[], { shape: 1, error: 1 }]);
  });

  it('gives up a batch that takes too long, and its thread with it', async () => {
    start(linearModel([1, 10, 100]), { timeoutMs: 1 });
    scoring.closed([0, 1, 2].map((i) => row(i, i)));
    await scoring.settled();
    assert.deepEqual([scores, await failures()], [[], { timeout: 1 }]);
  });

  it('passes over the oldest windows when more wait than may', async () => {
    start(linearModel([1, 10, 100]), { queue: 3 });
    stored = [row(0, 1), row(1, 2), row(2, 3), row(3, 4), row(4, 5)];
    scoring.closed(stored);
    await scoring.settled();
    assert.deepEqual(short(), [
      [2, 'd1', 321],
      [3, 'd1', 432],
      [4, 'd1', 543],
    ]);
    const { values } = await telemetry.limitReached.get();
    assert.deepEqual(values, [{ labels: { limit: 'score.model_queue' }, value: 2 }]);
  });

  it('ends while it is asked, without an answer', async () => {
    start(linearModel([1, 10, 100]));
    scoring.closed([0, 1, 2].map((i) => row(i, i)));
    // Its thread has been started by then, and has not answered.
    await new Promise(setImmediate);
    await scoring.stop();
    assert.deepEqual([scores, await failures()], [[], {}]);
  });
});

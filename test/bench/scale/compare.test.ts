import assert from 'node:assert/strict';
import { compare, expectAt, fitService, medianPoint, type Point } from './compare.ts';
import type { Costs, Measured } from './plan.ts';
import { type Service, simulate } from './simulate.ts';

const SERVICE: Service = {
  mainMs: 0.05,
  commitsMs: [0.5, 1.5],
  forwardMs: 0.02,
  requestMs: 7,
  fetchMs: 12,
  rollupMs: 0.02,
};
const PER_SECOND = 1_000;
const PARTITIONS = 12;

/** A machine that is as the simulation says. */
function pointOf(processes: number, service = SERVICE): Point {
  const counts = { gateways: processes, rollups: processes, partitions: PARTITIONS, perSecond: PER_SECOND };
  const times = { warmupSeconds: 1, seconds: 20, commitIntervalMs: 5, lingerMs: 50 };
  const found = simulate(service, { ...counts, ...times, arrivals: 'paced', seed: 99 });
  const { acknowledged, forwardMeanMs, rollupMeanMs } = found;
  const { p50Ms, p99Ms } = acknowledged;
  const { mainMs, commitsMs, forwardMs, rollupMs } = service;
  const waits = { mainWaitMs: 0, forwardWaitMs: 0, rollupWaitMs: 0 };
  return { processes, p50Ms, p99Ms, forwardMeanMs, rollupMeanMs, mainMs, commitsMs, forwardMs, rollupMs, ...waits };
}

describe('The comparison of npm run bench -- scale', () => {
  it('finds the two times that cannot be seen from outside', () => {
    const { requestMs, fetchMs } = fitService(pointOf(1), PER_SECOND, PARTITIONS);
    assert.ok(Math.abs(requestMs - 7) < 0.5, `${requestMs}`);
    assert.ok(Math.abs(fetchMs - 12) < 0.5, `${fetchMs}`);
  });

  it('is near on a machine that is as the simulation says, and tells one that is not', () => {
    const points = [1, 2, 4].map((processes) => pointOf(processes));
    const service = fitService(points[0]!, PER_SECOND, PARTITIONS);
    const { rows, lines } = compare(points, service, PER_SECOND, PARTITIONS);
    assert.equal(rows.length, 12);
    for (const row of rows) assert.ok(Math.abs(row.errorPercent) <= 15, JSON.stringify(row));
    assert.equal(rows.filter(({ isFitted }) => isFitted).length, 2);
    assert.equal(lines.at(-1)!.trim(), '10 of 10 predictions are within 35 %');
    const slow = { ...pointOf(4), p50Ms: 20, forwardMeanMs: 200 };
    const compared = compare([points[0]!, slow], service, PER_SECOND, PARTITIONS);
    assert.ok(compared.rows[4]!.errorPercent < -50, JSON.stringify(compared.rows[4]));
    assert.equal(compared.lines.at(-1)!.trim(), '4 of 6 predictions are within 35 %');
  });

  it('counts the waiting for cores of a busy machine, and leaves it out of what is expected elsewhere', () => {
    const waiting = { ...SERVICE, mainMs: 0.45 };
    const busy = { ...pointOf(4, waiting), mainMs: SERVICE.mainMs, mainWaitMs: 0.4 };
    const { mainMs, ...times } = fitService(busy, PER_SECOND, PARTITIONS);
    assert.equal(mainMs, SERVICE.mainMs);
    const rows = (point: Point) => compare([point], { mainMs, ...times }, PER_SECOND, PARTITIONS).rows;
    const [p50] = rows(busy);
    assert.ok(Math.abs(p50!.errorPercent) <= 15, JSON.stringify(p50));
    const [unaware] = rows({ ...busy, mainWaitMs: 0 });
    assert.ok(unaware!.errorPercent < p50!.errorPercent - 3, JSON.stringify(unaware));
  });

  it('expects of more gateways what the plan gives them, and says how busy they are', () => {
    const cost = (process: number) => ({ process, busiestThread: process });
    const measured = (processes: number): Measured => ({ processes, gateway: cost(20), rollup: cost(10) });
    const costs: Costs = { steady: [1, 2, 4].map(measured), flatOut: measured(1) };
    const { rows, lines } = expectAt([10, 100], SERVICE, costs, PER_SECOND);
    assert.deepEqual(
      rows.map(({ gateways, rollups, partitions }) => [gateways, rollups, partitions]),
      [
        [10, 1, 4],
        [100, 2, 8],
      ],
    );
    assert.ok(Math.abs(rows[1]!.busy.rollup - 0.5) < 1e-9);
    assert.ok(Math.abs(rows[1]!.busy.main - 0.05) < 1e-9);
    assert.equal(lines.length, 3);
  });

  it('takes the middle of what rounds found, figure by figure', () => {
    const one = pointOf(1);
    const middle = medianPoint([one, { ...one, p50Ms: 1_000 }, { ...one, p50Ms: 2_000 }]);
    assert.deepEqual(middle, {
      ...one,
      p50Ms: 1_000,
      commitsMs: [...SERVICE.commitsMs, ...SERVICE.commitsMs, ...SERVICE.commitsMs],
    });
  });
});

/** The simulation of npm run bench -- scale, against what queueing theory says exactly. */
import assert from 'node:assert/strict';
import { Random } from '../../support/random.ts';
import { type Service, type Setup, simulate } from './simulate.ts';
import { commitInGroups, sendInRequests, serve } from './stations.ts';

const COUNT = 400_000;

/** Times of a Poisson process. */
function poisson(perMs: number, seed: number, count = COUNT): Float64Array {
  const random = new Random(seed);
  let atMs = 0;
  return Float64Array.from({ length: count }, () => {
    atMs -= Math.log(1 - random.next()) / perMs;
    return atMs;
  });
}

const meanOf = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
const waits = (doneMs: Float64Array, cameMs: Float64Array) => doneMs.map((at, i) => at - cameMs[i]!);

function near(actual: number, expected: number, within: number): void {
  assert.ok(Math.abs(actual / expected - 1) <= within, `${actual} is not within ${100 * within} % of ${expected}`);
}

describe('The simulation of npm run bench -- scale', () => {
  for (const load of [0.3, 0.6, 0.8]) {
    it(`has the waiting time of M/D/1 at a load of ${load}`, () => {
      const cameMs = poisson(load, 7);
      const spentMs = meanOf(
        waits(
          serve(cameMs, () => 1),
          cameMs,
        ),
      );
      near(spentMs, 1 + load / (2 * (1 - load)), 0.02);
    });

    it(`has the waiting time of M/M/1 at a load of ${load}`, () => {
      const [cameMs, random] = [poisson(load, 7), new Random(8)];
      const spentMs = meanOf(
        waits(
          serve(cameMs, () => -Math.log(1 - random.next())),
          cameMs,
        ),
      );
      near(spentMs, 1 / (1 - load), 0.03);
    });
  }

  it('commits a lone message at once, and many half an interval and a commit after they came', () => {
    assert.deepEqual([...commitInGroups(Float64Array.of(0, 100), 5, () => 1)], [1, 101]);
    const cameMs = poisson(20, 3);
    near(
      meanOf(
        waits(
          commitInGroups(cameMs, 5, () => 1),
          cameMs,
        ),
      ),
      5 / 2 + 1,
      0.01,
    );
    // A disk that takes longer than the interval sets the pace itself.
    near(
      meanOf(
        waits(
          commitInGroups(cameMs, 5, () => 8),
          cameMs,
        ),
      ),
      8 / 2 + 8,
      0.01,
    );
  });

  it('sends a lone message after the linger, and many half of it before the answer', () => {
    const { doneMs, request, count } = sendInRequests(Float64Array.of(0, 1, 60), 50, 2);
    assert.deepEqual([[...doneMs], [...request], count], [[52, 52, 112], [0, 0, 1], 2]);
    const cameMs = poisson(20, 3);
    near(meanOf(waits(sendInRequests(cameMs, 50, 2).doneMs, cameMs)), 50 / 2 + 2, 0.01);
    near(meanOf(waits(sendInRequests(cameMs, 50, 80).doneMs, cameMs)), 80 / 2 + 80, 0.01);
  });

  const NOTHING: Service = { mainMs: 0, commitsMs: [0], forwardMs: 0, requestMs: 0, fetchMs: 0, rollupMs: 0 };
  const SETUP: Setup = {
    gateways: 3,
    rollups: 2,
    partitions: 8,
    perSecond: 1_000,
    arrivals: 'poisson',
    warmupSeconds: 1,
    seconds: 20,
    commitIntervalMs: 5,
    lingerMs: 50,
    seed: 1,
  };

  it('joins the stations: the way is the sum of what each of them takes', () => {
    const service = { ...NOTHING, mainMs: 0.6, commitsMs: [0.5, 1.5], requestMs: 4, fetchMs: 3 };
    const { acknowledged, counted, messages } = simulate(service, SETUP);
    near(messages, 60_000, 0.02);
    const mainMs = 0.6 + (0.6 * 0.6) / (2 * 0.4);
    near(acknowledged.meanMs, mainMs + 5 / 2 + 1, 0.05);
    near(counted.meanMs, mainMs + 5 / 2 + 1 + 50 / 2 + 4 + 3, 0.05);
    assert.ok(acknowledged.p50Ms < acknowledged.p99Ms);
  });

  it('makes many gateways queue in the rollups, as batches of M/D/1 when each request is one', () => {
    // Rare messages: a request brings one, and those of 200 gateways come at random.
    const rare = { ...SETUP, gateways: 200, rollups: 1, partitions: 1, perSecond: 2, seconds: 100, lingerMs: 0 };
    const { counted, busy } = simulate({ ...NOTHING, rollupMs: 1.5 }, rare);
    near(busy.rollup, 0.6, 1e-9);
    near(counted.meanMs, 1.5 * (1 + 0.6 / (2 * 0.4)), 0.03);
  });

  it('says the same for the same seed, and loses nothing', () => {
    const service = { ...NOTHING, mainMs: 0.1, commitsMs: [2], forwardMs: 0.05, requestMs: 5, rollupMs: 0.05 };
    assert.deepEqual(simulate(service, SETUP), simulate(service, SETUP));
    assert.notDeepEqual(simulate(service, SETUP), simulate(service, { ...SETUP, seed: 2 }));
    const paced = simulate(service, { ...SETUP, arrivals: 'paced' });
    assert.equal(paced.messages, 3 * 20_000);
    assert.ok(paced.longestQueue.main >= 1 && paced.longestQueue.rollup >= 1);
  });
});

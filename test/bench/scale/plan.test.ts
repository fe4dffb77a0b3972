import assert from 'node:assert/strict';
import { type Measured, PARTITIONS_PER_ROLLUP, planFor } from './plan.ts';

const costs = (processes: number, gateway: number, rollup: number): Measured => ({
  processes,
  gateway: { process: 2 * gateway, busiestThread: gateway },
  rollup: { process: rollup, busiestThread: rollup },
});

describe('The plan of npm run bench -- scale', () => {
  it('is the busiest thread of each process, at three fifths of a core, where cost does not grow', () => {
    const flat = [costs(1, 12, 6), costs(2, 12, 6), costs(4, 12, 6)];
    const { gateways, rollups, partitions, cores } = planFor(flat, 1_000_000);
    // 12 CPU-s per million are 12 cores at a million a second: 20 threads that are busy for three fifths.
    assert.deepEqual(
      { gateways, rollups, partitions, cores },
      { gateways: 20, rollups: 10, partitions: 10 * PARTITIONS_PER_ROLLUP, cores: 50 },
    );
    assert.equal(planFor(flat, 100_000).gateways, 2);
  });

  it('reckons with the cost among the most processes that were measured, and says how it grew', () => {
    const growing = [costs(1, 10, 6), costs(2, 11, 6), costs(4, 12.1, 6)];
    const { gateways, steps } = planFor(growing, 1_000_000);
    assert.equal(gateways, 21);
    assert.ok(
      steps.some((step) => step.includes('growth with each doubling: 1.10')),
      steps.join('\n'),
    );
  });
});

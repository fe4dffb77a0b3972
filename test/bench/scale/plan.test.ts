import assert from 'node:assert/strict';
import { type Costs, type Measured, PARTITIONS_PER_ROLLUP, planFor } from './plan.ts';

const costs = (processes: number, gateway: number, rollup: number): Measured => ({
  processes,
  gateway: { process: 2 * gateway, busiestThread: gateway },
  rollup: { process: rollup, busiestThread: rollup },
});

describe('The plan of npm run bench -- scale', () => {
  it('is the busiest thread of each process, at three fifths of a core, where cost does not grow', () => {
    // At a slow rate a message costs more, in one process as in four.
    const flat: Costs = { steady: [costs(1, 30, 15), costs(2, 30, 15), costs(4, 30, 15)], flatOut: costs(1, 12, 6) };
    const { gateways, rollups, partitions, cores } = planFor(flat, 1_000_000);
    // 12 CPU-s per million are 12 cores at a million a second: 20 threads that are busy for three fifths.
    assert.deepEqual(
      { gateways, rollups, partitions, cores },
      { gateways: 20, rollups: 10, partitions: 10 * PARTITIONS_PER_ROLLUP, cores: 50 },
    );
    assert.equal(planFor(flat, 100_000).gateways, 2);
  });

  it('reckons with the growth from the fewest processes to the most at the same rate, and says it', () => {
    const growing: Costs = { steady: [costs(1, 20, 8), costs(2, 22, 8), costs(4, 24.2, 7)], flatOut: costs(1, 10, 6) };
    const { gateways, rollups, steps } = planFor(growing, 1_000_000);
    assert.deepEqual([gateways, rollups], [21, 10]);
    assert.ok(
      steps.some((step) => step.includes('times 1.21')),
      steps.join('\n'),
    );
  });
});

import assert from 'node:assert/strict';
import { type SimulationOptions, type SimulationResult, simulate } from '../support/simulation.ts';
import {
  CHANGE_MUTANTS,
  HISTORY_MUTANTS,
  MUTANTS,
  TICK_MUTANT,
  TWO_STAGE_MUTANTS,
} from '../support/simulation-mutants.ts';
import type { Truth } from '../support/simulation-oracle.ts';
import { makeWorkload, type ShapeName, type Workload } from '../support/simulation-workload.ts';

/** MILLRACE_SIM_SCHEDULES=20000 for a long run; a failure prints the command that repeats its one schedule. */
const SCHEDULES = Number(process.env.MILLRACE_SIM_SCHEDULES ?? 150);
/** The first seed, so that a long run can be made in parts. */
const FIRST_SEED = Number(process.env.MILLRACE_SIM_FROM ?? 0);
const ONE_SEED = process.env.MILLRACE_SIM_SEED;
/** A schedule's log is one of so many: the truth about a log takes longer to find than a schedule to run. */
const LONG_RUN_WORKLOADS = 200;
const WORKLOADS = SCHEDULES > 1_000 ? LONG_RUN_WORKLOADS : 15;
/** Within so many seeds each planted mistake must show. */
const SEEDS_PER_MUTANT = 60;

const truths = new Map<string, Truth[]>();
const workloads = new Map<string, Workload>();

type Variation = Pick<SimulationOptions, 'truncate' | 'reconfigure' | 'mutant' | 'stages'>;

function run(
  seed: number,
  shapes: readonly ShapeName[],
  variation: Variation,
  count = WORKLOADS,
): Promise<SimulationResult> {
  const number = seed % count;
  const shape = shapes[number % shapes.length]!;
  const name = `${number} ${shape}`;
  let workload = workloads.get(name);
  if (workload === undefined) {
    workload = makeWorkload(number, { shape });
    workloads.set(name, workload);
  }
  return simulate({ seed, workload, truths, truthKey: name, ...variation });
}

const ALL_SHAPES: readonly ShapeName[] = ['calm', 'busy', 'disordered', 'torn', 'hesitant'];
/** Not further out of order than grace + disorder: what the first record after a loss tells about the lost ones. */
const ORDERLY_SHAPES: readonly ShapeName[] = ['calm', 'busy', 'disordered'];

async function runAll(
  schedules: number,
  shapes: readonly ShapeName[],
  variation: (seed: number) => Variation,
): Promise<SimulationResult[]> {
  const results: SimulationResult[] = [];
  for (let i = 0; i < schedules; i++) {
    const seed = ONE_SEED === undefined ? FIRST_SEED + i : Number(ONE_SEED);
    const result = await run(seed, shapes, variation(seed));
    const command = `MILLRACE_SIM_SCHEDULES=${SCHEDULES} MILLRACE_SIM_SEED=${seed} npx mocha test/rollup/simulation.test.ts`;
    assert.deepEqual(result.problems, [], `repeated by ${command}\n${result.problems.join('\n')}`);
    results.push(result);
    if (ONE_SEED !== undefined) break;
  }
  return results;
}

function total(results: readonly SimulationResult[], field: Exclude<keyof SimulationResult, 'problems'>): number {
  return results.reduce((sum, result) => sum + result[field], 0);
}

describe('the rollup under crashes, takeovers and zombies', function () {
  // Long enough for a machine with other things to do: a schedule takes about 20 ms on an idle one.
  this.timeout(Math.max(120_000, SCHEDULES * 1_000));

  it('writes every row, none too many, and never a value that is not the true one', async () => {
    const results = await runAll(SCHEDULES, ALL_SHAPES, () => ({}));
    assert.equal(total(results, 'missing'), 0);
    if (ONE_SEED !== undefined) return;
    // The faults did happen.
    assert.ok(total(results, 'crashes') > SCHEDULES, 'crashes');
    assert.ok(total(results, 'takeovers') > SCHEDULES, 'takeovers');
    assert.ok(total(results, 'zombies') > SCHEDULES, 'zombies');
    assert.ok(total(results, 'repeatedWrites') > SCHEDULES, 'repeated writes');
  });

  it('leaves rows out, but writes no partial one, when the log loses its beginning', async () => {
    const results = await runAll(Math.ceil(SCHEDULES / 3), ORDERLY_SHAPES, () => ({ truncate: true }));
    if (ONE_SEED !== undefined) return;
    assert.ok(total(results, 'truncations') > SCHEDULES / 6, 'truncations');
    assert.ok(total(results, 'missing') > 0, 'rows left out');
  });

  it('writes no partial row when the configuration changes', async () => {
    const changes = ['grace', 'windows', 'metrics'] as const;
    await runAll(Math.ceil(SCHEDULES / 3), ALL_SHAPES, (seed) => ({ reconfigure: changes[seed % 3]! }));
  });

  for (const [name, mutant] of Object.entries(CHANGE_MUTANTS)) {
    it(`would notice: ${name}`, () => assertCaught(ALL_SHAPES, () => ({ reconfigure: 'windows', mutant })));
  }

  for (const [name, mutant] of Object.entries(MUTANTS)) {
    // Without such a log the forgotten watermark hardly ever matters.
    const shapes = name === 'the watermark is forgotten' ? (['hesitant'] as const) : ALL_SHAPES;
    it(`would notice: ${name}`, () => assertCaught(shapes, () => ({ mutant })));
  }
});

describe('the rollup in two stages under crashes, takeovers and zombies', function () {
  this.timeout(Math.max(120_000, SCHEDULES * 1_000));

  it('writes every row, none too many, and never a value that is not the true one', async () => {
    const results = await runAll(Math.ceil(SCHEDULES / 2), ALL_SHAPES, () => ({ stages: 2 }));
    assert.equal(total(results, 'missing'), 0);
    if (ONE_SEED !== undefined) return;
    assert.ok(total(results, 'crashes') > SCHEDULES / 2, 'crashes');
    assert.ok(total(results, 'zombies') > SCHEDULES / 2, 'zombies');
    assert.ok(total(results, 'panes') > SCHEDULES, 'panes');
    assert.ok(total(results, 'repeatedPanes') > SCHEDULES, 'panes that were written more than once');
  });

  it('leaves rows out, but writes no partial one, when either log loses its beginning', async () => {
    const results = await runAll(Math.ceil(SCHEDULES / 3), ORDERLY_SHAPES, () => ({ stages: 2, truncate: true }));
    if (ONE_SEED !== undefined) return;
    assert.ok(total(results, 'truncations') > SCHEDULES / 6, 'truncations');
  });

  const changes = ['stages', 'grace', 'stages', 'windows', 'stages', 'metrics'] as const;
  const changing = (seed: number): Variation => ({ stages: seed % 4 < 2 ? 2 : 1, reconfigure: changes[seed % 6]! });

  it('writes no partial row when the configuration changes, the number of stages too', async () => {
    await runAll(Math.ceil(SCHEDULES / 3), ALL_SHAPES, changing);
  });

  // Of long runs that found a wrong row.
  for (const seed of [5_017, 20_017]) {
    it(`writes no partial row in schedule ${seed}`, async () => {
      const { problems } = await run(seed, ALL_SHAPES, changing(seed), LONG_RUN_WORKLOADS);
      assert.deepEqual(problems, []);
    });
  }

  it('would notice: a tick of other rules moves the clock of all streams, and nothing is said of it', async () => {
    const variation = { ...changing(20_017), mutant: TICK_MUTANT };
    const { problems } = await run(20_017, ALL_SHAPES, variation, LONG_RUN_WORKLOADS);
    assert.match(problems.join('\n'), /a wrong row was written/);
  });

  // Shown with one stage: a minute is too short for the watermark before it to matter in these logs.
  const { 'the watermark is forgotten': _, ...mutants } = MUTANTS;
  for (const [name, mutant] of Object.entries({ ...mutants, ...TWO_STAGE_MUTANTS })) {
    it(`would notice: ${name}`, () => assertCaught(ALL_SHAPES, () => ({ stages: 2, mutant })));
  }

  for (const [name, mutant] of Object.entries(HISTORY_MUTANTS)) {
    it(`would notice: ${name}`, () => assertCaught(ORDERLY_SHAPES, () => ({ stages: 2, truncate: true, mutant })));
  }
});

async function assertCaught(shapes: readonly ShapeName[], variation: (seed: number) => Variation): Promise<void> {
  for (let seed = 0; seed < SEEDS_PER_MUTANT; seed++) {
    if ((await run(seed, shapes, variation(seed))).problems.length > 0) return;
  }
  assert.fail(`no schedule of ${SEEDS_PER_MUTANT} showed it`);
}

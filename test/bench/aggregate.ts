/** What one value, one pane and one merge cost in exact arithmetic, in time and memory. */
import { Aggregate } from '../../src/rollup/aggregate.ts';
import { ExactSum } from '../../src/rollup/exact-sum.ts';
import { Histogram } from '../../src/rollup/histogram.ts';

const VALUES = 1 << 16;
const ROUNDS = 3;

/** Telemetry: a slow wave with noise, two decimals, as JSON gives it. Repeatable: a small linear congruence. */
function telemetry(): Float64Array {
  const values = new Float64Array(VALUES);
  let state = 1;
  for (let i = 0; i < VALUES; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    values[i] = Math.round((20 + 5 * Math.sin(i / 500) + state / 2 ** 32) * 100) / 100;
  }
  return values;
}

/** Best nanoseconds of a few rounds; `work` does `times` of what is measured. */
function nanoseconds(times: number, work: () => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS + 2; round++) {
    const started = performance.now();
    work();
    const spent = ((performance.now() - started) * 1e6) / times;
    if (round >= 2 && spent < best) best = spent;
  }
  return best;
}

let held: Aggregate[] | null = null;

/** Bytes of one of `panes`, as the heap grows; needs `node --expose-gc`. */
function bytesHeld(collect: () => void, values: Float64Array, size: number): number {
  held = null;
  collect();
  const before = process.memoryUsage().heapUsed;
  held = panes(values, size);
  collect();
  return (process.memoryUsage().heapUsed - before) / held.length;
}

function addOnly(values: Float64Array, size: number): void {
  let pane = new Aggregate();
  for (let i = 0; i < values.length; i++) {
    if (i % size === 0) pane = new Aggregate();
    pane.add(1_700_000_000_000 + i, values[i]!);
  }
}

function panes(values: Float64Array, size: number): Aggregate[] {
  const list: Aggregate[] = [];
  for (let i = 0; i < values.length; i += size) {
    const pane = new Aggregate();
    for (let j = i; j < i + size; j++) pane.add(1_700_000_000_000 + j, values[j]!);
    list.push(pane);
  }
  return list;
}

export async function run(): Promise<void> {
  const values = telemetry();
  const show = (what: string, figure: number, unit: string) =>
    console.log(`${what.padEnd(58)} ${figure.toFixed(figure < 100 ? 1 : 0).padStart(8)} ${unit}`);

  show(
    'sum, a value',
    nanoseconds(VALUES, () => {
      const sum = new ExactSum();
      for (let i = 0; i < VALUES; i++) sum.add(values[i]!);
    }),
    'ns',
  );
  show(
    'sum of squares, a value',
    nanoseconds(VALUES, () => {
      const sum = new ExactSum();
      for (let i = 0; i < VALUES; i++) sum.addSquare(values[i]!);
    }),
    'ns',
  );
  show(
    'histogram, a value',
    nanoseconds(VALUES, () => {
      const histogram = new Histogram();
      for (let i = 0; i < VALUES; i++) histogram.add(values[i]!);
    }),
    'ns',
  );
  for (const size of [1, 8, 32, 512]) {
    const many = panes(values, size);
    show(
      `add with all statistics held, panes of ${size}, a value`,
      nanoseconds(VALUES, () => addOnly(values, size)),
      'ns',
    );
    show(
      `statistics of a pane of ${size}`,
      nanoseconds(many.length, () => {
        for (const pane of many) pane.statistics();
      }) / 1000,
      'us',
    );
    show(
      `merge of six panes of ${size} into one`,
      nanoseconds(many.length / 6, () => {
        let into = new Aggregate();
        for (let i = 0; i < many.length; i++) {
          if (i % 6 === 0) into = new Aggregate();
          into.merge(many[i]!);
        }
      }) / 1000,
      'us',
    );
  }
  const thirtyTwo = panes(values, 32);
  const encoded = thirtyTwo.map((pane) => pane.encode());
  show('text form of a pane of 32', encoded[0]!.length, 'characters');
  show(
    'encode a pane of 32',
    nanoseconds(encoded.length, () => {
      for (const pane of thirtyTwo) pane.encode();
    }) / 1000,
    'us',
  );
  show(
    'decode a pane of 32',
    nanoseconds(encoded.length, () => {
      for (const text of encoded) Aggregate.decode(text);
    }) / 1000,
    'us',
  );
  const collect = globalThis.gc;
  if (collect)
    for (const size of [1, 32]) show(`memory of an open pane of ${size}`, bytesHeld(collect, values, size), 'bytes');
}

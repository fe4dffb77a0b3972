import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Aggregate } from '../../src/rollup/aggregate.ts';
import { bucketOf, middleOf } from '../../src/rollup/histogram.ts';
import { STATISTICS } from '../../src/row.ts';
import { compare, exact, exactSum, exactVariance, nearest, nearestRank, times } from '../../src/torture/exact.ts';

interface Sample {
  readonly timeMs: number;
  readonly value: number;
}

/** 1/129: half of a bucket relative to its middle; see histogram.ts. */
const PERCENTILE_ERROR = 0.0078;

const smallest = 1e-140;
const largest = 1e150;

function inDomain(value: number): boolean {
  return value === 0 || (Math.abs(value) >= smallest && Math.abs(value) <= largest);
}

/** Any double of the domain, ordinary telemetry, and the values that hurt. */
const number = fc
  .oneof(
    fc.double({ noNaN: true, min: -largest, max: largest }).filter(inDomain),
    fc.integer({ min: -1000, max: 1000 }).map((tenths) => tenths / 10),
    fc.constantFrom(0, 1, -1, largest, -largest, smallest, -smallest, 2 ** 53, 2 ** 53 + 2, 0.1, 1 + 2 ** -52, 1e16),
    fc.tuple(fc.constantFrom(1, -1), fc.integer({ min: -465, max: 498 })).map(([sign, e]) => sign * 2 ** e),
    // neighbours at the bottom of the domain: their squares differ by less than the smallest double
    fc.integer({ min: 0, max: 9 }).map((steps) => nextUp(smallest, steps)),
  )
  .map((value) => value + 0 || 0);

/** Sets in which most of the sum cancels. */
const cancelling = fc
  .array(number, { minLength: 1, maxLength: 15 })
  .chain((values) => fc.tuple(fc.constant(values), number))
  .map(([values, rest]) => [...values, rest, ...values.map((value) => -value || 0)]);

const values = fc.oneof(
  fc.array(number, { minLength: 1, maxLength: 40 }),
  cancelling,
  fc.tuple(number, fc.integer({ min: 1, max: 30 })).map(([value, times]) => new Array<number>(times).fill(value)),
  fc.array(fc.constantFrom(largest, -largest, smallest, -smallest), { minLength: 1, maxLength: 30 }),
  fc
    .array(fc.integer({ min: 0, max: 9 }), { minLength: 2, maxLength: 20 })
    .map((list) => list.map((steps) => nextUp(smallest, steps))),
);

const samples = values.chain((list) =>
  fc
    .array(fc.integer({ min: 1_700_000_000_000, max: 1_700_000_000_020 }), {
      minLength: list.length,
      maxLength: list.length,
    })
    .map((stamps) => list.map((value, i): Sample => ({ timeMs: stamps[i]!, value }))),
);

function nextUp(value: number, steps: number): number {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setFloat64(0, value);
  bytes.setBigUint64(0, bytes.getBigUint64(0) + BigInt(steps));
  return bytes.getFloat64(0);
}

function aggregateOf(list: readonly Sample[]): Aggregate {
  const aggregate = new Aggregate();
  for (const { timeMs, value } of list) aggregate.add(timeMs, value);
  return aggregate;
}

/** Splits at the given places, aggregates the pieces, and merges them pairwise in a random tree. */
function mergedInTree(list: readonly Sample[], cuts: readonly number[], order: readonly number[]): Aggregate {
  const places = [0, ...cuts.map((cut) => cut % (list.length + 1)).sort((a, b) => a - b), list.length];
  const parts = places.slice(1).map((end, i) => aggregateOf(list.slice(places[i], end)));
  for (let step = 0; parts.length > 1; step++) {
    const [taken] = parts.splice((order[step % order.length] ?? 0) % parts.length, 1);
    parts[(order[(step + 1) % order.length] ?? 0) % parts.length]!.merge(taken!);
  }
  return parts[0]!;
}

describe('Aggregate', () => {
  it('gives the exact statistics of a small pane', () => {
    const aggregate = aggregateOf([
      { timeMs: 3000, value: 21.5 },
      { timeMs: 1000, value: 20 },
      { timeMs: 2000, value: 23 },
      { timeMs: 4000, value: -1 },
    ]);
    const statistics = aggregate.statistics();
    assert.equal(aggregate.count, 4);
    assert.deepEqual(
      { ...statistics, p50: 0, stddev: 0 },
      {
        sum: 63.5,
        mean: 15.875,
        min: -1,
        max: 23,
        stddev: 0,
        first: 20,
        last: -1,
        p50: 0,
        p95: 23,
        p99: 23,
      },
    );
    assert.equal(statistics.stddev, Math.sqrt(96.046875));
    assert.ok(Math.abs(statistics.p50 - 20) <= 20 * PERCENTILE_ERROR);
  });

  it('does not round between additions: 1e150 + 1 - 1e150 is 1', () => {
    const aggregate = aggregateOf([1e150, 1, -1e150].map((value) => ({ timeMs: 0, value })));
    assert.equal(aggregate.statistics().sum, 1);
  });

  it('takes first and last by time, and at one time by value', () => {
    const samples = [
      { timeMs: 5, value: 2 },
      { timeMs: 5, value: 1 },
      { timeMs: 9, value: 7 },
      { timeMs: 9, value: 8 },
      { timeMs: 7, value: 100 },
    ];
    for (const list of [samples, [...samples].reverse()]) {
      const { first, last } = aggregateOf(list).statistics();
      assert.deepEqual([first, last], [1, 8]);
    }
  });

  it('gives one value back as every statistic of place, with no deviation', () => {
    fc.assert(
      fc.property(number, fc.integer({ min: 1, max: 20 }), (value, times) => {
        const statistics = aggregateOf(new Array(times).fill({ timeMs: 1, value })).statistics();
        for (const name of ['min', 'max', 'first', 'last', 'p50', 'p95', 'p99'] as const)
          assert.equal(statistics[name], value, name);
        assert.equal(statistics.stddev, 0);
      }),
    );
  });

  it('equals exact rational arithmetic bit for bit', () => {
    fc.assert(
      fc.property(samples, (list) => {
        const values = list.map((sample) => sample.value);
        const statistics = aggregateOf(list).statistics();
        const sum = nearest(exactSum(values));
        assert.equal(statistics.sum, sum);
        assert.equal(statistics.mean, sum / values.length);
        assert.equal(statistics.stddev, Math.sqrt(nearest(exactVariance(values))));
        assert.equal(statistics.min, Math.min(...values));
        assert.equal(statistics.max, Math.max(...values));
        for (const name of STATISTICS) {
          assert.ok(Number.isFinite(statistics[name]) && !Object.is(statistics[name], -0), `${name} is a number`);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('rounds a variance below the smallest normal double once', () => {
    // Neighbours at 1e-140 in large numbers: n * Sxx - Sx^2 is a few units of 2^-1036, over n^2 up to 2^20.
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1000 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 3 }),
        (times, steps, others) => {
          const values = [
            ...new Array<number>(times).fill(smallest),
            ...new Array<number>(others).fill(nextUp(smallest, steps)),
          ];
          const { stddev } = aggregateOf(values.map((value) => ({ timeMs: 0, value }))).statistics();
          const variance = nearest(exactVariance(values));
          assert.ok(variance < 2 ** -1022, 'the case is a subnormal one');
          assert.equal(stddev, Math.sqrt(variance));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('is the same, as statistics and as text, in any order and grouping, sent as text in between or not', () => {
    fc.assert(
      fc.property(
        samples.chain((list) =>
          fc.tuple(
            fc.constant(list),
            fc.shuffledSubarray(list, { minLength: list.length }),
            fc.array(fc.nat({ max: 60 }), { maxLength: 8 }),
            fc.array(fc.nat(), { minLength: 1, maxLength: 9 }),
          ),
        ),
        ([list, shuffled, cuts, order]) => {
          const straight = aggregateOf(list);
          const sent = new Aggregate();
          for (const part of [shuffled.slice(0, 7), shuffled.slice(7)]) {
            sent.merge(Aggregate.decode(aggregateOf(part).encode())!);
          }
          for (const other of [aggregateOf(shuffled), mergedInTree(shuffled, cuts, order), sent]) {
            assert.equal(other.encode(), straight.encode());
            assert.equal(other.count, straight.count);
            assert.deepEqual(other.statistics(), straight.statistics());
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  it('leaves the aggregate that is merged unchanged, and adds nothing for an empty one', () => {
    const part = aggregateOf([{ timeMs: 1, value: 0.1 }]);
    const before = part.encode();
    const whole = aggregateOf([{ timeMs: 2, value: 0.2 }]);
    whole.merge(part);
    whole.add(3, 0.3);
    assert.equal(part.encode(), before);
    const text = whole.encode();
    whole.merge(new Aggregate());
    assert.equal(whole.encode(), text);
  });

  it('finds percentiles by nearest rank within 0.78 %, never outside the values', () => {
    fc.assert(
      fc.property(fc.array(number, { minLength: 1, maxLength: 200 }), (values) => {
        const statistics = aggregateOf(values.map((value) => ({ timeMs: 0, value }))).statistics();
        for (const percent of [50, 95, 99] as const) {
          const found = statistics[`p${percent}`];
          const wanted = nearestRank(values, percent);
          const distance = Math.abs(found - wanted) / (Math.abs(wanted) || 1);
          assert.ok(distance <= PERCENTILE_ERROR, `p${percent}: ${found}, wanted ${wanted}`);
          assert.ok(found >= statistics.min && found <= statistics.max);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('orders buckets as the values, and stands for a bucket with less than 0.78 % error', () => {
    fc.assert(
      fc.property(number, number, (a, b) => {
        if (a < b) assert.ok(bucketOf(a) <= bucketOf(b));
        const error = exact(middleOf(bucketOf(a)) - a);
        const bound = times(exact(Math.abs(a)), { numerator: 78n, denominator: 10_000n });
        assert.ok(compare(error, bound) <= 0 && compare(times(error, exact(-1)), bound) <= 0);
      }),
      { numRuns: 1000 },
    );
  });
});

describe('the text form of an aggregate', () => {
  it('comes back as the same aggregate, which can go on', () => {
    fc.assert(
      fc.property(samples, samples, (list, more) => {
        const aggregate = aggregateOf(list);
        const decoded = Aggregate.decode(aggregate.encode());
        assert.ok(decoded);
        assert.equal(decoded.encode(), aggregate.encode());
        assert.deepEqual(decoded.statistics(), aggregate.statistics());
        for (const one of [decoded, aggregate]) {
          for (const { timeMs, value } of more) one.add(timeMs, value);
        }
        assert.equal(decoded.encode(), aggregate.encode());
      }),
    );
  });

  it('needs no escapes in JSON', () => {
    fc.assert(fc.property(samples, (list) => !/["\\]/.test(aggregateOf(list).encode())));
  });

  it('exists for the empty aggregate', () => {
    assert.equal(new Aggregate().encode(), '[1,0]');
    assert.equal(Aggregate.decode('[1,0]')?.count, 0);
  });

  const good = aggregateOf([
    { timeMs: 1000, value: 0.1 },
    { timeMs: 2000, value: 0.2 },
    { timeMs: 3000, value: -7 },
  ]).encode();

  const broken: Record<string, string> = {
    'no text': '',
    'no JSON': good.slice(1),
    'a cut text': good.slice(0, -1),
    'another version': good.replace('[1,', '[2,'),
    'a number': '7',
    null: 'null',
    'an object': '{}',
    'only the version': '[1]',
    'a missing histogram': JSON.stringify(JSON.parse(good).slice(0, 10)),
    'one element more': JSON.stringify([...JSON.parse(good), 0]),
    'a space': good.replace('[1,', '[1, '),
    'another count': good.replace('[1,3', '[1,4'),
    'a fractional count': good.replace('[1,3', '[1,3.5'),
    'a negative count': good.replace('[1,3', '[1,-3'),
    'text for a number': good.replace('1000', '"1000"'),
    'null for a number': good.replace('1000', 'null'),
    'times the wrong way round': good.replace('1000', '9000'),
    'a first value above the maximum': good.replace('1000,0.1', '1000,0.5'),
    'a sum that is not in the canonical form': good.replace(/\[-6\.7[^\]]*\]/, '[0.30000000000000004,-7]'),
    'a sum that is no list': good.replace(/\[-6\.7[^\]]*\]/, '7'),
    'values in the sum': good.replace(/\[-6\.7[^\]]*\]/, '[["x"]]'),
    'a count of zero in the histogram': good.replace(/,1\]\]$/, ',0]]'),
    'a histogram without its last count': good.replace(/,1\]\]$/, ']]'),
    'an infinite number': good.replace('1000', '1e999'),
  };
  for (const [what, text] of Object.entries(broken)) {
    it(`is refused with ${what}`, () => {
      assert.notEqual(text, good);
      assert.equal(Aggregate.decode(text), null);
    });
  }

  it('is refused after any one-character change that does not make another good text', () => {
    fc.assert(
      fc.property(fc.nat({ max: good.length - 1 }), fc.string({ minLength: 1, maxLength: 1 }), (at, character) => {
        const text = good.slice(0, at) + character + good.slice(at + 1);
        const decoded = Aggregate.decode(text);
        if (decoded) assert.equal(decoded.encode(), text);
      }),
    );
  });

  it('never throws', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.jsonValue().map((value) => JSON.stringify([1, value])),
        ),
        (text) => {
          assert.ok(Aggregate.decode(text) === null || text === '[1,0]');
        },
      ),
    );
  });
});

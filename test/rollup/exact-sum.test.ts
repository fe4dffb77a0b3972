import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ExactSum, roundQuotient } from '../../src/rollup/exact-sum.ts';
import { exactSum, nearest } from '../../src/torture/exact.ts';

/** numerator / denominator * 2^exponent by the judge. */
function judged(numerator: bigint, denominator: bigint, exponent: number): number {
  const power = 2n ** BigInt(Math.abs(exponent));
  return nearest(
    exponent < 0 ? { numerator, denominator: denominator * power } : { numerator: numerator * power, denominator },
  );
}

describe('roundQuotient', () => {
  const positive = fc.bigInt({ min: 1n, max: 2n ** 90n });

  it('gives the nearest double of a normal size', () => {
    fc.assert(
      fc.property(positive, fc.bigInt({ min: 1n, max: 10n ** 16n }), fc.integer({ min: -900, max: 800 }), (n, d, e) => {
        assert.equal(roundQuotient(n, d, e), judged(n, d, e));
      }),
      { numRuns: 60 },
    );
  });

  it('gives the nearest double around and below the smallest normal one', () => {
    fc.assert(
      fc.property(
        positive,
        fc.bigInt({ min: 1n, max: 10n ** 16n }),
        fc.integer({ min: -1175, max: -1030 }),
        (n, d, e) => {
          assert.equal(roundQuotient(n, d, e), judged(n, d, e));
        },
      ),
      { numRuns: 150 },
    );
  });

  it('rounds exact halves to even, at every size', () => {
    const places = fc.oneof(
      fc.record({ bits: fc.integer({ min: 1, max: 52 }), exponent: fc.constant(-1075) }),
      fc.record({ bits: fc.constant(53), exponent: fc.integer({ min: -1075, max: 900 }) }),
    );
    fc.assert(
      fc.property(
        places,
        fc.bigInt({ min: 0n, max: 2n ** 60n }),
        fc.integer({ min: 1, max: 9 }),
        ({ bits, exponent }, raw, factor) => {
          // One bit more than fits: an odd number of halves of the last place.
          const halves = (2n ** BigInt(bits) + (raw % 2n ** BigInt(bits - 1)) * 2n) | 1n;
          const rounded = roundQuotient(halves * BigInt(factor), BigInt(factor), exponent);
          assert.equal(rounded, judged(halves, 1n, exponent));
        },
      ),
      { numRuns: 150 },
    );
  });

  it('rounds once where two roundings differ', () => {
    // 54 bits of a subnormal result: a rounding to 53 bits first makes a tie of it, and the tie goes the wrong way.
    const numerator = 2n ** 54n - 2n ** 2n * 3n + 1n;
    for (const extra of [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n]) {
      for (const e of [-1076, -1077, -1078]) {
        assert.equal(roundQuotient(numerator + extra, 1n, e), judged(numerator + extra, 1n, e));
      }
    }
  });

  it('keeps the smallest double and rounds half of it to nothing', () => {
    assert.equal(roundQuotient(1n, 1n, -1074), Number.MIN_VALUE);
    assert.equal(roundQuotient(1n, 2n, -1074), 0);
    assert.equal(roundQuotient(3n, 4n, -1074), Number.MIN_VALUE);
    assert.equal(roundQuotient(1n, 10n ** 30n, -1074), 0);
  });
});

describe('ExactSum', () => {
  const value = fc.oneof(
    fc.double({ noNaN: true, min: -1e150, max: 1e150 }).filter((x) => Math.abs(x) >= 1e-140),
    fc.constantFrom(2 ** 53, 1, 2 ** -53, 2 ** -54, -(2 ** -106), 2 ** 100, -(2 ** 100)),
  );

  it('has one canonical form, whose first part is the rounded sum and whose parts add up to the exact one', () => {
    fc.assert(
      fc.property(fc.array(value, { maxLength: 30 }), (values) => {
        const sum = new ExactSum();
        for (const each of values) sum.add(each);
        const parts = sum.canonical();
        const exact = exactSum(values);
        assert.equal(parts[0] ?? 0, nearest(exact));
        assert.equal(sum.round(), nearest(exact));
        const total = exactSum(parts);
        assert.equal(total.numerator * exact.denominator, exact.numerator * total.denominator);
      }),
    );
  });

  it('decides a tie by what lies far below it', () => {
    const tie = [2 ** 53, 1];
    const above = [...tie, 2 ** -400];
    const below = [...tie, -(2 ** -400)];
    const rounded = (values: number[]) => {
      const sum = new ExactSum();
      for (const each of values) sum.add(each);
      return sum.round();
    };
    assert.deepEqual([tie, above, below].map(rounded), [2 ** 53, 2 ** 53 + 2, 2 ** 53]);
  });

  it('is 0, never -0, when everything cancels', () => {
    const sum = new ExactSum();
    for (const each of [-0.1, 0.1, -1e150, 1e150]) sum.add(each);
    assert.ok(Object.is(sum.round(), 0));
    assert.deepEqual(sum.canonical(), []);
  });
});

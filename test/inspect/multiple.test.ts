import assert from 'node:assert/strict';
import fc from 'fast-check';
import { isMultipleOf } from '../../src/inspect/multiple.ts';

describe('A multiple', () => {
  const vectors: [value: number, divisor: number, expected: boolean][] = [
    [0.3, 0.1, true],
    [19.99, 0.01, true],
    [19.995, 0.01, false],
    [-7.5, 2.5, true],
    [0, 0.1, true],
    [-0, 3, true],
    [1e308, 0.5, true],
    [1e308, 0.123456789, false],
    [12391239123, 1e-8, true],
    [5e-324, 1e308, false],
    [1e308, 5e-324, true],
    [2 ** 53 + 2, 2, true],
    [0.1 + 0.2, 0.1, false],
  ];
  for (const [value, divisor, expected] of vectors) {
    it(`${value} is ${expected ? '' : 'not '}one of ${divisor}`, () =>
      assert.equal(isMultipleOf(value, divisor), expected));
  }

  it('of a number with a few decimals is every whole number times it, and nothing between two', () => {
    const decimals = fc.tuple(fc.integer({ min: 2, max: 9_999 }), fc.integer({ min: 0, max: 6 }));
    fc.assert(
      fc.property(decimals, fc.integer({ min: -99_999, max: 99_999 }), ([digits, places], count) => {
        const divisor = Number(`${digits}e-${places}`);
        assert.ok(isMultipleOf(Number(`${digits * count}e-${places}`), divisor));
        assert.ok(!isMultipleOf(Number(`${digits * count + 1}e-${places}`), divisor));
      }),
    );
  });
});

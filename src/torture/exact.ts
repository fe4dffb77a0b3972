/**
 * An independent judge of the rollup's arithmetic: exact rationals by BigInt, and rounding by comparing with the exact
 * midpoints between neighbouring doubles. Shares no code with `src/`, and no method either.
 */

/** numerator / denominator, denominator > 0. Not reduced. */
export interface Rational {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

const bytes = new DataView(new ArrayBuffer(8));

/** The exact value of a finite double. */
export function exact(value: number): Rational {
  let doublings = 0;
  let rest = value;
  // Doubling is exact; every finite double below 2^53 becomes an integer in the end.
  while (!Number.isInteger(rest)) {
    rest *= 2;
    doublings++;
  }
  return { numerator: BigInt(rest), denominator: 1n << BigInt(doublings) };
}

export function plus(a: Rational, b: Rational): Rational {
  return {
    numerator: a.numerator * b.denominator + b.numerator * a.denominator,
    denominator: a.denominator * b.denominator,
  };
}

export function times(a: Rational, b: Rational): Rational {
  return { numerator: a.numerator * b.numerator, denominator: a.denominator * b.denominator };
}

export function compare(a: Rational, b: Rational): number {
  const difference = a.numerator * b.denominator - b.numerator * a.denominator;
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** The nearest double, ties to the even one. */
export function nearest(value: Rational): number {
  if (value.numerator < 0n) return -nearest({ ...value, numerator: -value.numerator });
  if (value.numerator === 0n) return 0;
  // The largest double <= value, by bisection over the bit patterns, which ascend with the values.
  let low = 0n;
  let high = bitsOf(Number.MAX_VALUE) + 1n;
  const narrow = (bits: bigint) => {
    if (bits <= low || bits >= high) return;
    if (compare(exact(doubleOf(bits)), value) <= 0) low = bits;
    else high = bits;
  };
  // A plain division is close, where it does not overflow. It only saves steps.
  const guess = Number(value.numerator) / Number(value.denominator);
  if (Number.isFinite(guess)) for (const distance of [-4n, 4n]) narrow(bitsOf(guess) + distance);
  while (high - low > 1n) narrow((low + high) / 2n);
  const below = exact(doubleOf(low));
  const above = exact(doubleOf(low + 1n));
  const side = compare(times(value, { numerator: 2n, denominator: 1n }), plus(below, above));
  if (side === 0) return doubleOf(low % 2n === 0n ? low : low + 1n);
  return doubleOf(side < 0 ? low : low + 1n);
}

function bitsOf(value: number): bigint {
  bytes.setFloat64(0, value);
  return bytes.getBigUint64(0);
}

function doubleOf(bits: bigint): number {
  bytes.setBigUint64(0, bits);
  return bytes.getFloat64(0);
}

export function exactSum(values: readonly number[]): Rational {
  // Over one common denominator: adding rationals one by one would multiply the denominators.
  const parts = values.map(exact);
  let denominator = 1n;
  for (const part of parts) if (part.denominator > denominator) denominator = part.denominator;
  const numerator = parts.reduce((sum, part) => sum + part.numerator * (denominator / part.denominator), 0n);
  return { numerator, denominator };
}

/** The population variance by its definition: the mean of the squared distances from the exact mean. */
export function exactVariance(values: readonly number[]): Rational {
  const count = BigInt(values.length);
  const sum = exactSum(values);
  let total = 0n;
  for (const value of values) {
    const part = exact(value);
    // count * value - sum, over the sum's denominator
    const distance = count * part.numerator * (sum.denominator / part.denominator) - sum.numerator;
    total += distance * distance;
  }
  return { numerator: total, denominator: count ** 3n * sum.denominator ** 2n };
}

/** The value at position ceil(percent / 100 * n), from 1, of the ascending list. */
export function nearestRank(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = (BigInt(percent) * BigInt(values.length) + 99n) / 100n;
  return sorted[Number(rank) - 1]!;
}

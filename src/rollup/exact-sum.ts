/**
 * Sums without rounding error, so that their value does not depend on the order of the additions.
 *
 * An `ExactSum` is a Shewchuk expansion: a few doubles ("partials") that do not overlap and whose exact sum is the sum of
 * all that was added (J. R. Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997). Typical data needs two or
 * three partials. The partials depend on the order, their sum does not; so nothing but `round`, `canonical` and
 * `variance`, which are functions of the exact sum alone, may leave this module.
 *
 * Domain: added values are finite and 0 or 1e-140 <= |x| <= 1e150. Then a square is at least 2^-931, is exact as
 * product + error (its last bit is at least 2^-1036, above the smallest double), and 1e8 of them stay finite.
 */

/** 2^27 + 1 (Veltkamp): halves a double into two numbers of 26 bits, whose products are exact. */
const SPLITTER = 134_217_729;

export class ExactSum {
  // Doubles from the start: V8 keeps such an array unboxed. Only the first #length entries count, smallest first.
  readonly #partials: number[] = [-0, -0, -0, -0];
  #length = 0;

  add(value: number): void {
    const partials = this.#partials;
    const length = this.#length;
    let carry = value;
    let kept = 0;
    for (let i = 0; i < length; i++) {
      // Knuth's two-sum: sum + error is exactly carry + partial.
      const partial = partials[i]!;
      const sum = carry + partial;
      const virtual = sum - carry;
      const error = carry - (sum - virtual) + (partial - virtual);
      if (error !== 0) partials[kept++] = error;
      carry = sum;
    }
    if (carry !== 0) partials[kept++] = carry;
    this.#length = kept;
  }

  /** Adds value * value, exactly. */
  addSquare(value: number): void {
    const square = value * value;
    const scaled = SPLITTER * value;
    const high = scaled - (scaled - value);
    const low = value - high;
    const error = high * high - square + 2 * high * low + low * low;
    if (error !== 0) this.add(error);
    this.add(square);
  }

  merge(other: ExactSum): void {
    for (let i = 0; i < other.#length; i++) this.add(other.#partials[i]!);
  }

  /** The exact sum, rounded once to the nearest double, ties to even; never -0. */
  round(): number {
    const partials = this.#partials;
    let i = this.#length - 1;
    if (i < 0) return 0;
    let high = partials[i]!;
    let low = 0;
    while (i > 0 && low === 0) {
      const next = partials[--i]!;
      const sum = high + next;
      low = next - (sum - high);
      high = sum;
    }
    // `low` may be exactly half a unit in the last place, rounded to even; what lies below it decides the tie.
    if (i > 0 && low !== 0 && low < 0 === partials[i - 1]! < 0) {
      const doubled = low * 2;
      const other = high + doubled;
      if (other - high === doubled) high = other;
    }
    return high;
  }

  /** The one list h0 = round(S), h1 = round(S - h0), ... that every order of additions to the same S leads to. */
  canonical(): number[] {
    const rest = new ExactSum();
    rest.merge(this);
    const list: number[] = [];
    while (rest.#length > 0) {
      const rounded = rest.round();
      list.push(rounded);
      rest.add(-rounded);
    }
    return list;
  }

  /** The exact sum as mantissa * 2^exponent. */
  scaled(): Scaled {
    const length = this.#length;
    if (length === 0) return { mantissa: 0n, exponent: 0 };
    const exponent = exponentOf(this.#partials[0]!);
    let mantissa = 0n;
    for (let i = 0; i < length; i++) {
      const partial = this.#partials[i]!;
      // The smallest partial has the smallest exponent, so no shift is negative.
      mantissa += BigInt(mantissaOf(partial)) << BigInt(exponentOf(partial) - exponent);
    }
    return { mantissa, exponent };
  }
}

interface Scaled {
  readonly mantissa: bigint;
  readonly exponent: number;
}

/**
 * The population variance (n * Sxx - Sx^2) / n^2 of `count` values with the given sum and sum of squares: computed as one
 * rational number and rounded once to the nearest double, ties to even, subnormal results included.
 */
export function variance(count: number, sum: ExactSum, squares: ExactSum): number {
  const n = BigInt(count);
  const s = sum.scaled();
  const q = squares.scaled();
  const exponent = Math.min(q.exponent, 2 * s.exponent);
  const numerator =
    ((n * q.mantissa) << BigInt(q.exponent - exponent)) -
    ((s.mantissa * s.mantissa) << BigInt(2 * s.exponent - exponent));
  return numerator <= 0n ? 0 : roundQuotient(numerator, n * n, exponent);
}

/** Exponent of the smallest double. */
const MIN_EXPONENT = -1074;
/** More than the 53 of a double and its guard bits. */
const QUOTIENT_BITS = 66;

/** numerator / denominator * 2^exponent as the nearest double, ties to even; both positive. */
export function roundQuotient(numerator: bigint, denominator: bigint, exponent: number): number {
  const excess = bitLength(numerator) - bitLength(denominator);
  // A subnormal result is rounded twice, by Number() and by the last product. With exactly two bits below the smallest
  // double that is right: a quotient of 54 bits is rounded up or down by Number() just where it has to be, shorter ones
  // are not rounded by it at all, and longer ones are not subnormal.
  const shift = Math.min(QUOTIENT_BITS - excess, exponent - MIN_EXPONENT + 2);
  const dividend = shift >= 0 ? numerator << BigInt(shift) : numerator;
  const divisor = shift >= 0 ? denominator : denominator << BigInt(-shift);
  let quotient = dividend / divisor;
  // Beyond the guard bits all that matters is whether the rest is zero: one sticky bit.
  if (quotient * divisor !== dividend) quotient |= 1n;
  const scale = exponent - shift;
  const half = Math.trunc(scale / 2);
  return Number(quotient) * powerOfTwo(half) * powerOfTwo(scale - half);
}

function bitLength(positive: bigint): number {
  const digits = positive.toString(16);
  return digits.length * 4 + 28 - Math.clz32(Number.parseInt(digits[0]!, 16));
}

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer);
const HIGH_WORD = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;
const LOW_WORD = 1 - HIGH_WORD;

/** value = mantissaOf(value) * 2^exponentOf(value), with an integer mantissa below 2^53; errors may be subnormal. */
function exponentOf(value: number): number {
  double[0] = value;
  return Math.max((words[HIGH_WORD]! >>> 20) & 0x7ff, 1) - 1075;
}

function mantissaOf(value: number): number {
  double[0] = value;
  const high = words[HIGH_WORD]!;
  const implicitBit = (high & 0x7ff00000) === 0 ? 0 : 0x100000;
  const magnitude = ((high & 0xfffff) | implicitBit) * 2 ** 32 + words[LOW_WORD]!;
  return value < 0 ? -magnitude : magnitude;
}

/** For normal results. */
function powerOfTwo(exponent: number): number {
  words[HIGH_WORD] = (exponent + 1023) << 20;
  words[LOW_WORD] = 0;
  return double[0]!;
}

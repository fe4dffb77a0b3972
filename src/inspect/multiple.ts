/**
 * `multipleOf` as the standard means it: of the numbers as they are written. 0.3 is a multiple of 0.1, though the quotient of
 * the doubles is 2.9999999999999996; and 1e308 is one of 0.5, though it overflows. Pure.
 */

/** Is `value`, a finite number, a whole multiple of `divisor`, a finite number above 0? */
export function isMultipleOf(value: number, divisor: number): boolean {
  if (Number.isSafeInteger(value) && Number.isSafeInteger(divisor)) return value % divisor === 0;
  const [digits, exponent] = decimal(value);
  const [divisorDigits, divisorExponent] = decimal(divisor);
  // Both in units of the smaller power of ten; at most about 650 digits.
  const scale = Math.min(exponent, divisorExponent);
  return (digits * 10n ** BigInt(exponent - scale)) % (divisorDigits * 10n ** BigInt(divisorExponent - scale)) === 0n;
}

/** As digits times a power of ten, from the shortest text that reads back as the number. */
function decimal(value: number): readonly [digits: bigint, exponent: number] {
  const [mantissa, exponent] = value.toExponential().split('e') as [string, string];
  const [whole, fraction = ''] = mantissa.split('.') as [string, string?];
  return [BigInt(whole + fraction), Number(exponent) - fraction.length];
}

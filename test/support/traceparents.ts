/** Any valid trace context. */
import fc from 'fast-check';

const hex = (length: number) =>
  fc
    .array(fc.constantFrom(...'0123456789abcdef'), { minLength: length, maxLength: length })
    .map((digits) => digits.join(''));
export const traceparents = fc
  .tuple(hex(32), hex(16), hex(2))
  .filter(([trace, parent]) => !/^0+$/.test(trace) && !/^0+$/.test(parent))
  .map(([trace, parent, flags]) => `00-${trace}-${parent}-${flags}`);

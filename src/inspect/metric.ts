/**
 * The numbers of a reading. A metric that is absent or null is absent from the reading; true and false count as 1 and 0
 * (a schema can forbid both); a number in a string is refused. At least one metric must be there. Values are scaled by
 * the registry's factor and checked before and after: beyond these bounds the rollup's exact sums of squares would
 * overflow, or lose bits to underflow. An integer from 2^53 on is refused, as in every format: it may have been another.
 */
import type { Document } from './decode/document.ts';
import { isInexact } from './decode/json.ts';
import { type Field, readField } from './field.ts';
import { Problem, show } from './refusal.ts';

export const LARGEST = 1e150;
export const LEAST = 1e-140;

export function readMetrics(
  metrics: readonly Field[],
  document: Document,
  factors: readonly number[] | null,
  source: string | undefined,
): Record<string, number> | Problem {
  const values: Record<string, number> = {};
  let present = 0;
  for (let i = 0; i < metrics.length; i++) {
    const metric = metrics[i]!;
    let value = readField(document, metric);
    if (value === undefined || value === null) continue;
    if (typeof value === 'boolean') value = value ? 1 : 0;
    if (typeof value !== 'number' || value - value !== 0) {
      return new Problem('number-invalid', metric.pointer, `${metric.pointer}: ${show(value)} is not a number`);
    }
    if (!inRange(value)) return outOfRange(metric, show(value));
    if (source !== undefined && isInexact(value, source)) {
      const reason = `${metric.pointer}: an integer beyond 2^53 cannot be kept exactly`;
      return new Problem('number-out-of-range', metric.pointer, reason);
    }
    const factor = factors === null ? 1 : factors[i]!;
    const scaled = value * factor;
    if (factor !== 1 && !inRange(scaled)) return outOfRange(metric, `${show(value)} times ${factor}`);
    // -0 + 0 is 0
    values[metric.name] = scaled + 0;
    present++;
  }
  if (present === 0 && metrics.length > 0) {
    const names = metrics.map((metric) => metric.name).join(', ');
    return new Problem('number-invalid', '', `none of the metrics is there; expected at least one of ${names}`);
  }
  return values;
}

export function inRange(value: number): boolean {
  const size = Math.abs(value);
  return size <= LARGEST && (size >= LEAST || size === 0);
}

function outOfRange(metric: Field, shown: string): Problem {
  const reason = `${metric.pointer}: ${shown} is outside ${LEAST} to ${LARGEST} (or 0)`;
  return new Problem('number-out-of-range', metric.pointer, reason);
}

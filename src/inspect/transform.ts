/**
 * What a stream's configuration makes of its metrics after scaling, in this order: derived values, then ranges. A derived
 * value is absent where one of its metrics is; one that is no finite number, or outside what the rollup can add exactly,
 * refuses the reading. A value outside its range refuses the reading too, or with `outside: drop` is left out of it, and the
 * reading is refused only when nothing is left. Each reading for itself: nothing is remembered. Pure.
 */
import { type Expression, parseExpression } from '../expression.ts';
import type { Range, Stream } from '../stream.ts';
import { parseField } from './field.ts';
import { inRange, LARGEST, LEAST } from './metric.ts';
import { Problem } from './refusal.ts';

/** Changes the values; answers why the reading is none, or null. */
export type Transform = (values: Record<string, number>) => Problem | null;

/** Null: nothing is to be done. The expressions have been checked with the configuration. */
export function makeTransform({ derive = {}, range = {} }: Stream): Transform | null {
  const derived = Object.entries(derive).map(([name, text]) => ({ name, expression: parsed(text) }));
  const ranges = Object.entries(range).map(([name, limits]) => ({ name, limits, pointer: parseField(name).pointer }));
  if (derived.length === 0 && ranges.length === 0) return null;
  return (values) => {
    for (const { name, expression } of derived) {
      const value = expression.evaluate(values);
      if (value === null) continue;
      if (!inRange(value)) {
        const reason = `${name}: ${value}, which it derives to, is outside ${LEAST} to ${LARGEST} (or 0)`;
        return new Problem('number-out-of-range', '', reason);
      }
      values[name] = value + 0;
    }
    let dropped: Problem | null = null;
    for (const { name, limits, pointer } of ranges) {
      const value = values[name];
      if (value === undefined || (value >= limits.min && value <= limits.max)) continue;
      const reason = `${name}: ${value} is outside its range, ${shown(limits)}`;
      const problem = new Problem('number-out-of-range', Object.hasOwn(derive, name) ? '' : pointer, reason);
      if (limits.outside === 'refuse') return problem;
      delete values[name];
      dropped ??= problem;
    }
    for (const _ in values) return null;
    return dropped;
  };
}

function parsed(text: string): Expression {
  const expression = parseExpression(text);
  if (typeof expression === 'string') throw new Error(`${text}: ${expression}`);
  return expression;
}

function shown({ min, max }: Range): string {
  if (max === Number.POSITIVE_INFINITY) return `from ${min}`;
  return min === Number.NEGATIVE_INFINITY ? `to ${max}` : `${min} to ${max}`;
}

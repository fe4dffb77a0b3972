/**
 * The metrics of all threads added up, and what can be read from the sums: growth by label, quantiles. Pure.
 */
import type { MetricSample } from './feed.ts';

export interface Sum {
  total: number;
  min: number;
  by: Map<string, number>;
  /** Histograms: upper bound in seconds -> cumulative count. */
  buckets: Map<number, number> | null;
}

export const NOTHING: Sum = { total: 0, min: Number.POSITIVE_INFINITY, by: new Map(), buckets: null };

export function addUp(samples: readonly MetricSample[]): Map<string, Sum> {
  const sums = new Map<string, Sum>();
  for (const { name, values } of samples) {
    let sum = sums.get(name);
    if (!sum) {
      sum = { total: 0, min: Number.POSITIVE_INFINITY, by: new Map(), buckets: null };
      sums.set(name, sum);
    }
    for (const { value, labels, metricName } of values) {
      if (metricName?.endsWith('_bucket')) {
        sum.buckets ??= new Map();
        const bound = labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le);
        sum.buckets.set(bound, (sum.buckets.get(bound) ?? 0) + value);
        continue;
      }
      if (metricName?.endsWith('_sum')) continue;
      sum.total += value;
      if (value < sum.min && value > 0) sum.min = value;
      const label = Object.values(labels)[0];
      if (label !== undefined) sum.by.set(String(label), (sum.by.get(String(label)) ?? 0) + value);
    }
  }
  return sums;
}

export function grown(now: Sum, before: Sum): Record<string, number> {
  const by: Record<string, number> = {};
  for (const [label, value] of now.by) {
    const more = value - (before.by.get(label) ?? 0);
    if (more > 0) by[label] = more;
  }
  return by;
}

/** From cumulative bucket counts; null when nothing was counted. Above the last finite bound it answers that bound. */
export function quantile(bounds: readonly number[], cumulative: readonly number[], q: number): number | null {
  const total = cumulative.at(-1) ?? 0;
  if (total <= 0) return null;
  const rank = q * total;
  const index = cumulative.findIndex((count) => count >= rank);
  const upper = bounds[index]!;
  const lower = index === 0 ? 0 : bounds[index - 1]!;
  if (!Number.isFinite(upper)) return lower;
  const below = index === 0 ? 0 : cumulative[index - 1]!;
  const within = cumulative[index]! - below;
  return within <= 0 ? upper : lower + ((upper - lower) * (rank - below)) / within;
}

/** Histograms that processes export, all of them together. */
import type { GatewayProcess } from '../../support/gateway-process.ts';

export interface Counts {
  readonly sumSeconds: number;
  readonly count: number;
  /** Upper bounds in seconds, ascending, with how many were at or below each. */
  readonly atMost: readonly (readonly [seconds: number, count: number])[];
}

export async function countsOf(all: readonly GatewayProcess[], name: string): Promise<Counts> {
  let [sumSeconds, count] = [0, 0];
  const atMost = new Map<number, number>();
  for (const one of all) {
    for (const line of (await (await one.get('/metrics')).text()).split('\n')) {
      const value = Number(line.slice(line.lastIndexOf(' ') + 1));
      const bound = /_bucket\{.*le="([^"]+)"/.exec(line)?.[1];
      if (line.startsWith(`${name}_sum`)) sumSeconds += value;
      else if (line.startsWith(`${name}_count`)) count += value;
      else if (line.startsWith(`${name}_bucket`) && bound !== '+Inf') {
        atMost.set(Number(bound), (atMost.get(Number(bound)) ?? 0) + value);
      }
    }
  }
  return { sumSeconds, count, atMost: [...atMost].sort(([a], [b]) => a - b) };
}

/** What came between two looks. */
export function between(before: Counts, after: Counts): Counts {
  const earlier = new Map(before.atMost);
  return {
    sumSeconds: after.sumSeconds - before.sumSeconds,
    count: after.count - before.count,
    atMost: after.atMost.map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)]),
  };
}

export function meanMs({ sumSeconds, count }: Counts): number {
  return (1_000 * sumSeconds) / count;
}

/**
 * So many values in milliseconds that are spread as the histogram is: evenly within a bucket, and then all scaled to the mean, which is
 * known exactly. What is beyond the last bound counts as that.
 */
export function spreadMs(counts: Counts, size: number): number[] {
  const values = Array.from({ length: size }, (_, i) => quantileMs(counts, (i + 0.5) / size));
  const mean = values.reduce((sum, value) => sum + value, 0) / size;
  return values.map((value) => (mean === 0 ? 0 : (value * meanMs(counts)) / mean));
}

function quantileMs({ atMost, count }: Counts, part: number): number {
  let [lowSeconds, below] = [0, 0];
  for (const [bound, upTo] of atMost) {
    if (upTo >= part * count)
      return 1_000 * (lowSeconds + ((bound - lowSeconds) * (part * count - below)) / (upTo - below));
    [lowSeconds, below] = [bound, upTo];
  }
  return 1_000 * lowSeconds;
}

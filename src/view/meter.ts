/**
 * Turns the metrics of all threads into what people read: for each stage its rate, latency and queue against its limit.
 *
 * The view gives it one set of samples a second. Rates are taken over the last RATE_OVER_MS, latencies over the last
 * LATENCY_OVER_MS from the differences of histogram buckets (interpolated within a bucket, so they are estimates).
 * Memory: LATENCY_OVER_MS / 1 s sets of sums, about 100 numbers each.
 */
import type { MetricSample, PipelineStatus, StageName } from './feed.ts';
import {
  type CounterShown,
  FRONTIER,
  type Queue,
  runsHere,
  SHOWN,
  type StageCounter,
  type StageStatus,
} from './stages.ts';
import { addUp, grown, NOTHING, quantile, type Sum } from './sums.ts';

export const RATE_OVER_MS = 10_000;
export const LATENCY_OVER_MS = 60_000;
const HISTORY = 120;

export interface Growth {
  readonly total: number;
  readonly by: Readonly<Record<string, number>>;
}

interface Shot {
  readonly atMs: number;
  readonly wallMs: number;
  readonly sums: ReadonlyMap<string, Sum>;
}

export class Meter {
  readonly #shots: Shot[] = [];
  readonly #histories = new Map<StageName, number[]>(SHOWN.map((stage) => [stage.name, []]));

  /** `monotonicMs` for differences, `wallMs` to compare with the frontier. */
  take(samples: readonly MetricSample[], monotonicMs: number, wallMs: number): void {
    this.#shots.push({ atMs: monotonicMs, wallMs, sums: addUp(samples) });
    while (this.#shots.length > 2 && monotonicMs - this.#shots[1]!.atMs >= LATENCY_OVER_MS) this.#shots.shift();
    const before = this.#before(RATE_OVER_MS);
    for (const stage of SHOWN) {
      const history = this.#histories.get(stage.name)!;
      history.push(round(this.#rate(stage.rate, before)));
      if (history.length > HISTORY) history.shift();
    }
  }

  /** Rates of the last HISTORY samples, oldest first. */
  history(): Record<string, readonly number[]> {
    return Object.fromEntries(this.#histories);
  }

  stages(status: PipelineStatus): StageStatus[] {
    const before = this.#before(RATE_OVER_MS);
    return SHOWN.map((stage) => ({
      name: stage.name,
      does: stage.does,
      here: runsHere(stage.name, status.role),
      ratePerSecond: round(this.#rate(stage.rate, before)),
      rateOf: stage.rateOf,
      latencyMs: this.#latency(stage.latency),
      latencyOf: stage.latencyOf,
      onward:
        stage.onward && status.log === 'kafka'
          ? { latencyMs: this.#latency(stage.onward.latency), latencyOf: stage.onward.latencyOf }
          : null,
      queue: runsHere(stage.name, status.role) ? this.#queue(stage.name, status) : null,
      counters: stage.counters
        .filter((counter) => !(counter.kafkaOnly && status.log === 'spool'))
        .map((counter) => this.#counter(counter, before, status)),
    }));
  }

  /** The present sum of a metric. */
  total(metric: string): number {
    return this.#now().get(metric)?.total ?? 0;
  }

  /** The present sums of a metric by its first label. */
  totalsBy(metric: string): Record<string, number> {
    return Object.fromEntries(this.#now().get(metric)?.by ?? []);
  }

  /** Growth per second of a metric by its first label. */
  ratesBy(metric: string): Record<string, number> {
    const before = this.#before(RATE_OVER_MS);
    const last = this.#shots.at(-1);
    if (!before || !last || last.atMs <= before.atMs) return {};
    const grew = grown(last.sums.get(metric) ?? NOTHING, before.sums.get(metric) ?? NOTHING);
    const seconds = (last.atMs - before.atMs) / 1_000;
    return Object.fromEntries(Object.entries(grew).map(([label, value]) => [label, round(value / seconds)]));
  }

  /** How much a metric grew within the last `overMs`, and by its first label. */
  recent(metric: string, overMs: number): Growth {
    const now = this.#now().get(metric) ?? NOTHING;
    const before = this.#before(overMs)?.sums.get(metric) ?? NOTHING;
    return { total: Math.max(0, now.total - before.total), by: grown(now, before) };
  }

  /** Growth per second over the last `overMs`; may be negative, for levels. */
  slope(metric: string, overMs: number): number {
    const before = this.#before(overMs);
    const last = this.#shots.at(-1);
    if (!before || !last || last.atMs === before.atMs) return 0;
    const earlier = before.sums.get(metric)?.total ?? 0;
    return (this.total(metric) - earlier) / ((last.atMs - before.atMs) / 1_000);
  }

  #now(): ReadonlyMap<string, Sum> {
    return this.#shots.at(-1)?.sums ?? new Map();
  }

  /** The newest set that is at least `overMs` old, or the oldest there is. */
  #before(overMs: number): Shot | undefined {
    const nowMs = this.#shots.at(-1)?.atMs ?? 0;
    return this.#shots.findLast((shot) => nowMs - shot.atMs >= overMs) ?? this.#shots[0];
  }

  #rate(metrics: readonly string[], before: Shot | undefined): number {
    const last = this.#shots.at(-1);
    if (!before || !last || last.atMs <= before.atMs) return 0;
    let grew = 0;
    for (const metric of metrics) grew += this.total(metric) - (before.sums.get(metric)?.total ?? 0);
    return Math.max(0, grew) / ((last.atMs - before.atMs) / 1_000);
  }

  #counter(shown: CounterShown, before: Shot | undefined, { limits }: PipelineStatus): StageCounter {
    const sum = this.#now().get(shown.metric) ?? NOTHING;
    return {
      name: shown.name,
      label: shown.label,
      value: sum.total,
      ratePerSecond: shown.kind === 'level' ? 0 : round(this.#rate([shown.metric], before)),
      kind: shown.kind,
      limit: shown.limit ? limits[shown.limit] : null,
      by: Object.fromEntries(sum.by),
    };
  }

  #latency(metric: string): { p50: number; p99: number } | null {
    const now = this.#now().get(metric)?.buckets;
    if (!now) return null;
    const before = this.#shots.length > 1 ? this.#shots[0]!.sums.get(metric)?.buckets : undefined;
    const bounds = [...now.keys()].sort((a, b) => a - b);
    const counts = bounds.map((bound) => now.get(bound)! - (before?.get(bound) ?? 0));
    const p50 = quantile(bounds, counts, 0.5);
    const p99 = quantile(bounds, counts, 0.99);
    return p50 === null || p99 === null ? null : { p50: milliseconds(p50), p99: milliseconds(p99) };
  }

  /** How far the last final window lay behind the clock, half the time, over the last LATENCY_OVER_MS; null: none is. */
  behindMs(): number | null {
    const delays: number[] = [];
    for (const shot of this.#shots) {
      const frontier = shot.sums.get(FRONTIER)?.min ?? Number.POSITIVE_INFINITY;
      if (Number.isFinite(frontier)) delays.push(Math.max(0, shot.wallMs - frontier * 1_000));
    }
    if (delays.length === 0) return null;
    delays.sort((a, b) => a - b);
    return Math.round(delays[delays.length >> 1]!);
  }

  #queue(stage: StageName, status: PipelineStatus): Queue | null {
    switch (stage) {
      case 'ingress':
        return {
          name: 'not yet durable',
          depth: this.total('millrace_pending_bytes'),
          limit: status.limits.pendingBytes,
          within: null,
          unit: 'bytes',
        };
      case 'journal':
        return {
          name: 'spool on disk',
          depth: this.total('millrace_spool_bytes'),
          limit: this.total('millrace_spool_limit_bytes') || null,
          within: null,
          unit: 'bytes',
        };
      case 'rollup':
        return {
          name: 'not yet read',
          depth: this.total('millrace_lag_records'),
          limit: null,
          within: status.log,
          unit: 'records',
        };
      case 'store':
        return {
          name: 'rows to write',
          depth: this.total('millrace_waiting_rows'),
          limit: this.total('millrace_waiting_rows_limit') || null,
          within: null,
          unit: 'rows',
        };
      case 'inspect':
        // A payload is inspected where it arrives, in one go.
        return null;
    }
  }
}

/** Three digits: an inspection takes microseconds, a read of the log may take minutes. */
function milliseconds(seconds: number): number {
  return Number((seconds * 1_000).toPrecision(3));
}

function round(value: number): number {
  return value >= 100 ? Math.round(value) : Math.round(value * 100) / 100;
}

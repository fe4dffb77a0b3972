/**
 * Turns the metrics of all threads into what people read: for each stage its rate, latency and queue against its limit.
 *
 * The view gives it one set of samples a second. Rates are taken over the last RATE_OVER_MS, latencies over the last
 * LATENCY_OVER_MS from the differences of histogram buckets (interpolated within a bucket, so they are estimates).
 * Memory: LATENCY_OVER_MS / 1 s sets of sums, about 100 numbers each.
 */
import type { MetricSample, PipelineStatus, StageName } from './feed.ts';

export const RATE_OVER_MS = 10_000;
export const LATENCY_OVER_MS = 60_000;
const HISTORY = 120;
const FRONTIER = 'millrace_frontier_seconds';

export interface StageStatus {
  readonly name: StageName;
  /** What it does, in a few words. */
  readonly does: string;
  /** False: it runs in another process, so there are no numbers here. */
  readonly here: boolean;
  readonly ratePerSecond: number;
  /** What the rate counts. */
  readonly rateOf: string;
  readonly latencyMs: { readonly p50: number; readonly p99: number } | null;
  readonly latencyOf: string;
  readonly queue: Queue | null;
  readonly counters: readonly StageCounter[];
}

export interface Queue {
  readonly name: string;
  readonly depth: number;
  /** Null: bounded by something else, or not at all here. */
  readonly limit: number | null;
  readonly unit: 'bytes' | 'records';
}

export interface StageCounter {
  readonly name: string;
  readonly label: string;
  readonly value: number;
  readonly ratePerSecond: number;
  /** `flow`: goes on to the next stage; `exit`: its way ends here, with a reason; `failure`: tried again; `level`: goes up and down. */
  readonly kind: 'flow' | 'exit' | 'failure' | 'level';
  readonly by: Readonly<Record<string, number>>;
}

export interface Growth {
  readonly total: number;
  readonly by: Readonly<Record<string, number>>;
}

interface CounterShown {
  readonly name: string;
  readonly metric: string;
  readonly label: string;
  readonly kind: StageCounter['kind'];
  readonly kafkaOnly?: true;
}

interface StageShown {
  readonly name: StageName;
  readonly does: string;
  readonly rateOf: string;
  readonly rate: readonly string[];
  readonly latency: string;
  readonly latencyOf: string;
  readonly counters: readonly CounterShown[];
}

const SHOWN: readonly StageShown[] = [
  {
    name: 'ingress',
    does: 'Devices publish over MQTT',
    rateOf: 'publishes',
    rate: ['millrace_received_total'],
    latency: 'millrace_acknowledge_seconds',
    latencyOf: 'publish to acknowledgement',
    counters: [
      { name: 'received', metric: 'millrace_received_total', label: 'received', kind: 'flow' },
      { name: 'acknowledged', metric: 'millrace_acknowledged_total', label: 'acknowledged', kind: 'flow' },
      { name: 'turned_away', metric: 'millrace_turned_away_total', label: 'turned away', kind: 'exit' },
      { name: 'limit_reached', metric: 'millrace_limit_reached_total', label: 'limits reached', kind: 'failure' },
      { name: 'connections', metric: 'millrace_connections', label: 'connected clients', kind: 'level' },
    ],
  },
  {
    name: 'inspect',
    does: 'Each payload is checked and enriched',
    rateOf: 'readings',
    rate: ['millrace_accepted_total'],
    latency: '',
    latencyOf: 'part of the acknowledgement',
    counters: [
      { name: 'accepted', metric: 'millrace_accepted_total', label: 'accepted', kind: 'flow' },
      { name: 'dead_letters', metric: 'millrace_dead_letters_total', label: 'dead letters', kind: 'exit' },
    ],
  },
  {
    name: 'journal',
    does: 'Written to the log, then acknowledged',
    rateOf: 'records',
    rate: ['millrace_accepted_total', 'millrace_dead_letters_total'],
    latency: 'millrace_spool_commit_seconds',
    latencyOf: 'write and sync to disk',
    counters: [
      {
        name: 'forwarded',
        metric: 'millrace_forwarded_total',
        label: 'forwarded to Kafka',
        kind: 'flow',
        kafkaOnly: true,
      },
      { name: 'backlog', metric: 'millrace_spool_backlog_records', label: 'waiting for a reader', kind: 'level' },
      {
        name: 'forward_failures',
        metric: 'millrace_forward_failures_total',
        label: 'Kafka failures',
        kind: 'failure',
        kafkaOnly: true,
      },
      { name: 'spool_failures', metric: 'millrace_spool_failures_total', label: 'disk failures', kind: 'failure' },
    ],
  },
  {
    name: 'rollup',
    does: 'Readings are counted in windows',
    rateOf: 'readings',
    rate: ['millrace_counted_total'],
    latency: FRONTIER,
    latencyOf: 'now minus last final window',
    counters: [
      { name: 'counted', metric: 'millrace_counted_total', label: 'counted', kind: 'flow' },
      { name: 'windows_closed', metric: 'millrace_windows_closed_total', label: 'windows closed', kind: 'flow' },
      { name: 'duplicates', metric: 'millrace_duplicates_total', label: 'duplicates', kind: 'exit' },
      { name: 'late', metric: 'millrace_late_total', label: 'late', kind: 'exit' },
      { name: 'accumulators', metric: 'millrace_open_accumulators', label: 'open windows', kind: 'level' },
    ],
  },
  {
    name: 'store',
    does: 'Final rows are kept and queried',
    rateOf: 'rows',
    rate: ['millrace_rows_written_total'],
    latency: 'millrace_store_write_seconds',
    latencyOf: 'one write',
    counters: [
      { name: 'rows_written', metric: 'millrace_rows_written_total', label: 'rows written', kind: 'flow' },
      { name: 'repairs', metric: 'millrace_repairs_total', label: 'rows repaired', kind: 'flow' },
      { name: 'store_failures', metric: 'millrace_store_failures_total', label: 'failed writes', kind: 'failure' },
    ],
  },
];

interface Sum {
  total: number;
  min: number;
  by: Map<string, number>;
  /** Histograms: upper bound in seconds -> cumulative count. */
  buckets: Map<number, number> | null;
}

interface Shot {
  readonly atMs: number;
  readonly wallMs: number;
  readonly sums: ReadonlyMap<string, Sum>;
}

const NOTHING: Sum = { total: 0, min: Number.POSITIVE_INFINITY, by: new Map(), buckets: null };

export class Meter {
  readonly #shots: Shot[] = [];
  readonly #histories = new Map<StageName, number[]>(SHOWN.map((stage) => [stage.name, []]));

  /** `monotonicMs` for differences, `wallMs` to compare with the frontier. */
  take(samples: readonly MetricSample[], monotonicMs: number, wallMs: number): void {
    this.#shots.push({ atMs: monotonicMs, wallMs, sums: addUp(samples) });
    while (this.#shots.length > 2 && monotonicMs - this.#shots[1]!.atMs >= LATENCY_OVER_MS) this.#shots.shift();
    const last = this.#shots.at(-2);
    for (const stage of SHOWN) {
      const history = this.#histories.get(stage.name)!;
      history.push(last ? round(this.#rate(stage.rate, last)) : 0);
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
      latencyMs:
        stage.latency === FRONTIER ? this.#behind() : stage.latency === '' ? null : this.#latency(stage.latency),
      latencyOf: stage.latencyOf,
      queue: this.#queue(stage.name, status),
      counters: stage.counters
        .filter((counter) => !(counter.kafkaOnly && status.log === 'spool'))
        .map((counter) => this.#counter(counter, before)),
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

  #counter(shown: CounterShown, before: Shot | undefined): StageCounter {
    const sum = this.#now().get(shown.metric) ?? NOTHING;
    return {
      name: shown.name,
      label: shown.label,
      value: sum.total,
      ratePerSecond: shown.kind === 'level' ? 0 : round(this.#rate([shown.metric], before)),
      kind: shown.kind,
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
    return p50 === null || p99 === null ? null : { p50: round(p50 * 1_000), p99: round(p99 * 1_000) };
  }

  /** How far the last final window lay behind the clock, over the last LATENCY_OVER_MS. */
  #behind(): { p50: number; p99: number } | null {
    const delays: number[] = [];
    for (const shot of this.#shots) {
      const frontier = shot.sums.get(FRONTIER)?.min ?? Number.POSITIVE_INFINITY;
      if (Number.isFinite(frontier)) delays.push(Math.max(0, shot.wallMs - frontier * 1_000));
    }
    if (delays.length === 0) return null;
    delays.sort((a, b) => a - b);
    const at = (q: number) => Math.round(delays[Math.min(delays.length - 1, Math.floor(q * delays.length))]!);
    return { p50: at(0.5), p99: at(0.99) };
  }

  #queue(stage: StageName, status: PipelineStatus): Queue | null {
    switch (stage) {
      case 'ingress':
        return {
          name: 'waiting to become durable',
          depth: this.total('millrace_pending_bytes'),
          limit: status.limits.pendingBytes,
          unit: 'bytes',
        };
      case 'journal':
        return {
          name: 'spool on disk',
          depth: this.total('millrace_spool_bytes'),
          limit: this.total('millrace_spool_limit_bytes') || null,
          unit: 'bytes',
        };
      case 'rollup':
        return { name: 'not yet read', depth: this.total('millrace_lag_records'), limit: null, unit: 'records' };
      default:
        return null;
    }
  }
}

function runsHere(stage: StageName, role: PipelineStatus['role']): boolean {
  if (role === 'all') return true;
  return (stage === 'rollup' || stage === 'store') === (role === 'rollup');
}

function addUp(samples: readonly MetricSample[]): Map<string, Sum> {
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

function grown(now: Sum, before: Sum): Record<string, number> {
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

function round(value: number): number {
  return value >= 100 ? Math.round(value) : Math.round(value * 100) / 100;
}

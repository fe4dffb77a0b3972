/**
 * The stages as they are shown: which metric says what about which stage, in the order in which a reading travels.
 */
import type { PipelineStatus, StageName } from './feed.ts';

export const FRONTIER = 'millrace_frontier_seconds';

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
  /** What the latency is of. */
  readonly latencyOf: string;
  /** What follows in the same stage with a latency of its own: with Kafka, until it is there. */
  readonly onward: { readonly latencyMs: StageStatus['latencyMs']; readonly latencyOf: string } | null;
  /** Null: nothing waits at this stage, or it runs in another process. */
  readonly queue: Queue | null;
  readonly counters: readonly StageCounter[];
}

export interface Queue {
  readonly name: string;
  readonly depth: number;
  /** Null: bounded by what it lies in. */
  readonly limit: number | null;
  /** What it lies in, where that has the limit. */
  readonly within: 'spool' | 'kafka' | null;
  readonly unit: 'bytes' | 'records' | 'rows';
}

export interface StageCounter {
  readonly name: string;
  readonly label: string;
  readonly value: number;
  readonly ratePerSecond: number;
  /** `flow`: goes on to the next stage; `exit`: its way ends here, with a reason; `failure`: tried again; `level`: goes up and down. */
  readonly kind: 'flow' | 'exit' | 'failure' | 'level';
  /** Of a level that has one. */
  readonly limit: number | null;
  readonly by: Readonly<Record<string, number>>;
}

export interface CounterShown {
  readonly name: string;
  readonly metric: string;
  readonly label: string;
  readonly kind: StageCounter['kind'];
  readonly kafkaOnly?: true;
  readonly limit?: keyof PipelineStatus['limits'];
}

export interface StageShown {
  readonly name: StageName;
  readonly does: string;
  readonly rateOf: string;
  readonly rate: readonly string[];
  /** A histogram. */
  readonly latency: string;
  readonly latencyOf: string;
  readonly onward?: { readonly latency: string; readonly latencyOf: string; readonly kafkaOnly: true };
  readonly counters: readonly CounterShown[];
}

export const SHOWN: readonly StageShown[] = [
  {
    name: 'ingress',
    does: 'Devices publish over MQTT',
    rateOf: 'publishes',
    rate: ['millrace_received_total'],
    latency: 'millrace_acknowledge_seconds',
    latencyOf: 'until acknowledged',
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
    latency: 'millrace_inspect_seconds',
    latencyOf: 'one payload',
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
    latencyOf: 'one write and sync',
    onward: { latency: 'millrace_forward_seconds', latencyOf: 'received until in Kafka', kafkaOnly: true },
    counters: [
      {
        name: 'forwarded',
        metric: 'millrace_forwarded_total',
        label: 'forwarded to Kafka',
        kind: 'flow',
        kafkaOnly: true,
      },
      { name: 'backlog', metric: 'millrace_spool_backlog_records', label: 'held in the spool', kind: 'level' },
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
    latency: 'millrace_rollup_seconds',
    latencyOf: 'received until read',
    counters: [
      { name: 'counted', metric: 'millrace_counted_total', label: 'counted', kind: 'flow' },
      { name: 'windows_closed', metric: 'millrace_windows_closed_total', label: 'windows closed', kind: 'flow' },
      { name: 'duplicates', metric: 'millrace_duplicates_total', label: 'duplicates', kind: 'exit' },
      { name: 'late', metric: 'millrace_late_total', label: 'late', kind: 'exit' },
      { name: 'accumulators', metric: 'millrace_open_accumulators', label: 'open windows', kind: 'level' },
      { name: 'series', metric: 'millrace_open_series', label: 'open series', kind: 'level', limit: 'series' },
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

export function runsHere(stage: StageName, role: PipelineStatus['role']): boolean {
  if (role === 'all') return true;
  return (stage === 'rollup' || stage === 'store') === (role === 'rollup');
}

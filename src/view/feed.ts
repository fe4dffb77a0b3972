/**
 * What the view needs from the rest of Millrace, declared on the consumer's side: `pipeline.ts` implements `Feed` and
 * gives it to `startView`. The view only reads; `requeue` and `command` are the calls that change anything.
 *
 * Who calls, when: `status` and `samples` once a second and at each health check, so both are cheap; the rest when a
 * person or a program asks. Expected failures are values, except in `rows`: there a throw means that the store cannot
 * answer (before the first row it becomes a 503, after it the connection is cut, so that a cut answer never looks whole).
 */
import type { Alert } from '../alert.ts';
import type { CommandState } from '../command.ts';
import type { Code, Outcome } from '../errors.ts';
import type { Refusal } from '../reading.ts';
import type { Row, RowQuery, RunningQuery } from '../row.ts';
import type { Forecast, ForecastQuery, Score } from '../scored.ts';
import type { Stream } from '../stream.ts';
import type { Board } from './board.ts';

/** In the order in which a reading travels. */
export const STAGES = ['ingress', 'inspect', 'journal', 'rollup', 'store'] as const;
export type StageName = (typeof STAGES)[number];

export type PartKind = 'listener' | 'bridge' | 'spool' | 'kafka' | 'rollup' | 'store';

export type PartState =
  | 'ok'
  /** Not there yet; nobody needs to do anything. */
  | 'starting'
  /** Something outside this process does not answer; it is tried again for ever. */
  | 'away'
  /** It answers, but with failures. */
  | 'failing'
  /** At its limit: it takes nothing more until room is made. */
  | 'full'
  /** It will not come back by itself; only a restart of the process helps. */
  | 'stopped';

/** Something that can fail on its own. One that this process does not run is left out. */
export interface PartStatus {
  readonly kind: PartKind;
  /** Unique within the process, readable: `mqtt 127.0.0.1:1883`, `spool`, `kafka`, `influx`, `partition 3`. */
  readonly name: string;
  readonly stage: StageName;
  readonly state: PartState;
  /** When it entered this state, epoch milliseconds. */
  readonly sinceMs: number;
  /** The last failure while the state is not ok. */
  readonly failure?: { readonly code: Code; readonly message: string };
}

export interface PipelineStatus {
  readonly gateway: string;
  readonly version: string;
  readonly role: 'all' | 'gateway' | 'rollup';
  readonly ack: 'spool' | 'kafka';
  readonly log: 'spool' | 'kafka';
  readonly store: 'embedded' | 'influx';
  readonly startedMs: number;
  /** A stop in order is under way. */
  readonly stopping: boolean;
  /** MQTT addresses that devices can use, as URLs: `mqtt://127.0.0.1:1883`. */
  readonly listeners: readonly string[];
  readonly parts: readonly PartStatus[];
  /** Limits that no metric carries; null = no such limit here. */
  readonly limits: {
    readonly pendingBytes: number | null;
    readonly series: number | null;
  };
}

/**
 * One metric as prom-client's `registry.getMetricsAsJSON()` gives it. A metric may come several times, once for each
 * thread: the view adds them up (for `millrace_frontier_seconds` it takes the smallest).
 */
export interface MetricSample {
  readonly name: string;
  readonly values: readonly {
    readonly value: number;
    readonly labels: Readonly<Partial<Record<string, string | number>>>;
    /** In histograms: `…_bucket`, `…_sum` or `…_count`. */
    readonly metricName?: string;
  }[];
}

export interface DeadLetter {
  /** Names it in URLs: letters, digits, `.`, `_` and `-` only. */
  readonly id: string;
  /** Received stamp of the payload. */
  readonly receivedMs: number;
  readonly refusal: Refusal;
  /** Where `refusal.payload` is only its beginning: the size of the whole. */
  readonly payloadBytes?: number;
  /** When it was sent through inspection and the log again; only where that was looked for, and is so. */
  readonly requeuedMs?: number;
}

export interface DeadLetterQuery {
  /** The newest this many. */
  readonly limit: number;
  /** receivedMs >= sinceMs */
  readonly sinceMs: number;
}

/** A dead letter to be requeued; with its received stamp it is made sure that it is the one that was meant. */
export interface RequeueWish {
  readonly id: string;
  readonly receivedMs?: number;
}

export type Requeued =
  | { readonly kind: 'accepted'; readonly readings: number }
  /** Inspected again and refused again: nothing has changed. */
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  /** Requeued before: its readings are in the log. */
  | { readonly kind: 'already'; readonly requeuedMs: number }
  /** There is no such dead letter. */
  | { readonly kind: 'missing' };

/** A command to a device, and what became of it; see command.ts. */
export interface CommandShown {
  readonly id: string;
  readonly device: string;
  readonly state: CommandState;
  readonly createdMs: number;
  readonly atMs: number;
  readonly expiresMs: number | null;
  readonly gateway: string | null;
  readonly reason: string | null;
  readonly response: string | null;
}

export interface AuditQuery {
  /** Of receipt. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly device?: string;
}

export interface AlertsShown {
  /** Raised and not cleared, oldest first. */
  readonly active: readonly Alert[];
  /** The newest first, a bounded number. */
  readonly recent: readonly Alert[];
}

export interface Feed {
  readonly streams: Readonly<Record<string, Stream>>;
  /** Fed by the pipeline, read by the view. */
  readonly board: Board;
  status(): PipelineStatus;
  /** The metrics of every thread, one after the other. */
  samples(): Promise<readonly MetricSample[]>;
  /** The same as text in the Prometheus format. */
  metrics(): Promise<string>;
  /** The final rows as stored, oldest first. Ends early when the reader stops reading. */
  rows(query: RowQuery): AsyncIterable<Row>;
  /** What the open windows hold so far. */
  running(query: RunningQuery): Promise<readonly Row[]>;
  /** What a model said about closed windows, oldest first; like `rows`. */
  scores(query: RowQuery): AsyncIterable<Score>;
  /** What it says about the windows to come. */
  forecasts(query: ForecastQuery): Promise<readonly Forecast[]>;
  /** Newest first. */
  deadLetters(query: DeadLetterQuery): Promise<Outcome<readonly DeadLetter[]>>;
  deadLetter(id: string): Promise<Outcome<DeadLetter | null>>;
  /** Sends the payloads through inspection and the log once more, each once; answers in the order of the wishes. */
  requeue(wishes: readonly RequeueWish[]): Promise<Outcome<readonly Requeued[]>>;
  /** Of the rules in `alerts:`; null when there are none. As of a few seconds ago. */
  alerts(): AlertsShown | null;
  /** Newest first, as far back as the gateway remembers; null where there are none. */
  commands(): readonly CommandShown[] | null;
  /** Whether all that was received in the range is in the log and in the store, with the terms of each device: reads all of it. */
  audit(query: AuditQuery): Promise<Outcome<object>>;
  /** A command for the log of commands, checked; it is durable when this answers with its id. */
  command(body: Record<string, unknown>): Promise<Outcome<{ readonly id: string }>>;
}

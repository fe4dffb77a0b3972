/**
 * A part of the pipeline in a worker thread of its own: started, listened to, stopped, and started again if it dies.
 * A thread shares nothing with the main thread but the log on disk, the counter of what is durable there, and the
 * small messages below. If it dies, that is a bug, but not the end: readings go on being acknowledged into the spool,
 * the thread is started again after a pause, and it goes on from its checkpoint.
 */
import { type ResourceLimits, Worker } from 'node:worker_threads';
import type { Config } from '../config.ts';
import type { Outcome } from '../errors.ts';
import type { ForwardTally } from '../journal/forward.ts';
import type { Reading } from '../reading.ts';
import { backoff } from '../retry.ts';
import type { Row, RunningQuery } from '../row.ts';
import type { Forecast, ForecastQuery } from '../scored.ts';
import type { Telemetry } from '../telemetry.ts';
import type { PartStatus } from '../view/feed.ts';

/** prom-client's JSON form of one metric; only handed on to its own aggregation. */
export type MetricSnapshot = object;

export interface ThreadStatus {
  /** What this thread needs or does, each with its state. */
  readonly parts: readonly PartStatus[];
  /** Records of the log that it has not read yet; null while it does not know. */
  readonly backlog: number | null;
  /** Of `forward`: what became of what it read. */
  readonly tally?: ForwardTally;
  /** Of what reads a log with one partition: all below was read. */
  readonly position?: number;
}

/** What runs in such a thread. */
export interface Part {
  status(): ThreadStatus;
  /** What the open windows hold so far; only the rollup has any. */
  running?(query: RunningQuery): readonly Row[];
  /** The windows to come, where they are forecast. */
  forecasts?(query: ForecastQuery): readonly Forecast[];
  /** The main thread's answer to `append`. */
  appended?(request: number, outcome: Outcome): void;
  stop(): Promise<void>;
}

export type FromThread =
  | { readonly type: 'ready' }
  /** Kafka has every record of the spool below this offset. */
  | { readonly type: 'forwarded'; readonly offset: number }
  /** Readings that were made of others, for the spool, which the main thread alone writes; it answers `appended`. */
  | { readonly type: 'append'; readonly request: number; readonly readings: readonly Reading[] }
  | { readonly type: 'answer'; readonly question: number; readonly found: readonly unknown[] }
  | { readonly type: 'metrics'; readonly metrics: readonly MetricSnapshot[]; readonly status: ThreadStatus }
  | { readonly type: 'stopped' };

export type ToThread =
  | { readonly type: 'stop' }
  | { readonly type: 'appended'; readonly request: number; readonly outcome: Outcome }
  | ({ readonly type: 'question'; readonly question: number } & Question);

export type Question =
  | { readonly about: 'running'; readonly query: RunningQuery }
  | { readonly about: 'forecasts'; readonly query: ForecastQuery };

export interface ThreadData {
  readonly part: 'forward' | 'rollup' | 'understand';
  readonly config: Config;
  /** Of the spool of this process; null when the log is Kafka alone. */
  readonly progress: SharedArrayBuffer | null;
  /** Of the spool of this process. */
  readonly spoolId?: string;
  /** Of `forward`: records from this spool offset on are counted for the ledger. */
  readonly tallyFrom?: number;
  readonly logLevel: string;
  readonly pretty: boolean;
}

export interface Thread {
  readonly metrics: () => readonly MetricSnapshot[];
  readonly status: () => ThreadStatus;
  /** Ask the part. A thread that does not answer in time has nothing. */
  running(query: RunningQuery): Promise<readonly Row[]>;
  forecasts(query: ForecastQuery): Promise<readonly Forecast[]>;
  /** Stops it like `stop`, and starts it with new data: it goes on from its checkpoint. Resolves when the old one is gone. */
  restart(): Promise<void>;
  /** The answer to its `append`. A thread that died meanwhile does not hear it, and looks into the log. */
  appended(request: number, outcome: Outcome): void;
  /** Resolves when the thread has flushed and committed, or after the limit. */
  stop(): Promise<void>;
}

/** A thread that has not stopped by then is ended; it goes on from its checkpoint. */
export const STOP_LIMIT_MS = 15_000;
const ANSWER_LIMIT_MS = 2_000;
/**
 * What forward makes lives for one request. More room only makes the process larger; with half of it, records that wait for
 * Kafka are moved so often that the process costs a twentieth more.
 */
const RESOURCE_LIMITS: Readonly<Record<ThreadData['part'], ResourceLimits>> = {
  forward: { maxYoungGenerationSizeMb: 24 },
  rollup: {},
  understand: {},
};
const METRICS_OF_THE_DEAD: readonly MetricSnapshot[] = [];

/** `dataOf` is asked at the start and before every later one. */
export function startThread(
  part: ThreadData['part'],
  dataOf: () => ThreadData,
  on: (message: FromThread) => void,
  telemetry: Telemetry,
): Thread {
  // The same tree runs from TypeScript (tests, through a loader) and compiled.
  const entry = new URL(import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js', import.meta.url);
  const pauses = backoff({ firstMs: 500, maxMs: 30_000 });
  let deaths = 0;
  /** Told to stop, for good or to be started anew. */
  let stopping = false;
  let metrics = METRICS_OF_THE_DEAD;
  let status: ThreadStatus = { parts: [], backlog: null };
  let worker: Worker | null = null;
  let questions = 0;
  const asked = new Map<number, (found: readonly unknown[]) => void>();
  let restart: NodeJS.Timeout | undefined;
  let stopped = () => {};

  const start = () => {
    worker = new Worker(entry, { workerData: dataOf(), resourceLimits: RESOURCE_LIMITS[part] });
    worker.on('message', (message: FromThread) => {
      if (message.type === 'metrics') {
        metrics = message.metrics;
        status = message.status;
        deaths = 0;
      } else if (message.type === 'answer') {
        asked.get(message.question)?.(message.found);
      } else if (message.type === 'stopped') {
        stopped();
      }
      on(message);
    });
    worker.on('error', (error) => telemetry.log.error({ part, err: error }, `the ${part} thread failed`));
    worker.on('exit', (code) => {
      worker = null;
      if (stopping) return stopped();
      deaths++;
      const pauseMs = pauses.delayMs(deaths);
      const failure = { code: 'THREAD_ENDED', message: `The ${part} thread ended and is started again.` } as const;
      status = { parts: status.parts.map((part) => ({ ...part, state: 'failing', failure })), backlog: null };
      telemetry.log.error({ part, code, pauseMs }, `the ${part} thread ended; starting it again`);
      restart = setTimeout(start, pauseMs);
    });
  };
  start();

  const end = async () => {
    stopping = true;
    clearTimeout(restart);
    if (worker === null) return;
    const whenStopped = new Promise<void>((resolve) => {
      stopped = resolve;
    });
    worker.postMessage({ type: 'stop' } satisfies ToThread);
    const limit = setTimeout(() => {
      telemetry.log.warn({ part }, `the ${part} thread did not stop in time; it goes on from its checkpoint`);
      stopped();
    }, STOP_LIMIT_MS);
    await whenStopped;
    clearTimeout(limit);
    await worker?.terminate();
  };

  const ask = <T>(about: Question) =>
    new Promise<readonly T[]>((resolve) => {
      const question = ++questions;
      const answer = (found: readonly unknown[]) => {
        clearTimeout(limit);
        asked.delete(question);
        resolve(found as readonly T[]);
      };
      const limit = setTimeout(answer, ANSWER_LIMIT_MS, []);
      asked.set(question, answer);
      worker?.postMessage({ type: 'question', question, ...about } satisfies ToThread);
    });

  return {
    metrics: () => metrics,
    status: () => status,
    running: (query) => ask<Row>({ about: 'running', query }),
    forecasts: (query) => ask<Forecast>({ about: 'forecasts', query }),
    async restart() {
      await end();
      stopping = false;
      start();
    },
    appended: (request, outcome) =>
      // Causes are for logs, and not all of them can be sent to a thread.
      worker?.postMessage({ type: 'appended', request, outcome: withoutCause(outcome) } satisfies ToThread),
    stop: end,
  };
}

function withoutCause(outcome: Outcome): Outcome {
  if (outcome.ok) return outcome;
  const { cause: _, ...failure } = outcome.failure;
  return { ok: false, failure };
}

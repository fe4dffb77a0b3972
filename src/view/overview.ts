/**
 * The state of everything, once a second: numbers from the meter, parts from the pipeline, and what is wrong in words. The
 * body of `/api/v1/status` and of the live page's `status` event.
 */
import type { Clock } from '../clock.ts';
import { messageOf } from '../errors.ts';
import type { Telemetry } from '../telemetry.ts';
import type { BoardSummary } from './board.ts';
import type { Feed, PartStatus, PipelineStatus, StageName } from './feed.ts';
import { readiness } from './health.ts';
import { Meter } from './meter.ts';
import type { Problem, Severity } from './problem.ts';
import { findProblems, rememberSince } from './problems.ts';
import type { StageStatus } from './stages.ts';

/** Over which the growth of queues is taken. */
const GROWTH_OVER_MS = 30_000;
const RECENT_MS = 60_000;
/** A thread that does not answer for this long is asked anew. */
const SAMPLES_WITHIN_MS = 5_000;

export type Verdict = 'healthy' | 'attention' | 'broken';

export interface Overview {
  readonly gateway: string;
  readonly version: string;
  readonly role: PipelineStatus['role'];
  readonly ack: PipelineStatus['ack'];
  readonly log: PipelineStatus['log'];
  readonly store: PipelineStatus['store'];
  readonly listeners: readonly string[];
  readonly startedMs: number;
  readonly nowMs: number;
  readonly ready: boolean;
  readonly verdict: Verdict;
  /** How long ago the last final window ended; null: there is none. */
  readonly finalBehindMs: number | null;
  readonly stages: readonly (StageStatus & { readonly verdict: Verdict })[];
  readonly parts: readonly PartStatus[];
  readonly problems: readonly Problem[];
  readonly board: BoardSummary;
}

export class Observer {
  readonly #feed: Feed;
  readonly #clock: Clock;
  readonly #telemetry: Telemetry;
  readonly #meter = new Meter();
  readonly #since = new Map<string, number>();
  #taking: Promise<void> | null = null;

  constructor(feed: Feed, clock: Clock, telemetry: Telemetry) {
    this.#feed = feed;
    this.#clock = clock;
    this.#telemetry = telemetry;
  }

  /** Takes one set of samples. Never two at once: a thread that does not answer must not pile up questions. */
  take(): Promise<void> {
    this.#taking ??= this.#take().finally(() => {
      this.#taking = null;
    });
    return this.#taking;
  }

  async #take(): Promise<void> {
    try {
      const samples = await within(this.#feed.samples(), SAMPLES_WITHIN_MS);
      this.#meter.take(samples, this.#clock.monotonicMs(), this.#clock.nowMs());
    } catch (thrown) {
      this.#telemetry.limited(
        'warn',
        'view samples',
        { reason: messageOf(thrown) },
        'The live page shows old numbers: the metrics cannot be read.',
      );
    }
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  overview(): Overview {
    const nowMs = this.#clock.nowMs();
    const status = this.#feed.status();
    const stages = this.#meter.stages(status);
    const board = this.#feed.board.summary(nowMs);
    const found = findProblems({
      status,
      stages,
      board,
      streams: this.#feed.board.streams(),
      configured: this.#feed.streams,
      nowMs,
      recent: {
        turnedAway: this.#meter.recent('millrace_turned_away_total', RECENT_MS),
        accepted: this.#meter.recent('millrace_accepted_total', RECENT_MS),
        deadLetters: this.#meter.recent('millrace_dead_letters_total', RECENT_MS),
        counted: this.#meter.recent('millrace_counted_total', RECENT_MS),
        late: this.#meter.recent('millrace_late_total', RECENT_MS),
      },
      alerts: this.#feed.alerts()?.active ?? [],
      imbalance: this.#meter.total('millrace_ledger_imbalance_readings'),
      spoolGrowth: this.#meter.slope('millrace_spool_bytes', GROWTH_OVER_MS),
      lagGrowth: this.#meter.slope('millrace_lag_records', GROWTH_OVER_MS),
    });
    const problems = rememberSince(found, this.#since, nowMs);
    return {
      gateway: status.gateway,
      version: status.version,
      role: status.role,
      ack: status.ack,
      log: status.log,
      store: status.store,
      listeners: status.listeners,
      startedMs: status.startedMs,
      nowMs,
      ready: readiness(status, nowMs).ok,
      verdict: verdictOf(problems),
      finalBehindMs: this.#meter.behindMs(),
      stages: stages.map((stage) => ({ ...stage, verdict: stageVerdict(problems, stage.name) })),
      parts: status.parts,
      problems,
      board,
    };
  }

  history(): Record<string, readonly number[]> {
    return this.#meter.history();
  }

  /** Per second, by stream, of a counter that has the stream as its first label. */
  ratesBy(metric: string): Record<string, number> {
    return this.#meter.ratesBy(metric);
  }

  totalsBy(metric: string): Record<string, number> {
    return this.#meter.totalsBy(metric);
  }
}

const VERDICT: Readonly<Record<Severity, Verdict>> = { error: 'broken', warning: 'attention', note: 'healthy' };

function verdictOf(problems: readonly Problem[]): Verdict {
  const first = problems[0];
  return first ? VERDICT[first.severity] : 'healthy';
}

function stageVerdict(problems: readonly Problem[], stage: StageName): Verdict {
  return verdictOf(problems.filter((problem) => problem.stage === stage));
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What the view sees of the running parts: the implementation of `view/feed.ts` on the pipeline's own objects. */
import { AggregatorRegistry, type Registry } from 'prom-client';
import { fail, type Outcome } from '../errors.ts';
import type { LogReader } from '../log.ts';
import type { Row, RowQuery, RunningQuery } from '../row.ts';
import type { Forecast, ForecastQuery, Score } from '../scored.ts';
import type { Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Board } from '../view/board.ts';
import type { AlertsShown, AuditQuery, Feed, MetricSample, PipelineStatus } from '../view/feed.ts';
import { showCommand } from './command-book.ts';
import type { Commands } from './commands.ts';
import { deadLetterAt } from './dead-letters.ts';
import { RecentLetters } from './recent-letters.ts';
import type { Requeue } from './requeue.ts';
import type { MetricSnapshot } from './threads.ts';

export interface FeedNeeds {
  readonly streams: Readonly<Record<string, Stream>>;
  readonly board: Board;
  readonly telemetry: Telemetry;
  /** Last numbers of the worker threads. */
  threadMetrics(): readonly MetricSnapshot[];
  status(): PipelineStatus;
  rows(query: RowQuery): AsyncIterable<Row>;
  /** What the rollup's open windows hold so far. */
  running(query: RunningQuery): Promise<readonly Row[]>;
  scores(query: RowQuery): AsyncIterable<Score>;
  forecasts(query: ForecastQuery): Promise<readonly Forecast[]>;
  alerts(): AlertsShown | null;
  audit(query: AuditQuery): Promise<Outcome<object>>;
  readonly deadLetters: LogReader;
  /** Null where this process has no gateway. */
  readonly requeue: Requeue | null;
  /** Null where there are none. */
  readonly commands: Commands | null;
}

export function createFeed(needs: FeedNeeds): Feed {
  const { telemetry } = needs;
  const recent = new RecentLetters(needs.deadLetters);
  const samples = async () => [
    ...((await telemetry.snapshot()) as unknown as MetricSample[]),
    ...(needs.threadMetrics() as readonly MetricSample[]),
  ];
  return {
    streams: needs.streams,
    board: needs.board,
    status: needs.status,
    samples,
    metrics: async () => {
      const own = await Promise.all([telemetry.snapshot(), telemetry.process.getMetricsAsJSON()]);
      const merged = AggregatorRegistry.aggregate([...own, needs.threadMetrics()] as unknown as Registry[]);
      return merged.metrics();
    },
    rows: needs.rows,
    running: needs.running,
    deadLetters: (query) => recent.list(query),
    scores: needs.scores,
    forecasts: needs.forecasts,
    alerts: needs.alerts,
    audit: needs.audit,
    deadLetter: (id) => deadLetterAt(needs.deadLetters, id),
    requeue: async (wishes) =>
      needs.requeue
        ? needs.requeue(wishes)
        : fail('USAGE', 'This process runs no gateway; ask the page of a gateway to requeue.'),
    commands: () => needs.commands?.list().map(showCommand) ?? null,
    command: async (body) =>
      needs.commands?.submit(body) ?? fail('USAGE', 'There are no commands here: a gateway with commands: takes them.'),
  };
}

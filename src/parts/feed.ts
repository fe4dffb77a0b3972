/** What the view sees of the running parts: the implementation of `view/feed.ts` on the pipeline's own objects. */
import { AggregatorRegistry, type Registry } from 'prom-client';
import { fail, type Outcome, succeed } from '../errors.ts';
import type { LogReader } from '../log.ts';
import type { Message } from '../reading.ts';
import type { Row, RowQuery } from '../row.ts';
import type { Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Board } from '../view/board.ts';
import type {
  DeadLetter,
  DeadLetterQuery,
  Feed,
  MetricSample,
  PipelineStatus,
  Requeued,
  RunningQuery,
} from '../view/feed.ts';
import type { Verdict } from './accept.ts';
import { deadLetterAt, findDeadLetters } from './dead-letters.ts';
import type { MetricSnapshot } from './threads.ts';

export interface FeedNeeds {
  readonly streams: Readonly<Record<string, Stream>>;
  readonly board: Board;
  readonly telemetry: Telemetry;
  /** Last numbers of the worker threads. */
  threadMetrics(): readonly MetricSnapshot[];
  status(): PipelineStatus;
  rows(query: RowQuery): AsyncIterable<Row>;
  /** The rollup's newest running rows. */
  running(): readonly Row[];
  readonly deadLetters: LogReader;
  /** Null where this process has no gateway. */
  readonly accept: ((message: Message, settled: (verdict: Verdict) => void) => void) | null;
  received(): number;
}

export function createFeed(needs: FeedNeeds): Feed {
  const { telemetry } = needs;
  const samples = async () => [
    ...((await telemetry.registry.getMetricsAsJSON()) as unknown as MetricSample[]),
    ...(needs.threadMetrics() as readonly MetricSample[]),
  ];
  return {
    streams: needs.streams,
    board: needs.board,
    status: needs.status,
    samples,
    metrics: async () => {
      const own = await telemetry.registry.getMetricsAsJSON();
      const merged = AggregatorRegistry.aggregate([own, needs.threadMetrics()] as unknown as Registry[]);
      return merged.metrics();
    },
    rows: needs.rows,
    running: async (query) =>
      needs
        .running()
        .filter((row) => matches(row, query))
        .slice(0, query.limit),
    deadLetters: (query: DeadLetterQuery): Promise<Outcome<DeadLetter[]>> => findDeadLetters(needs.deadLetters, query),
    deadLetter: (id) => deadLetterAt(needs.deadLetters, id),
    requeue: async (id) => {
      const { accept } = needs;
      if (accept === null) {
        return fail('USAGE', 'This process runs no gateway; ask the page of a gateway to requeue.');
      }
      const found = await deadLetterAt(needs.deadLetters, id);
      if (!found.ok) return found;
      if (found.value === null) return succeed(null);
      const { refusal } = found.value;
      const message = {
        topic: refusal.topic,
        payload: refusal.payload,
        client: refusal.client,
        receivedMs: needs.received(),
      };
      const verdict = await new Promise<Verdict>((resolve) => accept(message, resolve));
      if (verdict.kind === 'failed') return { ok: false, failure: verdict.failure };
      if (verdict.kind === 'accepted') return succeed<Requeued>({ kind: 'accepted', readings: 1 });
      return succeed<Requeued>({
        kind: 'refused',
        refusal: { ...refusal, code: verdict.code, reason: verdict.reason },
      });
    },
  };
}

function matches(row: Row, query: RunningQuery): boolean {
  if (row.stream !== query.stream) return false;
  if (query.window !== undefined && row.window !== query.window) return false;
  if (query.metric !== undefined && row.metric !== query.metric) return false;
  return Object.entries(query.tags ?? {}).every(([name, value]) => row.tags[name] === value);
}

/**
 * Which windows of a partition are closed and durable, as the rollup's commits say: the answer to "may this row be missing
 * still?" and "will nobody write it any more?". With two stages the larger windows are durable by the second one's commit.
 */
import { type Outcome, succeed } from '../errors.ts';
import type { LogReader } from '../log.ts';
import type { Stream } from '../stream.ts';
import { decodeCheckpoint } from './checkpoint.ts';
import { secondGroup } from './panes.ts';
import { windowsOf } from './window.ts';

export interface Commits {
  /** Of the readings. */
  readonly log: LogReader;
  /** With two stages: the panes topic. */
  readonly panes?: LogReader | undefined;
  readonly group: string;
}

/** Every window of this stream and label that ends at or before the answer is durable. */
export type Frontiers = (stream: Stream, window: string) => number;

export async function committedFrontiers(commits: Commits, partition: number): Promise<Outcome<Frontiers>> {
  const { log, panes, group } = commits;
  const first = await frontierOf(log, group, partition);
  if (!first.ok || panes === undefined) return first.ok ? succeed(() => first.value) : first;
  const second = await frontierOf(panes, secondGroup(group), partition);
  if (!second.ok) return second;
  return succeed((stream, window) =>
    windowsOf(stream.windows, 'second').some(({ label }) => label === window) ? second.value : first.value,
  );
}

async function frontierOf(log: LogReader, group: string, partition: number): Promise<Outcome<number>> {
  const stored = await log.checkpoint(group, partition);
  if (!stored.ok) return stored;
  return succeed((stored.value && decodeCheckpoint(stored.value)?.frontierMs) ?? Number.NEGATIVE_INFINITY);
}

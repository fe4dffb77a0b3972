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
export type Frontiers = ((stream: Stream, window: string) => number) & {
  /** The group has no windows that start at or before it: it was told to begin in the middle of the log. */
  readonly beganAfterMs: number;
};

export async function committedFrontiers(commits: Commits, partition: number): Promise<Outcome<Frontiers>> {
  const { log, panes, group } = commits;
  const first = await progressOf(log, group, partition);
  if (!first.ok) return first;
  const { frontierMs, beganAfterMs } = first.value;
  if (panes === undefined) return succeed(Object.assign(() => frontierMs, { beganAfterMs }));
  const second = await progressOf(panes, secondGroup(group), partition);
  if (!second.ok) return second;
  const isSecond = (stream: Stream, window: string) =>
    windowsOf(stream.windows, 'second').some(({ label }) => label === window);
  const frontiers = (stream: Stream, window: string) =>
    isSecond(stream, window) ? second.value.frontierMs : frontierMs;
  return succeed(Object.assign(frontiers, { beganAfterMs }));
}

async function progressOf(
  log: LogReader,
  group: string,
  partition: number,
): Promise<Outcome<{ frontierMs: number; beganAfterMs: number }>> {
  const stored = await log.checkpoint(group, partition);
  if (!stored.ok) return stored;
  const none = Number.NEGATIVE_INFINITY;
  const progress = stored.value && decodeCheckpoint(stored.value);
  return succeed({ frontierMs: progress?.frontierMs ?? none, beganAfterMs: progress?.beganAfterMs ?? none });
}

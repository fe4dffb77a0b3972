/**
 * Where a group that has never committed begins to read, when the configuration says `latest` or a time and not `earliest`.
 * The log is asked until it answers: nothing could be read meanwhile either. A partition with a commit goes on from it,
 * whatever the configuration says, so the choice counts once; until the first commit, a restart chooses again.
 */
import type { Outcome } from '../errors.ts';
import type { Assignment, LogReader } from '../log.ts';
import { backoff, type pause } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Restore } from './restore.ts';

/** A time: of the first record that was received then or later, in milliseconds of the epoch. */
export type Begin = 'earliest' | 'latest' | number;

/** How a log that does not answer is waited for. */
export interface Waiting {
  readonly telemetry: Telemetry;
  readonly pause: typeof pause;
  /** Gives up: then nothing is to be read any more. */
  readonly signal: AbortSignal;
}

export interface BeginOptions extends Waiting {
  readonly reader: LogReader;
  readonly begin: Begin;
}

/** The assignments, of which those without a commit begin later than the log does. */
export async function begun(
  assignments: readonly Assignment[],
  options: BeginOptions,
): Promise<(Restore & Assignment)[]> {
  return Promise.all(
    assignments.map(async (assignment) => {
      if (assignment.checkpoint !== null || options.begin === 'earliest') return assignment;
      const offset = await chosen(assignment, options);
      if (offset === null || offset <= assignment.firstOffset) return assignment;
      return { ...assignment, firstOffset: offset, isChosen: true };
    }),
  );
}

async function chosen({ partition, endOffset }: Assignment, options: BeginOptions): Promise<number | null> {
  const { reader, begin } = options;
  if (typeof begin !== 'number') return endOffset;
  return untilAnswered(options, partition, () => reader.offsetAtTime(partition, begin));
}

/** Asks until there is an answer; null = given up. */
export async function untilAnswered<T>(
  { telemetry, pause: wait, signal }: Waiting,
  partition: number,
  ask: () => Promise<Outcome<T>>,
): Promise<T | null> {
  const pauses = backoff();
  for (let failures = 1; !signal.aborted; failures++) {
    const found = await ask();
    if (found.ok) return found.value;
    const fields = { partition, code: found.failure.code };
    telemetry.limited('warn', 'rollup-begin', fields, `the beginning is not known yet: ${found.failure.message}`);
    await wait(Math.max(pauses.delayMs(failures), found.failure.retryAfterMs ?? 0), signal);
  }
  return null;
}

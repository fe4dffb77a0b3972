/**
 * Where to read again when the configuration knows streams that the commit does not: new ones, or those whose windows,
 * metrics, grace or disorder were changed. Below L they were not read by today's rules, but the log still has it all: of a
 * window with end > F nothing can have been received before its start - skew, so from the first record received then or
 * later every such window is whole, for the unchanged streams too. The watermark before that record is below that time,
 * and of those windows it decides nothing. So a change leaves no window out; it costs reading the largest one again.
 *
 * It cannot be done where the log has lost that record, and it is not done with two stages: there the panes topic has panes
 * and ticks of the old rules, up to where nobody knows. Then restore.ts leaves out what was open.
 */
import type { Assignment, LogReader } from '../log.ts';
import type { Stream } from '../stream.ts';
import { untilAnswered, type Waiting } from './begin.ts';
import { decodeCheckpoint } from './checkpoint.ts';
import { type Admission, isKnown, type Restore } from './restore.ts';
import { floorTo, type Stage, windowsOf } from './window.ts';

export interface RereadOptions extends Waiting {
  readonly reader: LogReader;
  /** Those that the stage has windows of. */
  readonly streams: readonly Stream[];
  readonly admission: Admission;
  readonly stage: Stage;
}

/** The assignments, of which those under another configuration are read again from `rereadFrom` on, if they can be. */
export function reread<T extends Restore & Assignment>(from: readonly T[], options: RereadOptions): Promise<T[]> {
  return Promise.all(
    from.map(async (assignment) => {
      const rereadFrom = await beginOf(assignment, options);
      return rereadFrom === null ? assignment : { ...assignment, rereadFrom };
    }),
  );
}

async function beginOf(assignment: Restore & Assignment, options: RereadOptions): Promise<number | null> {
  const { partition, checkpoint, firstOffset, endOffset, continues = false } = assignment;
  const { reader, streams, admission, stage } = options;
  const progress = checkpoint && decodeCheckpoint(checkpoint);
  if (stage !== 'only' || progress === null) return null;
  if (streams.every((stream) => isKnown(stream, progress, admission, stage))) return null;
  if (progress.offset < firstOffset || progress.position > endOffset) return null;
  const oldestMs = oldestOpenMs(streams, progress.frontierMs, stage);
  const found = await untilAnswered(options, partition, () =>
    reader.offsetAtTime(partition, Math.max(0, oldestMs - admission.skewMs)),
  );
  if (found === null) return null;
  const isWhole = found > firstOffset || (firstOffset === 0 && !continues);
  return isWhole ? Math.min(found, progress.offset) : null;
}

/** Start of the oldest window with end > F. */
function oldestOpenMs(streams: readonly Stream[], frontierMs: number, stage: Stage): number {
  const windows = streams.flatMap((stream) => windowsOf(stream.windows, stage));
  return Math.min(...windows.map(({ sizeMs, everyMs }) => floorTo(frontierMs - sizeMs, everyMs) + everyMs));
}

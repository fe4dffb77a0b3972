/**
 * Where an engine begins, and what it may emit from there. Pure.
 *
 * With its own checkpoint, and a log that still has all from L on, it goes on as if nothing had happened. Otherwise what
 * lies below the first record to be read is unknown, and only windows that start after S are emitted: they are known to be
 * complete, because no reading is accepted that is more than `skew` ahead of its tIn.
 *
 *   no usable checkpoint, not at offset 0          S = first tIn + grace + disorder + skew
 *                                                  (offset 0 is the log's true beginning: everything is known)
 *   the log lost records, all of them below P      S = F + grace + disorder + skew: at P the watermark was not higher
 *   the log lost records up to P and above it      S = the larger of both
 *   a stream was added or its windows, metrics,    S = WL + skew for this stream: all below L was received by WL.
 *   grace or disorder were changed                 What was closed under the old settings (end <= F) stays as it is.
 *
 * A missing row is honest, a partial one is not. The first record's tIn tells about the lost ones before it only as long
 * as the log is not further out of order than grace + disorder; more than that, and readings are stragglers.
 * A process that dies between a write and its commit, and comes back with another configuration, writes what it had
 * written last again under the new settings: change the configuration after a stop in order.
 */
import type { Checkpoint, StoredRecord } from '../log.ts';
import type { Stream } from '../stream.ts';
import { decodeCheckpoint, streamHash } from './checkpoint.ts';

export interface Restore {
  readonly checkpoint: Checkpoint | null;
  /** The oldest record still in the log. */
  readonly firstOffset: number;
  /** One past the newest; a commit beyond it is of another log. */
  readonly endOffset: number;
}

/**
 * How an engine began: with all it needs, or with truncated history. `foreign`: there was a checkpoint, but not one of
 * ours. `rewound`: the log ends below P, it lost its end or was made anew; what is closed stays closed, and the log as it is
 * now decides all else. `reconfigured`: for some streams.
 */
export type Beginning = 'resumed' | 'true-beginning' | 'cold' | 'foreign' | 'truncated' | 'rewound' | 'reconfigured';

export interface Admission {
  readonly graceMs: number;
  readonly disorderMs: number;
  /** How far ahead of its received stamp the gateways accept an event time. */
  readonly skewMs: number;
}

export interface Start {
  readonly beginning: Beginning;
  readonly offset: number;
  readonly watermarkMs: number;
  /** F: no window that ends at or before it is emitted. */
  readonly emittedToMs: number;
  /** P: what is late below it is in the late log already, and was counted by whoever read it first. */
  readonly producedTo: number;
  /** The first record decides S for all streams: see `completeAfterFirst`. */
  readonly awaitsFirst: boolean;
  /** S by the name of the stream; absent = all is known. */
  readonly completeAfterMs: ReadonlyMap<string, number>;
}

export function startOf(restore: Restore, streams: readonly Stream[], admission: Admission): Start {
  const { checkpoint, firstOffset, endOffset } = restore;
  const progress = checkpoint && decodeCheckpoint(checkpoint);
  const none = Number.NEGATIVE_INFINITY;
  if (progress === null) {
    const offset = Math.max(checkpoint?.offset ?? firstOffset, firstOffset);
    const beginning = offset === 0 ? 'true-beginning' : checkpoint ? 'foreign' : 'cold';
    const unknown = { watermarkMs: none, emittedToMs: none, producedTo: 0, completeAfterMs: new Map() };
    return { beginning, offset, awaitsFirst: offset > 0, ...unknown };
  }
  const emittedToMs = progress.frontierMs;
  if (progress.offset > endOffset) {
    const anew = { offset: firstOffset, watermarkMs: none, producedTo: firstOffset, completeAfterMs: new Map() };
    return { beginning: 'rewound', emittedToMs, awaitsFirst: firstOffset > 0, ...anew };
  }
  const completeAfterMs = new Map<string, number>();
  let isChanged = false;
  for (const stream of streams) {
    const isBound = progress.streams.get(streamHash(stream, admission));
    if (isBound === undefined) {
      isChanged = true;
      completeAfterMs.set(stream.name, Math.max(progress.completeAfterMs, progress.watermarkMs + admission.skewMs));
    } else if (isBound) {
      completeAfterMs.set(stream.name, progress.completeAfterMs);
    }
  }
  const isTruncated = progress.offset < firstOffset;
  const isRewound = progress.position > endOffset;
  return {
    beginning: isRewound ? 'rewound' : isTruncated ? 'truncated' : isChanged ? 'reconfigured' : 'resumed',
    offset: Math.max(progress.offset, firstOffset),
    watermarkMs: progress.watermarkMs,
    emittedToMs,
    producedTo: Math.min(progress.position, endOffset),
    awaitsFirst: isTruncated,
    completeAfterMs,
  };
}

/** S of all streams, once the first record is there. */
export function completeAfterFirst(first: StoredRecord, start: Start, admission: Admission): number {
  const { graceMs, disorderMs, skewMs } = admission;
  const isBelowP = first.offset <= start.producedTo;
  const knownMs = isBelowP ? start.emittedToMs : Math.max(start.emittedToMs, first.receivedMs);
  return knownMs + graceMs + disorderMs + skewMs;
}

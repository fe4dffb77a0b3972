/**
 * Where an engine begins, and what it may emit from there. Pure.
 *
 * With its own checkpoint, and a log that still has all from L on, it goes on as if nothing had happened. Otherwise what
 * lies below the first record to be read is unknown, and only windows that start after S are emitted: they are known to be
 * complete, because no reading is accepted that is more than `skew` ahead of its tIn.
 *
 *   no usable checkpoint, not at offset 0          S = first tIn + grace + disorder + skew; so, too, where the user chose
 *                                                  to begin later than the log does (begin.ts): the checkpoint remembers
 *                                                  this S as B, below which nobody has to have written a row
 *                                                  (offset 0 is the log's true beginning: everything is known; unless
 *                                                  it continues another log, as a new generation of topics does)
 *   the log lost records, all of them below P      S = F + grace + disorder + skew: at P the watermark was not higher
 *   the log lost records up to P and above it      S = the larger of both
 *   a stream was added or its windows, metrics,    nothing is left out where the log is read again (reread.ts); else
 *   grace or disorder were changed                 S = WL + skew for this stream: all below L was received by WL.
 *                                                  In a second stage not below F: panes up to there are of the old rules.
 *                                                  What was closed under the old settings (end <= F) stays as it is.
 *
 * Of two stages (panes.ts) each is restored by itself. The first keeps what one stage has committed: its own windows are
 * among them, so their rows go on without a gap. But the panes of then are not in the topic, nor may those be trusted that
 * a changed stream has there: what is handed on says that it is complete after F only, and the second leaves out the
 * windows that began before. From two stages to one, a stream counts as changed. The second stage never takes the
 * beginning of its topic for the beginning of everything: the first record there says what is below it.
 *
 * A missing row is honest, a partial one is not. The first record's tIn tells about the lost ones before it only as long
 * as the log is not further out of order than grace + disorder; more than that, and readings are stragglers.
 * A process that dies between a write and its commit, and comes back with another configuration, writes what it had
 * written last again under the new settings: change the configuration after a stop in order.
 */
import type { Checkpoint, StoredRecord } from '../log.ts';
import type { Stream } from '../stream.ts';
import { decodeCheckpoint, type Progress, streamHash } from './checkpoint.ts';
import { reachOf } from './panes.ts';
import type { Stage } from './window.ts';

export interface Restore {
  readonly checkpoint: Checkpoint | null;
  /** The oldest record still in the log. */
  readonly firstOffset: number;
  /** One past the newest; a commit beyond it is of another log. */
  readonly endOffset: number;
  /** The log goes on where another one ended, so its beginning is not the beginning of everything. */
  readonly continues?: boolean | undefined;
  /** The log has more than is to be read: `firstOffset` was chosen. */
  readonly isChosen?: boolean | undefined;
  /** At or below L: with all records from here on, every window with end > F is whole, under any configuration; see reread.ts. */
  readonly rereadFrom?: number | undefined;
}

/**
 * How an engine began: with all it needs, or with truncated history. `foreign`: there was a checkpoint, but not one of
 * ours. `rewound`: the log ends below P, it lost its end or was made anew; what is closed stays closed, and the log as it is
 * now decides all else. `reconfigured`: for some streams.
 */
export type Beginning =
  | 'resumed'
  | 'true-beginning'
  | 'cold'
  | 'chosen'
  | 'foreign'
  | 'truncated'
  | 'rewound'
  | 'reconfigured';

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
  /** Of a first stage: after this the stream's panes are all in the topic, too; absent = as S. */
  readonly handedAfterMs: ReadonlyMap<string, number>;
  /** B, where the user had chosen to begin before this start. */
  readonly beganAfterMs?: number | undefined;
}

export function startOf(
  restore: Restore,
  streams: readonly Stream[],
  admission: Admission,
  stage: Stage = 'only',
): Start {
  const { checkpoint, firstOffset, endOffset } = restore;
  const progress = checkpoint && decodeCheckpoint(checkpoint);
  const none = Number.NEGATIVE_INFINITY;
  if (progress === null) {
    const offset = Math.max(checkpoint?.offset ?? firstOffset, firstOffset);
    const isTrue = offset === 0 && !restore.continues;
    const isChosen = restore.isChosen === true && !isTrue;
    const beginning = isTrue ? 'true-beginning' : checkpoint ? 'foreign' : isChosen ? 'chosen' : 'cold';
    const unknown = { watermarkMs: none, emittedToMs: none, producedTo: 0 };
    const awaitsFirst = !isTrue || stage === 'second';
    return { beginning, offset, awaitsFirst, ...unknown, completeAfterMs: new Map(), handedAfterMs: new Map() };
  }
  const emittedToMs = progress.frontierMs;
  const { beganAfterMs } = progress;
  const isRewound = progress.position > endOffset;
  const handedAfterMs = new Map<string, number>();
  for (const stream of streams) {
    const isKnown = progress.streams.has(streamHash(stream, admission, stage));
    if (!isKnown || isRewound) handedAfterMs.set(stream.name, emittedToMs);
  }
  if (progress.offset > endOffset) {
    const anew = { offset: firstOffset, watermarkMs: none, producedTo: firstOffset, completeAfterMs: new Map() };
    const awaitsFirst = firstOffset > 0 || restore.continues === true || stage === 'second';
    return { beginning: 'rewound', emittedToMs, awaitsFirst, ...anew, handedAfterMs, beganAfterMs };
  }
  const { rereadFrom = progress.offset } = restore;
  const completeAfterMs = new Map<string, number>();
  let isChanged = false;
  for (const stream of streams) {
    const isBound = boundOf(stream, progress, admission, stage);
    if (isBound === undefined) {
      isChanged = true;
      const receivedMs = restore.rereadFrom === undefined ? progress.watermarkMs + admission.skewMs : none;
      // A second stage takes panes that end at or before F for repeats, those of the new rules too.
      const unreadMs = stage === 'second' ? Math.max(receivedMs, emittedToMs) : receivedMs;
      completeAfterMs.set(stream.name, Math.max(progress.completeAfterMs, unreadMs));
    } else if (isBound) {
      completeAfterMs.set(stream.name, progress.completeAfterMs);
    }
  }
  const isTruncated = progress.offset < firstOffset;
  if (stage === 'second' && isRewound) {
    // Panes that the first stage has committed are gone from the topic, and are not written again.
    const lostToMs = emittedToMs + admission.graceMs + admission.disorderMs + admission.skewMs;
    for (const { name } of streams)
      completeAfterMs.set(name, Math.max(lostToMs, completeAfterMs.get(name) ?? lostToMs));
  }
  return {
    beginning: isRewound ? 'rewound' : isTruncated ? 'truncated' : isChanged ? 'reconfigured' : 'resumed',
    offset: Math.max(rereadFrom, firstOffset),
    watermarkMs: rereadFrom < progress.offset ? none : progress.watermarkMs,
    emittedToMs,
    producedTo: Math.min(progress.position, endOffset),
    awaitsFirst: isTruncated,
    completeAfterMs,
    handedAfterMs,
    beganAfterMs,
  };
}

/** Whether S binds the stream; undefined: the commit does not know it, it is new or was changed. */
function boundOf(stream: Stream, progress: Progress, admission: Admission, stage: Stage): boolean | undefined {
  const isBound = progress.streams.get(streamHash(stream, admission, stage));
  // The first of two stages keeps what one stage has committed.
  return stage === 'first' ? (isBound ?? progress.streams.get(streamHash(stream, admission))) : isBound;
}

/** Whether the commit was made under the same rules for this stream. */
export function isKnown(stream: Stream, progress: Progress, admission: Admission, stage: Stage): boolean {
  return boundOf(stream, progress, admission, stage) !== undefined;
}

/**
 * S of all streams, once the first record is there. What is lost of a panes topic ends at or before what its first record
 * says, but for a process that was thrown out and lags: by no more, it is taken, than a reading may lag.
 */
export function completeAfterFirst(first: StoredRecord, start: Start, admission: Admission, stage: Stage): number {
  const { graceMs, disorderMs, skewMs } = admission;
  const isBelowP = stage !== 'second' && start.producedTo > 0 && first.offset <= start.producedTo;
  const firstMs = stage === 'second' ? reachOf(first) : first.receivedMs;
  const knownMs = isBelowP ? start.emittedToMs : Math.max(start.emittedToMs, firstMs);
  return knownMs + graceMs + disorderMs + skewMs;
}

/**
 * What the spool finds in its folder when it opens. Called once, under the folder's lock, before anything is written.
 *
 * - Nothing is ever appended to a file of an earlier run: the spool begins a new segment after the end found here, and
 *   that segment's head says where this one ended. So the torn tail is cut by what is written next, not by a truncation.
 * - A torn tail is an unreadable place in the newest segment behind which nothing proves that it was durable once:
 *   no record of a later commit group, and no clean shutdown at a later offset. Everything from there on was never
 *   acknowledged. (One group cannot be told apart: the very last before a crash, if it was damaged afterwards.)
 * - A batch whose last frame did not make it is part of the torn tail from its first frame on: it counts as a whole.
 * - Any other unreadable place is damage. It is reported and stays; the records behind it stay readable.
 * - The end offset is never below any stored cursor nor below the end at the last clean shutdown, so that no offset is
 *   given twice and no reader passes over a new record. A cursor beyond the last record is damage too: a reader has seen
 *   what is gone.
 * - After a crash the last commit group may be in the kernel's cache only, even marked as written where its fdatasync had
 *   failed. Before anyone reads it, it is written again in place and synced.
 */
import { join } from 'node:path';
import { listCursors, readCursor } from './cursor.ts';
import { type Damage, damageAt } from './damage.ts';
import { type Files, readAll, systemCode, writeAll } from './files.ts';
import { frameGroupFirst, frameJoined, frameReceivedMs } from './frame.ts';
import { FrameWalk } from './frame-walk.ts';
import { DRAFT_NAME, type FoundSegment, findSegments, SEGMENT_HEAD_BYTES, segmentPath } from './segment.ts';

/** End offset of the last clean shutdown, kept as a cursor is. */
export const CLEAN_NAME = 'clean';

export interface KeptSegment {
  readonly first: number;
  readonly bytes: number;
}

/** Where a segment ended, as the head of the next one will say. */
export interface SegmentEnd {
  readonly first: number;
  readonly end: number;
  readonly bytes: number;
}

export interface Recovered {
  /** Segments with records, the oldest first. */
  readonly segments: readonly KeptSegment[];
  readonly previous: SegmentEnd | null;
  /** Without a previous segment: where the log began. */
  readonly origin: number;
  /** The next record's offset. */
  readonly endOffset: number;
  readonly lastReceivedMs: number;
  readonly damage: readonly Damage[];
  /** Bytes at the end of the newest segment that were never acknowledged. */
  readonly tornBytes: number;
  /** Segments without any durable record, to be removed once a new segment carries their offset. */
  readonly leftovers: readonly number[];
}

export async function recover(files: Files, folder: string): Promise<Recovered> {
  await files.remove(join(folder, DRAFT_NAME)).catch((error) => {
    if (systemCode(error) !== 'ENOENT') throw error;
  });
  const damage: Damage[] = [];
  const { live, voided } = await findSegments(files, folder, new Map());
  const cleanEnd = await storedOffset(files, join(folder, CLEAN_NAME), damage);
  let endOffset = cleanEnd;
  for (const path of await listCursors(files, folder)) {
    endOffset = Math.max(endOffset, await storedOffset(files, path, damage));
  }
  const sizes = await Promise.all(live.map(({ first }) => files.size(segmentPath(folder, first))));
  damage.push(...(await damageBetween(files, folder, live, sizes)));

  const newest = live.at(-1);
  if (!newest) {
    const nothing = { segments: [], previous: null, lastReceivedMs: 0, tornBytes: 0 };
    return { ...nothing, origin: endOffset, endOffset, damage, leftovers: voided };
  }
  const segments = live.map(({ first, bytes }, i) => ({ first, bytes: Math.min(sizes[i]!, bytes || sizes[i]!) }));
  const tail = await readNewest(files, folder, newest, cleanEnd, damage);
  if (endOffset > tail.end) {
    damage.push(damageAt(segmentPath(folder, newest.first), tail.bytes, tail.end, endOffset));
  }
  endOffset = Math.max(endOffset, tail.end);
  const found = {
    segments,
    endOffset,
    lastReceivedMs: Math.max(tail.lastReceivedMs, newest.head?.floorMs ?? 0),
    damage,
    tornBytes: tail.tornBytes,
  };
  segments.pop();
  if (tail.end > newest.first) {
    segments.push({ first: newest.first, bytes: tail.bytes });
    const previous = { first: newest.first, end: tail.end, bytes: tail.bytes };
    return { ...found, previous, origin: endOffset, leftovers: voided };
  }
  // Without a record the newest one is void as soon as another is begun: what it says of the one before it goes on.
  const leftovers = [...voided, newest.first];
  const before = segments.at(-1);
  if (!newest.head) {
    const previous = before ? { first: before.first, end: newest.first, bytes: before.bytes } : null;
    return { ...found, previous, origin: newest.first, leftovers };
  }
  const { previousFirst, previousEnd, previousBytes } = newest.head;
  const previous =
    previousFirst === newest.first ? null : { first: previousFirst, end: previousEnd, bytes: previousBytes };
  return { ...found, previous, origin: previousEnd, leftovers };
}

/** The offset in a cursor file, 0 without one. */
async function storedOffset(files: Files, path: string, damage: Damage[]): Promise<number> {
  const outcome = await readCursor(files, path);
  if (outcome.ok) return outcome.value?.newest.offset ?? 0;
  if (outcome.failure.code !== 'CHECKPOINT_INVALID') throw outcome.failure.cause;
  damage.push({ file: path, position: 0, fromOffset: 0, toOffset: 0, failure: outcome.failure });
  return 0;
}

/** What heads and sizes show: segments whose head is damaged, that are too short, or missing. */
async function damageBetween(
  files: Files,
  folder: string,
  live: readonly FoundSegment[],
  sizes: readonly number[],
): Promise<Damage[]> {
  const damage: Damage[] = [];
  for (const [i, { head, first, end, bytes }] of live.entries()) {
    if (!head) damage.push(damageAt(segmentPath(folder, first), 0, first, first));
    if (end !== null && bytes !== null && sizes[i]! < bytes) {
      const walk = await FrameWalk.open(files, folder, first);
      while ((await walk.step(end, () => undefined)) === 'more' && walk.offset < end);
      await walk.close();
      if (walk.offset < end) damage.push(damageAt(walk.path, sizes[i]!, walk.offset, end));
    }
    const before = live[i - 1];
    if (head && before && head.previousFirst !== first && head.previousFirst !== before.first) {
      damage.push(damageAt(segmentPath(folder, head.previousFirst), 0, head.previousFirst, head.previousEnd));
    }
  }
  return damage;
}

interface Tail {
  readonly end: number;
  readonly bytes: number;
  readonly lastReceivedMs: number;
  readonly tornBytes: number;
}

async function readNewest(
  files: Files,
  folder: string,
  { first }: FoundSegment,
  cleanEnd: number,
  damage: Damage[],
): Promise<Tail> {
  const walk = await FrameWalk.open(files, folder, first);
  try {
    let lastReceivedMs = 0;
    let groupFirst = first;
    let groupPosition = SEGMENT_HEAD_BYTES;
    /** Where the batch begins that the last frame belongs to and does not end; null between batches. */
    const unfinished: { batch: { readonly offset: number; readonly position: number } | null } = { batch: null };
    for (;;) {
      const result = await walk.step(Number.POSITIVE_INFINITY, (source, at, offset, position) => {
        lastReceivedMs = Math.max(lastReceivedMs, frameReceivedMs(source, at));
        const group = frameGroupFirst(source, at);
        if (group > groupFirst) {
          groupFirst = group;
          groupPosition = position;
        }
        unfinished.batch = frameJoined(source, at) ? (unfinished.batch ?? { offset, position }) : null;
      });
      if (result === 'more') continue;
      if (walk.offset >= cleanEnd && !(await walk.wasDurable())) break;
      const { position, offset } = walk;
      unfinished.batch = null;
      await walk.skipDamage(Number.POSITIVE_INFINITY);
      if (walk.offset === offset) walk.offset = cleanEnd;
      damage.push(damageAt(walk.path, position, offset, walk.offset));
    }
    const { offset: end, position: bytes } = unfinished.batch ?? walk;
    if (end !== cleanEnd) await writeAgain(files, walk.path, groupPosition, bytes);
    const tornBytes = walk.position - bytes + (await walk.tornBytes());
    return { end, bytes, lastReceivedMs, tornBytes };
  } finally {
    await walk.close();
  }
}

async function writeAgain(files: Files, path: string, from: number, to: number): Promise<void> {
  if (to <= from) return;
  const file = await files.open(path, 'update');
  try {
    const bytes = Buffer.alloc(to - from);
    await readAll(file, bytes, from);
    await writeAll(file, [bytes], from);
    await file.datasync();
  } finally {
    await file.close();
  }
}

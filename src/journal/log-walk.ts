/**
 * Reads the records of a spool's folder from an offset on, over all its segments, while they grow, end and vanish.
 * Writes nothing, locks nothing, and also works on the folder of another process.
 *
 * With `progress` (same process as the writer) only durable records are delivered. Without it, the valid frames that can
 * be seen; of the newest commit some may not be durable yet, and would be void after a failed commit.
 *
 * A place that cannot be read is known to be damage when later offsets are durable: it is reported and passed over.
 * Where that is not known it is the end for now.
 */

import type { StoredRecord } from '../log.ts';
import { type Damage, damageAt } from './damage.ts';
import { type Files, systemCode } from './files.ts';
import { decodeFrame } from './frame.ts';
import { FrameWalk } from './frame-walk.ts';
import type { Landmarks } from './landmarks.ts';
import type { Progress } from './progress.ts';
import { type FoundSegment, findSegments, type SegmentHead } from './segment.ts';

export interface LogWalkOptions {
  readonly files: Files;
  readonly folder: string;
  readonly progress: Progress | null;
  readonly fromOffset: number;
  readonly onDamage: (damage: Damage) => void;
  /** Heads of segments already read; may be shared between walks. */
  readonly heads: Map<number, SegmentHead>;
  /** May be shared between walks. */
  readonly landmarks?: Landmarks;
}

export interface WalkBatch {
  /** Of one chunk of one segment. Empty when only a hole or damage was passed. */
  readonly records: StoredRecord[];
  readonly nextOffset: number;
}

export class LogWalk {
  /** Everything below was delivered, or cannot be. */
  nextOffset: number;
  readonly #options: LogWalkOptions;
  #walk: FrameWalk | null = null;
  #segment: FoundSegment | null = null;
  /** Where it was last found that nothing shows damage, so that it is not searched again and again. */
  #notDamaged = { path: '', position: -1 };

  constructor(options: LogWalkOptions) {
    this.#options = options;
    this.nextOffset = options.fromOffset;
  }

  /** The next records with an offset below `stop`; null when there are none now. */
  async next(stop = Number.POSITIVE_INFINITY): Promise<WalkBatch | null> {
    const { progress, onDamage } = this.#options;
    for (;;) {
      // Before the question whether the segment goes on: see progress.ts.
      const durable = progress?.durableEnd() ?? Number.POSITIVE_INFINITY;
      const walk = this.#walk ?? (await this.#enter(null));
      if (walk === null) return null;
      await this.#learnEnd();
      const end = this.#segment?.end ?? Number.POSITIVE_INFINITY;
      const limit = Math.min(stop, durable, end);
      if (walk.offset >= limit) {
        if (walk.offset < end || !(await this.#enter(this.#segment!.first))) return this.#passed();
        continue;
      }
      const records: StoredRecord[] = [];
      const result = await walk.step(limit, (source, at, offset) => {
        if (offset >= this.nextOffset) records.push(decodeFrame(source, at));
      });
      this.#options.landmarks?.note(this.#segment!.first, walk.offset, walk.position);
      if (records.length > 0) {
        this.nextOffset = walk.offset;
        return { records, nextOffset: walk.offset };
      }
      if (result === 'more' || walk.offset >= limit) continue;
      const known = Math.min(durable, end);
      if (known === Number.POSITIVE_INFINITY && !(await this.#showsDamage(walk))) return this.#passed();
      const { path, position, offset } = walk;
      await walk.skipDamage(known);
      if (walk.offset > offset) onDamage(damageAt(path, position, offset, walk.offset));
    }
  }

  #passed(): WalkBatch | null {
    const offset = this.#walk?.offset ?? 0;
    if (offset <= this.nextOffset) return null;
    this.nextOffset = offset;
    return { records: [], nextOffset: offset };
  }

  /** Opens the segment that has `nextOffset`, or the first one behind `after`; null when there is none. */
  async #enter(after: number | null): Promise<FrameWalk | null> {
    const { files, folder, heads, onDamage } = this.#options;
    for (;;) {
      const { live } = await findSegments(files, folder, heads);
      const segment =
        after === null
          ? (live.findLast(({ first }) => first <= this.nextOffset) ?? live[0])
          : live.find(({ first }) => first > after);
      if (!segment) return null;
      try {
        const walk = await FrameWalk.open(files, folder, segment.first);
        const landmark = this.#options.landmarks?.before(segment.first, this.nextOffset);
        if (landmark) walk.jump(landmark);
        await this.#walk?.close();
        this.#walk = walk;
        this.#segment = segment;
        if (!segment.head) onDamage(damageAt(walk.path, 0, segment.first, segment.first));
        return walk;
      } catch (error) {
        // Deleted since it was listed.
        if (systemCode(error) !== 'ENOENT') throw error;
      }
    }
  }

  /** Looks whether the segment has been ended meanwhile. */
  async #learnEnd(): Promise<void> {
    const { files, folder, heads, progress } = this.#options;
    const segment = this.#segment!;
    if (segment.end !== null || progress?.activeFirst() === segment.first) return;
    const { live } = await findSegments(files, folder, heads);
    const following = live.find(({ first }) => first > segment.first);
    const found = live.find(({ first }) => first === segment.first);
    if (found) this.#segment = found;
    // Deleted already, with what it says of its end: nothing in it is needed any more.
    else if (following) this.#segment = { ...segment, end: this.#walk!.offset };
  }

  async #showsDamage(walk: FrameWalk): Promise<boolean> {
    const { path, position } = walk;
    if (this.#notDamaged.path === path && this.#notDamaged.position === position) return false;
    if (await walk.wasDurable()) return true;
    this.#notDamaged = { path, position };
    return false;
  }

  async close(): Promise<void> {
    await this.#walk?.close();
    this.#walk = null;
  }
}

/**
 * Places in the segments of one spool where walks have been: which offset stands at which byte. A later walk that starts in
 * the middle of a segment begins at the last one before it, instead of at the segment's head. A durable frame never moves,
 * so a landmark stays true as long as its segment exists; offsets are never used twice, so one of a deleted segment is
 * never looked for.
 */
export interface Landmark {
  readonly offset: number;
  readonly position: number;
}

const DISTANCE_BYTES = 256 * 2 ** 10;
/** About 10 GiB of segments. */
export const MAX_LANDMARKS = 40_000;

export class Landmarks {
  /** By the first offset of the segment, ascending. */
  readonly #bySegment = new Map<number, Landmark[]>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** A walk stands here: everything before it was read. */
  note(segmentFirst: number, offset: number, position: number): void {
    const known = this.#bySegment.get(segmentFirst);
    if (position < (known?.at(-1)?.position ?? 0) + DISTANCE_BYTES) return;
    if (this.#count >= MAX_LANDMARKS) {
      this.#bySegment.clear();
      this.#count = 0;
    }
    const landmark = { offset, position };
    const places = this.#bySegment.get(segmentFirst);
    if (places) places.push(landmark);
    else this.#bySegment.set(segmentFirst, [landmark]);
    this.#count++;
  }

  /** The last one at or before an offset. */
  before(segmentFirst: number, offset: number): Landmark | undefined {
    return this.#bySegment.get(segmentFirst)?.findLast((landmark) => landmark.offset <= offset);
  }
}

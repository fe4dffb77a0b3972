/**
 * Topics that were seen lately, found by their bytes: comparing a few bytes costs less than making the text again, looking
 * at each of its characters, and having every map behind here hash it again. Two places for each hash; the later ones win.
 */
import { topicNameProblem } from './topic.ts';

export interface TopicName {
  readonly text: string;
  /** Why nobody may publish to it; null: it is well-formed. */
  readonly problem: string | null;
}

/** About 150 bytes each, when they are filled. */
const PLACES = 65_536;
/** Longer topics are not kept, nor are those that are not ASCII. */
const KEPT_BYTES = 128;

export class TopicTable {
  readonly #maxLevels: number;
  readonly #places: (TopicName | undefined)[] = new Array(PLACES);

  constructor(maxLevels: number) {
    this.#maxLevels = maxLevels;
  }

  /** Bytes that are not UTF-8 become U+FFFD, which is a problem. */
  read(bytes: Buffer, from: number, to: number): TopicName {
    let hash = 0;
    let all = to - from > KEPT_BYTES ? 0x80 : 0;
    for (let i = from; i < to && all < 0x80; i++) {
      const byte = bytes[i]!;
      hash = (Math.imul(hash, 31) + byte) | 0;
      all |= byte;
    }
    if (all >= 0x80) return this.of(bytes.toString('utf8', from, to));
    const places = this.#places;
    const first = (hash ^ (hash >>> 15)) & (PLACES - 2);
    const newer = places[first];
    if (newer !== undefined && isSame(newer.text, bytes, from, to)) return newer;
    const older = places[first + 1];
    places[first + 1] = newer;
    const found = older !== undefined && isSame(older.text, bytes, from, to);
    const name = found ? older : this.of(bytes.toString('latin1', from, to));
    places[first] = name;
    return name;
  }

  /** Of a text, which is not kept. */
  of(text: string): TopicName {
    return { text, problem: topicNameProblem(text, this.#maxLevels) };
  }
}

function isSame(text: string, bytes: Buffer, from: number, to: number): boolean {
  const { length } = text;
  if (length !== to - from) return false;
  for (let i = 0; i < length; i++) if (text.charCodeAt(i) !== bytes[from + i]) return false;
  return true;
}

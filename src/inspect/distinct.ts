/**
 * The values whose different ones are counted (`distinct` of a stream), as they stand in the log: name and text of each. Text
 * is itself, anything else its JSON text; a long one is kept as its SHA-256, because the rollup reads it with every reading.
 * One that is absent or null is not counted. An integer that a double cannot hold is refused: it could be another one's.
 */
import { createHash } from 'node:crypto';
import type { Document } from './decode/document.ts';
import { type Origin, readField } from './field.ts';
import { Problem, show } from './refusal.ts';

const LONE_SURROGATE = /\p{Cs}/u;

export interface Counted {
  readonly name: string;
  readonly origin: Origin;
}

export function readDistinct(
  counted: readonly Counted[],
  document: Document,
  tags: Readonly<Record<string, string>>,
  maxBytes: number,
  wellFormed = false,
): string[] | Problem {
  const pairs: string[] = [];
  for (const { name, origin } of counted) {
    const value = 'tag' in origin ? tags[origin.tag] : readField(document, origin.field);
    if (value === undefined || value === null) continue;
    if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
      const place = 'tag' in origin ? '' : origin.field.pointer;
      const hint = 'is too large to be told apart from the next; send it as a string';
      return new Problem('number-out-of-range', place, `${place}: ${show(value)} ${hint}`);
    }
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    if (wellFormed && LONE_SURROGATE.test(text)) {
      const place = 'tag' in origin ? '' : origin.field.pointer;
      const reason = `${place}: ${show(value)} contains half of a surrogate pair, which Avro cannot keep`;
      return new Problem('not-utf8', place, reason);
    }
    const fits = text.length * 3 <= maxBytes || Buffer.byteLength(text) <= maxBytes;
    pairs.push(name, fits ? text : `sha256:${createHash('sha256').update(text).digest('hex')}`);
  }
  return pairs;
}

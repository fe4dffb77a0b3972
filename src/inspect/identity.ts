/**
 * What makes two messages the same event, where a stream names fields for it: the JSON array of their values. One that
 * is longer than the limit is kept as its SHA-256, because the rollup holds identities in memory; an array's text
 * starts with `[`, so the two forms cannot meet. Objects compare by their JSON text, key order included.
 */
import { createHash } from 'node:crypto';
import type { Document } from './decode/document.ts';
import { type Origin, readField } from './field.ts';
import { Problem, show } from './refusal.ts';

export function readIdentity(
  origins: readonly Origin[],
  document: Document,
  tags: Readonly<Record<string, string>>,
  maxBytes: number,
): string | Problem {
  const values: unknown[] = [];
  for (const origin of origins) {
    const value = 'tag' in origin ? tags[origin.tag] : readField(document, origin.field);
    const place = 'tag' in origin ? '' : origin.field.pointer;
    if (value === undefined || value === null) {
      const name = 'tag' in origin ? origin.tag : origin.field.pointer;
      return new Problem('identity-missing', place, `${name} is missing, but it is part of what identifies the event`);
    }
    if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
      const hint = 'is too large to be kept exactly, and identifies the event; send it as a string';
      return new Problem('number-out-of-range', place, `${place}: ${show(value)} ${hint}`);
    }
    values.push(value);
  }
  const text = JSON.stringify(values);
  if (text.length <= maxBytes && (text.length * 3 <= maxBytes || Buffer.byteLength(text) <= maxBytes)) return text;
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

/**
 * A payload field as the configuration names it: `temperature`, or `env.temperature`, where dots reach into objects.
 * (A payload key that itself contains a dot can therefore not be named.) Only a document's own keys are ever seen.
 */
import type { Document } from './decode/document.ts';

export interface Field {
  /** As configured; also the name of the tag or metric. */
  readonly name: string;
  readonly path: readonly string[];
  /** JSON pointer, for refusals. */
  readonly pointer: string;
  /** The one key of a path of length one that no object inherits: read without further checks. */
  readonly plainKey: string | null;
}

/** A tag by name, or a payload field. */
export type Origin = { readonly tag: string } | { readonly field: Field };

export function parseField(name: string): Field {
  const path = name.split('.');
  const pointer = path.map((key) => `/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
  const plainKey = path.length === 1 && !(name in Object.prototype) ? name : null;
  return { name, path, pointer, plainKey };
}

/** The field's value; undefined when any part of the path is absent. */
export function readField(document: Document, field: Field): unknown {
  if (field.plainKey !== null) return document[field.plainKey];
  let value: unknown = document;
  for (const key of field.path) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, key)) {
      return undefined;
    }
    value = (value as Document)[key];
  }
  return value;
}

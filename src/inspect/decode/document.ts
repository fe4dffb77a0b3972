/**
 * What every payload format is decoded to: one document, or the documents of a batch. A decoder is a pure function of
 * the bytes; it never throws, and what it passes on is bounded in size and depth, has finite numbers only, and no key
 * that could change an object's prototype.
 */
import type { Problem } from '../refusal.ts';

export type Document = Readonly<Record<string, unknown>>;

export interface Decoded {
  readonly documents: readonly Document[];
  /** Beside each document: its JSON text, kept with the reading. */
  readonly texts: readonly string[];
  /** True when the payload was a list, even of one: fields of refusals are then counted from the list. */
  readonly batch: boolean;
}

export interface DecodeLimits {
  readonly payloadBytes: number;
  /** Objects and arrays within each other. */
  readonly depth: number;
  /** Readings in one payload. */
  readonly batchReadings: number;
}

export type Decoder = (payload: Uint8Array, limits: DecodeLimits) => Decoded | Problem;

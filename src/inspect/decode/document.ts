/**
 * What every payload format is decoded to: one document, or the documents of a batch. A decoder is a pure function of
 * the bytes (Sparkplug B: and of the births before them); it never throws, and what it passes on is bounded in size and
 * depth, has finite numbers only, no integer that a double cannot hold, and no key that could change an object's prototype.
 *
 * What is kept with a reading is the document as JSON text. For JSON that is the payload as sent; for all other formats it
 * is what was understood of it, bytes as base64. A refused payload is kept byte for byte in every format.
 */
import type { Message } from '../../reading.ts';
import { Problem } from '../refusal.ts';

export type Document = Readonly<Record<string, unknown>>;

export interface Decoded {
  readonly documents: readonly Document[];
  /** Beside each document: its JSON text, kept with the reading. */
  readonly texts: readonly string[];
  /** True when the payload was a list, even of one: fields of refusals are then counted from the list. */
  readonly batch: boolean;
  /** Of formats written in JSON: the text in which the numbers stood. */
  readonly source?: string | undefined;
}

export interface DecodeLimits {
  readonly payloadBytes: number;
  /** Objects and arrays within each other. */
  readonly depth: number;
  /** What a compressed payload may unpack to. */
  readonly unpackedBytes: number;
  /** Readings in one payload. */
  readonly batchReadings: number;
}

/** `message` is for formats in which the topic or the received stamp says something about the payload. */
export type Decoder = (payload: Uint8Array, limits: DecodeLimits, message: Message) => Decoded | Problem;

/** The checks of a payload's size that all formats share. */
export function sizeProblem(payload: Uint8Array, limits: DecodeLimits): Problem | null {
  if (payload.length === 0) return new Problem('empty', '', 'the payload is empty');
  if (payload.length <= limits.payloadBytes) return null;
  return new Problem('too-large', '', `${payload.length} bytes is above the limit of ${limits.payloadBytes} bytes`);
}

/** Documents of a format that is not JSON: their text is written by JSON.stringify. */
export function decoded(
  documents: readonly Document[],
  batch: boolean,
  limits: DecodeLimits,
  source?: string,
): Decoded | Problem {
  if (documents.length === 0) return new Problem('empty', '', 'the batch holds no reading');
  if (documents.length > limits.batchReadings) {
    return new Problem('too-large', '', `${documents.length} readings is above the limit of ${limits.batchReadings}`);
  }
  return { documents, texts: documents.map((document) => JSON.stringify(document)), batch, source };
}

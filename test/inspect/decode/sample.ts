/** Decoding for the tests of formats: limits, a message to go with the payload, and answers or failures. */
import assert from 'node:assert/strict';
import type { Decoded, DecodeLimits, Decoder } from '../../../src/inspect/decode/document.ts';
import { Problem } from '../../../src/inspect/refusal.ts';
import type { Message } from '../../../src/reading.ts';

export const NOW = 1_700_000_000_000;
export const LIMITS: DecodeLimits = { payloadBytes: 65_536, depth: 8, batchReadings: 50, unpackedBytes: 131_072 };

type Payload = string | Uint8Array;

export function bytesOf(payload: Payload): Uint8Array {
  return typeof payload === 'string' ? Buffer.from(payload) : payload;
}

/** `61 62`, `6162`: bytes written as hexadecimal. */
export function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
}

export function decode(decoder: Decoder, payload: Payload, more: Partial<Message> = {}, limits = LIMITS) {
  const bytes = bytesOf(payload);
  return decoder(bytes, limits, { topic: 't', client: 'c', receivedMs: NOW, ...more, payload: bytes });
}

export function documentsOf(decoder: Decoder, payload: Payload, more: Partial<Message> = {}): readonly object[] {
  return decodedOf(decoder, payload, more).documents;
}

export function decodedOf(decoder: Decoder, payload: Payload, more: Partial<Message> = {}): Decoded {
  const decoded = decode(decoder, payload, more);
  if (decoded instanceof Problem) assert.fail(`${decoded.code}: ${decoded.reason}`);
  assert.deepEqual(
    decoded.texts.map((text) => JSON.parse(text)),
    JSON.parse(JSON.stringify(decoded.documents)),
    'the texts kept are the documents',
  );
  return decoded;
}

export function problemOf(decoder: Decoder, payload: Payload, more: Partial<Message> = {}, limits = LIMITS): Problem {
  const decoded = decode(decoder, payload, more, limits);
  if (decoded instanceof Problem) return decoded;
  return assert.fail(`accepted as ${JSON.stringify(decoded.documents).slice(0, 200)}`);
}

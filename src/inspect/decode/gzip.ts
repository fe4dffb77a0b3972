/**
 * Unpacks payloads for streams with `compression: gzip`, before the format's decoder sees them. What is packed says so
 * itself (1f 8b, with which no payload of any format here begins), so devices that pack and devices that do not can share
 * a stream. Unpacking stops at the limit: a bomb costs no more than that.
 */
import { gunzipSync } from 'node:zlib';
import { messageOf } from '../../errors.ts';
import { Problem, printable } from '../refusal.ts';
import type { Decoder } from './document.ts';

export function unpacking(decode: Decoder): Decoder {
  return (payload, limits, message) => {
    if (payload[0] !== 0x1f || payload[1] !== 0x8b || payload.length > limits.payloadBytes) {
      return decode(payload, limits, message);
    }
    const { unpackedBytes } = limits;
    let unpacked: Uint8Array;
    try {
      unpacked = gunzipSync(payload, { maxOutputLength: unpackedBytes });
    } catch (error) {
      if (error instanceof RangeError) {
        return new Problem('too-large', '', `it unpacks to more than the limit of ${unpackedBytes} bytes`);
      }
      return new Problem('malformed', '', `not gzip: ${printable(messageOf(error))}`);
    }
    return decode(unpacked, { ...limits, payloadBytes: unpackedBytes }, message);
  };
}

/**
 * MessagePack payloads: one map = one reading, an array of maps = a batch.
 *
 * The timestamp extension becomes epoch milliseconds (rounded down), bin becomes base64; other extensions are refused. The
 * library makes room for as many elements as a header claims, so the skeleton is looked at before it is called: every
 * element takes a byte at least, and a payload whose headers claim more than it has bytes is cut short or hostile.
 */
import { isUtf8 } from 'node:buffer';
import { Decoder, ExtensionCodec } from '@msgpack/msgpack';
import { messageOf } from '../../errors.ts';
import { Problem, printable } from '../refusal.ts';
import { type Decoded, type DecodeLimits, sizeProblem } from './document.ts';
import { forbidden, plainDocuments, tooDeep } from './plain.ts';

const library = new Decoder({ useBigInt64: true, extensionCodec: ExtensionCodec.defaultCodec });

export function decodeMsgpack(payload: Uint8Array, limits: DecodeLimits): Decoded | Problem {
  const problem = sizeProblem(payload, limits) ?? skeletonProblem(payload, limits);
  if (problem) return problem;
  try {
    return plainDocuments(library.decode(payload), limits);
  } catch (error) {
    const message = messageOf(error);
    if (message.includes('__proto__')) return forbidden('__proto__');
    return new Problem('malformed', '', `not MessagePack: ${printable(message)}`);
  }
}

/** Bytes of the fixed part that follows the first byte, for 0xc0 to 0xdf. */
const FIXED = [0, 0, 0, 0, 1, 2, 4, 2, 3, 5, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17, 1, 2, 4, 2, 4, 2, 4];

/** Goes over the headers without making anything of them. */
function skeletonProblem(payload: Uint8Array, limits: DecodeLimits): Problem | null {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  const end = bytes.length;
  /** Elements that are still to come, for each container that is open. */
  const open: number[] = [];
  let left = 1;
  let claimed = 1;
  let at = 0;
  for (;;) {
    while (left === 0) {
      if (open.length === 0) return at === end ? null : malformed('something stands behind the value');
      left = open.pop()!;
    }
    if (at >= end) return malformed('it is cut short');
    const first = bytes[at]!;
    let children = -1;
    let text = -1;
    let length = 1;
    if (first >= 0xc0 && first < 0xe0) {
      length += FIXED[first - 0xc0]!;
      if (at + length > end) return malformed('it is cut short');
      if (first === 0xdc || first === 0xde) children = bytes.readUInt16BE(at + 1);
      else if (first === 0xdd || first === 0xdf) children = bytes.readUInt32BE(at + 1);
      else if (first >= 0xd9 && first <= 0xdb) text = bytes.readUIntBE(at + 1, length - 1);
      else if (first >= 0xc4 && first <= 0xc6) length += bytes.readUIntBE(at + 1, length - 1);
      else if (first >= 0xc7 && first <= 0xc9) length += bytes.readUIntBE(at + 1, length - 2);
      if (first === 0xde || first === 0xdf) children *= 2;
    } else if (first >= 0x80 && first < 0xa0) {
      children = (first & 15) * (first < 0x90 ? 2 : 1);
    } else if (first >= 0xa0 && first < 0xc0) {
      text = first & 31;
    }
    if (text >= 0) {
      const from = at + length;
      length += text;
      if (at + length <= end && !isText(bytes, from, at + length)) {
        return new Problem('not-utf8', '', 'a text is not valid UTF-8');
      }
    }
    at += length;
    if (at > end) return malformed('it is cut short');
    left--;
    if (children < 0) continue;
    claimed += children;
    if (claimed > end) return malformed('it is cut short: its headers claim more elements than it has bytes');
    if (open.length >= limits.depth) return tooDeep(limits);
    open.push(left);
    left = children;
  }
}

function isText(bytes: Buffer, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i]! > 0x7f) return isUtf8(bytes.subarray(from, to));
  return true;
}

function malformed(what: string): Problem {
  return new Problem('malformed', '', `not MessagePack: ${what}`);
}

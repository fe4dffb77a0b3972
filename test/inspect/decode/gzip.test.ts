import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { unpacking } from '../../../src/inspect/decode/gzip.ts';
import { decodeJson } from '../../../src/inspect/decode/json.ts';
import { documentsOf, LIMITS, problemOf } from './sample.ts';

const decoder = unpacking(decodeJson);
const packed = (text: string) => gzipSync(Buffer.from(text));

describe('Unpacking gzip', () => {
  it('reads what is packed, and what is not', () => {
    assert.deepEqual(documentsOf(decoder, packed('{"a":1}')), [{ a: 1 }]);
    assert.deepEqual(documentsOf(decoder, '{"a":1}'), [{ a: 1 }]);
    assert.deepEqual(documentsOf(decoder, packed('[{"a":1},{"a":2}]')), [{ a: 1 }, { a: 2 }]);
  });

  it('lets the unpacked text be larger than a packet, up to its own limit', () => {
    const padding = ' '.repeat(LIMITS.unpackedBytes - 7);
    assert.deepEqual(documentsOf(decoder, packed(`{"a":1}${padding}`)), [{ a: 1 }]);
    const problem = problemOf(decoder, packed(`{"a":1}${padding} `));
    assert.equal(problem.code, 'too-large');
    assert.match(problem.reason, /unpacks to more than the limit of 131072 bytes/);
  });

  it('stops at the limit when a bomb would fill the memory', () => {
    const bomb = gzipSync(Buffer.alloc(60 * 2 ** 20));
    assert.ok(bomb.length < LIMITS.payloadBytes);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 20; i++) assert.equal(problemOf(decoder, bomb).code, 'too-large');
    assert.ok(process.memoryUsage().arrayBuffers - before < 60 * 2 ** 20);
  });

  it('refuses what is cut short, damaged, or packed twice', () => {
    const whole = packed('{"a":1}');
    assert.equal(problemOf(decoder, whole.subarray(0, 15)).code, 'malformed');
    assert.equal(problemOf(decoder, Buffer.from(whole).fill(0, 10, 14)).code, 'malformed');
    assert.equal(problemOf(decoder, gzipSync(whole)).code, 'not-utf8');
    assert.equal(problemOf(decoder, whole.subarray(0, 2)).code, 'malformed');
  });
});

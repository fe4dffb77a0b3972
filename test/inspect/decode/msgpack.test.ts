/** Vectors from the types of the MessagePack specification, each as the value of a map's key `v`. */
import assert from 'node:assert/strict';
import { encode } from '@msgpack/msgpack';
import { decodeMsgpack } from '../../../src/inspect/decode/msgpack.ts';
import { documentsOf, hex, LIMITS, problemOf } from './sample.ts';

const inMap = (item: string) => hex(`81a176${item}`);

describe('Decoding MessagePack', () => {
  const vectors: [item: string, value: unknown][] = [
    ['c0', null],
    ['c2', false],
    ['c3', true],
    ['00', 0],
    ['7f', 127],
    ['e0', -32],
    ['ff', -1],
    ['cc80', 128],
    ['cd0100', 256],
    ['ce00010000', 65_536],
    ['cf0000000000000001', 1],
    ['cf001fffffffffffff', Number.MAX_SAFE_INTEGER],
    ['d080', -128],
    ['d18000', -32_768],
    ['d280000000', -2_147_483_648],
    ['d3ffffffffffffffff', -1],
    ['d3ffe0000000000001', Number.MIN_SAFE_INTEGER],
    ['ca3fc00000', 1.5],
    ['cb3ff199999999999a', 1.1],
    ['a0', ''],
    ['a449455446', 'IETF'],
    ['d904f0908591', '𐅑'],
    ['da0002c3bc', 'ü'],
    ['db0000000161', 'a'],
    ['c403010203', 'AQID'],
    ['c50003010203', 'AQID'],
    ['c600000003010203', 'AQID'],
    ['9301a16102', [1, 'a', 2]],
    ['dc000101', [1]],
    ['dd0000000101', [1]],
    ['81a16101', { a: 1 }],
    ['de0001a16101', { a: 1 }],
    ['df00000001a16101', { a: 1 }],
    ['8101a162', { 1: 'b' }],
    ['d6ff5a4af6a5', 1_514_862_245_000],
    ['d7ffa1dcd7c85a4af6a5', 1_514_862_245_678],
    ['c70cff075bcd15000000005a4af6a5', 1_514_862_245_123],
  ];
  for (const [item, value] of vectors) {
    it(`reads ${item} as ${JSON.stringify(value)}`, () => {
      assert.deepEqual(documentsOf(decodeMsgpack, inMap(item)), [{ v: value }]);
    });
  }

  it('takes an array of maps as a batch', () => {
    assert.deepEqual(documentsOf(decodeMsgpack, encode([{ a: 1 }, { a: 2.5 }])), [{ a: 1 }, { a: 2.5 }]);
  });

  const bomb = Buffer.concat(Array.from({ length: 8 }, () => hex('dd0000ffff')));
  const refused: [what: string, payload: Uint8Array, code: string, field?: string][] = [
    ['nothing', hex(''), 'empty'],
    ['an empty batch', hex('90'), 'empty'],
    ['2^53', inMap('cf0020000000000000'), 'number-out-of-range', '/v'],
    ['2^53 + 1', inMap('cf0020000000000001'), 'number-out-of-range', '/v'],
    ['-2^63', inMap('d38000000000000000'), 'number-out-of-range', '/v'],
    ['NaN', inMap('cb7ff8000000000000'), 'number-invalid', '/v'],
    ['Infinity', inMap('ca7f800000'), 'number-invalid', '/v'],
    ['an extension', inMap('d40501'), 'malformed', '/v'],
    ['the type that is never used', inMap('c1'), 'malformed'],
    ['a key that is a list', hex('819001'), 'malformed'],
    ['__proto__', hex('81a95f5f70726f746f5f5f80'), 'forbidden-key'],
    ['__proto__ further in', hex('81a16181a95f5f70726f746f5f5f80'), 'forbidden-key'],
    ['constructor.prototype', encode({ constructor: { prototype: 1 } }), 'forbidden-key', '/constructor'],
    ['text that is not UTF-8', hex('81a161a2c328'), 'not-utf8'],
    ['a key that is not UTF-8', hex('81a2c32801'), 'not-utf8'],
    ['a number alone', hex('01'), 'malformed'],
    ['bytes behind the map', hex('8000'), 'malformed'],
    ['a map cut short', hex('82a16101'), 'malformed'],
    ['a text cut short', hex('81a161aa61'), 'malformed'],
    ['a header cut short', hex('81a161cf00'), 'malformed'],
    ['a claim of 2^32 elements', inMap('ddffffffff'), 'malformed'],
    ['a claim of 2^32 pairs', inMap('dfffffffff'), 'malformed'],
    ['lists in lists that claim 65,535 elements each', bomb, 'malformed'],
    ['nesting one deeper than the limit', inMap(`${'91'.repeat(LIMITS.depth)}01`), 'too-deep'],
    ['nesting 60,000 deep', inMap('91'.repeat(60_000)), 'too-deep'],
    ['too many bytes', Buffer.alloc(LIMITS.payloadBytes + 1), 'too-large'],
  ];
  for (const [what, payload, code, field] of refused) {
    it(`refuses ${what}`, () => {
      const problem = problemOf(decodeMsgpack, payload);
      assert.equal(problem.code, code, problem.reason);
      if (field !== undefined) assert.equal(problem.field, field);
    });
  }
});

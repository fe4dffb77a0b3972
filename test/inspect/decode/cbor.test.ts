/** Vectors of RFC 8949, appendix A, each as the value of a map's key `v`. */
import assert from 'node:assert/strict';
import { encode } from 'cborg';
import { decodeCbor } from '../../../src/inspect/decode/cbor.ts';
import { documentsOf, hex, LIMITS, problemOf } from './sample.ts';

const inMap = (item: string) => hex(`a16176${item}`);

describe('Decoding CBOR', () => {
  const vectors: [item: string, value: unknown][] = [
    ['00', 0],
    ['17', 23],
    ['1818', 24],
    ['1903e8', 1000],
    ['1a000f4240', 1_000_000],
    ['1b000000e8d4a51000', 1_000_000_000_000],
    ['1b001fffffffffffff', Number.MAX_SAFE_INTEGER],
    ['20', -1],
    ['3903e7', -1000],
    ['3b001ffffffffffffe', Number.MIN_SAFE_INTEGER],
    ['c2430f4240', 1_000_000],
    ['c3430f4240', -1_000_001],
    ['c48221196ab3', 273.15],
    ['f90000', 0],
    ['f93c00', 1],
    ['fb3ff199999999999a', 1.1],
    ['f93e00', 1.5],
    ['f97bff', 65504],
    ['fa47c35000', 100_000],
    ['fa7f7fffff', 3.4028234663852886e38],
    ['fb7e37e43c8800759c', 1e300],
    ['f90001', 2 ** -24],
    ['f90400', 0.00006103515625],
    ['f9c400', -4],
    ['fbc010666666666666', -4.1],
    ['f4', false],
    ['f5', true],
    ['f6', null],
    ['c074323031332d30332d32315432303a30343a30305a', '2013-03-21T20:04:00Z'],
    ['c11a514b67b0', 1363896240],
    ['c1fb41d452d9ec200000', 1363896240.5],
    ['d74401020304', 'AQIDBA=='],
    ['d82076687474703a2f2f7777772e6578616d706c652e636f6d', 'http://www.example.com'],
    ['4401020304', 'AQIDBA=='],
    ['60', ''],
    ['6449455446', 'IETF'],
    ['62225c', '"\\'],
    ['62c3bc', 'ü'],
    ['64f0908591', '𐅑'],
    ['80', []],
    ['8301820203820405', [1, [2, 3], [4, 5]]],
    ['a201020304', { 1: 2, 3: 4 }],
    ['9f018202039f0405ffff', [1, [2, 3], [4, 5]]],
    ['bf61610161629f0203ffff', { a: 1, b: [2, 3] }],
  ];
  for (const [item, value] of vectors) {
    it(`reads ${item} as ${JSON.stringify(value)}`, () => {
      assert.deepEqual(documentsOf(decodeCbor, inMap(item)), [{ v: value }]);
    });
  }

  it('leaves out what is undefined, and says that it is CBOR where a tag does', () => {
    assert.deepEqual(documentsOf(decodeCbor, hex('d9d9f7a26161f7616201')), [{ b: 1 }]);
  });

  it('takes an array of maps as a batch', () => {
    assert.deepEqual(documentsOf(decodeCbor, encode([{ a: 1 }, { a: 2.5 }])), [{ a: 1 }, { a: 2.5 }]);
    const { code, field } = problemOf(decodeCbor, encode([{ a: 1 }, 7]));
    assert.deepEqual([code, field], ['malformed', '/1']);
  });

  const refused: [what: string, payload: Uint8Array, code: string, field?: string][] = [
    ['nothing', hex(''), 'empty'],
    ['an empty batch', hex('80'), 'empty'],
    ['the integer 2^53', inMap('1b0020000000000000'), 'number-out-of-range', '/v'],
    ['the integer 2^53 + 1', inMap('1b0020000000000001'), 'number-out-of-range', '/v'],
    ['2^64 - 1', inMap('1bffffffffffffffff'), 'number-out-of-range', '/v'],
    ['-2^64', inMap('3bffffffffffffffff'), 'number-out-of-range', '/v'],
    ['a bignum', inMap('c249010000000000000000'), 'number-out-of-range', '/v'],
    ['a bignum of a thousand bytes', inMap(`c25903e8${'ff'.repeat(1000)}`), 'number-out-of-range'],
    ['Infinity', inMap('f97c00'), 'number-invalid', '/v'],
    ['-Infinity', inMap('fbfff0000000000000'), 'number-invalid', '/v'],
    ['NaN', inMap('fa7fc00000'), 'number-invalid', '/v'],
    ['a decimal fraction that overflows', inMap('c4821903e801'), 'number-invalid', '/v'],
    ['an unknown tag', inMap('d903e801'), 'malformed'],
    ['a bignum that is no bytes', inMap('c201'), 'malformed'],
    ['a key that is there twice', hex('a2616101616102'), 'malformed'],
    ['an integer key beside its text', hex('a20101613102'), 'malformed', '/1'],
    ['a key that is a map', hex('a1a001'), 'malformed'],
    ['__proto__', encode(JSON.parse('{"a":{"__proto__":{"x":1}}}')), 'forbidden-key', '/a/__proto__'],
    ['constructor.prototype', encode({ constructor: { prototype: 1 } }), 'forbidden-key', '/constructor'],
    ['text that is not UTF-8', hex('a1616162c328'), 'not-utf8', '/a'],
    ['a number alone', hex('01'), 'malformed'],
    ['bytes behind the map', hex('a000'), 'malformed'],
    ['a map cut short', hex('a26161'), 'malformed'],
    ['a text cut short', hex('a161616a61'), 'malformed'],
    ['a claim of 2^32 elements', inMap('9affffffff01'), 'malformed'],
    ['a claim of 2^63 bytes', inMap('5b8000000000000000'), 'malformed'],
    ['a break where none may be', inMap('ff'), 'malformed'],
    ['an undefined simple value', inMap('f0'), 'malformed'],
    ['nesting one deeper than the limit', inMap(`${'81'.repeat(LIMITS.depth)}01`), 'too-deep'],
    ['nesting 60,000 deep', inMap('81'.repeat(60_000)), 'too-deep'],
    ['tags 60,000 deep', inMap('c1'.repeat(60_000)), 'too-deep'],
    ['a batch above the limit', encode(Array.from({ length: LIMITS.batchReadings + 1 }, () => ({}))), 'too-large'],
    ['too many bytes', Buffer.alloc(LIMITS.payloadBytes + 1), 'too-large'],
  ];
  for (const [what, payload, code, field] of refused) {
    it(`refuses ${what}`, () => {
      const problem = problemOf(decodeCbor, payload);
      assert.equal(problem.code, code, problem.reason);
      if (field !== undefined) assert.equal(problem.field, field);
    });
  }
});

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { decodeJson } from '../../../src/inspect/decode/json.ts';
import { Problem } from '../../../src/inspect/refusal.ts';

const LIMITS = { payloadBytes: 4_096, depth: 8, batchReadings: 5, unpackedBytes: 8_192 };
const decode = (payload: string | Uint8Array, limits = LIMITS) =>
  decodeJson(typeof payload === 'string' ? Buffer.from(payload) : payload, limits);

function problemOf(payload: string | Uint8Array, limits = LIMITS): Problem {
  const decoded = decode(payload, limits);
  assert.ok(decoded instanceof Problem, `accepted ${String(payload).slice(0, 80)}`);
  return decoded;
}

function decodedOf(payload: string | Uint8Array) {
  const decoded = decode(payload);
  if (decoded instanceof Problem) assert.fail(decoded.reason);
  return decoded;
}

const nested = (levels: number) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`;

describe('Decoding JSON', () => {
  it('keeps the text of an object as it was sent', () => {
    const text = ' {"b": 1.50, "a":"ü😀",\n"b":2e0}\t';
    const { documents, texts, batch } = decodedOf(text);
    assert.deepEqual(documents, [{ b: 2, a: 'ü😀' }]);
    assert.deepEqual(texts, [text]);
    assert.equal(batch, false);
  });

  it('reads bytes that are not a Buffer', () => {
    const bytes = new TextEncoder().encode('--{"a":"é"}--').subarray(2, 12);
    assert.deepEqual(decodedOf(bytes).documents, [{ a: 'é' }]);
  });

  it('takes an array of objects as a batch', () => {
    const { documents, texts, batch } = decodedOf('[{"a":1.0}, {"a":2}]');
    assert.deepEqual(documents, [{ a: 1 }, { a: 2 }]);
    assert.deepEqual(texts, ['{"a":1}', '{"a":2}']);
    assert.equal(batch, true);
  });

  const refused: [what: string, payload: string | Uint8Array, code: string, field?: string][] = [
    ['nothing', '', 'empty'],
    ['blanks', ' \n\t', 'empty'],
    ['an empty batch', '[]', 'empty'],
    ['a byte that is not UTF-8', Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d), 'not-utf8'],
    ['a surrogate in UTF-8', Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22), 'not-utf8'],
    ['an overlong form', Uint8Array.of(0x22, 0xc0, 0xaf, 0x22), 'not-utf8'],
    ['a sequence cut short', Buffer.from('{"a":"é"}').subarray(0, 7), 'not-utf8'],
    ['a byte order mark', '\ufeff{"a":1}', 'malformed'],
    ['NaN', '{"a":NaN}', 'malformed'],
    ['Infinity', '{"a":-Infinity}', 'malformed'],
    ['single quotes', "{'a':1}", 'malformed'],
    ['a trailing comma', '{"a":1,}', 'malformed'],
    ['a comment', '{"a":1}//x', 'malformed'],
    ['two values', '{"a":1}{"a":2}', 'malformed'],
    ['text cut short', '{"a":1', 'malformed'],
    ['a raw control character in a string', '{"a":"\n"}', 'malformed'],
    ['U+0000', '\0', 'malformed'],
    ['a number', '5', 'malformed'],
    ['a string', '"a"', 'malformed'],
    ['null', 'null', 'malformed'],
    ['a number in a batch', '[{"a":1},5]', 'malformed', '/1'],
    ['an array in a batch', '[[]]', 'malformed', '/0'],
    ['a batch above the limit', '[{},{},{},{},{},{}]', 'too-large'],
    ['1e999', '{"a":{"b":[1,1e999]}}', 'number-out-of-range', '/a/b/1'],
    ['-1e999', '{"a~/":-1e999}', 'number-out-of-range', '/a~0~1'],
    ['__proto__', '{"a":[{"__proto__":{"x":1}}]}', 'forbidden-key', '/a/0/__proto__'],
    ['__proto__ by escapes', '{"\\u005f_proto\\u005f_":1}', 'forbidden-key', '/__proto__'],
    ['constructor.prototype', '{"constructor":{"prototype":{"x":1}}}', 'forbidden-key', '/constructor'],
    ['an object too deep', nested(9), 'too-deep'],
    ['an array too deep', `{"a":${'['.repeat(8)}${']'.repeat(8)}}`, 'too-deep'],
  ];
  for (const [what, payload, code, field] of refused) {
    it(`refuses ${what} as ${code}`, () => {
      const problem = problemOf(payload);
      assert.equal(problem.code, code);
      if (field !== undefined) assert.equal(problem.field, field);
    });
  }

  it('accepts what only looks forbidden', () => {
    decodedOf('{"constructor":"acme","prototype":1,"_proto_":2,"x":"__proto__"}');
    decodedOf('{"constructor":{"name":"acme"}}');
    decodedOf(nested(8));
  });

  it('checks the size before anything else', () => {
    const limit = { ...LIMITS, payloadBytes: 10 };
    assert.equal(problemOf('{"a":12345}', limit).code, 'too-large');
    assert.ok(!(decode('{"a":1234}', limit) instanceof Problem));
  });

  it('survives the deepest nesting that a packet can hold', () => {
    const limits = { ...LIMITS, payloadBytes: 2 ** 20 };
    assert.equal(problemOf(nested(150_000), limits).code, 'too-deep');
    assert.equal(problemOf('['.repeat(1_000_000), limits).code, 'malformed');
  });

  it('pollutes nothing', () => {
    problemOf('{"__proto__":{"polluted":1}}');
    problemOf('{"constructor":{"prototype":{"polluted":1}}}');
    assert.equal('polluted' in {}, false);
  });

  it('understands every object as JSON.parse does, and keeps its text', () => {
    const json = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 4 }), { noNullPrototype: true });
    fc.assert(
      fc.property(json, fc.constantFrom(undefined, 2), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        const decoded = decode(text);
        if (decoded instanceof Problem) {
          assert.match(text, /__proto__|constructor/);
          return;
        }
        assert.deepEqual(decoded.documents, [JSON.parse(text)]);
        assert.deepEqual(decoded.texts, [text]);
      }),
    );
  });

  it('never throws, and says so in printable text, whatever the bytes', () => {
    const pieces = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      '"',
      ':',
      ',',
      '\\u0000',
      '1e999',
      '-0',
      'NaN',
      '\u202e',
      '\x1b[',
      'é',
    );
    const text = fc.array(pieces, { maxLength: 40 }).map((parts) => new Uint8Array(Buffer.from(parts.join(''))));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), text), (bytes) => {
        const decoded = decode(bytes);
        if (decoded instanceof Problem) assert.doesNotMatch(decoded.reason, /\p{C}/u);
      }),
      { numRuns: 2_000 },
    );
  });
});

/**
 * JSON Schema through our validator, keyword by keyword: what matches and what does not, by the clause of the standard (Core
 * and Validation, 2020-12; draft-07 where it has the keyword too). The vectors are our own, at the borders of each rule. The
 * first test holds the table against the vocabularies: no keyword that asserts something is left out.
 */
import assert from 'node:assert/strict';
import { compileSchema } from '../../src/inspect/validate.ts';
import { resultOf } from './sample.ts';

const DRAFTS = {
  '2020-12': 'https://json-schema.org/draft/2020-12/schema',
  '07': 'http://json-schema.org/draft-07/schema#',
} as const;
type Draft = keyof typeof DRAFTS;
const BOTH: readonly Draft[] = ['2020-12', '07'];
const NEW: readonly Draft[] = ['2020-12'];

interface Vector {
  readonly keyword: string;
  /** Of Validation (V) or Core (C), 2020-12. */
  readonly clause: string;
  readonly drafts: readonly Draft[];
  /** JSON, because `then` is a word that JavaScript waits for. */
  readonly schema: string;
  readonly valid: readonly unknown[];
  readonly invalid: readonly unknown[];
}

function vector(
  keyword: string,
  clause: string,
  drafts: readonly Draft[],
  schema: string,
  valid: unknown[],
  invalid: unknown[],
): Vector {
  return { keyword, clause, drafts, schema, valid, invalid };
}

const VECTORS: readonly Vector[] = [
  vector('type', 'V 6.1.1', BOTH, '{"type":"integer"}', [0, -3, 1.0, 1e3], [1.5, '1', null, true, [], {}]),
  vector('type', 'V 6.1.1', BOTH, '{"type":["string","null"]}', ['', null], [0, false, [], {}]),
  vector('type', 'V 6.1.1', BOTH, '{"type":"object"}', [{}], [[], null, 'x']),
  vector(
    'enum',
    'V 6.1.2',
    BOTH,
    '{"enum":[1,"a",null,{"b":[1]}]}',
    [1, 1.0, 'a', null, { b: [1] }],
    ['1', {}, { b: [] }, false, 0],
  ),
  vector(
    'const',
    'V 6.1.3',
    BOTH,
    '{"const":{"a":[1,2]}}',
    [{ a: [1, 2] }],
    [{ a: [2, 1] }, { a: [1, 2], b: 1 }, null],
  ),
  vector('const', 'V 6.1.3', BOTH, '{"const":0}', [0, -0], [false, '', null, 1]),
  vector('multipleOf', 'V 6.2.1', BOTH, '{"multipleOf":2.5}', [0, 5, -7.5, 'x'], [1, 2.4]),
  vector('maximum', 'V 6.2.2', BOTH, '{"maximum":3}', [3, -1e9, 'x', null], [3.0001, 4]),
  vector('exclusiveMaximum', 'V 6.2.3', BOTH, '{"exclusiveMaximum":3}', [2.999, 'x'], [3, 3.1]),
  vector('minimum', 'V 6.2.4', BOTH, '{"minimum":-2}', [-2, 0, 'x'], [-2.1]),
  vector('exclusiveMinimum', 'V 6.2.5', BOTH, '{"exclusiveMinimum":-2}', [-1.99], [-2, -3]),
  vector('maxLength', 'V 6.3.1', BOTH, '{"maxLength":2}', ['', 'ab', '🌡🌡', 12345], ['abc', '🌡🌡🌡']),
  vector('minLength', 'V 6.3.2', BOTH, '{"minLength":2}', ['ab', '🌡🌡', 1], ['', 'a', '🌡']),
  vector('pattern', 'V 6.3.3', BOTH, '{"pattern":"b+"}', ['abbc', 'b', 7], ['', 'ac', 'B']),
  vector('pattern', 'V 6.3.3', BOTH, '{"pattern":"^\\\\p{Lu}$"}', ['Ä'], ['ä']),
  vector('maxItems', 'V 6.4.1', BOTH, '{"maxItems":2}', [[], [1, 2], {}], [[1, 2, 3]]),
  vector('minItems', 'V 6.4.2', BOTH, '{"minItems":1}', [[1], 'x'], [[]]),
  vector(
    'uniqueItems',
    'V 6.4.3',
    BOTH,
    '{"uniqueItems":true}',
    [[1, 2], [1, true], [0, false], [{ a: 1 }, { a: 2 }], []],
    [
      [1, 1.0],
      [
        { a: 1, b: 2 },
        { b: 2, a: 1 },
      ],
      [[1], [1]],
    ],
  ),
  vector('contains', 'C 10.3.1.3', BOTH, '{"contains":{"const":5}}', [[5], [1, 5], 'x'], [[], [4]]),
  vector('maxContains', 'V 6.4.4', NEW, '{"contains":{"const":5},"maxContains":1}', [[5, 4], [5]], [[5, 5], []]),
  vector('minContains', 'V 6.4.5', NEW, '{"contains":{"const":5},"minContains":2}', [[5, 5]], [[5], []]),
  vector(
    'minContains',
    'V 6.4.5',
    NEW,
    '{"contains":{"const":5},"minContains":0,"maxContains":1}',
    [[], [4], [5]],
    [[5, 5]],
  ),
  vector('maxProperties', 'V 6.5.1', BOTH, '{"maxProperties":1}', [{}, { a: 1 }, []], [{ a: 1, b: 2 }]),
  vector('minProperties', 'V 6.5.2', BOTH, '{"minProperties":1}', [{ a: 1 }, 'x'], [{}]),
  vector('required', 'V 6.5.3', BOTH, '{"required":["a","b\\"c"]}', [{ a: null, 'b"c': 0 }, [], 3], [{ a: 1 }, {}]),
  vector(
    'required',
    'V 6.5.3',
    BOTH,
    '{"required":["toString","constructor"]}',
    [{ toString: 1, constructor: 1 }],
    [{}],
  ),
  vector(
    'dependentRequired',
    'V 6.5.4',
    NEW,
    '{"dependentRequired":{"a":["b"]}}',
    [{}, { b: 1 }, { a: 1, b: 1 }],
    [{ a: 1 }],
  ),
  vector(
    'properties',
    'C 10.3.2.1',
    BOTH,
    '{"properties":{"a":{"type":"number"},"b":false}}',
    [{}, { a: 1 }, { c: 'x' }, []],
    [{ a: 'x' }, { b: 1 }],
  ),
  vector(
    'patternProperties',
    'C 10.3.2.2',
    BOTH,
    '{"patternProperties":{"^t":{"type":"number"}}}',
    [{ t1: 1, x: 'y' }],
    [{ t1: 'x' }, { t: 1, t2: null }],
  ),
  vector(
    'additionalProperties',
    'C 10.3.2.3',
    BOTH,
    '{"properties":{"a":{}},"patternProperties":{"^t":{}},"additionalProperties":{"type":"string"}}',
    [{ a: 1, t2: 2, z: 'x' }],
    [{ z: 1 }],
  ),
  vector('propertyNames', 'C 10.3.2.4', BOTH, '{"propertyNames":{"maxLength":2}}', [{}, { ab: 1 }], [{ abc: 1 }]),
  vector(
    'prefixItems',
    'C 10.3.1.1',
    NEW,
    '{"prefixItems":[{"type":"number"},{"type":"string"}]}',
    [[], [1], [1, 'x', null]],
    [['x'], [1, 2]],
  ),
  vector('items', 'C 10.3.1.2', BOTH, '{"items":{"type":"number"}}', [[], [1, 2], 'x'], [[1, 'x']]),
  vector('items', 'C 10.3.1.2', NEW, '{"prefixItems":[{}],"items":false}', [[], ['x']], [['x', 1]]),
  vector(
    'items',
    'draft-07 6.4.1',
    ['07'],
    '{"items":[{"type":"number"}],"additionalItems":{"type":"string"}}',
    [[1, 'x'], []],
    [['x'], [1, 2]],
  ),
  vector(
    'unevaluatedItems',
    'C 11.2',
    NEW,
    '{"allOf":[{"prefixItems":[{"type":"number"}]}],"unevaluatedItems":false}',
    [[], [1]],
    [[1, 2]],
  ),
  vector(
    'unevaluatedProperties',
    'C 11.3',
    NEW,
    '{"anyOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"b":{}},"required":["b"]}],"unevaluatedProperties":false}',
    [{ a: 1 }, { b: 2 }, { a: 1, b: 2 }],
    [
      { a: 2, b: 1 },
      { a: 1, c: 1 },
    ],
  ),
  vector('allOf', 'C 10.2.1.1', BOTH, '{"allOf":[{"minimum":1},{"maximum":2}]}', [1, 2], [0, 3]),
  vector('anyOf', 'C 10.2.1.2', BOTH, '{"anyOf":[{"type":"string"},{"minimum":2}]}', ['x', 2, null], [1]),
  vector('oneOf', 'C 10.2.1.3', BOTH, '{"oneOf":[{"minimum":2},{"maximum":5}]}', [1, 6], [3, 'x']),
  vector('not', 'C 10.2.1.4', BOTH, '{"not":{"type":"null"}}', [0, ''], [null]),
  vector(
    'if',
    'C 10.2.2',
    BOTH,
    '{"if":{"required":["a"]},"then":{"required":["b"]},"else":{"required":["c"]}}',
    [{ a: 1, b: 1 }, { c: 1 }],
    [{ a: 1 }, {}, { a: 1, c: 1 }],
  ),
  vector(
    'dependentSchemas',
    'C 10.2.2.4',
    NEW,
    '{"dependentSchemas":{"a":{"required":["b"]}}}',
    [{}, { a: 1, b: 2 }],
    [{ a: 1 }],
  ),
  vector(
    'dependencies',
    'draft-07 6.5.7',
    ['07'],
    '{"dependencies":{"a":["b"],"c":{"maxProperties":1}}}',
    [{ a: 1, b: 1 }, { c: 1 }],
    [{ a: 1 }, { c: 1, d: 1 }],
  ),
  vector(
    '$ref',
    'C 8.2.3.1',
    NEW,
    '{"$defs":{"p":{"type":"number"}},"properties":{"a":{"$ref":"#/$defs/p","minimum":1}}}',
    [{ a: 1 }],
    [{ a: 0 }, { a: 'x' }],
  ),
  vector(
    '$ref',
    'draft-07 8.3',
    ['07'],
    '{"definitions":{"p~/%":{"type":"number"}},"properties":{"a":{"$ref":"#/definitions/p~0~1%25"}}}',
    [{ a: 1 }],
    [{ a: 'x' }],
  ),
  vector(
    '$ref',
    'C 8.2.3.1',
    BOTH,
    '{"properties":{"child":{"$ref":"#"}},"additionalProperties":false}',
    [{ child: { child: {} } }],
    [{ child: { other: 1 } }],
  ),
  vector(
    '$anchor',
    'C 8.2.2',
    NEW,
    '{"$defs":{"x":{"$anchor":"here","type":"number"}},"items":{"$ref":"#here"}}',
    [[1]],
    [['x']],
  ),
  vector(
    '$dynamicRef',
    'C 8.2.3.2',
    NEW,
    '{"$dynamicAnchor":"node","properties":{"next":{"$dynamicRef":"#node"},"v":{"type":"number"}}}',
    [{ next: { v: 1 } }],
    [{ next: { v: 'x' } }],
  ),
  vector('boolean schemas', 'C 4.3.2', BOTH, '{"properties":{"a":true,"b":false}}', [{ a: null }], [{ b: null }]),
  vector(
    'format',
    'V 7.3.1',
    BOTH,
    '{"format":"date-time"}',
    ['2026-01-31T12:00:00Z', '2026-01-31T12:00:00.123+01:00', 7],
    ['2026-01-31', '2026-02-30T12:00:00Z', '2026-01-31T25:00:00Z'],
  ),
  vector('format', 'V 7.3.5', BOTH, '{"format":"uri"}', ['http://a.example/b?c#d'], ['a b', '/relative']),
  vector('format', 'V 7.3.4', BOTH, '{"format":"ipv6"}', ['::1', '2001:db8::2'], ['12345::', '1.2.3']),
  vector(
    'format',
    'V 7.3.5',
    BOTH,
    '{"format":"uuid"}',
    ['2eb8aa08-aa98-11ea-b4aa-73b441d16380'],
    ['2eb8aa08-aa98-11ea-b4aa'],
  ),
];

/** Keywords that assert something, of the vocabularies applicator, unevaluated, validation and format of 2020-12. */
const ASSERTING = (
  'prefixItems items contains additionalProperties properties patternProperties dependentSchemas propertyNames if allOf anyOf oneOf not ' +
  'unevaluatedItems unevaluatedProperties type const enum multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern ' +
  'maxItems minItems uniqueItems maxContains minContains maxProperties minProperties required dependentRequired format $ref $dynamicRef $anchor'
).split(' ');

describe('JSON Schema, keyword by keyword', () => {
  it('has a vector for every keyword that asserts something', () => {
    const tested = new Set(VECTORS.map(({ keyword }) => keyword));
    assert.deepEqual(
      ASSERTING.filter((keyword) => !tested.has(keyword)),
      [],
    );
    console.log(
      `      ${VECTORS.length} vectors, ${VECTORS.reduce((sum, { drafts, valid, invalid }) => sum + drafts.length * (valid.length + invalid.length), 0)} instances`,
    );
  });

  for (const { keyword, clause, drafts, schema, valid, invalid } of VECTORS) {
    for (const draft of drafts) {
      it(`${keyword} (${clause}), draft ${draft}: ${schema}`, () => {
        const check = resultOf(compileSchema(`{"$schema":"${DRAFTS[draft]}",${schema.slice(1)}`, '/s.json'));
        for (const instance of valid) assert.equal(check(instance), null, `must match: ${JSON.stringify(instance)}`);
        for (const instance of invalid)
          assert.notEqual(check(instance), null, `must not match: ${JSON.stringify(instance)}`);
      });
    }
  }

  it('does not let a keyword pass that it does not know, and takes annotations for what they are (C 4.3.1)', () => {
    assert.ok(!compileSchema('{"maximun":3}', '/s.json').ok);
    const check = resultOf(
      compileSchema(
        '{"title":"t","description":"d","default":1,"examples":[2],"$comment":"c","deprecated":true}',
        '/s.json',
      ),
    );
    assert.equal(check(null), null);
  });
});

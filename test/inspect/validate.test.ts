import assert from 'node:assert/strict';
import { compileSchema } from '../../src/inspect/validate.ts';
import { failureOf, resultOf } from './sample.ts';

const compile = (schema: unknown) => compileSchema(JSON.stringify(schema), '/etc/s.json');
const reasonFor = (schema: object, document: unknown) => {
  const problem = resultOf(compile(schema))(document);
  assert.ok(problem, 'expected the document to be refused');
  assert.equal(problem.code, 'schema');
  return `${problem.field} | ${problem.reason}`;
};
const property = (schema: object) => ({ properties: { a: schema } });
const draft07 = (rest: string) =>
  `{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a":{"type":"number"}},${rest}}`;

describe('A JSON Schema', () => {
  it('accepts what matches', () => {
    assert.equal(resultOf(compile({ required: ['a'], properties: { a: { type: 'number' } } }))({ a: 1 }), null);
  });

  const reasons: [schema: object, document: unknown, expected: string][] = [
    [{ required: ['a'] }, {}, '/a | /a is missing'],
    [property({ required: ['b/c'] }), { a: {} }, '/a/b~1c | /a/b~1c is missing'],
    [property({ type: 'number' }), { a: 'warm' }, '/a | /a: "warm" is not of type number'],
    [property({ type: ['number', 'null'] }), { a: true }, '/a | /a: true is not of type number or null'],
    [property({ maximum: 125 }), { a: 999 }, '/a | /a: 999 is above the maximum 125'],
    [property({ minimum: -40 }), { a: -41.5 }, '/a | /a: -41.5 is below the minimum -40'],
    [property({ exclusiveMaximum: 5 }), { a: 5 }, '/a | /a: 5 is not below 5'],
    [property({ exclusiveMinimum: 5 }), { a: 5 }, '/a | /a: 5 is not above 5'],
    [property({ multipleOf: 2 }), { a: 5 }, '/a | /a: 5 is not a multiple of 2'],
    [property({ enum: ['on', 1] }), { a: 'off' }, '/a | /a: "off" is not one of "on", 1'],
    [property({ const: 'on' }), { a: 'off' }, '/a | /a: "off" is not "on"'],
    [property({ pattern: '^d\\d+$' }), { a: 'x' }, '/a | /a: "x" does not match the pattern ^d\\d+$'],
    [property({ format: 'date-time' }), { a: 'now' }, '/a | /a: "now" is not of the format date-time'],
    [property({ maxLength: 2 }), { a: 'abc' }, '/a | /a: "abc" is longer than 2 characters'],
    [property({ minLength: 4 }), { a: 'abc' }, '/a | /a: "abc" is shorter than 4 characters'],
    [{ additionalProperties: false }, { z: 1 }, '/z | /z is not a known field'],
    [{ unevaluatedProperties: false }, { z: 1 }, '/z | /z is not a known field'],
    [{ propertyNames: { maxLength: 2 } }, { abc: 1 }, '/abc | /abc is not an allowed field name'],
    [{ dependentRequired: { a: ['b'] } }, { a: 1 }, '/b | /b is missing; "a" needs it'],
    [
      property({ anyOf: [{ type: 'number' }, { const: 'n/a' }] }),
      { a: 'x' },
      '/a | /a: "x" matches none of the 2 allowed forms',
    ],
    [
      property({ oneOf: [{ minimum: 1 }, { maximum: 5 }] }),
      { a: 3 },
      '/a | /a: 3 matches more than one of the 2 allowed forms',
    ],
    [property({ not: { const: 0 } }), { a: 0 }, '/a | /a: 0 must NOT be valid'],
    [JSON.parse('{"if":{"required":["a"]},"then":{"required":["b"]}}'), { a: 1 }, '/b | /b is missing'],
    [property({ maxItems: 1 }), { a: [1, 2] }, '/a | /a: an array of 2 must NOT have more than 1 items'],
    [property(false as unknown as object), { a: 1 }, '/a | /a is not allowed'],
    [{ minProperties: 1 }, {}, ' | the payload: an object must NOT have fewer than 1 properties'],
  ];
  for (const [schema, document, expected] of reasons) {
    it(`says "${expected.split('| ')[1]}"`, () => assert.equal(reasonFor(schema, document), expected));
  }

  it('shortens long values and writes none that a terminal would obey', () => {
    const reason = reasonFor(property({ type: 'number' }), { a: `\x1b[2J\u202e${'x'.repeat(10_000)}` });
    assert.ok(reason.length < 200);
    assert.doesNotMatch(reason, /\p{C}/u);
  });

  it('does not see what an object merely inherits', () => {
    assert.match(reasonFor({ required: ['toString'] }, {}), /toString is missing/);
  });

  it('is read by its $schema: prefixItems only in 2020-12, tuples of items only in draft-07', () => {
    const tuple = [{ type: 'number' }, { type: 'string' }];
    const draft2020 = property({ prefixItems: tuple });
    const draft07 = { $schema: 'http://json-schema.org/draft-07/schema#', ...property({ items: tuple }) };
    assert.match(
      reasonFor({ $schema: 'https://json-schema.org/draft/2020-12/schema', ...draft2020 }, { a: ['x'] }),
      /"x"/,
    );
    assert.match(reasonFor(draft2020, { a: ['x'] }), /"x"/);
    assert.match(reasonFor(draft07, { a: [1, 2] }), /2 is not of type string/);
    assert.match(failureOf(compile(property({ items: tuple }))), /cannot be used/);
  });

  const broken: [what: string, text: string, expected: RegExp][] = [
    ['is not JSON', '{"type":', /s\.json is not JSON/],
    ['is not an object', '[]', /s\.json is not a JSON object/],
    ['is of another draft', '{"$schema":"http://json-schema.org/draft-04/schema#"}', /draft-04.*known are/],
    ['has a keyword misspelt', '{"properties":{"a":{"maximun":5}}}', /maximun/],
    ['has a type that there is not', '{"type":"nummber"}', /s\.json cannot be used/],
    ['has a pattern that is not one', '{"properties":{"a":{"pattern":"["}}}', /s\.json cannot be used/],
    ['has an unknown format', '{"properties":{"a":{"format":"phone-number"}}}', /phone-number/],
    ['refers to another file', '{"$ref":"common.json#/$defs/a"}', /common\.json/],
    [
      'has what draft-07 ignores',
      draft07('"allOf":[{"$ref":"#/definitions/a","maximum":5}]'),
      /"maximum" beside "\$ref"/,
    ],
    ['has $dynamicRef', '{"$dynamicAnchor":"n","items":{"$dynamicRef":"#n"}}', /"\$dynamicRef" is not supported/],
    [
      'has contains and unevaluatedItems',
      '{"contains":{},"allOf":[{"unevaluatedItems":false}]}',
      /together with "contains"/,
    ],
    [
      'has items in alternatives and unevaluatedItems',
      '{"anyOf":[{"items":{"type":"string"}},true],"unevaluatedItems":false}',
      /together with "items" and alternatives/,
    ],
    [
      'has if without then and unevaluatedProperties',
      '{"if":{"required":["a"]},"else":{"required":["b"]},"unevaluatedProperties":false}',
      /"if" without "then"/,
    ],
  ];
  for (const [what, text, expected] of broken) {
    it(`that ${what} is a failure naming file and reason`, () => {
      assert.match(failureOf(compileSchema(text, '/etc/s.json')), expected);
    });
  }

  it('may carry annotations: unit, displayName, x-anything', () => {
    resultOf(compile(property({ unit: 'Cel', displayName: 'Temperature', 'x-owner': 'ops', examples: [1] })));
  });

  it('may have names and values that look like keywords, and annotations beside a $ref in draft-07', () => {
    resultOf(
      compileSchema('{"properties":{"$dynamicRef":{"const":{"$dynamicRef":"#a"}},"x-y":{"x-z":1}}}', '/etc/s.json'),
    );
    const beside = '"properties":{"a":{"$ref":"#/definitions/a","title":"A","unit":"Cel","x-owner":"ops"}}';
    const check = resultOf(compileSchema(draft07(beside), '/etc/s.json'));
    assert.match(check({ a: 'x' })!.reason, /"x" is not of type number/);
  });

  it('that refers to itself without end refuses the payload, and does not throw', () => {
    assert.match(reasonFor({ $ref: '#' }, {}), /refers to itself without end/);
  });

  it('may refer to itself, to the depth of the payload', () => {
    const tree = {
      $defs: { n: { properties: { next: { $ref: '#/$defs/n' }, v: { type: 'number' } } } },
      $ref: '#/$defs/n',
    };
    let document: object = { v: 'bad' };
    for (let i = 0; i < 60; i++) document = { next: document };
    assert.match(reasonFor(tree, document), /"bad" is not of type number/);
  });
});

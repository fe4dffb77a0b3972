/** The forms in InfluxData's description of line protocol, and what its rules say of others. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { lineProtocolDecoder, type Precision } from '../../../src/inspect/decode/line-protocol.ts';
import { decodedOf, documentsOf, LIMITS, problemOf } from './sample.ts';

const decoder = lineProtocolDecoder('ns');
const read = (text: string, precision: Precision = 'ns') => documentsOf(lineProtocolDecoder(precision), text);

describe('Decoding line protocol', () => {
  const forms: [line: string, document: object][] = [
    [
      'myMeasurement,tag1=value1,tag2=value2 fieldKey="fieldValue" 1556813561098000000',
      { measurement: 'myMeasurement', tag1: 'value1', tag2: 'value2', fieldKey: 'fieldValue', time: 1556813561098 },
    ],
    ['m f=1', { measurement: 'm', f: 1 }],
    ['m f=1.0', { measurement: 'm', f: 1 }],
    ['m f=-1.234456e+78', { measurement: 'm', f: -1.234456e78 }],
    ['m f=.5,g=5.,h=+3', { measurement: 'm', f: 0.5, g: 5, h: 3 }],
    ['m f=1i,g=-12485903i,h=12485903u', { measurement: 'm', f: 1, g: -12485903, h: 12485903 }],
    ['m f=9007199254740991i', { measurement: 'm', f: Number.MAX_SAFE_INTEGER }],
    ['m a=true,b=t,c=True,d=TRUE,e=T', { measurement: 'm', a: true, b: true, c: true, d: true, e: true }],
    ['m a=false,b=f,c=False,d=FALSE,e=F', { measurement: 'm', a: false, b: false, c: false, d: false, e: false }],
    ['m f="this is a string"', { measurement: 'm', f: 'this is a string' }],
    ['m f=""', { measurement: 'm', f: '' }],
    ['m f="\\"string\\" within a string"', { measurement: 'm', f: '"string" within a string' }],
    ['m f="C:\\\\x \\n, = #"', { measurement: 'm', f: 'C:\\x \\n, = #' }],
    ['m f="two\nlines" 1000000', { measurement: 'm', f: 'two\nlines', time: 1 }],
    ['my\\ Measurement fieldKey="string value"', { measurement: 'my Measurement', fieldKey: 'string value' }],
    ['my\\,Measurement f=1', { measurement: 'my,Measurement', f: 1 }],
    ['my=Measurement f=1', { measurement: 'my=Measurement', f: 1 }],
    ['my\\=Measurement f=1', { measurement: 'my\\=Measurement', f: 1 }],
    ['"m" f=1', { measurement: '"m"', f: 1 }],
    [
      'm,tag\\ Key1=tag\\ Value1,tag\\,Key2=tag\\=Value2 field\\ Key=100',
      { measurement: 'm', 'tag Key1': 'tag Value1', 'tag,Key2': 'tag=Value2', 'field Key': 100 },
    ],
    [
      'm,tagKey=🍭 fieldKey="Launch 🚀" 1556813561098000000',
      { measurement: 'm', tagKey: '🍭', fieldKey: 'Launch 🚀', time: 1556813561098 },
    ],
    ['m,a=C:\\x f=1', { measurement: 'm', a: 'C:\\x', f: 1 }],
    ['m f=1 -1', { measurement: 'm', f: 1, time: -1 }],
  ];
  for (const [line, document] of forms) {
    it(`reads ${JSON.stringify(line)}`, () => assert.deepEqual(read(line), [document]));
  }

  it('takes each line as a reading, past comments, blank lines and carriage returns', () => {
    const text = '# first\nm f=1 1000000\r\n\n  # and\nm f=2 2000000\n';
    const { documents, batch } = decodedOf(decoder, text);
    assert.deepEqual(documents, [
      { measurement: 'm', f: 1, time: 1 },
      { measurement: 'm', f: 2, time: 2 },
    ]);
    assert.equal(batch, true);
    assert.equal(decodedOf(decoder, 'm f=1\n').batch, false);
  });

  it('reads timestamps in the unit that is configured, rounded down to the millisecond', () => {
    assert.deepEqual(read('m f=1 1556813561', 's'), [{ measurement: 'm', f: 1, time: 1556813561000 }]);
    assert.deepEqual(read('m f=1 1556813561098', 'ms'), [{ measurement: 'm', f: 1, time: 1556813561098 }]);
    assert.deepEqual(read('m f=1 1556813561098999', 'us'), [{ measurement: 'm', f: 1, time: 1556813561098 }]);
    assert.deepEqual(read('m f=1 1556813561098999999', 'ns'), [{ measurement: 'm', f: 1, time: 1556813561098 }]);
  });

  const bad: [text: string, code: string, field?: string][] = [
    ['', 'empty'],
    ['# only a comment\n', 'empty'],
    ['m', 'malformed'],
    ['m 1', 'malformed'],
    ['m,a f=1', 'malformed'],
    ['m,a= f=1', 'malformed'],
    ['m,=b f=1', 'malformed'],
    [',a=b f=1', 'malformed'],
    ['m f=', 'malformed'],
    ['m =1', 'malformed'],
    ['m f=1,', 'malformed'],
    ['m f=1 f=2', 'malformed'],
    ['m f=abc', 'malformed'],
    ['m f=0x10', 'malformed'],
    ['m f=1,f=2', 'malformed'],
    ['m,f=a f=2', 'malformed'],
    ['m,a=1,a=2 f=2', 'malformed'],
    ['m measurement=1', 'malformed'],
    ['m time=1 5', 'malformed'],
    ['m f="open', 'malformed'],
    ['m f=1 12 13', 'malformed'],
    ['m f=1 1.5', 'malformed'],
    ['m f=1 99999999999999999999999999', 'malformed'],
    ['m f=NaN', 'malformed'],
    ['m f=Infinity', 'malformed'],
    ['m f=1e999', 'number-out-of-range'],
    ['m f=9007199254740992i', 'number-out-of-range'],
    ['m f=-9223372036854775808i', 'number-out-of-range'],
    ['m f=18446744073709551615u', 'number-out-of-range'],
    [`m f=${'9'.repeat(50_000)}i`, 'number-out-of-range'],
    ['m f=-1u', 'malformed'],
    ['m __proto__=1', 'forbidden-key'],
    ['m,__proto__=a f=1', 'forbidden-key'],
    ['m f=1\nm f=x', 'malformed', '/1'],
    ['m f=1\n'.repeat(LIMITS.batchReadings + 1), 'too-large'],
  ];
  for (const [text, code, field] of bad) {
    it(`refuses ${JSON.stringify(text.slice(0, 50))}`, () => {
      const problem = problemOf(decoder, text);
      assert.equal(problem.code, code, problem.reason);
      if (field !== undefined) assert.equal(problem.field, field);
    });
  }

  it('refuses bytes that are not UTF-8', () => {
    assert.equal(problemOf(decoder, Buffer.from('m f="\xff"', 'latin1')).code, 'not-utf8');
  });

  it('reads back whatever is written by the rules', () => {
    const name = fc.string({
      unit: fc.constantFrom('a', 'b', ',', ' ', '=', '"', 'ü', '#', '/'),
      minLength: 1,
      maxLength: 6,
    });
    const escaped = (text: string, special: RegExp) => text.replaceAll(special, '\\$&');
    const value = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.boolean(),
      fc.string({ unit: fc.constantFrom('a', '"', '\\', ' ', ',', '=', '\n', 'ü') }),
    );
    const point = fc.record({
      measurement: name.filter((text) => !text.startsWith('#')),
      tags: fc.dictionary(
        name.map((text) => `t${text}`),
        name,
        { maxKeys: 3 },
      ),
      fields: fc.dictionary(
        name.map((text) => `f${text}`),
        value,
        { minKeys: 1, maxKeys: 3 },
      ),
      time: fc.option(fc.integer({ min: -1e15, max: 1e15 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(point, { minLength: 1, maxLength: 5 }), (points) => {
        const lines = points.map(({ measurement, tags, fields, time }) => {
          const tagText = Object.entries(tags).map(
            ([key, tag]) => `,${escaped(key, /[,= ]/g)}=${escaped(tag, /[,= ]/g)}`,
          );
          const fieldText = Object.entries(fields).map(
            ([key, field]) =>
              `${escaped(key, /[,= ]/g)}=${typeof field === 'string' ? `"${escaped(field, /["\\]/g)}"` : field}`,
          );
          return `${escaped(measurement, /[, ]/g)}${tagText.join('')} ${fieldText.join(',')}${time === undefined ? '' : ` ${time}`}`;
        });
        const expected = points.map(({ measurement, tags, fields, time }) => ({
          measurement,
          ...tags,
          ...fields,
          ...(time === undefined ? undefined : { time }),
        }));
        assert.deepEqual(
          JSON.parse(JSON.stringify(read(lines.join('\n'), 'ms'))),
          JSON.parse(JSON.stringify(expected)),
        );
      }),
    );
  });
});

/** Readings as Avro: what inspection accepts comes back byte for byte, and other programs can read it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import avsc from 'avsc';
import fc from 'fast-check';
import { beginsAsAvro, fromAvro, READING_AVRO, READING_JSON_SCHEMA, toAvro } from '../../src/journal/reading-avro.ts';
import { encodeReading, type Reading } from '../../src/reading.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 20 });
const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_.]{0,9}$/);
const number = fc
  .double({ noNaN: true, noDefaultInfinity: true, min: -1e150, max: 1e150 })
  .map((value) => (Math.abs(value) < 1e-140 ? 0 : value));

const reading: fc.Arbitrary<Reading> = fc
  .record({
    stream: name,
    timeMs: fc.integer({ min: -8.64e15, max: 8.64e15 }),
    tags: fc.dictionary(name, text, { maxKeys: 5, noNullPrototype: true }),
    values: fc.dictionary(name, number, { maxKeys: 5, noNullPrototype: true }),
    schema: fc.option(fc.stringMatching(/^[0-9a-f]{12}$/)),
    batch: fc.option(fc.tuple(fc.nat(), fc.nat())),
    sequence: fc.option(fc.oneof(fc.maxSafeNat(), fc.constantFrom(2 ** 52, 2 ** 53 - 1))),
    identity: fc.option(text),
    distinct: fc.option(fc.array(text, { maxLength: 4 })),
    payload: fc.option(
      fc.oneof(fc.json(), fc.constantFrom('{"a":1.50,"b":"\\ud800"}', '[ ]', '{"payload":{},"x":"}"}')),
    ),
  })
  .map(({ schema, batch, sequence, identity, distinct, payload, ...rest }) => ({
    ...{ key: '', ...rest },
    ...(schema === null ? undefined : { schema }),
    ...(batch === null ? undefined : { batch }),
    ...(sequence === null ? undefined : { sequence }),
    ...(identity === null ? undefined : { identity }),
    ...(distinct === null ? undefined : { distinct }),
    ...(payload === null ? undefined : { payload }),
  }));

const back = fromAvro(JSON.stringify(READING_AVRO));

describe('a reading as Avro', () => {
  it('comes back as the same bytes', () => {
    assert.ok(back);
    fc.assert(
      fc.property(reading, (one) => {
        const bytes = Buffer.from(encodeReading(one));
        const avro = toAvro(bytes);
        assert.ok(avro, bytes.toString());
        assert.deepEqual(back(avro)?.toString(), bytes.toString());
      }),
      { numRuns: 500 },
    );
  });

  it('is what the schema says to a program that knows nothing of Millrace', () => {
    const value = Buffer.from(
      encodeReading({
        ...{ stream: 's', key: 'd', timeMs: 1_700_000_000_123, tags: { device: 'd', site: 'ä' } },
        ...{ values: { t: 21.5 }, sequence: 7, payload: '{"t": 21.50}' },
      }),
    );
    const type = avsc.Type.forSchema(JSON.parse(JSON.stringify(READING_AVRO)));
    assert.deepEqual(JSON.parse(JSON.stringify(type.fromBuffer(toAvro(value)!))), {
      ...{ stream: 's', time: 1_700_000_000_123, tags: { device: 'd', site: 'ä' }, values: { t: 21.5 } },
      ...{ schema: null, batch: null, sequence: 7, identity: null, distinct: null, payload: '{"t": 21.50}' },
    });
  });

  it('is not made of a value that is not a reading', () => {
    for (const value of [
      '',
      'x',
      '{}',
      'null',
      '7',
      '{"stream":1}',
      '{"stream":"s","time":1.5,"tags":{},"values":{}}',
    ]) {
      assert.equal(toAvro(Buffer.from(value)), null, value);
    }
    const spaced = '{"stream":"s", "time":1,"tags":{},"values":{}}';
    assert.equal(toAvro(Buffer.from(spaced)), null, 'it would not come back as it was');
  });

  it('is read with a schema that has grown, and not with one of something else', () => {
    const grown = { ...READING_AVRO, fields: [...READING_AVRO.fields, { name: 'unit', type: 'string' }] };
    const writer = avsc.Type.forSchema(grown as unknown as avsc.Schema);
    const read = fromAvro(JSON.stringify(grown));
    assert.ok(read);
    const value = { stream: 's', time: 1, tags: { a: 'b' }, values: { t: 1 }, unit: 'C' };
    const nulls = { sequence: null, identity: null, distinct: null, payload: null };
    assert.equal(
      read(writer.toBuffer({ ...value, ...nulls }))?.toString(),
      '{"stream":"s","time":1,"tags":{"a":"b"},"values":{"t":1}}',
    );
    for (const other of ['"string"', '{"type":"record","name":"Other","fields":[]}', 'nonsense']) {
      assert.equal(fromAvro(other), null, other);
    }
  });

  it('is told from other bytes by its beginning, though its schema may have grown', () => {
    const value = toAvro(Buffer.from('{"stream":"s","time":1,"tags":{"a":"b"},"values":{"t":1}}'))!;
    assert.ok(beginsAsAvro(value) && beginsAsAvro(Buffer.concat([value, Buffer.from('more')])));
    assert.ok(!beginsAsAvro(value.subarray(0, value.length - 1)) && !beginsAsAvro(Buffer.alloc(0)));
    assert.ok(!beginsAsAvro(Buffer.from(Array.from({ length: 251 }, (_, i) => i + 5))));
  });

  it('is nothing when the bytes are not of the schema', () => {
    assert.ok(back);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const read = back(Buffer.from(bytes));
        assert.ok(read === null || JSON.parse(read.toString()).stream !== undefined);
      }),
    );
  });

  it('has its schemas beside the page about them (npx tsx compose/schema.ts writes them)', () => {
    for (const [file, schema] of [
      ['reading.avsc', READING_AVRO],
      ['reading.schema.json', READING_JSON_SCHEMA],
    ] as const) {
      const path = fileURLToPath(new URL(`../../compose/kafka/${file}`, import.meta.url));
      assert.equal(readFileSync(path, 'utf8'), `${JSON.stringify(schema, null, 2)}\n`, file);
    }
  });

  it('has fields of the same names in both schemas', () => {
    assert.deepEqual(
      READING_AVRO.fields.map((field) => field.name),
      Object.keys(READING_JSON_SCHEMA.properties),
    );
  });
});

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { decodeReading, encodeReading, payloadOf, type Reading } from '../../src/reading.ts';
import { decodeLate, lateRecord } from '../../src/rollup/late.ts';
import { fingerprintOf, readingOf, tagsOf } from '../../src/rollup/record.ts';
import { readingRecord } from '../support/readings.ts';

/** Texts that try to look like the marks between the parts of a reading. */
const text = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('"', '\\', '}', '{', '},"values":{', ',"payload":', '"},"values":{"', ',"sequence":1', 'é', '\u2028'),
);
const value = fc.oneof(fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e150, max: 1e150 }));
const reading: fc.Arbitrary<Reading> = fc.record(
  {
    stream: text,
    key: text,
    timeMs: fc.integer({ min: -1_000, max: 4e12 }),
    tags: fc.dictionary(text, text),
    values: fc.dictionary(text, value),
    schema: fc.stringMatching(/^[0-9a-f]{12}$/),
    batch: fc.tuple(fc.nat(), fc.nat()),
    sequence: fc.nat(),
    identity: text,
    distinct: fc.array(text, { maxLength: 6 }),
    payload: fc.json(),
  },
  { requiredKeys: ['stream', 'key', 'timeMs', 'tags', 'values'] },
);

function viaDecode(value: string) {
  const { schema, batch, ...decoded } = decodeReading(value)!;
  return { ...decoded, sequence: decoded.sequence, identity: decoded.identity, distinct: decoded.distinct };
}

function viaScan(value: string) {
  const read = readingOf(Buffer.from(value))!;
  return { ...read, tags: tagsOf(read.tags) };
}

describe('a record as the engine reads it', () => {
  it('is the reading that was written, whatever is in its texts', () => {
    fc.assert(
      fc.property(reading, (original) => {
        const value = encodeReading(original);
        assert.deepEqual(viaScan(value), viaDecode(value));
      }),
      { numRuns: 1_000 },
    );
  });

  it('gives its payload back byte for byte, and names schema and batch', () => {
    fc.assert(
      fc.property(reading, (original) => {
        const value = encodeReading(original);
        assert.equal(payloadOf(value), original.payload ?? null);
        const { schema, batch } = decodeReading(value)!;
        assert.deepEqual([schema, batch], [original.schema, original.batch]);
      }),
      { numRuns: 1_000 },
    );
    assert.equal(payloadOf('{"payload":1}'), null);
  });

  it('is read from any order of fields and with blanks, as other writers may write it', () => {
    const value = '{ "values": {"v": 1}, "tags": {"a": "b"}, "time": 5, "more": 1, "stream": "s" }';
    assert.deepEqual(viaScan(value), {
      stream: 's',
      timeMs: 5,
      tags: { a: 'b' },
      values: { v: 1 },
      sequence: undefined,
      identity: undefined,
      distinct: undefined,
    });
  });

  it('is never read out of a text that is not one', () => {
    const start = encodeReading({ stream: 's', key: 'k', timeMs: 5, tags: { a: 'b' }, values: { v: 1 }, sequence: 7 });
    fc.assert(
      fc.property(fc.nat({ max: start.length - 1 }), fc.string({ minLength: 1, maxLength: 1 }), (at, character) => {
        const damaged = start.slice(0, at) + character + start.slice(at + 1);
        const read = readingOf(Buffer.from(damaged));
        if (read === null) return;
        const tags = tagsOf(read.tags);
        const decoded = decodeReading(damaged);
        // Tags that nobody has looked at yet may still turn out not to be any.
        if (tags !== null) assert.deepEqual({ ...read, tags }, { ...viaDecode(damaged), tags: decoded!.tags });
      }),
      { numRuns: 1_000 },
    );
  });

  it('has a fingerprint that tells values apart, and none when a value cannot be added up', () => {
    const metrics = ['a', 'b'];
    const all = [
      {},
      { a: 0 },
      { b: 0 },
      { a: 1 },
      { b: 1 },
      { a: 1, b: 2 },
      { a: 2, b: 1 },
      { a: 1.0000000000000002 },
      { a: -1 },
    ];
    assert.equal(new Set(all.map((values) => fingerprintOf(values, metrics))).size, all.length);
    assert.equal(fingerprintOf({ a: -0 }, metrics), fingerprintOf({ a: 0, c: 'x' }, metrics));
    for (const bad of ['1', null, Number.NaN, Number.POSITIVE_INFINITY, 1e151, 1e-141, {}]) {
      assert.equal(fingerprintOf({ a: bad }, metrics), null, String(bad));
    }
  });
});

describe('a late record', () => {
  it('keeps the reading byte for byte, with the reason and its place', () => {
    fc.assert(
      fc.property(
        reading,
        fc.nat(),
        fc.constantFrom('late' as const, 'straggler' as const),
        (original, offset, reason) => {
          const record = { ...readingRecord(offset, original, 99), value: Buffer.from(encodeReading(original)) };
          const late = lateRecord(record, reason, 4);
          assert.deepEqual(
            [late.kind, late.key, late.receivedMs, late.stream, late.topic],
            ['late', record.key, 99, record.stream, record.topic],
          );
          const decoded = decodeLate(late.value);
          assert.deepEqual(decoded, { reason, partition: 4, offset, reading: record.value.toString() });
          assert.doesNotThrow(() => JSON.parse(Buffer.from(late.value).toString()));
        },
      ),
    );
  });

  it('is never read out of something else', () => {
    for (const value of ['', '{}', '{"reason":"bored","partition":1,"offset":1,"reading":{}}', '{"reason":"late"}']) {
      assert.equal(decodeLate(Buffer.from(value)), null, value);
    }
  });
});

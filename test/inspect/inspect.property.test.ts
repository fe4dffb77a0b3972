import assert from 'node:assert/strict';
import fc from 'fast-check';
import { decodeReading, decodeRefusal, encodeReading, encodeRefusal } from '../../src/reading.ts';
import { inspectorFor, makeMessage, NOW, SCHEMA, TOPIC } from './sample.ts';

const enrich = {
  registry: 'd.csv',
  by: 'device',
  tags: ['room'],
  scale: { humidity: 'f' },
  unknown: 'accept' as const,
};
const registry = 'device,room,f\nd1,attic,1.5\n';

/** The same streams are asked all questions, so that what one message leaves behind meets the next. */
const inspectors = [
  inspectorFor({}, { schema: SCHEMA }),
  inspectorFor({ enrich, tags: ['tag', 'deep.er'], identity: ['ts', 'tag'], time: null }, { registry }),
  inspectorFor({ key: 'k', tags: ['toString'], metrics: [], sequence: null }),
  inspectorFor({ metrics: ['a.b', 'constructor'] }, { limits: { maxSeries: 4 } }),
];

const name = fc.oneof(
  fc.constantFrom(
    'ts',
    'seq',
    'temperature',
    'humidity',
    'tag',
    'deep',
    'er',
    'k',
    'toString',
    'a',
    'b',
    'constructor',
    'prototype',
    '__proto__',
  ),
  fc.string(),
);
const scalar = fc.oneof(
  fc.constantFrom<unknown>(
    NOW,
    NOW / 1000,
    '2023-11-14T22:13:20Z',
    1e300,
    -1e-300,
    2 ** 53,
    true,
    null,
    '\ud800',
    '\0',
    '',
  ),
  fc.double(),
  fc.integer(),
  fc.string({ unit: 'binary' }),
);
const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    scalar,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(name, tie('value'), { maxKeys: 8 }),
  ),
}));
const document = fc.dictionary(name, value, { maxKeys: 10 });
const valid = fc.record({
  ts: fc.integer({ min: NOW - 1e9, max: NOW }),
  seq: fc.nat(),
  temperature: fc.integer({ min: -50, max: 125 }),
  humidity: fc.double({ min: 1, max: 100, noNaN: true }),
  tag: fc.string({ minLength: 1, maxLength: 20 }),
  k: fc.string({ minLength: 1, maxLength: 20 }),
  deep: fc.record({ er: fc.nat() }),
  toString: fc.boolean(),
  a: fc.record({ b: fc.nat() }),
});
const mutated = fc
  .tuple(valid, fc.array(fc.tuple(fc.nat(), fc.nat(255), fc.constantFrom('set', 'insert', 'cut')), { maxLength: 3 }))
  .map(([payload, edits]) => {
    let bytes = Buffer.from(JSON.stringify(payload));
    for (const [where, byte, edit] of edits) {
      const at = where % (bytes.length + 1);
      const rest = bytes.subarray(edit === 'set' ? at + 1 : at);
      bytes = edit === 'cut' ? bytes.subarray(0, at) : Buffer.concat([bytes.subarray(0, at), Buffer.of(byte), rest]);
    }
    return bytes;
  });
const payloads = fc.oneof(
  fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
  fc
    .oneof(document, fc.array(document, { maxLength: 3 }), value)
    .map((json) => Buffer.from(JSON.stringify(json) ?? '')),
  mutated,
  fc.array(valid, { maxLength: 3 }).map((batch) => Buffer.from(JSON.stringify(batch))),
);
const topics = fc.oneof(
  { weight: 5, arbitrary: fc.constant(TOPIC) },
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'binary', maxLength: 10 }).map((device) => `sensors/s/${device}/environment`),
);

describe('Inspection, whatever is sent', () => {
  it('throws nothing, keeps refused payloads byte for byte, and makes readings that survive the log', () => {
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(payloads, topics, (payload, topic) => {
        for (const inspector of inspectors) {
          const sent = Buffer.from(payload);
          const inspection = inspector.inspect(makeMessage(payload, { topic }));
          assert.ok(payload.equals(sent), 'inspection must not write into the payload');
          if (inspection.kind === 'refused') {
            refused++;
            const { refusal } = inspection;
            assert.ok(sent.equals(refusal.payload));
            assert.doesNotMatch(refusal.reason, /[\p{C}\u2028\u2029]/u);
            assert.ok(refusal.reason.length < 600);
            const back = decodeRefusal(encodeRefusal(refusal))!;
            assert.ok(sent.equals(back.payload));
            assert.equal(back.code, refusal.code);
            continue;
          }
          for (const reading of inspection.readings) {
            accepted++;
            const { key, payload: text, tagsText, ...rest } = reading;
            if (tagsText !== undefined) assert.deepEqual(JSON.parse(tagsText), reading.tags);
            const encoded = encodeReading(reading);
            assert.deepEqual(decodeReading(encoded), JSON.parse(JSON.stringify(rest)));
            assert.deepEqual(JSON.parse(encoded).payload, JSON.parse(text!));
            assert.notEqual(key, '');
            assert.deepEqual(Object.keys(reading.tags), Object.keys(reading.tags).toSorted());
            for (const number of Object.values(reading.values)) {
              assert.ok(Number.isFinite(number) && !Object.is(number, -0));
              assert.ok(number === 0 || (Math.abs(number) <= 1e150 && Math.abs(number) >= 1e-140));
            }
            assert.ok(Number.isSafeInteger(reading.timeMs) && reading.timeMs > 0 && reading.timeMs <= NOW + 60_000);
          }
        }
      }),
      { numRuns: 3_000 },
    );
    assert.ok(accepted > 100 && refused > 1_000, `a lopsided test: ${accepted} accepted, ${refused} refused`);
  });

  it('gives the same answers to the same messages', () => {
    const messages = fc.array(fc.tuple(payloads, topics), { maxLength: 20 });
    fc.assert(
      fc.property(messages, (list) => {
        const answers = () => {
          const inspector = inspectorFor({ time: null }, { limits: { maxSeries: 6, topics: 2 } });
          return list.map(([payload, topic], i) =>
            inspector.inspect(makeMessage(payload, { topic, receivedMs: NOW + i })),
          );
        };
        assert.deepEqual(answers(), answers());
      }),
    );
  });
});

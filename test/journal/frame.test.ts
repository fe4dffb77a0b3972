import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  checkFrame,
  decodeFrame,
  encodeFrame,
  findFrame,
  frameBuffer,
  frameBytesAtMost,
  frameGroupFirst,
  frameOffset,
  MAX_NAME_BYTES,
  MAX_VALUE_BYTES,
  sizeFailure,
} from '../../src/journal/frame.ts';
import type { LogRecord } from '../../src/log.ts';
import { traceparents } from '../support/traceparents.ts';

const named = fc.record({
  kind: fc.constantFrom('reading', 'tick', 'refusal', 'late', 'pane', 'requeued', 'alert'),
  key: fc.string({ unit: 'grapheme', maxLength: 80 }),
  receivedMs: fc.maxSafeNat(),
  stream: fc.string({ maxLength: 20 }),
  topic: fc.string({ unit: 'grapheme', maxLength: 80 }),
  value: fc.uint8Array({ maxLength: 300 }),
});
const records: fc.Arbitrary<LogRecord> = fc.oneof(
  named,
  fc.record({ record: named, trace: traceparents }).map(({ record, trace }) => ({ ...record, trace })),
);
const offsets = fc.maxSafeNat();

function encoded(record: LogRecord, offset: number, groupIndex: number, at = 0) {
  const target = frameBuffer(Buffer.alloc(at + frameBytesAtMost(record)));
  const length = encodeFrame(target, at, record, offset, groupIndex);
  return { target, length };
}

describe('a frame', () => {
  it('gives back what was put in, at any position', () => {
    fc.assert(
      fc.property(records, offsets, fc.nat(50), (record, offset, at) => {
        const { target, length } = encoded(record, offset, 0, at);
        assert.equal(checkFrame(target, at, at + length), length);
        const { value, ...rest } = decodeFrame(target, at);
        assert.deepEqual({ ...rest, value: Uint8Array.from(value) }, { ...record, offset });
      }),
    );
  });

  it('tells offset and group without being decoded', () => {
    fc.assert(
      fc.property(
        records,
        fc.integer({ min: 1_000, max: Number.MAX_SAFE_INTEGER }),
        fc.nat(1_000),
        (record, offset, i) => {
          const { target } = encoded(record, offset, i);
          assert.equal(frameOffset(target, 0), offset);
          assert.equal(frameGroupFirst(target, 0), offset - i);
        },
      ),
    );
  });

  it('is not valid with any one bit changed, nor cut short', () => {
    fc.assert(
      fc.property(records, offsets, fc.nat(), fc.nat(7), (record, offset, byte, bit) => {
        const { target, length } = encoded(record, offset, 3);
        assert.equal(checkFrame(target, 0, byte % length), -1);
        target.bytes[byte % length]! ^= 1 << bit;
        assert.ok(checkFrame(target, 0, length) <= 0);
      }),
    );
  });

  it('is found behind any bytes', () => {
    fc.assert(
      fc.property(records, offsets, fc.uint8Array({ maxLength: 200 }), (record, offset, before) => {
        const { target, length } = encoded(record, offset, 0, before.length);
        target.bytes.set(before);
        assert.equal(findFrame(target, 0, target.bytes.length, offset, offset + 1), before.length);
        assert.equal(findFrame(target, 0, target.bytes.length, offset + 1, Number.POSITIVE_INFINITY), -1);
        assert.equal(findFrame(target, 0, before.length, 0, offset), -1);
        assert.equal(findFrame(frameBuffer(target.bytes.subarray(0, before.length + length - 1)), 0, 1e9, 0, 1e99), -1);
      }),
    );
  });

  it('does not begin where there are only zeros', () => {
    const source = frameBuffer(Buffer.alloc(100));
    assert.equal(checkFrame(source, 0, 100), 0);
  });

  it('refuses a value and names over their limits, and nothing at them', () => {
    const base: LogRecord = { kind: 'reading', key: '', receivedMs: 0, stream: '', topic: '', value: new Uint8Array() };
    assert.equal(sizeFailure({ ...base, value: new Uint8Array(MAX_VALUE_BYTES) }), null);
    assert.equal(sizeFailure({ ...base, value: new Uint8Array(MAX_VALUE_BYTES + 1) })?.code, 'RECORD_TOO_LARGE');
    for (const name of ['key', 'stream', 'topic'] as const) {
      assert.equal(sizeFailure({ ...base, [name]: 'x'.repeat(MAX_NAME_BYTES) }), null);
      assert.equal(sizeFailure({ ...base, [name]: 'x'.repeat(MAX_NAME_BYTES + 1) })?.code, 'RECORD_TOO_LARGE');
      const wide = '水'.repeat(MAX_NAME_BYTES / 3);
      assert.equal(sizeFailure({ ...base, [name]: wide }), null);
      assert.equal(sizeFailure({ ...base, [name]: `${wide}x` })?.code, 'RECORD_TOO_LARGE');
    }
  });

  it('is not made of a stamp that is no whole number: a bug', () => {
    const [record] = fc.sample(records, 1);
    for (const receivedMs of [Number.NaN, -1, 0.5, 2 ** 53]) {
      assert.throws(() => encoded({ ...record!, receivedMs }, 0, 0), RangeError);
    }
  });
});

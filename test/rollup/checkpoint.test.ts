import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  decodeCheckpoint,
  encodeCheckpoint,
  MAX_STREAMS,
  type Progress,
  streamHash,
} from '../../src/rollup/checkpoint.ts';
import { makeStream } from '../support/readings.ts';

const admission = { graceMs: 15_000, disorderMs: 2_000 };

describe('the checkpoint', () => {
  const time = fc.oneof(fc.constant(Number.NEGATIVE_INFINITY), fc.integer({ min: -8.64e15, max: 8.64e15 }));
  const hash = fc.stringMatching(/^[A-Za-z0-9_-]{8}$/);

  it('comes back as it was', () => {
    const progress: fc.Arbitrary<Progress> = fc
      .record({
        offset: fc.nat(),
        ahead: fc.nat(),
        watermarkMs: time,
        frontierMs: time,
        completeAfterMs: time,
        streams: fc.array(fc.tuple(hash, fc.boolean())).map((entries) => new Map(entries)),
        began: fc.option(time),
      })
      .map(({ ahead, began, ...rest }) => ({
        ...rest,
        position: rest.offset + ahead,
        ...(began === null ? undefined : { beganAfterMs: began }),
      }));
    fc.assert(fc.property(progress, (value) => assert.deepEqual(decodeCheckpoint(encodeCheckpoint(value)), value)));
  });

  it('is never read out of a text that is not one', () => {
    for (const metadata of [
      '',
      ' ',
      '{}',
      '1',
      '1 - - 5',
      '2 - - 5 - abc',
      '1 - - x - abc',
      '1 - - 4 - abc',
      '1 1e3 - 5 - a',
    ]) {
      assert.equal(decodeCheckpoint({ offset: 5, metadata }), null, metadata);
    }
    assert.equal(decodeCheckpoint({ offset: -2, metadata: '1 - - 5 - abc' }), null);
    assert.notEqual(decodeCheckpoint({ offset: 5, metadata: '1 - - 5 - abc' }), null);
    fc.assert(
      fc.property(fc.string(), (metadata) => {
        const progress = decodeCheckpoint({ offset: 0, metadata });
        assert.ok(progress === null || metadata.startsWith('1 '));
      }),
    );
  });

  it('fits into what Kafka keeps, with as many streams as allowed', () => {
    const streams = new Map<string, boolean>();
    for (let i = 0; i < MAX_STREAMS; i++) streams.set(streamHash(makeStream(`stream-${i}`), admission), true);
    assert.equal(streams.size, MAX_STREAMS);
    const far = 8.64e15;
    const progress = {
      offset: 0,
      watermarkMs: far,
      frontierMs: far,
      position: 2 ** 53 - 1,
      completeAfterMs: far,
      beganAfterMs: far,
      streams,
    };
    assert.ok(encodeCheckpoint(progress).metadata.length <= 4_096);
  });

  it('tells apart configurations that give other rows, and only those', () => {
    const stream = makeStream('s', { metrics: ['a', 'b'], windows: ['10s', '1m'] });
    const same = streamHash(stream, admission);
    assert.equal(streamHash({ ...stream, retain: true, schema: 'x.json', sequence: 'n' }, admission), same);
    for (const [what, other] of [
      ['name', streamHash({ ...stream, name: 't' }, admission)],
      ['metrics', streamHash({ ...stream, metrics: ['a', 'b', 'c'] }, admission)],
      ['windows', streamHash(makeStream('s', { metrics: ['a', 'b'], windows: ['10s', '2m'] }), admission)],
      ['grace', streamHash(stream, { ...admission, graceMs: 16_000 })],
      ['disorder', streamHash(stream, { ...admission, disorderMs: 3_000 })],
    ]) {
      assert.notEqual(other, same, what);
    }
  });
});

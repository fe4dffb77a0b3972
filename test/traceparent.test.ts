/** What counts as a trace context, and that it comes out of the log's bytes as it went in. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { createTraceSource } from '../src/parts/trace-source.ts';
import { silentTelemetry } from '../src/telemetry.ts';
import { parseTraceparent, readTrace, TRACE_BYTES, writeTrace } from '../src/traceparent.ts';
import { traceparents } from './support/traceparents.ts';

const GOOD = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

describe('A trace context', () => {
  it('is taken as it is', () => {
    assert.equal(parseTraceparent(GOOD), GOOD);
    fc.assert(fc.property(traceparents, (text) => parseTraceparent(text) === text));
  });

  const wrong: Record<string, unknown> = {
    'of another version': GOOD.replace('00-', '01-'),
    'of the version that is forbidden': GOOD.replace('00-', 'ff-'),
    'with a trace id of zeros': `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`,
    'with a parent id of zeros': `00-4bf92f3577b34da6a3ce929d0e0e4736-${'0'.repeat(16)}-01`,
    'in capital letters': GOOD.toUpperCase(),
    'one digit too short': GOOD.slice(0, -1),
    'one digit too long': `${GOOD}0`,
    'with something behind it': `${GOOD}-x`,
    'with a line break behind it': `${GOOD}\n`,
    'with a digit that is none': GOOD.replace('4bf', '4bg'),
    'with ids that lie across their borders': GOOD.replace('4736-00f', '473-600f'),
    'that is a number': 42,
    'that is a list of one': [GOOD],
    'that is empty': '',
  };
  for (const [what, value] of Object.entries(wrong)) {
    it(`${what} is none`, () => assert.equal(parseTraceparent(value), null));
  }

  it('takes 25 bytes and gives back the same text', () => {
    fc.assert(
      fc.property(traceparents, fc.nat(20), (text, at) => {
        const bytes = Buffer.alloc(at + TRACE_BYTES);
        writeTrace(bytes, at, text);
        assert.equal(readTrace(bytes, at), text);
      }),
    );
  });

  it('that is made is valid, sampled, and no other was made like it', () => {
    const source = createTraceSource(silentTelemetry());
    const made = Array.from({ length: 2_000 }, () => source.make()!);
    assert.equal(new Set(made.map((text) => text.slice(3, 35))).size, made.length);
    for (const text of made) assert.ok(parseTraceparent(text) !== null && text.endsWith('-01'), text);
  });
});

/** Which trace context a message's readings carry, or its refusal. */
import assert from 'node:assert/strict';
import type { TraceSource } from '../../src/traceparent.ts';
import { inspectorFor, makeMessage, NOW, readingOf, readingsOf, refusalOf, SCHEMA } from './sample.ts';

const OWN = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const OTHER = OWN.replace('4bf', '4bc');

function tracing(trace: { field: string | null; make: boolean }, schema?: object) {
  const seen: string[] = [];
  let made = 0;
  const traces: TraceSource = { make: () => `made ${++made}`, seen: (outcome) => seen.push(outcome) };
  return { seen, inspector: inspectorFor({ trace }, { traces, ...(schema ? { schema } : undefined) }) };
}

const reading = (more: object = {}) => ({ ts: NOW, temperature: 20, ...more });

describe('The trace context of a message', () => {
  it('is that of its field, in an object too', () => {
    const { inspector, seen } = tracing({ field: 'meta.traceparent', make: true });
    assert.equal(readingOf(inspector.inspect(makeMessage(reading({ meta: { traceparent: OWN } })))).trace, OWN);
    assert.deepEqual(seen, ['payload']);
  });

  it('is made where there is none, and where what is there is none, which is counted', () => {
    const { inspector, seen } = tracing({ field: 'tp', make: true });
    assert.equal(readingOf(inspector.inspect(makeMessage(reading()))).trace, 'made 1');
    assert.equal(readingOf(inspector.inspect(makeMessage(reading({ tp: OWN.toUpperCase() })))).trace, 'made 2');
    assert.deepEqual(seen, ['made', 'invalid', 'made']);
  });

  it('is absent where none is to be made, and where the stream asks for none', () => {
    const { inspector, seen } = tracing({ field: 'tp', make: false });
    assert.equal('trace' in readingOf(inspector.inspect(makeMessage(reading({ tp: 'x' })))), false);
    assert.equal('trace' in readingOf(inspectorFor().inspect(makeMessage(reading({ tp: OWN })))), false);
    assert.deepEqual(seen, ['invalid']);
  });

  it('in a batch is that of each reading, and one for all that bring none', () => {
    const { inspector } = tracing({ field: 'tp', make: true });
    const batch = [reading(), reading({ ts: NOW + 1, tp: OWN }), reading({ ts: NOW + 2 })];
    const traces = readingsOf(inspector.inspect(makeMessage(batch))).map(({ trace }) => trace);
    assert.deepEqual(traces, ['made 1', OWN, 'made 1']);
  });

  it('goes with a refusal: that of the reading that is refused, a made one where nothing can be read', () => {
    const { inspector } = tracing({ field: 'tp', make: true }, SCHEMA);
    const refused = (payload: unknown) => refusalOf(inspector.inspect(makeMessage(payload)));
    assert.equal(refused(reading({ temperature: 'x', tp: OWN })).trace, OWN);
    assert.equal(refused([reading({ tp: OWN }), reading({ temperature: 999, tp: OTHER })]).trace, OTHER);
    assert.equal(refused('not JSON').trace, 'made 1');
  });

  it('of one refusal is not that of another for the same reason', () => {
    const { inspector } = tracing({ field: 'tp', make: false });
    const refused = (tp?: string) => {
      const message = makeMessage(reading({ tp }), { topic: `sensors/berlin/${'x'.repeat(300)}/environment` });
      return refusalOf(inspector.inspect(message)).trace;
    };
    assert.deepEqual([refused(OWN), refused()], [undefined, undefined]);
    const registered = inspectorFor(
      {
        trace: { field: 'tp', make: false },
        enrich: { registry: '/r.csv', by: 'device', tags: [], scale: {}, unknown: 'refuse' },
      },
      { registry: 'device\nother\n' },
    );
    const unknown = (tp?: string) => refusalOf(registered.inspect(makeMessage(reading({ tp })))).trace;
    assert.deepEqual([unknown(OWN), unknown()], [OWN, undefined]);
  });
});

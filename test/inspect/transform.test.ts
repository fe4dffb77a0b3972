import assert from 'node:assert/strict';
import { inspectorFor, makeMessage, NOW, readingOf, refusalOf } from './sample.ts';

const metrics = ['voltage', 'current', 'power'];
const derive = { power: 'voltage * current' };
const electric = (more: object = {}) => inspectorFor({ metrics, derive, ...more });
const message = (values: object) => makeMessage({ ts: NOW, ...values });

describe('What is made of metrics', () => {
  it('derives a value from others, after scaling', () => {
    assert.deepEqual(readingOf(electric().inspect(message({ voltage: 230, current: 2 }))).values, {
      voltage: 230,
      current: 2,
      power: 460,
    });
    const enrich = { registry: 'd.csv', by: 'device', tags: [], scale: { voltage: 'k' }, unknown: 'accept' as const };
    const scaled = inspectorFor({ metrics, derive, enrich }, { registry: 'device,k\nd1,1000\n' });
    assert.equal(readingOf(scaled.inspect(message({ voltage: 0.23, current: 2 }))).values.power, 460);
  });

  it('leaves it out where one of them is not there, and does not take it from the payload', () => {
    assert.deepEqual(readingOf(electric().inspect(message({ voltage: 230, power: 7 }))).values, { voltage: 230 });
  });

  it('refuses a derived value that is no number', () => {
    const divided = inspectorFor({ metrics, derive: { power: 'voltage / current' } });
    const refusal = refusalOf(divided.inspect(message({ voltage: 1, current: 0 })));
    assert.deepEqual([refusal.code, refusal.field], ['number-out-of-range', '']);
    assert.match(refusal.reason, /^power: Infinity, which it derives to, is outside/);
  });

  it('has no -0', () => {
    const minus = inspectorFor({ metrics: ['a', 'b'], derive: { b: '-a' } });
    assert.ok(Object.is(readingOf(minus.inspect(message({ a: 0 }))).values.b, 0));
  });

  const limits = { min: 0, max: 250, outside: 'refuse' as const };

  it('refuses a reading with a value outside its range, limits included', () => {
    const inspector = electric({ range: { voltage: limits } });
    for (const voltage of [0, 250]) assert.ok(readingOf(inspector.inspect(message({ voltage }))));
    const { code, field, reason } = refusalOf(inspector.inspect(message({ voltage: 250.5, current: 1 })));
    assert.deepEqual([code, field], ['number-out-of-range', '/voltage']);
    assert.equal(reason, 'voltage: 250.5 is outside its range, 0 to 250');
    const open = electric({ range: { power: { ...limits, min: Number.NEGATIVE_INFINITY } } });
    assert.match(
      refusalOf(open.inspect(message({ voltage: 100, current: 3 }))).reason,
      /power: 300 is outside its range, to 250/,
    );
  });

  it('goes on without a value that is to be dropped, as long as another is left', () => {
    const inspector = electric({
      range: { power: { ...limits, outside: 'drop' }, voltage: { ...limits, outside: 'drop' } },
    });
    assert.deepEqual(readingOf(inspector.inspect(message({ voltage: 200, current: 3 }))).values, {
      voltage: 200,
      current: 3,
    });
    assert.equal(refusalOf(inspector.inspect(message({ voltage: 300 }))).code, 'number-out-of-range');
  });

  it('names the place of a refused reading in its batch', () => {
    const inspector = electric({ range: { voltage: limits } });
    const refusal = refusalOf(
      inspector.inspect(
        makeMessage([
          { ts: NOW, voltage: 1 },
          { ts: NOW + 1, voltage: -1 },
        ]),
      ),
    );
    assert.equal(refusal.field, '/1/voltage');
  });
});

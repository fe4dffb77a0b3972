import assert from 'node:assert/strict';
import { inspectorFor, makeMessage, NOW, readingOf, readingsOf, refusalOf } from './sample.ts';

const RATE = { temperature: { max: 5, perMs: 60_000, beyond: 'refuse' as const } };
const start = (beyond: 'refuse' | 'drop' = 'refuse', more: object = {}) =>
  inspectorFor({ rate: { temperature: { ...RATE.temperature, beyond } }, ...more });
const message = (seconds: number, temperature: number, more: object = {}) =>
  makeMessage({ ts: NOW - 3_600_000 + seconds * 1_000, temperature, ...more });

describe('How fast a metric may change', () => {
  it('refuses a value that changed faster, either way, and says from what', () => {
    const inspector = start();
    readingOf(inspector.inspect(message(0, 20)));
    readingOf(inspector.inspect(message(60, 25)));
    const { code, field, reason } = refusalOf(inspector.inspect(message(90, 28)));
    assert.deepEqual([code, field], ['number-out-of-range', '/temperature']);
    assert.equal(reason, 'temperature: 28 is 3 from 25 30000 ms before, faster than 5 in 1m');
    assert.equal(refusalOf(inspector.inspect(message(90, 22))).code, 'number-out-of-range');
  });

  it('believes a jump when enough time has passed for it', () => {
    const inspector = start();
    readingOf(inspector.inspect(message(0, 20)));
    for (const seconds of [60, 120, 180]) refusalOf(inspector.inspect(message(seconds, 40)));
    readingOf(inspector.inspect(message(240, 40)));
    readingOf(inspector.inspect(message(300, 41)));
  });

  it('compares each series with itself, and only forwards in time', () => {
    const inspector = start();
    readingOf(inspector.inspect(message(60, 20)));
    readingOf(inspector.inspect({ ...message(61, 90), topic: 'sensors/berlin/d2/environment' }));
    readingOf(inspector.inspect(message(60, 90)));
    readingOf(inspector.inspect(message(10, 90)));
    readingOf(inspector.inspect(message(120, 21)));
  });

  it('goes on without a value that is to be dropped, as long as another is left', () => {
    const inspector = start('drop');
    readingOf(inspector.inspect(message(0, 20, { humidity: 40 })));
    assert.deepEqual(readingOf(inspector.inspect(message(1, 90, { humidity: 41 }))).values, { humidity: 41 });
    assert.equal(refusalOf(inspector.inspect(message(2, 90))).code, 'number-out-of-range');
    readingOf(inspector.inspect(message(60, 25)));
  });

  it('remembers nothing of a batch that is refused', () => {
    const inspector = start();
    readingOf(inspector.inspect(message(0, 20)));
    const batch = [message(60, 24), message(61, 90)].map(({ payload }) => JSON.parse(String(payload)));
    assert.equal(refusalOf(inspector.inspect(makeMessage(batch))).field, '/1/temperature');
    readingOf(inspector.inspect(message(30, 21)));
    const good = [message(60, 23), message(120, 27)].map(({ payload }) => JSON.parse(String(payload)));
    assert.equal(readingsOf(inspector.inspect(makeMessage(good))).length, 2);
  });

  it('neither compares nor remembers a dead letter that is sent again', () => {
    const inspector = start();
    readingOf(inspector.inspect(message(0, 20)));
    readingOf(inspector.inspect({ ...message(1, 90), replayed: true }));
    readingOf(inspector.inspect(message(2, 20)));
  });
});

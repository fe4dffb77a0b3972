import assert from 'node:assert/strict';
import { inspectorFor, makeMessage, NOW, readingOf, refusalOf } from './sample.ts';

const inspector = inspectorFor({ distinct: ['userid', 'site', 'session.id'], metrics: [] });
const message = (values: object) => makeMessage({ ts: NOW, ...values });

describe('Values whose different ones are counted', () => {
  it('go into the reading by name, from the payload or a tag', () => {
    const { distinct } = readingOf(inspector.inspect(message({ userid: 'u1', session: { id: 7 } })));
    assert.deepEqual(distinct, ['userid', 'u1', 'site', 'berlin', 'session.id', '7']);
  });

  it('may be absent or null', () => {
    assert.deepEqual(readingOf(inspector.inspect(message({ userid: null }))).distinct, ['site', 'berlin']);
  });

  it('are kept as their hash when they are long', () => {
    const { distinct } = readingOf(inspector.inspect(message({ userid: 'x'.repeat(1_000) })));
    assert.match(distinct![1]!, /^sha256:[0-9a-f]{64}$/);
  });

  it('refuse an integer that a double cannot hold', () => {
    const { code, field } = refusalOf(inspector.inspect(makeMessage(`{"ts":${NOW},"userid":9007199254740993}`)));
    assert.deepEqual([code, field], ['number-out-of-range', '/userid']);
  });

  it('refuse half of a surrogate pair where readings become Avro, which cannot keep it, and nowhere else', () => {
    const payload = makeMessage(`{"ts":${NOW},"userid":"a\\ud800"}`);
    assert.equal(readingOf(inspector.inspect(payload)).distinct![1], 'a\ud800');
    const strict = inspectorFor({ distinct: ['userid'], metrics: [] }, { limits: { wellFormed: true } });
    const { code, field, reason } = refusalOf(strict.inspect(payload));
    assert.deepEqual([code, field], ['not-utf8', '/userid']);
    assert.match(reason, /half of a surrogate pair, which Avro cannot keep/);
  });

  it('cost other streams nothing in the log', () => {
    assert.equal(readingOf(inspectorFor().inspect(message({ temperature: 1 }))).distinct, undefined);
  });
});

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { asDeadLetter } from '../../src/journal/forward-dead-letter.ts';
import type { LogRecord } from '../../src/log.ts';
import { decodeRefusal } from '../../src/reading.ts';

const large: LogRecord = {
  kind: 'reading',
  key: 'd1',
  receivedMs: 1_700_000_000_000,
  stream: 'environment',
  topic: 'sensors/d1',
  value: Buffer.from(JSON.stringify({ text: 'x'.repeat(1_000) })),
};
const refusalOf = (record: LogRecord | null) => decodeRefusal(Buffer.from(record!.value).toString())!;

describe('a record that Kafka refuses', () => {
  it('becomes a dead letter with its value whole, and its key, stamp and topic', () => {
    const letter = asDeadLetter(large, 'too large')!;
    assert.deepEqual({ ...letter, value: null }, { ...large, kind: 'refusal', value: null });
    const { payload, ...refusal } = refusalOf(letter);
    assert.deepEqual(refusal, {
      code: 'log-refused',
      reason: 'too large',
      field: '',
      stream: 'environment',
      topic: 'sensors/d1',
      client: '',
    });
    assert.deepEqual(Buffer.from(payload), large.value);
  });

  it('keeps the first reason and code when its dead letter is shortened', () => {
    const shortened = asDeadLetter(asDeadLetter(large, 'the first reason')!, 'the second reason')!;
    const refusal = refusalOf(shortened);
    assert.match(refusal.reason, /^the first reason; .*the second reason/);
    assert.equal(refusal.code, 'log-refused');
    const sha256 = createHash('sha256').update(large.value).digest('hex');
    assert.deepEqual(JSON.parse(Buffer.from(refusal.payload).toString()), { bytes: large.value.byteLength, sha256 });
    assert.equal(asDeadLetter(shortened, 'again'), null);
  });

  it('keeps the code of a device’s refusal, so that it is found under its own reason', () => {
    const value = JSON.stringify({
      code: 'schema',
      reason: 'temperature is a text',
      field: '/temperature',
      stream: 'environment',
      topic: 'sensors/d1',
      client: 'd1',
      payload: Buffer.alloc(2_000).toString('base64'),
    });
    const refusal = refusalOf(asDeadLetter({ ...large, kind: 'refusal', value: Buffer.from(value) }, 'too large'));
    assert.equal(refusal.code, 'schema');
    assert.equal(refusal.field, '/temperature');
    assert.equal(JSON.parse(Buffer.from(refusal.payload).toString()).bytes, 2_000);
  });

  it('is shortened even when it cannot be read', () => {
    const refusal = refusalOf(asDeadLetter({ ...large, kind: 'refusal', value: Buffer.alloc(1_000) }, 'too large'));
    assert.equal(refusal.code, 'log-refused');
    assert.equal(JSON.parse(Buffer.from(refusal.payload).toString()).bytes, 1_000);
  });
});

import assert from 'node:assert/strict';
import type { KafkaMessage } from 'kafkajs';
import { fromMessage, messageBytes } from '../../src/journal/kafka-record.ts';
import type { LogRecord } from '../../src/log.ts';

// That what kafka-batch.ts writes comes back as it was: kafka-batch.test.ts.
describe('a Kafka message as a record', () => {
  it('of another producer, without headers or value, reads as what its topic implies', () => {
    const foreign = { key: null, value: null, timestamp: '7', attributes: 0, offset: '9' } as unknown as KafkaMessage;
    const record = fromMessage(foreign, 'late');
    assert.deepEqual(
      { ...record, value: record.value.length },
      { kind: 'late', key: '', receivedMs: 7, stream: '', topic: '', value: 0, offset: 9 },
    );
    const headers = { kind: Buffer.from('nonsense'), topic: [Buffer.from('a'), Buffer.from('b')] };
    const odd = fromMessage({ ...foreign, headers } as KafkaMessage, 'reading');
    assert.equal(odd.kind, 'reading');
    assert.equal(odd.topic, 'a');
  });

  it('is weighed with more than its value', () => {
    const record: LogRecord = {
      kind: 'reading',
      key: 'abc',
      receivedMs: 0,
      stream: 's',
      topic: 't',
      value: Buffer.alloc(10),
    };
    assert.ok(messageBytes(record) >= 15);
  });
});

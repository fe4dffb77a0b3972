import assert from 'node:assert/strict';
import { messageBytes } from '../../src/journal/kafka-record.ts';
import type { LogRecord } from '../../src/log.ts';

// What stands in a record: kafka-batch.test.ts and kafka-batch-read.test.ts.
describe('a record for Kafka', () => {
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

import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { KafkaMessage } from 'kafkajs';
import { fromMessage, messageBytes, toMessage } from '../../src/journal/kafka-record.ts';
import type { LogRecord, RecordKind } from '../../src/log.ts';

const kinds: readonly RecordKind[] = ['reading', 'tick', 'refusal', 'late', 'pane', 'requeued'];
const records: fc.Arbitrary<LogRecord> = fc.record({
  kind: fc.constantFrom(...kinds),
  key: fc.string({ unit: 'grapheme' }),
  receivedMs: fc.integer({ min: 0, max: 4e12 }),
  stream: fc.string(),
  topic: fc.string({ unit: 'grapheme' }),
  value: fc.uint8Array(),
});

/** What kafkajs hands to a consumer: everything as bytes. */
function received(message: ReturnType<typeof toMessage>, offset: number): KafkaMessage {
  const bytes = (value: unknown) => (value === null ? null : Buffer.from(value as Buffer));
  const headers = Object.fromEntries(Object.entries(message.headers!).map(([name, value]) => [name, bytes(value)!]));
  return {
    key: bytes(message.key),
    value: bytes(message.value),
    timestamp: message.timestamp!,
    attributes: 0,
    offset: String(offset),
    headers,
  };
}

describe('a record as a Kafka message', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(records, fc.constantFrom(...kinds), fc.integer({ min: 0, max: 1e12 }), (record, implied, offset) => {
        const message = toMessage(record, 3, 'plant-7', implied);
        const back = fromMessage(received(message, offset), implied);
        assert.deepEqual({ ...back, value: new Uint8Array(back.value) }, { ...record, offset });
      }),
    );
  });

  it('names partition, stamp and gateway, and the kind only where the topic does not imply it', () => {
    const tick: LogRecord = { kind: 'tick', key: '', receivedMs: 5, stream: '', topic: '', value: new Uint8Array() };
    const message = toMessage(tick, 2, 'plant-7', 'reading');
    assert.deepEqual(message, {
      key: null,
      value: Buffer.alloc(0),
      partition: 2,
      timestamp: '5',
      headers: { gateway: 'plant-7', kind: 'tick' },
    });
    assert.equal(toMessage({ ...tick, kind: 'reading' }, 2, 'plant-7', 'reading').headers!.kind, undefined);
  });

  it('does not copy the value', () => {
    const value = new Uint8Array(Buffer.from('xxabcxx').buffer, 0, 4);
    const record: LogRecord = { kind: 'reading', key: 'a', receivedMs: 0, stream: '', topic: '', value };
    assert.equal((toMessage(record, 0, '', 'reading').value as Buffer).buffer, value.buffer);
  });

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

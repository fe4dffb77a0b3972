/**
 * What becomes of a record that Kafka refuses for good. Pure.
 *   any record            -> a refusal (`log-refused`) that carries the record's value whole
 *   a refusal             -> the same refusal with its payload replaced by length and SHA-256: it was refused for its size
 *   one so shortened      -> null: there is nothing left to take away, so it waits for a person
 */
import { createHash } from 'node:crypto';
import type { LogRecord } from '../log.ts';
import { decodeRefusal, encodeRefusal, type Refusal } from '../reading.ts';

/** Payloads no longer than this are not what makes a record too large. */
const SHORT_BYTES = 256;

export function asDeadLetter(record: LogRecord, reason: string): LogRecord | null {
  if (record.kind !== 'refusal') {
    const refusal: Refusal = {
      code: 'log-refused',
      reason,
      field: '',
      stream: record.stream,
      topic: record.topic,
      client: '',
      payload: record.value,
    };
    return { ...record, kind: 'refusal', value: Buffer.from(encodeRefusal(refusal)) };
  }
  const refusal = decodeRefusal(Buffer.from(record.value).toString());
  const payload = refusal?.payload ?? record.value;
  if (payload.byteLength <= SHORT_BYTES) return null;
  const sha256 = createHash('sha256').update(payload).digest('hex');
  const shortened: Refusal = {
    ...(refusal ?? { code: 'log-refused', field: '', stream: record.stream, topic: record.topic, client: '' }),
    reason: `${refusal?.reason ?? reason}; then the dead letter was refused (${reason}): its payload is replaced by length and hash`,
    payload: Buffer.from(JSON.stringify({ bytes: payload.byteLength, sha256 })),
  };
  return { ...record, value: Buffer.from(encodeRefusal(shortened)) };
}

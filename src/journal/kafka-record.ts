/**
 * A record of the log as a Kafka message (made by kafka-batch.ts), and back.
 *   key        the record's key; none for a tick, or when the record has no key
 *   timestamp  the received stamp
 *   value      as it is; empty for a tick
 *   headers    stream, topic (MQTT), gateway: where not empty; kind: where it is not what the topic implies;
 *              at: `<spool>-<offset>`, its place in the gateway's spool, where it came through one;
 *              traceparent: where the record has one
 * A message of another producer without our headers reads as what its topic implies.
 */
import type { IHeaders, KafkaMessage } from 'kafkajs';
import { isRecordKind, type LogRecord, type Origin, type RecordKind, type StoredRecord } from '../log.ts';
import { parseTraceparent } from '../traceparent.ts';

/** Offset, timestamp, lengths and header names of one message; a close upper bound. */
const OVERHEAD_BYTES = 64;

export function fromMessage(message: KafkaMessage, implied: RecordKind): StoredRecord {
  const { headers } = message;
  const kind = text(headers, 'kind');
  const origin = originOf(text(headers, 'at'));
  const record: StoredRecord = {
    kind: isRecordKind(kind) ? kind : implied,
    key: message.key?.toString() ?? '',
    receivedMs: Number(message.timestamp),
    stream: text(headers, 'stream'),
    topic: text(headers, 'topic'),
    value: message.value ?? NOTHING,
    offset: Number(message.offset),
    ...(origin ? { origin } : undefined),
  };
  if (headers?.traceparent === undefined) return record;
  const trace = parseTraceparent(text(headers, 'traceparent'));
  return trace === null ? record : { ...record, trace };
}

function originOf(at: string): Origin | null {
  const dash = at.lastIndexOf('-');
  const offset = Number(at.slice(dash + 1));
  return dash > 0 && dash < at.length - 1 && Number.isSafeInteger(offset) ? { spool: at.slice(0, dash), offset } : null;
}

/** About what the record takes in a request, uncompressed. */
export function messageBytes(record: LogRecord): number {
  const { value, key, stream, topic, trace = '' } = record;
  return value.byteLength + key.length + stream.length + topic.length + trace.length + OVERHEAD_BYTES;
}

const NOTHING = Buffer.alloc(0);

function text(headers: IHeaders | undefined, name: string): string {
  const value = headers?.[name];
  if (value === undefined) return '';
  return Array.isArray(value) ? String(value[0] ?? '') : value.toString();
}

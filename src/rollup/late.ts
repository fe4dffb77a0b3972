/**
 * The value of a `late` record: a reading that was not counted, whole, with the reason and the place it was read at.
 * `{"reason":"late","partition":3,"offset":1234,"reading":{…}}`; `reading` is the original record's value, byte for byte.
 *
 * Key, stream, topic, trace context and received stamp of the record are those of the original. A crash may write one twice: partition
 * and offset tell that it is the same.
 */
import type { LogRecord, StoredRecord } from '../log.ts';

/** late: its window could not take it any more when it was received. straggler: the log itself was too far out of order. */
export type LateReason = 'late' | 'straggler';

export interface LateReading {
  readonly reason: LateReason;
  readonly partition: number;
  readonly offset: number;
  /** As in the log: `decodeReading` reads it. */
  readonly reading: string;
}

const MARK = ',"reading":';

export function lateRecord(record: StoredRecord, reason: LateReason, partition: number): LogRecord {
  const head = `{"reason":"${reason}","partition":${partition},"offset":${record.offset}${MARK}`;
  return {
    kind: 'late',
    key: record.key,
    receivedMs: record.receivedMs,
    stream: record.stream,
    topic: record.topic,
    ...(record.trace === undefined ? undefined : { trace: record.trace }),
    value: Buffer.concat([Buffer.from(head), record.value, Buffer.from('}')]),
  };
}

/** Null when the value is not one of ours. */
export function decodeLate(value: Uint8Array): LateReading | null {
  const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString();
  const head = /^\{"reason":"(late|straggler)","partition":(\d+),"offset":(\d+),"reading":/.exec(text);
  if (!head || !text.endsWith('}')) return null;
  const [prefix, reason, partition, offset] = head as unknown as [string, LateReason, string, string];
  return { reason, partition: Number(partition), offset: Number(offset), reading: text.slice(prefix.length, -1) };
}

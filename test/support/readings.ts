/** Streams and log records for tests of what lies behind the log. */
import type { StoredRecord } from '../../src/log.ts';
import { encodeReading, type Reading } from '../../src/reading.ts';
import { parseTemplate, parseWindow, type Stream, type TopicTemplate } from '../../src/stream.ts';

export function makeStream(
  name: string,
  options: { metrics?: readonly string[]; windows?: readonly string[] } = {},
): Stream {
  const { metrics = ['value'], windows = ['10s', '1m'] } = options;
  return {
    name,
    topic: parseTemplate(`${name}/{device}`) as TopicTemplate,
    format: 'json',
    schema: null,
    key: 'device',
    identity: [],
    time: 'time',
    sequence: null,
    tags: [],
    metrics,
    enrich: null,
    windows: windows.map((label) => parseWindow(label)!),
    score: null,
    retain: false,
  };
}

export function tickRecord(offset: number, receivedMs: number): StoredRecord {
  return { offset, kind: 'tick', key: '', receivedMs, stream: '', topic: '', value: new Uint8Array() };
}

/** A reading of device `d` unless told otherwise; received as it happened unless told otherwise. */
export function readingRecord(
  offset: number,
  reading: Partial<Reading> & { timeMs: number },
  receivedMs = reading.timeMs,
): StoredRecord {
  const whole: Reading = { stream: 's', key: 'd', tags: { device: reading.key ?? 'd' }, values: {}, ...reading };
  return {
    offset,
    kind: 'reading',
    key: whole.key,
    receivedMs,
    stream: whole.stream,
    topic: `${whole.stream}/${whole.key}`,
    value: Buffer.from(encodeReading(whole)),
  };
}

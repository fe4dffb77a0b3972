/**
 * What a trace context costs a reading on its way through this process, from its payload to Kafka's bytes: inspected, framed
 * for the spool, read from there, encoded for Kafka; CPU of one thread, without disk and network. Rounds of the three ways take turns,
 * and the best of each counts: what else the machine does only makes a round slower.
 */
import { createInspector } from '../../src/inspect/inspect.ts';
import { decodeFrame, encodeFrame, frameBuffer } from '../../src/journal/frame.ts';
import { encodeBatch } from '../../src/journal/kafka-batch.ts';
import type { LogRecord } from '../../src/log.ts';
import { readingRecord } from '../../src/parts/accept.ts';
import { createTraceSource } from '../../src/parts/trace-source.ts';
import type { Stream } from '../../src/stream.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { makeStream } from '../inspect/sample.ts';

const READINGS = 50_000;
const ROUNDS = 8;
const BATCH = 1_000;
const NOW_MS = 1_700_000_000_000;
const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

const WAYS: Readonly<Record<string, { trace?: Stream['trace']; sent: boolean }>> = {
  off: { sent: false },
  made: { trace: { field: null, make: true }, sent: false },
  from_payload: { trace: { field: 'traceparent', make: true }, sent: true },
};

export async function run(): Promise<object> {
  const passes = Object.entries(WAYS).map(([name, { trace, sent }]) => {
    const none = { schemas: new Map(), registries: new Map() };
    const traces = createTraceSource(silentTelemetry());
    const inspector = createInspector([makeStream(trace && { trace })], none, undefined, undefined, undefined, traces);
    return { name, inspector, sent, seconds: Number.POSITIVE_INFINITY, spoolBytes: 0, kafkaBytes: 0, gzipBytes: 0 };
  });
  const frame = frameBuffer(Buffer.alloc(4_096));
  for (let round = 0; round < ROUNDS; round++) {
    for (const pass of passes) {
      pass.spoolBytes = pass.kafkaBytes = 0;
      const before = process.cpuUsage();
      let batch: LogRecord[] = [];
      for (let i = 0; i < READINGS; i++) {
        const more = pass.sent ? `,"traceparent":"${TRACEPARENT}"` : '';
        const payload = Buffer.from(
          `{"ts":${NOW_MS + i},"seq":${i},"temperature":21.${i % 100},"humidity":40.5,"pressure":1013.2${more}}`,
        );
        const topic = `sensors/berlin/d${i % 1_000}/environment`;
        const inspection = pass.inspector.inspect({ topic, payload, client: 'c', receivedMs: NOW_MS + i });
        if (inspection.kind === 'refused') throw new Error(inspection.refusal.reason);
        const record = readingRecord(inspection.readings[0]!, NOW_MS + i, topic);
        pass.spoolBytes += encodeFrame(frame, 0, record, i, 0);
        const { value, ...rest } = decodeFrame(frame, 0);
        batch.push({ ...rest, value: Uint8Array.from(value) });
        if (batch.length < BATCH) continue;
        const options = { gateway: 'plant-7', implied: 'reading', compression: 'none' } as const;
        pass.kafkaBytes += encodeBatch(batch, options).length;
        if (i < BATCH) pass.gzipBytes = encodeBatch(batch, { ...options, compression: 'gzip' }).length;
        batch = [];
      }
      const { user, system } = process.cpuUsage(before);
      pass.seconds = Math.min(pass.seconds, (user + system) / 1e6);
    }
  }
  return Object.fromEntries(
    passes.map(({ name, seconds, spoolBytes, kafkaBytes, gzipBytes }) => [
      name,
      {
        cpuSecondsPerMillion: Number(((seconds * 1e6) / READINGS).toFixed(2)),
        spoolBytes: Math.round(spoolBytes / READINGS),
        kafkaBytes: Math.round(kafkaBytes / READINGS),
        kafkaBytesGzip: Math.round(gzipBytes / BATCH),
      },
    ]),
  );
}

/**
 * The hot path, one function: a message is inspected, its readings (or its refusal, with the payload kept whole) are
 * appended to the log, and `settled` is called once they are durable. Called by `ingress/` for every publish, on the
 * main thread; nothing here waits, and nothing here throws for anything that a device can send.
 *
 * The readings of a batch are in the log all together or not at all, after a crash too. One that is refused refuses its
 * message as a whole: the dead letter is the message, and its reason names the reading's place in the batch. So a device
 * has one answer to one message, and a batch that was mended can be sent again without counting anything twice.
 *
 * Settled with `failed`: nothing was promised, the device must not be acknowledged.
 * Order: `settled` is called in the order of the calls to `accept`, because the log's callbacks come in that order.
 */
import type { Failure, Outcome } from '../errors.ts';
import { Tally } from '../ingress/tally.ts';
import type { LogRecord, NewRecord } from '../log.ts';
import { encodeReading, encodeRefusal, type Inspection, type Message, type Reading, type Refusal } from '../reading.ts';
import type { Telemetry } from '../telemetry.ts';

export type Verdict =
  | { readonly kind: 'accepted' }
  | { readonly kind: 'refused'; readonly code: Refusal['code']; readonly reason: string }
  | { readonly kind: 'failed'; readonly failure: Failure };

export interface AcceptNeeds {
  inspect(message: Message): Inspection;
  /** Called before they are appended; a refused payload counts as one. */
  received(readings: number): void;
  /** Durable means what `ack` in the configuration says: the spool's disk, or all in-sync replicas of Kafka. */
  readonly append: (record: NewRecord, onDurable: (outcome: Outcome) => void) => void;
  /** All of them or none, with one answer. */
  readonly appendBatch: (records: readonly NewRecord[], onDurable: (outcome: Outcome) => void) => void;
  readonly telemetry: Telemetry;
  onAccepted(reading: Reading, receivedMs: number): void;
  onRefused(refusal: Refusal, receivedMs: number): void;
}

/** Two histograms of prom-client cost a message a microsecond: of many a second, some say enough. */
const SAMPLE_EVERY_MS = 10;

const ACCEPTED: Verdict = { kind: 'accepted' };

export function createAccept(needs: AcceptNeeds): (message: Message, settled: (verdict: Verdict) => void) => void {
  const { inspect, append, appendBatch, telemetry } = needs;
  const acceptedOf = new Map<string, Tally>();
  telemetry.beforeSnapshot(() => {
    for (const tally of acceptedOf.values()) tally.flush();
  });
  const countAccepted = (stream: string) => {
    let tally = acceptedOf.get(stream);
    if (!tally) {
      tally = new Tally(telemetry.accepted.labels(stream));
      acceptedOf.set(stream, tally);
    }
    tally.count++;
  };

  let sampledMs = Number.NEGATIVE_INFINITY;
  const sample = (inspection: Inspection, receivedMs: number, seconds: number) => {
    telemetry.inspectSeconds.observe(seconds);
    const first = inspection.kind === 'readings' ? inspection.readings[0] : undefined;
    if (first) telemetry.eventDelaySeconds.observe(Math.max(0, receivedMs - first.timeMs) / 1_000);
  };

  return (message, settled) => {
    const { receivedMs, topic } = message;
    const sampled = receivedMs - sampledMs >= SAMPLE_EVERY_MS;
    const startMs = sampled ? performance.now() : 0;
    const inspection = inspect(message);
    if (sampled) {
      sampledMs = receivedMs;
      sample(inspection, receivedMs, (performance.now() - startMs) / 1_000);
    }
    if (inspection.kind === 'refused') {
      needs.received(1);
      const { refusal } = inspection;
      append(refusalRecord(refusal, receivedMs), (outcome) => {
        if (!outcome.ok) return settled({ kind: 'failed', failure: outcome.failure });
        telemetry.deadLetters.labels(refusal.code).inc();
        needs.onRefused(refusal, receivedMs);
        settled({ kind: 'refused', code: refusal.code, reason: refusal.reason });
      });
      return;
    }
    const { readings } = inspection;
    needs.received(readings.length);
    const settleAll = (outcome: Outcome) => {
      if (!outcome.ok) return settled({ kind: 'failed', failure: outcome.failure });
      for (const reading of readings) {
        countAccepted(reading.stream);
        needs.onAccepted(reading, receivedMs);
      }
      settled(ACCEPTED);
    };
    if (readings.length === 1) return append(readingRecord(readings[0]!, receivedMs, topic), settleAll);
    if (readings.length === 0) telemetry.withoutReading.inc();
    appendBatch(
      readings.map((reading) => readingRecord(reading, receivedMs, topic)),
      settleAll,
    );
  };
}

export function readingRecord(reading: Reading, receivedMs: number, topic: string): NewRecord {
  const record: NewRecord = {
    kind: 'reading',
    key: reading.key,
    receivedMs,
    stream: reading.stream,
    topic,
    value: encodeReading(reading),
  };
  return reading.trace === undefined ? record : { ...record, trace: reading.trace };
}

export function refusalRecord(refusal: Refusal, receivedMs: number): LogRecord {
  return {
    kind: 'refusal',
    key: refusal.client,
    receivedMs,
    stream: refusal.stream,
    topic: refusal.topic,
    ...(refusal.trace === undefined ? undefined : { trace: refusal.trace }),
    value: Buffer.from(encodeRefusal(refusal)),
  };
}

export function tickRecord(receivedMs: number): LogRecord {
  return { kind: 'tick', key: '', receivedMs, stream: '', topic: '', value: NOTHING };
}

const NOTHING = new Uint8Array(0);

/**
 * W3C trace context, as a reading carries it: the text of a `traceparent`, version 00, `00-<trace id>-<parent id>-<flags>`.
 * A stream with `trace:` takes it from a field of the payload, or has one made where a message brings none. It stands
 * beside the reading in the log, in Kafka as the header `traceparent`, as it came: the gateway records no span of its own.
 * Anything else than what the standard allows, other versions among it, is no trace context: the reading is taken in
 * without it and the case is counted, since a tracing library must not cost a reading.
 */

export interface TraceSource {
  /** A new one; undefined = none is made. */
  make(): string | undefined;
  seen(outcome: 'payload' | 'made' | 'invalid'): void;
}

/** For where nothing is sent: what is in payloads is read, nothing is made. */
export const NO_TRACES: TraceSource = { make: () => undefined, seen: () => {} };

const LENGTH = 55;
const FORM = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Null when it is none. */
export function parseTraceparent(value: unknown): string | null {
  return typeof value === 'string' && value.length === LENGTH && FORM.test(value) ? value : null;
}

/** Trace id (16), parent id (8), flags (1). */
export const TRACE_BYTES = 25;

export function writeTrace(bytes: Buffer, at: number, trace: string): void {
  bytes.write(trace.slice(3, 35), at, 'hex');
  bytes.write(trace.slice(36, 52), at + 16, 'hex');
  bytes.write(trace.slice(53), at + 24, 'hex');
}

export function readTrace(bytes: Buffer, at: number): string {
  const hex = bytes.toString('hex', at, at + TRACE_BYTES);
  return `00-${hex.slice(0, 32)}-${hex.slice(32, 48)}-${hex.slice(48)}`;
}

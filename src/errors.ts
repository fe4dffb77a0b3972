/**
 * Every failure Millrace expects, in one closed list. An expected failure is a value (`Outcome`), made where it is
 * noticed; whether trying again can help is decided there and nowhere else. A throw is a bug.
 */

export type Code =
  // the user's files and command line: exit 2
  | 'CONFIG_INVALID'
  | 'USAGE'
  // the data folder
  | 'DATA_LOCKED'
  | 'DATA_DAMAGED'
  // a listener
  | 'PORT_IN_USE'
  | 'LISTEN_FAILED'
  // the spool
  | 'SPOOL_FULL'
  | 'SPOOL_NO_SPACE'
  | 'SPOOL_IO'
  | 'SPOOL_CLOSED'
  | 'RECORD_TOO_LARGE'
  // Kafka
  | 'KAFKA_UNREACHABLE'
  | 'KAFKA_AUTHENTICATION'
  | 'KAFKA_NOT_AUTHORIZED'
  | 'KAFKA_TOPIC_MISMATCH'
  | 'KAFKA_RECORD_REFUSED'
  | 'KAFKA_BATCH_UNREADABLE'
  | 'KAFKA_GENERATION_LOST'
  | 'KAFKA_OTHER'
  // the schema registry beside Kafka
  | 'REGISTRY_UNREACHABLE'
  | 'REGISTRY_REFUSED'
  // the store of rows
  | 'STORE_UNREACHABLE'
  | 'STORE_BUSY'
  | 'STORE_AUTHENTICATION'
  | 'STORE_NOT_FOUND'
  | 'STORE_ROW_REFUSED'
  | 'STORE_IO'
  | 'STORE_OTHER'
  // the log as a reader sees it
  | 'LOG_TRUNCATED'
  | 'CHECKPOINT_INVALID'
  // more series are open than the configuration allows: reading waits
  | 'ROLLUP_FULL'
  // a command that asks the running gateway to do something
  | 'GATEWAY_UNREACHABLE'
  | 'GATEWAY_REFUSED'
  // an audit over HTTP took too long, or its thread ended
  | 'AUDIT_ENDED'
  // who is to be told of alerts does not take one
  | 'WEBHOOK'
  // the user's ONNX model does not answer as it should
  | 'MODEL'
  // a worker thread died; it is started again
  | 'THREAD_ENDED'
  // asked to stop while waiting
  | 'STOPPED';

export interface Failure {
  readonly code: Code;
  /** One sentence for a person: what failed, with the value, and the way out where there is one. */
  readonly message: string;
  /** True: the same call may succeed later without anyone changing anything. */
  readonly retryable: boolean;
  /** The server asked for this pause before the next try. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
}

export type Outcome<T = void> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly failure: Failure };

export const done: Outcome = { ok: true, value: undefined };

export function succeed<T>(value: T): Outcome<T> {
  return { ok: true, value };
}

export function fail(
  code: Code,
  message: string,
  options: { retryable?: boolean; retryAfterMs?: number; cause?: unknown } = {},
): { readonly ok: false; readonly failure: Failure } {
  const { retryable = false, ...rest } = options;
  return { ok: false, failure: { code, message, retryable, ...rest } };
}

/** The text of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

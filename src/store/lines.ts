/**
 * Acknowledged writes of lines to one InfluxDB bucket. The client's own buffer, timer and retries are all off: one call
 * of `deliver` is one request at a time, and it ends when InfluxDB answered 204, refused lines by name, or failed.
 *
 * Lines that InfluxDB refuses are found and reported; all others are stored. Found how: a 400 quotes the bad lines, which
 * are taken out and the rest is sent again; a 422 has stored all but some, which halving finds. Sending stored lines again
 * changes nothing.
 */
import type { InfluxDB } from '@influxdata/influxdb-client';
import { fail, type Outcome, succeed } from '../errors.ts';
import type { Row } from '../row.ts';
import { aboutLines } from './failures.ts';
import type { RefusedRow } from './store.ts';

/** Lines of one request. Larger ones are no faster and answer later. */
export const MAX_BATCH_LINES = 1_000;
/** Characters of one request. */
export const MAX_BATCH_CHARACTERS = 4 * 1024 * 1024;

export interface Line {
  readonly row: Row;
  readonly text: string;
}

/** Sends one request; throws what the client throws. Resolves only after a 204. */
export async function post(influx: InfluxDB, org: string, bucket: string, texts: string[]): Promise<void> {
  const api = influx.getWriteApi(org, bucket, 'ms', {
    // A batch that fills would be sent by itself, and its failure would reach nobody.
    batchSize: texts.length + 1,
    maxBatchBytes: Number.MAX_SAFE_INTEGER,
    flushInterval: 0,
    maxRetries: 0,
    // Costs as much again as all the rest, in the threads that fdatasync needs.
    gzipThreshold: Number.MAX_SAFE_INTEGER,
    // Otherwise the client prints failures to the console.
    writeFailed: (error) => Promise.reject(error),
  });
  api.writeRecords(texts);
  await api.flush();
}

export function batches(lines: readonly Line[]): Line[][] {
  const result: Line[][] = [];
  let batch: Line[] = [];
  let characters = 0;
  for (const line of lines) {
    if (
      batch.length === MAX_BATCH_LINES ||
      (batch.length > 0 && characters + line.text.length > MAX_BATCH_CHARACTERS)
    ) {
      result.push(batch);
      batch = [];
      characters = 0;
    }
    batch.push(line);
    characters += line.text.length + 1;
  }
  if (batch.length > 0) result.push(batch);
  return result;
}

/**
 * `send` makes one request, throws what the client throws, and `failed` turns that into an outcome when it is about the
 * request as a whole. `stopped` is asked before each request.
 */
export async function deliver(
  lines: readonly Line[],
  send: (texts: string[]) => Promise<void>,
  failed: (thrown: unknown) => ReturnType<typeof fail>,
  stopped: () => boolean,
): Promise<Outcome<RefusedRow[]>> {
  if (lines.length === 0) return succeed([]);
  if (stopped()) return fail('STOPPED', 'asked to stop before all rows were sent', { retryable: true });
  const texts = lines.map((line) => line.text);
  try {
    await send(texts);
    return succeed([]);
  } catch (thrown) {
    const answer = aboutLines(thrown, texts);
    if (answer === null) return failed(thrown);
    const refuse = (line: Line, why: string) => ({ row: line.row, reason: `InfluxDB refused the row: ${why}` });
    if (lines.length === 1 || (answer.kind === 'others-stored' && answer.dropped >= lines.length)) {
      return succeed(lines.map((line) => refuse(line, answer.said)));
    }
    if (answer.kind === 'none-stored' && answer.named.size > 0) {
      const rest = await deliver(
        lines.filter((_, index) => !answer.named.has(index)),
        send,
        failed,
        stopped,
      );
      if (!rest.ok) return rest;
      return succeed([...[...answer.named].map(([index, why]) => refuse(lines[index]!, why)), ...rest.value]);
    }
    const middle = lines.length >> 1;
    const first = await deliver(lines.slice(0, middle), send, failed, stopped);
    if (!first.ok) return first;
    const second = await deliver(lines.slice(middle), send, failed, stopped);
    return second.ok ? succeed([...first.value, ...second.value]) : second;
  }
}

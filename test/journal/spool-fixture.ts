/** Spools in memory or in a temporary folder, small enough to see their borders. */
import assert from 'node:assert/strict';
import { systemClock } from '../../src/clock.ts';
import type { Outcome } from '../../src/errors.ts';
import { openSpool, type Spool } from '../../src/journal/spool.ts';
import type { SpoolOptions } from '../../src/journal/spool-options.ts';
import { openSpoolReader, type SpoolReader } from '../../src/journal/spool-reader.ts';
import type { LogRecord, StoredRecord } from '../../src/log.ts';
import { silentTelemetry } from '../../src/telemetry.ts';

export const FOLDER = '/data/spool';

export async function opened(options: Partial<SpoolOptions> = {}): Promise<Spool> {
  return mustBeOk(
    await openSpool({
      folder: FOLDER,
      maxBytes: 2 ** 30,
      segmentBytes: 4_096,
      historyBytes: 2 ** 30,
      commitIntervalMs: 0,
      probeIntervalMs: 1,
      readers: [],
      clock: systemClock,
      ...options,
      telemetry: options.telemetry ?? silentTelemetry(),
    }),
  );
}

export function readerOf(
  options: Partial<Parameters<typeof openSpoolReader>[0]> & { readonly spool?: Spool } = {},
): SpoolReader {
  const { spool, ...rest } = options;
  return openSpoolReader({
    folder: FOLDER,
    ...(spool ? { progress: spool.progress } : {}),
    clock: systemClock,
    ...rest,
    telemetry: rest.telemetry ?? silentTelemetry(),
  });
}

export function recordOf(number: number, size = 100): LogRecord {
  const value = Buffer.alloc(size, number & 255);
  if (size >= 4) value.writeUInt32BE(number);
  return {
    kind: 'reading',
    key: `device-${number % 5}`,
    receivedMs: 1_700_000_000_000 + number,
    stream: 'environment',
    topic: `sensors/site/device-${number % 5}/environment`,
    value,
  };
}

export function recordsOf(count: number, first = 0, size = 100): LogRecord[] {
  return Array.from({ length: count }, (_, i) => recordOf(first + i, size));
}

export function numberOf({ value }: StoredRecord): number {
  return new DataView(value.buffer, value.byteOffset).getUint32(0);
}

export async function append(spool: Spool, records: readonly LogRecord[]): Promise<void> {
  mustBeOk(await spool.appendAll(records));
}

export async function readEverything(reader: SpoolReader, from = 0): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  for await (const batch of reader.range(0, from, Number.MAX_SAFE_INTEGER)) records.push(...batch.records);
  return records;
}

export function mustBeOk<T>(outcome: Outcome<T>): T {
  assert.ok(outcome.ok, outcome.ok ? '' : `${outcome.failure.code}: ${outcome.failure.message}`);
  return outcome.value;
}

/** Commits for a group as a consumer does that reads nothing. */
export async function commitAs(reader: SpoolReader, group: string, ...offsets: number[]): Promise<void> {
  const consumer = await reader.consume(group, {
    assigned: async () => new Map([[0, Number.MAX_SAFE_INTEGER]]),
    batch: async () => undefined,
    stopping: async () => undefined,
    ended: (reason) => assert.fail(String(reason)),
  });
  for (const offset of offsets) mustBeOk(await consumer.commit(0, { offset, metadata: '' }));
  await consumer.stop();
}

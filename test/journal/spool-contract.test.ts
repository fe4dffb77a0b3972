import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { openSpool } from '../../src/journal/spool.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { type LogUnderTest, logContract } from '../contracts/log.ts';

/** Small segments, so that every test crosses their borders. */
const SEGMENT_BYTES = 16 * 1024;

async function openLog(folder: string, shared: boolean): Promise<LogUnderTest> {
  const telemetry = silentTelemetry();
  const outcome = await openSpool({
    folder,
    maxBytes: 64 * 2 ** 20,
    segmentBytes: SEGMENT_BYTES,
    historyBytes: 0,
    commitIntervalMs: 1,
    readers: ['drain'],
    clock: systemClock,
    telemetry,
  });
  assert.ok(outcome.ok, JSON.stringify(outcome));
  const spool = outcome.value;
  const reader = openSpoolReader({
    folder,
    ...(shared ? { progress: spool.progress } : {}),
    clock: systemClock,
    telemetry,
  });
  const close = async () => {
    await reader.close();
    await spool.close();
  };
  return {
    writer: spool.writer,
    reader,
    async reopen() {
      await close();
      return openLog(folder, shared);
    },
    async truncate() {
      const { endOffset } = spool.stats();
      const drain = await reader.consume('drain', {
        assigned: async () => new Map([[0, endOffset]]),
        batch: async () => undefined,
        stopping: async () => undefined,
        ended: assert.fail,
      });
      // Two commits: only the older of two is surely durable, and deletion goes by that.
      for (let i = 0; i < 2; i++) assert.ok((await drain.commit(0, { offset: endOffset, metadata: '' })).ok);
      await drain.stop();
      await spool.release();
    },
    async close() {
      await close();
      await rm(folder, { recursive: true });
    },
  };
}

for (const [name, shared] of [
  ['the spool, read in its own process,', true],
  ['the spool, read as by another process,', false],
] as const) {
  logContract(name, async () => openLog(await mkdtemp(join(tmpdir(), 'millrace-spool-')), shared));
}

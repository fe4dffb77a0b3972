import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { cursorPath } from '../../src/journal/cursor.ts';
import type { Files } from '../../src/journal/files.ts';
import type { Spool } from '../../src/journal/spool.ts';
import type { SpoolReader } from '../../src/journal/spool-reader.ts';
import type { ConsumerHandlers, LogBatch, LogConsumer } from '../../src/log.ts';
import { until } from '../support/until.ts';
import { MemoryDisk } from './memory-disk.ts';
import { append, commitAs, numberOf, opened, readEverything, readerOf, recordOf, recordsOf } from './spool-fixture.ts';

describe('a reader of the spool', () => {
  let disk: MemoryDisk;
  let spool: Spool | null;
  let readers: SpoolReader[];

  beforeEach(() => {
    disk = new MemoryDisk(Math.random);
    spool = null;
    readers = [];
  });

  afterEach(async () => {
    disk.plan = () => null;
    await Promise.all(readers.map((reader) => reader.close()));
    await spool?.close();
  });

  function reader(options: Parameters<typeof readerOf>[0]): SpoolReader {
    const made = readerOf(options);
    readers.push(made);
    return made;
  }

  it('in the same process never sees what is not durable, others see it at their own risk', async () => {
    const files = disk.restart();
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    spool = await opened({
      files: {
        ...files,
        open: async (path, mode) => {
          const file = await files.open(path, mode);
          // The first datasync is that of the head, the second one of the first group.
          let syncs = 0;
          const datasync = () => (path.endsWith('draft') && syncs++ > 0 ? held.then(file.datasync) : file.datasync());
          return { ...file, datasync };
        },
      },
    });
    const inside = reader({ spool, files });
    const outside = reader({ files });
    const durable = append(spool, recordsOf(2));
    await until(async () => (await readEverything(outside)).length === 2, 5_000, 'the frames are in the file');
    assert.deepEqual(await readEverything(inside), []);
    assert.deepEqual(await inside.offsets(0), { ok: true, value: { firstOffset: 0, endOffset: 0 } });
    release();
    await durable;
    assert.equal((await readEverything(inside)).length, 2);
  });

  it('begins a second look into a long segment near what is asked for, and sees the same', async () => {
    const files = disk.restart();
    let bytesRead = 0;
    const counting: Files = {
      ...files,
      open: async (path, mode) => {
        const file = await files.open(path, mode);
        return {
          ...file,
          read: async (into, position) => {
            const read = await file.read(into, position);
            bytesRead += read;
            return read;
          },
        };
      },
    };
    spool = await opened({ files, segmentBytes: 64 * 2 ** 20 });
    for (let first = 0; first < 20_000; first += 1_000) await append(spool, recordsOf(1_000, first, 200));
    const looking = reader({ spool, files: counting });
    const middle = async (from: number) => {
      bytesRead = 0;
      const numbers: number[] = [];
      for await (const batch of looking.range(0, from, from + 50)) numbers.push(...batch.records.map(numberOf));
      assert.deepEqual(
        numbers,
        Array.from({ length: 50 }, (_, i) => from + i),
      );
      return bytesRead;
    };
    assert.ok((await middle(19_000)) > 4_000_000);
    for (const from of [19_000, 18_999, 12_345, 1, 0, 7_000, 19_950]) {
      const read = await middle(from);
      assert.ok(read < 1_500_000, `${read} bytes for the records from ${from} on`);
    }
  });

  it('follows the spool over its segments while they grow, end and are deleted', async () => {
    const files = disk.restart();
    spool = await opened({ files, readers: ['drain'], historyBytes: 0, refreshIntervalMs: 5 });
    for (const shared of [true, false]) {
      const following = reader({ ...(shared ? { spool } : {}), files });
      const numbers: number[] = [];
      const start: number = spool.stats().endOffset;
      const consumer: LogConsumer = await following.consume(shared ? 'drain' : 'other', {
        ...silent(),
        assigned: async () => new Map([[0, start]]),
        batch: async ({ records, nextOffset }) => {
          numbers.push(...records.map(numberOf));
          if (shared) await consumer.commit(0, { offset: nextOffset, metadata: '' });
        },
      });
      for (let i = 0; i < 60; i++) await append(spool, recordsOf(10, start + i * 10));
      await until(() => numbers.length >= 600);
      assert.deepEqual(
        numbers,
        Array.from({ length: 600 }, (_, i) => start + i),
      );
      await consumer.stop();
    }
    assert.ok(spool.stats().firstOffset > 0, 'segments were deleted meanwhile');
  });

  it('waits for a log that is not there yet', async () => {
    const files = disk.restart();
    const early = reader({ files });
    assert.deepEqual(await early.offsets(0), { ok: true, value: { firstOffset: 0, endOffset: 0 } });
    const batches: LogBatch[] = [];
    await early.consume('g', { ...silent(), batch: async (batch) => void batches.push(batch) });
    spool = await opened({ files });
    await append(spool, recordsOf(3));
    await until(() => batches.length > 0);
    assert.deepEqual(batches[0]!.records.map(numberOf), [0, 1, 2]);
  });

  it('delivers an empty batch when it passes a hole, and has caught up behind it', async () => {
    const files = disk.restart();
    spool = await opened({ files });
    await append(spool, recordsOf(2));
    const batches: LogBatch[] = [];
    await reader({ spool, files }).consume('g', { ...silent(), batch: async (batch) => void batches.push(batch) });
    await until(() => batches.length === 1);
    let failed = false;
    disk.plan = (operation) => {
      if (failed || operation !== 'datasync') return null;
      failed = true;
      return { error: 'EIO' };
    };
    assert.ok(!(await spool.appendAll(recordsOf(3, 2))).ok);
    await until(() => batches.length === 2);
    assert.deepEqual(batches[1], { partition: 0, records: [], nextOffset: 5, endOffset: 5 });
    await append(spool, recordsOf(1, 9));
    await until(() => batches.length === 3);
    assert.equal(batches[2]!.records[0]!.offset, 5);
  });

  it('tries again when reading fails', async () => {
    const files = disk.restart();
    spool = await opened({ files });
    await append(spool, recordsOf(2));
    let failures = 0;
    disk.plan = (operation, path) => {
      if (operation !== 'read' || !path.endsWith('.seg') || failures >= 1) return null;
      failures++;
      return { error: 'EIO' };
    };
    const numbers: number[] = [];
    const consumer = await reader({ spool, files }).consume('g', {
      ...silent(),
      batch: async ({ records }) => void numbers.push(...records.map(numberOf)),
    });
    await until(() => consumer.trouble()?.code === 'SPOOL_IO');
    await until(() => numbers.length === 2);
    assert.equal(consumer.trouble(), null);
    assert.equal(failures, 1);
  });

  it('says as a value that a folder cannot be read', async () => {
    const files = disk.restart();
    disk.plan = (operation) => (operation === 'list' ? { error: 'EIO' } : null);
    const broken = reader({ files });
    for (const outcome of [await broken.offsets(0), await broken.offsetAtTime(0, 5)]) {
      assert.ok(!outcome.ok);
      assert.equal(outcome.failure.code, 'SPOOL_IO');
      assert.equal(outcome.failure.retryable, true);
    }
  });

  it('starts a group without a checkpoint when its file is damaged, and says so', async () => {
    const files = disk.restart();
    spool = await opened({ files });
    await append(spool, recordsOf(5));
    await commitAs(reader({ files }), 'g', 1, 2, 3);
    disk.content(cursorPath('/data/spool', 'g')).fill(7);
    const outcome = await reader({ files }).checkpoint('g', 0);
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.code, 'CHECKPOINT_INVALID');
    const assigned: unknown[] = [];
    await reader({ spool, files }).consume('g', {
      ...silent(),
      assigned: async (assignments) => {
        assigned.push(...assignments);
        return new Map([[0, 0]]);
      },
    });
    await until(() => assigned.length > 0);
    assert.deepEqual(assigned, [{ partition: 0, checkpoint: null, firstOffset: 0, endOffset: 5 }]);
  });

  it('gives batches of bounded size, and a record larger than that by itself', async () => {
    const files = disk.restart();
    spool = await opened({ files, segmentBytes: 2 ** 24 });
    const large = recordOf(2_000, 3 * 2 ** 20);
    await append(spool, [...recordsOf(2_000, 0, 1_000), large, ...recordsOf(10, 2_001)]);
    const sizes: number[] = [];
    const numbers: number[] = [];
    for await (const { records } of reader({ spool, files }).range(0, 0, 1e9)) {
      sizes.push(records.reduce((sum, { value }) => sum + value.length, 0));
      numbers.push(...records.map(numberOf));
    }
    assert.deepEqual(
      numbers,
      Array.from({ length: 2_011 }, (_, i) => i),
    );
    assert.ok(sizes.filter((size) => size > 2 ** 20).every((size) => size < large.value.length + 2 ** 20));
    assert.ok(sizes.length >= 4);
  });

  it('ends a stop in bounded time, though a handler hangs', async () => {
    const files = disk.restart();
    spool = await opened({ files });
    await append(spool, recordsOf(1));
    let aborted = false;
    let under = false;
    const consumer = await reader({ spool, files, stopBatchMs: 50 }).consume('g', {
      ...silent(),
      batch: (_, signal) => {
        under = true;
        return new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            aborted = true;
            resolve();
          });
        });
      },
    });
    await until(() => under);
    await consumer.stop();
    assert.ok(aborted);
  });

  it('rests when it has read everything: what comes meanwhile is not fetched one by one, and a stop does not wait for it', async () => {
    const files = disk.restart();
    spool = await opened({ files });
    await append(spool, recordsOf(3));
    const seen: number[] = [];
    const handlers = { ...silent(), batch: async ({ records }: LogBatch) => void seen.push(...records.map(numberOf)) };
    const consumer = await reader({ spool, files, restMs: 3_600_000 }).consume('g', handlers);
    await until(() => seen.length === 3);
    await new Promise((resolve) => setImmediate(resolve));
    for (let i = 3; i < 10; i++) await append(spool, recordsOf(1, i));
    await consumer.stop();
    assert.deepEqual(seen, [0, 1, 2]);
  });

  it('goes on after its rest with all that came meanwhile', async () => {
    const files = disk.restart();
    spool = await opened({ files });
    const batches: number[][] = [];
    const handlers = {
      ...silent(),
      batch: async ({ records }: LogBatch) => void batches.push(records.map(numberOf)),
    };
    const consumer = await reader({ spool, files, restMs: 200 }).consume('g', handlers);
    await append(spool, recordsOf(1));
    await until(() => batches.length === 1);
    await new Promise((resolve) => setImmediate(resolve));
    for (let i = 1; i < 10; i++) await append(spool, recordsOf(1, i));
    await until(() => batches.flat().length === 10);
    await consumer.stop();
    assert.deepEqual(
      batches.flat(),
      Array.from({ length: 10 }, (_, i) => i),
    );
    assert.ok(batches.length < 10, `${batches.length} batches`);
  });

  it('in another thread is woken by what becomes durable', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-spool-'));
    const inMainThread = await opened({ folder });
    // A thread does not inherit what makes this process read TypeScript.
    const source = JSON.stringify(new URL('./spool-thread.ts', import.meta.url).href);
    const entry = `import('tsx/esm/api').then(({ register }) => (register(), import(${source})))`;
    const workerData = { folder, progress: inMainThread.progress };
    const thread = new Worker(entry, { eval: true, workerData });
    const numbers: number[] = [];
    const waits: number[] = [];
    let appendedMs = 0;
    thread.on('message', (message: { ready?: true; numbers?: number[] }) => {
      if (message.ready) waits.push(-1);
      if (!message.numbers) return;
      numbers.push(...message.numbers);
      waits.push(performance.now() - appendedMs);
    });
    await until(() => waits.length > 0, 10_000, 'the thread is ready');
    for (let i = 0; i < 20; i++) {
      appendedMs = performance.now();
      await append(inMainThread, recordsOf(5, i * 5));
      await until(() => numbers.length === (i + 1) * 5);
    }
    assert.deepEqual(
      numbers,
      Array.from({ length: 100 }, (_, i) => i),
    );
    waits.sort((a, b) => a - b);
    assert.ok(waits[10]! < 250, `the middle wait is ${waits[10]} ms: a poll would take half a second`);
    await thread.terminate();
    await inMainThread.close();
    await rm(folder, { recursive: true });
  });
});

function silent(): ConsumerHandlers {
  return {
    assigned: async (assignments) =>
      new Map(assignments.map(({ checkpoint, firstOffset }) => [0, checkpoint?.offset ?? firstOffset])),
    batch: async () => undefined,
    stopping: async () => undefined,
    ended: (reason) => {
      throw reason;
    },
  };
}

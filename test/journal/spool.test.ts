import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { systemClock } from '../../src/clock.ts';
import type { Outcome } from '../../src/errors.ts';
import { MAX_VALUE_BYTES } from '../../src/journal/frame.ts';
import type { Spool } from '../../src/journal/spool.ts';
import { openSpool } from '../../src/journal/spool.ts';
import { Telemetry } from '../../src/telemetry.ts';
import { until } from '../support/until.ts';
import { MemoryDisk, type Operation } from './memory-disk.ts';
import {
  append,
  commitAs,
  FOLDER,
  numberOf,
  opened,
  readEverything,
  readerOf,
  recordOf,
  recordsOf,
} from './spool-fixture.ts';

describe('the spool', () => {
  let disk: MemoryDisk;

  beforeEach(() => {
    disk = new MemoryDisk(Math.random);
  });

  it('tells every append in order, refused ones too', async () => {
    const spool = await opened({ files: disk.restart() });
    const told: string[] = [];
    const tell = (name: string) => (outcome: Outcome) => {
      told.push(`${name} ${outcome.ok ? 'durable' : outcome.failure.code}`);
    };
    spool.append(recordOf(0), tell('first'));
    spool.append({ ...recordOf(1), value: new Uint8Array(MAX_VALUE_BYTES + 1) }, tell('huge'));
    spool.append(recordOf(2), tell('last'));
    assert.deepEqual(told, [], 'never while append is running');
    await until(() => told.length === 3);
    assert.deepEqual(told, ['first durable', 'huge RECORD_TOO_LARGE', 'last durable']);
    await spool.close();
  });

  it('makes all that is queued durable by one fdatasync', async () => {
    const files = disk.restart();
    const spool = await opened({ files, segmentBytes: 2 ** 20 });
    const calls = counted(disk);
    await append(spool, recordsOf(500));
    assert.equal(calls.get('datasync'), 1);
    assert.equal(calls.get('write'), 1);
    await spool.close();
  });

  it('says durable only after the fdatasync', async () => {
    const spool = await opened({ files: disk.restart() });
    let synced = false;
    let told = false;
    disk.plan = (operation) => {
      if (operation === 'datasync') {
        assert.equal(told, false);
        synced = true;
      }
      return null;
    };
    await new Promise<void>((resolve) => {
      spool.append(recordOf(0), () => {
        told = true;
        assert.equal(synced, true);
        resolve();
      });
    });
    disk.plan = () => null;
    await spool.close();
  });

  it('commits at once when idle, however long the interval', async () => {
    const spool = await opened({ files: disk.restart(), commitIntervalMs: 60_000 });
    await append(spool, recordsOf(3));
    await spool.close();
  });

  it('starts commits at least the interval apart while busy', async () => {
    const commitIntervalMs = 40;
    const spool = await opened({ files: disk.restart(), commitIntervalMs });
    const starts: number[] = [];
    disk.plan = (operation) => {
      if (operation === 'write') starts.push(performance.now());
      return null;
    };
    const appendedMs = performance.now();
    for (let i = 0; i < 4; i++) await append(spool, recordsOf(1, i));
    assert.equal(starts.length, 4);
    assert.ok(starts[3]! - appendedMs >= 3 * commitIntervalMs - 5);
    disk.plan = () => null;
    await spool.close();
  });

  it('keeps values up to 16 MiB', async () => {
    const spool = await opened({ files: disk.restart(), segmentBytes: 2 ** 20 });
    const large = { ...recordOf(0), value: Buffer.alloc(MAX_VALUE_BYTES, 'abc') };
    await append(spool, [recordOf(1), large, recordOf(2)]);
    const records = await readEverything(readerOf({ spool, files: disk.restart() }));
    assert.equal(records.length, 3);
    assert.ok(Buffer.from(records[1]!.value).equals(large.value));
  });

  it('goes on where it was after a restart: offsets and the latest stamp', async () => {
    let spool = await opened({ files: disk.restart() });
    assert.equal(spool.lastReceivedMs, 0);
    await append(spool, recordsOf(10));
    await spool.close();
    for (const how of ['close', 'kill'] as const) {
      spool = await opened({ files: disk.restart() });
      const { endOffset } = spool.stats();
      assert.equal(spool.lastReceivedMs, recordOf(endOffset - 1).receivedMs);
      await append(spool, recordsOf(10, endOffset));
      if (how === 'kill') disk.crash('kill');
      await spool.close();
    }
    // Opened and closed without a record, the stamp and the end stay.
    await (await opened({ files: disk.restart() })).close();
    spool = await opened({ files: disk.restart() });
    assert.equal(spool.lastReceivedMs, recordOf(29).receivedMs);
    assert.equal(spool.stats().endOffset, 30);
    const records = await readEverything(readerOf({ spool, files: disk.restart() }));
    assert.deepEqual(
      records.map(({ offset }) => offset),
      records.map(numberOf),
    );
    assert.equal(records.length, 30);
  });

  it('never begins below a checkpoint, also when the segments are gone', async () => {
    let spool = await opened({ files: disk.restart() });
    await append(spool, recordsOf(10));
    const files = disk.restart();
    await commitAs(readerOf({ files }), 'rollup', 25);
    for (const path of disk.paths()) if (path.endsWith('.seg')) await files.remove(path);
    spool = await opened({ files: disk.restart() });
    assert.equal(spool.stats().endOffset, 25);
    await append(spool, recordsOf(1, 25));
    const records = await readEverything(readerOf({ spool, files: disk.restart() }), 25);
    assert.deepEqual(
      records.map(({ offset }) => offset),
      [25],
    );
  });

  it('makes files no longer than needed when it closes', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-spool-'));
    const spool = await opened({ folder, segmentBytes: 2 ** 20 });
    const segment = join(folder, '0000000000000000.seg');
    assert.equal((await stat(segment)).size, 2 ** 20, 'made ahead while it is written to');
    await append(spool, recordsOf(10));
    await spool.close();
    assert.ok((await stat(segment)).size < 4_096);
    assert.ok((await readdir(folder)).every((name) => !name.endsWith('.draft')));
    await rm(folder, { recursive: true });
  });

  it('refuses appends after close, and close waits for those before', async () => {
    const spool = await opened({ files: disk.restart() });
    const outcomes: Outcome[] = [];
    for (const record of recordsOf(20)) spool.append(record, (outcome) => outcomes.push(outcome));
    await spool.close();
    assert.equal(outcomes.filter(({ ok }) => ok).length, 20);
    const late = await spool.appendAll(recordsOf(1));
    assert.ok(!late.ok);
    assert.equal(late.failure.code, 'SPOOL_CLOSED');
  });

  it('does not open a folder that a newer version wrote', async () => {
    const spool = await opened({ files: disk.restart() });
    await append(spool, recordsOf(3));
    await spool.close();
    const { encodeHead } = await import('../../src/journal/segment.ts');
    const { crc32 } = await import('node:zlib');
    const head = encodeHead({ first: 0, previousFirst: 0, previousEnd: 0, previousBytes: 0, floorMs: 0 });
    head.writeUInt32LE(2, 12);
    head.writeUInt32LE(crc32(head.subarray(12)), 8);
    const [path] = disk.paths().filter((name) => name.endsWith('0.seg'));
    disk.content(path!).set(head);
    const outcome = await openSpool({
      folder: FOLDER,
      maxBytes: 1e6,
      segmentBytes: 1e4,
      historyBytes: 0,
      readers: [],
      clock: systemClock,
      telemetry: recorded().telemetry,
      files: disk.restart(),
    });
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.code, 'DATA_DAMAGED');
  });

  it('belongs to one process: another is told who has it, until that one is killed', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-spool-'));
    const fixture = new URL('./spool-fixture.ts', import.meta.url).href;
    const script = `
      const { opened, append, recordsOf } = await import(${JSON.stringify(fixture)});
      const spool = await opened({ folder: ${JSON.stringify(folder)} });
      await append(spool, recordsOf(5));
      console.log('durable');
      setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    await assert.rejects(opened({ folder }), new RegExp(`DATA_LOCKED.*process ${holder.pid}\\b`));
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const spool = await opened({ folder });
    assert.equal((await readEverything(readerOf({ spool, folder }))).length, 5);
    await spool.close();
    await rm(folder, { recursive: true });
  });
});

describe('the spool near its limit', () => {
  const limits = {
    maxBytes: 20_000,
    segmentBytes: 4_000,
    historyBytes: 0,
    readers: ['forward'],
    refreshIntervalMs: 20,
  };

  async function fill(spool: Spool): Promise<number> {
    for (let number = 0; ; number++) {
      const outcome = await spool.appendAll(recordsOf(1, number));
      if (outcome.ok) continue;
      assert.equal(outcome.failure.code, 'SPOOL_FULL');
      assert.equal(outcome.failure.retryable, true);
      return number;
    }
  }

  it('refuses what would exceed it, and accepts again by itself when the readers have caught up', async () => {
    const { telemetry, lines, metric } = recorded();
    const disk = new MemoryDisk(Math.random);
    const files = disk.restart();
    const spool = await opened({ files, telemetry, ...limits });
    const count = await fill(spool);
    const { bytes, limitBytes, healthy, failure, endOffset, backlog } = spool.stats();
    assert.ok(bytes <= limitBytes && bytes > limitBytes - 300, `${bytes} of ${limitBytes}`);
    assert.equal(healthy, false);
    assert.equal(failure?.code, 'SPOOL_FULL');
    assert.equal(endOffset, count, 'a refused append uses no offset');
    assert.deepEqual(backlog, { forward: count });
    assert.equal(await metric('millrace_spool_limit_bytes'), 20_000);
    await until(async () => (await metric('millrace_spool_backlog_records')) === count);

    const reader = readerOf({ spool, files });
    assert.equal((await readEverything(reader)).length, count);
    await commitAs(reader, 'forward', count, count);
    await until(() => spool.stats().healthy, 5_000, 'it accepts again without an append');
    assert.ok((await spool.appendAll(recordsOf(1, count))).ok);
    assert.deepEqual((await readEverything(reader, count)).map(numberOf), [count]);
    assert.deepEqual(
      lines.filter(({ level }) => level >= 30).map(({ level, msg }) => `${level} ${/full|has room/.exec(msg)?.[0]}`),
      ['50 full', '30 has room'],
    );
    await reader.close();
    await spool.close();
  });

  it('comes free also when all of it is one read segment', async () => {
    const files = new MemoryDisk(Math.random).restart();
    const spool = await opened({ files, ...limits, segmentBytes: 1e6 });
    const count = await fill(spool);
    const reader = readerOf({ spool, files });
    await commitAs(reader, 'forward', count, count);
    await until(() => spool.stats().healthy, 5_000, 'it accepts again');
    assert.ok((await spool.appendAll(recordsOf(1, count))).ok);
    await reader.close();
    await spool.close();
  });

  it('holds what a named reader still needs, and only that', async () => {
    const files = new MemoryDisk(Math.random).restart();
    const spool = await opened({ files, ...limits, maxBytes: 1e6, readers: ['forward', 'rollup'] });
    for (let i = 0; i < 10; i++) await append(spool, recordsOf(20, i * 20));
    const reader = readerOf({ spool, files });
    await commitAs(reader, 'somebody else', 0, 0);
    await commitAs(reader, 'forward', 200, 200);
    await spool.release();
    assert.equal(spool.stats().firstOffset, 0, 'rollup has not committed yet');
    await commitAs(reader, 'rollup', 90, 90);
    await spool.release();
    const { firstOffset } = spool.stats();
    assert.ok(firstOffset > 0 && firstOffset <= 90, `first offset ${firstOffset}`);
    assert.deepEqual((await readEverything(reader)).map(numberOf)[0], firstOffset);
    assert.deepEqual(spool.stats().backlog, { forward: 0, rollup: 110 });
    await reader.close();
    await spool.close();
  });

  it('keeps what was read as history, up to its limit', async () => {
    const files = new MemoryDisk(Math.random).restart();
    const historyBytes = 12_000;
    const spool = await opened({ files, ...limits, maxBytes: 1e6, historyBytes, readers: [] });
    for (let i = 0; i < 20; i++) await append(spool, recordsOf(20, i * 20));
    await spool.release();
    const { bytes, firstOffset } = spool.stats();
    assert.ok(bytes <= historyBytes && bytes > historyBytes - limits.segmentBytes - 500, `${bytes}`);
    assert.ok(firstOffset > 0);
    await spool.close();
  });

  it('refuses for good what is larger than it may ever be', async () => {
    const spool = await opened({ files: new MemoryDisk(Math.random).restart(), ...limits });
    const outcome = await spool.appendAll(recordsOf(1, 0, 30_000));
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.code, 'RECORD_TOO_LARGE');
    assert.equal(spool.stats().healthy, true);
    await spool.close();
  });
});

describe('the spool on a disk that fails', () => {
  for (const [error, code] of [
    ['ENOSPC', 'SPOOL_NO_SPACE'],
    ['EIO', 'SPOOL_IO'],
  ] as const) {
    for (const operation of ['write', 'datasync'] as const) {
      it(`stops at ${error} from ${operation}, refuses quickly, and recovers without a restart`, async () => {
        const { telemetry, lines, metric } = recorded();
        const disk = new MemoryDisk(Math.random);
        const files = disk.restart();
        const spool = await opened({ files, telemetry, segmentBytes: 2 ** 20, probeIntervalMs: 20 });
        await append(spool, recordsOf(10));
        let broken = true;
        let failures = 0;
        disk.plan = (called, path) => {
          if (!broken || called !== operation || path.includes('cursor')) return null;
          failures++;
          return { error };
        };
        const refused = await spool.appendAll(recordsOf(5, 10));
        assert.ok(!refused.ok);
        assert.equal(refused.failure.code, code);
        assert.equal(refused.failure.retryable, true);
        assert.equal(spool.stats().healthy, false);

        const before = failures;
        const quick = await Promise.all(recordsOf(100, 15).map((record) => spool.appendAll([record])));
        assert.ok(quick.every((outcome) => !outcome.ok && outcome.failure.code === code));
        assert.ok(failures - before <= 1, 'appends do not touch the disk while it is broken, a probe may');
        await until(() => failures >= 3, 5_000, 'it probes by itself');

        broken = false;
        await until(() => spool.stats().healthy, 5_000, 'it is healthy again without an append');
        await append(spool, recordsOf(10, 200));
        const records = await readEverything(readerOf({ spool, files }));
        const numbers = records.map(numberOf);
        assert.deepEqual(
          numbers.filter((number) => number < 10 || number >= 200),
          [...range(0, 10), ...range(200, 210)],
        );
        assert.deepEqual(
          numbers.filter((number) => number >= 10 && number < 200),
          [],
          'what failed is not in the log',
        );
        assert.ok(records[10]!.offset >= 15, 'offsets of what failed are not used again');
        assert.ok((await metric('millrace_spool_failures_total')) >= 3);
        assert.deepEqual(
          lines.filter(({ level }) => level >= 30).map(({ level }) => level),
          [50, 30],
        );
        await spool.close();
      });
    }
  }

  it('never syncs a descriptor again that has failed to', async () => {
    const disk = new MemoryDisk(Math.random);
    const files = disk.restart();
    const spool = await opened({ files, segmentBytes: 2 ** 20 });
    await append(spool, recordsOf(1));
    let failed = false;
    const synced: string[] = [];
    disk.plan = (operation, path) => {
      if (operation !== 'datasync') return null;
      if (failed) synced.push(path);
      if (failed) return null;
      failed = true;
      return { error: 'EIO' };
    };
    assert.ok(!(await spool.appendAll(recordsOf(1, 1))).ok);
    await until(() => spool.stats().healthy);
    await append(spool, recordsOf(1, 2));
    assert.ok(synced.length >= 2);
    assert.ok(!synced.includes(join(FOLDER, '0000000000000000.seg')), 'the first segment is left alone');
    disk.plan = () => null;
    await spool.close();
  });

  it('starts on a full disk and accepts when there is room', async () => {
    const disk = new MemoryDisk(Math.random);
    let spool = await opened({ files: disk.restart() });
    await append(spool, recordsOf(10));
    await spool.close();
    const files = disk.restart();
    let full = true;
    let failures = 0;
    disk.plan = (operation, path) => {
      if (!full || operation !== 'write' || !path.includes('draft')) return null;
      failures++;
      return { error: 'ENOSPC' };
    };
    spool = await opened({ files });
    assert.equal(spool.stats().failure?.code, 'SPOOL_NO_SPACE');
    assert.ok(!(await spool.appendAll(recordsOf(1, 10))).ok);
    const reader = readerOf({ spool, files });
    assert.equal((await readEverything(reader)).length, 10, 'what is there can be read');
    full = false;
    await until(() => spool.stats().healthy);
    await append(spool, recordsOf(1, 10));
    assert.equal((await readEverything(reader)).length, 11);
    assert.ok(failures > 0);
    await reader.close();
    await spool.close();
  });

  it('commits checkpoints on a full disk', async () => {
    const disk = new MemoryDisk(Math.random);
    const files = disk.restart();
    const spool = await opened({ files });
    await append(spool, recordsOf(10));
    const reader = readerOf({ spool, files });
    await commitAs(reader, 'forward', 3);
    const sizes = new Map(disk.paths().map((path) => [path, disk.content(path).length]));
    await commitAs(reader, 'forward', 7);
    for (const [path, size] of sizes) assert.equal(disk.content(path).length, size, `${path} did not grow`);
    assert.equal(disk.paths().length, sizes.size);
    await reader.close();
    await spool.close();
  });
});

/** Calls by operation from now on. */
function counted(disk: MemoryDisk): Map<Operation, number> {
  const calls = new Map<Operation, number>();
  disk.plan = (operation) => {
    calls.set(operation, (calls.get(operation) ?? 0) + 1);
    return null;
  };
  return calls;
}

interface Line {
  readonly level: number;
  readonly msg: string;
}

/** Telemetry whose log lines and numbers can be looked at. */
function recorded() {
  const lines: Line[] = [];
  const telemetry = new Telemetry(
    pino({ level: 'debug' }, { write: (text: string) => void lines.push(JSON.parse(text)) }),
  );
  const metric = async (name: string) => {
    const found = await telemetry.registry.getSingleMetric(name)!.get();
    return found.values.reduce((sum, { value }) => sum + value, 0);
  };
  return { telemetry, lines, metric };
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** The embedded store when the process, the disk or someone else does the wrong thing. */
import assert from 'node:assert/strict';
import {
  appendFile,
  type FileHandle,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { ManualClock, systemClock } from '../../src/clock.ts';
import type { Row } from '../../src/row.ts';
import { type EmbeddedOptions, openEmbeddedStore } from '../../src/store/embedded.ts';
import { sortRows } from '../../src/store/order.ts';
import type { OpenFile } from '../../src/store/rowfile.ts';
import type { Store } from '../../src/store/store.ts';
import { silentTelemetry, Telemetry } from '../../src/telemetry.ts';
import { assertSame } from '../contracts/store.ts';
import { collect, makeRow, T0 } from '../support/rows.ts';

const EVERYTHING = { stream: 'environment', window: '10s', fromMs: 0, toMs: T0 * 2 };
const FILE = join('10s', `${T0}-0.rows`);

describe('the embedded store when things go wrong', () => {
  const folders: string[] = [];
  const stores: Store[] = [];
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
  });

  async function newFolder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-rows-'));
    folders.push(folder);
    return folder;
  }

  function openStore(folder: string, options: Partial<EmbeddedOptions> = {}): Store {
    const store = openEmbeddedStore({
      folder,
      maxBytes: 2 ** 30,
      telemetry: silentTelemetry(),
      clock: systemClock,
      ...options,
    });
    stores.push(store);
    return store;
  }

  const readAll = (folder: string, options?: Partial<EmbeddedOptions>) =>
    collect(openStore(folder, { readOnly: true, ...options }).read(EVERYTHING));

  async function write(store: Store, rows: readonly Row[]): Promise<void> {
    assert.deepEqual(await store.write(rows), { ok: true, value: { refused: [] } });
  }

  /** A folder with `counts.length` appends, and the file's size after each. */
  async function withAppends(counts: readonly number[]) {
    const folder = await newFolder();
    const store = openStore(folder);
    const appends: Row[][] = [];
    const sizes: number[] = [];
    let next = 0;
    for (const count of counts) {
      const rows = Array.from({ length: count }, () => {
        const i = next++;
        return makeRow({ startMs: T0 + i * 10_000, tags: { device: `d${i % 3}` } });
      });
      await write(store, rows);
      appends.push(rows);
      sizes.push((await stat(join(folder, FILE))).size);
    }
    await store.close();
    return { folder, appends, sizes };
  }

  it('has every acknowledged row, and no other, after a crash at any byte of the last append', async function () {
    this.timeout(30_000);
    const { folder, appends, sizes } = await withAppends([40, 2, 3]);
    const acknowledged = appends.slice(0, 2).flat();
    const added = makeRow({ startMs: T0 + 3_000_000, tags: { device: 'new' } });
    const whole = await readFile(join(folder, FILE));
    for (let length = sizes[1]!; length < whole.length; length++) {
      await writeFile(join(folder, FILE), whole.subarray(0, length));
      assertSame(await readAll(folder), acknowledged);
      const store = openStore(folder);
      await write(store, [added]);
      assertSame(await readAll(folder), [...acknowledged, added]);
      await store.close();
      const kept = await readFile(join(folder, FILE));
      assert.deepEqual(kept.subarray(0, sizes[1]), whole.subarray(0, sizes[1]));
    }
  });

  it('has every acknowledged row, and none with wrong numbers, when any byte of the last append was not what was written', async function () {
    this.timeout(30_000);
    const { folder, appends, sizes } = await withAppends([40, 2, 3]);
    const acknowledged = appends.slice(0, 2).flat();
    const whole = await readFile(join(folder, FILE));
    for (let at = sizes[1]!; at < whole.length; at++) {
      const flipped = Buffer.from(whole);
      flipped[at]! ^= 1 << (at % 8);
      await writeFile(join(folder, FILE), flipped);
      assertSame(await readAll(folder), acknowledged);
      const store = openStore(folder);
      await write(store, appends[2]!);
      assertSame(await readAll(folder), appends.flat());
      await store.close();
    }
  });

  it('reads what is left, says so, and goes on appending, when a block in the middle is damaged', async () => {
    const { folder, appends, sizes } = await withAppends([10, 40, 5, 5]);
    const messages: string[] = [];
    const log = pino({ level: 'error' }, { write: (line: string) => void messages.push(JSON.parse(line).msg) });
    const path = join(folder, FILE);
    const whole = await readFile(path);
    for (const [at, lost] of [
      [sizes[0]!, 40],
      [sizes[0]! + 20, 40],
      [sizes[1]! - 1, 8],
    ] as const) {
      const flipped = Buffer.from(whole);
      flipped[at]! ^= 0xff;
      await writeFile(path, flipped);
      messages.length = 0;
      const left = await readAll(folder, { telemetry: new Telemetry(log) });
      assert.equal(left.length, 60 - lost);
      assert.deepEqual(messages, ['a file of rows is damaged; rows are missing']);
      const store = openStore(folder, { telemetry: new Telemetry(log) });
      await write(store, appends[1]!);
      assert.deepEqual(messages, Array(2).fill('a file of rows is damaged; rows are missing'));
      assertSame(await readAll(folder), appends.flat());
      await store.close();
    }
  });

  it('starts with a file that is empty or is not one of rows', async () => {
    for (const content of ['', 'MRB1', 'x'.repeat(5_000), 'MRB1'.repeat(3_000)]) {
      const folder = await newFolder();
      const row = makeRow();
      const first = openStore(folder);
      await first.prepare([{ stream: row.stream, window: { label: '10s', sizeMs: 10_000, everyMs: 10_000 } }]);
      await writeFile(join(folder, FILE), content);
      await writeFile(join(folder, '10s', 'notes.txt'), 'not ours');
      assert.deepEqual(await readAll(folder), []);
      await write(first, [row]);
      assertSame(await readAll(folder), [row]);
    }
  });

  it('is durable when it says so: nothing acknowledged is lost when the power fails after any write', async () => {
    const lost = await powerFailures((disk) => disk.openFile);
    assert.deepEqual(lost, { powerFailures: 25, unsyncedBytes: 0, rows: 0 });
  });

  it('would be caught by that test if it acknowledged without forcing rows to the disk', async () => {
    const careless: (disk: ForgetfulDisk) => OpenFile = (disk) => async (path, flags) =>
      wrap(await disk.openFile(path, flags), { datasync: async () => {} });
    const lost = await powerFailures(careless);
    assert.equal(lost.powerFailures, 25);
    assert(lost.unsyncedBytes > 0 && lost.rows > 0, JSON.stringify(lost));
  });

  /** Rows acknowledged and then gone, over many writes that a power failure follows. */
  async function powerFailures(openFileOf: (disk: ForgetfulDisk) => OpenFile) {
    const folder = await newFolder();
    const acknowledged: Row[] = [];
    const lost = { powerFailures: 0, unsyncedBytes: 0, rows: 0 };
    for (let i = 0; i < 25; i++) {
      const disk = new ForgetfulDisk();
      const store = openStore(folder, { openFile: openFileOf(disk) });
      for (let k = 0; k <= i % 3; k++) {
        const row = makeRow({ startMs: T0 + i * 10_000, tags: { device: `d${k}` } });
        await write(store, [row]);
        acknowledged.push(row);
      }
      lost.unsyncedBytes += disk.unsyncedBytes;
      lost.powerFailures++;
      stores.splice(stores.indexOf(store), 1);
      await disk.failPower();
    }
    lost.rows = acknowledged.length - (await readAll(folder)).length;
    return lost;
  }

  for (const [call, code] of [
    ['write', 'ENOSPC'],
    ['write', 'EIO'],
    ['datasync', 'EIO'],
    ['open', 'ENOSPC'],
    ['open', 'EMFILE'],
  ] as const) {
    it(`says STORE_IO while ${call} fails with ${code}, heals by itself, and has exactly the rows it acknowledged`, async () => {
      const folder = await newFolder();
      const disk = new FailingDisk();
      const telemetry = silentTelemetry();
      const store = openStore(folder, { openFile: disk.openFile, telemetry });
      const rows = Array.from({ length: 12 }, (_, i) => makeRow({ startMs: T0 + (i % 2) * 3_600_000 + i * 10_000 }));
      await write(store, call === 'open' ? [] : rows.slice(0, 4));
      disk.fails = { call, code, afterBytes: 30 };
      for (let i = 0; i < 5; i++) {
        const outcome = await store.write(rows);
        assert(
          !outcome.ok && outcome.failure.code === 'STORE_IO' && outcome.failure.retryable,
          JSON.stringify(outcome),
        );
        assert.match(outcome.failure.message, code === 'ENOSPC' ? /no space left/ : new RegExp(code));
        assert.equal((await store.health()).ok, false);
      }
      assert.equal(disk.failures >= 5, true);
      assert.equal(await total(telemetry, 'millrace_store_failures_total'), 5);
      const files = (await readdir(join(folder, '10s'))).length;
      assert(files <= 4, `${files} files after five failures`);
      disk.fails = null;
      await write(store, rows);
      assert.equal((await store.health()).ok, true);
      assertSame(await readAll(folder), sortRows(rows));
      await store.close();
      // And so it is for the next process.
      const again = openStore(folder);
      await write(again, [makeRow({ startMs: T0 + 7_200_000 })]);
      assert.equal((await readAll(folder)).length, 13);
    });
  }

  it('never appends to a file again after its fdatasync failed', async () => {
    const folder = await newFolder();
    const disk = new FailingDisk();
    const store = openStore(folder, { openFile: disk.openFile });
    const [first, second, third] = [0, 1, 2].map((i) => makeRow({ startMs: T0 + i * 10_000 }));
    await write(store, [first!]);
    disk.fails = { call: 'datasync', code: 'EIO', afterBytes: 30 };
    assert.equal((await store.write([second!])).ok, false);
    disk.fails = null;
    const before = await readFile(join(folder, FILE));
    await write(store, [second!]);
    await write(store, [third!]);
    assert.deepEqual(await readFile(join(folder, FILE)), before);
    assert.deepEqual(await readdir(join(folder, '10s')), [`${T0}-0.rows`, `${T0}-1.rows`]);
    assertSame(await readAll(folder), [first!, second!, third!]);
  });

  it('loses no acknowledged row when someone deletes its files while it runs', async () => {
    const folder = await newFolder();
    const store = openStore(folder);
    await write(store, [makeRow()]);
    await rm(join(folder, '10s'), { recursive: true });
    const row = makeRow({ startMs: T0 + 10_000 });
    const outcome = await store.write([row]);
    assert(!outcome.ok && outcome.failure.retryable);
    assert.match(outcome.failure.message, /deleted by someone else/);
    await write(store, [row]);
    assertSame(await readAll(folder), [row]);
  });

  it('stays below maxBytes by deleting the oldest files of the window size that uses most', async function () {
    this.timeout(30_000);
    const folder = await newFolder();
    const maxBytes = 600_000;
    const store = openStore(folder, { maxBytes });
    for (let hour = 0; hour < 30; hour++) {
      const startMs = T0 + hour * 3_600_000;
      const fine = Array.from({ length: 600 }, (_, i) =>
        makeRow({ startMs: startMs + (i % 6) * 10_000, tags: { device: `d${i}` } }),
      );
      await write(store, fine);
      await write(store, [makeRow({ startMs, window: '1h' })]);
      assert((await diskBytes(folder)) <= maxBytes, `${await diskBytes(folder)} bytes`);
    }
    const fine = await readAll(folder);
    const newest = T0 + 29 * 3_600_000;
    assert.equal(fine.filter((row) => row.startMs >= newest).length, 600);
    assert(fine[0]!.startMs > T0 + 3_600_000, 'nothing was deleted');
    // Without a gap: the oldest went first.
    assert.equal(fine.length % 600, 0);
    assert.equal(fine.length, ((newest - fine[0]!.startMs) / 3_600_000 + 1) * 600);
    const coarse = await collect(openStore(folder, { readOnly: true }).read({ ...EVERYTHING, window: '1h' }));
    assert.equal(coarse.length, 30);
  });

  it('stays below maxBytes also when all rows are of one hour', async () => {
    const folder = await newFolder();
    const maxBytes = 400_000;
    const store = openStore(folder, { maxBytes });
    for (let i = 0; i < 40; i++) {
      const rows = Array.from({ length: 300 }, (_, d) =>
        makeRow({ startMs: T0 + i * 10_000, tags: { device: `d${d}` } }),
      );
      await write(store, rows);
      assert((await diskBytes(folder)) <= maxBytes, `${await diskBytes(folder)} bytes`);
    }
    const rows = await readAll(folder);
    assert(rows.length >= 600 && rows.length < 12_000, `${rows.length} rows`);
    assert.equal(rows.at(-1)!.startMs, T0 + 39 * 10_000);
  });

  it('reads an hour that is spread over many files, the newest value of each row', async () => {
    const folder = await newFolder();
    const store = openStore(folder, { maxBytes: 4_000_000 });
    const rowsOf = (i: number, rev: number) =>
      Array.from({ length: 1_500 }, (_, d) => makeRow({ startMs: T0 + i * 10_000, rev, tags: { device: `d${d}` } }));
    const newest = new Map<number, Row[]>();
    for (let k = 0; k < 24; k++) {
      const rows = rowsOf(k % 8, k);
      await write(store, rows);
      newest.set(k % 8, rows);
    }
    const files = await readdir(join(folder, '10s'));
    assert(files.length > 8, `${files.length} files`);
    assertSame(await readAll(folder), sortRows([...newest.values()].flat()));
    const one = openStore(folder, { readOnly: true }).read({ ...EVERYTHING, tags: { device: 'd77' } });
    assertSame(await collect(one), sortRows([...newest.values()].map((rows) => rows[77]!)));
  });

  it('shows a reader each acknowledged row while it is written, in order and once', async () => {
    const folder = await newFolder();
    const store = openStore(folder);
    const reader = openStore(folder, { readOnly: true });
    const rows = Array.from({ length: 400 }, (_, i) =>
      makeRow({ startMs: T0 + Math.floor(i / 2) * 10_000, tags: { device: `d${i % 2}` } }),
    );
    let acknowledged = 0;
    let reads = 0;
    const writing = (async () => {
      for (; acknowledged < rows.length; acknowledged += 2)
        await write(store, rows.slice(acknowledged, acknowledged + 2));
    })();
    const readers = [0, 1, 2].map(async () => {
      while (acknowledged < rows.length) {
        const least = acknowledged;
        const seen = await collect(reader.read(EVERYTHING));
        assert(seen.length >= least, `${seen.length} rows seen, ${least} acknowledged before`);
        assertSame(seen, rows.slice(0, seen.length));
        reads++;
      }
    });
    await Promise.all([writing, ...readers]);
    assert(reads > 10, `${reads} reads`);
  });

  it('does not show a reader bytes that a crash left and the writer wrote over', async () => {
    const { folder, appends, sizes } = await withAppends([5, 5]);
    const path = join(folder, FILE);
    const reader = openStore(folder, { readOnly: true });
    await appendFile(path, (await readFile(path)).subarray(sizes[0]!, sizes[1]! - 1));
    assertSame(await collect(reader.read(EVERYTHING)), appends.flat());
    const store = openStore(folder);
    const changed = appends[1]!.map((row) => ({ ...row, rev: 1 }));
    assert((await store.replace(changed)).ok);
    assertSame(await collect(reader.read(EVERYTHING)), [...appends[0]!, ...changed]);
    // A reader that knows blocks which are not there any more, as after a lost disk cache.
    await truncate(path, sizes[0]!);
    const other = makeRow({ startMs: T0 + 50_000, tags: { device: 'other' } });
    await store.close();
    await write(openStore(folder), [other]);
    await collect(reader.read(EVERYTHING));
    assertSame(await collect(reader.read(EVERYTHING)), [...appends[0]!, other]);
  });

  it('forgets running values that are an hour old or final, and keeps none over a restart of the writer', async () => {
    const folder = await newFolder();
    const clock = new ManualClock();
    const store = openStore(folder, { clock });
    const running = () => collect(openStore(folder, { readOnly: true }).readRunning(EVERYTHING));
    const [a, b, c] = [0, 1, 2].map((i) => makeRow({ startMs: T0 + i * 10_000 }));
    await store.running([a!, b!]);
    assertSame(await running(), [a!, b!]);
    await write(store, [a!]);
    await store.running([c!]);
    assertSame(await running(), [b!, c!]);
    clock.advance(3_600_001);
    await store.running([{ ...c!, count: 9 }]);
    assertSame(await running(), [{ ...c!, count: 9 }]);
    await openStore(folder, { clock }).running([a!]);
    assertSame(await running(), [a!]);
  });

  it('refuses to write when it was opened for reading, and makes nothing', async () => {
    const folder = await newFolder();
    const store = openStore(join(folder, 'rows'), { readOnly: true });
    for (const outcome of [
      await store.write([makeRow()]),
      await store.replace([makeRow()]),
      await store.running([makeRow()]),
    ]) {
      assert(!outcome.ok && !outcome.failure.retryable);
    }
    assert.deepEqual(await collect(store.read(EVERYTHING)), []);
    assert((await store.health()).ok);
    assert.deepEqual(await readdir(folder), []);
  });

  it('finishes what is under way when it is closed, and takes nothing more', async () => {
    const folder = await newFolder();
    const store = openStore(folder);
    const rows = Array.from({ length: 20 }, (_, i) => makeRow({ startMs: T0 + i * 10_000 }));
    const under = store.write(rows);
    await store.close();
    assert((await under).ok);
    const after = await store.write(rows);
    assert(!after.ok && after.failure.code === 'STOPPED');
    assertSame(await readAll(folder), rows);
  });
});

async function total(telemetry: Telemetry, name: string): Promise<number> {
  const metric = await telemetry.registry.getSingleMetric(name)!.get();
  return metric.values.reduce((sum, { value }) => sum + value, 0);
}

async function diskBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(folder, { recursive: true })) {
    const { size, isFile } = await stat(join(folder, name)).then((s) => ({ size: s.size, isFile: s.isFile() }));
    if (isFile) bytes += size;
  }
  return bytes;
}

/** The handle, with some of its methods replaced. */
function wrap(handle: FileHandle, methods: Partial<FileHandle>): FileHandle {
  return new Proxy(handle, {
    get(target, name) {
      const own = methods[name as keyof FileHandle];
      if (own !== undefined) return own;
      const value = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Keeps what is written in memory until it is forced to the disk; a power failure forgets the rest. */
class ForgetfulDisk {
  readonly #handles: FileHandle[] = [];
  unsyncedBytes = 0;

  readonly openFile: OpenFile = async (path, flags) => {
    const handle = await open(path, flags);
    this.#handles.push(handle);
    let pending: { bytes: Buffer; position: number }[] = [];
    return wrap(handle, {
      write: (async (bytes: Buffer, offset: number, length: number, position: number) => {
        pending.push({ bytes: Buffer.from(bytes.subarray(offset, offset + length)), position });
        this.unsyncedBytes += length;
        return { bytesWritten: length, buffer: bytes };
      }) as unknown as FileHandle['write'],
      datasync: async () => {
        for (const { bytes, position } of pending) {
          await handle.write(bytes, 0, bytes.length, position);
          this.unsyncedBytes -= bytes.length;
        }
        pending = [];
      },
    });
  };

  async failPower(): Promise<void> {
    for (const handle of this.#handles) await handle.close();
  }
}

/** Fails one kind of call while told to; a failing write first writes a part. */
class FailingDisk {
  fails: { call: 'open' | 'write' | 'datasync'; code: string; afterBytes: number } | null = null;
  failures = 0;

  readonly openFile: OpenFile = async (path, flags) => {
    if (flags !== 'r') this.#fail('open');
    const handle = await open(path, flags);
    return wrap(handle, {
      write: (async (bytes: Buffer, offset: number, length: number, position: number) => {
        // Short writes are allowed always, and come before the failure.
        const part = Math.min(length, this.fails?.afterBytes ?? Math.ceil(length / 2));
        if (this.fails?.call === 'write' && position >= (await handle.stat()).size + 1) this.#fail('write');
        const written = await handle.write(bytes, offset, part, position);
        if (this.fails?.call === 'write') this.#fail('write');
        return written;
      }) as unknown as FileHandle['write'],
      datasync: async () => {
        this.#fail('datasync');
        await handle.datasync();
      },
    });
  };

  #fail(call: string): void {
    if (this.fails?.call !== call) return;
    this.failures++;
    throw Object.assign(new Error(`${this.fails.code}: injected`), { code: this.fails.code });
  }
}

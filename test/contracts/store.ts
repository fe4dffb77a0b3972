/**
 * What every store must do, as said in `src/store/store.ts`. Each implementation calls `storeContract` in its own test
 * file. Streams have names of their own, so that a shared server needs no clearing between tests.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Row, RowQuery } from '../../src/row.ts';
import type { Score } from '../../src/scored.ts';
import { placeOf, sortRows } from '../../src/store/order.ts';
import type { Store } from '../../src/store/store.ts';
import { parseWindow } from '../../src/stream.ts';
import { collect, makeRow, rowArbitrary, T0 } from '../support/rows.ts';

export interface StoreSubject {
  /** A store with nothing in it, opened for writing, with these windows prepared: 10s, 1m, 5m_1m. */
  readonly store: Store;
  /** The same data through another object, as another thread or process has it. */
  readonly reader: Store;
  release(): Promise<void>;
}

export const CONTRACT_WINDOWS = ['10s', '1m', '5m_1m'].map((label) => parseWindow(label)!);

export function storeContract(title: string, open: (context: Mocha.Context) => Promise<StoreSubject>): void {
  describe(title, () => {
    let store: Store;
    let reader: Store;
    let release: (() => Promise<void>) | undefined;
    let streams = 0;

    before(async function () {
      const subject = await open(this);
      ({ store, reader } = subject);
      release = () => subject.release();
      const prepared = await store.prepare(CONTRACT_WINDOWS.map((window) => ({ stream: 'any', window })));
      assert.deepEqual(prepared, { ok: true, value: undefined });
    });
    after(async () => release?.());

    const newStream = () => `stream-${++streams}`;
    const all = (stream: string, more: Partial<RowQuery> = {}): RowQuery => ({
      stream,
      window: '10s',
      fromMs: 0,
      toMs: T0 * 2,
      ...more,
    });
    const rowsOf = (stream: string, more?: Partial<RowQuery>) => collect(reader.read(all(stream, more)));
    const written = { ok: true, value: { refused: [] } };
    const write = async (rows: readonly Row[]) => assert.deepEqual(await store.write(rows), written);
    const replace = async (rows: readonly Row[]) => assert.deepEqual(await store.replace(rows), written);

    it('gives back the rows that were written, bit for bit, whatever their names and numbers', async function () {
      this.timeout(60_000);
      await fc.assert(
        fc.asyncProperty(fc.array(rowArbitrary('x'), { minLength: 1, maxLength: 25 }), async (generated) => {
          const stream = newStream();
          const rows = [...new Map(generated.map((row) => [placeOf(row), { ...row, stream }])).values()];
          await write(rows);
          for (const window of ['10s', '1m']) {
            const expected = sortRows(rows.filter((row) => row.window === window));
            assertSame(await rowsOf(stream, { window }), expected);
          }
          const [picked] = rows;
          const narrowed = { window: picked!.window, metric: picked!.metric, tags: picked!.tags };
          const matching = rows.filter((row) => matches(row, narrowed));
          assertSame(await rowsOf(stream, narrowed), sortRows(matching));
        }),
        { numRuns: 40 },
      );
    });

    it('keeps a row whose stream has a hostile name', async () => {
      for (const [i, name] of ['#a', 'a b,c=d', 'a"b\\', "it's", 'é😀', '%', 'a\nb', ' '].entries()) {
        const row = makeRow({ stream: name, startMs: T0 + i * 10_000 });
        await write([row]);
        assertSame(await rowsOf(name), [row]);
        await replace([{ ...row, rev: 1 }]);
        assertSame(await rowsOf(name), [{ ...row, rev: 1 }]);
      }
    });

    it('changes nothing when the same rows are written again, in any order and grouping', async () => {
      const stream = newStream();
      const rows = series(stream, 30);
      await write(rows);
      await write(rows.slice(20));
      await write([...rows].reverse());
      await write([rows[3]!, rows[3]!]);
      assertSame(await rowsOf(stream), rows);
    });

    it('replaces a row, and no other row of any series, start, window or stream', async () => {
      const stream = newStream();
      const startMs = T0 + 60_000;
      const place = { stream, startMs, tags: { device: 'd1', site: 'a' } };
      const target = makeRow(place);
      const neighbours = [
        makeRow({ ...place, startMs: startMs - 10_000 }),
        makeRow({ ...place, startMs: startMs + 10_000 }),
        makeRow({ ...place, metric: 'humidity' }),
        makeRow({ ...place, metric: '' }),
        makeRow({ ...place, tags: { device: 'd1' } }),
        makeRow({ ...place, tags: { site: 'a' } }),
        makeRow({ ...place, tags: {} }),
        makeRow({ ...place, tags: { device: 'd1', site: 'a', room: 'r' } }),
        makeRow({ ...place, tags: { device: 'd1', site: 'a', room: '' } }),
        makeRow({ ...place, tags: { device: 'd1', site: 'b' } }),
        makeRow({ ...place, window: '1m' }),
        makeRow({ ...place, window: '5m_1m' }),
        makeRow({ ...place, stream: `${stream}-other` }),
      ];
      await write([target, ...neighbours]);
      for (const rev of [1, 2]) {
        const changed = makeRow({ ...place, rev, count: 7 + rev });
        await replace([changed]);
        const now = [changed, ...neighbours];
        for (const [name, window] of [
          [stream, '10s'],
          [stream, '1m'],
          [stream, '5m_1m'],
          [`${stream}-other`, '10s'],
        ]) {
          const expected = now.filter((row) => row.stream === name && row.window === window);
          assertSame(await rowsOf(name!, { window }), sortRows(expected));
        }
      }
      const bare = makeRow({ ...place, metric: '', tags: {}, count: 1 });
      await replace([bare, makeRow({ ...place, tags: {}, rev: 3 })]);
      const expected = [
        makeRow({ ...place, rev: 2, count: 9 }),
        ...neighbours.filter((row) => Object.keys(row.tags).length > 0),
        bare,
        makeRow({ ...place, tags: {}, rev: 3 }),
      ];
      assertSame(
        await rowsOf(stream),
        sortRows(expected.filter((row) => row.stream === stream && row.window === '10s')),
      );
    });

    it('replaces many rows at once, with gaps between them, and adds those that were not there', async () => {
      const stream = newStream();
      const rows = series(stream, 60);
      await write(rows.slice(0, 50));
      const changed = rows.filter((_, i) => i % 7 < 3 || i >= 50).map((row) => ({ ...row, rev: 1, max: 1e9 }));
      await replace(changed);
      const byPlace = new Map([...rows, ...changed].map((row) => [placeOf(row), row]));
      assertSame(await rowsOf(stream), [...byPlace.values()]);
    });

    it('reads by start, then metric, then series name', async () => {
      const stream = newStream();
      const rows: Row[] = [];
      for (const startMs of [T0 + 20_000, T0, T0 + 10_000]) {
        for (const metric of ['b', '', 'a', 'B']) {
          for (const device of ['d2', 'd10', 'D', 'd1'])
            rows.push(makeRow({ stream, startMs, metric, tags: { device } }));
        }
      }
      await write(rows);
      const order = (await rowsOf(stream)).map((row) => [row.startMs - T0, row.metric, row.tags.device].join());
      assert.equal(order.length, 48);
      assert.deepEqual(order.slice(0, 9), [
        '0,,D',
        '0,,d1',
        '0,,d10',
        '0,,d2',
        '0,B,D',
        '0,B,d1',
        '0,B,d10',
        '0,B,d2',
        '0,a,D',
      ]);
      assert.deepEqual(order.slice(-2), ['20000,b,d10', '20000,b,d2']);
    });

    it('reads from fromMs up to but without toMs', async () => {
      const stream = newStream();
      await write(series(stream, 10));
      const starts = async (fromMs: number, toMs: number) =>
        (await rowsOf(stream, { fromMs, toMs })).map((row) => (row.startMs - T0) / 10_000);
      assert.deepEqual(await starts(T0 + 20_000, T0 + 50_000), [2, 3, 4]);
      assert.deepEqual(await starts(T0 + 20_001, T0 + 50_001), [3, 4, 5]);
      assert.deepEqual(await starts(T0 + 50_000, T0 + 50_000), []);
      assert.deepEqual(await starts(T0 + 90_000, Number.MAX_SAFE_INTEGER), [9]);
      assert.deepEqual(await starts(-Infinity, T0 + 1), [0]);
    });

    it('reads only rows with the given tags and metric', async () => {
      const stream = newStream();
      const tags: Record<string, string>[] = [
        { device: 'd1', site: 'a' },
        { device: 'd1', site: 'b' },
        { device: 'd2', site: 'a' },
        { device: 'd1' },
        { device: 'd1', site: '' },
      ];
      const rows = tags.flatMap((t) => [
        makeRow({ stream, tags: t }),
        makeRow({ stream, tags: t, metric: 'humidity' }),
      ]);
      await write(rows);
      const queries: Partial<RowQuery>[] = [
        { metric: 'humidity' },
        { tags: { device: 'd1' } },
        { tags: { site: 'a', device: 'd1' } },
        { tags: { site: '' } },
        { tags: { site: 'a' }, metric: 'temperature' },
        { metric: '' },
        { tags: { nowhere: 'x' } },
        { metric: 'nothing' },
        { tags: {} },
      ];
      for (const wanted of queries) {
        assertSame(await rowsOf(stream, wanted), sortRows(rows.filter((row) => matches(row, wanted))));
      }
    });

    it('reads the newest rows, in ascending order, when there is a limit', async () => {
      const stream = newStream();
      const rows = sortRows(series(stream, 400).flatMap((row) => [row, { ...row, metric: 'humidity' }]));
      await write(rows);
      for (const limit of [0, 1, 2, 3, 10, 799, 800, 5_000]) {
        assertSame(await rowsOf(stream, { limit }), limit === 0 ? [] : rows.slice(-limit));
      }
      const before = { toMs: T0 + 1_000_000, limit: 3 };
      assertSame(await rowsOf(stream, before), rows.filter((row) => row.startMs < before.toMs).slice(-3));
    });

    it('reads nothing where nothing was written', async () => {
      assert.deepEqual(await rowsOf(newStream()), []);
      assert.deepEqual(await rowsOf(newStream(), { limit: 5 }), []);
    });

    it('reads rows that lie years apart', async () => {
      const stream = newStream();
      const rows = [0, 86_400_000, T0 - 86_400_000 * 400, T0].map((startMs) => makeRow({ stream, startMs }));
      await write(rows);
      assertSame(await rowsOf(stream), rows);
      assertSame(await rowsOf(stream, { limit: 3 }), rows.slice(1));
    });

    it('takes and gives thousands of rows in one call', async function () {
      this.timeout(30_000);
      const stream = newStream();
      const rows: Row[] = [];
      for (let i = 0; i < 40; i++) {
        for (let d = 0; d < 150; d++)
          rows.push(makeRow({ stream, startMs: T0 + i * 10_000, tags: { device: `d${d}` } }));
      }
      await write(rows);
      assertSame(await rowsOf(stream), sortRows(rows));
    });

    it('takes writes of several callers at once', async () => {
      const stream = newStream();
      const rows = series(stream, 200);
      await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map((part) => write(rows.filter((_, i) => i % 8 === part))));
      assertSame(await rowsOf(stream), rows);
    });

    it('refuses rows that cannot be kept, each with a reason, and keeps all others', async () => {
      const stream = newStream();
      const good = series(stream, 5);
      const base = makeRow({ stream, startMs: T0 + 990_000 });
      const bad: [Row, RegExp][] = [
        [{ ...base, sum: Number.NaN }, /sum is NaN/],
        [{ ...base, max: Number.POSITIVE_INFINITY }, /max is Infinity/],
        [{ ...base, count: 1.5 }, /count is 1.5/],
        [{ ...base, missing: -1 }, /missing is -1/],
        [{ ...base, window: 'soon' }, /"soon" is not the label/],
        [{ ...base, endMs: base.endMs + 1 }, /ends at/],
        [{ ...base, startMs: 0.5 }, /window start 0.5/],
        [{ ...base, tags: { device: 'x'.repeat(20_000) } }, /20\d{3} bytes long/],
      ];
      const rows = [good[0]!, ...bad.map(([row]) => row), ...good.slice(1)];
      for (const outcome of [await store.write(rows), await store.replace(rows)]) {
        assert(outcome.ok);
        assert.deepEqual(
          outcome.value.refused.map(({ row }) => row),
          bad.map(([row]) => row),
        );
        for (const [i, { reason }] of outcome.value.refused.entries()) assert.match(reason, bad[i]![1]);
        assertSame(await rowsOf(stream), good);
      }
    });

    it('stops waiting when the signal aborts, and takes the same rows afterwards', async () => {
      const stream = newStream();
      const rows = series(stream, 50);
      for (const call of ['write', 'replace'] as const) {
        const before = await store[call](rows, AbortSignal.abort());
        assert(!before.ok && before.failure.code === 'STOPPED' && before.failure.retryable, JSON.stringify(before));
        const controller = new AbortController();
        const during = store[call](rows, controller.signal);
        controller.abort();
        const outcome = await during;
        assert(outcome.ok || outcome.failure.code === 'STOPPED');
        await replace(rows);
        assertSame(await rowsOf(stream), rows);
      }
    });

    it('keeps running values apart from rows', async () => {
      const stream = newStream();
      // InfluxDB keeps them for an hour: they have to be of now.
      const startMs = Date.now() - (Date.now() % 10_000);
      const mine = { stream, window: '10s', fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };
      const open = [makeRow({ stream, startMs, count: 1 }), makeRow({ stream, startMs, metric: 'humidity' })];
      assert((await store.running(open)).ok);
      assert((await store.running([])).ok);
      assertSame(await collect(reader.readRunning(mine)), sortRows(open));
      assert.deepEqual(await collect(reader.read(mine)), []);
      const later = makeRow({ stream, startMs: startMs + 10_000, count: 2 });
      assert((await store.running([later])).ok);
      const seen = await collect(reader.readRunning({ ...mine, metric: 'temperature', limit: 1 }));
      assertSame(seen, [later]);
    });

    it('keeps scores apart from rows, by series, each with every bit', async () => {
      const stream = newStream();
      const score = (startMs: number, parts: Partial<Score> = {}): Score => ({
        ...{ stream, metric: 'temperature', window: '10s', startMs, tags: { device: 'd1' } },
        ...{ value: 0.1 + 0.2, expected: 1 / 3, low: -1e-140, high: 1e150, distance: 5e-324, score: 1.02, alarm: true },
        ...parts,
      });
      const mine = [
        score(T0),
        score(T0 + 10_000, { expected: null, low: null, high: null, score: null, alarm: false, value: -2.5 }),
        score(T0 + 20_000, { alarm: false, distance: 0, score: 0 }),
      ];
      const others = [
        score(T0, { tags: { device: 'd2', value: 'a tag named as a field', score: 'x, y=z' } }),
        score(T0, { metric: 'humidity' }),
        score(T0, { metric: '' }),
        score(T0, { window: '1m' }),
      ];
      assert.deepEqual(await store.writeScores([...mine, ...others]), { ok: true, value: undefined });
      assert.deepEqual(await store.writeScores(mine), { ok: true, value: undefined });
      assert.deepEqual(await store.writeScores([]), { ok: true, value: undefined });
      const query = { stream, window: '10s', fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };
      const ofSeries = { ...query, metric: 'temperature', tags: { device: 'd1' } };
      assert.deepEqual(await collect(reader.readScores(ofSeries)), mine);
      assert.deepEqual(await collect(reader.readScores({ ...ofSeries, limit: 2 })), mine.slice(1));
      assert.deepEqual(await collect(reader.readScores({ ...ofSeries, fromMs: T0 + 1, toMs: T0 + 20_000 })), [mine[1]]);
      const byName = (a: Score, b: Score) => (nameOf(a) < nameOf(b) ? -1 : 1);
      const nameOf = ({ metric, tags, startMs }: Score) => `${metric} ${tags.device} ${startMs}`;
      const found = await collect(reader.readScores(query));
      assert.deepEqual(found.sort(byName), [...mine, ...others.slice(0, 3)].sort(byName));
      assert.deepEqual(await collect(reader.readScores({ ...query, window: '1m' })), [others[3]]);
      assert.deepEqual(await collect(reader.read(query)), []);
    });

    it('can be left in the middle of reading', async () => {
      const stream = newStream();
      const rows = series(stream, 300);
      await write(rows);
      for (let i = 0; i < 5; i++) {
        for await (const row of reader.read(all(stream))) {
          assertSame([row], [rows[0]!]);
          break;
        }
      }
      assertSame(await rowsOf(stream), rows);
    });

    it('prepares again without harm, and is healthy', async () => {
      const stream = newStream();
      const rows = series(stream, 3);
      await write(rows);
      assert((await store.prepare([{ stream, window: CONTRACT_WINDOWS[0]! }])).ok);
      assertSame(await rowsOf(stream), rows);
      assert.deepEqual(await store.health(), { ok: true, value: undefined });
      assert.deepEqual(await reader.health(), { ok: true, value: undefined });
    });
  });
}

/** `count` rows of one series, one after the other. */
function series(stream: string, count: number): Row[] {
  return Array.from({ length: count }, (_, i) => makeRow({ stream, startMs: T0 + i * 10_000 }));
}

function matches(
  row: Row,
  wanted: { window?: string; metric?: string; tags?: Readonly<Record<string, string>> },
): boolean {
  if (wanted.window !== undefined && row.window !== wanted.window) return false;
  if (wanted.metric !== undefined && row.metric !== wanted.metric) return false;
  return Object.entries(wanted.tags ?? {}).every(
    ([key, value]) => Object.hasOwn(row.tags, key) && row.tags[key] === value,
  );
}

/** Strict equality of every property; `deepEqual` of the strict kind tells -0 from 0. */
export function assertSame(actual: readonly Row[], expected: readonly Row[]): void {
  if (actual.length === expected.length) assert.deepEqual(actual, expected);
  else assert.fail(`${actual.length} rows instead of ${expected.length}; first: ${JSON.stringify(actual[0])}`);
}

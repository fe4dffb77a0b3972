import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Row } from '../../src/row.ts';
import { sortRows } from '../../src/store/order.ts';
import { readSlices } from '../../src/store/slices.ts';
import { parseWindow } from '../../src/stream.ts';
import { makeRow, T0 } from '../support/rows.ts';

const WINDOW = parseWindow('10s')!;

/** A source that notes how many rows it was made to hold. */
function sourceOf(rows: readonly Row[]) {
  const seen = { most: 0, calls: 0 };
  const within = (fromMs: number, toMs: number) => rows.filter((row) => row.startMs >= fromMs && row.startMs < toMs);
  return {
    seen,
    async rows(fromMs: number, toMs: number, maxRows: number) {
      seen.calls++;
      const found = within(fromMs, toMs);
      if (found.length > maxRows) return null;
      seen.most = Math.max(seen.most, found.length);
      return found;
    },
    async edge(fromMs: number, toMs: number, edge: 'oldest' | 'newest') {
      return sortRows(within(fromMs, toMs)).at(edge === 'oldest' ? 0 : -1)?.startMs ?? null;
    },
  };
}

async function read(rows: readonly Row[], query: { fromMs: number; toMs: number; limit?: number }) {
  const source = sourceOf(rows);
  const slices: Row[][] = [];
  for await (const slice of readSlices({ stream: 's', window: '10s', ...query }, WINDOW, source)) slices.push(slice);
  return { rows: slices.flat(), slices, ...source.seen };
}

describe('reading in slices', () => {
  it('gives all rows of the range in order, or the last of them, whatever their spread', async () => {
    const clusters = fc.array(fc.tuple(fc.nat(40_000), fc.nat(30), fc.nat(4)), { maxLength: 6 });
    const query = fc.record({
      from: fc.nat(40_000),
      length: fc.nat(80_000),
      limit: fc.option(fc.nat(60), { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(clusters, query, async (groups, { from, length, limit }) => {
        const starts = new Set(
          groups.flatMap(([at, count, every]) => Array.from({ length: count }, (_, i) => at + i * (every + 1))),
        );
        const rows = [...starts].map((index) => makeRow({ startMs: T0 + index * 10_000 }));
        const fromMs = T0 + from * 10_000 - 5_000;
        const toMs = fromMs + length * 10_000;
        const all = sortRows(rows.filter((row) => row.startMs >= fromMs && row.startMs < toMs));
        const expected = limit === undefined ? all : limit === 0 ? [] : all.slice(-limit);
        const got = await read(rows, { fromMs, toMs, ...(limit === undefined ? undefined : { limit }) });
        assert.deepEqual(got.rows, expected);
      }),
      { numRuns: 300 },
    );
  });

  it('holds little more than one window start when there are many series', async () => {
    const rows: Row[] = [];
    for (let i = 0; i < 12; i++) {
      for (let d = 0; d < 5_000; d++) rows.push(makeRow({ startMs: T0 + i * 10_000, tags: { device: `${d}` } }));
    }
    const got = await read(rows, { fromMs: 0, toMs: T0 * 2 });
    assert.equal(got.rows.length, 60_000);
    assert(got.most <= 20_000, `${got.most} rows at once`);
    const newest = await read(rows, { fromMs: 0, toMs: T0 * 2, limit: 10 });
    assert.equal(newest.rows.length, 10);
    assert(newest.most <= 5_000, `${newest.most} rows for the newest ten`);
  });

  it('crosses years of nothing in a few steps', async () => {
    const rows = [0, T0 - 86_400_000 * 700, T0].map((startMs) => makeRow({ startMs }));
    const got = await read(rows, { fromMs: Number.NEGATIVE_INFINITY, toMs: Number.POSITIVE_INFINITY });
    assert.equal(got.rows.length, 3);
    assert(got.calls < 12, `${got.calls} slices`);
  });
});

import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Row } from '../../src/row.ts';
import {
  decodeGroup,
  decodeHead,
  encodeBlock,
  groupEnd,
  HEADER_BYTES,
  headLength,
  seriesText,
} from '../../src/store/block.ts';
import { spansOf } from '../../src/store/session.ts';
import { makeRow, rowArbitrary, T0 } from '../support/rows.ts';

const WINDOW = { label: '10s', sizeMs: 10_000 };

function encode(rows: readonly Row[], firstSeries = 0): Buffer {
  const ids = new Map<string, number>();
  const numbered = rows.map((row) => {
    const text = seriesText(row);
    const id = ids.get(text) ?? firstSeries + ids.size;
    ids.set(text, id);
    return { id, row };
  });
  return encodeBlock(numbered, firstSeries, [...ids.keys()]);
}

function decode(bytes: Buffer): { rows: Row[]; damagedGroups: number } | null {
  const length = headLength(bytes.subarray(0, HEADER_BYTES));
  const head = length === null ? null : decodeHead(bytes.subarray(0, length));
  if (head === null) return null;
  const rows: Row[] = [];
  let damagedGroups = 0;
  for (let group = 0; group < head.groupOffset.length; group++) {
    const of = bytes.subarray(head.headBytes + head.groupOffset[group]!, head.headBytes + groupEnd(head, group));
    const series = (id: number) => head.newSeries[id - head.firstSeries];
    if (!decodeGroup(head, group, of, WINDOW, series, (row) => rows.push(row))) damagedGroups++;
  }
  return { rows, damagedGroups };
}

const byPlace = (rows: readonly Row[]) => rows.map((row) => [`${seriesText(row)} ${row.startMs}`, row] as const);

describe('a block of rows', () => {
  it('gives back every row, bit for bit', () => {
    fc.assert(
      fc.property(
        fc.array(rowArbitrary('s', ['10s']), { minLength: 1, maxLength: 100 }),
        fc.nat(1_000),
        (rows, first) => {
          const decoded = decode(encode(rows, first))!;
          assert.equal(decoded.rows.length, rows.length);
          assert.equal(decoded.damagedGroups, 0);
          // The later of two rows with one place counts, before and after.
          assert.deepEqual(new Map(byPlace(decoded.rows)), new Map(byPlace(rows)));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('is small where the numbers allow it', () => {
    const tags = { device: 'd1' };
    const one = { count: 1, sum: 21.37, mean: 21.37, min: 21.37, max: 21.37, stddev: 0, first: 21.37, last: 21.37 };
    const rows = Array.from({ length: 1_000 }, (_, i) =>
      makeRow({ tags, startMs: T0 + i * 10_000, ...one, p50: 21.37, p95: 21.37, p99: 21.37 }),
    );
    assert(encode(rows).length < 1_000 * 24, `${encode(rows).length} bytes`);
  });

  it('is not taken for whole when a byte of its head was changed, nor a group when one of its bytes was', () => {
    const rows = Array.from({ length: 80 }, (_, i) =>
      makeRow({ startMs: T0 + i * 10_000, tags: { device: `d${i % 5}` } }),
    );
    const whole = encode(rows);
    const headBytes = headLength(whole)!;
    for (let at = 0; at < whole.length; at++) {
      const flipped = Buffer.from(whole);
      flipped[at]! ^= 1 << (at % 8);
      const decoded = decode(flipped);
      if (at < headBytes) assert.equal(decoded, null, `byte ${at}`);
      else assert.equal(decoded?.damagedGroups, 1, `byte ${at}`);
    }
  });

  it('finds the groups of some series without the others', () => {
    const arbitrary = fc.record({
      ids: fc.array(fc.nat(60), { minLength: 1, maxLength: 400 }),
      wanted: fc.uniqueArray(fc.nat(70), { maxLength: 8 }),
    });
    fc.assert(
      fc.property(arbitrary, ({ ids, wanted }) => {
        const rows = ids.map((id, i) => ({ id, row: makeRow({ startMs: T0 + i * 10_000 }) }));
        const bytes = encodeBlock(rows, 0, []);
        const head = decodeHead(bytes.subarray(0, headLength(bytes)!))!;
        const sorted = [...ids].sort((a, b) => a - b);
        const ascending = [...wanted].sort((a, b) => a - b);
        const spans = spansOf({ ...head, offset: 0 }, ascending);
        const inSpan = (group: number) => spans.some(([first, last]) => group >= first && group <= last);
        sorted.forEach((id, i) => {
          if (wanted.includes(id)) assert(inSpan(Math.floor(i / 32)), `series ${id} in group ${Math.floor(i / 32)}`);
        });
      }),
      { numRuns: 500 },
    );
  });
});

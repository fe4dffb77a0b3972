import assert from 'node:assert/strict';
import type { Row } from '../../src/row.ts';
import { MAX_TOP_VALUES, topOf } from '../../src/view/top.ts';

async function* rows(...counts: readonly [page: string, count: number][]): AsyncGenerator<Row> {
  for (const [page, count] of counts) {
    yield { metric: '', tags: { page }, count } as unknown as Row;
    yield { metric: 'distinct_userid', tags: { page }, count: 1 } as unknown as Row;
  }
}

describe('The values with the most readings', () => {
  it('are added up over rows, the largest first, equal ones by their text', async () => {
    const all = rows(['b', 2], ['a', 2], ['c', 1], ['c', 4], ['d', 1]);
    assert.deepEqual(await topOf(all, '', 'page', 3), {
      values: 4,
      count: 10,
      top: [
        { value: 'c', count: 5 },
        { value: 'a', count: 2 },
        { value: 'b', count: 2 },
      ],
    });
  });

  it('leave out rows without the tag', async () => {
    assert.deepEqual(await topOf(rows(['a', 1]), '', 'device', 3), { values: 0, count: 0, top: [] });
  });

  it('are refused beyond the limit', async () => {
    async function* many(): AsyncGenerator<Row> {
      for (let i = 0; i <= MAX_TOP_VALUES; i++)
        yield { metric: '', tags: { page: String(i) }, count: 1 } as unknown as Row;
    }
    assert.equal(await topOf(many(), '', 'page', 3), null);
  });
});

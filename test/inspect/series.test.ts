import assert from 'node:assert/strict';
import { SeriesMemory } from '../../src/inspect/series.ts';

const HOUR = 3_600_000;

describe('The memory of series', () => {
  it('counts one for each metric and turns away what does not fit', () => {
    const memory = new SeriesMemory({ maxSeries: 5, seriesIdleMs: HOUR });
    assert.ok(memory.register('a', 3, 0));
    assert.equal(memory.register('b', 3, 0), null);
    assert.ok(memory.register('c', 2, 0));
    assert.equal(memory.size, 5);
    assert.ok(memory.register('a', 3, 0), 'a known series always fits');
  });

  it('makes room by forgetting series that have been idle, and only those', () => {
    const memory = new SeriesMemory({ maxSeries: 2, seriesIdleMs: HOUR });
    const idle = memory.register('idle', 1, 0)!;
    const active = memory.register('active', 1, 0)!;
    active.seenMs = HOUR - 1;
    assert.equal(memory.register('new', 1, HOUR - 1), null);
    assert.ok(memory.register('new', 1, HOUR + 20_000));
    assert.equal(idle.known, false);
    assert.equal(active.known, true);
    assert.equal(memory.size, 2);
  });

  it('looks for idle series at most every ten seconds', () => {
    const memory = new SeriesMemory({ maxSeries: 1, seriesIdleMs: 5_000 });
    memory.register('a', 1, 0);
    assert.equal(memory.register('b', 1, 4_000), null);
    assert.equal(memory.register('b', 1, 6_000), null);
    assert.ok(memory.register('b', 1, 14_000));
  });
});

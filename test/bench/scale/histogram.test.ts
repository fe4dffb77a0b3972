import assert from 'node:assert/strict';
import { between, type Counts, meanMs, spreadMs } from './histogram.ts';

const NONE: Counts = { sumSeconds: 1, count: 10, atMost: [[0.001, 4], [0.01, 10]] }; // biome-ignore format: a table

describe('Commit times of npm run bench -- scale', () => {
  it('are spread as the histogram says, have its mean, and leave out what was before', () => {
    const after: Counts = { sumSeconds: 1.4, count: 110, atMost: [[0.001, 94], [0.01, 108]] }; // biome-ignore format: a table
    const counts = between(NONE, after);
    assert.equal(Math.round(meanMs(counts)), 4);
    const values = spreadMs(counts, 200);
    assert.ok(Math.abs(values.reduce((sum, value) => sum + value, 0) / 200 - 4) < 1e-9);
    // 90 of 100 in the first bucket, the slowest 2 beyond all bounds: at the last of them, ten times the first.
    assert.ok(Math.abs(values.at(-1)! / values[179]! - 10) < 0.1, `${values[179]}, ${values.at(-1)}`);
    assert.ok(values[179]! < values[180]!);
  });
});

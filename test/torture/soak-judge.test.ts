/** What a soak calls growth, and what it does not: the judge alone, on series that are made up. */
import assert from 'node:assert/strict';
import {
  HANDLES_GROWTH,
  HELD_GROWTH_BYTES,
  LAG_SECONDS,
  type Measured,
  RESIDENT_GROWTH_BYTES,
  type Sample,
  soakClaims,
  trends,
} from '../../src/torture/soak-judge.ts';

const MINUTES = 30;
const END_MS = MINUTES * 60_000;
const LOAD = { messagesPerSecond: 100, clients: 44 };

/** One sample in 15 s; `at` is given the part of the run that is over. */
function series(what: Measured, at: (part: number, index: number) => number): Sample[] {
  return Array.from({ length: MINUTES * 4 }, (_, index) => {
    const atMs = index * 15_000;
    return { atMs, of: 'gateway', what, value: at(atMs / END_MS, index) };
  });
}

function held(samples: readonly Sample[]): Record<string, boolean> {
  const claims = soakClaims(trends(samples, 0, END_MS), LOAD);
  return Object.fromEntries(claims.filter(({ checked }) => checked > 0).map((claim) => [claim.name, claim.held]));
}

const BASE = 40 * 2 ** 20;

describe("The soak's judge", () => {
  it('takes steady growth beyond its bound for a leak, and growth within it for none', () => {
    const growing = (bytes: number) => (part: number) => BASE + 2 * bytes * part;
    assert.deepEqual(held(series('held', growing(HELD_GROWTH_BYTES * 1.05))), { 'memory-flat': false });
    assert.deepEqual(held(series('held', growing(HELD_GROWTH_BYTES * 0.95))), { 'memory-flat': true });
    assert.deepEqual(held(series('resident', growing(RESIDENT_GROWTH_BYTES * 1.05))), { 'resident-flat': false });
    assert.deepEqual(held(series('resident', growing(RESIDENT_GROWTH_BYTES * 0.95))), { 'resident-flat': true });
    for (const what of ['descriptors', 'threads'] as const) {
      assert.deepEqual(held(series(what, (part) => 50 + 2.1 * HANDLES_GROWTH * part)), { 'handles-flat': false });
      assert.deepEqual(held(series(what, (part) => 50 + 1.9 * HANDLES_GROWTH * part)), { 'handles-flat': true });
    }
  });

  it('finds a leak under a sawtooth many times as high', () => {
    const sawtooth = (index: number) => (index % 7) * 2 ** 20;
    const leak = (part: number) => 3 * 2 * HELD_GROWTH_BYTES * part;
    assert.deepEqual(held(series('held', (part, index) => BASE + sawtooth(index) + leak(part))), {
      'memory-flat': false,
    });
    assert.deepEqual(held(series('held', (_, index) => BASE + sawtooth(index))), { 'memory-flat': true });
  });

  it('does not take the start, one peak or a fall for a leak', () => {
    const warm = series('held', (part) => BASE * Math.min(1, 4 * part));
    const peak = series('resident', (_, index) => BASE + (index === 100 ? 2 ** 30 : 0));
    const fall = series('descriptors', (part) => 500 - 400 * part);
    assert.deepEqual(held([...warm, ...peak, ...fall]), {
      'memory-flat': true,
      'resident-flat': true,
      'handles-flat': true,
    });
  });

  it('names the one of many that grows', () => {
    const flat = series('held', () => BASE);
    const growing = series('held', (part) => BASE * (1 + part)).map((one) => ({ ...one, of: 'gateway thread 2' }));
    const [claim] = soakClaims(trends([...flat, ...growing], 0, END_MS), LOAD);
    assert.equal(claim!.findings, 1);
    assert.match(claim!.examples[0]!, /^gateway thread 2 69\.\d MiB, \+20\.\d MiB$/);
  });

  it('allows each client one connection, and a few that are going', () => {
    const open = (count: number) => series('connections', (_, index) => (index === 90 ? count : index % 44));
    assert.deepEqual(held(open(LOAD.clients + HANDLES_GROWTH + 1)), { 'handles-flat': false });
    assert.deepEqual(held(open(LOAD.clients + HANDLES_GROWTH)), { 'handles-flat': true });
  });

  it('measures lag by what comes in, and one moment too far behind is enough', () => {
    const behind = (records: number) => series('lag', (_, index) => (index === 90 ? records : 10));
    assert.deepEqual(held(behind(LAG_SECONDS * LOAD.messagesPerSecond + 1)), { 'keeps-up': false });
    assert.deepEqual(held(behind(LAG_SECONDS * LOAD.messagesPerSecond - 1)), { 'keeps-up': true });
  });

  it('claims nothing where it has seen too little', () => {
    const few = series('held', (part) => BASE * (1 + part)).slice(-4);
    for (const claim of soakClaims(trends(few, 0, END_MS), LOAD)) {
      assert.equal(claim.held, false);
      assert.equal(claim.findings, 0);
      assert.equal(claim.note, 'there was nothing to look at');
    }
  });
});

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ManualClock } from '../../src/clock.ts';
import type { Reading, Refusal } from '../../src/reading.ts';
import { Board } from '../../src/view/board.ts';
import { FakeFeed } from '../support/fake-feed.ts';

const { streams } = new FakeFeed(new ManualClock(), { devices: 0 });
const T = 1_700_000_000_000;

function reading(key: string, more: Partial<Reading> = {}): Reading {
  return {
    stream: 'environment',
    key,
    timeMs: T,
    tags: { device: key, site: 'berlin' },
    values: { temperature: 20 },
    ...more,
  };
}

function refusal(topic: string, client = 'c1', more: Partial<Refusal> = {}): Refusal {
  return {
    code: 'schema',
    reason: 'temperature is "x"',
    field: '/temperature',
    stream: 'environment',
    topic,
    client,
    payload: Buffer.from('{}'),
    ...more,
  };
}

function only(board: Board, nowMs = T) {
  const { devices, total } = board.list({ limit: 10, offset: 0 }, nowMs);
  assert.equal(total, 1);
  return devices[0]!;
}

describe('the board', () => {
  it('shows the last reading of a device, when it came and how many there were', () => {
    const board = new Board(streams);
    board.accepted(reading('d1'), T + 10);
    board.accepted(reading('d1', { timeMs: T + 1_000, values: { temperature: 21 } }), T + 1_015);
    const device = only(board);
    assert.deepEqual(device.values, { temperature: 21 });
    assert.equal(device.receivedMs, T + 1_015);
    assert.equal(device.timeMs, T + 1_000);
    assert.equal(device.readings, 2);
    assert.equal(device.series, 'device=d1,site=berlin');
  });

  it('counts gaps in the sequence, takes an overtaken reading back, and does not take a redelivered one for either', () => {
    const board = new Board(streams);
    for (const sequence of [10, 11, 14, 14, 12, 15]) board.accepted(reading('d1', { sequence }), T);
    const device = only(board);
    assert.equal(device.gaps, 1);
    assert.equal(device.missing, 1);
    assert.equal(device.sequence, 15);
    assert.equal(device.restarts, 0);
  });

  it('shows the values of the last reading, and no metric that only an earlier one had', () => {
    const board = new Board(streams);
    const shown = (values: Record<string, number>) => {
      board.accepted(reading('d1', { values }), T);
      return only(board).values;
    };
    const first = shown({ a: 1, b: 2 });
    assert.deepEqual(first, { a: 1, b: 2 });
    assert.deepEqual(shown({ a: 3, b: 4 }), { a: 3, b: 4 });
    assert.deepEqual(first, { a: 1, b: 2 }, 'what was shown stays as it was');
    assert.deepEqual(shown({ b: 5 }), { b: 5 });
    assert.deepEqual(shown({ c: 6 }), { c: 6 });
    assert.deepEqual(shown({ b: 7, c: 8, a: 9 }), { b: 7, c: 8, a: 9 });
    assert.deepEqual(shown({}), {});
  });

  it('takes a sequence that begins anew for a restart, not for a gap', () => {
    const board = new Board(streams);
    for (const sequence of [5_000, 5_001, 0, 1, 2]) board.accepted(reading('d1', { sequence }), T);
    assert.deepEqual([only(board).restarts, only(board).missing], [1, 0]);
  });

  it('finds as many missing as were left out, whatever was left out of a rising sequence', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 60 }), (steps) => {
        const board = new Board(streams);
        let sequence = 100;
        board.accepted(reading('d1', { sequence }), T);
        for (const step of steps) {
          sequence += step;
          board.accepted(reading('d1', { sequence }), T);
        }
        assert.equal(
          only(board).missing,
          steps.reduce((sum, step) => sum + step - 1, 0),
        );
        assert.equal(only(board).gaps, steps.filter((step) => step > 1).length);
      }),
    );
  });

  it('says how far a clock is off, and counts it as wrong beyond thirty seconds', () => {
    const board = new Board(streams);
    for (let i = 0; i < 60; i++) board.accepted(reading('slow', { timeMs: T + i * 1_000 - 45_000 }), T + i * 1_000);
    assert.equal(only(board).skewMs, 45_000);
    const summary = board.summary(T + 60_000);
    assert.equal(summary.skewed, 1);
    assert.equal(summary.largestSkewMs, 45_000);
    assert.equal(summary.examples.skewed, 'slow');
  });

  it('counts a clock as wrong whose stamps are refused as too far ahead, until one is accepted', () => {
    const board = new Board(streams);
    const ahead = { code: 'time-future', reason: '/ts: too far ahead' } as const;
    board.accepted(reading('jumps'), T);
    board.refused(refusal('sensors/berlin/jumps/environment', 'c1', ahead), T + 1);
    assert.equal(board.summary(T + 1).skewed, 1);
    board.accepted(reading('jumps', { timeMs: T + 2 }), T + 2);
    assert.equal(board.summary(T + 2).skewed, 0);
  });

  it('calls a device silent only after a pause that is long for it', () => {
    const board = new Board(streams);
    for (let i = 0; i < 20; i++) {
      board.accepted(reading('quick'), T + i * 1_000);
      board.accepted(reading('slow'), T + i * 60_000);
    }
    const silent = (nowMs: number) =>
      board
        .list({ limit: 10, offset: 0 }, nowMs)
        .devices.filter((device) => device.silent)
        .map((device) => device.key);
    assert.deepEqual(silent(T + 19_000 + 29_000), []);
    assert.deepEqual(silent(T + 19 * 60_000 + 31_000), ['quick']);
    assert.deepEqual(silent(T + 19 * 60_000 + 301_000), ['quick', 'slow']);
  });

  it('gives a refusal to the device its topic names, else to the client, and counts it by reason', () => {
    const board = new Board(streams);
    board.accepted(reading('d1'), T);
    board.refused(refusal('sensors/berlin/d1/environment', 'someone'), T + 5);
    board.refused(refusal('web/shop/clicks', 'c9', { stream: 'clicks', code: 'malformed' }), T + 6);
    board.refused(refusal('nowhere', 'c9', { stream: '', code: 'unknown-topic' }), T + 7);
    const [c9, d1] = board.list({ limit: 10, offset: 0 }, T).devices;
    assert.equal(d1?.key, 'd1');
    assert.equal(d1?.refusals, 1);
    assert.deepEqual(d1?.lastRefusal, { code: 'schema', reason: 'temperature is "x"', receivedMs: T + 5 });
    assert.equal(c9?.key, 'c9');
    assert.equal(c9?.receivedMs, null);
    assert.equal(board.strays(), 1);
    const [environment, clicks] = board.streams();
    assert.deepEqual(environment?.refusedBy, { schema: 1 });
    assert.deepEqual(clicks?.refusedBy, { malformed: 1 });
  });

  it('is bounded: further devices are counted, not listed, and those long gone make room', () => {
    const board = new Board(streams, { maxDevices: 100 });
    for (let i = 0; i < 150; i++) board.accepted(reading(`d${i}`), T);
    assert.equal(board.summary(T).devices, 100);
    assert.equal(board.summary(T).unlisted, 50);
    assert.equal(board.streams()[0]?.accepted, 150);
    board.accepted(reading('d0'), T + 3_600_000);
    board.accepted(reading('new'), T + 3_600_001);
    const { devices } = board.list({ limit: 10, offset: 0 }, T + 3_600_002);
    assert.deepEqual(
      devices.map((device) => device.key),
      ['d0', 'new'],
    );
  });

  it('lets names that were only ever refused take a tenth of the room', () => {
    const board = new Board(streams, { maxDevices: 100 });
    for (let i = 0; i < 1_000; i++) board.refused(refusal(`sensors/berlin/fake${i}/environment`), T);
    assert.equal(board.summary(T).devices, 10);
    for (let i = 0; i < 90; i++) board.accepted(reading(`d${i}`), T);
    assert.equal(board.summary(T).devices, 100);
    assert.equal(board.streams()[0]?.refused, 1_000);
  });

  it('lists in the order people expect, in pages, by search and by stream', () => {
    const board = new Board(streams);
    for (const key of ['d10', 'd2', 'd1', 'D3']) board.accepted(reading(key), T);
    board.accepted(reading('/home', { stream: 'clicks', tags: { app: 'shop', page: '/home' } }), T);
    const names = (query: object) =>
      board.list({ limit: 10, offset: 0, ...query }, T).devices.map((device) => device.key);
    assert.deepEqual(names({}), ['/home', 'd1', 'd2', 'D3', 'd10']);
    assert.deepEqual(names({ offset: 1, limit: 2 }), ['d1', 'd2']);
    assert.deepEqual(names({ search: 'D1' }), ['d1', 'd10']);
    assert.deepEqual(names({ search: 'berl', stream: 'environment' }), ['d1', 'd2', 'D3', 'd10']);
    assert.deepEqual(names({ search: 'shop' }), ['/home']);
    assert.equal(board.list({ search: 'd', limit: 1, offset: 0 }, T).total, 4);
  });

  it('puts first what needs a look, when asked', () => {
    const board = new Board(streams);
    board.accepted(reading('fine', { sequence: 1 }), T + 100);
    board.accepted(reading('gaps', { sequence: 1 }), T + 200);
    board.accepted(reading('gaps', { sequence: 9 }), T + 300);
    board.accepted(reading('old'), T);
    board.refused(refusal('sensors/berlin/fine/environment'), T + 400);
    const first = (order: 'seen' | 'refusals' | 'missing' | 'skew') =>
      board.list({ order, limit: 1, offset: 0 }, T).devices[0]?.key;
    assert.equal(first('seen'), 'old');
    assert.equal(first('refusals'), 'fine');
    assert.equal(first('missing'), 'gaps');
  });

  it('gives out what has changed since the last time, and nothing in a fleet too large for one event', () => {
    const board = new Board(streams);
    const accept = (from: number, to: number) => {
      for (let i = from; i < to; i++) board.accepted(reading(`d${i}`), T);
    };
    const keys = () => board.changes(50, T).map(({ key }) => key);
    accept(0, 50);
    assert.equal(keys().length, 50);
    assert.deepEqual(keys(), []);
    accept(7, 9);
    assert.deepEqual(keys().sort(), ['d7', 'd8']);
    accept(0, 51);
    assert.deepEqual(keys(), []);
  });

  it('finds a device by its whole key, whatever stands in it', () => {
    const board = new Board(streams);
    for (const key of ['d1', 'd10', 'D1']) board.accepted(reading(key), T);
    const { total, devices } = board.list({ key: 'd1', limit: 10, offset: 0 }, T);
    assert.deepEqual([total, devices.map((device) => device.key)], [1, ['d1']]);
    assert.equal(board.list({ key: 'd', limit: 10, offset: 0 }, T).total, 0);
  });

  it('ignores a stream it does not know', () => {
    const board = new Board(streams);
    board.accepted(reading('d1', { stream: 'other' }), T);
    assert.equal(board.list({ limit: 10, offset: 0 }, T).total, 0);
  });
});

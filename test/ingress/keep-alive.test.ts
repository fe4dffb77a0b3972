import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ManualClock, type Schedule } from '../../src/clock.ts';
import { KeepAlive } from '../../src/ingress/keep-alive.ts';

/** Timers that fire when the clock is moved past them. */
function setUp(silenceMs: number) {
  const clock = new ManualClock();
  const due = new Map<object, { atMs: number; task: () => void }>();
  const schedule: Schedule = (ms, task) => {
    const id = {};
    due.set(id, { atMs: clock.monotonicMs() + ms, task });
    return () => due.delete(id);
  };
  const startMs = clock.monotonicMs();
  const expiredMs: number[] = [];
  const keepAlive = new KeepAlive(silenceMs, clock, () => expiredMs.push(clock.monotonicMs() - startMs), schedule);
  const forwardTo = (ms: number) => {
    for (;;) {
      const [next] = [...due].sort(([, a], [, b]) => a.atMs - b.atMs);
      if (!next || next[1].atMs > startMs + ms) break;
      clock.advance(next[1].atMs - clock.monotonicMs());
      due.delete(next[0]);
      next[1].task();
    }
    clock.advance(startMs + ms - clock.monotonicMs());
  };
  return { keepAlive, forwardTo, expiredMs, due };
}

describe('a keep-alive', () => {
  it('expires once, when the silence since the last sign of life has lasted, whenever the signs come', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.array(fc.integer({ min: 0, max: 120 })), (silenceMs, pauses) => {
        const { keepAlive, forwardTo, expiredMs, due } = setUp(silenceMs);
        let atMs = 0;
        for (const pauseMs of pauses) {
          if (pauseMs >= silenceMs) break;
          atMs += pauseMs;
          forwardTo(atMs);
          keepAlive.refresh();
        }
        forwardTo(atMs + 1_000);
        assert.deepEqual(expiredMs, [atMs + silenceMs]);
        assert.equal(due.size, 0);
      }),
    );
  });

  it('that is stopped leaves no timer', () => {
    const { keepAlive, forwardTo, expiredMs, due } = setUp(10);
    forwardTo(5);
    keepAlive.refresh();
    forwardTo(12);
    keepAlive.stop();
    assert.equal(due.size, 0);
    forwardTo(100);
    assert.deepEqual(expiredMs, []);
  });
});

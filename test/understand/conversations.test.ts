import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Conversations } from '../../src/understand/conversations.ts';

const OPEN = { openedMs: 5, intent: 'delivery', isAnswered: false };

describe('What is remembered of conversations', () => {
  it('is forgotten when nothing touched it for so long', () => {
    const memory = new Conversations(10, 1_000);
    memory.touch('a', OPEN, 0);
    assert.equal(memory.at('a', 999)?.openedMs, 5);
    assert.equal(memory.at('a', 1_000), null);
    memory.touch('b', OPEN, 1_000);
    assert.equal(memory.size, 1);
    assert.equal(memory.evicted, 0);
  });

  it('is bounded: the one longest untouched makes room, and that is counted', () => {
    const memory = new Conversations(2, 1_000);
    memory.touch('a', OPEN, 0);
    memory.touch('b', OPEN, 1);
    memory.touch('a', OPEN, 2);
    memory.touch('c', OPEN, 3);
    assert.deepEqual(
      ['a', 'b', 'c'].map((name) => memory.at(name, 3) !== null),
      [true, false, true],
    );
    assert.equal(memory.evicted, 1);
  });

  it('is the same when it is made again from the touches of the time that is remembered', () => {
    const touch = fc.record({
      name: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      stepMs: fc.integer({ min: 0, max: 60 }),
    });
    fc.assert(
      fc.property(fc.array(touch, { maxLength: 60 }), fc.integer({ min: 1, max: 4 }), (touches, max) => {
        const FORGET_MS = 200;
        const whole = new Conversations(max, FORGET_MS);
        let clockMs = 0;
        const log = touches.map(({ name, stepMs }, i) => {
          clockMs += stepMs;
          return { name, clockMs, state: { openedMs: i, intent: 'x', isAnswered: i % 2 === 0 } };
        });
        for (const { name, state, clockMs: at } of log) whole.touch(name, state, at);
        const again = new Conversations(max, FORGET_MS);
        for (const one of log) if (one.clockMs > clockMs - FORGET_MS) again.touch(one.name, one.state, one.clockMs);
        for (const name of 'abcde') assert.deepEqual(again.at(name, clockMs), whole.at(name, clockMs));
      }),
    );
  });
});

import assert from 'node:assert/strict';
import type { AedesPublishPacket } from 'aedes';
import fc from 'fast-check';
import { Retained } from '../../src/ingress/retained.ts';
import { matchesTopic } from '../../src/ingress/topic.ts';

function packet(topic: string, payload: string): AedesPublishPacket {
  return {
    cmd: 'publish',
    topic,
    payload: Buffer.from(payload),
    qos: 0,
    retain: true,
    dup: false,
  } as AedesPublishPacket;
}

const level = fc.constantFrom('', 'a', 'b', '$x');
const topic = fc.array(level, { minLength: 1, maxLength: 3 }).map((levels) => levels.join('/'));
const filter = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { maxLength: 3 }), fc.boolean())
  .map(([levels, hash]) => [...levels, ...(hash || levels.length === 0 ? ['#'] : [])].join('/'));

describe('retained messages', () => {
  it('are the last of each topic, found by any filter that matches', () => {
    const step = fc.record({ topic, payload: fc.constantFrom('', '1', '22') });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), fc.array(filter, { maxLength: 4 }), (steps, filters) => {
        const retained = new Retained(1_000);
        const expected = new Map<string, string>();
        for (const { topic: name, payload } of steps) {
          assert.equal(retained.store(packet(name, payload)), true);
          if (payload === '') expected.delete(name);
          else expected.set(name, payload);
        }
        assert.equal(retained.size, expected.size);
        for (const pattern of filters) {
          const found = [...retained.match(pattern)].map(({ topic: name, payload }) => `${name}=${payload}`);
          const wanted = [...expected].filter(([name]) => matchesTopic(pattern.split('/'), name));
          assert.deepEqual(found.sort(), wanted.map(([name, payload]) => `${name}=${payload}`).sort(), pattern);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('are bounded in number and in bytes; what is refused changes nothing', () => {
    const retained = new Retained(2);
    assert.ok(retained.store(packet('a', 'old')));
    assert.ok(retained.store(packet('b', 'x')));
    assert.equal(retained.store(packet('c', 'x')), false);
    assert.ok(retained.store(packet('a', 'new')));
    assert.equal(retained.store(packet('a', 'x'.repeat(65 * 2 ** 20))), false);
    assert.deepEqual(
      [...retained.match('#')].map(({ payload }) => payload.toString()),
      ['new', 'x'],
    );
    retained.store(packet('b', ''));
    retained.store(packet('b', ''));
    assert.ok(retained.store(packet('c', 'x')));
    assert.equal(retained.size, 2);
  });

  it('do not hold on to the buffer that they came in', () => {
    const retained = new Retained(2);
    const big = Buffer.alloc(64 * 1024, 'x');
    retained.store({ ...packet('a', ''), payload: big.subarray(0, 5) });
    big.fill('y');
    assert.equal([...retained.match('a')][0]!.payload.toString(), 'xxxxx');
  });
});

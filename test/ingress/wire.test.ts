import assert from 'node:assert/strict';
import fc from 'fast-check';
import { generate, type Packet } from 'mqtt-packet';
import { type Budget, Framing, publishProblem } from '../../src/ingress/wire.ts';
import { connectPacket } from '../support/mqtt-raw.ts';

const publish = fc
  .record({
    topic: fc.constantFrom('a', 'a/b/c'),
    payload: fc.uint8Array({ maxLength: 300 }),
    qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
    messageId: fc.integer({ min: 1, max: 65_535 }),
  })
  .map(
    (fields): Packet => ({
      cmd: 'publish',
      dup: false,
      retain: false,
      ...fields,
      payload: Buffer.from(fields.payload),
    }),
  );
const other = fc.constantFrom<Packet>(
  { cmd: 'pingreq' },
  { cmd: 'pubrel', messageId: 7 },
  { cmd: 'subscribe', messageId: 8, subscriptions: [{ topic: 'a/+', qos: 1 }] },
  { cmd: 'unsubscribe', messageId: 9, unsubscriptions: ['a/+'] },
  { cmd: 'disconnect' },
);
const packets = fc.array(fc.oneof(publish, other), { maxLength: 20 });
const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 50 });
const CONNECT = generate(connectPacket());

/** Splits bytes into chunks whose sizes cycle through the cuts. */
function chop(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length]!;
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
}

function budget(publishes = Number.MAX_SAFE_INTEGER, bytes = Number.MAX_SAFE_INTEGER): Budget {
  return { publishes, bytes, subscribes: Number.MAX_SAFE_INTEGER };
}

function opened(maxBytes = 100_000): Framing {
  const framing = new Framing(maxBytes);
  assert.equal(framing.admit(CONNECT, budget(), false), CONNECT.length);
  assert.ok(framing.connectSeen);
  return framing;
}

describe('framing', () => {
  it('lets well-formed packets through whole, however they are cut into chunks', () => {
    fc.assert(
      fc.property(packets, cuts, (list, sizes) => {
        const framing = opened();
        const left = budget();
        for (const chunk of chop(Buffer.concat(list.map((packet) => generate(packet))), sizes)) {
          assert.equal(framing.admit(chunk, left, true), chunk.length, framing.violation?.reason);
        }
        const publishes = list.filter(({ cmd }) => cmd === 'publish').length;
        assert.equal(Number.MAX_SAFE_INTEGER - left.publishes, publishes);
        assert.equal(framing.insidePublish, false);
      }),
    );
  });

  it('stops right before the publish that the budget has no room for, however the bytes are cut', () => {
    fc.assert(
      fc.property(packets, cuts, fc.integer({ min: 0, max: 5 }), (list, sizes, room) => {
        const framing = opened();
        const left = budget(room);
        let passed = 0;
        for (const chunk of chop(Buffer.concat(list.map((packet) => generate(packet))), sizes)) {
          const end = framing.admit(chunk, left, true);
          passed += end;
          if (end < chunk.length) break;
        }
        let expected = 0;
        let publishes = 0;
        for (const packet of list) {
          if (packet.cmd === 'publish' && ++publishes > room) break;
          expected += generate(packet).length;
        }
        assert.equal(passed, expected);
      }),
    );
  });

  it('goes on with the rest when there is room, and nothing is lost or passed twice', () => {
    fc.assert(
      fc.property(packets, cuts, (list, sizes) => {
        const framing = opened();
        const bytes = Buffer.concat(list.map((packet) => generate(packet)));
        const out: Buffer[] = [];
        for (let chunk of chop(bytes, sizes)) {
          while (chunk.length > 0) {
            const end = framing.admit(chunk, budget(1, 1), true);
            out.push(chunk.subarray(0, end));
            chunk = chunk.subarray(end);
          }
        }
        assert.deepEqual(Buffer.concat(out), bytes);
      }),
    );
  });

  it('never throws on any bytes, and never lets a packet through that is longer than the limit', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), cuts, (bytes, sizes) => {
        const framing = opened(64);
        for (const chunk of chop(Buffer.from(bytes), sizes)) {
          const end = framing.admit(chunk, budget(), true);
          assert.ok(end >= -1 && end <= chunk.length);
          if (end < 0) {
            assert.ok(framing.violation);
            return;
          }
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('passes nothing but the CONNECT before it is open', () => {
    const bytes = Buffer.concat([CONNECT, generate({ cmd: 'pingreq' })]);
    for (let cut = 1; cut < bytes.length; cut++) {
      const framing = new Framing(1_000);
      let passed = framing.admit(bytes.subarray(0, cut), budget(), false);
      passed += framing.admit(bytes.subarray(passed), budget(), false);
      assert.equal(passed, CONNECT.length);
      assert.equal(framing.admit(bytes.subarray(passed), budget(), true), 2);
    }
  });

  it('counts the bytes of publishes, and lets the one through that crosses zero', () => {
    const framing = opened();
    const packet = generate({
      cmd: 'publish',
      topic: 'a',
      payload: Buffer.alloc(100),
      qos: 0,
      dup: false,
      retain: false,
    });
    assert.equal(framing.admit(Buffer.concat([packet, packet, packet]), budget(10, 150), true), packet.length * 2);
  });
});

describe('a decoded publish', () => {
  it('must be as long as its fields', () => {
    const good = { topic: 'ä', payload: Buffer.from('xyz'), qos: 1, messageId: 7, length: 2 + 2 + 2 + 3 };
    assert.equal(publishProblem(good), null);
    assert.ok(publishProblem({ ...good, length: 8 }));
    assert.equal(publishProblem({ ...good, qos: 0, length: 7 }), null);
    for (const messageId of [0, -1, undefined]) {
      assert.match(publishProblem({ ...good, messageId: messageId as number })!, /MQTT-2.3.1-1/);
    }
  });
});

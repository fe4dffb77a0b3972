import assert from 'node:assert/strict';
import fc from 'fast-check';
import { generate, type Packet } from 'mqtt-packet';
import { type Budget, Framing, type PublishTaker } from '../../src/ingress/wire.ts';
import { connectPacket } from '../support/mqtt-raw.ts';
import { chop } from './harness.ts';

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

function budget(publishes = Number.MAX_SAFE_INTEGER, bytes = Number.MAX_SAFE_INTEGER): Budget {
  return { publishes, bytes, subscribes: Number.MAX_SAFE_INTEGER };
}

/** What was taken, put together again as packets. */
class Taken implements PublishTaker {
  readonly packets: Buffer[] = [];
  /** Ends with this one. */
  last = Number.MAX_SAFE_INTEGER;

  take(header: number, bytes: Buffer, from: number, to: number): boolean {
    const length: number[] = [];
    for (let left = to - from; length.length === 0 || left > 0; left >>= 7) {
      length.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    }
    this.packets.push(Buffer.concat([Buffer.from([header, ...length]), bytes.subarray(from, to)]));
    return this.packets.length < this.last;
  }
}

function bytesOf(list: readonly Packet[], wanted: (packet: Packet) => boolean): Buffer {
  return Buffer.concat(list.filter(wanted).map((packet) => generate(packet)));
}

const isPublish = ({ cmd }: Packet) => cmd === 'publish';

/** Nothing counts behind a DISCONNECT. */
function upToDisconnect(list: readonly Packet[]): readonly Packet[] {
  const end = list.findIndex(({ cmd }) => cmd === 'disconnect');
  return end < 0 ? list : list.slice(0, end + 1);
}

function opened(maxBytes = 100_000, taker: PublishTaker = new Taken()): Framing {
  const framing = new Framing(maxBytes, taker);
  assert.equal(framing.admit(CONNECT, budget(), false), CONNECT.length);
  assert.ok(framing.connectSeen);
  return framing;
}

describe('framing', () => {
  it('takes the publishes whole and passes the other packets on, however the bytes are cut into chunks', () => {
    fc.assert(
      fc.property(packets, cuts, (list, sizes) => {
        const taken = new Taken();
        const framing = opened(100_000, taken);
        const left = budget();
        const rest: Buffer[] = [];
        for (const chunk of chop(
          bytesOf(list, () => true),
          sizes,
        )) {
          assert.equal(framing.admit(chunk, left, true), chunk.length, framing.violation?.reason);
          rest.push(framing.rest);
        }
        const heard = upToDisconnect(list);
        assert.deepEqual(Buffer.concat(taken.packets), bytesOf(heard, isPublish));
        assert.deepEqual(
          Buffer.concat(rest),
          bytesOf(heard, (packet) => !isPublish(packet)),
        );
        assert.equal(Number.MAX_SAFE_INTEGER - left.publishes, taken.packets.length);
        assert.equal(framing.insidePublish, false);
      }),
      { numRuns: 500 },
    );
  });

  it('stops right before the publish that the budget has no room for, however the bytes are cut', () => {
    fc.assert(
      fc.property(packets, cuts, fc.integer({ min: 0, max: 5 }), (whole, sizes, room) => {
        const list = upToDisconnect(whole);
        const taken = new Taken();
        const framing = opened(100_000, taken);
        const left = budget(room);
        let passed = 0;
        for (const chunk of chop(
          bytesOf(list, () => true),
          sizes,
        )) {
          const end = framing.admit(chunk, left, true);
          passed += end;
          if (end < chunk.length) break;
        }
        let expected = 0;
        let publishes = 0;
        for (const packet of list) {
          if (isPublish(packet) && ++publishes > room) break;
          expected += generate(packet).length;
        }
        assert.equal(passed, expected);
        assert.equal(taken.packets.length, Math.min(room, list.filter(isPublish).length));
      }),
    );
  });

  it('goes on with the rest when there is room, and nothing is lost or passed twice', () => {
    fc.assert(
      fc.property(packets, cuts, (whole, sizes) => {
        const list = upToDisconnect(whole);
        const taken = new Taken();
        const framing = opened(100_000, taken);
        const rest: Buffer[] = [];
        for (let chunk of chop(
          bytesOf(list, () => true),
          sizes,
        )) {
          while (chunk.length > 0) {
            const end = framing.admit(chunk, budget(1, 1), true);
            rest.push(framing.rest);
            chunk = chunk.subarray(end);
          }
        }
        assert.deepEqual(Buffer.concat(taken.packets), bytesOf(list, isPublish));
        assert.deepEqual(
          Buffer.concat(rest),
          bytesOf(list, (packet) => !isPublish(packet)),
        );
      }),
    );
  });

  it('looks at nothing behind a publish that ends the connection', () => {
    const taken = new Taken();
    taken.last = 1;
    const framing = opened(100_000, taken);
    const packet: Packet = { cmd: 'publish', topic: 'a', payload: 'x', qos: 0, dup: false, retain: false };
    const [ping, publish] = [generate({ cmd: 'pingreq' }), generate(packet)];
    assert.equal(framing.admit(Buffer.concat([ping, publish, publish, ping]), budget(), true), 2 + publish.length);
    assert.equal(taken.packets.length, 1);
    assert.deepEqual(framing.rest, ping);
  });

  it('keeps no more of a publish in pieces than twice what has arrived', () => {
    const packet: Packet = { cmd: 'publish', topic: 'a', payload: '', qos: 0, dup: false, retain: false };
    const announced = Buffer.from([generate(packet)[0]!, 0xff, 0xff, 0x7f]);
    const before = process.memoryUsage().arrayBuffers;
    const waiting = Array.from({ length: 200 }, () => {
      const framing = opened(4 * 2 ** 20);
      framing.admit(Buffer.concat([announced, Buffer.alloc(100)]), budget(), true);
      return framing;
    });
    assert.ok(waiting.every(({ insidePublish }) => insidePublish));
    assert.ok(process.memoryUsage().arrayBuffers - before < 200 * 2_048);
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
      const framing = new Framing(1_000, new Taken());
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

  it('says to whoever speaks MQTT 5 what to do, with CONNACK 1', () => {
    const framing = new Framing(1_024, new Taken());
    const connect = generate(connectPacket({ protocolVersion: 5 }), { protocolVersion: 5 });
    assert.equal(framing.admit(connect, budget(), false), -1);
    const reason = 'MQTT 5 is not spoken here: set the client to MQTT 3.1.1 [MQTT-3.1.2-2]';
    assert.deepEqual(framing.violation, { reason, connack: 1 });
  });
});

import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import fc from 'fast-check';
import { generate, type Packet } from 'mqtt-packet';
import { systemClock } from '../../src/clock.ts';
import { Gate } from '../../src/ingress/gate.ts';
import { PendingBytes, TokenBucket } from '../../src/ingress/pending.ts';
import type { Violation } from '../../src/ingress/wire.ts';
import { connectPacket, eventually } from '../support/mqtt-raw.ts';
import { chop, LIMITS } from './harness.ts';

/** A socket whose other end is the test: bytes in by `push`, and writes that leave only when told. */
class FakeSocket extends Duplex {
  reads = true;
  /** It was asked for more, and has not been told to stop since. */
  asked = true;
  readonly #shared = Buffer.alloc(4_096);
  #unsent: (() => void)[] = [];
  constructor() {
    super({ readableHighWaterMark: 32 });
  }
  override _read(): void {
    this.asked = true;
  }
  /** As a socket does that reads into one buffer: the bytes are others as soon as the gate has seen them. */
  lend(bytes: Buffer): void {
    bytes.copy(this.#shared);
    this.asked = this.push(this.#shared.subarray(0, bytes.length));
    this.#shared.fill(0xee);
  }
  override _write(_chunk: Buffer, _encoding: string, done: () => void): void {
    if (this.reads) done();
    else this.#unsent.push(done);
  }
  readAll(): void {
    this.reads = true;
    for (const done of this.#unsent.splice(0)) done();
  }
}

const CONNECT = generate(connectPacket());
const SUBSCRIBE = generate({ cmd: 'subscribe', messageId: 8, subscriptions: [{ topic: 'a/+', qos: 1 }] });

function publish(id: number): Buffer {
  const packet: Packet = { cmd: 'publish', topic: 'a', payload: 'x', qos: 1, messageId: id, dup: false, retain: false };
  return generate(packet);
}

function setUp(limits: Partial<typeof LIMITS> = {}) {
  const socket = new FakeSocket();
  socket.on('error', () => {});
  const seen = {
    reached: [] as string[],
    violations: [] as Violation[],
    connects: 0,
    signs: 0,
    /** All that passed, as it came; the publishes; what the broker read. */
    passed: Buffer.alloc(0),
    taken: [] as Buffer[],
    rest: Buffer.alloc(0),
    pendingBytes: new PendingBytes(1_000),
  };
  const gate = new Gate(socket, {
    limits: { ...LIMITS, ...limits },
    pendingBytes: seen.pendingBytes,
    clock: systemClock,
    violated: (violation) => seen.violations.push(violation),
    connectArrived: () => seen.connects++,
    limitReached: (limit) => seen.reached.push(limit),
    published: () => seen.signs++,
    take(header, bytes, from, to) {
      // all packets here have one byte of length
      const packet = Buffer.concat([Buffer.from([header, to - from]), bytes.subarray(from, to)]);
      seen.taken.push(packet);
      seen.passed = Buffer.concat([seen.passed, packet]);
      gate.pending++;
      return true;
    },
  });
  // reads as aedes does
  socket.on('readable', () => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    seen.rest = Buffer.concat([seen.rest, chunk]);
    seen.passed = Buffer.concat([seen.passed, chunk]);
  });
  return { socket, gate, seen };
}

describe('the gate', () => {
  it('passes the CONNECT alone, and the rest when it is opened', async () => {
    const { socket, gate, seen } = setUp();
    const connect = generate(connectPacket());
    socket.push(Buffer.concat([connect, publish(1), publish(2)]));
    await eventually(() => gate.hold === 'connect', 'the CONNECT');
    assert.deepEqual(seen.passed, connect);
    assert.equal(seen.connects, 1);
    gate.open();
    await eventually(() => seen.passed.length > connect.length, 'the rest');
    assert.deepEqual(seen.passed, Buffer.concat([connect, publish(1), publish(2)]));
    assert.deepEqual(seen.reached, []);
  });

  it('does not read from a client that does not read, and ends it after a while', async () => {
    const { socket, gate, seen } = setUp({ drainTimeoutMs: 50 });
    socket.push(generate(connectPacket()));
    await eventually(() => seen.connects === 1, 'the CONNECT');
    gate.open();
    const before = seen.passed.length;
    socket.reads = false;
    socket.write(Buffer.alloc(300_000));
    socket.push(publish(1));
    await eventually(() => gate.hold === 'unsent', 'the gate to close');
    assert.equal(seen.passed.length, before);
    await eventually(() => socket.destroyed, 'the end');
    assert.equal((socket.errored as Error).message, 'drain timeout');
    assert.deepEqual(seen.reached, ['unsent']);
  });

  it('reads on when the client has read', async () => {
    const { socket, gate, seen } = setUp({ drainTimeoutMs: 5_000 });
    socket.push(generate(connectPacket()));
    await eventually(() => seen.connects === 1, 'the CONNECT');
    gate.open();
    const before = seen.passed.length;
    socket.reads = false;
    socket.write(Buffer.alloc(300_000));
    socket.lend(publish(1));
    await eventually(() => gate.hold === 'unsent', 'the gate to close');
    socket.readAll();
    await eventually(() => seen.passed.length > before, 'the publish');
    assert.deepEqual(seen.taken, [publish(1)]);
    assert.equal(gate.hold, null);
    assert.equal(socket.destroyed, false);
  });

  it('does not announce the end of the stream before what it holds has passed', async () => {
    const { socket, gate, seen } = setUp({ pendingPerClient: 1 });
    let ended = false;
    socket.on('end', () => {
      ended = true;
    });
    socket.push(Buffer.concat([CONNECT, publish(1), publish(2)]));
    socket.push(null);
    await eventually(() => gate.hold === 'connect', 'the CONNECT');
    gate.open();
    const connect = CONNECT.length;
    await eventually(() => gate.hold === 'pending_per_client', 'the first publish');
    assert.equal(ended, false);
    gate.completed();
    await eventually(() => ended, 'the end');
    assert.equal(seen.passed.length, connect + 2 * publish(1).length);
  });

  it('passes everything in order and once, and asks for more only when nothing waits, whatever comes when', async () => {
    const packet = fc.constantFrom(publish(1), publish(2), generate({ cmd: 'pingreq' }), SUBSCRIBE);
    const run = fc.record({
      packets: fc.array(packet, { maxLength: 40 }),
      cuts: fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 10 }),
      // how many chunks a socket still brings after it was told to stop, as TLS does
      late: fc.integer({ min: 0, max: 3 }),
      pendingPerClient: fc.integer({ min: 1, max: 5 }),
      completes: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 10 }),
    });
    const holds = { count: 0 };
    await fc.assert(
      fc.asyncProperty(run, async ({ packets, cuts, late, pendingPerClient, completes }) => {
        const { socket, gate, seen } = setUp({ pendingPerClient });
        const ended = new Promise((resolve) => socket.on('end', resolve));
        const chunks = chop(Buffer.concat([CONNECT, ...packets]), cuts);
        let after = late;
        let over = false;
        for (let step = 0; chunks.length > 0 || gate.pending > 0 || gate.hold !== null; step++) {
          assert(step < 5_000, 'nothing moves any more');
          assert(gate.hold === null || !socket.asked);
          if (socket.asked) after = late;
          while (chunks.length > 0 && (socket.asked || after-- > 0)) {
            socket.lend(chunks.shift()!);
            if (gate.hold !== null) {
              holds.count++;
              assert.equal(socket.asked, false);
            }
          }
          if (chunks.length === 0 && !over) over = !socket.push(null);
          if (gate.hold === 'connect' || seen.connects === 1) gate.open();
          const completed = Math.min(gate.pending, step % 7 === 6 ? 1 : completes[step % completes.length]!);
          for (let i = 0; i < completed; i++) gate.completed();
          await new Promise((resolve) => setImmediate(resolve));
        }
        await ended;
        const isPublish = (bytes: Buffer) => bytes[0]! >> 4 === 3;
        assert.deepEqual(seen.taken, packets.filter(isPublish));
        assert.deepEqual(seen.rest, Buffer.concat([CONNECT, ...packets.filter((bytes) => !isPublish(bytes))]));
      }),
      { numRuns: 200 },
    );
    assert(holds.count > 200);
  });

  it('that is shut passes nothing any more', async () => {
    const { socket, gate, seen } = setUp();
    socket.push(generate(connectPacket()));
    await eventually(() => seen.connects === 1, 'the CONNECT');
    gate.open();
    const before = seen.passed.length;
    gate.shut();
    gate.open();
    socket.push(publish(1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(seen.passed.length, before);
  });
});

describe('a token bucket', () => {
  it('lets a second of its rate through at once, then its rate', () => {
    let nowMs = 0;
    const bucket = new TokenBucket(10, { nowMs: () => nowMs, monotonicMs: () => nowMs });
    assert.equal(bucket.available, 10);
    bucket.take(10);
    assert.equal(bucket.available, 0);
    assert.equal(bucket.waitMs, 100);
    nowMs = 350;
    assert.equal(bucket.available, 3);
    nowMs = 1_000_000;
    assert.equal(bucket.available, 10);
  });

  it('is in force at once on the real clock', () => {
    const bucket = new TokenBucket(3, systemClock);
    bucket.take(3);
    assert.equal(bucket.available, 0);
  });
});

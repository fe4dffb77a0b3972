/** Each limit: reached, counted under its name, harmless to the others, and nothing acknowledged is lost by it. */
import assert from 'node:assert/strict';
import { connect as connectTcp, type Socket } from 'node:net';
import { generate, type Packet } from 'mqtt-packet';
import { connectPacket, eventually, type RawClient } from '../support/mqtt-raw.ts';
import { until } from '../support/until.ts';
import { ACCEPTED, type Harness, type HarnessOptions, startHarness } from './harness.ts';

describe('the limit', () => {
  let harness: Harness;
  const sockets: Socket[] = [];
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await harness.close();
  });

  async function start(options: HarnessOptions = {}): Promise<void> {
    harness = await startHarness(options);
  }

  /** A subscriber that stops reading for good. */
  async function frozen(filter: string, qos: 0 | 1 = 0): Promise<Socket> {
    const socket = connectTcp({ port: harness.port, host: '127.0.0.1' });
    sockets.push(socket);
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('connect', resolve));
    socket.write(generate(connectPacket({ clientId: `frozen-${sockets.length}` })));
    socket.write(generate({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: filter, qos }] }));
    // CONNACK and SUBACK
    await new Promise<void>((resolve) => {
      let bytes = 0;
      socket.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes >= 9) resolve();
      });
    });
    socket.pause();
    return socket;
  }

  it('connections: one more is closed before anything is read, and has room again when one leaves', async () => {
    await start({ limits: { connections: 3 } });
    const clients = [await harness.connected(), await harness.connected(), await harness.connected()];
    const fourth = await harness.open();
    await fourth.untilClosed();
    assert.equal(await harness.limitReached('connections'), 1);
    clients[0]!.end();
    await eventually(() => harness.broker.stats().connections === 2, 'one to leave');
    await harness.connected();
    assert.equal(await harness.counter('millrace_connections'), 3);
  });

  describe('packet', () => {
    it('closes from the header of a packet that is too long, before its body is there', async () => {
      await start({ limits: { packetBytes: 1_000 } });
      const client = await harness.connected();
      client.write(Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]));
      await client.untilClosed();
      assert.equal(await harness.limitReached('packet'), 1);
    });

    it('holds before CONNECT too', async () => {
      await start({ limits: { packetBytes: 1_000 } });
      const client = await harness.open();
      client.write(Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f]));
      await client.untilClosed();
      assert.deepEqual(client.packets, []);
      assert.equal(await harness.limitReached('packet'), 1);
    });

    it('lets a packet of exactly its size through, and not one byte more', async () => {
      await start({ limits: { packetBytes: 1_000 } });
      const client = await harness.connected();
      const overhead = generate(publish('a', '')).length + 1; // a remaining length of two bytes
      client.publish('a', Buffer.alloc(1_000 - overhead), 1, 1);
      await client.until('puback');
      client.publish('a', Buffer.alloc(1_001 - overhead), 1, 2);
      await client.untilClosed();
      assert.equal(harness.arrived.length, 1);
    });

    it('keeps what a slow sender has begun within bounds', async () => {
      await start({ limits: { packetBytes: 100_000 } });
      const client = await harness.open();
      // the header promises more than is sent; then far more than it promised
      client.write(Buffer.concat([generate(connectPacket()), Buffer.from([0x32, 0xa0, 0x8d, 0x06])]));
      await client.until('connack');
      await eventually(() => client.closed, 'the connection to be closed for 100,000 bytes and more');
      assert.equal(await harness.limitReached('packet'), 1);
    });
  });

  describe('pending_per_client', () => {
    it('bounds what is accepted of one client, stops reading it, and lets the rest through afterwards, in order', async () => {
      await start({ answer: null, limits: { pendingPerClient: 8 } });
      const client = await harness.connected();
      for (let id = 1; id <= 100; id++) client.publish('a', `${id}`, 1, id);
      await eventually(() => harness.arrived.length === 8, 'eight to arrive');
      await settled();
      assert.equal(harness.arrived.length, 8, 'and no more');
      assert.equal(harness.broker.stats().pending, 8);
      let seen = 0;
      while (client.acknowledged().length < 100) {
        await eventually(() => harness.arrived.length > seen, 'more to arrive');
        assert.ok(harness.broker.stats().pending <= 8);
        harness.arrived[seen++]!.settle(ACCEPTED);
        await client.until('puback', seen);
      }
      assert.deepEqual(
        harness.arrived.map(({ text }) => text),
        Array.from({ length: 100 }, (_, i) => `${i + 1}`),
      );
      assert.ok((await harness.limitReached('pending_per_client')) > 0);
    });

    it('bounds packets that arrive one by one, too', async () => {
      await start({ answer: null, limits: { pendingPerClient: 8 } });
      const client = await harness.connected();
      for (let id = 1; id <= 50; id++) {
        client.publish('a', `${id}`, id % 3 === 0 ? 0 : 1, id);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await settled();
      assert.equal(harness.arrived.length, 8);
    });

    it('stops the socket: the sender is held by TCP, not by our memory', async () => {
      await start({ answer: null, limits: { pendingPerClient: 2 } });
      const client = await harness.connected();
      const big = Buffer.alloc(100_000);
      for (let id = 1; id <= 200; id++) client.publish('a', big, 1, id);
      await eventually(() => harness.arrived.length === 2, 'two to arrive');
      await settled();
      const stuck = client.stream.writableLength;
      assert.ok(stuck > 5_000_000, `${stuck} bytes of 20 MB have not left the sender`);
      for (let i = 0; i < 200; i++) {
        await eventually(() => harness.arrived.length > i, 'the next to arrive');
        harness.arrived[i]!.settle(ACCEPTED);
      }
      await client.until('puback', 200);
    });

    it('of one client does not slow another', async () => {
      await start({ answer: null, limits: { pendingPerClient: 4 } });
      const stuck = await harness.connected({ clientId: 'stuck' });
      for (let id = 1; id <= 1_000; id++) stuck.publish('stuck', 'x'.repeat(200), 1, id);
      await eventually(() => harness.arrived.length === 4, 'the bound');
      const held = harness.arrived.splice(0);
      harness.answer = ({ client }) => {
        assert.equal(client, 'free');
        return ACCEPTED;
      };
      const free = await harness.connected({ clientId: 'free' });
      for (let id = 1; id <= 500; id++) free.publish('free', 'x', 1, id);
      await free.until('puback', 500);
      harness.answer = () => ACCEPTED;
      for (const { settle } of held) settle(ACCEPTED);
      await stuck.until('puback', 1_000);
    });
  });

  describe('pending', () => {
    it('bounds the bytes of all clients together; who waits gets on when there is room', async () => {
      await start({ answer: null, limits: { pendingBytes: 10_000 } });
      const clients = [await harness.connected(), await harness.connected(), await harness.connected()];
      const payload = Buffer.alloc(1_000);
      for (const client of clients) for (let id = 1; id <= 20; id++) client.publish('a', payload, 1, id);
      await eventually(() => harness.broker.stats().pendingBytes >= 10_000, 'the bound');
      await settled();
      const { pendingBytes } = harness.broker.stats();
      assert.ok(pendingBytes <= 10_000 + 3 * 1_000, `${pendingBytes}: the limit and a packet of each`);
      assert.ok(harness.arrived.length < 15);
      for (let i = 0; i < 60; i++) {
        await eventually(() => harness.arrived.length > i, 'the next to arrive');
        harness.arrived[i]!.settle(ACCEPTED);
        assert.ok(harness.broker.stats().pendingBytes <= 13_000);
      }
      for (const client of clients) await client.until('puback', 20);
      assert.ok((await harness.limitReached('pending')) > 0);
      assert.equal(harness.broker.stats().pendingBytes, 0);
    });

    it('lets a packet larger than the limit through when nothing else is pending', async () => {
      await start({ limits: { pendingBytes: 100 } });
      const client = await harness.connected();
      client.publish('a', Buffer.alloc(5_000), 1, 1);
      client.publish('a', Buffer.alloc(5_000), 1, 2);
      await client.until('puback', 2);
    });

    it('does not hold up a client that only listens, or pings', async () => {
      await start({ answer: null, limits: { pendingBytes: 100 } });
      const client = await harness.connected();
      client.publish('a', Buffer.alloc(5_000), 1, 1);
      await eventually(() => harness.arrived.length === 1, 'the first');
      const other = await harness.connected();
      await other.subscribe('b');
      await other.ping();
      await client.ping();
    });
  });

  describe('rate_per_client', () => {
    it('slows a user to its rate, over all its connections, without losing anything', async () => {
      await start({ limits: { ratePerClient: 50 } });
      const client = await harness.connected({ clientId: 'fast' });
      const startMs = performance.now();
      for (let id = 1; id <= 75; id++) client.publish('a', `${id}`, 1, id);
      await client.until('puback', 75);
      const tookMs = performance.now() - startMs;
      assert.ok(tookMs > 400, `75 at 50 a second, of which 50 at once, took ${tookMs} ms`);
      assert.ok((await harness.limitReached('rate_per_client')) > 0);
      assert.deepEqual(
        client.acknowledged(),
        Array.from({ length: 75 }, (_, i) => i + 1),
      );
    });

    it('does not slow another user', async () => {
      await start({ limits: { ratePerClient: 20 } });
      const fast = await harness.connected({ clientId: 'fast' });
      for (let id = 1; id <= 100; id++) fast.publish('fast', 'x', 1, id);
      await fast.until('puback', 20);
      const other = await harness.connected({ clientId: 'other' });
      const startMs = performance.now();
      for (let id = 1; id <= 10; id++) other.publish('other', 'x', 1, id);
      await other.until('puback', 10);
      assert.ok(performance.now() - startMs < 500);
    });
  });

  it('connect_timeout: who does not send a whole CONNECT in time is disconnected', async () => {
    await start({ limits: { connectTimeoutMs: 100 } });
    const silent = await harness.open();
    const slow = await harness.open();
    slow.write(generate(connectPacket()).subarray(0, 10));
    const quick = await harness.connected();
    await silent.untilClosed();
    await slow.untilClosed();
    assert.equal(await harness.limitReached('connect_timeout'), 2);
    await quick.ping();
  });

  it('keepalive: a longer one, or none, is cut to the longest; who is silent for 1.5 times that is disconnected', async () => {
    await start({ limits: { keepaliveMaxMs: 1_000 } });
    const none = await harness.connected({ keepalive: 0 });
    const long = await harness.connected({ keepalive: 600 });
    const alive = await harness.connected({ keepalive: 1 });
    const busy = await harness.connected({ keepalive: 1 });
    let sent = 0;
    const signs = setInterval(() => {
      alive.send({ cmd: 'pingreq' });
      // a publish is a sign of life like any packet
      busy.publish('a', 'x', 1, ++sent);
    }, 300);
    const startMs = performance.now();
    await Promise.all([none.untilClosed(), long.untilClosed()]);
    clearInterval(signs);
    assert.ok(performance.now() - startMs > 1_000);
    assert.equal(alive.closed, false);
    assert.equal(busy.closed, false);
    assert.equal(await harness.limitReached('keepalive'), 2);
  });

  it('client_id_length: a longer one is refused by CONNACK 2, in bytes, for MQTT 3.1.1 too [MQTT-3.1.3-9]', async () => {
    await start({ limits: { clientIdLength: 10 } });
    await harness.connected({ clientId: '0123456789' });
    for (const clientId of ['0123456789a', 'ääääää']) {
      const client = await harness.open();
      client.connect({ clientId });
      await client.untilClosed();
      assert.equal(client.of('connack')[0]!.returnCode, 2);
    }
    assert.equal(await harness.limitReached('client_id_length'), 2);
  });

  it('topic_levels: a deeper topic ends the connection, in publishes and subscriptions', async () => {
    await start({ limits: { topicLevels: 4 } });
    const client = await harness.connected();
    client.publish('a/b/c/d', 'x', 1, 1);
    assert.equal(await client.subscribe('a/+/c/#'), 0);
    client.publish('a/b/c/d/e', 'x', 1, 2);
    await client.untilClosed();
    assert.deepEqual(client.acknowledged(), [1]);
    const subscriber = await harness.connected();
    subscriber.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a/b/c/d/#', qos: 0 }] });
    await subscriber.untilClosed();
    const deep = await harness.connected();
    deep.publish('/'.repeat(5_000), 'x', 1, 1);
    await deep.untilClosed();
    assert.equal(await harness.limitReached('topic_levels'), 3);
  });

  it('retained_messages: a further topic is not retained, one that is may change; the reading is acknowledged', async () => {
    await start({ limits: { retainedMessages: 2 } });
    const client = await harness.connected();
    for (const [id, topic] of ['a', 'b', 'c', 'a'].entries())
      client.publish(topic, `${id}`, 1, id + 1, { retain: true });
    await client.until('puback', 4);
    const watcher = await harness.connected();
    await watcher.subscribe('+');
    await watcher.until('publish', 2);
    await watcher.ping();
    assert.deepEqual(
      watcher.of('publish').map(({ topic, payload }) => `${topic}${payload}`),
      ['a3', 'b1'],
    );
    assert.equal(await harness.limitReached('retained_messages'), 1);
  });

  it('offline_sessions: a further client may connect and publish, but its subscription is refused', async () => {
    await start({ limits: { offlineSessions: 2 } });
    for (const clientId of ['one', 'two']) {
      const client = await harness.connected({ clientId, clean: false });
      assert.equal(await client.subscribe('a', 1), 1);
      client.end();
    }
    const third = await harness.connected({ clientId: 'three', clean: false });
    assert.equal(await third.subscribe('a', 1), 128);
    third.publish('b', 'x');
    await third.until('puback');
    const clean = await harness.connected({ clean: true });
    assert.equal(await clean.subscribe('a', 1), 1, 'who needs no session is not concerned');
    assert.equal(await harness.limitReached('offline_sessions'), 1);
    assert.equal(harness.broker.stats().sessions, 2);
    // one ends its session
    await harness.connected({ clientId: 'one', clean: true });
    assert.equal(await third.subscribe('a', 1), 1);
  });

  it('offline_queue: what is queued for an absent session is bounded; the oldest stay', async () => {
    await start({ limits: { offlineQueue: 5 } });
    const away = await harness.connected({ clientId: 'away', clean: false });
    await away.subscribe('a', 1);
    away.end();
    await eventually(() => harness.broker.stats().connections === 0, 'it to leave');
    const client = await harness.connected();
    for (let id = 1; id <= 20; id++) client.publish('a', `${id}`, 1, id);
    await client.until('puback', 20);
    await client.ping();
    const back = await harness.connected({ clientId: 'away', clean: false });
    await back.until('publish', 5);
    await back.ping();
    assert.deepEqual(
      back.of('publish').map(({ payload }) => payload.toString()),
      ['1', '2', '3', '4', '5'],
    );
    assert.equal(await harness.limitReached('offline_queue'), 15);
  });

  it('subscriptions_per_client: a further filter is refused by SUBACK 128; one that ends makes room', async () => {
    await start({ limits: { subscriptionsPerClient: 2 } });
    const client = await harness.connected();
    assert.equal(await client.subscribe('a'), 0);
    assert.equal(await client.subscribe('b'), 0);
    assert.equal(await client.subscribe('c'), 128);
    assert.equal(await client.subscribe('a', 1), 1, 'a known filter may be asked again');
    client.send({ cmd: 'unsubscribe', messageId: 3, unsubscriptions: ['b'] });
    await client.until('unsuback');
    assert.equal(await client.subscribe('c'), 0);
    assert.equal(await harness.limitReached('subscriptions_per_client'), 1);
  });

  describe('drain_timeout', () => {
    it('disconnects a subscriber that does not read; publishers are acknowledged meanwhile', async () => {
      await start({ limits: { drainTimeoutMs: 400 } });
      const stuck = await frozen('#');
      let closed = false;
      stuck.on('close', () => {
        closed = true;
      });
      const client = await harness.connected();
      await eventually(() => harness.broker.stats().connections === 2, 'both to be in');
      const payload = Buffer.alloc(50_000);
      let sent = 0;
      const startMs = performance.now();
      // more than the kernel keeps for a reader that sleeps
      while (harness.broker.stats().connections === 2) {
        client.publish('a', payload, 1, ++sent);
        await client.until('puback', sent);
        assert.ok(performance.now() - startMs < 15_000);
      }
      assert.equal(harness.broker.stats().connections, 1, 'the frozen one is gone');
      stuck.resume();
      await eventually(() => closed, 'the frozen one to notice');
      assert.ok((await harness.limitReached('drain_timeout')) >= 1);
      assert.ok((await harness.limitReached('forwards')) > 0, 'copies were withheld from it');
    });

    it('does not delay a single acknowledgement while it runs', async () => {
      await start({ limits: { drainTimeoutMs: 60_000 } });
      await frozen('#');
      await frozen('#', 1);
      const client = await harness.connected();
      const payload = Buffer.alloc(50_000);
      let slowestMs = 0;
      for (let id = 1; id <= 400; id++) {
        const startMs = performance.now();
        client.publish('a', payload, id % 2 ? 1 : 2, id);
        await client.until(id % 2 ? 'puback' : 'pubrec', Math.ceil(id / 2));
        slowestMs = Math.max(slowestMs, performance.now() - startMs);
      }
      assert.ok(slowestMs < 2_000, `the slowest took ${slowestMs} ms`);
      assert.equal(harness.broker.stats().connections, 3);
    });
  });

  it('forwards: ten # subscribers get copies up to a rate, and publishers are not slowed to their pace', async () => {
    await start({ limits: { forwards: 1_000 } });
    const watchers: RawClient[] = [];
    for (let i = 0; i < 10; i++) {
      watchers.push(await harness.connected());
      await watchers[i]!.subscribe('#');
    }
    const client = await harness.connected();
    for (let id = 1; id <= 1_500; id++) client.publish('a', 'x', 1, id);
    await client.until('puback', 1_500);
    await client.ping();
    const copies = watchers.reduce((sum, watcher) => sum + watcher.of('publish').length, 0);
    const withheld = await harness.limitReached('forwards');
    assert.ok(withheld > 0, 'some were withheld');
    assert.ok(copies > 0, 'some were sent');
    assert.equal(client.acknowledged().length, 1_500);
  });

  it('forwards: a subscriber of few messages gets them all, whatever the others take', async () => {
    await start({ limits: { forwards: 2_000 } });
    const greedy = [await harness.connected(), await harness.connected(), await harness.connected()];
    for (const watcher of greedy) await watcher.subscribe('#');
    const modest = await harness.connected();
    await modest.subscribe('rare');
    const client = await harness.connected();
    for (let id = 1; id <= 2_000; id++) client.publish(id % 1_000 === 0 ? 'rare' : 'often', 'x', 1, id);
    await client.until('puback', 2_000);
    await modest.until('publish', 2);
    assert.ok((await harness.limitReached('forwards')) > 0, 'the greedy ones did not get all');
  });

  it('subscribe_rate: many SUBSCRIBE packets of one client are slowed, and all answered', async () => {
    await start({ limits: { subscriptionsPerClient: 100, subscribeRate: 50 } });
    const client = await harness.connected();
    const startMs = performance.now();
    for (let id = 1; id <= 80; id++) {
      client.send({ cmd: 'subscribe', messageId: id, subscriptions: [{ topic: `a/${id}`, qos: 0 }] });
    }
    await client.until('suback', 80);
    assert.ok(performance.now() - startMs > 400, '80 at 50 a second, of which 50 at once');
    assert.ok((await harness.limitReached('subscribe_rate')) > 0);
  });

  it('qos2_window: exchanges that are begun and never finished end the connection', async () => {
    await start({ limits: { qos2Window: 20 } });
    const client = await harness.connected();
    for (let id = 1; id <= 20; id++) client.publish('a', 'x', 2, id);
    await client.until('pubrec', 20);
    assert.equal(await harness.limitReached('qos2_window'), 0);
    client.publish('a', 'x', 2, 21);
    await client.untilClosed();
    assert.equal(client.acknowledged('pubrec').length, 20);
    assert.equal(await harness.limitReached('qos2_window'), 1);
  });

  it('unsent: who does not read its replies is not read from, and is answered when it reads again', async () => {
    await start({ limits: { unsentBytes: 64 * 1024 }, retain: () => true });
    const client = await harness.connected();
    client.publish('large', Buffer.alloc(250_000), 1, 1, { retain: true });
    await client.until('puback');
    client.stream.pause();
    // each is answered with the retained message, until the buffers between the two are full
    for (let id = 1; id <= 50; id++) {
      client.send({ cmd: 'subscribe', messageId: id, subscriptions: [{ topic: 'large', qos: 0 }] });
    }
    let pings = 0;
    await until(async () => {
      client.send({ cmd: 'pingreq' });
      pings++;
      return (await harness.limitReached('unsent')) > 0;
    });
    const other = await harness.connected();
    await other.ping();
    client.publish('a', 'x', 1, 2);
    client.stream.resume();
    await client.until('puback', 2);
    assert.equal(client.of('pingresp').length, pings);
    assert.equal(client.of('suback').length, 50);
  });

  it('logs a storm of failing clients a few times, not each time', async () => {
    await start();
    const lines: unknown[] = [];
    harness.telemetry.log.warn = (...line: unknown[]) => lines.push(line);
    for (let i = 0; i < 50; i++) {
      const client = await harness.open();
      client.write(Buffer.from([0x32, 3, 0, 1, 0x61]));
      await client.untilClosed();
    }
    assert.equal(lines.length, 1);
    assert.equal(await harness.limitReached('log'), 49);
  });
});

function publish(topic: string, payload: string): Packet {
  return { cmd: 'publish', topic, payload, qos: 1, messageId: 1, dup: false, retain: false };
}

/** Long enough for what would come wrongly to have come. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 60));
}

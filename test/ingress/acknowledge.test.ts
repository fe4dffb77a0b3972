/** The promise: what an acknowledgement means, when it leaves, and in which order. */
import assert from 'node:assert/strict';
import type { Packet } from 'mqtt-packet';
import { eventually } from '../support/mqtt-raw.ts';
import { ACCEPTED, FAILED, type Harness, type HarnessOptions, REFUSED, startHarness } from './harness.ts';

type Received = Extract<Packet, { cmd: 'publish' }>;

describe('acknowledging', () => {
  let harness: Harness;
  afterEach(() => harness.close());

  async function start(options: HarnessOptions = {}): Promise<void> {
    harness = await startHarness({ answer: null, ...options });
  }

  async function arrived(count: number): Promise<void> {
    await eventually(() => harness.arrived.length >= count, `${count} publishes to arrive`);
    assert.equal(harness.arrived.length, count);
  }

  describe('a QoS 1 publish', () => {
    it('gets its PUBACK only after it is settled', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a/b', 'payload', 1, 7);
      await arrived(1);
      await client.ping();
      assert.deepEqual(client.acknowledged(), []);
      harness.arrived[0]!.settle(ACCEPTED);
      await client.until('puback');
      assert.deepEqual(client.acknowledged(), [7]);
    });

    it('reaches the pipeline with its topic, bytes, client and the stamp of its arrival', async () => {
      let stamp = 1_700_000_000_000;
      await start({ broker: { received: () => stamp++ } });
      const client = await harness.connected({ clientId: 'pump-17' });
      const payload = Buffer.from([0, 255, 0x7b, 10]);
      client.publish('plant/7', payload);
      client.publish('plant/7', 'next', 1, 2);
      await arrived(2);
      const { topic, payload: bytes, client: id, receivedMs } = harness.arrived[0]!;
      assert.deepEqual(
        { topic, id, receivedMs, bytes: Buffer.from(bytes) },
        { topic: 'plant/7', id: 'pump-17', receivedMs: 1_700_000_000_000, bytes: payload },
      );
      assert.equal(harness.arrived[1]!.receivedMs, 1_700_000_000_001);
    });

    it('is acknowledged in order of arrival, whatever the order of settling [MQTT-4.6.0-2]', async () => {
      await start();
      const client = await harness.connected();
      for (let id = 1; id <= 20; id++) client.publish('a', `${id}`, 1, id);
      await arrived(20);
      for (const i of [19, 3, 4, 18, 1, 2]) harness.arrived[i]!.settle(ACCEPTED);
      await client.ping();
      assert.deepEqual(client.acknowledged(), []);
      harness.arrived[0]!.settle(ACCEPTED);
      await client.until('puback', 5);
      await client.ping();
      assert.deepEqual(client.acknowledged(), [1, 2, 3, 4, 5]);
      for (let i = 17; i >= 5; i--) harness.arrived[i]!.settle(ACCEPTED);
      await client.until('puback', 20);
      assert.deepEqual(
        client.acknowledged(),
        Array.from({ length: 20 }, (_, i) => i + 1),
      );
    });

    it('of one client does not wait for another client', async () => {
      await start();
      const [first, second] = [await harness.connected(), await harness.connected()];
      first.publish('a', 'held');
      await arrived(1);
      second.publish('b', 'quick');
      await arrived(2);
      harness.arrived[1]!.settle(ACCEPTED);
      await second.until('puback');
      assert.deepEqual(first.acknowledged(), []);
    });

    it('that is refused is acknowledged too: its dead letter is durable', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', 'bad', 1, 3);
      await arrived(1);
      harness.arrived[0]!.settle(REFUSED);
      await client.until('puback');
      await client.ping();
      assert.equal(client.closed, false);
    });

    it('may be settled at once, within accept', async () => {
      await start({ answer: () => ACCEPTED });
      const client = await harness.connected();
      for (let id = 1; id <= 300; id++) client.publish('a', 'x', 1, id);
      await client.until('puback', 300);
    });

    it('settled twice is acknowledged once, and no other in its place', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', '1', 1, 1);
      client.publish('a', '2', 1, 2);
      await arrived(2);
      harness.arrived[0]!.settle(ACCEPTED);
      harness.arrived[0]!.settle(ACCEPTED);
      await client.ping();
      assert.deepEqual(client.acknowledged(), [1]);
    });

    it('whose completion fails in the broker does not disturb who settles it', async () => {
      await start({
        retain: (topic) => {
          if (topic === 'bad') throw new Error('a bug');
          return false;
        },
      });
      const [bad, good] = [await harness.connected(), await harness.connected()];
      bad.publish('bad', '1', 1, 1);
      await arrived(1);
      good.publish('good', '1', 1, 1);
      await arrived(2);
      for (const { settle } of harness.arrived) settle(ACCEPTED);
      await good.until('puback');
      await bad.untilClosed();
      assert.equal(harness.broker.stats().pending, 0);
    });

    it('on which the pipeline throws is not acknowledged, and the process lives', async () => {
      await start({
        answer: () => {
          throw new Error('a bug');
        },
      });
      const client = await harness.connected();
      client.publish('a', '1', 1, 1);
      await client.untilClosed();
      assert.deepEqual(client.acknowledged(), []);
    });
  });

  describe('a publish that could not be made durable', () => {
    it('is not acknowledged, nor is what is behind it; the connection is closed, and the repetition is taken', async () => {
      await start();
      const client = await harness.connected({ clientId: 'pump', clean: false });
      for (let id = 1; id <= 4; id++) client.publish('a', `${id}`, 1, id);
      await arrived(4);
      harness.arrived[0]!.settle(ACCEPTED);
      harness.arrived[2]!.settle(ACCEPTED);
      harness.arrived[1]!.settle(FAILED);
      await client.untilClosed();
      assert.deepEqual(client.acknowledged(), [1]);
      harness.arrived[3]!.settle(ACCEPTED);

      const again = await harness.connected({ clientId: 'pump', clean: false });
      for (let id = 2; id <= 4; id++) again.publish('a', `${id}`, 1, id, { dup: true });
      await arrived(7);
      for (const { settle } of harness.arrived.slice(4)) settle(ACCEPTED);
      await again.until('puback', 3);
      assert.deepEqual(again.acknowledged(), [2, 3, 4]);
      assert.equal(await harness.counter('millrace_turned_away_total', { reason: 'failed' }), 1);
    });

    it('closes the connection also when one behind it may not be made', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', '1', 1, 1);
      client.publish('$SYS/x', '2', 1, 2);
      await arrived(1);
      await new Promise((resolve) => setTimeout(resolve, 30));
      assert.equal(client.closed, false);
      harness.arrived[0]!.settle(FAILED);
      await client.untilClosed();
      assert.deepEqual(client.acknowledged(), []);
    });

    it('stops the reading of its client until then, which spreads the storm', async () => {
      await start({ broker: { failureHoldMs: 300 } });
      const client = await harness.connected();
      client.publish('a', '1', 1, 1);
      await arrived(1);
      const failedMs = performance.now();
      harness.arrived[0]!.settle(FAILED);
      client.publish('a', '2', 1, 2);
      await client.untilClosed();
      assert.equal(harness.arrived.length, 1, 'the second is not read');
      assert.ok(performance.now() - failedMs > 200);
    });

    it('is counted and gone when it is QoS 0; the connection stays', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', '1', 0);
      client.publish('a', '2', 1, 2);
      await arrived(2);
      harness.arrived[0]!.settle(FAILED);
      harness.arrived[1]!.settle(ACCEPTED);
      await client.until('puback');
      assert.equal(await harness.counter('millrace_turned_away_total', { reason: 'failed' }), 1);
    });
  });

  describe('a QoS 2 publish', () => {
    it('gets its PUBREC only after it is settled, then PUBCOMP for PUBREL [MQTT-4.3.3-2]', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', 'x', 2, 5);
      await arrived(1);
      await client.ping();
      assert.deepEqual(client.acknowledged('pubrec'), []);
      harness.arrived[0]!.settle(ACCEPTED);
      await client.until('pubrec');
      client.send({ cmd: 'pubrel', messageId: 5 });
      await client.until('pubcomp');
      assert.deepEqual([client.acknowledged('pubrec'), client.acknowledged('pubcomp')], [[5], [5]]);
    });

    it('repeated before its PUBREL is counted once and gets its PUBREC again [MQTT-4.3.3-2]', async () => {
      await start({ answer: () => ACCEPTED });
      const client = await harness.connected({ clientId: 'two', clean: false });
      client.publish('a', 'x', 2, 5);
      await client.until('pubrec');
      client.publish('a', 'x', 2, 5, { dup: true });
      await client.until('pubrec', 2);
      client.end();
      const again = await harness.connected({ clientId: 'two', clean: false });
      again.publish('a', 'x', 2, 5, { dup: true });
      await again.until('pubrec');
      assert.equal(harness.arrived.length, 1);
      again.send({ cmd: 'pubrel', messageId: 5 });
      await again.until('pubcomp');
      again.publish('a', 'the next', 2, 5);
      await again.until('pubrec', 2);
      assert.equal(harness.arrived.length, 2, 'after the PUBREL the identifier is free');
    });

    it('repeated while it waits is counted once, and both get their PUBREC after it is settled', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', 'x', 2, 5);
      client.publish('a', 'x', 2, 5, { dup: true });
      await client.ping();
      await arrived(1);
      harness.arrived[0]!.settle(ACCEPTED);
      await client.until('pubrec', 2);
      assert.equal(harness.arrived.length, 1);
    });

    it('gets its PUBREC in order of arrival, also when local subscribers take their time [MQTT-4.6.0-3]', async () => {
      await start();
      const client = await harness.connected();
      const watcher = await harness.connected();
      await watcher.subscribe('watched/#', 1);
      // odd ones have a subscriber to be delivered to, even ones have none
      for (let id = 1; id <= 30; id++) client.publish(id % 2 ? 'watched/x' : 'unseen', `${id}`, 2, id);
      await arrived(30);
      for (const { settle } of [...harness.arrived].reverse()) settle(ACCEPTED);
      await client.until('pubrec', 30);
      assert.deepEqual(
        client.acknowledged('pubrec'),
        Array.from({ length: 30 }, (_, i) => i + 1),
      );
    });

    it('keeps its place among QoS 1 and QoS 0 publishes', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', '1', 1, 1);
      client.publish('a', '2', 2, 2);
      client.publish('a', '3', 0);
      client.publish('a', '4', 1, 4);
      await arrived(4);
      for (const { settle } of [...harness.arrived].reverse()) settle(ACCEPTED);
      await client.until('puback', 2);
      assert.deepEqual(
        client.packets.slice(1).map((packet) => [packet.cmd, packet.messageId]),
        [
          ['puback', 1],
          ['pubrec', 2],
          ['puback', 4],
        ],
      );
    });

    it('that failed may be sent again under its identifier', async () => {
      await start();
      const client = await harness.connected({ clientId: 'two', clean: false });
      client.publish('a', 'x', 2, 5);
      await arrived(1);
      harness.arrived[0]!.settle(FAILED);
      await client.untilClosed();
      const again = await harness.connected({ clientId: 'two', clean: false });
      again.publish('a', 'x', 2, 5, { dup: true });
      await arrived(2);
      harness.arrived[1]!.settle(ACCEPTED);
      await again.until('pubrec');
    });
  });

  describe('a client that leaves before its publishes are settled', () => {
    it('frees what it held when they are', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', '12345', 1, 1);
      client.publish('a', '67890', 0);
      await arrived(2);
      assert.deepEqual([harness.broker.stats().pending, harness.broker.stats().pendingBytes], [2, 10]);
      client.end();
      await eventually(() => harness.broker.stats().connections === 0, 'the client to be gone');
      harness.arrived[1]!.settle(ACCEPTED);
      harness.arrived[0]!.settle(FAILED);
      assert.deepEqual([harness.broker.stats().pending, harness.broker.stats().pendingBytes], [0, 0]);
    });

    it('has its accepted readings delivered to local subscribers all the same', async () => {
      await start();
      const watcher = await harness.connected();
      await watcher.subscribe('a', 1);
      const client = await harness.connected();
      client.publish('a', 'fire', 0);
      client.publish('a', 'and forget', 1, 2);
      client.send({ cmd: 'disconnect' });
      await arrived(2);
      await client.untilClosed();
      for (const { settle } of harness.arrived) settle(ACCEPTED);
      await watcher.until('publish', 2);
      assert.deepEqual(
        watcher.of('publish').map(({ payload }) => payload.toString()),
        ['fire', 'and forget'],
      );
    });
  });

  describe('local subscribers', () => {
    it('get an accepted reading after it is durable, a refused or failed one never', async () => {
      await start();
      const watcher = await harness.connected();
      await watcher.subscribe('#', 1);
      const client = await harness.connected();
      for (const [id, text] of ['bad', 'lost', 'good'].entries())
        client.publish('a/b', text, text === 'lost' ? 0 : 1, id + 1);
      await arrived(3);
      await watcher.ping();
      assert.deepEqual(watcher.of('publish'), []);
      harness.arrived[0]!.settle(REFUSED);
      harness.arrived[1]!.settle(FAILED);
      harness.arrived[2]!.settle(ACCEPTED);
      await watcher.until('publish');
      await watcher.ping();
      assert.deepEqual(
        watcher.of('publish').map(({ topic, payload, retain }) => [topic, payload.toString(), retain]),
        [['a/b', 'good', false]],
      );
    });

    it('get it at the QoS they asked for, also by a wildcard [MQTT-3.8.4-6]', async () => {
      await start({ answer: () => ACCEPTED });
      const client = await harness.connected();
      for (const [filter, asked] of [
        ['a/b', 0],
        ['a/+', 0],
        ['a/b', 1],
        ['a/#', 1],
      ] as const) {
        const watcher = await harness.connected();
        await watcher.subscribe(filter, asked);
        client.publish('a/b', 'x', 2, 1);
        const got = (await watcher.until('publish')) as Received;
        assert.equal(got.qos, asked, `${filter} at QoS ${asked}`);
        client.send({ cmd: 'pubrel', messageId: 1 });
        watcher.end();
      }
    });

    it('of a wildcard see nothing of the broker, nor where refused payloads go [MQTT-4.7.2-1]', async () => {
      await start({ answer: () => REFUSED });
      const watcher = await harness.connected();
      await watcher.subscribe('#', 0);
      await watcher.subscribe('+/+', 0);
      const client = await harness.connected();
      client.publish('a/b', 'bad', 1, 1);
      await client.until('puback');
      await watcher.ping();
      assert.deepEqual(watcher.of('publish'), []);
      for (const filter of ['$SYS/#', '$deadletter', '$deadletter/#', '$millrace/#', '$millrace/refused/+']) {
        assert.equal(await watcher.subscribe(filter, 0), 128, filter);
      }
    });
  });

  describe('a device whose payload is refused', () => {
    it('is told why, on its own topic, if it subscribed to it', async () => {
      await start({ answer: ({ payload }) => (payload.length === 3 ? REFUSED : ACCEPTED) });
      const client = await harness.connected({ clientId: 'pump-17' });
      const other = await harness.connected({ clientId: 'pump-18' });
      await client.subscribe('$millrace/refused/pump-17');
      assert.equal(await other.subscribe('$millrace/refused/pump-17'), 128);
      client.publish('plant/7', 'bad', 1, 1);
      const notice = (await client.until('publish')) as Received;
      assert.equal(notice.topic, '$millrace/refused/pump-17');
      assert.deepEqual(JSON.parse(notice.payload.toString()), {
        code: 'schema',
        reason: 'temperature: not a number',
        topic: 'plant/7',
        untold: 0,
      });
      await other.ping();
      assert.deepEqual(other.of('publish'), []);
    });

    it('is told at most once a second, with the number of those left out', async () => {
      let nowMs = 0;
      await start({ answer: () => REFUSED, clock: { nowMs: () => nowMs, monotonicMs: () => nowMs } });
      const client = await harness.connected({ clientId: 'pump' });
      await client.subscribe('$millrace/refused/pump');
      for (let id = 1; id <= 10; id++) client.publish('a', 'bad', 1, id);
      await client.until('puback', 10);
      nowMs = 1_000;
      client.publish('a', 'bad', 1, 11);
      await client.until('publish', 2);
      await client.ping();
      assert.deepEqual(
        client.of('publish').map(({ payload }) => JSON.parse(payload.toString()).untold),
        [0, 9],
      );
    });
  });

  describe('a retained message', () => {
    async function retained(filter: string): Promise<string[]> {
      const watcher = await harness.connected();
      await watcher.subscribe(filter);
      await watcher.ping();
      await watcher.ping();
      return watcher.of('publish').map(({ topic, payload, retain }) => `${topic}=${payload} ${retain}`);
    }

    it('is what its publisher asked to retain, once accepted', async () => {
      await start({ answer: ({ payload }) => (Buffer.from(payload).toString() === 'bad' ? REFUSED : ACCEPTED) });
      const client = await harness.connected();
      client.publish('a/1', 'good', 1, 1, { retain: true });
      client.publish('a/2', 'bad', 1, 2, { retain: true });
      client.publish('a/3', 'live', 1, 3);
      await client.until('puback', 3);
      await client.ping();
      assert.deepEqual(await retained('#'), ['a/1=good true']);
    });

    it('is what its stream retains', async () => {
      await start({ answer: () => ACCEPTED, retain: (topic) => topic.startsWith('state/') });
      const client = await harness.connected();
      client.publish('state/1', 'old', 1, 1);
      client.publish('state/1', 'new', 1, 2);
      client.publish('events/1', 'x', 1, 3);
      await client.until('puback', 3);
      await client.ping();
      assert.deepEqual(await retained('+/1'), ['state/1=new true']);
    });

    it('is cleared by a retained publish without payload, which is no reading [MQTT-3.3.1-10]', async () => {
      await start({ answer: () => ACCEPTED });
      const client = await harness.connected();
      client.publish('a', 'x', 1, 1, { retain: true });
      await client.until('puback');
      client.publish('a', '', 1, 2, { retain: true });
      await client.until('puback', 2);
      await client.ping();
      assert.deepEqual(await retained('a'), []);
      assert.equal(harness.arrived.length, 1);
      assert.equal(await harness.counter('millrace_received_total'), 1);
    });
  });

  describe('a will', () => {
    const will = { topic: 'plant/gone', payload: Buffer.from('{"gone":1}'), qos: 1 as const, retain: false };

    it('becomes a reading like any other, when its client breaks off [MQTT-3.1.2-8]', async () => {
      await start();
      const watcher = await harness.connected();
      await watcher.subscribe('plant/#', 1);
      const client = await harness.connected({ clientId: 'pump', will });
      client.end();
      await arrived(1);
      assert.deepEqual(
        [harness.arrived[0]!.topic, harness.arrived[0]!.text, harness.arrived[0]!.client],
        ['plant/gone', '{"gone":1}', 'pump'],
      );
      await watcher.ping();
      assert.deepEqual(watcher.of('publish'), []);
      harness.arrived[0]!.settle(ACCEPTED);
      await watcher.until('publish');
      assert.equal(harness.broker.stats().pending, 0);
    });

    it('is kept from local subscribers when it is refused', async () => {
      await start({ answer: () => REFUSED });
      const watcher = await harness.connected();
      await watcher.subscribe('#', 1);
      const client = await harness.connected({ will });
      client.end();
      await arrived(1);
      await watcher.ping();
      await watcher.ping();
      assert.deepEqual(watcher.of('publish'), []);
    });

    it('is discarded by a DISCONNECT [MQTT-3.14.4-3], also one that waits behind held publishes', async () => {
      await start({ limits: { pendingPerClient: 2 } });
      const client = await harness.connected({ will });
      for (let id = 1; id <= 4; id++) client.publish('a', `${id}`, 1, id);
      client.send({ cmd: 'disconnect' });
      client.stream.end();
      await arrived(2);
      for (const { settle } of [...harness.arrived]) settle(ACCEPTED);
      await arrived(4);
      await client.untilClosed();
      await eventually(() => harness.broker.stats().connections === 0, 'the client to be gone');
      assert.deepEqual(
        harness.arrived.map(({ text }) => text),
        ['1', '2', '3', '4'],
      );
    });

    it('is not published because the gateway stops', async () => {
      await start({ answer: () => ACCEPTED });
      await harness.connected({ will });
      await harness.broker.close();
      assert.deepEqual(harness.arrived, []);
    });
  });

  describe('the numbers', () => {
    it('balance: received = acknowledged + turned away', async () => {
      await start({
        answer: ({ payload }) => [ACCEPTED, REFUSED, FAILED][payload[0]! % 3]!,
      });
      const client = await harness.connected();
      for (let i = 0; i < 9; i++) client.publish('a', Buffer.from([i]), 0);
      client.publish('a', Buffer.from([0]), 1, 1);
      client.publish('a', Buffer.from([1]), 1, 2);
      client.publish('a', Buffer.from([0]), 2, 3);
      await client.until('pubrec');
      client.publish('$SYS/x', 'x', 1, 4);
      await client.untilClosed();
      assert.equal(await harness.counter('millrace_received_total', { source: 'mqtt' }), 13);
      assert.equal(await harness.counter('millrace_acknowledged_total', { qos: '0' }), 6);
      assert.equal(await harness.counter('millrace_acknowledged_total', { qos: '1' }), 2);
      assert.equal(await harness.counter('millrace_acknowledged_total', { qos: '2' }), 1);
      assert.equal(await harness.counter('millrace_turned_away_total', { reason: 'failed' }), 3);
      assert.equal(await harness.counter('millrace_turned_away_total', { reason: 'not-authorized' }), 1);
    });
  });

  it('does not lose acknowledgements on the wire when the connection of a client that goes on sending is closed', async () => {
    for (let round = 0; round < 10; round++) {
      await start({ answer: () => ACCEPTED });
      const client = await harness.connected();
      for (let id = 1; id <= 10; id++) client.publish('a', 'x', 1, id);
      client.publish('$SYS/not/allowed', 'x', 1, 11);
      // what is never read would reset the connection
      for (let i = 0; i < 50; i++) client.publish('a', Buffer.alloc(20_000), 0);
      await client.untilClosed();
      assert.equal(client.acknowledged().length, 10);
      if (round < 9) await harness.close();
    }
  });

  describe('stopping', () => {
    it('lets what is pending be acknowledged, takes nothing new, then closes', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', '1', 1, 1);
      client.publish('a', '2', 2, 2);
      await arrived(2);
      const closing = harness.broker.close(5_000);
      client.publish('a', '3', 1, 3);
      await assert.rejects(harness.open());
      harness.arrived[0]!.settle(ACCEPTED);
      harness.arrived[1]!.settle(ACCEPTED);
      await client.untilClosed();
      await closing;
      assert.deepEqual([client.acknowledged(), client.acknowledged('pubrec')], [[1], [2]]);
      assert.equal(harness.arrived.length, 2);
    });

    it('does not wait longer than it was told', async () => {
      await start();
      const client = await harness.connected();
      client.publish('a', '1', 1, 1);
      await arrived(1);
      const startMs = performance.now();
      await harness.broker.close(50);
      assert.ok(performance.now() - startMs < 2_000);
      assert.deepEqual(client.acknowledged(), []);
      harness.arrived[0]!.settle(ACCEPTED);
    });
  });
});

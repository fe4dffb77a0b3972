/** What the broker keeps of its local subscribers: sessions, queues, exchanges. */
import assert from 'node:assert/strict';
import { connectAsync } from 'mqtt';
import { eventually, type RawClient } from '../support/mqtt-raw.ts';
import { type Harness, type HarnessOptions, startHarness } from './harness.ts';

describe('a session', () => {
  let harness: Harness;
  afterEach(() => harness.close());

  async function start(options: HarnessOptions = {}): Promise<RawClient> {
    harness = await startHarness(options);
    return harness.connected({ clientId: 'publisher' });
  }

  function kept(clean = false): Promise<RawClient> {
    return harness.connected({ clientId: 'kept', clean });
  }

  async function leaves(client: RawClient): Promise<void> {
    const { connections } = harness.broker.stats();
    client.end();
    await eventually(() => harness.broker.stats().connections < connections, 'it to leave');
  }

  function texts(client: RawClient): string[] {
    return client.of('publish').map(({ payload }) => payload.toString());
  }

  it('gets what was published while it was away, in order, and its subscriptions back [MQTT-3.1.2-5]', async () => {
    const publisher = await start();
    const first = await kept();
    assert.equal(first.of('connack')[0]!.sessionPresent, false);
    await first.subscribe('a/+', 1);
    await leaves(first);
    for (let id = 1; id <= 5; id++) publisher.publish('a/b', `${id}`, 1, id);
    publisher.publish('elsewhere', 'x', 1, 6);
    publisher.publish('a/b', 'QoS 0 is not kept', 0);
    await publisher.until('puback', 6);
    await publisher.ping();
    const back = await kept();
    assert.equal(back.of('connack')[0]!.sessionPresent, true);
    await back.until('publish', 5);
    assert.deepEqual(texts(back), ['1', '2', '3', '4', '5']);
    publisher.publish('a/c', 'live', 1, 7);
    await back.until('publish', 6);
  });

  it('gets again, with DUP and under the same identifier, what it did not acknowledge [MQTT-4.4.0-1] [MQTT-3.3.1-1]', async () => {
    const publisher = await start();
    const first = await kept();
    await first.subscribe('a', 1);
    for (let id = 1; id <= 3; id++) publisher.publish('a', `${id}`, 1, id);
    await first.until('publish', 3);
    const [one, two, three] = first.of('publish');
    assert.deepEqual(
      [one, two, three].map((packet) => packet!.dup),
      [false, false, false],
    );
    first.send({ cmd: 'puback', messageId: two!.messageId! });
    await first.ping();
    await leaves(first);
    const back = await kept();
    await back.until('publish', 2);
    await back.ping();
    assert.deepEqual(
      back.of('publish').map(({ payload, dup, messageId }) => [payload.toString(), dup, messageId]),
      [
        ['1', true, one!.messageId],
        ['3', true, three!.messageId],
      ],
    );
    for (const { messageId } of back.of('publish')) back.send({ cmd: 'puback', messageId: messageId! });
    await back.ping();
    await leaves(back);
    const last = await kept();
    await last.ping();
    assert.deepEqual(texts(last), []);
  });

  it('goes on with a QoS 2 exchange where it broke off [MQTT-4.3.3-1]', async () => {
    const publisher = await start();
    const first = await kept();
    await first.subscribe('a', 2);
    publisher.publish('a', 'x', 2, 1);
    const { messageId } = await first.until('publish');
    first.send({ cmd: 'pubrec', messageId: messageId! });
    await first.until('pubrel');
    await leaves(first);
    const back = await kept();
    assert.equal((await back.until('pubrel')).messageId, messageId);
    assert.deepEqual(texts(back), [], 'the message itself is not sent again');
    back.send({ cmd: 'pubcomp', messageId: messageId! });
    await back.ping();
    await leaves(back);
    const last = await kept();
    await last.ping();
    assert.deepEqual(last.of('pubrel'), []);
  });

  it('gets a message once, though two of its filters match', async () => {
    const publisher = await start();
    const first = await kept();
    await first.subscribe('a/#', 1, 1);
    await first.subscribe('a/+', 1, 2);
    publisher.publish('a/b', 'live', 1, 1);
    await first.until('publish');
    await first.ping();
    assert.deepEqual(texts(first), ['live']);
    await leaves(first);
    publisher.publish('a/b', 'queued', 1, 2);
    await publisher.until('puback', 2);
    await publisher.ping();
    const back = await kept();
    await back.until('publish', 2);
    await back.ping();
    assert.deepEqual(texts(back), ['live', 'queued'], 'the unacknowledged live one and the queued one');
  });

  it('ends when its client begins a clean one [MQTT-3.1.2-6]', async () => {
    const publisher = await start();
    const first = await kept();
    await first.subscribe('a', 1);
    await leaves(first);
    publisher.publish('a', 'queued', 1, 1);
    await publisher.until('puback');
    await leaves(await kept(true));
    assert.equal(harness.broker.stats().sessions, 0);
    const back = await kept();
    assert.equal(back.of('connack')[0]!.sessionPresent, false);
    publisher.publish('a', 'live', 1, 2);
    await publisher.until('puback', 2);
    await back.ping();
    assert.deepEqual(texts(back), []);
  });

  it('ends when its last filter is unsubscribed', async () => {
    await start();
    const first = await kept();
    await first.subscribe('a', 1);
    assert.equal(harness.broker.stats().sessions, 1);
    first.send({ cmd: 'unsubscribe', messageId: 2, unsubscriptions: ['a'] });
    await first.until('unsuback');
    assert.equal(harness.broker.stats().sessions, 0);
  });

  it('changes the QoS of a filter that is subscribed again [MQTT-3.8.4-3]', async () => {
    const publisher = await start();
    const first = await kept();
    await first.subscribe('a', 1, 1);
    await first.subscribe('a', 0, 2);
    await leaves(first);
    publisher.publish('a', 'not kept', 1, 1);
    await publisher.until('puback');
    await publisher.ping();
    const back = await kept();
    await back.ping();
    assert.deepEqual(texts(back), []);
    publisher.publish('a', 'live', 1, 2);
    assert.equal((await back.until('publish')).qos, 0);
  });

  it('carries thousands of messages between two MQTT.js clients, in order', async function () {
    this.timeout(60_000);
    // Without the bound on live copies, which a quick machine reaches.
    await start({ limits: { offlineQueue: 1_000_000, forwards: 1_000_000 } });
    const url = `mqtt://127.0.0.1:${harness.port}`;
    const [publisher, subscriber] = [await connectAsync(url), await connectAsync(url)];
    const count = 2_000;
    let received = 0;
    let inOrder = true;
    subscriber.on('message', (_topic, payload) => {
      inOrder &&= payload.readUInt32BE(0) === received;
      received++;
    });
    await subscriber.subscribeAsync('a/#', { qos: 1 });
    const sent: Promise<unknown>[] = [];
    for (let i = 0; i < count; i++) {
      const payload = Buffer.alloc(4);
      payload.writeUInt32BE(i);
      sent.push(publisher.publishAsync('a/b', payload, { qos: 1 }));
    }
    await Promise.all(sent);
    await eventually(() => received === count, 'all', 20_000);
    assert.ok(inOrder);
    await Promise.all([publisher.endAsync(true), subscriber.endAsync(true)]);
  });
});

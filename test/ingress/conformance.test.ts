/**
 * MQTT 3.1.1, statement by statement: every normative statement of the standard's appendix B, in a few words of our own, and
 * what holds it here. `test`: a test of this folder has the statement's number in its name; a number: the test of that one
 * says the same; a sentence: why a server cannot be tested for it. The first test holds the table against the tests.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { generate } from 'mqtt-packet';
import { WebSocket } from 'ws';
import { connectPacket, eventually, type RawClient } from '../support/mqtt-raw.ts';
import { FAILED, type Harness, startHarness, TCP } from './harness.ts';

const CLIENT = 'what a client must do';

const STATEMENTS: Readonly<Record<string, readonly [what: string, held: string]>> = {
  '1.5.3-1': ['ill-formed UTF-8 closes', 'test'],
  '1.5.3-2': ['U+0000 closes', 'test'],
  '1.5.3-3': ['U+FEFF is a character like others', 'test'],
  '2.2.2-1': ['reserved flags have their fixed values', 'test'],
  '2.2.2-2': ['other flags close', 'test'],
  '2.3.1-1': ['SUBSCRIBE, UNSUBSCRIBE and PUBLISH above QoS 0 have an identifier that is not 0', 'test'],
  '2.3.1-2': ['a new packet gets an identifier that is not in use', CLIENT],
  '2.3.1-3': ['a packet sent again keeps its identifier', CLIENT],
  '2.3.1-4': ['both hold for a server that publishes', 'test'],
  '2.3.1-5': ['QoS 0 has no identifier', 'test'],
  '2.3.1-6': ['an acknowledgement has the identifier of its PUBLISH', 'test'],
  '2.3.1-7': ['SUBACK and UNSUBACK have that of their request', 'test'],
  '3.1.0-1': ['the first packet is CONNECT', 'test'],
  '3.1.0-2': ['a second CONNECT closes', 'test'],
  '3.1.2-1': ['another protocol name is not served as MQTT', 'test'],
  '3.1.2-2': ['another level: CONNACK 1, then closed', 'test'],
  '3.1.2-3': ['the reserved CONNECT flag closes', 'test'],
  '3.1.2-4': ['without a clean session the earlier one goes on', 'test'],
  '3.1.2-5': ['what is published for an absent session is kept for it', 'test'],
  '3.1.2-6': ['a clean session begins with nothing and leaves nothing', 'test'],
  '3.1.2-7': ['retained messages outlive sessions', 'test'],
  '3.1.2-8': ['a will is published when the connection breaks', 'test'],
  '3.1.2-9': ['a will has a topic and a message', 'test'],
  '3.1.2-10': ['a will is published once, and never after DISCONNECT', 'test'],
  '3.1.2-11': ['without a will there are no will flags and fields', 'test'],
  '3.1.2-12': ['without a will nothing is published at the end', 'test'],
  '3.1.2-13': ['without a will its QoS is 0', 'test'],
  '3.1.2-14': ['a will has no QoS 3', 'test'],
  '3.1.2-15': ['without a will its retain flag is 0', 'test'],
  '3.1.2-16': ['a will that is not retained is not', 'test'],
  '3.1.2-17': ['a will that is retained is', 'test'],
  '3.1.2-18': ['no user name without its flag', 'test'],
  '3.1.2-19': ['a user name with its flag', 'test'],
  '3.1.2-20': ['no password without its flag', 'test'],
  '3.1.2-21': ['a password with its flag', 'test'],
  '3.1.2-22': ['no password without a user name', 'test'],
  '3.1.2-23': ['a client is not silent for longer than its keep-alive', CLIENT],
  '3.1.2-24': ['who is silent for one and a half of it is disconnected', 'test'],
  '3.1.3-1': ['the fields of a CONNECT have an order', 'test'],
  '3.1.3-2': ['the client id names the session', 'test'],
  '3.1.3-3': ['the client id is there, as the first field', 'test'],
  '3.1.3-4': ['the client id is UTF-8', '1.5.3-1'],
  '3.1.3-5': ['ids of 1 to 23 letters and digits are taken', 'test'],
  '3.1.3-6': ['an empty id becomes one of its own', 'test'],
  '3.1.3-7': ['who sends no id asks for a clean session', CLIENT],
  '3.1.3-8': ['no id and no clean session: CONNACK 2, closed', 'test'],
  '3.1.3-9': ['a refused id: CONNACK 2, closed', 'test'],
  '3.1.3-10': ['the will topic is UTF-8', '1.5.3-1'],
  '3.1.3-11': ['the user name is UTF-8', '1.5.3-1'],
  '3.1.4-1': ['a CONNECT that is not one closes without CONNACK', 'test'],
  '3.1.4-2': ['a second connection of an id ends the first', 'test'],
  '3.1.4-3': ['the clean session flag is obeyed', '3.1.2-6'],
  '3.1.4-4': ['an accepted CONNECT gets CONNACK 0', 'test'],
  '3.1.4-5': ['nothing is taken of who was refused', 'test'],
  '3.2.0-1': ['the first packet of the server is CONNACK', 'test'],
  '3.2.2-1': ['a clean session is never present before', 'test'],
  '3.2.2-2': ['a stored session is announced', 'test'],
  '3.2.2-3': ['one that is not stored is not', 'test'],
  '3.2.2-4': ['nor when the answer is no', 'test'],
  '3.2.2-5': ['a CONNACK that says no is followed by the end', 'test'],
  '3.2.2-6': ['without a fitting code there is no CONNACK', '3.1.4-1'],
  '3.3.1-1': ['DUP is set on what is sent again', 'test'],
  '3.3.1-2': ['DUP is 0 with QoS 0', 'test'],
  '3.3.1-3': ["a subscriber's DUP says nothing of the publisher's", 'test'],
  '3.3.1-4': ['QoS 3 closes', 'test'],
  '3.3.1-5': ['what is retained is kept with its QoS', 'test'],
  '3.3.1-6': ['a new subscription gets it', 'test'],
  '3.3.1-7': ['a retained QoS 0 takes the place of the last one', 'test'],
  '3.3.1-8': ['it is marked as retained for a new subscription', 'test'],
  '3.3.1-9': ['and not for one that was there', 'test'],
  '3.3.1-10': ['an empty retained message removes the last one', 'test'],
  '3.3.1-11': ['and is not kept itself', 'test'],
  '3.3.1-12': ['what is not retained leaves it alone', 'test'],
  '3.3.2-1': ['the topic is the first field, in UTF-8', '1.5.3-1'],
  '3.3.2-2': ['no wildcards in a topic', 'test'],
  '3.3.2-3': ['what is delivered matches the filter', 'test'],
  '3.3.4-1': ['each QoS has its answer', 'test'],
  '3.3.5-1': ['of overlapping filters the highest QoS counts', 'test'],
  '3.3.5-2': ['who may not publish is answered normally or closed', 'test'],
  '3.6.1-1': ['the flags of PUBREL', 'test'],
  '3.8.1-1': ['the flags of SUBSCRIBE', 'test'],
  '3.8.3-1': ['filters are UTF-8', '1.5.3-1'],
  '3.8.3-2': ['a server without wildcards refuses them', 'this one has them: 4.7.1-2, 4.7.1-3'],
  '3.8.3-3': ['SUBSCRIBE has a filter', 'test'],
  '3-8.3-4': ['reserved bits of a requested QoS close', 'test'],
  '3.8.4-1': ['SUBSCRIBE gets SUBACK', 'test'],
  '3.8.4-2': ['with its identifier', '2.3.1-7'],
  '3.8.4-3': ['the same filter again replaces the subscription', 'test'],
  '3.8.4-4': ['several filters are as several requests, with one answer', '3.8.4-5'],
  '3.8.4-5': ['a code for each filter', 'test'],
  '3.8.4-6': ['delivered at the lower of both QoS', 'test'],
  '3.9.3-1': ['codes in the order of the filters', '3.8.4-5'],
  '3.9.3-2': ['only the codes 0, 1, 2 and 128', 'test'],
  '3.10.1-1': ['the flags of UNSUBSCRIBE', 'test'],
  '3.10.3-1': ['its filters are UTF-8', '1.5.3-1'],
  '3.10.3-2': ['it has a filter', 'test'],
  '3.10.4-1': ['a filter is removed when it is the same, character by character', 'test'],
  '3.10.4-2': ['nothing new is delivered for it then', 'test'],
  '3.10.4-3': ['what was begun is delivered to its end', 'test'],
  '3.10.4-4': ['UNSUBSCRIBE gets UNSUBACK with its identifier', '2.3.1-7'],
  '3.10.4-5': ['also when nothing was removed', 'test'],
  '3.10.4-6': ['several filters, one answer', 'test'],
  '3.12.4-1': ['PINGREQ gets PINGRESP', 'test'],
  '3.14.1-1': ['the flags of DISCONNECT', 'test'],
  '3.14.4-1': ['after DISCONNECT a client closes', CLIENT],
  '3.14.4-2': ['and sends nothing more', CLIENT],
  '3.14.4-3': ['DISCONNECT discards the will', 'test'],
  '4.1.0-1': ['a session is kept as long as it lasts', '3.1.2-5'],
  '4.1.0-2': ['which is as long as the connection, at least', '3.1.2-6'],
  '4.3.1-1': ['QoS 0 is sent with DUP 0', 'test'],
  '4.3.2-1': ['QoS 1 as a sender', '4.4.0-1'],
  '4.3.2-2': ['QoS 1 as a receiver: an identifier used again is a new message', 'test'],
  '4.3.3-1': ['QoS 2 as a sender', 'test'],
  '4.3.3-2': ['QoS 2 as a receiver', 'test'],
  '4.4.0-1': ['a session that comes back gets again what it did not acknowledge', 'test'],
  '4.5.0-1': ['an accepted message goes to every session that subscribed', 'test'],
  '4.5.0-2': ['a client acknowledges what it gets', CLIENT],
  '4.6.0-1': ['what is sent again keeps its order', '4.4.0-1'],
  '4.6.0-2': ['PUBACKs in the order of the PUBLISH packets', 'test'],
  '4.6.0-3': ['PUBRECs in the order of the PUBLISH packets', 'test'],
  '4.6.0-4': ['PUBRELs in the order of the PUBRECs', 'test'],
  '4.6.0-5': ['topics are ordered', '4.6.0-6'],
  '4.6.0-6': ['a subscriber gets the messages of a publisher in order', 'test'],
  '4.7.1-1': ['no wildcards in topics', '3.3.2-2'],
  '4.7.1-2': ['# stands alone and last', 'test'],
  '4.7.1-3': ['+ stands alone in its level', 'test'],
  '4.7.2-1': ['wildcards do not reach $ topics', 'test'],
  '4.7.3-1': ['topics and filters are not empty', 'test'],
  '4.7.3-2': ['and hold no U+0000', '1.5.3-2'],
  '4.7.3-3': ['and have 65,535 bytes at most', 'their length has two bytes: no packet can say more'],
  '4.7.3-4': ['and are compared as they are', 'test'],
  '4.8.0-1': ['a violation closes the connection', 'test'],
  '4.8.0-2': ['so does a passing failure', 'test'],
  '6.0.0-1': ['WebSocket frames are binary', 'test'],
  '6.0.0-2': ['packets are not bound to frames', 'test'],
  '6.0.0-3': ['a client offers the subprotocol mqtt', 'test'],
  '6.0.0-4': ['the server chooses it', 'test'],
  '7.0.0-1': [
    'a server that connects to others is a client there',
    'a claim about whole programs; bridge.test.ts has the client side',
  ],
  '7.0.0-2': [
    'no extension is needed',
    'a claim about whole programs; MQTT.js and mosquitto are served in other tests',
  ],
};

/** A packet from its type and flags byte and its body. */
function packet(first: number, ...body: (number | Buffer)[]): Buffer {
  const bytes = Buffer.concat(body.map((part) => (typeof part === 'number' ? Buffer.from([part]) : part)));
  assert.ok(bytes.length < 128);
  return Buffer.concat([Buffer.from([first, bytes.length]), bytes]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
}

/** A CONNECT with these flags and these fields behind the keep-alive. */
const connect = (flags: number, ...fields: Buffer[]) => packet(0x10, text('MQTT'), 4, flags, 0, 60, ...fields);

describe('MQTT 3.1.1', () => {
  let harness: Harness;
  before(async () => {
    harness = await startHarness({ listeners: [TCP, { ...TCP, websocket: true }] });
  });
  after(() => harness.close());
  beforeEach(() => {
    harness.arrived.length = 0;
    harness.answer = () => ({ kind: 'accepted' });
  });

  let lastId = 0;
  const name = () => `c${++lastId}`;
  const published = (client: RawClient) => client.of('publish').map(({ payload }) => payload.toString());

  async function leaves(client: RawClient): Promise<void> {
    const { connections } = harness.broker.stats();
    client.end();
    await eventually(() => harness.broker.stats().connections < connections, 'it to leave');
  }

  async function closesWithout(connack: Buffer): Promise<void> {
    const client = await harness.open();
    client.write(connack);
    await client.untilClosed();
    assert.deepEqual(client.packets, []);
  }

  it('has a test for every statement that a server can be tested for, and none for another', () => {
    const folder = new URL('.', import.meta.url);
    const named = new Set<string>();
    for (const file of readdirSync(folder).filter((each) => each.endsWith('.test.ts'))) {
      // Names of tests, and what they are put together from.
      for (const [, number] of readFileSync(new URL(file, folder), 'utf8').matchAll(/MQTT-(\d[\d.-]*\d)/g))
        named.add(number!);
    }
    const wanted = Object.entries(STATEMENTS)
      .filter(([, [, held]]) => held === 'test')
      .map(([number]) => number);
    assert.deepEqual(
      wanted.filter((number) => !named.has(number)),
      [],
      'without a test',
    );
    assert.deepEqual(
      [...named].filter((number) => !wanted.includes(number)),
      [],
      'a test for what has none in the table',
    );
    for (const [number, [, held]] of Object.entries(STATEMENTS)) {
      if (/^\d/.test(held)) assert.ok(wanted.includes(held), `${number} refers to ${held}`);
    }
    console.log(`      ${Object.keys(STATEMENTS).length} statements, ${wanted.length} with a test of their own`);
  });

  describe('flags and identifiers', () => {
    for (const [what, bytes] of [
      ['PUBACK', packet(0x41, 0, 7)],
      ['PUBREC', packet(0x51, 0, 7)],
      ['PUBREL', packet(0x63, 0, 7)],
      ['PUBCOMP', packet(0x71, 0, 7)],
      ['SUBSCRIBE', packet(0x83, 0, 7, text('a'), 0)],
      ['UNSUBSCRIBE [MQTT-3.10.1-1]', packet(0xa0, 0, 7, text('a'))],
      ['PINGREQ', packet(0xc1)],
      ['DISCONNECT', packet(0xe8)],
    ] as const) {
      it(`close when they are not those of a ${what} [MQTT-2.2.2-1] [MQTT-2.2.2-2]`, async () => {
        const client = await harness.connected();
        client.write(bytes);
        await client.untilClosed();
        assert.equal(client.packets.length, 1);
      });
    }

    it('close when they are not those of a CONNECT, without CONNACK [MQTT-2.2.2-2] [MQTT-3.1.4-1]', () =>
      closesWithout(packet(0x11, text('MQTT'), 4, 2, 0, 60, text('x'))));

    it('of what the server publishes are not in use, and absent with QoS 0 [MQTT-2.3.1-4] [MQTT-2.3.1-5] [MQTT-4.3.1-1]', async () => {
      const [one, zero] = [await harness.connected(), await harness.connected()];
      await one.subscribe('ids', 1);
      await zero.subscribe('ids', 0);
      for (let id = 1; id <= 5; id++) one.publish('ids', `${id}`, 1, id);
      await one.until('publish', 5);
      await zero.until('publish', 5);
      const ids = one.of('publish').map(({ messageId }) => messageId);
      assert.equal(new Set(ids).size, 5);
      assert.ok(ids.every((id) => id! > 0));
      for (const { messageId, dup, qos } of zero.of('publish'))
        assert.deepEqual([messageId, dup, qos], [undefined, false, 0]);
    });

    it('are those of the request in each answer, and each QoS has its own [MQTT-2.3.1-6] [MQTT-2.3.1-7] [MQTT-3.3.4-1] [MQTT-3.8.4-1]', async () => {
      const client = await harness.connected();
      client.publish('a', '0', 0);
      client.publish('a', '1', 1, 4_711);
      client.publish('a', '2', 2, 815);
      await client.until('pubrec');
      client.send({ cmd: 'pubrel', messageId: 815 });
      client.send({ cmd: 'subscribe', messageId: 77, subscriptions: [{ topic: 'b', qos: 2 }] });
      client.send({ cmd: 'unsubscribe', messageId: 78, unsubscriptions: ['b'] });
      await client.until('unsuback');
      const answers = client.packets.map((each) => [each.cmd, each.messageId]);
      assert.deepEqual(answers.slice(1), [
        ['puback', 4_711],
        ['pubrec', 815],
        ['pubcomp', 815],
        ['suback', 77],
        ['unsuback', 78],
      ]);
    });
  });

  describe('CONNECT', () => {
    for (const [what, bytes] of [
      ['a will without a message [MQTT-3.1.2-9]', connect(0x06, text('x'), text('w'))],
      ['a will without a topic [MQTT-3.1.2-9]', connect(0x06, text('x'))],
      ['a QoS of no will [MQTT-3.1.2-11] [MQTT-3.1.2-13]', connect(0x0a, text('x'))],
      ['no will that is retained [MQTT-3.1.2-11] [MQTT-3.1.2-15]', connect(0x22, text('x'))],
      ['fields of no will [MQTT-3.1.2-11]', connect(0x02, text('x'), text('w'), text('m'))],
      ['a user name without its flag [MQTT-3.1.2-18]', connect(0x02, text('x'), text('user'))],
      ['a flag without a user name [MQTT-3.1.2-19]', connect(0x82, text('x'))],
      ['a password without its flag [MQTT-3.1.2-20]', connect(0x82, text('x'), text('user'), text('secret'))],
      ['a flag without a password [MQTT-3.1.2-21]', connect(0xc2, text('x'), text('user'))],
      ['no client id [MQTT-3.1.3-3]', connect(0x02)],
    ] as const) {
      it(`closes without CONNACK on ${what} [MQTT-3.1.4-1]`, () => closesWithout(bytes));
    }

    it('has its fields in their order: id, will topic, will message, user name, password [MQTT-3.1.3-1]', async () => {
      const watching = await harness.connected();
      await watching.subscribe('will/of/order', 0);
      const client = await harness.open();
      client.write(
        connect(0xc6, text('ordered'), text('will/of/order'), text('message'), text('user'), text('secret')),
      );
      await client.until('connack');
      client.end();
      await watching.until('publish');
      assert.deepEqual(published(watching), ['message']);
      assert.equal(harness.arrived.at(-1)!.client, 'ordered');
    });

    for (const id of ['a', 'Z9', '0123456789abcdefghijkLM', 'NOPQRSTUVWXYZ']) {
      it(`takes the client id ${id}, and answers it by CONNACK 0 first of all [MQTT-3.1.3-5] [MQTT-3.1.4-4] [MQTT-3.2.0-1]`, async () => {
        const client = await harness.open();
        client.write(Buffer.concat([generate(connectPacket({ clientId: id })), packet(0xc0)]));
        await client.until('pingresp');
        assert.deepEqual(
          client.packets.map(({ cmd }) => cmd),
          ['connack', 'pingresp'],
        );
        assert.equal(client.of('connack')[0]!.returnCode, 0);
      });
    }

    it('says whether there is a session of that id [MQTT-3.1.2-4] [MQTT-3.1.3-2] [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3]', async () => {
      const clientId = name();
      const present = async (clean: boolean, id = clientId) => {
        const client = await harness.connected({ clientId: id, clean });
        const { sessionPresent } = client.of('connack')[0]!;
        return { client, sessionPresent };
      };
      const first = await present(false);
      await first.client.subscribe('kept/1', 1);
      await leaves(first.client);
      const publisher = await harness.connected();
      publisher.publish('kept/1', 'meanwhile');
      await publisher.until('puback');
      const other = await present(false, name());
      const second = await present(false);
      await second.client.until('publish');
      assert.deepEqual(published(second.client), ['meanwhile']);
      await leaves(second.client);
      const clean = await present(true);
      await leaves(clean.client);
      const last = await present(false);
      const answers = [first, other, second, clean, last].map(({ sessionPresent }) => sessionPresent);
      assert.deepEqual(answers, [false, false, true, false, false]);
    });

    it('that is refused has no session, and the connection ends [MQTT-3.2.2-4] [MQTT-3.2.2-5]', async () => {
      const client = await harness.open();
      client.write(connect(0x00, text('')));
      await client.untilClosed();
      const { returnCode, sessionPresent } = client.of('connack')[0]!;
      assert.deepEqual([returnCode, sessionPresent, client.packets.length], [2, false, 1]);
    });

    it('with a keep-alive has its client disconnected, and its will published, when it is silent [MQTT-3.1.2-24]', async () => {
      const watching = await harness.connected();
      await watching.subscribe('silent', 0);
      const will = { topic: 'silent', payload: Buffer.from('gone'), qos: 0 as const, retain: false };
      const client = await harness.connected({ keepalive: 1, will });
      await client.untilClosed();
      await watching.until('publish');
    });
  });

  describe('a will', () => {
    const will = (topic: string, retain: boolean) => ({
      will: { topic, payload: Buffer.from('gone'), qos: 1 as const, retain },
    });

    it('is published once, and not by a later connection without one [MQTT-3.1.2-10] [MQTT-3.1.2-12]', async () => {
      const watching = await harness.connected();
      await watching.subscribe('wills/once', 1);
      const clientId = name();
      await leaves(await harness.connected({ clientId, ...will('wills/once', false) }));
      await watching.until('publish');
      await leaves(await harness.connected({ clientId }));
      await watching.ping();
      assert.deepEqual(published(watching), ['gone']);
    });

    for (const [retain, what] of [
      [false, 'is not there for a later subscriber when it is not retained [MQTT-3.1.2-16]'],
      [true, 'is there for a later subscriber when it is retained [MQTT-3.1.2-17]'],
    ] as const) {
      it(what, async () => {
        const topic = `wills/${retain}`;
        const watching = await harness.connected();
        await watching.subscribe(topic, 1);
        await leaves(await harness.connected(will(topic, retain)));
        await watching.until('publish');
        const later = await harness.connected();
        await later.subscribe(topic, 1);
        await later.ping();
        assert.deepEqual(published(later), retain ? ['gone'] : []);
      });
    }
  });

  describe('a retained message', () => {
    let publisher: RawClient;
    let count = 0;
    beforeEach(async () => {
      publisher = await harness.connected();
      count = 0;
    });

    async function publish(topic: string, payload: string, qos: 0 | 1, retain: boolean): Promise<void> {
      publisher.publish(topic, payload, qos, ++count, { retain });
      await publisher.ping();
    }

    async function seenBy(topic: string, qos: 0 | 1 = 1) {
      const later = await harness.connected();
      await later.subscribe(topic, qos);
      await later.ping();
      return later.of('publish').map((each) => [each.payload.toString(), each.qos, each.retain]);
    }

    it('is kept with its QoS, and marked for who subscribes later [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8]', async () => {
      await publish('keep/a', 'one', 1, true);
      await publish('keep/a', 'two', 1, true);
      assert.deepEqual(await seenBy('keep/+'), [['two', 1, true]]);
      assert.deepEqual(await seenBy('keep/a', 0), [['two', 0, true]]);
    });

    it('is not marked for who had subscribed, and has no DUP of its publisher [MQTT-3.3.1-9] [MQTT-3.3.1-3]', async () => {
      const watching = await harness.connected();
      await watching.subscribe('keep/b', 1);
      publisher.publish('keep/b', 'x', 1, 900, { retain: true, dup: true });
      const { retain, dup } = await watching.until('publish');
      assert.deepEqual([retain, dup], [false, false]);
    });

    it('gives way to one of QoS 0 [MQTT-3.3.1-7]', async () => {
      await publish('keep/c', 'one', 1, true);
      await publish('keep/c', 'zero', 0, true);
      assert.deepEqual(
        (await seenBy('keep/c')).filter(([payload]) => payload === 'one'),
        [],
      );
    });

    it('that is empty is delivered, removes the last one, and is not kept [MQTT-3.3.1-10] [MQTT-3.3.1-11]', async () => {
      await publish('keep/d', 'one', 1, true);
      const watching = await harness.connected();
      await watching.subscribe('keep/d', 1);
      await watching.until('publish');
      await publish('keep/d', '', 1, true);
      await watching.until('publish', 2);
      assert.deepEqual(await seenBy('keep/d'), []);
    });

    it('stays when one comes that is not retained, and when its session ends [MQTT-3.3.1-12] [MQTT-3.1.2-7]', async () => {
      await publish('keep/e', 'one', 1, true);
      await publish('keep/e', 'two', 1, false);
      await publish('keep/e', '', 1, false);
      await leaves(publisher);
      assert.deepEqual(await seenBy('keep/e'), [['one', 1, true]]);
    });
  });

  describe('subscriptions', () => {
    it('get what matches them and nothing else, compared as it is [MQTT-3.3.2-3] [MQTT-4.7.3-4] [MQTT-4.5.0-1]', async () => {
      const filters = ['match/A', 'match/a', 'match/é', 'match/e\u0301', 'match//b', 'match/+/b', 'match/#'];
      const clients = await Promise.all(filters.map(() => harness.connected()));
      for (const [i, client] of clients.entries()) await client.subscribe(filters[i]!, 0);
      const publisher = await harness.connected();
      const topics = ['match/A', 'match/a', 'match/é', 'match/e\u0301', 'match//b', 'match/x/b', 'match', 'Match/a'];
      for (const [i, topic] of topics.entries()) publisher.publish(topic, `${i}`, 1, i + 1);
      await publisher.until('puback', topics.length);
      for (const client of clients) await client.ping();
      assert.deepEqual(clients.map(published), [
        ['0'],
        ['1'],
        ['2'],
        ['3'],
        ['4'],
        ['4', '5'],
        ['0', '1', '2', '3', '4', '5', '6'],
      ]);
    });

    it('that overlap deliver at the highest QoS granted, and others do not raise it [MQTT-3.3.5-1] [MQTT-3.8.4-6]', async () => {
      for (const clean of [true, false]) {
        const client = await harness.connected({ clean, clientId: name() });
        for (const [i, [filter, qos]] of (
          [
            ['over/#', 0],
            ['over/lap', 1],
            ['elsewhere', 2],
          ] as const
        ).entries()) {
          await client.subscribe(filter, qos, i + 1);
        }
        client.publish('over/lap', 'x', 2, 7);
        await client.until('pubrec');
        client.send({ cmd: 'pubrel', messageId: 7 });
        await client.until('publish');
        client.publish('over/there', 'y', 1, 8);
        await client.until('publish', 2);
        await client.ping();
        assert.deepEqual(
          client.of('publish').map(({ payload, qos }) => [payload.toString(), qos]),
          [
            ['x', 1],
            ['y', 0],
          ],
        );
        client.end();
      }
    });

    it('are answered by 0, 1, 2 or 128 only [MQTT-3.9.3-2]', async () => {
      const client = await harness.connected();
      const subscriptions = [0, 1, 2, 0].map((qos, i) => ({
        topic: i === 3 ? '$SYS/#' : `code/${i}`,
        qos: qos as 0 | 1 | 2,
      }));
      client.send({ cmd: 'subscribe', messageId: 7, subscriptions });
      const { granted } = await client.until('suback');
      assert.equal(granted.length, 4);
      for (const code of granted) assert.ok([0, 1, 2, 128].includes(code as number));
    });

    it('end by exactly their filter, each with one answer, also where there was none [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-5] [MQTT-3.10.4-6]', async () => {
      const client = await harness.connected();
      for (const [i, filter] of ['end/a', 'end/b', 'end/+/c'].entries()) await client.subscribe(filter, 0, i + 1);
      client.send({ cmd: 'unsubscribe', messageId: 50, unsubscriptions: ['end/+', 'end/A', 'never'] });
      await client.until('unsuback', 1);
      client.send({ cmd: 'unsubscribe', messageId: 51, unsubscriptions: ['end/a', 'end/+/c'] });
      await client.until('unsuback', 2);
      for (const [i, topic] of ['end/a', 'end/b', 'end/x/c'].entries()) client.publish(topic, topic, 1, 60 + i);
      await client.until('puback', 3);
      await client.ping();
      assert.deepEqual(published(client), ['end/b']);
      assert.deepEqual(
        client.of('unsuback').map(({ messageId }) => messageId),
        [50, 51],
      );
    });

    it('that end have what was begun for them delivered to its end [MQTT-3.10.4-3]', async () => {
      const client = await harness.connected();
      await client.subscribe('begun', 2);
      client.publish('begun', 'x', 2, 5);
      await client.until('pubrec');
      client.send({ cmd: 'pubrel', messageId: 5 });
      const { messageId } = await client.until('publish');
      client.send({ cmd: 'unsubscribe', messageId: 6, unsubscriptions: ['begun'] });
      await client.until('unsuback');
      client.send({ cmd: 'pubrec', messageId: messageId! });
      assert.equal((await client.until('pubrel')).messageId, messageId);
    });
  });

  describe('deliveries', () => {
    it('are in the order of their publisher, and PUBRELs in that of the PUBRECs [MQTT-4.6.0-4] [MQTT-4.6.0-6]', async () => {
      const watching = await harness.connected();
      await watching.subscribe('order/#', 2);
      const publisher = await harness.connected();
      for (let id = 1; id <= 9; id++) publisher.publish('order/a', `${id}`, 2, id);
      await publisher.until('pubrec', 9);
      for (let messageId = 1; messageId <= 9; messageId++) publisher.send({ cmd: 'pubrel', messageId });
      await watching.until('publish', 9);
      assert.deepEqual(published(watching), ['1', '2', '3', '4', '5', '6', '7', '8', '9']);
      const ids = watching.of('publish').map(({ messageId }) => messageId!);
      for (const messageId of ids) watching.send({ cmd: 'pubrec', messageId });
      await watching.until('pubrel', 9);
      assert.deepEqual(
        watching.of('pubrel').map(({ messageId }) => messageId),
        ids,
      );
    });

    it('of QoS 1 under an identifier that was acknowledged are new messages, whatever DUP says [MQTT-4.3.2-2]', async () => {
      const client = await harness.connected();
      client.publish('again', '1', 1, 9);
      await client.until('puback', 1);
      client.publish('again', '2', 1, 9, { dup: true });
      await client.until('puback', 2);
      assert.deepEqual(
        harness.arrived.map((each) => each.text),
        ['1', '2'],
      );
    });

    it('that cannot be kept just now end the connection, without an acknowledgement [MQTT-4.8.0-2]', async () => {
      harness.answer = () => FAILED;
      const client = await harness.connected();
      client.publish('fails', 'x', 1, 1);
      await client.untilClosed();
      assert.deepEqual(client.acknowledged(), []);
    });
  });

  it('over WebSocket is the subprotocol mqtt, which the server chooses among those offered [MQTT-6.0.0-4]', async () => {
    const { port } = harness.broker.addresses[1]!;
    const socket = new WebSocket(`ws://127.0.0.1:${port}/mqtt`, ['other', 'mqtt']);
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    assert.equal(socket.protocol, 'mqtt');
    socket.terminate();
  });
});

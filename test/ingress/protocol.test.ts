/** What MQTT 3.1.1 demands of a server, clause by clause, where a codec or a broker is easily more lenient. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { generate } from 'mqtt-packet';
import { connectPacket, eventually, RawClient } from '../support/mqtt-raw.ts';
import { type Harness, startHarness } from './harness.ts';

/** A packet from its type and flags byte and its body. */
function packet(first: number, ...body: (number | Buffer)[]): Buffer {
  const bytes = Buffer.concat(body.map((part) => (typeof part === 'number' ? Buffer.from([part]) : part)));
  assert.ok(bytes.length < 128);
  return Buffer.concat([Buffer.from([first, bytes.length]), bytes]);
}

function text(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

const BAD_UTF8 = Buffer.from([0x61, 0xc3, 0x28]);
const SURROGATE = Buffer.from([0x61, 0xed, 0xa0, 0x80]);
const NUL = Buffer.from('a\0b');

describe('the protocol', () => {
  let harness: Harness;
  before(async () => {
    harness = await startHarness({ limits: { topicLevels: 8, clientIdLength: 40 } });
  });
  after(() => harness.close());
  afterEach(() => {
    harness.arrived.length = 0;
  });

  async function closesOn(bytes: Buffer): Promise<RawClient> {
    const client = await harness.connected();
    client.write(bytes);
    await client.untilClosed();
    assert.deepEqual(
      client.packets.map(({ cmd }) => cmd),
      ['connack'],
      'nothing is answered',
    );
    assert.deepEqual(harness.arrived, [], 'nothing is accepted');
    return client;
  }

  async function closesOnConnect(bytes: Buffer): Promise<RawClient> {
    const client = await harness.open();
    client.write(bytes);
    await client.untilClosed();
    return client;
  }

  describe('text', () => {
    for (const [what, bytes, clause] of [
      ['that is not UTF-8', BAD_UTF8, 'MQTT-1.5.3-1'],
      ['with an encoded surrogate', SURROGATE, 'MQTT-1.5.3-1'],
      ['with U+0000', NUL, 'MQTT-1.5.3-2'],
    ] as const) {
      it(`closes on a publish topic ${what} [${clause}]`, () =>
        closesOn(packet(0x32, text(bytes), 0, 7, Buffer.from('x'))).then(() => {}));

      it(`closes on a subscription filter ${what} [${clause}]`, () =>
        closesOn(packet(0x82, 0, 7, text(bytes), 0)).then(() => {}));

      it(`closes on an unsubscribed filter ${what} [${clause}]`, async () => {
        const client = await harness.connected();
        client.write(packet(0xa2, 0, 7, text(bytes)));
        await client.untilClosed();
      });

      it(`closes on a client id ${what} [${clause}]`, async () => {
        const client = await closesOnConnect(packet(0x10, text('MQTT'), 4, 2, 0, 60, text(bytes)));
        assert.deepEqual(client.packets, []);
      });

      it(`closes on a will topic ${what} [${clause}]`, async () => {
        const will = [text(bytes), text('gone')];
        const client = await closesOnConnect(packet(0x10, text('MQTT'), 4, 0x06, 0, 60, text('w'), ...will));
        assert.deepEqual(client.packets, []);
        assert.deepEqual(harness.arrived, []);
      });

      it(`closes on a user name ${what} [${clause}]`, async () => {
        const client = await closesOnConnect(packet(0x10, text('MQTT'), 4, 0x82, 0, 60, text('u'), text(bytes)));
        assert.deepEqual(client.packets, []);
      });
    }

    it('takes well-formed text beyond ASCII, astral planes too [MQTT-1.5.3-3]', async () => {
      const client = await harness.connected();
      client.publish('häuser/𝄞/\ufeffzimmer', 'x');
      await client.until('puback');
      assert.equal(harness.arrived[0]!.topic, 'häuser/𝄞/\ufeffzimmer');
    });
  });

  describe('PUBLISH', () => {
    it('closes on packet identifier 0 with QoS 1 [MQTT-2.3.1-1]', () =>
      closesOn(packet(0x32, text('a'), 0, 0, 1)).then(() => {}));
    it('closes on packet identifier 0 with QoS 2 [MQTT-2.3.1-1]', () =>
      closesOn(packet(0x34, text('a'), 0, 0, 1)).then(() => {}));
    it('closes on a wildcard + in the topic [MQTT-3.3.2-2]', () =>
      closesOn(packet(0x32, text('a/+'), 0, 7, 1)).then(() => {}));
    it('closes on a wildcard # in the topic [MQTT-3.3.2-2]', () =>
      closesOn(packet(0x32, text('a/#'), 0, 7, 1)).then(() => {}));
    it('closes on an empty topic [MQTT-4.7.3-1]', () => closesOn(packet(0x32, text(''), 0, 7, 1)).then(() => {}));
    it('closes on QoS 3 [MQTT-3.3.1-4]', () => closesOn(packet(0x36, text('a'), 0, 7, 1)).then(() => {}));
    it('closes on DUP with QoS 0 [MQTT-3.3.1-2]', () => closesOn(packet(0x38, text('a'), 1)).then(() => {}));
    it('closes on a QoS 1 publish too short for its packet identifier, and does not read that from the next packet', () =>
      closesOn(Buffer.concat([packet(0x32, text('abc')), packet(0x32, text('abc'), 0, 7, 1)])).then(() => {}));
    it('closes on a topic longer than the packet [MQTT-4.8.0-1]', () =>
      closesOn(packet(0x30, 0, 200, Buffer.from('abc'))).then(() => {}));
    it('closes on a publish to $SYS, so that no client can speak for the broker [MQTT-4.7.2-1]', () =>
      closesOn(packet(0x32, text('$SYS/x/new/clients'), 0, 7, Buffer.from('victim'))).then(() => {}));
    it('closes on a publish to $millrace [MQTT-3.3.5-2]', () =>
      closesOn(packet(0x32, text('$millrace/refused/x'), 0, 7, 1)).then(() => {}));
    it('takes an empty payload', async () => {
      const client = await harness.connected();
      client.publish('a', '');
      await client.until('puback');
      assert.equal(harness.arrived[0]!.text, '');
    });
    it('acknowledges what came before the publish that ends the connection', async () => {
      const client = await harness.connected();
      client.publish('a', '1', 1, 1);
      client.publish('a', '2', 1, 2);
      client.write(packet(0x32, text('$SYS/x'), 0, 7, 1));
      await client.untilClosed();
      assert.deepEqual(client.acknowledged(), [1, 2]);
    });
  });

  describe('SUBSCRIBE and UNSUBSCRIBE', () => {
    for (const filter of ['a+', '+a', 'a#', '#a', 'a/#/b', 'a/+b', 'a/b#', 'a/+b/c']) {
      it(`closes on the filter ${filter} [MQTT-4.7.1-2] [MQTT-4.7.1-3]`, () =>
        closesOn(packet(0x82, 0, 7, text(filter), 0)).then(() => {}));
    }
    it('closes on an empty filter [MQTT-4.7.3-1]', () => closesOn(packet(0x82, 0, 7, text(''), 0)).then(() => {}));
    it('closes on a SUBSCRIBE without a filter [MQTT-3.8.3-3]', () => closesOn(packet(0x82, 0, 7)).then(() => {}));
    it('closes on an UNSUBSCRIBE without a filter [MQTT-3.10.3-2]', () => closesOn(packet(0xa2, 0, 7)).then(() => {}));
    it('closes on a SUBSCRIBE with packet identifier 0 [MQTT-2.3.1-1]', () =>
      closesOn(packet(0x82, 0, 0, text('a'), 0)).then(() => {}));
    it('closes on an UNSUBSCRIBE with packet identifier 0 [MQTT-2.3.1-1]', () =>
      closesOn(packet(0xa2, 0, 0, text('a'))).then(() => {}));
    it('closes on wrong flags of a SUBSCRIBE [MQTT-3.8.1-1]', () =>
      closesOn(packet(0x80, 0, 7, text('a'), 0)).then(() => {}));
    it('closes on a requested QoS 3 [MQTT-3-8.3-4]', () => closesOn(packet(0x82, 0, 7, text('a'), 3)).then(() => {}));
    for (const filter of ['+', '#', '/', '/+', '+/+', 'a/+/b', 'a/#', '+/#', '/#', 'a//b']) {
      it(`grants the filter ${filter}`, async () => {
        const client = await harness.connected();
        assert.equal(await client.subscribe(filter, 1), 1);
      });
    }
    it('answers each filter of one SUBSCRIBE in order [MQTT-3.8.4-5]', async () => {
      const client = await harness.connected();
      const subscriptions = [
        { topic: 'a', qos: 0 as const },
        { topic: '$SYS/#', qos: 0 as const },
        { topic: 'b', qos: 1 as const },
      ];
      client.send({ cmd: 'subscribe', messageId: 7, subscriptions });
      assert.deepEqual((await client.until('suback')).granted, [0, 128, 1]);
    });
  });

  describe('CONNECT', () => {
    it('closes when the first packet is another [MQTT-3.1.0-1]', async () => {
      const client = await closesOnConnect(packet(0x32, text('a'), 0, 7, 1));
      assert.deepEqual(client.packets, []);
    });
    it('closes on a second one [MQTT-3.1.0-2]', () => closesOn(generate(connectPacket())).then(() => {}));
    it('closes on a second one that comes with the first [MQTT-3.1.0-2]', async () => {
      const client = await harness.open();
      client.write(Buffer.concat([generate(connectPacket()), generate(connectPacket())]));
      await client.untilClosed();
    });
    it('closes on another protocol name [MQTT-3.1.2-1]', async () => {
      const client = await closesOnConnect(packet(0x10, text('HTTP'), 4, 2, 0, 60, text('x')));
      assert.deepEqual(client.packets, []);
    });
    for (const level of [0, 2, 3, 6, 127]) {
      it(`answers protocol level ${level} by CONNACK 1, then closes [MQTT-3.1.2-2]`, async () => {
        const client = await closesOnConnect(packet(0x10, text('MQTT'), level, 2, 0, 60, text('x')));
        assert.equal(client.of('connack')[0]!.returnCode, 1);
      });
    }
    it('answers MQTT 5 by CONNACK 1, then closes [MQTT-3.1.2-2]', async () => {
      const client = await closesOnConnect(generate(connectPacket({ protocolVersion: 5 }), { protocolVersion: 5 }));
      assert.equal(client.of('connack')[0]!.returnCode, 1);
    });
    it('takes MQTT 3.1', async () => {
      const client = await harness.connected({ protocolId: 'MQIsdp', protocolVersion: 3, clientId: 'old' });
      assert.equal(client.of('connack')[0]!.returnCode, 0);
    });
    it('closes when the reserved flag is set [MQTT-3.1.2-3]', async () => {
      await closesOnConnect(packet(0x10, text('MQTT'), 4, 3, 0, 60, text('x')));
    });
    it('closes on a will with QoS 3 [MQTT-3.1.2-14]', async () => {
      await closesOnConnect(packet(0x10, text('MQTT'), 4, 0x1e, 0, 60, text('x'), text('w'), text('w')));
      assert.deepEqual(harness.arrived, []);
    });
    it('closes on a password without a user name [MQTT-3.1.2-22]', async () => {
      const client = await closesOnConnect(packet(0x10, text('MQTT'), 4, 0x42, 0, 60, text('x'), text('secret')));
      assert.deepEqual(client.packets, []);
    });
    it('closes on an empty will topic [MQTT-4.7.3-1]', async () => {
      await closesOnConnect(packet(0x10, text('MQTT'), 4, 0x06, 0, 60, text('x'), text(''), text('w')));
      assert.deepEqual(harness.arrived, []);
    });
    it('closes on a wildcard in the will topic [MQTT-3.3.2-2]', async () => {
      await closesOnConnect(packet(0x10, text('MQTT'), 4, 0x06, 0, 60, text('x'), text('a/#'), text('w')));
      assert.deepEqual(harness.arrived, []);
    });
    it('refuses a will on a topic of the broker by CONNACK 5 [MQTT-4.7.2-1]', async () => {
      const client = await closesOnConnect(
        packet(0x10, text('MQTT'), 4, 0x06, 0, 60, text('x'), text('$SYS/a/new/clients'), text('w')),
      );
      assert.equal(client.of('connack')[0]!.returnCode, 5);
      assert.deepEqual(harness.arrived, []);
    });
    it('gives a client without a client id one of its own, when it asks for a clean session [MQTT-3.1.3-6]', async () => {
      const clients = [await harness.connected({ clientId: '' }), await harness.connected({ clientId: '' })];
      for (const client of clients) {
        client.publish('a', 'x');
        await client.until('puback');
      }
      assert.notEqual(harness.arrived[0]!.client, harness.arrived[1]!.client);
    });
    it('refuses an empty client id without a clean session by CONNACK 2, then closes [MQTT-3.1.3-8]', async () => {
      const client = await closesOnConnect(packet(0x10, text('MQTT'), 4, 0, 0, 60, text('')));
      assert.equal(client.of('connack')[0]!.returnCode, 2);
    });
    it('disconnects the old connection of a client id that connects again [MQTT-3.1.4-2]', async () => {
      const old = await harness.connected({ clientId: 'same' });
      await harness.connected({ clientId: 'same' });
      await old.untilClosed();
    });
    for (const count of [50, 2_000]) {
      it(`takes ${count} publishes sent at once behind the CONNECT, in order [MQTT-3.1.4-5]`, async () => {
        const client = await harness.open();
        const publishes = Array.from({ length: count }, (_, i) =>
          packet(0x32, text('a/b'), (i + 1) >> 8, (i + 1) & 255, Buffer.from(`${i}`)),
        );
        client.write(Buffer.concat([generate(connectPacket()), ...publishes]));
        await client.until('puback', count);
        assert.deepEqual(
          client.acknowledged(),
          Array.from({ length: count }, (_, i) => i + 1),
        );
        assert.deepEqual(
          harness.arrived.map(({ text: payload }) => payload),
          Array.from({ length: count }, (_, i) => `${i}`),
        );
      });
    }
    it('accepts nothing of a client whose CONNECT was refused [MQTT-3.1.4-5]', async () => {
      const client = await harness.open();
      const connect = packet(0x10, text('MQTT'), 4, 0, 0, 60, text(''));
      client.write(Buffer.concat([connect, packet(0x32, text('a'), 0, 7, 1)]));
      await client.untilClosed();
      assert.deepEqual(harness.arrived, []);
    });
  });

  describe('other packets', () => {
    for (const [what, bytes] of [
      ['type 0', packet(0x00)],
      ['type 15', packet(0xf0)],
      ['a CONNACK', packet(0x20, 0, 0)],
      ['a SUBACK', packet(0x90, 0, 7, 0)],
      ['an UNSUBACK', packet(0xb0, 0, 7)],
      ['a PINGRESP', packet(0xd0)],
      ['a PUBACK of three bytes', packet(0x40, 0, 7, 0)],
      ['a PUBACK with packet identifier 0', packet(0x40, 0, 0)],
      ['a PUBREL with wrong flags [MQTT-3.6.1-1]', packet(0x60, 0, 7)],
      ['a PINGREQ with a body', packet(0xc0, 1)],
      ['a DISCONNECT with wrong flags [MQTT-3.14.1-1]', packet(0xe1)],
      ['a remaining length of five bytes', Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0x01])],
    ] as const) {
      it(`closes on ${what} [MQTT-4.8.0-1]`, () => closesOn(bytes).then(() => {}));
    }
    it('answers a PINGREQ while publishes wait for their acknowledgement [MQTT-3.12.4-1]', async () => {
      harness.answer = null;
      const client = await harness.connected();
      client.publish('a', '1', 1, 1);
      client.publish('a', '2', 1, 2);
      client.publish('a', '3', 1, 3);
      await client.ping();
      await client.ping();
      assert.equal(harness.arrived.length, 3);
      for (const { settle } of harness.arrived) settle({ kind: 'accepted' });
      harness.answer = () => ({ kind: 'accepted' });
      await client.until('puback', 3);
    });
    it('takes any packet byte by byte', async () => {
      const client = await harness.open();
      const bytes = Buffer.concat([
        generate(connectPacket()),
        packet(0x82, 0, 7, text('a/+'), 1),
        packet(0x32, text('a/b'), 0, 8, Buffer.from('slow')),
        packet(0xc0),
      ]);
      for (const byte of bytes) {
        client.write(Buffer.from([byte]));
        await new Promise((resolve) => setImmediate(resolve));
      }
      await client.until('pingresp');
      await client.until('publish');
      assert.deepEqual(client.acknowledged(), [8]);
    });
  });

  it('survives any bytes: a good client is served on, nothing stays pending', async function () {
    this.timeout(60_000);
    const good = await harness.connected({ clientId: 'good' });
    const valid = [
      generate(
        connectPacket({ clientId: 'fuzz', will: { topic: 'w', payload: Buffer.from('w'), qos: 1, retain: true } }),
      ),
      generate(connectPacket({ clientId: 'fuzz', clean: false, username: 'u', password: Buffer.from('p') })),
      packet(0x82, 0, 7, text('a/#'), 1),
      packet(0xa2, 0, 8, text('a/#')),
      packet(0x33, text('a/b'), 0, 9, Buffer.from('x')),
      packet(0x35, text('a/b'), 0, 10, Buffer.from('y')),
      packet(0x30, text('a/b'), Buffer.from('z')),
      packet(0x62, 0, 10),
      packet(0x40, 0, 1),
      packet(0xc0),
      packet(0xe0),
    ];
    const mutated = fc
      .record({
        picks: fc.array(fc.nat(valid.length - 1), { minLength: 1, maxLength: 12 }),
        changes: fc.array(fc.tuple(fc.nat(300), fc.nat(255)), { maxLength: 3 }),
        connects: fc.boolean(),
      })
      .map(({ picks, changes, connects }) => {
        const bytes = Buffer.concat([...(connects ? [valid[0]!] : []), ...picks.map((pick) => valid[pick]!)]);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        return bytes;
      });
    for (const bytes of fc.sample(mutated, 300)) {
      const client = await RawClient.open(harness.port);
      client.write(bytes);
      client.stream.end();
      await client.untilClosed();
    }
    good.publish('a/b', 'still here');
    await good.until('puback');
    await eventually(() => harness.broker.stats().pending === 0, 'nothing pending');
    await eventually(() => harness.broker.stats().pendingBytes === 0, 'no bytes pending');
    good.end();
    await eventually(() => harness.broker.stats().connections === 0, 'nobody to be connected');
  });

  it('leaves the other clients connected through all of this', async () => {
    const client = await harness.connected();
    for (let i = 0; i < 20; i++) {
      const bad = await RawClient.open(harness.port);
      bad.write(Buffer.from([0xff, 0xff, 0xff, i]));
      await bad.untilClosed();
    }
    client.publish('a', 'still here');
    await client.until('puback');
    await eventually(() => harness.broker.stats().pending === 0, 'nothing pending');
  });
});

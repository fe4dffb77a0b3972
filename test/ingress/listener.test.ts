/** Listeners: TCP, TLS, client certificates, WebSocket; ports and certificates that are wrong, and certificates that change. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { connectAsync } from 'mqtt';
import { createWebSocketStream, WebSocket } from 'ws';
import { systemClock } from '../../src/clock.ts';
import type { Listener, TlsFiles } from '../../src/config.ts';
import type { Outcome } from '../../src/errors.ts';
import { startBroker } from '../../src/ingress/broker.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { eventually, RawClient } from '../support/mqtt-raw.ts';
import { type Harness, LIMITS, startHarness, TCP } from './harness.ts';

const FILES = new URL('./tls/', import.meta.url).pathname;
const CA = readFileSync(join(FILES, 'ca.pem'));

describe('a listener', () => {
  let harness: Harness | null = null;
  let folder: string;
  const clients: RawClient[] = [];
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-tls-'));
    cpSync(FILES, folder, { recursive: true });
  });
  after(() => rmSync(folder, { recursive: true }));
  afterEach(async () => {
    for (const client of clients.splice(0)) client.end();
    await harness?.close();
    harness = null;
  });

  function tls(clientCertificate: TlsFiles['clientCertificate'] = 'none'): TlsFiles {
    return {
      cert: join(folder, 'server.pem'),
      key: join(folder, 'server-key.pem'),
      ca: join(folder, 'ca.pem'),
      clientCertificate,
    };
  }

  function identity(name: string): ConnectionOptions {
    return { cert: readFileSync(join(FILES, `${name}.pem`)), key: readFileSync(join(FILES, `${name}-key.pem`)) };
  }

  async function start(listeners: readonly Partial<Listener>[], users: string | null = null): Promise<void> {
    let file: string | null = null;
    if (users !== null) {
      file = join(folder, 'users.yaml');
      writeFileSync(file, users);
    }
    harness = await startHarness({
      listeners: listeners.map((listener) => ({ ...TCP, ...listener })),
      auth: { anonymous: users === null, users: file },
      limits: { connectTimeoutMs: 1_000 },
    });
  }

  function port(i = 0): number {
    return harness!.broker.addresses[i]!.port;
  }

  function track(stream: Duplex): RawClient {
    const client = new RawClient(stream);
    clients.push(client);
    return client;
  }

  async function openTls(options: ConnectionOptions = {}, i = 0): Promise<RawClient> {
    const socket = connectTls({ port: port(i), host: '127.0.0.1', ca: CA, servername: 'localhost', ...options });
    await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    return track(socket);
  }

  async function publishes(client: RawClient, connect: Parameters<RawClient['connect']>[0] = {}): Promise<void> {
    client.connect(connect);
    await client.until('connack');
    client.publish('a/b', 'x', 1, 1);
    client.publish('a/b', Buffer.alloc(100_000), 2, 2);
    await client.until('pubrec');
    await client.ping();
  }

  it('takes several at once, and says which ports they got', async () => {
    await start([{}, { tls: tls() }, { websocket: true }]);
    assert.deepEqual(
      harness!.broker.addresses.map(({ host, tls, websocket }) => ({ host, tls, websocket })),
      [
        { host: '127.0.0.1', tls: false, websocket: false },
        { host: '127.0.0.1', tls: true, websocket: false },
        { host: '127.0.0.1', tls: false, websocket: true },
      ],
    );
    await publishes(track((await RawClient.open(port())).stream));
  });

  describe('on a port that cannot be had', () => {
    async function startOn(listeners: readonly Partial<Listener>[]): Promise<Outcome<unknown>> {
      return startBroker({
        mqtt: {
          listeners: listeners.map((listener) => ({ ...TCP, ...listener })),
          auth: { anonymous: true, users: null },
          limits: LIMITS,
          sources: [],
        },
        accept: () => {},
        telemetry: silentTelemetry(),
        clock: systemClock,
        received: () => 0,
      });
    }

    it('fails by PORT_IN_USE with port and host, and leaves no other port open', async () => {
      const other = createServer().listen(0, '127.0.0.1');
      await new Promise((resolve) => other.once('listening', resolve));
      const taken = (other.address() as AddressInfo).port;
      const free = createServer().listen(0, '127.0.0.1');
      await new Promise((resolve) => free.once('listening', resolve));
      const first = (free.address() as AddressInfo).port;
      await new Promise((resolve) => free.close(resolve));
      const outcome = await startOn([{ port: first }, { port: taken }]);
      assert.ok(!outcome.ok && outcome.failure.code === 'PORT_IN_USE');
      assert.match(outcome.failure.message, new RegExp(`port ${taken} on 127\\.0\\.0\\.1`));
      await assert.rejects(RawClient.open(first));
      other.close();
    });

    it('fails by LISTEN_FAILED for an address of another machine', async () => {
      const outcome = await startOn([{ host: '192.0.2.1' }]);
      assert.ok(!outcome.ok && outcome.failure.code === 'LISTEN_FAILED');
      assert.match(outcome.failure.message, /192\.0\.2\.1/);
    });

    it('fails by CONFIG_INVALID for TLS files that are absent or do not fit', async () => {
      const absent = await startOn([{ tls: { ...tls(), cert: '/nowhere/c.pem' } }]);
      assert.ok(!absent.ok && absent.failure.code === 'CONFIG_INVALID');
      assert.match(absent.failure.message, /\/nowhere\/c\.pem/);
      const misfit = await startOn([{ tls: { ...tls(), key: join(folder, 'server-2-key.pem') } }]);
      assert.ok(!misfit.ok && misfit.failure.code === 'CONFIG_INVALID');
    });
  });

  describe('with TLS', () => {
    it('carries publishes', async () => {
      await start([{ tls: tls() }]);
      await publishes(await openTls());
    });

    it('speaks nothing older than TLS 1.2', async () => {
      await start([{ tls: tls() }]);
      await assert.rejects(openTls({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }));
      await openTls({ maxVersion: 'TLSv1.2' });
    });

    it('ends a handshake that does not come', async () => {
      await start([{ tls: tls() }]);
      const socket = await RawClient.open(port());
      clients.push(socket);
      await socket.untilClosed();
    });

    it('takes new certificates without dropping connections, and keeps the old ones when the new do not fit', async () => {
      await start([{ tls: tls() }]);
      const name = (client: RawClient): string =>
        (client.stream as TLSSocket).getPeerCertificate().subject.CN as string;
      const old = await openTls();
      await publishes(old);
      assert.equal(name(old), 'localhost');

      cpSync(join(FILES, 'server-2.pem'), join(folder, 'server.pem'));
      const misfit = harness!.broker.reload();
      assert.ok(!misfit.ok && misfit.failure.code === 'CONFIG_INVALID');
      assert.equal(name(await openTls()), 'localhost');

      cpSync(join(FILES, 'server-2-key.pem'), join(folder, 'server-key.pem'));
      assert.ok(harness!.broker.reload().ok);
      assert.equal(name(await openTls()), 'localhost-2');
      await old.ping();
      cpSync(FILES, folder, { recursive: true });
    });
  });

  describe('with client certificates', () => {
    const USERS = 'certificates: { publish: ["{username}/#"] }';

    it('takes the common name as the user, whatever the CONNECT says, and binds the rules to it', async () => {
      await start([{ tls: tls('required') }], USERS);
      const client = await openTls(identity('pump-17'));
      client.connect({ username: 'pump-18', password: Buffer.from('x') });
      assert.equal((await client.until('connack')).returnCode, 0);
      client.publish('pump-17/t', 'x', 1, 1);
      await client.until('puback');
      client.publish('pump-18/t', 'x', 1, 2);
      await client.untilClosed();
      assert.deepEqual(client.acknowledged(), [1]);
    });

    it('refuses who has none, or one of another authority, when one is required', async () => {
      await start([{ tls: tls('required') }], USERS);
      for (const options of [{}, identity('stranger')]) {
        for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
          // with TLS 1.3 the client believes itself in until it reads
          const client = await openTls({ ...options, maxVersion }).catch(() => null);
          client?.connect();
          await client?.untilClosed();
          assert.deepEqual(client?.packets ?? [], []);
        }
      }
    });

    it('refuses one of another authority also where a certificate is optional; who has none logs in otherwise', async () => {
      await start([{ tls: tls('optional') }], USERS);
      const stranger = await openTls(identity('stranger'));
      stranger.connect();
      await stranger.untilClosed();
      assert.deepEqual(stranger.packets, []);
      const without = await openTls();
      without.connect();
      assert.equal((await without.until('connack')).returnCode, 5);
      const known = await openTls(identity('pump-17'));
      known.connect();
      assert.equal((await known.until('connack')).returnCode, 0);
    });

    it('refuses a certificate that the users file does not know by CONNACK 5', async () => {
      await start([{ tls: tls('required') }], 'users: { pump-18: {} }');
      const client = await openTls(identity('pump-17'));
      client.connect();
      assert.equal((await client.until('connack')).returnCode, 5);
      await client.untilClosed();
    });

    it('knows the user again when the TLS session is resumed', async () => {
      await start([{ tls: tls('required') }], USERS);
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        const first = await openTls({ ...identity('pump-17'), maxVersion });
        let session = maxVersion === 'TLSv1.2' ? (first.stream as TLSSocket).getSession() : undefined;
        (first.stream as TLSSocket).on('session', (ticket) => {
          session = ticket;
        });
        first.connect();
        await first.until('connack');
        await eventually(() => session !== undefined, 'a ticket');
        const again = await openTls({ ...identity('pump-17'), maxVersion, session: session! });
        assert.ok((again.stream as TLSSocket).isSessionReused());
        again.connect();
        assert.equal((await again.until('connack')).returnCode, 0);
        again.publish('pump-17/t', 'x');
        await again.until('puback');
      }
    });
  });

  describe('for WebSockets', () => {
    async function openWebSocket(
      options: { protocol?: string | string[]; origin?: string; i?: number; ca?: Buffer } = {},
    ) {
      const { protocol = 'mqtt', i = 0, origin, ca } = options;
      const socket = new WebSocket(`${ca ? 'wss' : 'ws'}://localhost:${port(i)}/mqtt`, protocol, { origin, ca });
      await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
      return socket;
    }

    it('carries publishes of several packets in a message and of one packet in several [MQTT-6.0.0-2]', async () => {
      await start([{ websocket: true }]);
      const socket = await openWebSocket();
      assert.equal(socket.protocol, 'mqtt');
      await publishes(track(createWebSocketStream(socket)));
      const other = await openWebSocket();
      const split = track(createWebSocketStream(other));
      const bytes = Buffer.concat([
        Buffer.from('10100004', 'hex'),
        Buffer.from('MQTT'),
        Buffer.from('0402003c000477736d71', 'hex'),
        Buffer.from('c000c000', 'hex'),
      ]);
      for (const byte of bytes) other.send(Buffer.from([byte]));
      await split.until('pingresp', 2);
    });

    it('carries them over TLS', async () => {
      await start([{ websocket: true, tls: tls() }]);
      await publishes(track(createWebSocketStream(await openWebSocket({ ca: CA }))));
    });

    it('serves MQTT.js', async () => {
      await start([{ websocket: true }]);
      const client = await connectAsync(`ws://127.0.0.1:${port()}/mqtt`);
      const received: string[] = [];
      client.on('message', (topic, payload) => received.push(`${topic} ${payload}`));
      await client.subscribeAsync('a/#', { qos: 1 });
      for (let i = 0; i < 50; i++) await client.publishAsync('a/b', `${i}`, { qos: (i % 3) as 0 | 1 | 2 });
      await eventually(() => received.length === 50, 'all to come back');
      assert.deepEqual(
        received,
        Array.from({ length: 50 }, (_, i) => `a/b ${i}`),
      );
      await client.endAsync();
    });

    it('closes on a message that is not binary [MQTT-6.0.0-1]', async () => {
      await start([{ websocket: true }]);
      const socket = await openWebSocket();
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.send('text');
      await closed;
    });

    it('refuses who does not offer the subprotocol mqtt [MQTT-6.0.0-3]', async () => {
      await start([{ websocket: true }]);
      await assert.rejects(openWebSocket({ protocol: 'mqttv3.1' }));
      await assert.rejects(openWebSocket({ protocol: [] }));
      const socket = await openWebSocket({ protocol: ['mqttv3.1', 'mqtt'] });
      assert.equal(socket.protocol, 'mqtt');
      socket.terminate();
    });

    it('refuses pages of other origins where anyone may publish', async () => {
      await start([{ websocket: true }]);
      await assert.rejects(openWebSocket({ origin: 'https://evil.example' }), /403/);
      (await openWebSocket({ origin: 'http://localhost:3000' })).terminate();
      await harness!.close();
      await start([{ websocket: true }], 'users: {}');
      (await openWebSocket({ origin: 'https://dashboard.example' })).terminate();
    });

    it('bounds a message by the packet limit, and the packet by its header', async () => {
      harness = await startHarness({ listeners: [{ ...TCP, websocket: true }], limits: { packetBytes: 1_000 } });
      const socket = await openWebSocket();
      socket.on('error', () => {});
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.send(Buffer.alloc(2_000));
      await closed;
      const client = track(createWebSocketStream(await openWebSocket()));
      client.connect();
      await client.until('connack');
      client.write(Buffer.from([0x30, 0xff, 0xff, 0x7f]));
      await client.untilClosed();
      assert.equal(await harness.limitReached('packet'), 1);
    });

    it('stops reading a client at its pending limit, like any other', async () => {
      harness = await startHarness({
        listeners: [{ ...TCP, websocket: true }],
        limits: { pendingPerClient: 3 },
        answer: null,
      });
      const client = track(createWebSocketStream(await openWebSocket()));
      client.connect();
      await client.until('connack');
      for (let id = 1; id <= 50; id++) client.publish('a', `${id}`, 1, id);
      await eventually(() => harness!.arrived.length === 3, 'three');
      for (let i = 0; i < 50; i++) {
        await eventually(() => harness!.arrived.length > i, 'the next');
        assert.ok(harness!.broker.stats().pending <= 3);
        harness.arrived[i]!.settle({ kind: 'accepted' });
      }
      await client.until('puback', 50);
    });

    it('answers an ordinary HTTP request by 426', async () => {
      await start([{ websocket: true }]);
      const status = await new Promise((resolve, reject) => {
        get({ port: port(), host: '127.0.0.1' }, (response) => resolve(response.statusCode)).on('error', reject);
      });
      assert.equal(status, 426);
    });
  });
});

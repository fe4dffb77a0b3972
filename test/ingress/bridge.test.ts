/** Readings from another broker: acknowledged there only when they are durable here. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectAsync, type MqttClient } from 'mqtt';
import { systemClock } from '../../src/clock.ts';
import type { BridgeSource, MqttLimits } from '../../src/config.ts';
import { type Bridge, type BridgeOptions, startBridge } from '../../src/ingress/bridge.ts';
import { hashPassword } from '../../src/ingress/password.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { Mosquitto, needMosquitto } from '../support/mosquitto.ts';
import { eventually } from '../support/mqtt-raw.ts';
import { ACCEPTED, type Arrived, FAILED, type Harness, LIMITS, REFUSED, startHarness, TCP } from './harness.ts';

interface Pipe {
  readonly bridge: Bridge;
  readonly arrived: Arrived[];
  readonly telemetry: ReturnType<typeof silentTelemetry>;
  settling: boolean;
}

const FILES = new URL('./tls/', import.meta.url).pathname;

describe('a bridge', () => {
  const pipes: Pipe[] = [];
  afterEach(async () => {
    for (const { bridge } of pipes.splice(0)) await bridge.close(0);
  });

  function start(
    port: number,
    source: Partial<BridgeSource> = {},
    limits: Partial<MqttLimits> = {},
    options: Partial<BridgeOptions> = {},
  ): Pipe {
    const arrived: Arrived[] = [];
    const telemetry = silentTelemetry();
    const outcome = startBridge({
      source: {
        url: `mqtt://127.0.0.1:${port}`,
        topics: ['sensors/#'],
        clientId: 'millrace-test',
        username: null,
        password: null,
        tls: null,
        ...source,
      },
      limits: { ...LIMITS, ...limits },
      accept: (message, settle) => {
        arrived.push({ ...message, text: Buffer.from(message.payload).toString(), settle });
        if (pipe.settling) settle(ACCEPTED);
      },
      telemetry,
      clock: systemClock,
      received: () => Date.now(),
      reconnectMs: 50,
      failureHoldMs: 20,
      ...options,
    });
    if (!outcome.ok) throw new Error(outcome.failure.message);
    const pipe: Pipe = { bridge: outcome.value, arrived, telemetry, settling: false };
    pipes.push(pipe);
    return pipe;
  }

  async function subscribed({ bridge }: Pipe): Promise<void> {
    await eventually(() => bridge.stats().subscribed, 'the bridge to subscribe', 10_000);
  }

  async function arrives({ arrived }: Pipe, count: number): Promise<void> {
    await eventually(() => arrived.length >= count, `${count} to arrive; ${arrived.length} did`, 10_000);
  }

  describe('from Mosquitto', () => {
    let mosquitto: Mosquitto;
    let publisher: MqttClient;
    before(async function () {
      mosquitto = await Mosquitto.start(needMosquitto(this), ['max_inflight_messages 20']);
    });
    beforeEach(async () => {
      publisher = await connectAsync(`mqtt://127.0.0.1:${mosquitto.port}`, { reconnectPeriod: 50 });
    });
    afterEach(async () => {
      await publisher.endAsync(true);
    });
    after(() => mosquitto?.remove());

    async function publish(from: number, to: number, qos: 0 | 1 | 2 = 1): Promise<void> {
      const sent: Promise<unknown>[] = [];
      for (let i = from; i <= to; i++) sent.push(publisher.publishAsync('sensors/a', `${i}`, { qos }));
      await Promise.all(sent);
    }

    function texts({ arrived }: Pipe): string[] {
      return arrived.map(({ text }) => text);
    }

    function numbers(from: number, to: number): string[] {
      return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`);
    }

    it('keeps many in flight, acknowledges them when they are settled, in order, and only those', async () => {
      const clientId = 'many';
      const pipe = start(mosquitto.port, { clientId });
      await subscribed(pipe);
      await publish(1, 30);
      await arrives(pipe, 20);
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.deepEqual(texts(pipe), numbers(1, 20), "as many as the broker's window has, all before any is settled");
      for (const i of [4, 3, 2, 1]) pipe.arrived[i]!.settle(ACCEPTED);
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(pipe.arrived.length, 20, 'nothing is acknowledged before the first');
      pipe.arrived[0]!.settle(REFUSED);
      await arrives(pipe, 25);
      assert.equal(pipe.arrived[24]!.topic, 'sensors/a');
      assert.equal(pipe.bridge.stats().pending, pipe.arrived.length - 5);
      await pipe.bridge.close(0);

      // five were acknowledged; the others come again, to a bridge that knows nothing of them
      const next = start(mosquitto.port, { clientId });
      next.settling = true;
      await arrives(next, 25);
      assert.deepEqual(texts(next), numbers(6, 30));
      await next.bridge.close();
      const last = start(mosquitto.port, { clientId });
      last.settling = true;
      await subscribed(last);
      await publish(31, 31);
      await arrives(last, 1);
      assert.deepEqual(texts(last), ['31'], 'what was acknowledged does not come again');
    });

    it('has a failed one sent again, and all behind it, in order', async () => {
      const pipe = start(mosquitto.port, { clientId: 'failed' });
      await subscribed(pipe);
      await publish(1, 5);
      await arrives(pipe, 5);
      pipe.arrived[0]!.settle(ACCEPTED);
      pipe.arrived[2]!.settle(ACCEPTED);
      pipe.arrived[1]!.settle(FAILED);
      pipe.arrived[3]!.settle(ACCEPTED);
      pipe.settling = true;
      await arrives(pipe, 9);
      assert.deepEqual(texts(pipe), [...numbers(1, 5), ...numbers(2, 5)]);
      pipe.arrived[4]!.settle(ACCEPTED);
      await publish(6, 6);
      await arrives(pipe, 10);
      assert.equal(pipe.bridge.stats().pending, 0);
    });

    it('stops reading at its pending limits, and goes on when there is room', async () => {
      for (const [clientId, limits, most] of [
        ['bounded', { pendingPerClient: 4 }, 4],
        ['bounded-bytes', { pendingBytes: 3 }, 3],
      ] as const) {
        const pipe = start(mosquitto.port, { clientId }, limits);
        await subscribed(pipe);
        await publish(1, 9);
        await arrives(pipe, most);
        await new Promise((resolve) => setTimeout(resolve, 50));
        assert.equal(pipe.arrived.length, most);
        for (let i = 0; i < 9; i++) {
          await arrives(pipe, i + 1);
          assert.ok(pipe.bridge.stats().pending <= most);
          pipe.arrived[i]!.settle(ACCEPTED);
        }
        assert.deepEqual(texts(pipe), numbers(1, 9));
        await pipe.bridge.close();
      }
    });

    it('gets everything at QoS 1, so that nothing is acknowledged by the library', async () => {
      const pipe = start(mosquitto.port, { clientId: 'two' });
      await subscribed(pipe);
      await publish(1, 3, 2);
      await arrives(pipe, 3);
      await pipe.bridge.close(0);
      const next = start(mosquitto.port, { clientId: 'two' });
      next.settling = true;
      await arrives(next, 3);
      assert.deepEqual(texts(next), numbers(1, 3));
    });

    it('does not take retained messages for new readings', async () => {
      await publisher.publishAsync('sensors/kept', 'old', { qos: 1, retain: true });
      const pipe = start(mosquitto.port, { clientId: 'retained' });
      pipe.settling = true;
      await subscribed(pipe);
      await publish(1, 2);
      await arrives(pipe, 2);
      assert.deepEqual(texts(pipe), ['1', '2']);
      await publisher.publishAsync('sensors/kept', 'new', { qos: 1, retain: true });
      await arrives(pipe, 3);
      assert.equal(pipe.arrived[2]!.text, 'new', 'a new one is a reading');
      await publisher.publishAsync('sensors/kept', '', { qos: 1, retain: true });
    });

    it('goes on after a restart of the other broker in order, without losing one', async () => {
      const pipe = start(mosquitto.port, { clientId: 'restart' });
      pipe.settling = true;
      await subscribed(pipe);
      await publish(1, 3);
      await arrives(pipe, 3);
      await mosquitto.end('SIGTERM');
      await eventually(() => !pipe.bridge.stats().connected, 'the bridge to notice');
      await mosquitto.run();
      await publish(4, 6);
      await eventually(() => texts(pipe).includes('6'), 'the last');
      // one whose acknowledgement the broker did not read any more may come twice
      assert.deepEqual([...new Set(texts(pipe))], numbers(1, 6));
    });

    it('subscribes again when the other broker was killed and has lost the session', async () => {
      const pipe = start(mosquitto.port, { clientId: 'killed' });
      pipe.settling = true;
      await subscribed(pipe);
      await publish(1, 3);
      await arrives(pipe, 3);
      await mosquitto.end('SIGKILL');
      await eventually(() => !pipe.bridge.stats().connected, 'the bridge to notice');
      await mosquitto.run();
      await eventually(() => pipe.bridge.stats().connected, 'the bridge to be back', 10_000);
      await new Promise((resolve) => setTimeout(resolve, 100));
      await publish(4, 6);
      await arrives(pipe, 6);
      assert.deepEqual(texts(pipe), numbers(1, 6));
    });

    describe('in a process that is killed again and again', () => {
      const children: ChildProcess[] = [];
      let folder: string;
      beforeEach(() => {
        folder = mkdtempSync(join(tmpdir(), 'millrace-bridge-'));
      });
      afterEach(() => {
        for (const child of children.splice(0)) child.kill('SIGKILL');
        rmSync(folder, { recursive: true });
      });

      /** Killed each time when so many of 300 have become durable. Answers how many of all never did. */
      async function kill(times: number, clientId: string, enough: number, mode: readonly string[]): Promise<number> {
        const file = join(folder, 'durable');
        const run = (): ChildProcess => {
          const script = new URL('./bridge-process.ts', import.meta.url).pathname;
          const args = [...process.execArgv, script, `${mosquitto.port}`, clientId, file, ...mode];
          const child = spawn(process.execPath, args, { stdio: 'inherit' });
          children.push(child);
          return child;
        };
        const durable = (): string[] => (existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : []);
        // the session has to exist before the first is published
        const first = start(mosquitto.port, { clientId });
        await subscribed(first);
        await first.bridge.close(0);
        let published = 0;
        let child = run();
        for (let kills = 0; kills < times; kills++) {
          const before = durable().length;
          const publishing = publish(published + 1, published + 300);
          published += 300;
          await eventually(() => durable().length >= before + enough, 'some to become durable', 20_000);
          const gone = new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
          child.kill('SIGKILL');
          assert.equal(await gone, 'SIGKILL');
          await publishing;
          child = run();
        }
        await publish(published + 1, published + 1);
        published++;
        await eventually(() => durable().includes(`${published}`), 'the last to become durable', 20_000);
        const seen = new Set(durable());
        return numbers(1, published).filter((text) => !seen.has(text)).length;
      }

      it('loses nothing', async function () {
        this.timeout(60_000);
        assert.equal(await kill(2, 'killed-bridge', 20, []), 0);
      });

      it('loses what it acknowledged too early, so the test above can fail', async function () {
        this.timeout(60_000);
        // All 300 have come when 240 are written: with nothing unread the socket is closed after the acknowledgements on
        // it, not cut before them.
        assert.ok((await kill(1, 'early-bridge', 240, ['60'])) > 0);
      });
    });
  });

  describe('from any broker', () => {
    let upstream: Harness | null = null;
    afterEach(async () => {
      await upstream?.close();
      upstream = null;
    });

    it('connects by TLS with a certificate of its own', async () => {
      const tls = {
        cert: join(FILES, 'server.pem'),
        key: join(FILES, 'server-key.pem'),
        ca: join(FILES, 'ca.pem'),
        clientCertificate: 'required' as const,
      };
      upstream = await startHarness({ listeners: [TCP, { ...TCP, tls }] });
      const port = upstream.broker.addresses[1]!.port;
      const pipe = start(port, {
        url: `mqtts://localhost:${port}`,
        tls: { ca: tls.ca, cert: join(FILES, 'pump-17.pem'), key: join(FILES, 'pump-17-key.pem') },
      });
      pipe.settling = true;
      await subscribed(pipe);
      const client = await upstream.connected();
      client.publish('sensors/x', 'by TLS');
      await arrives(pipe, 1);
      const stranger = start(port, { url: `mqtts://localhost:${port}`, clientId: 'other', tls: null });
      await new Promise((resolve) => setTimeout(resolve, 200));
      assert.equal(stranger.bridge.stats().connected, false, 'an unknown authority is not trusted');
    });

    it('says which TLS file cannot be read', () => {
      assert.throws(() => start(1, { tls: { ca: '/nowhere/ca.pem', cert: null, key: null } }), /\/nowhere\/ca\.pem/);
    });

    it('goes on trying when its login is refused, and when its topics are', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'millrace-bridge-'));
      const users = join(folder, 'users.yaml');
      const hash = await hashPassword('secret');
      writeFileSync(users, 'users: {}');
      upstream = await startHarness({ auth: { anonymous: false, users }, broker: { slowDownMs: 1 } });
      const pipe = start(upstream.port, { username: 'bridge', password: 'secret' });
      await new Promise((resolve) => setTimeout(resolve, 300));
      assert.deepEqual(pipe.bridge.stats(), { connected: false, subscribed: false, pending: 0 });
      writeFileSync(users, `users: { bridge: { password: "${hash}" } }`);
      assert.ok(upstream.broker.reload().ok);
      await eventually(() => pipe.bridge.stats().connected, 'the login', 15_000);
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(pipe.bridge.stats().subscribed, false);
      rmSync(folder, { recursive: true });
    });

    it('says to the broker what the gateway has to say to a device behind it, and nothing to others', async () => {
      upstream = await startHarness();
      const one = start(upstream.port, { clientId: 'one', topics: ['spBv1.0/plant/DDATA/#'] });
      const two = start(upstream.port, { clientId: 'two', topics: ['sensors/#'] });
      await subscribed(one);
      await subscribed(two);
      upstream.answer = () => ACCEPTED;
      two.bridge.publish('spBv1.0/plant/NCMD/n', Buffer.from('by two'));
      one.bridge.publish('spBv1.0/plant/NCMD/n', Buffer.from('by one'));
      const { arrived } = upstream;
      await eventually(() => arrived.length > 0, 'it arrives');
      assert.deepEqual(
        arrived.map(({ topic, text, client }) => [topic, text, client]),
        [['spBv1.0/plant/NCMD/n', 'by one', 'one']],
      );
    });

    it('takes several at once, each with its own name, and counts them', async () => {
      upstream = await startHarness();
      const one = start(upstream.port, { clientId: 'one', topics: ['a/#', 'b/#'] });
      const two = start(upstream.port, { clientId: 'two', topics: ['c/#'] });
      one.settling = true;
      two.settling = true;
      await subscribed(one);
      await subscribed(two);
      const client = await upstream.connected();
      for (const [id, topic] of ['a/1', 'b/1', 'c/1', 'd/1'].entries()) client.publish(topic, topic, 1, id + 1);
      await arrives(one, 2);
      await arrives(two, 1);
      assert.deepEqual(
        one.arrived.map(({ topic, client: id }) => `${id} ${topic}`),
        ['one a/1', 'one b/1'],
      );
      await one.bridge.close();
      const received = await one.telemetry.registry.getSingleMetric('millrace_received_total')!.get();
      assert.deepEqual(
        received.values.map(({ labels, value }) => [labels.source, value]),
        [['bridge', 2]],
      );
      const acknowledged = await one.telemetry.registry.getSingleMetric('millrace_acknowledged_total')!.get();
      assert.deepEqual(
        acknowledged.values.map(({ labels, value }) => [labels.qos, value]),
        [['1', 2]],
      );
    });

    it('closes after what is pending is acknowledged, and takes nothing meanwhile', async () => {
      upstream = await startHarness();
      const pipe = start(upstream.port);
      await subscribed(pipe);
      const client = await upstream.connected();
      client.publish('sensors/1', '1', 1, 1);
      await arrives(pipe, 1);
      const closing = pipe.bridge.close(5_000);
      client.publish('sensors/2', '2', 1, 2);
      await client.until('puback', 2);
      await client.ping();
      pipe.arrived[0]!.settle(ACCEPTED);
      await closing;
      assert.equal(pipe.arrived.length, 1);
      const next = start(upstream.port);
      next.settling = true;
      await arrives(next, 1);
      assert.deepEqual(
        next.arrived.map(({ text }) => text),
        ['2'],
      );
    });
  });
});

/**
 * Commands to devices through the running program: delivered with PUBACK, answered, kept for a device that is away, over a kill -9
 * between sending and PUBACK, expired, refused; on the log in the data folder and on a real Kafka, there with two gateways.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kafka, logLevel, Partitioners } from 'kafkajs';
import type { IPublishPacket } from 'mqtt-packet';
import type { CommandShown } from '../../src/view/feed.ts';
import { type GatewayProcess, runMillrace, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 40_000;
const YAML = `commands: { topic: "devices/{device}/commands", responses: "devices/{device}/responses", pending_per_device: 3 }
streams: { s: { topic: "t/{device}", time: ts, metrics: [x] } }
`;

for (const log of ['spool', 'kafka'] as const) {
  describe(`Commands, with ${log === 'kafka' ? 'Kafka' : 'the data folder'} as their log`, function () {
    this.timeout(150_000);
    let folder: string;
    let yaml: string;
    let gateways: GatewayProcess[];
    let clients: RawClient[];

    beforeEach(function () {
      gateways = [];
      clients = [];
      yaml = YAML;
      if (log === 'kafka') {
        const brokers = needKafka(this).map((broker) => `"${broker}"`);
        const name = `commands-${randomUUID().slice(0, 8)}`;
        yaml += `kafka: { brokers: [${brokers}], prefix: ${name}, group: ${name}, partitions: 2 }\n`;
      }
      folder = mkdtempSync(join(tmpdir(), 'millrace-commands-'));
    });
    afterEach(async function () {
      if (this.currentTest?.state === 'failed') for (const gateway of gateways) console.log(gateway.log());
      for (const client of clients) client.end();
      for (const gateway of gateways) await gateway.end('SIGKILL');
      if (folder) rmSync(folder, { recursive: true, force: true });
    });

    async function start(name = 'g1', like?: GatewayProcess): Promise<GatewayProcess> {
      const own = { folder: join(folder, name), yaml: `gateway: ${name}\n${yaml}`, http: 'token: secret' };
      const ports = like && { mqttPort: like.mqttPort, httpPort: like.httpPort };
      const gateway = await startGateway({ ...own, ...ports });
      gateways.push(gateway);
      return gateway;
    }

    async function device(to: GatewayProcess, clientId = 'd1', clean = false): Promise<RawClient> {
      const client = await RawClient.connected(to.mqttPort, { clientId, clean });
      clients.push(client);
      return client;
    }

    /** Sends again while the log is not ready, as a 503 asks. */
    const send = async (to: GatewayProcess, body: object) => {
      let answered = await sendOnce(to, body);
      const taken = async () => {
        if (answered.status !== 503) return true;
        answered = await sendOnce(to, body);
        return false;
      };
      await until(taken, DEADLINE_MS, 'the command is taken');
      return answered;
    };
    const sendOnce = async (to: GatewayProcess, body: object) => {
      const answer = await fetch(`http://127.0.0.1:${to.httpPort}/api/v1/commands`, {
        method: 'POST',
        headers: { authorization: 'Bearer secret', 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      return { status: answer.status, body: (await answer.json()) as { id?: string; error?: { message: string } } };
    };
    const listed = async (of: GatewayProcess) =>
      ((await (await of.get('/api/v1/commands')).json()) as { commands: CommandShown[] }).commands;
    const stateOf = async (of: GatewayProcess, id: string) =>
      (await listed(of)).find((command) => command.id === id)?.state;
    const becomes = (of: GatewayProcess, id: string, state: string) =>
      until(async () => (await stateOf(of, id)) === state, DEADLINE_MS, `${id} is ${state}`);
    const got = (client: RawClient) =>
      client.of('publish').map(({ payload }) => Buffer.from(payload as Uint8Array).toString());
    const acknowledge = (client: RawClient, index = -1) =>
      client.send({ cmd: 'puback', messageId: (client.of('publish').at(index) as IPublishPacket).messageId! });

    it('are delivered when the device has acknowledged, one after the other, and answered on its topic', async () => {
      const gateway = await start();
      const client = await device(gateway);
      await client.subscribe('devices/+/commands', 1);
      // Another client may look at these topics, and is not the device.
      const other = await device(gateway, 'monitor');
      await other.subscribe('devices/#', 1);
      for (const id of ['a', 'b']) {
        const { status, body } = await send(gateway, { id, device: 'd1', payload: { do: id } });
        assert.deepEqual([status, body.id], [202, id]);
      }
      await client.until('publish', 1);
      assert.deepEqual(got(client), ['{"do":"a"}']);
      assert.equal(await stateOf(gateway, 'a'), 'queued');
      acknowledge(client);
      await client.until('publish', 2);
      await becomes(gateway, 'a', 'delivered');
      acknowledge(client);
      await becomes(gateway, 'b', 'delivered');
      other.publish('devices/d1/responses', 'I am not d1', 1, 5);
      client.publish('devices/d1/responses', '{"id":"b","done":true}', 1, 6);
      await client.until('puback', 1);
      await becomes(gateway, 'b', 'answered');
      const [b, a] = await listed(gateway);
      assert.deepEqual([a!.state, b!.response, b!.gateway], ['delivered', '{"id":"b","done":true}', 'g1']);
      const commandsSeen = other.of('publish').filter(({ topic }) => topic.endsWith('/commands'));
      assert.deepEqual(commandsSeen, []);
    });

    it('wait for a device that is away, and are there when it comes back', async () => {
      const gateway = await start();
      const before = await device(gateway);
      await before.subscribe('devices/d1/commands', 1);
      before.end();
      await until(async () => (await gateway.metric('millrace_connections')) === 0, DEADLINE_MS, 'the device is away');
      const { code, out, err } = await runMillrace([
        ...['commands', 'send', '--config', join(folder, 'g1', 'all.yaml')],
        ...['--device', 'd1', '--payload', 'wake up', '--id', 'w'],
      ]);
      assert.equal(code, 0, err);
      assert.match(out, /w is queued for d1/);
      await becomes(gateway, 'w', 'queued');
      const after = await device(gateway);
      await after.until('publish', 1);
      assert.deepEqual(got(after), ['wake up']);
      acknowledge(after);
      await becomes(gateway, 'w', 'delivered');
      const list = await runMillrace(['commands', 'list', '--config', join(folder, 'g1', 'all.yaml'), '--json']);
      assert.equal((JSON.parse(list.out) as CommandShown).state, 'delivered');
    });

    it('are sent again after a kill -9 before the PUBACK, and called delivered only after it', async () => {
      const gateway = await start();
      const client = await device(gateway);
      await client.subscribe('devices/d1/commands', 1);
      await send(gateway, { id: 'k', device: 'd1', payload: 'x' });
      await client.until('publish', 1);
      assert.equal(await stateOf(gateway, 'k'), 'queued');
      // The fault: the device has it, and has not said so.
      assert.equal(await gateway.end('SIGKILL'), 'SIGKILL');
      const again = await start('g1', gateway);
      await becomes(again, 'k', 'queued');
      const back = await device(again);
      // Sessions are in memory: the device subscribes again, as MQTT says it must where no session is present.
      await back.subscribe('devices/d1/commands', 1);
      await back.until('publish', 1);
      assert.equal(await stateOf(again, 'k'), 'queued');
      acknowledge(back);
      await becomes(again, 'k', 'delivered');
      assert.equal(await again.end('SIGKILL'), 'SIGKILL');
      const third = await start('g1', gateway);
      const last = await device(third);
      await last.subscribe('devices/d1/commands', 1);
      await send(third, { id: 'l', device: 'd1', payload: 'y' });
      await last.until('publish', 1);
      // Not k again: its outcome was read first.
      assert.deepEqual(got(last), ['y']);
    });

    it('expire when their time is over, and are refused with a reason when they cannot be', async () => {
      const gateway = await start();
      await send(gateway, { id: 'e', device: 'd1', payload: 'x', ttl_s: 0.2 });
      await becomes(gateway, 'e', 'expired');
      const client = await device(gateway);
      await client.subscribe('devices/d1/commands', 1);
      await send(gateway, { id: 'f', device: 'd1', payload: 'fresh' });
      await client.until('publish', 1);
      assert.deepEqual(got(client), ['fresh']);
      const bad = await send(gateway, { device: 'd1' });
      assert.deepEqual([bad.status, bad.body.error?.message], [422, 'payload: is missing']);
      for (const id of ['1', '2', '3', '4']) await send(gateway, { id, device: 'd9', payload: id });
      await becomes(gateway, '4', 'refused');
      assert.equal((await listed(gateway))[0]!.reason, '3 commands wait already for d9');
      assert.equal(await stateOf(gateway, '3'), 'queued');
      const denied = await fetch(`http://127.0.0.1:${gateway.httpPort}/api/v1/commands`, { method: 'POST' });
      assert.equal(denied.status, 401);
    });

    if (log !== 'kafka') return;
    it('are delivered by the gateway that has the device, and the others know of it', async function () {
      const [one, two] = [await start('g1'), await start('g2')];
      const client = await device(two);
      await client.subscribe('devices/d1/commands', 1);
      await send(one, { id: 'x', device: 'd1', payload: 'hello' });
      await client.until('publish', 1);
      acknowledge(client);
      for (const gateway of [one, two]) await becomes(gateway, 'x', 'delivered');
      const [x] = await listed(one);
      assert.equal(x!.gateway, 'g2');
      client.end();
      const moved = await device(one);
      await moved.subscribe('devices/d1/commands', 1);
      await send(two, { id: 'y', device: 'd1', payload: 'again' });
      await moved.until('publish', 1);
      assert.deepEqual(got(moved), ['again']);
      acknowledge(moved);
      await becomes(one, 'y', 'delivered');
      // Whoever may write the topic gives commands, with the device as key and nothing but a payload.
      const kafka = new Kafka({ brokers: needKafka(this), logLevel: logLevel.NOTHING });
      const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
      await producer.connect();
      const [topic] = /commands-[0-9a-f]{8}/.exec(yaml)!;
      const message = { key: 'd1', value: '{"payload":{"from":"outside"}}' };
      await producer.send({ topic: `${topic}.commands`, messages: [message] });
      await producer.disconnect();
      await moved.until('publish', 2);
      assert.equal(got(moved)[1], '{"from":"outside"}');
    });
  });
}

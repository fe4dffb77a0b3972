/** What a local MQTT subscriber of the running gateway sees: accepted readings as they come, and why its own were refused. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';

const YAML = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    time: ts
    metrics: [temperature]
  power:
    topic: meters/{device}/power
    time: ts
    metrics: [watts]
    retain: true
`;

describe('A local subscriber of the running gateway', function () {
  this.timeout(60_000);
  let folder: string;
  let gateway: GatewayProcess;
  const clients: RawClient[] = [];

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-subscribers-'));
    gateway = await startGateway({ folder, yaml: YAML });
  });
  afterEach(() => {
    for (const client of clients.splice(0)) client.end();
  });
  after(async () => {
    await gateway?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  async function connect(clientId: string): Promise<RawClient> {
    const client = await RawClient.connected(gateway.mqttPort, { clientId });
    clients.push(client);
    return client;
  }

  const temperature = (value: number | string) => `{"ts":${systemClock.nowMs()},"temperature":${value}}`;

  for (const qos of [0, 1] as const) {
    it(`gets accepted readings live at QoS ${qos}, as they were sent, and no refused one`, async () => {
      const subscriber = await connect(`sub-${qos}`);
      const other = await connect(`other-${qos}`);
      assert.equal(await subscriber.subscribe('sensors/+/+/environment', qos), qos);
      assert.equal(await other.subscribe('sensors/elsewhere/#', qos), qos);
      const device = await connect(`device-${qos}`);
      const payloads = [temperature(20), temperature('"warm"'), 'no JSON', temperature(21), temperature(22)];
      for (const [index, payload] of payloads.entries()) {
        device.publish(`sensors/hall/q${qos}/environment`, payload, 1, index + 1);
        await device.until('puback', index + 1);
      }
      await subscriber.until('publish', 3);
      await subscriber.ping();
      const got = subscriber.of('publish');
      assert.deepEqual(
        got.map(({ payload }) => payload.toString()),
        [payloads[0], payloads[3], payloads[4]],
      );
      for (const packet of got) {
        assert.deepEqual([packet.topic, packet.qos, packet.retain], [`sensors/hall/q${qos}/environment`, qos, false]);
      }
      assert.equal(other.of('publish').length, 0);
    });
  }

  it('gets the last reading of a stream that says retain at once, and nothing of one that does not', async () => {
    const device = await connect('meter');
    const watts = (value: number) => `{"ts":${systemClock.nowMs()},"watts":${value}}`;
    const sent = [watts(1), watts(2), '{"watts":"broken"}'];
    for (const [index, payload] of sent.entries()) {
      device.publish('meters/m1/power', payload, 1, index + 1);
      await device.until('puback', index + 1);
    }
    device.publish('sensors/hall/r/environment', temperature(20), 1, 9);
    await device.until('puback', sent.length + 1);
    const late = await connect('late');
    await late.subscribe('meters/#', 1);
    await late.subscribe('sensors/hall/r/environment', 1, 10);
    await late.until('publish');
    await late.ping();
    const got = late
      .of('publish')
      .map(({ topic, payload, retain }) => ({ topic, payload: payload.toString(), retain }));
    assert.deepEqual(got, [{ topic: 'meters/m1/power', payload: sent[1], retain: true }]);
  });

  it('is told why its own payload was refused, on $millrace/refused/ and its client id, and of nobody else’s', async () => {
    const device = await connect('thermometer');
    assert.equal(await device.subscribe('$millrace/refused/thermometer', 0), 0);
    const curious = await connect('curious');
    assert.equal(await curious.subscribe('$millrace/refused/thermometer', 0), 128);
    device.publish('sensors/hall/t/environment', temperature('"warm"'), 1, 1);
    await device.until('publish');
    const { topic, payload } = device.of('publish')[0]!;
    assert.equal(topic, '$millrace/refused/thermometer');
    const notice = JSON.parse(payload.toString()) as Record<string, unknown>;
    assert.equal(notice.code, 'number-invalid');
    assert.equal(notice.topic, 'sensors/hall/t/environment');
    assert.match(String(notice.reason), /temperature.*"warm".*not a number/);
    assert.equal(curious.of('publish').length, 0);
  });
});

/** /livez and /readyz of the running program: down when a promise cannot be kept, not when what the log is there for is away. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { kafkaTopics } from '../../src/journal/kafka-topics.ts';
import { freePort } from '../../src/torture/program.ts';
import type { PartHealth } from '../../src/view/health.ts';
import { appendSnappy, dropTopics, kafkaConfig, makeTopic } from '../journal/kafka-fixture.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';

const STREAMS = 'streams: { s: { topic: "s/{device}", time: ts, metrics: [v], windows: [1s] } }\n';

interface Health {
  readonly ok: boolean;
  readonly reason: string;
  readonly parts: readonly PartHealth[];
}

describe('The health of the running program', function () {
  this.timeout(60_000);
  let folder: string;
  let gateway: GatewayProcess | null;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-health-'));
    gateway = null;
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.log(gateway?.log());
    await gateway?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  async function ask(path: string): Promise<{ status: number; health: Health }> {
    const answer = await gateway!.get(path);
    return { status: answer.status, health: (await answer.json()) as Health };
  }
  const part = ({ parts }: Health, name: string) => parts.find((one) => one.part === name);

  it('is ready while InfluxDB and Kafka are away, and says of each what that means; devices are acknowledged', async () => {
    const influx = `influx: { url: "http://127.0.0.1:${await freePort()}", org: o, bucket: b, token: t }\n`;
    const kafka = `kafka: { brokers: ["127.0.0.1:${await freePort()}"] }\n`;
    gateway = await startGateway({ folder, yaml: influx + kafka + STREAMS });
    const away = async () => {
      const { health } = await ask('/readyz');
      return ['kafka', 'influx'].every((name) => part(health, name)?.state === 'away');
    };
    await until(away, 30_000, 'both are noticed to be away');
    const { status, health } = await ask('/readyz');
    assert.equal(status, 200, JSON.stringify(health));
    assert.match(part(health, 'kafka')?.means ?? '', /acknowledged and wait in the spool/);
    assert.match(part(health, 'influx')?.means ?? '', /rows wait/);
    assert.ok(health.parts.every(({ means, ready }) => means !== '' && ready));
    assert.equal((await gateway.get('/livez')).status, 200);
    const client = await RawClient.connected(gateway.mqttPort);
    client.publish('s/d1', '{"ts":1700000000000,"v":1}', 1, 1);
    await client.until('puback', 1);
    client.end();
  });

  it('is neither ready nor alive when Kafka refuses for good, with the reason and the way out', async function () {
    const brokers = needKafka(this);
    const prefix = `health-${randomUUID().slice(0, 8)}`;
    const config = kafkaConfig(brokers, { prefix, partitions: 1 });
    await makeTopic(config, kafkaTopics(config).readings);
    try {
      const kafka = `kafka: { brokers: ["${brokers[0]}"], prefix: ${prefix}, group: ${prefix}, partitions: 2 }\n`;
      gateway = await startGateway({ folder, yaml: kafka + STREAMS, role: 'gateway' });
      await until(async () => (await ask('/readyz')).status === 503, 30_000, 'it is not ready');
      const { health } = await ask('/readyz');
      const refused = part(health, 'kafka');
      assert.equal(refused?.ready, false);
      assert.equal(refused?.failure?.code, 'KAFKA_TOPIC_MISMATCH');
      assert.match(refused?.failure?.message ?? '', /1 .*2|2 .*1/);
      assert.ok(health.reason.includes(refused.means));
      assert.equal(part(health, 'spool')?.ready, true, 'the others are what they are');
      assert.equal((await gateway.get('/livez')).status, 503);
    } finally {
      await gateway?.end('SIGTERM');
      await dropTopics(config);
    }
  });

  it('shows the rollup waiting before a batch that it cannot read, with the way out', async function () {
    const brokers = needKafka(this);
    const prefix = `health-${randomUUID().slice(0, 8)}`;
    const config = kafkaConfig(brokers, { prefix, partitions: 1 });
    const { readings } = kafkaTopics(config);
    await makeTopic(config, readings);
    try {
      await appendSnappy(config, readings, 0);
      const kafka = `kafka: { brokers: ["${brokers[0]}"], prefix: ${prefix}, group: ${prefix}, partitions: 1 }\n`;
      gateway = await startGateway({ folder, yaml: kafka + STREAMS });
      const shown = async () => part((await ask('/readyz')).health, 'rollup')?.failure?.code;
      await until(async () => (await shown()) === 'KAFKA_BATCH_UNREADABLE', 30_000, 'the rollup says so');
      const rollup = part((await ask('/readyz')).health, 'rollup')!;
      assert.match(rollup.failure!.message, /snappy at offset 0/);
      assert.match(rollup.failure!.message, /let them use gzip or none/);
    } finally {
      await gateway?.end('SIGTERM');
      await dropTopics(config);
    }
  });
});

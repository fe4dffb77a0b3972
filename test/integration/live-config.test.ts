/**
 * Streams added to the configuration of a running program: accepted, counted and stored without a restart, while the streams
 * that were there lose and repeat nothing; and what cannot be changed so is named and changes nothing.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { dropTopics, kafkaConfig } from '../journal/kafka-fixture.ts';
import { type GatewayProcess, runMillrace, startGateway } from '../support/gateway-process.ts';
import { removeBuckets } from '../support/influx.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { needInflux, needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';

const ROLLUP = 'rollup: { grace: 1s, disorder: 200ms, tick: 200ms, flush: 200ms, skew: 500ms }\n';
const OLD = 'streams:\n  old: { topic: "old/{device}", time: ts, metrics: [v], windows: [1s] }\n';
const added = (name: string) => `  ${name}: { topic: "${name}/{device}", time: ts, metrics: [v], windows: [1s, 2s] }\n`;

describe('A configuration that is changed while the program runs', function () {
  this.timeout(150_000);
  let folder: string;
  let running: GatewayProcess[];
  let client: RawClient | null;
  let packetId = 0;
  let sent: Record<string, number>;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-live-'));
    running = [];
    client = null;
    packetId = 0;
    sent = {};
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') for (const one of running) console.log(one.log());
    client?.end();
    for (const one of running) await one.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  const file = (role: string) => join(folder, `${role}.yaml`);
  const write = (role: string, text: string) => writeFileSync(file(role), text);
  const read = (role: string) => readFileSync(file(role), 'utf8');

  async function publish(gateway: GatewayProcess, topic: string): Promise<void> {
    client ??= await RawClient.connected(gateway.mqttPort);
    packetId++;
    client.publish(`${topic}/d${packetId % 3}`, `{"ts":${systemClock.nowMs()},"v":${packetId}}`, 1, packetId);
    await client.until('puback', packetId);
    sent[topic] = (sent[topic] ?? 0) + 1;
  }

  /** Publishes to all of these topics until it is so. */
  async function publishing(
    gateway: GatewayProcess,
    topics: readonly string[],
    condition: () => Promise<boolean>,
    what: string,
  ) {
    await until(
      async () => {
        for (const topic of topics) await publish(gateway, topic);
        return condition();
      },
      60_000,
      what,
    );
  }

  async function rows(
    from: GatewayProcess,
    stream: string,
    window: string,
  ): Promise<{ count: number; time: number }[]> {
    const toMs = systemClock.nowMs() + 60_000;
    const answer = await from.get(`/api/v1/rows?stream=${stream}&window=${window}&from=0&to=${toMs}`);
    if (answer.status !== 200) return [];
    return (await answer.text())
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));
  }

  const counted = async (from: GatewayProcess, stream: string) =>
    (await rows(from, stream, '1s')).reduce((sum, { count }) => sum + count, 0);

  it('has added streams accepted, counted and stored, on SIGHUP and by itself; those that were there miss nothing', async () => {
    const gateway = await startGateway({ folder, yaml: ROLLUP + OLD });
    running = [gateway];
    await publishing(gateway, ['old'], async () => (await counted(gateway, 'old')) > 0, 'rows of the old stream');

    write('all', read('all') + added('hup'));
    gateway.child.kill('SIGHUP');
    await publishing(gateway, ['old'], async () => gateway.log().includes('streams were added'), 'it is added');
    await publishing(gateway, ['old', 'hup'], async () => (await rows(gateway, 'hup', '2s')).length > 0, 'its rows');

    write('all', read('all') + added('seen'));
    await publishing(gateway, ['old'], async () => gateway.log().includes('"streams":["seen"]'), 'the change is seen');
    await publishing(gateway, ['old', 'seen'], async () => (await rows(gateway, 'seen', '2s')).length > 0, 'its rows');

    const streams = (await (await gateway.get('/api/v1/streams')).json()) as { streams: { name: string }[] };
    assert.deepEqual(streams.streams.map(({ name }) => name).sort(), ['hup', 'old', 'seen']);
    for (const stream of ['old', 'hup', 'seen']) {
      await until(async () => (await counted(gateway, stream)) === sent[stream], 30_000, `every reading of ${stream}`);
    }
    const metrics = await (await gateway.get('/metrics')).text();
    assert.match(metrics, /^millrace_ledger_imbalance_readings 0$/m);
    assert.doesNotMatch(metrics, /millrace_unexplained_total\{.*\} [1-9]/);
    assert.equal(await gateway.end('SIGTERM'), 0);
    const { code, out, err } = await runMillrace(['verify', '--config', file('all'), '--json']);
    assert.equal(code, 0, out + err);
  });

  it('is reported where it is broken or needs a restart, by place and key, and the old one stays', async () => {
    const gateway = await startGateway({ folder, yaml: ROLLUP + OLD });
    running = [gateway];
    const good = read('all');
    const stays = (what: RegExp) => () =>
      gateway
        .log()
        .split('\n')
        .some((line) => line.includes('the old configuration stays') && what.test(line));
    const changed = async (text: string, what: RegExp) => {
      write('all', text);
      gateway.child.kill('SIGHUP');
      await until(stays(what), 20_000, String(what));
    };
    await changed(`${good}  other: { topic: "old/{site}" }\n`, /needs a key/);
    await changed(
      good.replace('grace: 1s', 'grace: 2s') + added('more'),
      /rollup\.grace cannot be changed.*wait: more/,
    );
    await changed(good.replace('metrics: [v]', 'metrics: [v, w]'), /streams\.old\.metrics cannot/);
    await changed(`${good}  bad: { topic: "bad/{device}", time: ts, metrics: [v], schema: s.json }\n`, /s\.json/);
    writeFileSync(join(folder, 's.json'), '{"type":"obect"}');
    await changed(`${good}  bad: { topic: "bad/{device}", time: ts, metrics: [v], schema: s.json }\n`, /s\.json.*type/);
    client = await RawClient.connected(gateway.mqttPort);
    for (const topic of ['more', 'bad']) await publish(gateway, topic);
    await until(async () => (await gateway.metric('millrace_dead_letters_total')) === 2, 10_000, 'they are strangers');
    await publishing(gateway, ['old'], async () => (await counted(gateway, 'old')) > 0, 'the old stream goes on');
    write('all', good + added('more'));
    gateway.child.kill('SIGHUP');
    await until(() => gateway.log().includes('streams were added'), 20_000, 'a good one is taken');
  });

  it('has added streams taken by gateways and rollups apart, on a real Kafka and InfluxDB', async function () {
    const brokers = needKafka(this);
    const influx = needInflux(this);
    const prefix = `live-${randomUUID().slice(0, 8)}`;
    const yaml = `kafka: { brokers: ["${brokers[0]}"], prefix: ${prefix}, group: ${prefix}, partitions: 2, session_timeout: 6s }
influx: { url: "${influx.url}", org: ${influx.org}, bucket: ${prefix}, token: "${influx.token}" }
${ROLLUP}${OLD}`;
    try {
      const gateway = await startGateway({ folder, yaml, role: 'gateway' });
      running = [gateway];
      const rollup = await startGateway({ folder, yaml, role: 'rollup' });
      running.push(rollup);
      await publishing(gateway, ['old'], async () => (await counted(rollup, 'old')) > 0, 'rows of the old stream');
      for (const [role, process] of [
        ['rollup', rollup],
        ['gateway', gateway],
      ] as const) {
        // By their key the readings of a device would be in both partitions.
        write(role, read(role) + added('hup').replace('time: ts', 'key: v, time: ts'));
        process.child.kill('SIGHUP');
        await publishing(
          gateway,
          ['old'],
          async () => process.log().includes('streams were added'),
          `the ${role} has it`,
        );
      }
      await publishing(gateway, ['old', 'hup'], async () => (await rows(rollup, 'hup', '2s')).length > 0, 'its rows');
      for (const stream of ['old', 'hup']) {
        await until(async () => (await counted(rollup, stream)) === sent[stream], 30_000, `every reading of ${stream}`);
      }
      const metrics = await (await rollup.get('/metrics')).text();
      assert.doesNotMatch(metrics, /millrace_unexplained_total\{.*\} [1-9]/);
    } finally {
      for (const one of running) await one.end('SIGTERM');
      await dropTopics(kafkaConfig(brokers, { prefix }));
      await removeBuckets(influx, prefix);
    }
  });
});

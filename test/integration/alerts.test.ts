/**
 * Alerts of the running program, all three kinds, to a webhook that is away at first, to an MQTT subscriber and to the API;
 * over a kill -9 in the middle. The receiver drops repeats by id, as the README says it can.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Alert } from '../../src/alert.ts';
import { systemClock } from '../../src/clock.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 40_000;

/** Takes alerts, unless told to fail; keeps what it took and counts what it turned away. */
class Receiver {
  readonly taken: Alert[] = [];
  readonly keys: unknown[] = [];
  status = 200;
  turnedAway = 0;
  readonly #server: Server;
  port = 0;

  constructor() {
    this.#server = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      request.on('end', () => {
        if (this.status === 200 && request.headers.authorization === 'Bearer sesame') {
          this.taken.push(JSON.parse(body) as Alert);
          this.keys.push(request.headers['idempotency-key']);
        } else this.turnedAway++;
        response.writeHead(this.status).end();
      });
    });
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.port = (this.#server.address() as { port: number }).port;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** Of one rule, each id once, in the order in which they came. */
  of(rule: string): string[] {
    const seen = new Map(this.taken.filter((alert) => alert.rule === rule).map((alert) => [alert.id, alert]));
    return [...seen.values()].map(({ state, series }) => `${state} ${series}`);
  }
}

for (const log of ['spool', 'kafka'] as const) {
  describe(`Alerts, with ${log === 'kafka' ? 'Kafka' : 'the spool'} as the log`, function () {
    this.timeout(150_000);
    let folder: string;
    let receiver: Receiver;
    let gateway: GatewayProcess | null;
    const clients: RawClient[] = [];

    beforeEach(async () => {
      folder = mkdtempSync(join(tmpdir(), 'millrace-alerts-'));
      receiver = new Receiver();
      await receiver.listen();
      gateway = null;
    });
    afterEach(async function () {
      if (this.currentTest?.state === 'failed') console.log(gateway?.log(), receiver.taken);
      for (const client of clients.splice(0)) client.end();
      await gateway?.end('SIGKILL');
      receiver.close();
      rmSync(folder, { recursive: true, force: true });
    });

    it('are raised and cleared, remembered over a kill -9, and taken by a receiver that was away', async function () {
      const prefix = `alerts-${randomUUID().slice(0, 8)}`;
      const kafka =
        log === 'kafka'
          ? `kafka: { brokers: ["${needKafka(this)[0]}"], prefix: ${prefix}, group: ${prefix}, partitions: 2, session_timeout: 6s }\n`
          : '';
      const yaml = `${kafka}rollup: { grace: 0s, disorder: 200ms, tick: 250ms, flush: 250ms }
alerts:
  rules:
    hot: { stream: s, metric: v, above: 80, clear: 70, windows: 2 }
    gone: { stream: s, silent: 6s }
    burst: { dead_letters: 3, within: 5s }
  webhook: { url: "http://127.0.0.1:${receiver.port}/", token: sesame, timeout: 2s }
  mqtt: { topic: "alerts/{rule}" }
streams: { s: { topic: "s/{device}", time: ts, metrics: [v], windows: [1s] } }
`;
      receiver.status = 503;
      const start = async () => {
        gateway = await startGateway({ folder, yaml });
        return gateway;
      };
      let running = await start();
      const shown = async () =>
        (await (await running.get('/api/v1/alerts')).json()) as { active: Alert[]; recent: Alert[] };
      const isActive = async (rule: string) => (await shown()).active.some((alert) => alert.rule === rule);
      let device = await connect(running, 'd1');
      let packetId = 0;
      const publish = (payload: string) => device.publish('s/d1', payload, 1, (packetId++ % 60_000) + 1);
      const measure = (value: number) => publish(`{"ts":${systemClock.nowMs()},"v":${value}}`);
      /** Goes on measuring, so that the device is not silent, until it is so. */
      const measuring = async (value: number, condition: () => boolean | Promise<boolean>, what: string) => {
        let measuredMs = 0;
        await until(
          async () => {
            if (systemClock.monotonicMs() - measuredMs > 200) {
              measure(value);
              measuredMs = systemClock.monotonicMs();
            }
            return condition();
          },
          DEADLINE_MS,
          what,
        );
      };

      await measuring(90, () => isActive('hot'), 'the threshold raises an alert');
      const [problem] = ((await (await running.get('/api/v1/status')).json()) as { problems: { title: string }[] })
        .problems;
      assert.match(problem!.title, /V \(mean over 1s\) 90 of device=d1 is above 80/);
      await measuring(75, () => receiver.turnedAway > 0, 'the receiver, which is away, is tried');
      assert.equal(receiver.taken.length, 0);

      await running.end('SIGKILL');
      running = await start();
      const subscriber = await connect(running, 'watcher');
      await subscriber.subscribe('alerts/#');
      device = await connect(running, 'd1');
      await measuring(75, () => isActive('hot'), 'the alert is remembered, and what lies in between does not clear it');
      receiver.status = 200;
      await measuring(60, async () => !(await isActive('hot')), 'it is cleared');
      for (let i = 0; i < 4; i++) publish('nonsense');
      await measuring(60, () => isActive('burst'), 'the burst of dead letters raises an alert');
      await until(() => isActive('gone'), DEADLINE_MS, 'a device that says nothing more is noticed');
      await measuring(60, async () => !(await isActive('gone')), 'and is back');
      await measuring(60, async () => !(await isActive('burst')), 'the burst is over');

      await until(
        () => receiver.of('burst').length === 2 && receiver.of('gone').length === 2,
        DEADLINE_MS,
        'all are taken',
      );
      assert.deepEqual(receiver.of('hot'), ['raised device=d1', 'cleared device=d1']);
      assert.deepEqual(receiver.of('gone'), ['raised device=d1', 'cleared device=d1']);
      assert.deepEqual(receiver.of('burst'), ['raised ', 'cleared ']);
      assert.deepEqual(
        receiver.keys,
        receiver.taken.map(({ id }) => id),
        'the key that repeats are dropped by',
      );
      const published = subscriber.of('publish').map(({ topic }) => topic);
      for (const rule of ['hot', 'burst', 'gone']) assert.ok(published.includes(`alerts/${rule}`), `${published}`);
      assert.ok((await running.metric('millrace_alert_deliveries_total')) > 5);
      await until(async () => (await running.metric('millrace_alerts_active')) === 0, DEADLINE_MS, 'none is active');
      assert.equal(await running.end('SIGTERM'), 0);
    });

    async function connect(running: GatewayProcess, clientId: string): Promise<RawClient> {
      const client = await RawClient.connected(running.mqttPort, { clientId });
      clients.push(client);
      return client;
    }
  });
}

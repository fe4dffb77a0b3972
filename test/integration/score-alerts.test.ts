/**
 * An alarm of the model as an alert of the running program: to the API, to an MQTT subscriber and to a webhook; over kill -9 while it is
 * active and (without Kafka, which takes its time to notice) after it was cleared, each time with the scores since before the alarm lost, so that its windows are scored again.
 *
 * The past that the model compares with is put into the store beforehand; a value that never moved makes every other one an alarm.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Alert } from '../../src/alert.ts';
import { systemClock } from '../../src/clock.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { makeRow } from '../support/rows.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 40_000;
const USUAL = 10;
const PAST_WINDOWS = 300;

for (const log of ['spool', 'kafka'] as const) {
  describe(`Alerts of scores, with ${log === 'kafka' ? 'Kafka' : 'the spool'} as the log`, function () {
    this.timeout(150_000);
    let folder: string;
    let gateway: GatewayProcess | null = null;
    const clients: RawClient[] = [];
    const posted: Alert[] = [];
    const receiver = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      request.on('end', () => {
        posted.push(JSON.parse(body) as Alert);
        response.writeHead(204).end();
      });
    });

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'millrace-score-alerts-'));
      receiver.listen(0, '127.0.0.1');
      await once(receiver, 'listening');
    });
    after(async function () {
      if (this.test?.parent?.tests.some(({ state }) => state === 'failed')) console.log(gateway?.log(), posted);
      for (const client of clients) client.end();
      await gateway?.end('SIGKILL');
      receiver.closeAllConnections();
      receiver.close();
      rmSync(folder, { recursive: true, force: true });
    });

    it('are told once, however often their windows are scored', async function () {
      const prefix = `score-alerts-${randomUUID().slice(0, 8)}`;
      const kafka =
        log === 'kafka'
          ? `kafka: { brokers: ["${needKafka(this)[0]}"], prefix: ${prefix}, group: ${prefix}, partitions: 1, session_timeout: 6s }\n`
          : '';
      const yaml = `${kafka}rollup: { grace: 0s, disorder: 200ms, tick: 250ms, flush: 250ms }
alerts:
  rules: { odd: { stream: s, alarm: true, calm: 3 } }
  webhook: { url: "http://127.0.0.1:${(receiver.address() as AddressInfo).port}/" }
  mqtt: { topic: "alerts/{rule}" }
streams: { s: { topic: "s/{device}", time: ts, metrics: [v], windows: [1s], score: true } }
`;
      const rows = join(folder, 'data', 'rows');
      await fillWithPast(rows);
      let subscriber: RawClient;
      let device: RawClient;
      const start = async () => {
        gateway = await startGateway({ folder, yaml });
        [subscriber, device] = [await connect(gateway, 'watcher'), await connect(gateway, 'd1')];
        await subscriber.subscribe('alerts/#');
        return gateway;
      };
      let running = await start();
      const shown = async () =>
        (await (await running.get('/api/v1/alerts')).json()) as { active: Alert[]; recent: Alert[] };
      let packetId = 0;
      const measuring = async (value: number, condition: () => boolean | Promise<boolean>, what: string) => {
        let measuredMs = 0;
        await until(
          async () => {
            if (systemClock.monotonicMs() - measuredMs > 200) {
              device.publish('s/d1', `{"ts":${systemClock.nowMs()},"v":${value}}`, 1, (packetId++ % 60_000) + 1);
              measuredMs = systemClock.monotonicMs();
            }
            return condition();
          },
          DEADLINE_MS,
          what,
        );
      };
      const [scores, earlier] = [join(rows, 'scores'), join(folder, 'earlier')];
      /** As if the process had died before it wrote the scores of the alarm. */
      const crash = async () => {
        await running.end('SIGKILL');
        rmSync(scores, { recursive: true });
        cpSync(earlier, scores, { recursive: true });
        running = await start();
      };
      const scoredAgain = async () => (await running.metric('millrace_alarms_total')) > 0;
      const isActive = async () => (await shown()).active.length === 1;

      await measuring(USUAL, async () => (await running.metric('millrace_scored_total')) > 1, 'windows are scored');
      assert.deepEqual((await shown()).recent, []);
      cpSync(scores, earlier, { recursive: true });
      await measuring(1_000, isActive, 'the model alarms');
      const [active] = (await shown()).active as [Alert];
      assert.equal(active.series, 'device=d1,metric=v');
      assert.match(active.message, /^v \(mean over 1s\) [\d.]+ of device=d1 is unusual: score 1000, 10 was forecast$/);
      const { problems } = (await (await running.get('/api/v1/status')).json()) as { problems: { title: string }[] };
      assert.ok(
        problems.some(({ title }) => title.includes('is unusual: score 1000')),
        JSON.stringify(problems),
      );
      await until(() => subscriber.of('publish').length > 0, DEADLINE_MS, 'the subscriber is told');
      assert.equal(subscriber!.of('publish')[0]!.topic, 'alerts/odd');

      await crash();
      await measuring(USUAL, scoredAgain, 'the windows of the alarm are scored again');
      await measuring(USUAL, async () => (await shown()).recent[0]?.state === 'cleared', 'it is cleared');
      if (log === 'spool') {
        await crash();
        await measuring(USUAL, scoredAgain, 'they are scored once more');
        const scored = await running.metric('millrace_scored_total');
        await measuring(USUAL, async () => (await running.metric('millrace_scored_total')) > scored, 'scoring goes on');
      }

      const { recent } = await shown();
      assert.deepEqual(
        recent.map(({ state, sinceMs }) => ({ state, sinceMs })),
        ['cleared', 'raised'].map((state) => ({ state, sinceMs: active.sinceMs })),
      );
      await until(() => new Set(posted.map(({ id }) => id)).size === 2, DEADLINE_MS, 'the webhook has both');
      assert.equal(await running.end('SIGTERM'), 0);
    });

    async function connect(running: GatewayProcess, clientId: string): Promise<RawClient> {
      const client = await RawClient.connected(running.mqttPort, { clientId });
      clients.push(client);
      return client;
    }
  });
}

/** Closed windows of one series, up to a moment ago. */
async function fillWithPast(rows: string): Promise<void> {
  const store = openEmbeddedStore({
    folder: rows,
    maxBytes: 2 ** 30,
    telemetry: silentTelemetry(),
    clock: systemClock,
  });
  const endMs = Math.floor(systemClock.nowMs() / 1_000) * 1_000 - 1_000;
  const past = Array.from({ length: PAST_WINDOWS }, (_, i) =>
    makeRow({ stream: 's', metric: 'v', window: '1s', startMs: endMs - (PAST_WINDOWS - i) * 1_000, mean: USUAL }),
  );
  const prepared = await store.prepare([{ stream: 's', window: { label: '1s', sizeMs: 1_000, everyMs: 1_000 } }]);
  const written = prepared.ok ? await store.write(past) : prepared;
  assert.ok(written.ok);
  await store.close();
}

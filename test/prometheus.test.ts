/** Metrics and alert rules as Prometheus itself sees them: promtool reads the real /metrics and tries every rule. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../src/clock.ts';
import { silentTelemetry } from '../src/telemetry.ts';
import { type GatewayProcess, startGateway } from './support/gateway-process.ts';
import { exportedMetrics, expressionsAsked } from './support/grafana.ts';
import { RawClient } from './support/mqtt-raw.ts';
import { leaveOut } from './support/servers.ts';
import { until } from './support/until.ts';

const folder = fileURLToPath(new URL('../compose/prometheus', import.meta.url));
const rules = readFileSync(join(folder, 'alerts.yaml'), 'utf8');
const trials = readFileSync(join(folder, 'alerts.test.yaml'), 'utf8');

function promtool(
  context: Mocha.Context,
  args: readonly string[],
  input = '',
): { status: number | null; output: string } {
  const run = spawnSync('promtool', args, { cwd: folder, encoding: 'utf8', input });
  if (run.error) leaveOut(context, 'promtool');
  return { status: run.status, output: run.stdout + run.stderr };
}

describe('The alert rules', () => {
  it('are each tried', () => {
    for (const [, alert] of rules.matchAll(/- alert: (\w+)/g))
      assert.ok(trials.includes(`"${alert}"`), `${alert} is tried`);
  });

  it('are accepted by Prometheus, fire on what they are for, and are quiet beside it', function () {
    this.timeout(30_000);
    for (const args of [
      ['check', 'rules', 'alerts.yaml'],
      ['check', 'config', 'prometheus.yaml'],
      ['test', 'rules', 'alerts.test.yaml'],
    ]) {
      const { status, output } = promtool(this, args);
      assert.equal(status, 0, output);
    }
  });
});

describe('/metrics', function () {
  this.timeout(60_000);
  let data: string;
  let gateway: GatewayProcess;

  before(async () => {
    data = mkdtempSync(join(tmpdir(), 'millrace-metrics-'));
    const stream = 'streams: { s: { topic: "s/{device}", time: ts, metrics: [v], windows: [1s] } }\n';
    gateway = await startGateway({ folder: data, yaml: `rollup: { grace: 3s, disorder: 0s, tick: 200ms }\n${stream}` });
    const client = await RawClient.connected(gateway.mqttPort, { clientId: 'd1' });
    [`{"ts":${systemClock.nowMs()},"v":1}`, 'nonsense', `{"ts":1700000000000,"v":1}`].forEach((payload, at) => {
      client.publish('s/d1', payload, 1, at + 1);
    });
    await client.until('puback', 3);
    client.end();
    await until(async () => (await gateway.metric('millrace_rows_written_total')) > 0, 20_000, 'a row is written');
  });
  after(async () => {
    await gateway.end('SIGTERM');
    rmSync(data, { recursive: true, force: true });
  });

  it('has every metric, and every label of it, that a panel of Grafana or an alert rule asks for', async () => {
    const exported = exportedMetrics(await (await gateway.get('/metrics')).text());
    const asked = expressionsAsked();
    const names = new Set(asked.flatMap(({ metrics }) => metrics.map(({ name }) => name)));
    assert.ok(names.size > 20 && names.has('millrace_spool_limit_bytes'), 'they are found at all');
    assert.deepEqual(
      [...names].filter((name) => !exported.has(name)),
      [],
      'asked for, and not there',
    );
    // Which labels a metric has is said where it is made; a sample of each may need a fault.
    const made = silentTelemetry().registry.getMetricsAsArray() as unknown as { name: string; labelNames: string[] }[];
    const labelsOf = new Map(made.map(({ name, labelNames }) => [name, labelNames]));
    const has = (name: string, label: string) =>
      ['instance', 'job', 'le'].includes(label) || (labelsOf.get(name)?.includes(label) ?? false);
    assert.ok(has('millrace_turned_away_total', 'reason') && !has('millrace_turned_away_total', 'stream'));
    const wrong = asked.flatMap(({ by, metrics, labels }) => [
      ...labels.filter((label) => !metrics.some(({ name }) => has(name, label))).map((label) => `${by}: by ${label}`),
      ...metrics.flatMap(({ name, labels: own }) =>
        own.filter((label) => !has(name, label)).map((label) => `${by}: ${name}{${label}}`),
      ),
    ]);
    assert.deepEqual(wrong, [], 'asked for by a label that it does not have');
  });

  it('passes the linter of Prometheus', async function () {
    const text = await (await gateway.get('/metrics')).text();
    const { status, output } = promtool(this, ['check', 'metrics'], text);
    assert.equal(status, 0, output);
    assert.equal(output, '');
  });

  it('has each publish in one counter and each reading in one term of the ledger, which balances', async () => {
    const count = (name: string) => gateway.metric(name);
    assert.equal(await count('millrace_received_total'), 3);
    assert.equal((await count('millrace_acknowledged_total')) + (await count('millrace_turned_away_total')), 3);
    assert.equal(await count('millrace_ledger_imbalance_readings'), 0);
    assert.equal((await count('millrace_accepted_total')) + (await count('millrace_dead_letters_total')), 3);
    await until(
      async () => (await count('millrace_counted_total')) + (await count('millrace_late_total')) === 2,
      10_000,
      'each accepted reading is counted or late',
    );
  });

  it('has a histogram for every hop, and the delay of the event loop of each thread', async () => {
    const text = await (await gateway.get('/metrics')).text();
    for (const hop of [
      'acknowledge',
      'inspect',
      'event_delay',
      'spool_commit',
      'rollup',
      'window_durable',
      'store_write',
    ]) {
      assert.match(text, new RegExp(`^millrace_${hop}_seconds_count(\\{.*\\})? [1-9]`, 'm'), hop);
    }
    for (const thread of ['main', 'rollup']) {
      assert.match(text, new RegExp(`^millrace_event_loop_delay_seconds_count\\{thread="${thread}"\\} [1-9]`, 'm'));
    }
  });
});

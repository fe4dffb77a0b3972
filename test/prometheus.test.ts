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
  it('name only metrics that exist, and each is tried', async () => {
    const known = new Set((await silentTelemetry().snapshot()).map(({ name }) => name));
    const named = [...rules.matchAll(/\bmillrace_\w+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, ''));
    assert.ok(named.length > 15);
    assert.deepEqual(
      named.filter((name) => !known.has(name)),
      [],
    );
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
    gateway = await startGateway({ folder: data, yaml: `rollup: { grace: 0s, disorder: 0s, tick: 200ms }\n${stream}` });
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

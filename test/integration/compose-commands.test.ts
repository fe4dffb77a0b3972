/**
 * The start commands of compose.yaml, run on real servers without Docker: gateway, rollup and simulator with the shipped
 * configuration, their health checks, and then every panel of the Grafana dashboards asked of the InfluxDB that they filled.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, cpSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { dashboards } from '../../compose/grafana/generate.ts';
import { freePort } from '../../src/torture/program.ts';
import { exportedMetrics, expressionsAsked, filled, panelsOf } from '../support/grafana.ts';
import { type InfluxServer, needInflux, needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const compose = parse(readFileSync(join(root, 'compose/compose.yaml'), 'utf8'), { merge: true }) as {
  services: Record<string, { command: string[]; entrypoint?: string[]; healthcheck?: { test: string[] } }>;
};
const BUCKET = `compose${process.pid}`;
const CHOSEN = { stream: 'environment', metric: 'temperature', site: '.*', device: '.*', window: '.*' };

describe('The services of compose.yaml', function () {
  this.timeout(180_000);
  const started: ChildProcess[] = [];
  let folder: string;
  let influx: InfluxServer;
  let mqttPort: number;

  // Of each try its own: a gateway that is left from a former one holds the lock of its data folder.
  beforeEach(function () {
    const kafka = needKafka(this);
    influx = needInflux(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-compose-'));
    cpSync(join(root, 'compose/demo'), join(folder, 'demo'), { recursive: true });
    Object.assign(environment, { KAFKA: kafka[0], INFLUX_URL: influx.url, INFLUX_ORG: influx.org });
    Object.assign(environment, { INFLUX_BUCKET: BUCKET, INFLUX_TOKEN: influx.token, MILLRACE_HTTP_TOKEN: 'secret' });
  });

  afterEach(() => {
    for (const child of started.splice(0)) child.kill('SIGKILL');
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  const environment: Record<string, string | undefined> = { ...process.env };

  /** As the container would, but for ports and folders, which containers have for themselves. */
  async function service(name: 'gateway' | 'rollup'): Promise<{ httpPort: number; child: ChildProcess }> {
    const httpPort = await freePort();
    const file = join(folder, `${name}.yaml`);
    let text = readFileSync(join(root, 'compose/millrace.yaml'), 'utf8');
    for (const [from, to] of [
      ['port: 1883', `port: ${mqttPort}`],
      ['port: 8080', `port: ${httpPort}`],
      ['data: /data', `data: ${join(folder, name)}`],
      ['prefix: telemetry', `prefix: ${BUCKET}`],
    ] as const) {
      assert.ok(text.includes(from), from);
      text = text.replace(from, to);
    }
    writeFileSync(file, text);
    const command = compose.services[name]!.command.map((part) =>
      part === '/etc/millrace/millrace.yaml' ? file : part,
    );
    const log = join(folder, `${name}.log`);
    const output = openSync(log, 'a');
    const child = spawn(process.execPath, [join(root, 'dist/src/main.js'), ...command], {
      env: environment,
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    started.push(child);
    const [, ...check] = compose.services[name]!.healthcheck!.test;
    const healthy = () => {
      assert.equal(child.exitCode, null, `${name} ended: ${readFileSync(log, 'utf8')}`);
      const args = check.map((part) => part.replace('127.0.0.1:8080', `127.0.0.1:${httpPort}`));
      return spawnSync(args[0]!, args.slice(1)).status === 0;
    };
    await until(healthy, 60_000, `the health check of ${name} succeeds`).catch(async (failure: Error) => {
      const ready = await fetch(`http://127.0.0.1:${httpPort}/readyz`).then((answer) => answer.text(), String);
      throw new Error(`${failure.message}: ${ready}\n${readFileSync(log, 'utf8')}`);
    });
    return { httpPort, child };
  }

  it('become healthy, carry the simulator’s readings into InfluxDB, and fill every panel of the dashboards', async () => {
    mqttPort = await freePort();
    const gateway = await service('gateway');
    const rollup = await service('rollup');
    const { entrypoint, command } = compose.services.simulator!;
    const args = [...entrypoint!.slice(1), ...command].map((part) =>
      part === 'dist/devices-sim/main.js'
        ? join(root, part)
        : part.replace('mqtt://gateway:1883', `mqtt://127.0.0.1:${mqttPort}`),
    );
    // A few of them are late or lost, so that the panels for these have something to show.
    const simulator = spawn(process.execPath, [...args, '--duplicates', '0.05', '--gaps', '0.05'], { stdio: 'ignore' });
    started.push(simulator);
    await until(
      async () => (await ask(`SELECT count("mean") FROM "environment"`, '10s')) > 0,
      90_000,
      'closed windows',
    );
    await until(
      async () => (await ask(`SELECT count("mean") FROM "environment_live"`, 'live')) > 0,
      30_000,
      'running values',
    );
    let panels = 0;
    for (const board of Object.values(dashboards())) {
      for (const panel of panelsOf(board)) {
        for (const target of panel.targets ?? []) {
          if (!target.query) continue;
          panels++;
          const query = filled(target.query, CHOSEN);
          const rows = () => ask(query, panel.datasource?.uid === 'millrace-live' ? 'live' : '10s');
          // Nothing was late, so nothing is repaired: that panel's query must still be a valid one.
          if (panel.title === 'Repaired rows') await rows();
          // The first windows may lack nothing yet.
          else await until(async () => (await rows()) > 0, 60_000, `rows for ${panel.title}: ${query}`);
        }
      }
    }
    assert.ok(panels >= 15, `${panels} panels read InfluxDB`);
    for (const { httpPort } of [gateway, rollup]) {
      const exported = exportedMetrics(await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text());
      const asked = new Set(expressionsAsked().flatMap(({ metrics }) => metrics.map(({ name }) => name)));
      assert.deepEqual(
        [...asked].filter((name) => !exported.has(name)),
        [],
      );
    }
    for (const { child } of [gateway, rollup]) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      assert.equal(await ended, 0);
    }
  });

  /** Number of rows of the answer; an error of InfluxDB is one here too. */
  async function ask(query: string, window: string): Promise<number> {
    const url = new URL('/query', influx.url);
    url.search = new URLSearchParams({ db: `${BUCKET}_${window}`, q: query }).toString();
    const response = await fetch(url, { headers: { Authorization: `Token ${influx.token}` } });
    const answer = (await response.json()) as {
      results?: { error?: string; series?: { values: unknown[] }[] }[];
      error?: string;
    };
    const error = answer.error ?? answer.results?.[0]?.error;
    if (error !== undefined && !/not found/.test(error)) throw new Error(`${query}: ${error}`);
    return (answer.results?.[0]?.series ?? []).reduce((sum, series) => sum + series.values.length, 0);
  }
});

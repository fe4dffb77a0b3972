/** What the tests of the samples in compose/samples share: the files as they ship, on free ports and with windows that close soon. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sampleDashboards } from '../../compose/grafana/generate.ts';
import { freePort } from '../../src/torture/program.ts';
import { runMillrace } from './gateway-process.ts';
import { type Chosen, filled, panelsOf } from './grafana.ts';
import { removeBuckets } from './influx.ts';
import { type InfluxServer, needInflux, needKafka } from './servers.ts';
import { until } from './until.ts';

const MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const READY_MS = 60_000;

export interface Sample {
  /** To be removed by the test. */
  readonly folder: string;
  readonly config: string;
  /** The free port in the place of that one. */
  port(shipped: string): number;
}

/** `changes`: texts of its configuration, each of which must be there, and what takes their place. `more` stands behind it. */
async function prepareSample(
  name: string,
  ports: readonly string[],
  changes: readonly (readonly [from: string, to: string])[],
  more: string,
): Promise<Sample> {
  const folder = mkdtempSync(join(tmpdir(), `millrace-${name}-`));
  cpSync(fileURLToPath(new URL(`../../compose/samples/${name}/`, import.meta.url)), folder, { recursive: true });
  const config = join(folder, 'millrace.yaml');
  const free: Record<string, number> = {};
  let text = readFileSync(config, 'utf8');
  for (const port of ports) {
    free[port] = await freePort();
    text = text.replaceAll(new RegExp(`\\b${port}\\b`, 'g'), String(free[port]));
  }
  for (const [from, to] of [[`../../../demo-data/${name}`, join(folder, 'data')] as const, ...changes]) {
    assert.ok(text.includes(from), `the sample has ${from}`);
    text = text.replace(from, to);
  }
  writeFileSync(config, `${text}\n${more}`);
  return { folder, config, port: (shipped) => free[shipped]! };
}

/** The folders that a suite makes of samples, and the programs on them, which end with each test. Made in its `describe`. */
export class SampleRuns {
  readonly #children: ChildProcess[] = [];
  readonly #folders: string[] = [];

  constructor() {
    afterEach(() => {
      for (const child of this.#children.splice(0)) child.kill('SIGKILL');
    });
    after(() => {
      for (const folder of this.#folders) rmSync(folder, { recursive: true, force: true });
    });
  }

  async prepare(...sample: Parameters<typeof prepareSample>): Promise<Sample> {
    const prepared = await prepareSample(...sample);
    this.#folders.push(prepared.folder);
    return prepared;
  }

  /** A gateway; ready when it resolves. */
  async start(config: string, http: string): Promise<ChildProcess> {
    const child = this.spawn([MAIN, 'run', '--config', config]);
    await untilReady(http);
    return child;
  }

  spawn(args: readonly string[]): ChildProcess {
    const child = spawn(process.execPath, args, { stdio: 'ignore' });
    this.#children.push(child);
    return child;
  }

  /** The one command that starts the sample with simulated devices, for three seconds, which must balance. */
  async demo(name: string): Promise<{ readonly summary: Readonly<Record<string, number>>; readonly err: string }> {
    const folder = mkdtempSync(join(tmpdir(), `millrace-${name}-`));
    this.#folders.push(folder);
    const places = ['--port', '0', '--http-port', '0', '--data', join(folder, 'data')];
    const { code, out, err } = await runMillrace(['demo', '--sample', name, '--for', '3s', '--json', ...places]);
    assert.equal(code, 0, err);
    const { balanced, ...summary } = JSON.parse(out);
    assert.ok(balanced && summary.acknowledged > 0 && summary.stored > 0, out);
    return { summary, err };
  }
}

/** The test on real Kafka and InfluxDB: with their settings, then the dashboard; its buckets are removed. */
export async function onServers(
  context: Mocha.Context,
  sample: string,
  chosen: Chosen,
  test: (settings: string) => Promise<void>,
): Promise<void> {
  const brokers = needKafka(context);
  const influx = needInflux(context);
  const name = `${sample}-${randomUUID().slice(0, 8)}`;
  try {
    await test(serverSettings(brokers, influx, name));
    await dashboardIsFilled(sample, chosen, influx, name);
  } finally {
    await removeBuckets(influx, name);
  }
}

/** Rows of closed windows, as the HTTP API gives them: `stream=...&window=...`. */
export async function rowsAt<Row>(http: string, query: string): Promise<Row[]> {
  const text = await (await fetch(`${http}/api/v1/rows?${query}`)).text();
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Row);
}

/** The settings of real servers; `name` is the prefix, the group and the bucket. */
function serverSettings(brokers: readonly string[], influx: InfluxServer, name: string): string {
  return (
    `kafka: { brokers: [${brokers.map((broker) => `"${broker}"`)}], prefix: ${name}, group: ${name}, partitions: 3 }\n` +
    `influx: { url: "${influx.url}", org: ${influx.org}, bucket: ${name}, token: "${influx.token}" }\n`
  );
}

async function untilReady(http: string): Promise<void> {
  const ready = () =>
    fetch(`${http}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until(ready, READY_MS, 'the gateway is ready');
}

/** Every panel of closed windows on the sample's dashboard gets rows; whether an open one was written is a matter of seconds. */
async function dashboardIsFilled(sample: string, chosen: Chosen, influx: InfluxServer, bucket: string) {
  for (const { title, targets, datasource } of panelsOf(sampleDashboards()[`samples/${sample}/dashboard.json`]!)) {
    if (datasource?.uid === 'millrace-live') continue;
    const query = filled(targets![0]!.query!, chosen);
    const url = `${influx.url}/query?db=${bucket}_10s&q=${encodeURIComponent(query)}`;
    const answer = await fetch(url, { headers: { authorization: `Token ${influx.token}` } });
    const { results } = (await answer.json()) as { results: readonly { series?: readonly object[] }[] };
    assert.ok(results[0]?.series?.length, `${title}: ${query}: ${JSON.stringify(results)}`);
  }
}

/** What the tests of the samples in compose/samples share: the files as they ship, on free ports and with windows that close soon. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sampleDashboards } from '../../compose/grafana/generate.ts';
import { freePort } from '../../src/torture/program.ts';
import { type Chosen, filled, panelsOf } from './grafana.ts';
import type { InfluxServer } from './servers.ts';
import { until } from './until.ts';

const READY_MS = 60_000;

export interface Sample {
  /** To be removed by the test. */
  readonly folder: string;
  readonly config: string;
  /** The free port in the place of that one. */
  port(shipped: string): number;
}

/** `changes`: texts of its configuration, each of which must be there, and what takes their place. `more` stands behind it. */
export async function prepareSample(
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

/** The settings of real servers; `name` is the prefix, the group and the bucket. */
export function serverSettings(brokers: readonly string[], influx: InfluxServer, name: string): string {
  return (
    `kafka: { brokers: [${brokers.map((broker) => `"${broker}"`)}], prefix: ${name}, group: ${name}, partitions: 3 }\n` +
    `influx: { url: "${influx.url}", org: ${influx.org}, bucket: ${name}, token: "${influx.token}" }\n`
  );
}

export async function untilReady(http: string): Promise<void> {
  const ready = () =>
    fetch(`${http}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until(ready, READY_MS, 'the gateway is ready');
}

/** Every panel of closed windows on the sample's dashboard gets rows; whether an open one was written is a matter of seconds. */
export async function dashboardIsFilled(sample: string, chosen: Chosen, influx: InfluxServer, bucket: string) {
  for (const { title, targets, datasource } of panelsOf(sampleDashboards()[`samples/${sample}/dashboard.json`]!)) {
    if (datasource?.uid === 'millrace-live') continue;
    const query = filled(targets![0]!.query!, chosen);
    const url = `${influx.url}/query?db=${bucket}_10s&q=${encodeURIComponent(query)}`;
    const answer = await fetch(url, { headers: { authorization: `Token ${influx.token}` } });
    const { results } = (await answer.json()) as { results: readonly { series?: readonly object[] }[] };
    assert.ok(results[0]?.series?.length, `${title}: ${query}: ${JSON.stringify(results)}`);
  }
}

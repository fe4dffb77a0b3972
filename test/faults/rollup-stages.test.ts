/**
 * Two stages on a real Kafka and InfluxDB beside one stage, on the same readings into buckets of its own: processes of the
 * two are killed in between, and every row must be equal, bit for bit, agree with the oracle, and pass `verify`. Then the
 * setting is changed back on the running system.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { devices, type FedGateway, Feed, NO_FAULTS } from '../support/feed.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { removeBuckets } from '../support/influx.ts';
import { recordsOf } from '../support/kafka-topic.ts';
import { agree, allClosed, byPartition, eventually, rowsOf, yamlOf } from '../support/rollup-run.ts';
import { ENVIRONMENT, rulesFor } from '../support/run-rules.ts';
import { needInflux, needKafka } from '../support/servers.ts';

const MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const START_MS = Date.UTC(2026, 4, 1, 9, 20);
const PARTITIONS = 4;
const RULES = rulesFor([ENVIRONMENT]);

describe('two stages on real servers', function () {
  this.timeout(300_000);
  const name = `stages${process.pid}`;
  let folder: string;
  let brokers: string[];
  let influx: ReturnType<typeof needInflux>;
  let feed: Feed;
  let gateway: FedGateway;
  let started = 0;
  const running = new Set<GatewayProcess>();

  before(async function () {
    brokers = needKafka(this);
    influx = needInflux(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-stages-'));
    const fleet = devices(9, {
      ...{ seed: 5, jitter: 0.3, startMs: START_MS, clockOffsetMs: 2_000, flapping: 0 },
      ...{ profile: 'environment', topic: 'sensors/{site}/{device}/environment', intervalMs: 2_500 },
      rates: { ...NO_FAULTS, duplicate: 0.1, gap: 0.05 },
    });
    feed = new Feed({ folder, startMs: START_MS, sources: [fleet] });
    gateway = await feed.add({ folder: join(folder, 'gateway'), yaml: yaml('one', 1), role: 'gateway' });
  });

  after(async () => {
    await feed?.end();
    await Promise.all([...running].map((rollup) => rollup.end('SIGKILL')));
    if (influx) await removeBuckets(influx, `${name}one`);
    if (influx) await removeBuckets(influx, `${name}two`);
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  function yaml(group: 'one' | 'two', stages: 1 | 2): string {
    const more = `kafka: { brokers: [${brokers}], prefix: ${name}, group: ${name}-${group}, partitions: ${PARTITIONS}, linger: 10ms, session_timeout: 6s }
influx: { url: "${influx.url}", org: ${influx.org}, token: "${influx.token}", bucket: ${name}${group} }`;
    return yamlOf(RULES, more).replace('rollup: {', `rollup: { stages: ${stages},`);
  }

  async function start(group: 'one' | 'two', stages: 1 | 2): Promise<GatewayProcess> {
    const options = { folder: join(folder, `rollup-${started++}`), yaml: yaml(group, stages), role: 'rollup' } as const;
    const rollup = await startGateway(options);
    running.add(rollup);
    return rollup;
  }

  async function end(rollup: GatewayProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    running.delete(rollup);
    assert.equal(await rollup.end(signal), signal === 'SIGKILL' ? signal : 0);
  }

  async function steps(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await feed.step();
  }

  /** Both stages, all partitions. */
  async function durable(rollup: GatewayProcess, toMs: number, gauges: readonly string[]): Promise<void> {
    for (const gauge of gauges) {
      await eventually(`${gauge} is at ${new Date(toMs).toISOString()}`, 90_000, async () => {
        const frontiers = [...(await byPartition(rollup, gauge)).values()];
        return frontiers.length === PARTITIONS && frontiers.every((seconds) => seconds * 1_000 >= toMs);
      });
    }
  }

  async function verified(rollupYaml: string): Promise<{ differences: number; rowsCompared: number }> {
    const file = join(folder, `verify-${started++}.yaml`);
    writeFileSync(file, rollupYaml);
    const args = [MAIN, 'verify', '--config', file, '--to', new Date(feed.nowMs + 7_200_000).toISOString(), '--json'];
    const { stdout } = await promisify(execFile)(process.execPath, args).catch((error) => error);
    return JSON.parse(stdout);
  }

  const key = (row: unknown) => JSON.stringify(row);

  it('give the rows of one, bit for bit, when their processes are killed; verify finds no difference', async () => {
    const one = await start('one', 1);
    const first = await start('two', 2);
    const second = await start('two', 2);
    await steps(25);
    await end(first, 'SIGKILL');
    await steps(25);
    const third = await start('two', 2);
    await steps(5);
    await end(second, 'SIGKILL');
    await steps(20);
    await durable(third, feed.nowMs - 120_000, ['millrace_panes_frontier_seconds']);
    await end(third, 'SIGKILL');
    const last = await start('two', 2);
    const { endMs, clockMs } = allClosed(RULES, feed.nowMs + RULES.skewMs);
    await feed.moveClock(clockMs + 1_000);
    await durable(last, endMs, ['millrace_frontier_seconds', 'millrace_panes_frontier_seconds']);
    await durable(one, endMs, ['millrace_frontier_seconds']);
    const expected = (await rowsOf(one, RULES)).map(key).sort();
    const rows = (await rowsOf(last, RULES)).map(key).sort();
    assert.ok(rows.some((row) => row.includes('"window":"1h"')) && rows.length > 2_000, `${rows.length} rows`);
    assert.deepEqual(rows, expected);
    const { process: served, deliveries } = gateway;
    const where = { rules: RULES, gateway: served, rollups: [one], partitions: PARTITIONS };
    await agree('one stage', { ...where, toMs: endMs, deliveries: () => deliveries });
    const panes = (await recordsOf(brokers, `${name}.panes`)).filter((value) => value.includes('"cell":'));
    assert.ok(panes.length > 9 * 12, 'the panes went through Kafka');
    const report = await verified(yaml('two', 2));
    assert.equal(report.differences, 0);
    assert.ok(report.rowsCompared >= rows.length);
    await end(last, 'SIGTERM');
    await end(one, 'SIGTERM');
  });

  it('can be one again, and two again, without a wrong row', async () => {
    for (const stages of [1, 2] as const) {
      const rollup = await start('two', stages);
      await steps(12);
      await durable(rollup, feed.nowMs - 60_000, ['millrace_frontier_seconds']);
      await end(rollup, 'SIGTERM');
    }
    const one = await start('one', 1);
    const two = await start('two', 2);
    const { endMs, clockMs } = allClosed(RULES, feed.nowMs + RULES.skewMs);
    await feed.moveClock(clockMs + 1_000);
    await durable(one, endMs, ['millrace_frontier_seconds']);
    await durable(two, endMs, ['millrace_frontier_seconds', 'millrace_panes_frontier_seconds']);
    const expected = new Set((await rowsOf(one, RULES)).map(key));
    const rows = (await rowsOf(two, RULES)).map(key);
    assert.deepEqual(
      rows.filter((row) => !expected.has(row)),
      [],
    );
    assert.ok(rows.length < expected.size, 'windows that were open at a change are left out');
  });
});

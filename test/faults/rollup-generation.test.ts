/**
 * Moving to a new generation of topics, with another number of partitions, as the README tells it, on a real Kafka and
 * InfluxDB; beside it an installation that never moves, on the same messages. Rows must be equal, and only those of windows
 * that were open at the change may be missing.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { devices, type FedGateway, Feed, NO_FAULTS } from '../support/feed.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { removeBuckets } from '../support/influx.ts';
import { allClosed, byPartition, eventually, rowsOf, yamlOf } from '../support/rollup-run.ts';
import { ENVIRONMENT, rulesFor } from '../support/run-rules.ts';
import { needInflux, needKafka } from '../support/servers.ts';

const START_MS = Date.UTC(2026, 4, 1, 9, 20);
const RULES = rulesFor([{ ...ENVIRONMENT, windows: ['10s', '1m', '2m_1m'] }], { skewMs: 30_000 });

interface Kept {
  readonly window: string;
  readonly startMs: number;
  readonly endMs: number;
}

describe('a new generation of topics', function () {
  this.timeout(240_000);
  const name = `generation${process.pid}`;
  let folder: string;
  let brokers: string[];
  let influx: ReturnType<typeof needInflux>;
  let feed: Feed;
  let hasMoved = false;
  const gateways: FedGateway[] = [];
  const rollups: GatewayProcess[] = [];

  before(function () {
    brokers = needKafka(this);
    influx = needInflux(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-generation-'));
    const fleet = devices(7, {
      ...{ seed: 3, jitter: 0.3, startMs: START_MS, clockOffsetMs: 2_000, flapping: 0 },
      ...{ profile: 'environment', topic: 'sensors/{site}/{device}/environment', intervalMs: 2_500 },
      rates: { ...NO_FAULTS, duplicate: 0.1 },
    });
    feed = new Feed({ folder, startMs: START_MS, sources: [fleet] });
  });

  after(async () => {
    await feed?.end();
    await Promise.all(rollups.map((rollup) => rollup.end('SIGKILL')));
    for (const bucket of ['stays', 'moves']) if (influx) await removeBuckets(influx, `${name}${bucket}`);
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  function yaml(bucket: 'stays' | 'moves', prefix: string, partitions: number, more = ''): string {
    const kafka = `kafka: { brokers: [${brokers}], prefix: ${name}-${prefix}, group: ${name}-${prefix}, partitions: ${partitions}, linger: 10ms, session_timeout: 6s${more} }`;
    const { url, org, token } = influx;
    return yamlOf(
      RULES,
      `${kafka}\ninflux: { url: "${url}", org: ${org}, token: "${token}", bucket: ${name}${bucket} }`,
    );
  }

  async function start(folderName: string, text: string, wanted = () => true): Promise<GatewayProcess> {
    gateways.push(await feed.add({ folder: join(folder, folderName), yaml: text, role: 'gateway' }, wanted));
    const rollup = await startGateway({ folder: join(folder, `${folderName}-rollup`), yaml: text, role: 'rollup' });
    rollups.push(rollup);
    return rollup;
  }

  async function durable(rollup: GatewayProcess, partitions: number, toMs: number): Promise<void> {
    await eventually(`durable to ${new Date(toMs).toISOString()}`, 90_000, async () => {
      const frontiers = [...(await byPartition(rollup, 'millrace_frontier_seconds')).values()];
      return frontiers.length === partitions && frontiers.every((seconds) => seconds * 1_000 >= toMs);
    });
  }

  it('leaves out the windows that were open at the change, and no others; no row differs', async () => {
    const stays = await start('stays', yaml('stays', 'stays', 3));
    const before = await start('before', yaml('moves', 'first', 2), () => !hasMoved);
    for (let i = 0; i < 20; i++) await feed.step();
    hasMoved = true;
    const changeMs = feed.nowMs;
    await durable(before, 2, changeMs - RULES.graceMs - RULES.disorderMs);
    await gateways[1]!.end();
    assert.equal(await before.end('SIGTERM'), 0);
    const after = await start('after', yaml('moves', 'second', 5, ', continues: true'), () => hasMoved);
    for (let i = 0; i < 25; i++) await feed.step();
    const { endMs, clockMs } = allClosed(RULES, feed.nowMs + RULES.skewMs);
    await feed.moveClock(clockMs + 1_000);
    await durable(stays, 3, endMs);
    await durable(after, 5, endMs);
    const expected = (await rowsOf(stays, RULES)) as Kept[];
    const rows = new Set(((await rowsOf(after, RULES)) as Kept[]).map((row) => JSON.stringify(row)));
    const known = new Set(expected.map((row) => JSON.stringify(row)));
    assert.deepEqual(
      [...rows].filter((row) => !known.has(row)),
      [],
      'no row differs',
    );
    const lagMs = RULES.graceMs + RULES.disorderMs + 1_000;
    const missing = expected.filter((row) => !rows.has(JSON.stringify(row)));
    assert.ok(missing.length > 0 && rows.size > expected.length / 2, `${missing.length} of ${expected.length}`);
    for (const { window, startMs, endMs: end } of missing) {
      const wasOpen = end > changeMs - lagMs && startMs <= changeMs + RULES.skewMs + lagMs + 10_000;
      assert.ok(wasOpen, `${window} from ${new Date(startMs).toISOString()} is missing`);
    }
  });
});

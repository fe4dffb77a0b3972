/**
 * The gateway and the rollup as processes of their own, on a real Kafka and a real InfluxDB, with simulated devices in
 * real time: a second rollup process takes over some of the partitions and gives them back when it stops, and every row
 * of every window of every device is what the devices' ledger says. The clocks are real until the end, when the gateway
 * starts again with one that is ahead, so that windows of an hour close too.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readLedger } from '../../src/torture/deliveries.ts';
import { STEP_CLOCK } from '../support/feed.ts';
import { type GatewayProcess, startGateway, startSimulator } from '../support/gateway-process.ts';
import { removeBuckets } from '../support/influx.ts';
import { agree, allClosed, eventually, ownedBy, rowsOf, yamlOf } from '../support/rollup-run.ts';
import { ENVIRONMENT, rulesFor } from '../support/run-rules.ts';
import { type InfluxServer, needInflux, needKafka } from '../support/servers.ts';

const PARTITIONS = 8;
const RULES = rulesFor([ENVIRONMENT], { graceMs: 2_000, disorderMs: 1_000 });

describe('gateway and rollup in processes of their own', function () {
  this.timeout(180_000);
  let folder: string;
  let influx: InfluxServer;
  let bucket: string;
  let yaml: string;
  let gateway: GatewayProcess;
  let first: GatewayProcess;
  let second: GatewayProcess | null = null;
  let simulators: ReturnType<typeof startSimulator>[] = [];
  const ledgers: string[] = [];

  before(async function () {
    const brokers = needKafka(this);
    influx = needInflux(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-takeover-'));
    bucket = `takeover-${randomUUID().slice(0, 8)}`;
    const { url, org, token } = influx;
    yaml = yamlOf(
      RULES,
      `kafka: { brokers: [${brokers}], prefix: ${bucket}, group: ${bucket}, partitions: ${PARTITIONS}, session_timeout: 6s }
influx: { url: "${url}", org: ${org}, token: "${token}", bucket: ${bucket} }`,
    );
    gateway = await startGateway({ folder: join(folder, 'gateway'), yaml, role: 'gateway' });
    first = await startGateway({ folder: join(folder, 'first'), yaml, role: 'rollup' });
    const simulate = (name: string, devices: number, ...faults: string[]) => {
      const ledger = join(folder, `${name}.ndjson`);
      const topic = `sensors/${name}/{device}/environment`;
      const url = ['--url', `mqtt://127.0.0.1:${gateway.mqttPort}`, '--ledger', ledger, '--client', name, '--json'];
      const run = ['--duration', '1h', '--rate', '2/s', '--devices-per-client', '4', '--topic', topic];
      simulators.push(startSimulator('main', [...url, ...run, '--devices', String(devices), ...faults]));
      ledgers.push(ledger);
    };
    simulate('roof', 20, '--gaps', '0.03', '--duplicates', '0.05', '--malformed', '0.02', '--future', '0.01');
    simulate('cellar', 4, '--late', '0.2', '--late-by', '20s');
  });

  after(async () => {
    for (const { child } of simulators) child.kill('SIGKILL');
    await Promise.all([gateway, first, second].map((process) => process?.end('SIGKILL')));
    if (bucket) await removeBuckets(influx, bucket);
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  const rollups = () => (second ? [first, second] : [first]);

  /** All windows that are open now, and those of the next ten seconds, are right when they have closed. */
  function agreed(context: string, toMs = Date.now() + 10_000) {
    const run = { rules: RULES, gateway, rollups: rollups(), partitions: PARTITIONS };
    return agree(context, { ...run, toMs, deliveries: () => ledgers.flatMap(readLedger) });
  }

  it('gives one process all partitions, and its rows are right', async () => {
    await eventually('one owns all', 30_000, async () => (await ownedBy(first)).length === PARTITIONS);
    const { exact } = await agreed('with one process');
    assert.ok(exact > 0);
  });

  it('shares the partitions with a second process, about half and half, and every row stays right', async () => {
    second = await startGateway({ folder: join(folder, 'second'), yaml, role: 'rollup' });
    await eventually('each owns some, and together they own each once', 60_000, async () => {
      const [some, others] = await Promise.all(rollups().map(ownedBy));
      const all = [...some!, ...others!].sort((a, b) => a - b);
      const half = some!.length >= PARTITIONS / 2 - 1 && others!.length >= PARTITIONS / 2 - 1;
      return half && all.join() === Array.from({ length: PARTITIONS }, (_, partition) => partition).join();
    });
    await agreed('with two processes');
    const written = async () => (await second!.metric('millrace_rows_written_total')) > 0;
    await eventually('the second one has written rows', 30_000, written);
  });

  it('gives them back when the second process stops', async () => {
    assert.equal(await second!.end('SIGTERM'), 0);
    second = null;
    await eventually('one owns all again', 30_000, async () => (await ownedBy(first)).length === PARTITIONS);
    await agreed('after the second has left');
  });

  it('has every row of all window sizes right in the end', async () => {
    for (const { child } of simulators) child.kill('SIGTERM');
    for (const { code, summary } of await Promise.all(simulators.map(({ ended }) => ended))) {
      assert.equal(code, 0, JSON.stringify(summary));
    }
    simulators = [];
    assert.equal(await gateway.end('SIGTERM'), 0);
    const { endMs, clockMs } = allClosed(RULES, Date.now());
    writeFileSync(join(folder, 'clock'), String(clockMs));
    const env = { MILLRACE_TEST_CLOCK: join(folder, 'clock') };
    gateway = await startGateway({ folder: join(folder, 'gateway'), yaml, role: 'gateway', preload: STEP_CLOCK, env });
    const verdict = await agreed('at the end', endMs);
    for (const window of ENVIRONMENT.windows) assert.ok(verdict.byWindow[window]! > 0, `rows of ${window}`);
    assert.ok(verdict.exact > verdict.open, `${verdict.open} rows could not be judged, ${verdict.exact} could`);
    assert.ok((await first.metric('millrace_late_total')) > 0, 'some readings were late');
    const { exact, counted, open, leftOut } = verdict;
    console.log(
      `      ${exact} rows of ${counted} readings, ${open} within bounds; ${leftOut} readings late or refused`,
    );
  });

  it('answers with the numbers that InfluxDB has, bit for bit', async () => {
    const rows = (await rowsOf(gateway, RULES)) as Record<string, unknown>[];
    const expected = new Map(rows.map((row) => [placeOf(row.window, row.startMs, row.metric, row.tags), row]));
    let compared = 0;
    for (const window of ENVIRONMENT.windows) {
      for (const { tags, columns, values } of await query(influx, `${bucket}_${window}`)) {
        for (const point of values) {
          const fields = Object.fromEntries(columns.map((name, index) => [name, point[index]]));
          const { metric, window: label, ...rest } = tags;
          const row = expected.get(placeOf(label, fields.time, metric, rest));
          assert.ok(row, `${JSON.stringify(tags)} ${fields.time} is in InfluxDB, but not in the answer`);
          for (const name of FIELDS)
            assert.ok(Object.is(fields[name], row[name]), `${name}: ${fields[name]}, ${row[name]}`);
          compared++;
        }
      }
    }
    assert.equal(compared, rows.length);
  });
});

const FIELDS = ['count', 'sum', 'mean', 'min', 'max', 'stddev', 'first', 'last', 'p50', 'p95', 'p99', 'duplicates'];

function placeOf(...parts: readonly unknown[]): string {
  return JSON.stringify(parts);
}

interface Series {
  readonly tags: Readonly<Record<string, string>>;
  readonly columns: readonly string[];
  readonly values: readonly unknown[][];
}

/** Every point of a bucket, as InfluxQL gives it. */
async function query({ url, token }: InfluxServer, database: string): Promise<Series[]> {
  const statement = 'SELECT * FROM "environment" GROUP BY *';
  const headers = { authorization: `Token ${token}` };
  const parameters = new URLSearchParams({ db: database, epoch: 'ms', q: statement });
  const answer = await fetch(`${url}/query?${parameters}`, { headers });
  const { results } = (await answer.json()) as { results: [{ series?: Series[]; error?: string }] };
  assert.equal(results[0].error, undefined);
  return results[0].series ?? [];
}

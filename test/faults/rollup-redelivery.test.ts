/**
 * Messages that come twice, connections that break, a gateway that is killed: every reading counts once. The default
 * gateway, all in one process, on the spool and the embedded store.
 *
 * Beside it, with the same devices and the same kills, runs one with a planted bug (it commits the position that was read
 * and not that of the oldest open window): the oracle must find it out.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Delivery, readLedger } from '../support/deliveries.ts';
import { freePort, type GatewayProcess, startSimulator } from '../support/gateway-process.ts';
import { judge, type Verdict } from '../support/ledger-oracle.ts';
import { Random } from '../support/random.ts';
import { agree, closingAll, judged, type RunRules, rowsOf, startClocked, yamlOf } from '../support/rollup-run.ts';

const MINUTES = Number(process.env.MILLRACE_FAULT_MINUTES ?? 0);
const SEED = Number(process.env.MILLRACE_FAULT_SEED ?? Date.now() % 1_000_000);
/** Kills of the gateway; its devices send for about 4 s before each. */
const KILLS = 3 + Math.round(MINUTES * 8);
const PLANTED = fileURLToPath(new URL('planted-rollup.mjs', import.meta.url));

const RULES: RunRules = {
  // A gateway that was killed is back within seconds, also on a busy machine.
  graceMs: 20_000,
  disorderMs: 500,
  skewMs: 60_000,
  streams: [
    {
      name: 'environment',
      topic: 'sensors/{site}/{device}/environment',
      time: 'ts',
      sequence: 'seq',
      metrics: ['temperature', 'humidity', 'pressure'],
      windows: ['2s', '10s', '1m', '5m_1m', '15m', '1h'],
    },
    {
      name: 'clicks',
      topic: 'web/{app}/clicks',
      time: 'timestamp',
      identity: ['userid', 'page', 'timestamp'],
      tags: ['page'],
      metrics: [],
      windows: ['2s', '1m', '1h'],
    },
  ],
};

interface Run {
  gateway: Awaited<ReturnType<typeof startClocked>>;
  readonly start: () => ReturnType<typeof startClocked>;
  readonly deliveries: () => Delivery[];
}

describe('readings that are delivered again and again', function () {
  this.timeout(120_000 + KILLS * 40_000);
  const context = `MILLRACE_FAULT_SEED=${SEED}`;
  let folder: string;
  let simulators: ReturnType<typeof startSimulator>[] = [];
  let runs: Record<'right' | 'planted', Run>;
  const codes: unknown[] = [];
  let verdict: Verdict;

  async function startRun(name: 'right' | 'planted'): Promise<Run> {
    const [mqttPort, httpPort] = [await freePort(), await freePort()];
    const planted = name === 'planted' ? { preload: PLANTED, env: { MILLRACE_PLANTED: 'read-position' } } : undefined;
    const start = () =>
      startClocked({ folder: join(folder, name), yaml: yamlOf(RULES), mqttPort, httpPort, ...planted });
    const gateway = await start();
    const ledgers = ['environment', 'clicks'].map((profile) => join(folder, `${name}-${profile}.ndjson`));
    const common = ['--url', `mqtt://127.0.0.1:${mqttPort}`, '--seed', String(SEED), '--duration', '1h', '--json'];
    const faults = ['--duplicates', '0.3', '--flapping', '0.01'];
    simulators.push(
      startSimulator('main', [
        ...[...common, ...faults, '--profile', 'environment', '--ledger', ledgers[0]!, '--client', 'e'],
        ...['--devices', '20', '--rate', '4/s', '--devices-per-client', '4', '--gaps', '0.05', '--malformed', '0.02'],
      ]),
      startSimulator('main', [
        ...[...common, ...faults, '--profile', 'clicks', '--topic', 'web/shop/clicks', '--ledger', ledgers[1]!],
        ...['--client', 'c', '--devices', '60', '--rate', '5/s', '--devices-per-client', '20'],
      ]),
    );
    return { gateway, start, deliveries: () => ledgers.flatMap(readLedger) };
  }

  function options({ gateway, deliveries }: Run) {
    return { rules: RULES, gateway, rollups: [gateway], partitions: 1, deliveries };
  }

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-redelivery-'));
    const [right, planted] = await Promise.all([startRun('right'), startRun('planted')]);
    runs = { right, planted };
    const random = new Random(SEED);
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(3_000 + random.integer(0, 2_000));
      for (const run of Object.values(runs)) {
        codes.push(await run.gateway.end('SIGKILL'));
        run.gateway = await run.start();
      }
    }
    await sleep(2_000);
    for (const { child } of simulators) child.kill('SIGTERM');
    const ended = await Promise.all(simulators.map(({ ended }) => ended));
    simulators = [];
    for (const { code, summary } of ended)
      assert.equal(code, 0, `all was acknowledged in the end: ${JSON.stringify(summary)}`);
    for (const { gateway } of Object.values(runs)) gateway.ahead(closingAll(RULES));
  });

  after(async () => {
    for (const { child } of simulators) child.kill('SIGKILL');
    await Promise.all(Object.values(runs ?? {}).map(({ gateway }) => gateway.end('SIGTERM')));
    rmSync(folder, { recursive: true, force: true });
  });

  it(`count once over ${KILLS} kills, in every window of every series (seed ${SEED})`, async () => {
    const toMs = Date.now() + closingAll(RULES) - RULES.graceMs - RULES.disorderMs - 1_000;
    verdict = await agree(context, { ...options(runs.right), toMs });
    for (const stream of RULES.streams) {
      for (const window of stream.windows) assert.ok(verdict.byWindow[window]! > 0, `${context}: rows of ${window}`);
    }
    assert.ok(verdict.exact > 1_000, `${context}: ${verdict.exact} rows were compared`);
    assert.ok(
      verdict.open * 10 < verdict.exact,
      `${context}: ${verdict.open} of ${verdict.exact} rows are not certain`,
    );
  });

  it('really were delivered again: by devices, and after broken connections and kills', async () => {
    assert.deepEqual(new Set(codes), new Set(['SIGKILL']));
    assert.equal(codes.length, 2 * KILLS);
    const deliveries = runs.right.deliveries();
    const unanswered = deliveries.filter((delivery) => delivery.acknowledgedMs === null);
    assert.ok(unanswered.length > 0, 'some were sent again for want of an answer');
    const again = deliveries.length - verdict.counted;
    assert.ok(again > 0.25 * verdict.counted, `${again} deliveries of ${verdict.counted} readings were repetitions`);
    assert.ok((await runs.right.gateway.metric('millrace_duplicates_total')) > 0);
  });

  it('of different users in one millisecond are different events, because the stream names what identifies them', async () => {
    const rows = await rowsOf(runs.right.gateway, RULES);
    const blind = RULES.streams.map(({ identity: _, ...stream }) => stream);
    const { findings } = judge(
      { ...RULES, streams: blind },
      { rows, deliveries: runs.right.deliveries(), closedToMs: 0 },
    );
    assert.ok(findings.length > 0, 'no two users met in one millisecond: the test shows nothing');
    assert.ok(findings.every((finding) => finding.startsWith('clicks ') && finding.includes('count is')));
  });

  it('are found out to be counted wrongly when the rollup commits what it has read', async () => {
    const toMs = Date.now() + closingAll(RULES) - RULES.graceMs - RULES.disorderMs - 1_000;
    const { findings } = await judged({ ...options(runs.planted), toMs }, context);
    assert.ok(findings.length > 0, `${context}: the planted bug went unnoticed`);
  });
});

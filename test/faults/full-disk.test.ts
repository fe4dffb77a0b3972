/**
 * A loaded gateway whose disk is really full: its data lies on a small tmpfs of its own, where mounting one is possible.
 * It stops acknowledging and says so, stays, and goes on by itself when something else on the disk is deleted. The ledger
 * of what was acknowledged is kept by the load generator, a process of its own, on another disk.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { leaveOut } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { acknowledged, startLoad } from './kafka-gateway.ts';
import { STREAM, storedIn } from './kill.ts';
import { type Comparison, Ledger } from './ledger.ts';

const MIB = 2 ** 20;
const DISK_BYTES = 24 * MIB;
const BALLAST_BYTES = 19 * MIB;
const RATE = 5_000;
/** So long nothing is acknowledged while the disk is full: some probes of the spool, of which a small one may find room at first. */
const STEADY_MS = 3_000;
const YAML = `spool: { segment: 1MiB }\n${STREAM}`;
const EARLY_ACK = fileURLToPath(new URL('early-ack.mjs', import.meta.url));

/** Resolves when the clients have gone on sending for STEADY_MS and none got an acknowledgement. */
async function steady(gateway: GatewayProcess): Promise<number> {
  let [last, sinceMs, offered] = [-1, 0, 0];
  const turnedAway = () => gateway.metric('millrace_turned_away_total');
  await until(
    async () => {
      const now = await acknowledged(gateway);
      if (now !== last) [last, sinceMs, offered] = [now, performance.now(), await turnedAway()];
      return performance.now() - sinceMs > STEADY_MS && (await turnedAway()) > offered;
    },
    30_000,
    'nothing is acknowledged, though the clients try',
  );
  return last;
}

describe('A gateway on a full disk', function () {
  this.timeout(120_000);
  let folder = '';
  let gateway: GatewayProcess | undefined;

  const disk = () => join(folder, 'data');

  beforeEach(function () {
    folder = mkdtempSync(join(tmpdir(), 'millrace-full-disk-'));
    mkdirSync(disk());
    const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', disk()]);
    if (status !== 0) leaveOut(this, 'tmpfs');
  });

  afterEach(async () => {
    await gateway?.end('SIGKILL');
    gateway = undefined;
    spawnSync('umount', [disk()]);
    rmSync(folder, { recursive: true, force: true });
  });

  /** Loads the gateway until the disk is full, calls `whileFull`, makes room, and says what became of the readings. */
  async function fill(
    preload: string[],
    whileFull: (gateway: GatewayProcess) => Promise<void>,
    afterwards: (gateway: GatewayProcess) => Promise<void>,
  ): Promise<Comparison> {
    const ledger = new Ledger();
    const ballast = join(disk(), 'ballast');
    writeFileSync(ballast, Buffer.alloc(BALLAST_BYTES));
    const running = await startGateway({ folder, yaml: YAML, preload });
    gateway = running;
    const load = await startLoad(running, { folder, name: 'full', rate: RATE, reconnect: true });
    await until(async () => (await running.metric('millrace_spool_failures_total')) > 0, 60_000, 'the disk is full');
    const { bavail, bsize } = statfsSync(disk());
    assert.ok(bavail * bsize < 2 * MIB, `it is the disk that is full: ${bavail * bsize} bytes are free`);
    await whileFull(running);
    unlinkSync(ballast);
    await afterwards(running);
    await load.end(ledger);
    // what a planted bug acknowledged and could not write is in no book: the twin is caught by its loss
    if (preload.length === 0) assert.equal(await running.metric('millrace_ledger_imbalance_readings'), 0, 'balance');
    assert.equal(await running.end('SIGTERM'), 0);
    return (await storedIn(folder)).compare(ledger);
  }

  it('acknowledges nothing, stays, says so in readiness, log and metric, and goes on by itself; nothing acknowledged is lost', async () => {
    let before = 0;
    const report = await fill(
      [],
      async (full) => {
        before = await steady(full);
        assert.equal(full.child.exitCode ?? full.child.signalCode, null, 'the process stays');
        assert.equal((await full.get('/livez')).status, 200);
        const readiness = await full.get('/readyz');
        assert.equal(readiness.status, 503);
        assert.match(await readiness.text(), /SPOOL_NO_SPACE/);
        assert.match(full.log(), /nothing is acknowledged: .*no space/i);
        const metrics = await (await full.get('/metrics')).text();
        assert.match(metrics, /^millrace_spool_failures_total\{code="SPOOL_NO_SPACE"\} [1-9]/m);
      },
      async (roomy) => {
        await until(async () => (await roomy.get('/readyz')).status === 200, 30_000, 'it is ready again');
        await until(async () => (await acknowledged(roomy)) > before + 1_000, 30_000, 'it acknowledges again');
        assert.match(roomy.log(), /the spool can write and accepts again/);
      },
    );
    assert.ok(report.acknowledged > before, JSON.stringify(report));
    assert.deepEqual(
      { ...report.lost, neverSent: report.neverSent, altered: report.altered },
      { count: 0, example: '', neverSent: 0, altered: 0 },
      JSON.stringify(report),
    );
  });

  it('is caught by the same harness when it acknowledges before it has written', async () => {
    const report = await fill(
      [EARLY_ACK],
      () => Promise.resolve(),
      () => Promise.resolve(),
    );
    assert.ok(report.lost.count > 0, 'the planted bug went unnoticed');
  });
});

/**
 * Messages that come twice, connections that break, a gateway that is killed: every reading counts once. The default
 * gateway, all in one process, on the spool and the embedded store.
 *
 * Beside it, with the same messages and the same kills, runs one with a planted bug (it commits the position that was
 * read, not that of the oldest open window): the oracle must find it out.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { judge, type Verdict } from '../../src/torture/ledger-oracle.ts';
import { devices, type FedGateway, Feed, NO_FAULTS } from '../support/feed.ts';
import { Random } from '../support/random.ts';
import { agree, allClosed, judged, rowsOf, yamlOf } from '../support/rollup-run.ts';
import { CLICKS, ENVIRONMENT, rulesFor } from '../support/run-rules.ts';

const MINUTES = Number(process.env.MILLRACE_FAULT_MINUTES ?? 0);
const SEED = Number(process.env.MILLRACE_FAULT_SEED ?? Date.now() % 1_000_000);
/** At least; with MILLRACE_FAULT_MINUTES as many as fit. */
const KILLS = 4;
const START_MS = Date.UTC(2026, 4, 1, 9, 40);
const PLANTED = fileURLToPath(new URL('planted-rollup.mjs', import.meta.url));

const RULES = rulesFor([ENVIRONMENT, CLICKS]);

describe('readings that are delivered again and again', function () {
  this.timeout(180_000 + MINUTES * 120_000);
  const context = `MILLRACE_FAULT_SEED=${SEED}`;
  let folder: string;
  let feed: Feed;
  let right: FedGateway;
  let planted: FedGateway;
  let lastMs: number;
  let verdict: Verdict;
  let kills = 0;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-redelivery-'));
    const common = { seed: SEED, jitter: 0.3, startMs: START_MS, clockOffsetMs: 2_000, flapping: 0.005 };
    const environment = devices(12, {
      ...{ ...common, profile: 'environment', topic: 'sensors/{site}/{device}/environment', intervalMs: 2_000 },
      rates: { ...NO_FAULTS, duplicate: 0.3, gap: 0.05, malformed: 0.02, future: 0.01 },
    });
    const clicks = devices(60, {
      ...{ ...common, profile: 'clicks', topic: 'web/shop/clicks', intervalMs: 3_000 },
      rates: { ...NO_FAULTS, duplicate: 0.3 },
    });
    feed = new Feed({ folder, startMs: START_MS, sources: [environment, clicks] });
    const yaml = yamlOf(RULES);
    right = await feed.add({ folder: join(folder, 'right'), yaml });
    const env = { MILLRACE_PLANTED: 'read-position' };
    planted = await feed.add({ folder: join(folder, 'planted'), yaml, preload: PLANTED, env });
    const random = new Random(SEED);
    feed.run(100);
    const endMs = performance.now() + MINUTES * 60_000;
    for (; kills < KILLS || performance.now() < endMs; kills++) {
      const fromMs = feed.nowMs;
      while (feed.nowMs < fromMs + 60_000) {
        feed.check();
        await sleep(20);
      }
      await sleep(random.integer(0, 300));
      await Promise.all([right.killAndRestart(), planted.killAndRestart()]);
    }
    await feed.pause();
    lastMs = feed.nowMs + 2_000;
    await feed.moveClock(allClosed(RULES, lastMs).clockMs);
  });

  after(async () => {
    await feed?.end();
    rmSync(folder, { recursive: true, force: true });
  });

  function options({ process, deliveries }: FedGateway) {
    const toMs = allClosed(RULES, lastMs).endMs;
    return { rules: RULES, gateway: process, rollups: [process], partitions: 1, toMs, deliveries: () => deliveries };
  }

  it(`count once over ${KILLS} kills or more, in every window of every series (seed ${SEED})`, async () => {
    verdict = await agree(context, options(right));
    for (const stream of RULES.streams) {
      for (const window of stream.windows) assert.ok(verdict.byWindow[window]! > 0, `${context}: rows of ${window}`);
    }
    assert.equal(verdict.open, 0);
    const { exact, counted } = verdict;
    console.log(`      ${kills} kills, ${exact} rows of ${counted} readings in ${right.deliveries.length} deliveries`);
  });

  it('really were delivered again: by devices, and after broken connections and kills', async () => {
    assert.ok(right.disconnections > kills, `${right.disconnections} connections broke`);
    const unanswered = right.deliveries.filter((delivery) => delivery.acknowledgedMs === null);
    assert.ok(unanswered.length > 0, 'some were sent again for want of an answer');
    const again = right.deliveries.length - verdict.counted;
    assert.ok(again > 0.25 * verdict.counted, `${again} deliveries of ${verdict.counted} readings were repetitions`);
  });

  it('of different users in one millisecond are different events, because the stream names what identifies them', async () => {
    const rows = await rowsOf(right.process, RULES);
    const blind = RULES.streams.map(({ identity: _, ...stream }) => stream);
    const { findings } = judge({ ...RULES, streams: blind }, { rows, deliveries: right.deliveries, closedToMs: 0 });
    assert.ok(findings.length > 0, 'no two users met in one millisecond: the test shows nothing');
    assert.ok(findings.every((finding) => finding.startsWith('clicks ') && finding.includes('count is')));
  });

  it('are found out to be counted wrongly when the rollup commits what it has read', async () => {
    const { findings } = await judged(options(planted), context);
    assert.ok(findings.length > 0, `${context}: the planted bug went unnoticed`);
  });
});

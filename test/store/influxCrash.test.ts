/**
 * What InfluxDB has in its files after snapshots, compactions and kill -9 in the middle of writing. A private server, and
 * a bucket laid out badly on purpose: one shard with far more blocks a series than ours have.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { cacheFolder } from '../../compose/stack/provision.ts';
import { type InfluxServer, startInflux } from '../../compose/stack/servers.ts';
import { systemClock } from '../../src/clock.ts';
import type { Outcome } from '../../src/errors.ts';
import { pause } from '../../src/retry.ts';
import type { Row } from '../../src/row.ts';
import { openInfluxStore } from '../../src/store/influx.ts';
import { placeOf } from '../../src/store/order.ts';
import type { Store } from '../../src/store/store.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { makeRow } from '../support/rows.ts';
import { leaveOut, needInflux } from '../support/servers.ts';

const WEEK_MS = 7 * 86_400_000;
/** The middle of a shard of a week. */
const START_MS = 2_810 * WEEK_MS + WEEK_MS / 2;
const ROWS = 14_000;
const GENERATIONS = 4;
const WINDOW = '1s';

describe('rows in the files of InfluxDB', () => {
  let server: InfluxServer;
  let store: Store;
  let folder = '';

  before(async function () {
    this.timeout(60_000);
    needInflux(this);
    if (!existsSync(join(cacheFolder(), 'influxd'))) leaveOut(this, 'influx');
    folder = await mkdtemp(join(tmpdir(), 'millrace-influx-'));
    const quick = [
      '--storage-cache-snapshot-write-cold-duration',
      '1s',
      '--storage-compact-full-write-cold-duration',
      '4s',
    ];
    server = await startInflux({ dir: folder, flags: ['--storage-wal-flush-on-shutdown', ...quick] });
    const { url, org, token } = server;
    const config = { url, org, token, bucket: 'crash', timeoutMs: 10_000, createBuckets: true, retentionMs: {} };
    await makeOneShardBucket(server, `crash_${WINDOW}`);
    store = openInfluxStore({ config, telemetry: silentTelemetry(), clock: systemClock, settleMs: 200 });
  });
  after(async () => {
    await store?.close();
    await server?.kill();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  it('are all right after appends, identical rewrites and replacements; and overwriting in place is caught', async function () {
    this.timeout(180_000);
    // The same ranges in every run: the failure of the twin depends on how they overlap.
    const random = fc.sample(fc.nat(1_000_000), { seed: 7, numRuns: 100 });
    const next = (below: number) => random.pop()! % below;
    const truth = new Map<string, Row>();
    const faults = { kills: 0, flushes: 0, failures: 0 };

    const persist = async (call: () => Promise<Outcome<unknown>>): Promise<void> => {
      const deadlineMs = performance.now() + 60_000;
      for (;;) {
        const outcome = await call();
        if (outcome.ok) return;
        faults.failures++;
        assert(outcome.failure.retryable && performance.now() < deadlineMs, outcome.failure.message);
        await pause(50);
      }
    };
    const put = async (call: 'write' | 'replace', rows: readonly Row[]): Promise<void> => {
      await persist(() => store[call](rows));
      for (const row of rows) truth.set(placeOf(row), row);
    };
    const rows = (stream: string, from: number, to: number, rev: number) =>
      Array.from({ length: to - from }, (_, i) =>
        makeRow({ stream, window: WINDOW, startMs: START_MS + (from + i) * 1_000, rev }),
      );
    const wrong = async (stream: string): Promise<number> => {
      const expected = new Map([...truth].filter(([, row]) => row.stream === stream));
      const total = expected.size;
      let right = 0;
      const all = { stream, window: WINDOW, fromMs: START_MS, toMs: START_MS + WEEK_MS / 2 };
      for await (const row of store.read(all)) {
        const place = placeOf(row);
        assert(expected.has(place), `a row that nobody wrote, or twice: ${place}`);
        if (isDeepStrictEqual(expected.get(place), row)) right++;
        expected.delete(place);
      }
      return total - right;
    };
    /** kill -9 while `work` goes on, or else a stop in order afterwards, which moves all rows from the cache to files. */
    const disturbed = async (kill: boolean, work: Promise<void>): Promise<void> => {
      if (kill) {
        await pause(50 + next(300));
        await server.kill();
        faults.kills++;
        await server.restart();
      }
      await work;
      if (kill) return;
      await server.restart();
      faults.flushes++;
    };

    let appended = 0;
    const append = async (): Promise<void> => {
      for (let i = 0; i < 3; i++) {
        await put('write', rows('appended', appended, appended + 1_500, 0));
        appended += 1_500;
        await put('write', rows('appended', Math.max(0, appended - 2_000), appended, 0));
      }
    };
    await disturbed(true, put('write', rows('replaced', 0, ROWS, 0)));
    await disturbed(true, append());
    await disturbed(false, put('write', rows('overwritten', 0, ROWS, 0)));
    for (let rev = 1; rev <= GENERATIONS; rev++) {
      const from = next(ROWS / 2);
      const to = Math.min(ROWS, from + 2_000 + next(ROWS / 2));
      await disturbed(rev % 2 === 0, put('replace', rows('replaced', from, to, rev)));
      await disturbed(true, append());
      await disturbed(false, put('write', rows('overwritten', from, to, rev)));
      assert.equal(await wrong('appended'), 0);
      assert.equal(await wrong('replaced'), 0);
    }
    // Full compactions begin after four seconds without writes.
    await pause(6_000);
    assert.equal(await wrong('appended'), 0);
    assert.equal(await wrong('replaced'), 0);
    assert(faults.kills > 5 && faults.flushes > 5 && faults.failures > 0, JSON.stringify(faults));
    const caught = await wrong('overwritten');
    console.log(faults, caught);
    assert(caught > 0, 'overwriting changed values in place is right here: the test above shows nothing');
  });
});

async function makeOneShardBucket({ url, org, token }: InfluxServer, name: string): Promise<void> {
  const headers = { authorization: `Token ${token}`, 'content-type': 'application/json' };
  const orgs = (await (await fetch(`${url}/api/v2/orgs?org=${org}`, { headers })).json()) as { orgs: { id: string }[] };
  const retentionRules = [{ type: 'expire', everySeconds: 0, shardGroupDurationSeconds: WEEK_MS / 1_000 }];
  const body = JSON.stringify({ orgID: orgs.orgs[0]!.id, name, retentionRules });
  assert.equal((await fetch(`${url}/api/v2/buckets`, { method: 'POST', headers, body })).status, 201);
}

/**
 * What InfluxDB has in its files after snapshots, compactions and kill -9 in the middle of writing; the names of the files
 * prove that those happened. A private server, and a bucket laid out badly on purpose: one shard with far more blocks a
 * series than ours have.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { cacheFolder } from '../../compose/stack/provision.ts';
import { type InfluxServer, startInflux } from '../../compose/stack/servers.ts';
import { systemClock } from '../../src/clock.ts';
import { pause } from '../../src/retry.ts';
import type { Row } from '../../src/row.ts';
import { openInfluxStore } from '../../src/store/influx.ts';
import { placeOf } from '../../src/store/order.ts';
import type { Store } from '../../src/store/store.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { InfluxFiles } from '../support/influx-files.ts';
import { makeRow } from '../support/rows.ts';
import { leaveOut, needInflux } from '../support/servers.ts';
import { until } from '../support/until.ts';

const WEEK_MS = 7 * 86_400_000;
/** The middle of a shard of a week. */
const START_MS = 2_810 * WEEK_MS + WEEK_MS / 2;
const WINDOW = '1s';
/** More blocks of 1,000 than InfluxDB overwrites rightly. */
const ROWS = 16_000;
/** Each generation of changed values covers the one before: the pattern that overwriting in place gets wrong. */
const GENERATIONS: readonly [from: number, to: number][] = [
  [7_000, 9_000],
  [6_500, 9_500],
  [6_000, 10_000],
];
const FLUSH = ['--storage-wal-flush-on-shutdown'];
const ROUNDS = 3;
const KILLS_A_ROUND = 2;
const APPEND_ROWS = 1_000;
/** How far an identical rewrite reaches back: over the last append, and half of the one before. */
const REWRITTEN_ROWS = 1_500;
/** A snapshot every few thousand rows, in the middle of writing; and a full compaction soon after the last. */
const COMPACT_SOON = [
  '--storage-cache-snapshot-memory-size',
  '512k',
  '--storage-cache-snapshot-write-cold-duration',
  '1s',
  '--storage-compact-full-write-cold-duration',
  '3s',
];

describe('rows in the files of InfluxDB', () => {
  let server: InfluxServer;
  let folder = '';
  const stores: Store[] = [];

  before(async function () {
    this.timeout(60_000);
    needInflux(this);
    if (!existsSync(join(cacheFolder(), 'influxd'))) leaveOut(this, 'influx');
    folder = await mkdtemp(join(tmpdir(), 'millrace-influx-'));
    server = await startInflux({ dir: folder, flags: FLUSH });
  });
  after(async () => {
    for (const store of stores) await store.close();
    await server?.kill();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  async function openStore(bucket: string): Promise<{ store: Store; files: InfluxFiles }> {
    const { url, org, token } = server;
    const files = new InfluxFiles(folder, await makeOneShardBucket(server, `${bucket}_${WINDOW}`));
    const config = { url, org, token, bucket, timeoutMs: 10_000, createBuckets: true, retentionMs: {} };
    const store = openInfluxStore({ config, telemetry: silentTelemetry(), clock: systemClock, settleMs: 200 });
    stores.push(store);
    return { store, files };
  }

  it('are all right after appends, identical rewrites and replacements; and overwriting in place is caught', async function () {
    this.timeout(180_000);
    // Names of its own for each try: a bucket that is there is not made again.
    const attempt = stores.length;
    const { store, files } = await openStore(`crash-${attempt}`);
    const { store: twin, files: twinFiles } = await openStore(`twin-${attempt}`);
    const truth = new Map<string, Row>();
    const faults = { kills: 0, failures: 0 };

    const put = async (to: Store, call: 'write' | 'replace', rows: readonly Row[]): Promise<void> => {
      const deadlineMs = performance.now() + 60_000;
      for (let done = false; !done; ) {
        const outcome = await to[call](rows);
        done = outcome.ok;
        if (outcome.ok) continue;
        faults.failures++;
        assert(outcome.failure.retryable && performance.now() < deadlineMs, outcome.failure.message);
        await pause(50);
      }
      for (const row of rows) truth.set(placeOf(row), row);
    };
    const rowsOf = (stream: string, from: number, to: number, rev: number) =>
      Array.from({ length: to - from }, (_, i) =>
        makeRow({ stream, window: WINDOW, startMs: START_MS + (from + i) * 1_000, rev }),
      );
    const wrong = async (stream: string): Promise<number> => {
      const expected = new Map([...truth].filter(([, row]) => row.stream === stream));
      const total = expected.size;
      let right = 0;
      const all = { stream, window: WINDOW, fromMs: START_MS, toMs: START_MS + WEEK_MS / 2 };
      for await (const row of (stream === 'overwritten' ? twin : store).read(all)) {
        const place = placeOf(row);
        assert(expected.has(place), `a row that nobody wrote, or twice: ${place}`);
        if (isDeepStrictEqual(expected.get(place), row)) right++;
        expected.delete(place);
      }
      return total - right;
    };

    // Every generation goes from the cache to files, by a stop in order.
    await Promise.all([
      put(twin, 'write', rowsOf('overwritten', 0, ROWS, 0)),
      put(store, 'write', rowsOf('replaced', 0, ROWS, 0)),
    ]);
    await server.restart();
    for (const [i, [from, to]] of GENERATIONS.entries()) {
      await put(twin, 'write', rowsOf('overwritten', from, to, i + 1));
      await put(store, 'replace', rowsOf('replaced', from, to, i + 1));
      await server.restart();
      assert.equal(await wrong('replaced'), 0);
      files.look();
      twinFiles.look();
    }
    // After a deletion a stop may leave the rows to the log that the next start reads, and the stop after that.
    for (const each of [files, twinFiles]) assert(each.snapshots >= GENERATIONS.length, 'too few snapshots');
    const caught = await wrong('overwritten');
    assert(caught > 0, 'overwriting changed values in place is right here: this test shows nothing');

    // Killed while it appends, rewrites and replaces, with snapshots and compactions all the time.
    await server.stop();
    server = await startInflux({ dir: folder, port: server.port, flags: [...FLUSH, ...COMPACT_SOON] });
    let appended = 0;
    let rev = 10;
    for (let round = 0; round < ROUNDS; round++) {
      const [from, to] = GENERATIONS[round]!;
      const { compactions } = files;
      let goOn = true;
      const work = (async () => {
        for (; goOn; rev++) {
          await put(store, 'replace', rowsOf('replaced', from + 50 * (rev % 10), to, rev));
          await put(store, 'write', rowsOf('appended', appended, appended + APPEND_ROWS, 0));
          appended += APPEND_ROWS;
          await put(store, 'write', rowsOf('appended', Math.max(0, appended - REWRITTEN_ROWS), appended, 0));
        }
      })();
      for (let kill = 0; kill < KILLS_A_ROUND; kill++) {
        const before = files.snapshots;
        await until(() => files.snapshots >= before + 2, 30_000, 'two snapshots while rows are written');
        const failuresBefore = faults.failures;
        await server.kill();
        faults.kills++;
        await until(() => faults.failures > failuresBefore, 30_000, 'a write that a kill cut off');
        await server.restart();
      }
      // Compactions come by themselves once enough snapshots lie there: rows are written until one was seen in this round.
      await until(() => files.compactions > compactions, 60_000, 'a compaction while rows are written');
      goOn = false;
      await work;
      assert.equal(await wrong('appended'), 0);
      assert.equal(await wrong('replaced'), 0);
    }
    assert.equal(faults.kills, ROUNDS * KILLS_A_ROUND);

    // Nothing is in the cache any more, and every file was compacted.
    await until(() => files.areAllCompacted && twinFiles.areAllCompacted, 60_000, 'only compacted files');
    assert.equal(await wrong('appended'), 0);
    assert.equal(await wrong('replaced'), 0);
    assert((await wrong('overwritten')) > 0, 'a compaction put it right');
  });
});

/** Returns its id. */
async function makeOneShardBucket({ url, org, token }: InfluxServer, name: string): Promise<string> {
  const headers = { authorization: `Token ${token}`, 'content-type': 'application/json' };
  const orgs = (await (await fetch(`${url}/api/v2/orgs?org=${org}`, { headers })).json()) as { orgs: { id: string }[] };
  const retentionRules = [{ type: 'expire', everySeconds: 0, shardGroupDurationSeconds: WEEK_MS / 1_000 }];
  const body = JSON.stringify({ orgID: orgs.orgs[0]!.id, name, retentionRules });
  const answer = await fetch(`${url}/api/v2/buckets`, { method: 'POST', headers, body });
  assert.equal(answer.status, 201);
  return ((await answer.json()) as { id: string }).id;
}

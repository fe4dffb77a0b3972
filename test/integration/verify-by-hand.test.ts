/**
 * What a hand did to rows in InfluxDB, `millrace verify` finds and names: the program as its users run it, on a log of its
 * own and a real InfluxDB. `recompute` puts it right again.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { everySecond, type FedGateway, Feed } from '../support/feed.ts';
import { removeBuckets } from '../support/influx.ts';
import { allClosed, durableToMs, eventually, yamlOf } from '../support/rollup-run.ts';
import { rulesFor, TEMPERATURE } from '../support/run-rules.ts';
import { type InfluxServer, needInflux } from '../support/servers.ts';

const MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const START_MS = Date.UTC(2026, 4, 1, 10);
const STEPS = 12;
const RULES = rulesFor([TEMPERATURE], { graceMs: 1_000 });

const readings = everySecond(['a', 'b', 'c'], (_, atMs) => ({
  payload: JSON.stringify({ ts: atMs + 1, temperature: 20 + ((atMs / 1_000) % 37) / 10 }),
}));

describe('rows in InfluxDB that were changed by hand', function () {
  this.timeout(60_000);
  let folder: string;
  let influx: InfluxServer;
  let bucket: string;
  let feed: Feed;
  let gateway: FedGateway;
  let range: string[];

  before(async function () {
    influx = needInflux(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-by-hand-'));
    bucket = `hand-${randomUUID().slice(0, 8)}`;
    feed = new Feed({ folder, startMs: START_MS, sources: [readings] });
    const { url, org, token } = influx;
    const yaml = yamlOf(RULES, `influx: { url: "${url}", org: ${org}, token: "${token}", bucket: ${bucket} }`);
    gateway = await feed.add({ folder: join(folder, 'gateway'), yaml });
    for (let step = 0; step < STEPS; step++) await feed.step();
    const { endMs, clockMs } = allClosed(RULES, feed.nowMs);
    await feed.moveClock(clockMs + 1_000);
    await eventually('all is durable', 30_000, async () => (await durableToMs([gateway.process], 1)) >= endMs);
    range = ['--from', new Date(START_MS).toISOString(), '--to', new Date(endMs).toISOString()];
  });

  after(async () => {
    await feed?.end();
    if (bucket) await removeBuckets(influx, bucket);
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  function millrace(command: string, ...more: string[]): Promise<{ code: number; out: string }> {
    const args = [MAIN, command, '--config', join(folder, 'gateway', 'all.yaml'), ...range, ...more];
    return new Promise((resolve) => {
      execFile(process.execPath, args, (error, stdout, stderr) => {
        resolve({ code: Number(error?.code ?? 0), out: stdout + stderr });
      });
    });
  }

  async function write(line: string): Promise<void> {
    const { url, org, token } = influx;
    const query = new URLSearchParams({ org, bucket: `${bucket}_10s`, precision: 'ms' });
    const headers = { authorization: `Token ${token}` };
    const answer = await fetch(`${url}/api/v2/write?${query}`, { method: 'POST', headers, body: line });
    assert.equal(answer.status, 204, await answer.text());
  }

  async function query(db: string, q: string): Promise<void> {
    const { url, token } = influx;
    const headers = { authorization: `Token ${token}` };
    const answer = await fetch(`${url}/query?${new URLSearchParams({ db, q })}`, { method: 'POST', headers });
    assert.equal((await answer.text()).includes('error'), false);
  }

  const remove = (device: string, startMs: number) =>
    query(`${bucket}_10s`, `DELETE FROM environment WHERE device = '${device}' AND time = ${startMs}ms`);

  const rowsInAll = 3 * (STEPS + STEPS / 6);
  const point = (device: string) => `environment,device=${device},metric=temperature,site=attic,window=10s`;

  it('differ from nothing before', async () => {
    const { code, out } = await millrace('verify', '--json');
    const { rowsCompared, differences } = JSON.parse(out);
    assert.deepEqual({ code, rowsCompared, differences }, { code: 0, rowsCompared: rowsInAll, differences: 0 });
  });

  it('are found and named, each with the field, what is there and what the log says', async () => {
    await write(`${point('b')} mean=20.5 ${START_MS + 30_000}`);
    await write(`${point('nobody')} count=3i,sum=1,duplicates=0i,missing=0i,rev=0i ${START_MS + 40_000}`);
    await remove('c', START_MS + 50_000);
    const { code, out } = await millrace('verify');
    assert.equal(code, 1, out);
    const lines = out.split('\n');
    const starting = (word: string) => lines.filter((line) => line.startsWith(word));
    assert.equal(starting('different').length, 1, out);
    assert.match(
      starting('different')[0]!,
      /environment temperature 10s 2026-05-01T10:00:30.000Z .*device=b.*: mean is 20.5, the log says 2\d\.\d+$/,
    );
    assert.equal(starting('extra').length, 1, out);
    assert.match(starting('extra')[0]!, /10:00:40.000Z .*device=nobody.*: the log has no reading for it$/);
    assert.equal(starting('missing').length, 1, out);
    assert.match(starting('missing')[0]!, /10:00:50.000Z .*device=c.*: the log has 10 readings for it$/);
    assert.match(out, /, 3 differences\./);
  });

  it('are in the answer for programs, which ends with 1 too', async () => {
    const { code, out } = await millrace('verify', '--json');
    assert.equal(code, 1);
    const { differences, firstDifferences } = JSON.parse(out);
    assert.equal(differences, 3);
    const named = firstDifferences.map((found: { kind: string; fields: string[]; expected: Named; stored: Named }) => {
      const { tags, startMs } = found.expected ?? found.stored;
      return [found.kind, tags.device, (startMs - START_MS) / 1_000, ...found.fields].join(' ');
    });
    assert.deepEqual(named.sort(), ['different b 30 mean', 'extra nobody 40', 'missing c 50']);
  });

  it('are put right by recompute, and the row that nobody may have by the statement that it names', async () => {
    const { code, out } = await millrace('recompute');
    assert.equal(code, 1, out);
    assert.match(
      out,
      new RegExp(`^${rowsInAll} rows worked out again, 2 written, 1 left that no reading belongs to`, 'm'),
    );
    const again = await millrace('verify', '--json');
    const { differences, firstDifferences, repaired } = JSON.parse(again.out);
    assert.deepEqual([again.code, differences, repaired, firstDifferences[0].kind], [1, 1, 2, 'extra']);
    const [, database, statement] = /to delete it in the database (\S+): (DELETE .*)$/m.exec(out)!;
    await query(database!, statement!);
    const last = await millrace('verify', '--json');
    const { differences: none, rowsCompared } = JSON.parse(last.out);
    assert.deepEqual([last.code, none, rowsCompared], [0, 0, rowsInAll]);
    assert.equal((await millrace('recompute')).code, 0);
  });
});

interface Named {
  readonly tags: { readonly device: string };
  readonly startMs: number;
}

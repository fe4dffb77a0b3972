/** Rows of other programs against the log: what is read, what is compared how, and what is a mistake. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgainstMistake, type AgainstRows, parseTolerances, readAgainst } from '../../src/cli/against.ts';
import { verify as verifyCommand } from '../../src/cli/verify.ts';
import { type Difference, type VerifyReport, verify } from '../../src/rollup/verify.ts';
import type { Row } from '../../src/row.ts';
import { encodeRow } from '../../src/view/rows.ts';
import { MemoryLog } from '../support/memory-log.ts';
import { truthOf } from '../support/simulation-oracle.ts';
import { makeWorkload } from '../support/simulation-workload.ts';

const workload = makeWorkload(3, { shape: 'torn' });
const rows = workload.partitions.flatMap((records) => [...truthOf(records, workload).rows.values()]);
const everything = { streams: workload.streams, fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };
const nth = rows.findIndex(({ metric, count, sum }) => metric === 'a' && count > 2 && sum !== 0);

describe('verify --against', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-against-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function put(name: string, text: string): string {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  }

  const ndjson = (list: readonly object[]) => list.map((row) => `${JSON.stringify(row)}\n`).join('');

  /** `log` has no commit of any rollup. */
  async function check(
    path: string,
    tolerance = '',
  ): Promise<{ report: VerifyReport; found: Difference[]; read: AgainstRows }> {
    const read = await readAgainst(path, everything);
    const found: Difference[] = [];
    const outcome = await verify({
      reader: new MemoryLog(workload.partitions),
      lateReader: new MemoryLog([[]]),
      group: null,
      config: workload,
      ...everything,
      readRows: (query) => read.read(query),
      isEqual: read.isEqual(parseTolerances(tolerance)),
      onDifference: (difference) => found.push(difference),
    });
    assert.ok(outcome.ok);
    return { report: outcome.value, found, read };
  }

  const kinds = (found: readonly Difference[]) => found.map(({ kind, fields }) => [kind, ...fields].join(' '));

  it('takes rows as the API gives them, in any order and in files of any folder, but for those that Spark leaves out too', async () => {
    const shuffled = [...rows].reverse();
    const half = Math.floor(rows.length / 2);
    mkdirSync(join(folder, 'batch=1'));
    put(
      'batch=1/part-0.json',
      shuffled
        .slice(0, half)
        .map((row) => `${encodeRow(row)}\n`)
        .join(''),
    );
    put(
      'part-1',
      shuffled
        .slice(half)
        .map((row) => encodeRow(row))
        .join('\n'),
    );
    put('_SUCCESS', 'not a row');
    put('.part-1.crc', 'not a row');
    const { report, read } = await check(folder);
    assert.equal(report.differences, 0);
    assert.equal(report.rowsCompared, rows.length);
    assert.deepEqual([read.absent, read.repeated, read.unread()], [[], [], 0]);
    assert.ok(rows.length > 200);
  });

  it('takes CSV with tags as columns, and compares the fields that it has', async () => {
    const cells = ({ stream, metric, window, startMs, tags, count, min, max }: Row) =>
      [
        stream,
        metric,
        window,
        new Date(startMs).toISOString(),
        tags.device,
        tags.page ?? '',
        count,
        min ?? '',
        max ?? '',
      ].join();
    const lines = ['stream,metric,window,startMs,device,page,count,min,max', ...rows.map(cells)];
    const { report, read } = await check(put('rows.csv', `${lines.join('\r\n')}\r\n`));
    assert.equal(report.differences, 0);
    assert.equal(report.rowsCompared, rows.length);
    assert.deepEqual(read.absent, [
      'sum',
      'mean',
      'stddev',
      'first',
      'last',
      'p50',
      'p95',
      'p99',
      'duplicates',
      'missing',
    ]);
    lines[nth + 1] = lines[nth + 1]!.replace(/,[^,]*$/, ',12345');
    const changed = await check(put('rows.csv', lines.join('\n')));
    assert.deepEqual(kinds(changed.found), ['different max']);
  });

  it('compares a field that some rows have in all of them', async () => {
    const { duplicates: _, ...without } = rows[nth]!;
    const { found } = await check(put('rows', ndjson(rows.with(nth, without as Row))));
    assert.deepEqual(kinds(found), ['different duplicates']);
  });

  it('takes a sum within the tolerance that is given, and everything else to the last bit', async () => {
    const sum = rows[nth]!.sum! * (1 + 2 ** -45);
    const path = put('rows', ndjson(rows.with(nth, { ...rows[nth]!, sum, last: rows[nth]!.last! * (1 + 2 ** -50) })));
    assert.deepEqual(kinds((await check(path)).found), ['different sum last']);
    assert.deepEqual(kinds((await check(path, 'mean=1e-9')).found), ['different sum last']);
    assert.deepEqual(kinds((await check(path, 'sum=1e-12')).found), ['different last']);
    assert.deepEqual(kinds((await check(path, 'sum=1e-15,last=1e-15')).found), ['different sum']);
    assert.deepEqual(kinds((await check(path, 'sum=1e-12,last=1e-12')).found), []);
  });

  it('misses every row of a closed window that is not there, whatever a rollup has committed, and finds one too many', async () => {
    const foreign = { ...rows[nth]!, tags: { device: 'nobody' } };
    const { found, report } = await check(
      put('rows', ndjson([...rows.slice(0, nth), ...rows.slice(nth + 1), foreign])),
    );
    assert.deepEqual(kinds(found).sort(), ['extra', 'missing']);
    assert.equal(report.pending, 0);
    const none = await check(put('rows', ''));
    assert.equal(none.report.differences, rows.length);
  });

  it('names a row that is there twice, and compares the first', async () => {
    const path = put('rows', ndjson([...rows, { ...rows[nth]!, count: 0 }]));
    const { found, read } = await check(path);
    assert.deepEqual(kinds(found), []);
    assert.equal(read.repeated.length, 1);
    assert.match(read.repeated[0]!, new RegExp(`^s a .*line ${rows.length + 1} has it again$`));
  });

  it('names the file, the line, the field and the value of what cannot be read, and the way out', async () => {
    const good = rows[nth]!;
    for (const [text, message] of [
      ['{"stream":"s"', /rows, line 1: not JSON: /],
      [ndjson([good, { ...good, stream: 'x' }]), /line 2: stream "x" is not in the configuration, which has s, e$/],
      [ndjson([{ ...good, window: '7s' }]), /line 1: window "7s" is not of stream s, which has 10s, 1m, 2m_1m, 5m$/],
      [ndjson([{ ...good, metric: 'c' }]), /metric "c" is not of stream s, which has "a", "b"$/],
      [ndjson([{ ...good, startMs: 'noon' }]), /"noon" is no time in milliseconds/],
      [ndjson([{ ...good, startMs: undefined }]), /\(none\) is no time/],
      [ndjson([{ ...good, count: undefined }]), /count is not there$/],
      [ndjson([{ ...good, max: 'NaN' }]), /max "NaN" is not a number$/],
      [ndjson([{ ...good, tags: ['a'] }]), /tags \["a"\] are not texts by name$/],
      [ndjson([{ ...good, tags: { device: 1 } }]), /tags \{"device":1\} are not texts by name$/],
      [`${ndjson([good])}s,a`, /line 2: not a JSON object, as the lines before it are$/],
      ['stream,window,startMs\ns,10s', /rows, line 2: /],
    ] as const) {
      await assert.rejects(readAgainst(put('rows', text), everything), (error: Error) => {
        assert.ok(error instanceof AgainstMistake, error.stack);
        assert.match(error.message, message);
        return true;
      });
    }
    await assert.rejects(readAgainst(join(folder, 'absent'), everything), /--against .*absent cannot be read: ENOENT/);
    for (const text of ['sum', 'sum=', 'sum=x', 'sum=-1', 'sum=1', 'count=0.1']) {
      assert.throws(() => parseTolerances(text), AgainstMistake, text);
    }
  });

  it('is a wrong command line where it cannot be done, with exit 2', async () => {
    writeFileSync(
      join(folder, 'millrace.yaml'),
      'streams: { s: { topic: "s/{device}", time: ts, metrics: [v], windows: [10s] } }\n',
    );
    const row = {
      stream: 's',
      metric: 'v',
      window: '10s',
      startMs: 1_700_000_000_000,
      tags: { device: 'd' },
      count: 1,
    };
    mkdirSync(join(folder, 'data'));
    const config = join(folder, 'millrace.yaml');
    const against = put('rows', ndjson([row]));
    const absent = join(folder, 'absent');
    for (const [options, code, text] of [
      [{ against: absent }, 2, /^millrace: --against .*absent cannot be read/],
      [{ against, tolerance: 'sum=2' }, 2, /^millrace: --tolerance sum=2: 2 is not a share/],
      [{ tolerance: 'sum=1e-12' }, 2, /^millrace: --tolerance goes with --against/],
      [{ against }, 0, /^1 is of a window that the log has not closed in all partitions, and not compared\.$/m],
    ] as const) {
      const lines: string[] = [];
      const say = (line: string) => lines.push(line);
      const terminal = { out: say, err: say, colour: false, interactive: false, env: {}, version: '' };
      assert.equal(await verifyCommand({ config, ...options }, terminal), code, lines.join('\n'));
      assert.match(lines.join('\n'), text);
    }
  });
});

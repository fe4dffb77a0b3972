/** The definitions of compose/spark/rollup.py against the oracle of the rollup, with no Spark around them: the same rows, to the last bit. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { encodeReading } from '../../src/reading.ts';
import type { Row } from '../../src/row.ts';
import { leaveOut } from '../support/servers.ts';
import { differences, rowKey, truthOf } from '../support/simulation-oracle.ts';
import { makeWorkload, type ShapeName, type Workload } from '../support/simulation-workload.ts';
import { JOBS } from '../support/spark.ts';

/** Reads partitions, gives them to `Partition` in batches with the state of the batch before, prints the rows. */
const DRIVER = `
import base64, json, sys
from rollup import COLUMNS, Partition, Rules, RulesError
job = json.load(sys.stdin)
for records in job["partitions"]:
    state = None
    for at in range(0, len(records), job["batch"]):
        partition = Partition(Rules(job["rules"]), state)
        for offset, received, kind, value in records[at : at + job["batch"]]:
            partition.process(offset, received, kind, base64.b64decode(value))
        for row in partition.close():
            print(json.dumps(dict(zip(COLUMNS, row))))
        state = partition.state
try:
    changed = dict(job["rules"], graceMs=job["rules"]["graceMs"] + 1)
    Partition(Rules(changed), state)
except RulesError as error:
    print(error, file=sys.stderr)
`;

function rulesOf({ streams, graceMs, disorderMs, skewMs }: Workload): object {
  const ofStream = ([name, { metrics, windows }]: [string, Workload['streams'][string]]) => [
    name,
    { metrics, windows, distinct: [] },
  ];
  return { graceMs, disorderMs, skewMs, streams: Object.fromEntries(Object.entries(streams).map(ofStream)) };
}

function run(workload: Workload, batch: number): { rows: Row[]; err: string } {
  const partitions = workload.partitions.map((records) =>
    records.map(({ offset, receivedMs, kind, value }) => [
      offset,
      receivedMs,
      kind,
      Buffer.from(value).toString('base64'),
    ]),
  );
  const { status, stdout, stderr } = spawnSync('python3', ['-c', DRIVER], {
    input: JSON.stringify({ rules: rulesOf(workload), partitions, batch }),
    encoding: 'utf8',
    env: { ...process.env, PYTHONPATH: JOBS, PYTHONDONTWRITEBYTECODE: '1' },
    maxBuffer: 256 * 1024 * 1024,
  });
  assert.equal(status, 0, stderr);
  const rows = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
    .map((row) => ({ ...row, tags: JSON.parse(row.tags) }) as Row);
  return { rows, err: stderr };
}

function compare(workload: Workload, rows: readonly Row[]): void {
  const truth = new Map<string, Row>();
  for (const records of workload.partitions)
    for (const [key, row] of truthOf(records, workload).rows) truth.set(key, row);
  const found = new Map(rows.map((row) => [rowKey(row), row]));
  assert.equal(found.size, rows.length, 'no row twice');
  assert.deepEqual([...found.keys()].sort(), [...truth.keys()].sort());
  const wrong = rows.flatMap((row) => {
    const fields = differences(truth.get(rowKey(row))!, row);
    return fields.length > 0 ? [`${rowKey(row)}: ${fields}`] : [];
  });
  assert.deepEqual(wrong, []);
}

describe('compose/spark/rollup.py', function () {
  this.timeout(120_000);

  before(function () {
    if (spawnSync('python3', ['--version']).status !== 0) leaveOut(this, 'python');
  });

  for (const [shape, batch] of [
    ['calm', 40],
    ['disordered', 1_000_000],
    ['torn', 7],
    ['hesitant', 23],
  ] as [ShapeName, number][]) {
    it(`makes the rows of the definitions of a log that is ${shape}, in batches of ${batch}`, () => {
      for (let seed = 1; seed <= 4; seed++) {
        const workload = makeWorkload(seed, { shape });
        const { rows } = run(workload, batch);
        assert.ok(rows.length > 200, `${rows.length} rows`);
        compare(workload, rows);
      }
    });
  }

  it('takes no value that cannot be added up, and no text that is no reading, and goes on', () => {
    const workload = makeWorkload(5, { shape: 'calm', partitions: 1 });
    const [records] = workload.partitions;
    const at = records![40]!;
    const one = { stream: 's', key: 'k', timeMs: at.receivedMs, tags: { device: 'odd' }, values: { a: 1 } };
    const text = encodeReading(one);
    const bad = [
      'not JSON',
      '[]',
      '{"stream":"s"}',
      text.replace('"a":1', '"a":"1"'),
      text.replace('"a":1', '"a":true'),
      text.replace('"a":1', '"a":NaN'),
      text.replace('"a":1', '"a":1e151'),
      text.replace('"a":1', '"a":1e-141'),
      text.replace('"odd"', '7'),
      text.replace('"s"', '"unknown"'),
      text.replace(`${at.receivedMs}`, `${at.receivedMs + 86_460_001}`),
    ];
    const placed = (kind: 'reading' | 'refusal', values: readonly string[]): Workload => {
      const odd = values.map((value) => ({ ...at, kind, value: Buffer.from(value) }));
      const mixed = [...records!.slice(0, 40), ...odd, ...records!.slice(40)];
      return { ...workload, partitions: [mixed.map((record, offset) => ({ ...record, offset }))] };
    };
    // As refusals they move the watermark, and that is all that they may do.
    compare(placed('refusal', bad), run(placed('reading', bad), 50).rows);
    const { rows } = run(placed('reading', [text]), 50);
    assert.ok(
      rows.some(({ tags }) => tags.device === 'odd'),
      'the same text with a number is counted',
    );
  });

  it('gives out no window that began before what is known of a log that lost its beginning', () => {
    const workload = makeWorkload(2, { shape: 'calm', partitions: 1 });
    const records = workload.partitions[0]!.slice(60);
    const { graceMs, disorderMs, skewMs } = workload;
    const knownMs = records[0]!.receivedMs + graceMs + disorderMs + skewMs;
    const { rows } = run({ ...workload, partitions: [records] }, 50);
    const { rows: truth } = truthOf(workload.partitions[0]!, workload);
    const expected = [...truth.values()].filter(({ startMs }) => startMs > knownMs);
    assert.deepEqual(rows.map(rowKey).sort(), expected.map(rowKey).sort());
    assert.ok(rows.length > 50 && rows.every((row) => differences(row, truth.get(rowKey(row))!).length === 0));
  });

  it('refuses the state of other rules', () => {
    const { err } = run(makeWorkload(1, { shape: 'calm', partitions: 1 }), 1_000_000);
    assert.match(err, /the rules have changed since this checkpoint was begun/);
  });
});

/**
 * The Spark jobs of compose/spark on a real PySpark and a real Kafka, as users submit them. The rollup is killed in the middle of a
 * batch and goes on from its checkpoint; then `millrace verify --against` finds nothing, and finds what is planted.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KafkaConfig } from '../../src/config.ts';
import { kafkaTopics } from '../../src/journal/kafka-topics.ts';
import { kafkaWriter } from '../../src/journal/kafka-writer.ts';
import type { Row } from '../../src/row.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { dropTopics, kafkaConfig, makeTopic } from '../journal/kafka-fixture.ts';
import { runMillrace } from '../support/gateway-process.ts';
import { needKafka, needSpark } from '../support/servers.ts';
import { truthOf } from '../support/simulation-oracle.ts';
import { makeWorkload, type Workload } from '../support/simulation-workload.ts';
import { type SparkJob, submit } from '../support/spark.ts';
import { until } from '../support/until.ts';

const START_MS = 150_000;

describe('the Spark jobs, on a real Kafka', function () {
  this.timeout(300_000);
  let home: string;
  let folder: string;
  let config: KafkaConfig;
  let workload: Workload;
  let job: SparkJob | null = null;

  before(async function () {
    const brokers = needKafka(this);
    home = needSpark(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-spark-'));
    config = kafkaConfig(brokers);
    const topic = kafkaTopics(config).readings;
    await makeTopic(config, topic);
    workload = makeWorkload(11, { shape: 'torn', partitions: topic.partitions });
    const writer = kafkaWriter(config, topic, { gateway: 'g', telemetry: silentTelemetry() });
    for (const [partition, records] of workload.partitions.entries()) {
      const sent = await writer.appendTo(partition, records);
      assert.ok(sent.ok, sent.ok ? '' : sent.failure.message);
    }
    await writer.close();
    writeFileSync(join(folder, 'millrace.yaml'), yaml(config, workload));
    const { code, out } = await runMillrace(['check', '--json'], { cwd: folder });
    assert.equal(code, 0, out);
    writeFileSync(join(folder, 'rules.json'), out);
  });

  after(async () => {
    job?.kill();
    if (config) await dropTopics(config);
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  afterEach(function () {
    if (this.currentTest?.state === 'failed') console.log(job?.output().split('\n').slice(-60).join('\n'));
  });

  const at = (...path: string[]) => join(folder, ...path);
  const rollup = (...more: string[]) =>
    submit(home, 'rollup_stream.py', [
      ...['--rules', at('rules.json'), '--checkpoint', at('checkpoint'), '--out', at('rows')],
      ...['--records-per-batch', '200', '--every', '0 seconds', ...more],
    ]);
  const numbers = (path: string, prefix = '') =>
    existsSync(path)
      ? readdirSync(path).filter((name) => name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length)))
      : [];
  const newest = (path: string, prefix = '') =>
    Math.max(-1, ...numbers(path, prefix).map((name) => Number(name.slice(prefix.length))));
  const committed = () => newest(at('checkpoint', 'commits'));
  const written = () => newest(at('rows'), 'batch=');

  it('write rows of some batches and are killed while they write the next', async () => {
    job = rollup();
    const ends = job.ended.then(() => true);
    let hasEnded = false;
    ends.then(() => {
      hasEnded = true;
    });
    await until(
      () => hasEnded || (committed() >= 1 && written() > committed()),
      START_MS,
      'the third batch is being written',
    );
    assert.ok(!hasEnded, 'it runs');
    job.kill();
    assert.equal(await job.ended, 'SIGKILL');
    assert.ok(written() > committed(), `batch ${written()} was begun, ${committed()} is the last that was done`);
    const last = newest(at('checkpoint', 'offsets'));
    assert.equal(last, written(), 'its offsets are in the checkpoint');
  });

  it('go on from the checkpoint to the end of the log, and all rows are those of the log', async () => {
    const doneBefore = committed();
    job = rollup('--available-now');
    assert.equal(await job.ended, 0);
    assert.ok(committed() > doneBefore + 1, `${committed()} batches after ${doneBefore}`);
    const { code, out } = await runMillrace(['verify', '--against', 'rows', '--json'], { cwd: folder });
    const { rowsCompared, differences, repeated, tooEarly, notCompared, open } = JSON.parse(out);
    const rows = workload.partitions.reduce((sum, records) => sum + truthOf(records, workload).rows.size, 0);
    assert.deepEqual(
      { code, rowsCompared, differences, repeated, tooEarly, notCompared, open },
      { code: 0, rowsCompared: rows, differences: 0, repeated: 0, tooEarly: 0, notCompared: [], open: 0 },
      out,
    );
    assert.ok(rows > 500, `${rows} rows`);
    const late = workload.partitions.flatMap((records) => truthOf(records, workload).late.map(({ reason }) => reason));
    for (const reason of ['late', 'straggler'] as const)
      assert.ok(late.filter((each) => each === reason).length > 5, reason);
  });

  it('are found out when a value, a row or a copy is not as the log says', async () => {
    cpSync(at('rows'), at('planted'), { recursive: true });
    const file = readdirSync(at('planted'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.json') && !/(^|\/)[._]/.test(name))
      .map((name) => at('planted', name))
      .find((name) => readFileSync(name, 'utf8').split('\n').length > 20)!;
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    const rows = lines.map((line) => JSON.parse(line) as Row);
    const changed = rows.findIndex(({ sum, count }) => sum !== undefined && sum !== null && sum !== 0 && count > 1);
    const lost = changed + 1;
    const sum = rows[changed]!.sum!;
    const planted = [
      ...lines.slice(0, changed),
      JSON.stringify({ ...rows[changed], sum: sum * (1 + Number.EPSILON) }),
      ...lines.slice(lost + 1),
      lines[lost + 2],
    ];
    writeFileSync(file, `${planted.join('\n')}\n`);
    const { code, out } = await runMillrace(['verify', '--against', 'planted'], { cwd: folder });
    assert.equal(code, 1, out);
    assert.match(out, /^different {2}.*: sum is \S+, the log says \S+$/m);
    assert.match(out, /^missing {4}/m);
    assert.match(out, /^twice {6}/m);
    assert.match(out, / 3 differences\.$/m);
    const loose = await runMillrace(['verify', '--against', 'planted', '--tolerance', 'sum=1e-12'], { cwd: folder });
    assert.match(loose.out, / 2 differences\.$/m);
  });
});

function yaml({ brokers, prefix, partitions }: KafkaConfig, { graceMs, disorderMs, skewMs }: Workload): string {
  return `kafka: { brokers: [${brokers.map((broker) => `"${broker}"`)}], prefix: ${prefix}, partitions: ${partitions} }
rollup: { grace: ${graceMs}ms, disorder: ${disorderMs}ms, skew: ${skewMs}ms }
streams:
  s: { topic: "s/{device}", time: time, metrics: [a, b], windows: [10s, 1m, { size: 2m, every: 1m }, 5m] }
  e: { topic: "e/{device}/{page}", time: time, identity: [id], metrics: [], windows: [10s, 1m, 2m] }
`;
}

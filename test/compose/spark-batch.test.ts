/** The batch jobs of compose/spark on a real PySpark: what history in a real Kafka says by page and by registry, and a model whose scores go into a real InfluxDB. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KafkaConfig } from '../../src/config.ts';
import { kafkaTopics } from '../../src/journal/kafka-topics.ts';
import { kafkaWriter } from '../../src/journal/kafka-writer.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { encodeRow } from '../../src/view/rows.ts';
import { dropTopics, kafkaConfig, makeTopic } from '../journal/kafka-fixture.ts';
import { removeBuckets } from '../support/influx.ts';
import { Random } from '../support/random.ts';
import { makeRow, T0 } from '../support/rows.ts';
import { type InfluxServer, needInflux, needKafka, needSpark } from '../support/servers.ts';
import { makeWorkload } from '../support/simulation-workload.ts';
import { type SparkJob, submit } from '../support/spark.ts';

/** The lines of the one file that a job has written. */
function answerOf(folder: string): Record<string, unknown>[] {
  const [file, ...others] = readdirSync(folder).filter((name) => name.endsWith('.json') && !/^[._]/.test(name));
  assert.deepEqual(others, [], 'one file');
  const lines = readFileSync(join(folder, file!), 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line));
}

async function finished(job: SparkJob): Promise<string> {
  const code = await job.ended;
  assert.equal(code, 0, job.output().split('\n').slice(-40).join('\n'));
  return job.output();
}

describe('the Spark jobs over history', function () {
  this.timeout(300_000);
  let home: string;
  let folder: string;
  const jobs: SparkJob[] = [];
  const started = (...args: Parameters<typeof submit>) => {
    const job = submit(...args);
    jobs.push(job);
    return job;
  };

  before(function () {
    home = needSpark(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-spark-batch-'));
  });
  after(() => {
    for (const job of jobs) job.kill();
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  describe('in Kafka', () => {
    let config: KafkaConfig;
    after(async () => {
      if (config) await dropTopics(config);
    });

    it('count every event once, redelivered and late ones too, by page and by a column of the registry, most first', async function () {
      config = kafkaConfig(needKafka(this));
      const topic = kafkaTopics(config).readings;
      await makeTopic(config, topic);
      const { partitions } = makeWorkload(21, { shape: 'torn', partitions: topic.partitions });
      const writer = kafkaWriter(config, topic, { gateway: 'g', telemetry: silentTelemetry() });
      for (const [partition, records] of partitions.entries()) {
        assert.ok((await writer.appendTo(partition, records)).ok);
      }
      await writer.close();
      const { brokers, prefix } = config;
      const kafka = { brokers, topic: `${prefix}.readings` };
      writeFileSync(join(folder, 'rules.json'), JSON.stringify({ rules: { kafka, streams: { s: {}, e: {} } } }));

      const clicks = new Map<string, { device: string; page: string }>();
      let records = 0;
      for (const { kind, value } of partitions.flat()) {
        const reading = kind === 'reading' ? JSON.parse(Buffer.from(value).toString()) : null;
        if (reading?.stream !== 'e') continue;
        records++;
        clicks.set(reading.identity, reading.tags);
      }
      assert.ok(records > clicks.size + 3, `${records} records of ${clicks.size} clicks`);
      const devices = [...new Set([...clicks.values()].map(({ device }) => device))].sort();
      // The last device is not in it, as in many a registry.
      const rooms = new Map(devices.slice(0, -1).map((device, i) => [device, i % 2 === 0 ? 'hall' : 'cold, store']));
      const lines = [...rooms].map(([device, room]) => `${device},"${room}"`);
      writeFileSync(join(folder, 'devices.csv'), `device,room\n${lines.join('\n')}\n`);

      const job = started(home, 'views_batch.py', [
        ...['--rules', join(folder, 'rules.json'), '--stream', 'e', '--by', 'page,room'],
        ...['--registry', join(folder, 'devices.csv'), '--out', join(folder, 'views')],
      ]);
      assert.match(await finished(job), new RegExp(`^${clicks.size} events of e by page,room: `, 'm'));

      const counts = new Map<string, number>();
      for (const { device, page } of clicks.values()) {
        const place = JSON.stringify({ page, room: rooms.get(device) ?? '' });
        counts.set(place, (counts.get(place) ?? 0) + 1);
      }
      const sorted = [...counts]
        .sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
        .map(([place, views]) => ({ ...JSON.parse(place), views, share: views / clicks.size }));
      assert.deepEqual(answerOf(join(folder, 'views')), sorted);
      assert.equal(sorted.length, 6, 'two pages in two rooms, and in none');
    });
  });

  describe('in rows', () => {
    let influx: InfluxServer;
    const bucket = `spark-${randomUUID().slice(0, 8)}_10s`;
    after(async () => {
      if (influx) await removeBuckets(influx, bucket.replace(/_10s$/, ''));
    });

    const authorization = () => ({ authorization: `Token ${influx.token}` });

    async function query(q: string): Promise<{ columns: string[]; values: (string | number | boolean)[][] }> {
      const parameters = new URLSearchParams({ db: bucket, epoch: 'ms', q });
      const answer = await fetch(`${influx.url}/query?${parameters}`, { headers: authorization() });
      const { results } = (await answer.json()) as { results: [{ series?: [never] }] };
      assert.ok(results[0].series, JSON.stringify(results));
      return results[0].series[0];
    }

    it('teach a model what follows on what, whose scores in InfluxDB are largest where something else came', async function () {
      influx = needInflux(this);
      const { orgs } = (await (
        await fetch(`${influx.url}/api/v2/orgs?org=${influx.org}`, { headers: authorization() })
      ).json()) as { orgs: [{ id: string }] };
      const made = await fetch(`${influx.url}/api/v2/buckets`, {
        method: 'POST',
        headers: authorization(),
        body: JSON.stringify({ orgID: orgs[0].id, name: bucket, retentionRules: [] }),
      });
      assert.equal(made.status, 201);

      const random = new Random(7);
      const windows = 150;
      const odd = { device: 'b, "odd"', atMs: T0 + 130 * 10_000 };
      const rows = ['a', odd.device, 'c'].flatMap((device, d) =>
        Array.from({ length: windows }, (_, i) => {
          const startMs = T0 + i * 10_000;
          const usual = 20 + 5 * d + 3 * Math.sin(i / 6) + 0.05 * random.next();
          const mean = device === odd.device && startMs === odd.atMs ? usual + 12 : usual;
          return makeRow({ startMs, tags: { device }, mean });
        }),
      );
      mkdirSync(join(folder, 'rows/batch=0'), { recursive: true });
      const text = [...rows, makeRow({ window: '1m' }), makeRow({ metric: 'humidity' })].map(
        (row) => `${encodeRow(row)}\n`,
      );
      writeFileSync(join(folder, 'rows/batch=0/part-0.json'), text.join(''));
      // What an older model said of the same windows.
      const stale = `environment_model_scores,device=gone,metric=temperature,window=10s score=99 ${T0 + 500_000}`;
      const kept = `environment_model_scores,device=gone,metric=humidity,window=10s score=98 ${T0 + 500_000}`;
      const parameters = new URLSearchParams({ org: influx.org, bucket, precision: 'ms' });
      const write = { method: 'POST', headers: authorization(), body: `${stale}\n${kept}` };
      assert.equal((await fetch(`${influx.url}/api/v2/write?${parameters}`, write)).status, 204);

      const job = started(
        home,
        'model_batch.py',
        [
          ...['--rows', join(folder, 'rows'), '--stream', 'environment', '--metric', 'temperature', '--window', '10s'],
          ...['--model', join(folder, 'model'), '--out', join(folder, 'scores')],
          ...['--influx', influx.url, '--org', influx.org, '--bucket', bucket],
        ],
        { INFLUX_TOKEN: influx.token },
      );
      const said = await finished(job);
      const scored = 3 * (windows - 3);
      assert.match(said, new RegExp(`^${scored} rows scored, .*, ${scored} written to ${bucket}`, 'm'));
      assert.ok(readdirSync(join(folder, 'model')).includes('stages'), 'the model is kept');
      assert.equal(answerOf(join(folder, 'scores')).length, scored);

      const { columns, values } = await query(
        'SELECT score, value, expected, trained, device, metric FROM environment_model_scores',
      );
      const points = values.map((each) => Object.fromEntries(columns.map((name, i) => [name, each[i]!])));
      assert.deepEqual(
        points.filter(({ device }) => device === 'gone').map(({ metric }) => metric),
        ['humidity'],
        'older scores of these windows were replaced, others were not',
      );
      const ours = points.filter(({ device }) => device !== 'gone').sort((x, y) => Number(y.score) - Number(x.score));
      assert.equal(ours.length, scored);
      // The windows after it look back on it, so they are as unexpected.
      const after = ({ device, time }: (typeof ours)[0]) =>
        device === odd.device && Number(time) >= odd.atMs && Number(time) <= odd.atMs + 30_000;
      assert.ok(ours.slice(0, 2).every(after), JSON.stringify(ours.slice(0, 2)));
      const there = ours.find(({ device, time }) => device === odd.device && time === odd.atMs)!;
      assert.ok(Number(there.score) > 10 && there.trained === false, `${there.score} errors away`);
      const usual = ours.filter(({ trained }) => trained === true);
      assert.ok(usual.length > scored / 2 && usual.every(({ score }) => Number(score) < 10));
    });
  });
});

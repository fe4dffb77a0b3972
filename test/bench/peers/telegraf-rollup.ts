/**
 * A peer of the rollup on the same log: Telegraf reads the topic as a consumer group, parses the same records, aggregates
 * count, mean, min, max, standard deviation and three quantiles over windows of the same sizes and writes them to the same
 * InfluxDB. What differs: its windows go by its own clock, not by the readings' (a reading of the past would be dropped), so
 * all of the log falls into the few windows that are open while it is read; only the smallest are written in the bench's
 * time, and it writes far fewer rows. Settings in its favour: large batches, a flush ten times a second, no original
 * readings in the output, and a grace so long that no reading misses its window between parser and aggregator.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Admin, Kafka, logLevel } from 'kafkajs';
import type { InfluxServer } from '../../support/servers.ts';
import { until } from '../../support/until.ts';
import { METRICS } from '../rollup/load.ts';
import { provisionTelegraf } from './telegraf.ts';

const JOINED_MS = 60_000;
const WINDOWS = ['10s', '1m', '15m', '1h'];

export interface RollupPeer {
  readonly pid: number;
  /** What its group has committed, all partitions together. */
  committed(): Promise<number>;
  /** Readings of one metric in the smallest windows that it has written. */
  stored(): Promise<number>;
  kill(): Promise<void>;
  /** It begins again where its group stands. */
  start(): Promise<void>;
  close(): Promise<void>;
}

export interface RollupPeerOptions {
  readonly brokers: string;
  readonly topic: string;
  readonly group: string;
  readonly server: InfluxServer;
  /** It is made, and removed at the end. */
  readonly bucket: string;
}

/** Resolves when it is a member of its group. */
export async function startTelegrafRollup(options: RollupPeerOptions): Promise<RollupPeer> {
  const { brokers, topic, group, server, bucket } = options;
  const telegraf = provisionTelegraf();
  const folder = mkdtempSync(join(tmpdir(), 'millrace-peer-'));
  const file = join(folder, 'telegraf.conf');
  writeFileSync(file, configuration(options));
  const bucketId = await createBucket(server, bucket);
  const admin = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  let child: ChildProcess;
  const start = async (): Promise<void> => {
    child = spawn(telegraf, ['--config', file, '--quiet'], { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-20_000);
    });
    const joined = async () => {
      if (child.exitCode !== null) throw new Error(`Telegraf ended: ${log}`);
      const { groups } = await admin.describeGroups([group]);
      return groups[0]?.state === 'Stable' && groups[0].members.length > 0;
    };
    await until(joined, JOINED_MS, `Telegraf is in its group: ${log}`);
  };
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  };
  await start();
  return {
    get pid() {
      return child.pid!;
    },
    committed: () => committed(admin, group, topic),
    stored: () => stored(server, bucket),
    kill,
    start,
    async close() {
      await kill();
      await admin.disconnect();
      await fetch(`${server.url}/api/v2/buckets/${bucketId}`, { method: 'DELETE', headers: headers(server) });
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function committed(admin: Admin, groupId: string, topic: string): Promise<number> {
  const [answer] = await admin.fetchOffsets({ groupId, topics: [topic] });
  return answer!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0);
}

async function stored({ url, org, token }: InfluxServer, bucket: string): Promise<number> {
  const query = `from(bucket: "${bucket}") |> range(start: 0) |> filter(fn: (r) => r._field == "${METRICS[0]}_count" and r.window == "${WINDOWS[0]}") |> group() |> sum()`;
  const answer = await fetch(`${url}/api/v2/query?org=${org}`, {
    method: 'POST',
    headers: { ...headers({ token }), 'content-type': 'application/vnd.flux', accept: 'application/csv' },
    body: query,
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  const [head, row] = text.trim().split(/\r?\n/);
  return row === undefined ? 0 : Number(row.split(',')[head!.split(',').indexOf('_value')]);
}

async function createBucket(server: InfluxServer, name: string): Promise<string> {
  const { url, org } = server;
  const found = await fetch(`${url}/api/v2/orgs?org=${org}`, { headers: headers(server) });
  const { orgs } = (await found.json()) as { orgs: { id: string }[] };
  const body = JSON.stringify({ orgID: orgs[0]!.id, name, retentionRules: [] });
  const made = await fetch(`${url}/api/v2/buckets`, { method: 'POST', headers: headers(server), body });
  if (!made.ok) throw new Error(await made.text());
  return ((await made.json()) as { id: string }).id;
}

function headers({ token }: Pick<InfluxServer, 'token'>): Record<string, string> {
  return { authorization: `Token ${token}` };
}

function configuration({ brokers, topic, group, server, bucket }: RollupPeerOptions): string {
  const list = brokers
    .split(',')
    .map((broker) => `"${broker}"`)
    .join(', ');
  const tag = (name: string) => `  [[inputs.kafka_consumer.json_v2.tag]]\n    path = "tags.${name}"\n`;
  const field = (metric: string) =>
    `  [[inputs.kafka_consumer.json_v2.field]]\n    path = "values.${metric}"\n    rename = "${metric}"\n    type = "float"\n`;
  const aggregators = WINDOWS.flatMap((window) =>
    [
      ['basicstats', 'stats = ["count", "mean", "min", "max", "stdev"]'],
      ['quantile', 'quantiles = [0.5, 0.95, 0.99]'],
    ].map(
      ([name, settings]) => `[[aggregators.${name}]]
  period = "${window}"
  grace = "1h"
  drop_original = true
  ${settings}
  [aggregators.${name}.tags]
    window = "${window}"
`,
    ),
  );
  return `[agent]
  interval = "1s"
  flush_interval = "100ms"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true

[[inputs.kafka_consumer]]
  brokers = [${list}]
  topics = ["${topic}"]
  consumer_group = "${group}"
  offset = "oldest"
  max_undelivered_messages = 20000
  data_format = "json_v2"
  [[inputs.kafka_consumer.json_v2]]
  measurement_name = "environment"
${tag('device')}${tag('site')}${METRICS.map(field).join('')}
${aggregators.join('\n')}
[[outputs.influxdb_v2]]
  urls = ["${server.url}"]
  token = "${server.token}"
  organization = "${server.org}"
  bucket = "${bucket}"
`;
}

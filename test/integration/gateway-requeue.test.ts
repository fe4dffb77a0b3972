/**
 * Dead letters sent again on the real program: through the running gateway, on the spool of one that is stopped, and on
 * the topics of Kafka. However often and in whatever way it is done, every reading is in the log and counted once.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requeue } from '../../src/cli/requeue.ts';
import { systemClock } from '../../src/clock.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import type { StoredRecord } from '../../src/log.ts';
import { decodeReading } from '../../src/reading.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { freePort } from '../../src/torture/program.ts';
import { KafkaSide } from '../faults/kafka-gateway.ts';
import { dropTopics } from '../journal/kafka-fixture.ts';
import { type GatewayProcess, runMillrace, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';

const TOKEN = 'let-me-change-things';
const ENV = { REQUEUE_TOKEN: TOKEN };
const schemaUpTo = (maximum: number) =>
  JSON.stringify({
    type: 'object',
    required: ['temperature'],
    properties: { temperature: { type: 'number', maximum } },
  });
const ROLLUP = 'rollup: { grace: 1s, disorder: 0s, tick: 500ms, repair: auto, repair_delay: 0s, flush: 200ms }\n';
const STREAM = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    schema: environment.schema.json
    time: ts
    metrics: [temperature]
    windows: [10s]
`;
const POWER = `  power:
    topic: meters/{device}/power
    schema: power.schema.json
    metrics: [watts]
    windows: [10s]
`;
const DOORS = `  doors:
    topic: doors/{device}/open
    metrics: [n]
    windows: [10s]
`;
const GOOD = 30;

interface Summary {
  readonly letters: number;
  readonly already: number;
  readonly wouldPass: number;
  readonly requeued: number;
  readonly refused: number;
  readonly through: string | null;
}

describe('millrace deadletters requeue', function () {
  this.timeout(180_000);
  let folder: string;
  let gateway: GatewayProcess;
  let config: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-requeue-'));
    config = join(folder, 'all.yaml');
    writeFileSync(join(folder, 'environment.schema.json'), schemaUpTo(50));
    writeFileSync(join(folder, 'new.schema.json'), schemaUpTo(100));
  });
  afterEach(async () => {
    await gateway?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  /** The harness writes the http section without a token: it is put in, and the gateway started with it. */
  async function start(yaml: string, role: 'all' | 'gateway' = 'all', again = gateway): Promise<void> {
    const ports = again ? { mqttPort: again.mqttPort, httpPort: again.httpPort } : {};
    gateway = await startGateway({ folder, yaml, role, env: ENV, http: `token: "\${REQUEUE_TOKEN}"`, ...ports });
    config = join(folder, `${role}.yaml`);
  }

  /** Refused by the schema of before, 30 of them to pass the new one, two never. */
  async function publishBad(fromMs: number, site = 'a'): Promise<void> {
    const client = await RawClient.connected(gateway.mqttPort, { clientId: `bad-${site}` });
    for (let i = 0; i < GOOD + 2; i++) {
      const temperature = i < GOOD ? 60 + i / 10 : 900;
      client.publish(
        `sensors/${site}/d${i % 3}/environment`,
        `{"ts":${fromMs + i},"temperature":${temperature}}`,
        1,
        i + 1,
      );
    }
    await client.until('puback', GOOD + 2);
    client.end();
  }

  /** The command, in this process. */
  async function run(
    options: Partial<Parameters<typeof requeue>[0]> = {},
  ): Promise<{ code: number | null; err: string; lines: Record<string, unknown>[]; summary: Summary }> {
    const lines: Record<string, unknown>[] = [];
    let err = '';
    const terminal = {
      out: (text: string) => lines.push(JSON.parse(text)),
      err: (text: string) => {
        err += `${text}\n`;
      },
      colour: false,
      interactive: false,
      env: ENV,
      version: 'test',
    };
    const code = await requeue({ config, json: true, ...options }, terminal);
    return { code, err, lines, summary: lines.at(-1) as unknown as Summary };
  }

  async function spoolRecords(kind: StoredRecord['kind']): Promise<StoredRecord[]> {
    const reader = openSpoolReader({
      folder: join(folder, 'data/spool'),
      clock: systemClock,
      telemetry: silentTelemetry(),
    });
    const found: StoredRecord[] = [];
    for await (const { records } of reader.range(0, 0, Number.MAX_SAFE_INTEGER))
      found.push(...records.filter((one) => one.kind === kind));
    await reader.close();
    return found;
  }

  /** Readings in the stored rows of a stream. */
  async function counted(stream: string): Promise<number> {
    const answer = await gateway.get(
      `/api/v1/rows?stream=${stream}&window=10s&from=0&to=${systemClock.nowMs() + 60_000}`,
    );
    const rows = (await answer.text()).split('\n').filter((line) => line.startsWith('{'));
    return rows.reduce((sum, row) => sum + (JSON.parse(row) as { count: number }).count, 0);
  }

  it('through the running gateway: what passes its schema, once; the rest stays', async () => {
    await start(ROLLUP + STREAM);
    await publishBad(systemClock.nowMs() - 120_000);

    const schema = join(folder, 'new.schema.json');
    const dry = await run({ stream: 'environment', schema, dryRun: true });
    assert.deepEqual(
      [dry.code, dry.summary.letters, dry.summary.wouldPass, dry.summary.requeued],
      [1, GOOD + 2, GOOD, 0],
      dry.err,
    );
    assert.equal((await spoolRecords('requeued')).length, 0);

    const args = ['deadletters', 'requeue', '--config', config, '--stream', 'environment', '--schema', schema];
    const early = await runMillrace(args, { env: ENV });
    assert.equal(early.code, 1, early.err);
    assert.match(early.out, new RegExp(`${GOOD} of them would pass with .*new\\.schema\\.json`));
    assert.match(early.out, /The gateway inspects with its own schema: put .*new\.schema\.json in its place/);
    assert.equal(await gateway.metric('millrace_accepted_total'), 0);
    assert.equal((await spoolRecords('refusal')).length, GOOD + 2, 'a letter refused again is no new letter');

    writeFileSync(join(folder, 'environment.schema.json'), schemaUpTo(100));
    await until(() => gateway.log().includes('were loaded again'), 20_000, 'the gateway has the new schema');
    const first = await run({ stream: 'environment', since: '2d' });
    const { letters, requeued, refused, through } = first.summary;
    assert.deepEqual([first.code, letters, requeued, refused], [1, GOOD + 2, GOOD, 2], first.err);
    assert.match(through ?? '', /the gateway .* at http:\/\/127\.0\.0\.1/);
    assert.match(String(first.lines.find((line) => line.result === 'refused')?.reason), /900/);

    const second = await run({ stream: 'environment', since: '2d' });
    assert.deepEqual([second.summary.letters, second.summary.already, second.summary.requeued], [2, GOOD, 0]);
    const { id } = JSON.parse(
      (await runMillrace(['deadletters', 'list', '--config', config, '--json', '--limit', '3'], { env: ENV })).out
        .trim()
        .split('\n')
        .at(-1)!,
    ) as { id: string };
    const single = await run({ id });
    assert.deepEqual([single.code, single.summary.letters, single.summary.already], [0, 0, 1]);

    // as the live page does it
    const post = (token: string) =>
      fetch(`http://127.0.0.1:${gateway.httpPort}/api/v1/deadletters/${id}/requeue`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}` },
      });
    assert.equal((await post('wrong')).status, 401);
    assert.equal(((await (await post(TOKEN)).json()) as { result: string }).result, 'already');
    const list = await runMillrace(['deadletters', 'list', '--config', config], { env: ENV });
    assert.equal(list.out.split('(requeued)').length - 1, GOOD);

    assert.equal((await spoolRecords('reading')).length, GOOD);
    assert.equal(await gateway.metric('millrace_accepted_total'), GOOD);
    await until(
      async () => (await counted('environment')) >= GOOD,
      60_000,
      'the late readings are counted by a repair',
    );
    assert.equal(await counted('environment'), GOOD);
  });

  it('after kill -9 while it is under way: again until nothing is left, and every reading is counted once', async () => {
    await start(ROLLUP + STREAM);
    await publishBad(systemClock.nowMs() - 120_000);
    writeFileSync(join(folder, 'environment.schema.json'), schemaUpTo(100));
    await until(() => gateway.log().includes('were loaded again'), 20_000, 'the gateway has the new schema');
    const ids = (await spoolRecords('refusal')).map(({ offset }) => ({ id: `0-${offset}` }));
    const asked = fetch(`http://127.0.0.1:${gateway.httpPort}/api/v1/deadletters/requeue`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify({ letters: ids }),
    }).catch(() => null);
    await until(async () => (await spoolRecords('reading')).length > 0, 20_000, 'it is under way');
    await gateway.end('SIGKILL');
    await asked;
    await start(ROLLUP + STREAM);
    const rest = await run({ stream: 'environment' });
    assert.equal(rest.summary.requeued + rest.summary.already, GOOD, rest.err);
    const identities = (await spoolRecords('reading')).map(({ value }) => readingIdentity(value));
    assert.equal(new Set(identities).size, GOOD);
    await until(async () => (await counted('environment')) >= GOOD, 60_000, 'they are counted');
    assert.equal(await counted('environment'), GOOD);
  });

  it('on the spool where no gateway runs, also for a stream that is new; a reading without a time keeps its own', async () => {
    writeFileSync(join(folder, 'power.schema.json'), '{"required":["watt"]}');
    await start(ROLLUP + STREAM + POWER);
    const client = await RawClient.connected(gateway.mqttPort, { clientId: 'early' });
    const fromMs = systemClock.nowMs();
    for (let i = 1; i <= 5; i++) client.publish('meters/m1/power', `{"watts":${i}}`, 1, i);
    for (let i = 6; i <= 8; i++) client.publish('doors/d1/open', `{"n":${i}}`, 1, i);
    await client.until('puback', 8);
    client.end();
    const toMs = systemClock.nowMs();
    writeFileSync(join(folder, 'power.schema.json'), '{"required":["watts"]}');
    const yaml = readFileSync(config, 'utf8');
    // another port: as if the gateway's page could not be reached
    const nobody = await freePort();
    writeFileSync(config, yaml.replace(`port: ${gateway.httpPort}`, `port: ${nobody}`) + DOORS);
    const locked = await run({ since: '1h' });
    assert.equal(locked.code, 1);
    assert.match(
      locked.err,
      new RegExp(`in use by process ${gateway.child.pid}; .*no gateway answers at 127\\.0\\.0\\.1:${nobody}`),
    );
    assert.equal(await gateway.end('SIGTERM'), 0);

    const first = await run({ since: '1h' });
    assert.deepEqual([first.code, first.summary.requeued, first.summary.refused], [0, 8, 0], first.err);
    assert.match(first.summary.through ?? '', /the spool in/);
    const second = await run({ since: '1h' });
    assert.deepEqual([second.code, second.summary.letters, second.summary.already], [0, 0, 8]);
    const stored = (await spoolRecords('reading')).map(({ value }) => decodeReading(Buffer.from(value).toString())!);
    assert.deepEqual(stored.map(({ stream }) => stream).sort(), [...Array(3).fill('doors'), ...Array(5).fill('power')]);
    for (const { timeMs } of stored) assert.ok(timeMs >= fromMs && timeMs <= toMs, 'when it was received first');
    await start(ROLLUP + STREAM + POWER + DOORS);
    await until(async () => (await counted('power')) >= 5, 60_000, 'they are counted');
    assert.equal(await counted('power'), 5);
  });

  it('says what it needs: which letters, a stream for a schema, a gateway that may be changed', async () => {
    await start(STREAM);
    await publishBad(systemClock.nowMs());
    assert.deepEqual([(await run()).code, (await run()).err.includes('--id, --stream, --since')], [2, true]);
    assert.equal((await run({ schema: 'x.json' })).code, 2);
    assert.equal((await run({ since: 'yesterday' })).code, 2);
    assert.equal((await run({ id: '12' })).code, 2);
    assert.equal((await run({ stream: 'nothing', schema: 'x.json' })).code, 2);
    writeFileSync(config, readFileSync(config, 'utf8').replace(/, token: "[^"]*"/, ''));
    const readOnly = await run({ since: '1h' });
    assert.equal(readOnly.code, 1);
    assert.match(readOnly.err, /runs without http\.token.*set http\.token/);
    assert.equal((await spoolRecords('requeued')).length, 0);
  });

  it('with Kafka: through the gateway or on the topics, once', async function () {
    const brokers = needKafka(this);
    const prefix = `requeue-${randomUUID().slice(0, 8)}`;
    const side = new KafkaSide(brokers, prefix);
    const kafka = `kafka: { brokers: ["${brokers[0]}"], prefix: ${prefix}, partitions: 4, group: ${prefix} }\n`;
    try {
      await start(kafka + STREAM, 'gateway');
      await publishBad(systemClock.nowMs());
      await until(
        async () => (await side.records('deadletters').catch(() => [])).length === GOOD + 2,
        60_000,
        'the letters are in Kafka',
      );
      writeFileSync(join(folder, 'environment.schema.json'), schemaUpTo(100));
      await until(() => gateway.log().includes('were loaded again'), 20_000, 'the gateway has the new schema');
      const one = await run({ id: '0-0' });
      assert.deepEqual([one.code, one.summary.requeued], [0, 1], one.err);
      await until(
        async () => (await side.records('deadletters')).some(({ kind }) => kind === 'requeued'),
        60_000,
        'the mark is in Kafka',
      );
      await gateway.end('SIGTERM');
      const first = await run({ stream: 'environment' });
      assert.deepEqual(
        [first.code, first.summary.already, first.summary.requeued, first.summary.refused],
        [1, 1, GOOD - 1, 2],
        first.err,
      );
      assert.match(first.summary.through ?? '', /the topics/);
      const second = await run({ stream: 'environment' });
      assert.deepEqual([second.summary.already, second.summary.requeued], [GOOD, 0]);
      assert.equal((await side.records('readings')).filter(({ kind }) => kind === 'reading').length, GOOD);
    } finally {
      await dropTopics(side.config);
    }
  });
});

function readingIdentity(value: Uint8Array): string {
  const { stream, time, tags } = JSON.parse(Buffer.from(value).toString()) as {
    stream: string;
    time: number;
    tags: object;
  };
  return `${stream} ${time} ${JSON.stringify(tags)}`;
}

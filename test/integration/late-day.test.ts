/**
 * A day of readings published shuffled and hours late, on the embedded log and store, and on a real Kafka and InfluxDB: with
 * `repair: auto` the rows end as those of a gateway that got the same readings in order, each when it was measured. `verify`
 * finds no difference, with the late readings in them; a kill -9 in the middle of the repairs changes nothing.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { dropTopics, kafkaConfig } from '../journal/kafka-fixture.ts';
import { type FedGateway, Feed, type Message, message } from '../support/feed.ts';
import { removeBuckets } from '../support/influx.ts';
import { Random } from '../support/random.ts';
import { allClosed, durableToMs, eventually, type RunRules, rowsOf, yamlOf } from '../support/rollup-run.ts';
import { type InfluxServer, needInflux, needKafka } from '../support/servers.ts';

const MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const START_MS = Date.UTC(2026, 4, 1);
const DAY_MS = 86_400_000;
const SLICE_MS = 1_800_000;
const PARTITIONS = 2;
const DEVICES = ['a', 'b', 'c', 'd'];
const EVERY_MS = 120_000;
/** How much of the day comes when it should, so that rows are there before they are repaired. */
const PUNCTUAL = 0.3;
const RULES: RunRules = {
  graceMs: SLICE_MS,
  disorderMs: 500,
  skewMs: 60_000,
  streams: [
    {
      name: 'environment',
      topic: 'sensors/{site}/{device}/environment',
      time: 'ts',
      metrics: ['temperature'],
      windows: ['10m', '1h'],
    },
  ],
};

interface DayMessage extends Message {
  readonly atMs: number;
  readonly isPunctual: boolean;
}

function makeDay(random: Random): DayMessage[] {
  const day: DayMessage[] = [];
  for (let at = START_MS; at < START_MS + DAY_MS; at += EVERY_MS) {
    for (const device of DEVICES) {
      const ts = at + random.integer(0, EVERY_MS - 1);
      const payload = JSON.stringify({ ts, temperature: random.integer(-30_000, 40_000) / 1_000 });
      const sent = message(device, `sensors/attic/${device}/environment`, payload);
      day.push({ ...sent, atMs: at, isPunctual: random.chance(PUNCTUAL) });
    }
  }
  return day;
}

type Servers = { readonly brokers: readonly string[]; readonly influx: InfluxServer };

/** Empty: the embedded log and store. */
function serversYaml(servers: Servers | null, name: string): string {
  if (servers === null) return '';
  const { url, org, token } = servers.influx;
  return `kafka: { brokers: [${servers.brokers}], prefix: ${name}, group: ${name}, partitions: ${PARTITIONS}, linger: 10ms, session_timeout: 6s }
influx: { url: "${url}", org: ${org}, token: "${token}", bucket: ${name} }`;
}

for (const where of ['on the embedded log and store', 'on a real Kafka and InfluxDB'] as const)
  describe(`a day that is published shuffled and hours late, ${where}`, function () {
    this.timeout(240_000);
    const isEmbedded = where === 'on the embedded log and store';
    const partitions = isEmbedded ? 1 : PARTITIONS;
    const prefix = `late-day-${randomUUID().slice(0, 8)}`;
    let servers: Servers | null = null;
    const random = new Random(2_026);
    const day = makeDay(random);
    const late = random.shuffled(day.filter(({ isPunctual }) => !isPunctual));
    let folder: string;
    let feed: Feed;
    let inOrder: FedGateway;
    let shuffled: FedGateway;
    let endMs: number;
    let due: Message[] = [];

    before(async function () {
      if (!isEmbedded) servers = { brokers: needKafka(this), influx: needInflux(this) };
      folder = mkdtempSync(join(tmpdir(), 'millrace-late-day-'));
      feed = new Feed({ folder, startMs: START_MS, sources: [() => due] });
      const yaml = (name: string) =>
        yamlOf(RULES, serversYaml(servers, `${prefix}-${name}`)).replace(
          "repair: 'off'",
          'repair: auto, repair_delay: 1s',
        );
      let isDayOver = false;
      const punctual = (each: Message) => (each as DayMessage).isPunctual;
      inOrder = await feed.add({ folder: join(folder, 'in-order'), yaml: yaml('in-order') }, () => !isDayOver);
      shuffled = await feed.add(
        { folder: join(folder, 'shuffled'), yaml: yaml('shuffled') },
        (each) => isDayOver || punctual(each),
      );
      for (let at = START_MS; at < START_MS + DAY_MS; at += SLICE_MS) {
        await feed.moveClock(at + SLICE_MS - 10_000);
        due = day.filter(({ atMs }) => atMs >= at && atMs < at + SLICE_MS);
        await feed.step();
      }
      // From three hours after the day on, an hour apart.
      isDayOver = true;
      for (let part = 0; part < 4; part++) {
        await feed.moveClock(START_MS + DAY_MS + (3 + part) * 3_600_000);
        due = late.slice((part * late.length) / 4, ((part + 1) * late.length) / 4);
        await feed.step();
      }
      ({ endMs } = allClosed(RULES, START_MS + DAY_MS));
      const gateways = [inOrder, shuffled];
      for (const { process } of gateways) {
        await eventually('all is durable', 60_000, async () => (await durableToMs([process], partitions)) >= endMs);
      }
    });

    after(async () => {
      await feed?.end();
      for (const name of servers ? [`${prefix}-in-order`, `${prefix}-shuffled`] : []) {
        await dropTopics(kafkaConfig(servers!.brokers, { prefix: name }));
        await removeBuckets(servers!.influx, name);
      }
      if (folder) rmSync(folder, { recursive: true, force: true });
    });

    async function contents({ process }: FedGateway): Promise<string[]> {
      const rows = (await rowsOf(process, RULES)) as { rev: number }[];
      return rows.map(({ rev: _, ...row }) => JSON.stringify(row)).sort();
    }

    it('ends with the rows of the day in order, after a kill in the middle of the repairs', async () => {
      const expected = await contents(inOrder);
      assert.equal(expected.length, DEVICES.length * (24 * 6 + 24));
      assert.equal(await inOrder.process.metric('millrace_late_total'), 0);
      const lateTotal = () => shuffled.process.metric('millrace_late_total');
      await eventually(
        'the late ones are counted',
        60_000,
        async () => (await lateTotal()) >= late.length,
        async () => `${await lateTotal()} of ${late.length}`,
      );
      let wrong = expected.length;
      await eventually('some are repaired', 60_000, async () => {
        const before = wrong;
        const rows = new Set(await contents(shuffled));
        wrong = expected.filter((row) => !rows.has(row)).length;
        return wrong < before && before < expected.length;
      });
      assert.ok(wrong > 0, 'killed too late: all was repaired');
      console.log(`      killed when ${wrong} of ${expected.length} rows were not repaired yet`);
      await shuffled.killAndRestart();
      await eventually('all are repaired', 120_000, async () => {
        const rows = await contents(shuffled);
        return rows.length === expected.length && rows.every((row, i) => row === expected[i]);
      });
    });

    it('passes verify, with its late readings in the rows', async () => {
      for (const name of ['in-order', 'shuffled']) {
        const args = [MAIN, 'verify', '--config', join(folder, name, 'all.yaml'), '--json'];
        const range = ['--from', new Date(START_MS).toISOString(), '--to', new Date(endMs).toISOString()];
        const { stdout } = await promisify(execFile)(process.execPath, [...args, ...range]);
        const { differences, rowsCompared, repaired, pending, open, outOfReach } = JSON.parse(stdout);
        assert.deepEqual(
          { differences, rowsCompared, pending, open, outOfReach },
          { differences: 0, rowsCompared: DEVICES.length * (24 * 6 + 24), pending: 0, open: 0, outOfReach: 0 },
        );
        if (name === 'in-order') assert.equal(repaired, 0);
        else assert.ok(repaired > rowsCompared / 2, `${repaired} repaired`);
      }
    });
  });

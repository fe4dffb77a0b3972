/**
 * The same messages through the two ways that Millrace can be set up, the default (the spool, the embedded store) and
 * Kafka with InfluxDB, give the same rows: `GET /api/v1/rows` answers with the same text from both, byte for byte. And it
 * is the right text: the oracle agrees with each of them.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { devices, type FedGateway, Feed, message, NO_FAULTS, type Source } from '../support/feed.ts';
import { removeBuckets } from '../support/influx.ts';
import { agree, allClosed, rowText, yamlOf } from '../support/rollup-run.ts';
import { CLICKS, ENVIRONMENT, rulesFor } from '../support/run-rules.ts';
import { type InfluxServer, needInflux, needKafka } from '../support/servers.ts';

const START_MS = Date.UTC(2026, 4, 1, 9, 56);
/** Of ten seconds each: over a full hour. */
const STEPS = 36;
const PARTITIONS = 4;

const RULES = rulesFor([
  ENVIRONMENT,
  CLICKS,
  {
    name: 'odd',
    topic: 'odd/{site}/{device}/{room}',
    time: 'ts',
    metrics: ['value', 'mean'],
    windows: ['10s', '5m'],
  },
]);

const TEXTS = ['a b', 'a,b=c', '"quoted"', 'back\\', 'b\\,c', 'köln', '東京', '🌡️', "it's", '%41', 'null', '10s', '_x'];
const NUMBERS = [
  ...['0', '-0.0', '0.1', '0.30000000000000004', '1e150', '-1e150', '1e-140', '-1e-140', '1.2345678901234568e20'],
  ...['9007199254740991', '3.3333333333333335', '-2.5', '1e22', '4.35', '1e21', '-1e-7', '21.5', '1013.25', '-40'],
];

/** Extreme numbers from devices with awkward names; some readings lack a metric, some are out of range and refused. */
const odd: Source = (fromMs, toMs) =>
  TEXTS.flatMap((text, index) => {
    const messages = [];
    for (let at = fromMs + index; at < toMs; at += 1_300) {
      const i = Math.floor(at / 7) + index;
      const value = i % 11 === 0 ? '1e151' : NUMBERS[i % NUMBERS.length]!;
      const mean = i % 5 === 0 ? '' : `,"mean":${NUMBERS[(i * 3) % NUMBERS.length]}`;
      const topic = `odd/${text}/d${index}/${TEXTS[(index * 5) % TEXTS.length]}`;
      messages.push(message(`odd-${index}`, topic, `{"ts":${at},"value":${value}${mean}}`, i % 6 === 0 ? 2 : 1));
    }
    return messages;
  });

describe('the default and Kafka with InfluxDB', function () {
  this.timeout(180_000);
  let folder: string;
  let influx: InfluxServer;
  let bucket: string;
  let feed: Feed;
  let embedded: FedGateway;
  let distributed: FedGateway;
  let endMs: number;

  before(async function () {
    const brokers = needKafka(this);
    influx = needInflux(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-two-stores-'));
    bucket = `two-${randomUUID().slice(0, 8)}`;
    const common = { seed: 7, jitter: 0.3, startMs: START_MS, clockOffsetMs: 2_000, flapping: 0 };
    const environment = devices(8, {
      ...{ ...common, profile: 'environment', topic: 'sensors/{site}/{device}/environment', intervalMs: 3_000 },
      rates: { ...NO_FAULTS, duplicate: 0.1, gap: 0.05, malformed: 0.02, future: 0.02 },
    });
    const clicks = devices(10, {
      ...{ ...common, profile: 'clicks', topic: 'web/shop/clicks', intervalMs: 3_000 },
      rates: { ...NO_FAULTS, duplicate: 0.1 },
    });
    feed = new Feed({ folder, startMs: START_MS, sources: [environment, clicks, odd] });
    const { url, org, token } = influx;
    const servers = `kafka: { brokers: [${brokers}], prefix: ${bucket}, group: ${bucket}, partitions: ${PARTITIONS}, linger: 10ms }
influx: { url: "${url}", org: ${org}, token: "${token}", bucket: ${bucket} }`;
    embedded = await feed.add({ folder: join(folder, 'embedded'), yaml: yamlOf(RULES) });
    distributed = await feed.add({ folder: join(folder, 'distributed'), yaml: yamlOf(RULES, servers) });
    for (let step = 0; step < STEPS; step++) await feed.step();
    const closed = allClosed(RULES, feed.nowMs + 2_000);
    endMs = closed.endMs;
    await feed.moveClock(closed.clockMs);
  });

  after(async () => {
    await feed?.end();
    if (bucket) await removeBuckets(influx, bucket);
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  function agreed(context: string, { process, deliveries }: FedGateway, partitions: number) {
    const which = { rules: RULES, gateway: process, rollups: [process], partitions, toMs: endMs };
    return agree(context, { ...which, deliveries: () => deliveries });
  }

  it('both have every row right', async () => {
    const verdict = await agreed('embedded', embedded, 1);
    const other = await agreed('Kafka and InfluxDB', distributed, PARTITIONS);
    assert.deepEqual(other, verdict);
    assert.equal(verdict.open, 0);
    assert.ok(verdict.exact > 2_000, `${verdict.exact} rows`);
    console.log(`      ${verdict.exact} rows of ${verdict.counted} readings`);
  });

  for (const { name, windows } of RULES.streams) {
    it(`answer with the same text for ${name}, ${windows.join(', ')}`, async () => {
      for (const window of windows) {
        const text = await rowText(embedded.process, name, window);
        assert.notEqual(text, '');
        assert.equal(await rowText(distributed.process, name, window), text);
      }
    });
  }
});

/**
 * `millrace audit`, the program as its users run it: a gateway that was killed again and again balances; one record taken out
 * of Kafka, one row taken out of InfluxDB, one account taken away are found, and named by device and minute.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { loadConfig } from '../../src/config.ts';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { kafkaSender } from '../../src/journal/kafka-sender.ts';
import { kafkaTopics, prepareTopics } from '../../src/journal/kafka-topics.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import type { StoredRecord } from '../../src/log.ts';
import { decodeAccount } from '../../src/parts/account.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import type { StreamRules } from '../../src/torture/ledger-readings.ts';
import { everySecond, type FedGateway, Feed, type Message, message, type Source } from '../support/feed.ts';
import { runMillrace } from '../support/gateway-process.ts';
import { removeBuckets } from '../support/influx.ts';
import { allClosed, durableToMs, eventually, type RunRules, yamlOf } from '../support/rollup-run.ts';
import { rulesFor, TEMPERATURE } from '../support/run-rules.ts';
import { type InfluxServer, needInflux, needKafka } from '../support/servers.ts';

const START_MS = Date.UTC(2026, 4, 1, 10);
const STEPS = 18;
const PARTITIONS = 3;
const DEVICES = ['a', 'b', 'c'];
const RULES = rulesFor([TEMPERATURE], { graceMs: 1_000 });

/** A reading a second of each; each minute one of b is no JSON, and one of c is sent twice. */
const readings = everySecond(DEVICES, (device, atMs) => {
  const second = (atMs / 1_000) % 60;
  return {
    payload: device === 'b' && second === 7 ? 'no' : JSON.stringify({ ts: atMs + 1, temperature: second }),
    copies: device === 'c' && second === 9 ? 2 : 1,
  };
});
const MINUTES = (STEPS * 10) / 60;
const RECEIVED = STEPS * 10 * DEVICES.length + MINUTES;

interface Audited {
  readonly code: number | null;
  readonly text: string;
  readonly report: {
    readonly balanced: boolean;
    readonly totals: Record<string, number>;
    readonly devices: Record<string, Record<string, number>>;
    readonly imbalances: readonly { device: string; minuteMs: number; kind: string; readings: number }[];
    readonly rows: readonly { device: string; minuteMs: number; difference: { kind: string } }[];
    readonly gaps: readonly unknown[];
    readonly notAccountedYet: number;
    readonly withoutBooks: number;
    readonly found: readonly Record<string, unknown>[] | null;
  };
}

async function audit(file: string, ...more: string[]): Promise<Audited> {
  const { code, out, err } = await runMillrace(['audit', '--config', file, '--json', ...more]);
  assert.match(out, /^\{/, err);
  return { code, text: out + err, report: JSON.parse(out) };
}

function terms(totals: Record<string, number>, ...names: string[]): Record<string, number> {
  return Object.fromEntries(names.map((name) => [name, totals[name]!]));
}

/** Of the first two minutes, which have their accounts: the gateway in its own thread, over HTTP, while everything runs. */
async function auditOver(gateway: FedGateway): Promise<Audited['report']> {
  const answer = await gateway.process.get(`/api/v1/audit?from=${START_MS}&to=${START_MS + 120_000}`);
  assert.equal(answer.status, 200);
  return (await answer.json()) as Audited['report'];
}

async function assertSame(overHttp: Audited['report'], file: string): Promise<void> {
  const { report } = await audit(file, '--from', String(START_MS), '--to', String(START_MS + 120_000));
  assert.ok(overHttp.totals.received! > 0);
  for (const part of ['balanced', 'totals', 'devices', 'imbalances', 'rows', 'gaps'] as const) {
    assert.deepEqual(overHttp[part], report[part], part);
  }
}

/** Killed in the middle of a minute, of which an account tells one part and the spool the rest. */
async function feedAndKill(
  feed: Feed,
  gateway: FedGateway,
  folder: string,
  rules: RunRules,
): Promise<{ endMs: number }> {
  const options = {
    folder: join(folder, 'gateway', 'data', 'spool'),
    clock: systemClock,
    telemetry: silentTelemetry(),
  };
  const accounts = async () => {
    const spool = openSpoolReader(options);
    let count = 0;
    for await (const { records } of spool.range(0, 0, Number.MAX_SAFE_INTEGER)) {
      count += records.filter(({ kind }) => kind === 'account').length;
    }
    await spool.close();
    return count;
  };
  for (let step = 0; step < STEPS; step++) {
    await feed.step();
    const minutes = (step + 1) / 6;
    if (Number.isInteger(minutes))
      await eventually('the minute has its account', 20_000, async () => (await accounts()) >= minutes);
    if (step === 3 || step === 8) await gateway.killAndRestart();
  }
  const { endMs, clockMs } = allClosed(rules, feed.nowMs);
  await feed.moveClock(clockMs + 60_000);
  return { endMs };
}

interface Wish {
  readonly source: Source;
  readonly rules: RunRules;
  /** Sections of the configuration; without Kafka's the spool is the log, of one partition. */
  readonly servers?: string;
  readonly partitions?: number;
  readonly whileItRuns?: (gateway: FedGateway) => Promise<void>;
}

/** A gateway, fed, killed and started again; answers its configuration and the end of what is to be audited. */
async function runToTheEnd(folder: string, wish: Wish): Promise<{ file: string; to: string }> {
  const { source, rules, servers, partitions = 1, whileItRuns } = wish;
  const feed = new Feed({ folder, startMs: START_MS, sources: [source] });
  try {
    const gateway = await feed.add({ folder: join(folder, 'gateway'), yaml: yamlOf(rules, servers) });
    const { endMs } = await feedAndKill(feed, gateway, folder, rules);
    await eventually('all is durable', 60_000, async () => (await durableToMs([gateway.process], partitions)) >= endMs);
    await whileItRuns?.(gateway);
    return { file: join(folder, 'gateway', 'all.yaml'), to: String(feed.nowMs + 60_000) };
  } finally {
    await feed.end();
  }
}

describe('the audit', function () {
  this.timeout(120_000);

  describe('of a gateway alone, whose spool is the log', () => {
    let folder: string;
    let file: string;
    let to: string;
    let overHttp: Audited['report'];
    let words: Awaited<ReturnType<typeof runMillrace>>;

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'millrace-audit-'));
      ({ file, to } = await runToTheEnd(folder, {
        source: readings,
        rules: RULES,
        async whileItRuns(gateway) {
          overHttp = await auditOver(gateway);
          const url = `http://127.0.0.1:${gateway.process.httpPort}`;
          const range = ['--from', String(START_MS), '--to', String(START_MS + 120_000)];
          words = await runMillrace(['audit', '--url', url, ...range]);
        },
      }));
    });

    after(() => {
      if (folder) rmSync(folder, { recursive: true, force: true });
    });

    it('balances after kills, with every reading in exactly one term, also by device', async () => {
      const { code, report, text } = await audit(file, '--to', to);
      assert.equal(code, 0, text);
      const { totals, devices } = report;
      const all = terms(
        totals,
        'received',
        'forwarded',
        'deadLettered',
        'refused',
        'spooled',
        'missing',
        'unaccounted',
      );
      const wanted = { received: RECEIVED, forwarded: RECEIVED - MINUTES, deadLettered: MINUTES };
      assert.deepEqual(all, { ...wanted, refused: 0, spooled: 0, missing: 0, unaccounted: 0 });
      const fates = terms(totals, 'logRecords', 'counted', 'open', 'late', 'duplicate', 'unreadable', 'outOfReach');
      const counted = RECEIVED - 2 * MINUTES;
      const none = { open: 0, late: 0, unreadable: 0, outOfReach: 0 };
      assert.deepEqual(fates, { logRecords: RECEIVED - MINUTES, counted, duplicate: MINUTES, ...none });
      assert.deepEqual([report.notAccountedYet, report.withoutBooks], [0, 0]);
      assert.deepEqual(terms(devices.b!, 'received', 'forwarded', 'deadLettered'), {
        received: STEPS * 10,
        forwarded: STEPS * 10 - MINUTES,
        deadLettered: MINUTES,
      });
      assert.equal(devices.c!.duplicate, MINUTES);
    });

    it('is answered by the running gateway too, over HTTP and in the words of audit --url', async () => {
      await assertSame(overHttp, file);
      assert.equal(words.code, 0, words.err);
      assert.match(words.out, /^Everything balances\.$/m);
      const gone = await runMillrace(['audit', '--url', 'http://127.0.0.1:1']);
      assert.deepEqual([gone.code, /no gateway answers at/.test(gone.err)], [1, true], gone.err);
    });

    it('says the same of one device alone, in words too', async () => {
      const { code, out } = await runMillrace(['audit', '--config', file, '--device', 'c', '--to', to]);
      assert.equal(code, 0, out);
      assert.match(out, /received 183 = forwarded 183 \+ dead-lettered 0 \+ refused 0 \+ spooled 0$/m);
      assert.match(out, /log records 183 = counted 180 \+ open 0 \+ late 0 \+ duplicate 3$/m);
      assert.match(out, /^Everything balances\.$/m);
    });

    it('draws the way of one reading, and says so when there is none', async () => {
      const at = START_MS + 42_001;
      const way = ['audit', '--config', file, '--to', to, '--device', 'a', '--reading'];
      const { code, out } = await runMillrace([...way, new Date(at).toISOString()]);
      assert.equal(code, 0, out);
      assert.match(out, /^device {4}2026-05-01T10:00:42.001Z {2}event time, stream environment$/m);
      assert.match(
        out,
        /^gateway {3}2026-05-01T10:00:40.000Z {2}received, 2.001 s earlier: .*topic sensors\/attic\/a/m,
      );
      assert.match(out, /^spool {5}offset \d+ of the spool [0-9a-f]{12}/m);
      assert.match(out, /^window {4}10s +2026-05-01T10:00:40.000Z to .* stored: temperature 10$/m);
      assert.match(out, /^window {4}1m +2026-05-01T10:00:00.000Z to .* stored: temperature 60$/m);
      const none = await runMillrace([...way, new Date(at + 1).toISOString()]);
      assert.equal(none.code, 1);
      assert.match(none.out, /^No reading of a with the event time 2026-05-01T10:00:42.002Z is in the log/);
    });

    it('refuses a command line that says nothing, with 2', async () => {
      const { code, err } = await runMillrace(['audit', '--config', file, '--reading', '2026-05-01']);
      assert.equal(code, 2);
      assert.match(err, /--reading needs --device/);
    });
  });

  describe('of a stream whose key is in the payload and no tag', () => {
    /** The feed's only connection. */
    const CLIENT = 'feed-0';
    const CLICKS: StreamRules = {
      ...TEMPERATURE,
      name: 'clicks',
      topic: 'web/{app}/clicks',
      identity: ['user', 'ts'],
      metrics: ['ms'],
    };
    let folder: string;
    let file: string;
    let to: string;

    /** A click a second of each user, from one page; each minute one is no JSON, so that nobody knows whose it was. */
    const clicks: Source = (fromMs, toMs) => {
      const messages: Message[] = [];
      for (let atMs = fromMs; atMs < toMs; atMs += 1_000) {
        for (const user of ['u1', 'u2']) {
          const broken = user === 'u2' && (atMs / 1_000) % 60 === 7;
          const payload = broken ? 'no' : JSON.stringify({ ts: atMs + 1, user, ms: 5 });
          messages.push(message('shop', 'web/shop/clicks', payload));
        }
      }
      return messages;
    };

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'millrace-audit-'));
      ({ file, to } = await runToTheEnd(folder, { source: clicks, rules: { ...RULES, streams: [CLICKS] } }));
    });

    after(() => {
      if (folder) rmSync(folder, { recursive: true, force: true });
    });

    it('balances by that key, and has what could not be read under the client that sent it', async () => {
      const { code, report, text } = await audit(file, '--to', to);
      assert.equal(code, 0, text);
      assert.deepEqual(report.imbalances, []);
      const seconds = STEPS * 10;
      const found = Object.fromEntries(
        Object.entries(report.devices).map(([device, totals]) => [
          device,
          terms(totals, 'received', 'forwarded', 'deadLettered', 'counted'),
        ]),
      );
      assert.deepEqual(found, {
        u1: { received: seconds, forwarded: seconds, deadLettered: 0, counted: seconds },
        u2: { received: seconds - MINUTES, forwarded: seconds - MINUTES, deadLettered: 0, counted: seconds - MINUTES },
        [CLIENT]: { received: MINUTES, forwarded: 0, deadLettered: MINUTES, counted: 0 },
      });
    });

    it('says the same of one key alone', async () => {
      const { code, report, text } = await audit(file, '--to', to, '--device', 'u2');
      assert.equal(code, 0, text);
      const readings = STEPS * 10 - MINUTES;
      const found = terms(report.totals, 'received', 'forwarded', 'deadLettered', 'counted');
      assert.deepEqual(found, { received: readings, forwarded: readings, deadLettered: 0, counted: readings });
    });
  });

  describe('of Kafka and InfluxDB', () => {
    const name = `audit-${randomUUID().slice(0, 8)}`;
    let folder: string;
    let file: string;
    let influx: InfluxServer;
    let to: string;
    let overHttp: Audited['report'];

    before(async function () {
      const brokers = needKafka(this);
      influx = needInflux(this);
      folder = mkdtempSync(join(tmpdir(), 'millrace-audit-'));
      const { url, org, token } = influx;
      const servers = `kafka: { brokers: [${brokers}], prefix: ${name}, group: ${name}, partitions: ${PARTITIONS}, linger: 10ms }
influx: { url: "${url}", org: ${org}, token: "${token}", bucket: ${name} }`;
      ({ file, to } = await runToTheEnd(folder, {
        ...{ source: readings, rules: RULES, servers, partitions: PARTITIONS },
        async whileItRuns(gateway) {
          overHttp = await auditOver(gateway);
        },
      }));
    });

    after(async () => {
      if (influx) await removeBuckets(influx, name);
      if (folder) rmSync(folder, { recursive: true, force: true });
    });

    it('is answered by the running gateway too, over HTTP', () => assertSame(overHttp, file));

    it('balances after kills', async () => {
      const { code, report, text } = await audit(file, '--to', to);
      assert.equal(code, 0, text);
      const wanted = { received: RECEIVED, forwarded: RECEIVED - MINUTES, deadLettered: MINUTES, missing: 0 };
      assert.deepEqual(terms(report.totals, 'received', 'forwarded', 'deadLettered', 'missing'), wanted);
      const { logRecords, counted, open, late, duplicate } = report.totals as Record<string, number>;
      assert.equal(logRecords, counted! + open! + late! + duplicate!);
      assert.equal(counted, RECEIVED - 2 * MINUTES);
    });

    /** The same topics under another name, less what is not to be in them. */
    async function copied(as: string, keep: (record: StoredRecord) => boolean): Promise<string> {
      const text = readFileSync(file, 'utf8').replace(`prefix: ${name}`, `prefix: ${as}`);
      const path = join(folder, 'gateway', `${as}.yaml`);
      writeFileSync(path, text);
      const [from, into] = [await kafkaOf(file), await kafkaOf(path)];
      const telemetry = silentTelemetry();
      assert.ok((await prepareTopics(into, telemetry)).ok);
      for (const role of ['readings', 'deadletters', 'accounts'] as const) {
        const [source, target] = [kafkaTopics(from)[role], kafkaTopics(into)[role]];
        const reader = kafkaReader(from, source, telemetry);
        for (let partition = 0; partition < source.partitions; partition++) {
          for await (const batch of reader.range(partition, 0, Number.MAX_SAFE_INTEGER)) {
            for (const record of batch.records.filter(keep)) {
              const { origin } = record;
              const sender = senders.get(origin!.spool) ?? kafkaSender(into, 'copy', telemetry, origin!.spool);
              senders.set(origin!.spool, sender);
              const sent = { ...record, offset: origin!.offset };
              const outcome = await sender.send([{ topic: target, partition, records: [sent] }]);
              assert.ok(outcome.ok);
            }
          }
        }
        await reader.close();
      }
      for (const sender of senders.values()) await sender.close();
      senders.clear();
      return path;
    }
    const senders = new Map<string, ReturnType<typeof kafkaSender>>();

    async function kafkaOf(path: string) {
      const loaded = await loadConfig(path, process.env);
      assert.ok(loaded.ok);
      return loaded.config.kafka!;
    }

    it('finds one record that is gone from Kafka: device and minute', async () => {
      let gone = 0;
      const path = await copied(`${name}-less`, (record) => {
        const isIt = record.kind === 'reading' && record.key === 'b' && record.receivedMs === START_MS + 90_000;
        const isFirst = isIt && gone === 0;
        if (isFirst) gone++;
        return !isFirst;
      });
      assert.equal(gone, 1);
      const { code, report, text } = await audit(path, '--to', to);
      assert.equal(code, 1, text);
      const { imbalances, rows } = report;
      assert.deepEqual(imbalances, [{ device: 'b', minuteMs: START_MS + 60_000, kind: 'missing', readings: 1 }]);
      // The rows were written when it was there.
      assert.deepEqual(
        rows.map(({ device, minuteMs, difference }) => [device, minuteMs, difference.kind]),
        [
          ['b', START_MS + 60_000, 'different'],
          ['b', START_MS + 60_000, 'different'],
        ],
      );
      const words = await runMillrace(['audit', '--config', path, '--to', to]);
      assert.match(
        words.out,
        /^NOT BALANCED {2}b {2}2026-05-01T10:01 {2}1 reading was taken in by a gateway and is not/m,
      );
      assert.match(words.out, /^3 places do not balance\.$/m);
    });

    it('finds an account that is gone: what it counted has nobody who took it in', async () => {
      // By where it begins: a kill leaves copies.
      const begins = new Set<number>();
      const path = await copied(`${name}-unaccounted`, ({ kind, value }) => {
        if (kind !== 'account') return true;
        const { from } = decodeAccount(value)!;
        begins.add(from);
        return [...begins].indexOf(from) !== 1;
      });
      assert.ok(begins.size > 2);
      const { code, report } = await audit(path, '--to', to);
      assert.equal(code, 1);
      assert.equal(report.gaps.length, 1);
      assert.ok(report.totals.unaccounted! > 0);
      assert.equal(report.totals.missing, 0);
    });

    it('finds one row that is gone from InfluxDB: device and minute', async () => {
      const { url, token } = influx;
      const q = `DELETE FROM environment WHERE device = 'c' AND time = ${START_MS + 130_000}ms`;
      const headers = { authorization: `Token ${token}` };
      const query = new URLSearchParams({ db: `${name}_10s`, q });
      const answer = await fetch(`${url}/query?${query}`, { method: 'POST', headers });
      assert.equal((await answer.text()).includes('error'), false);
      const { code, report } = await audit(file, '--to', to);
      assert.equal(code, 1);
      assert.deepEqual(
        report.rows.map(({ device, minuteMs, difference }) => [device, minuteMs, difference.kind]),
        [['c', START_MS + 120_000, 'missing']],
      );
      assert.deepEqual(report.imbalances, []);
      const other = await audit(file, '--to', to, '--device', 'a');
      assert.equal(other.code, 0);
    });
  });
});

/**
 * The running gateway while its Kafka is killed, frozen, refuses a record, or is not there at all: devices go on being
 * acknowledged from the spool (with `ack: kafka` they wait), and in the end Kafka has every acknowledged reading, first
 * occurrences in order for each device. Each test proves that the fault happened.
 * `MILLRACE_KAFKA_OUTAGE=60` for the long form, in seconds.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigResourceTypes } from 'kafkajs';
import { freePort } from '../../compose/stack/launch.ts';
import { type InfluxServer, type KafkaServer, startInflux, startKafka } from '../../compose/stack/servers.ts';
import { systemClock } from '../../src/clock.ts';
import { decodeReading, decodeRefusal } from '../../src/reading.ts';
import { withAdmin } from '../journal/kafka-fixture.ts';
import { type GatewayProcess, runMillrace, startGateway, startSimulator } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { needInflux, needKafka, needTime } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { acknowledged, books, drained, KafkaSide, kafkaYaml, type Load, startLoad } from './kafka-gateway.ts';
import { type Comparison, Ledger, payloadOf } from './ledger.ts';

const OUTAGE_S = Number(process.env.MILLRACE_KAFKA_OUTAGE ?? 5);
const RATE = 2_000;
const DEADLINE_MS = 60_000;
/** Readings that wait when Kafka comes back, and what a live one must not wait for them. */
const PILED = 400_000;
const STARVED_MS = 2_000;

describe('A gateway whose Kafka', function () {
  this.timeout(240_000 + OUTAGE_S * 2_000);
  let dir: string;
  let server: KafkaServer;
  let folder: string;
  let prefix: string;
  let gateway: GatewayProcess | null;
  let load: Load | null;
  let ledger: Ledger;

  before(async function () {
    needKafka(this); // where there is one for all, the parts for one of our own are there too
    dir = mkdtempSync(join(tmpdir(), 'millrace-fault-kafka-'));
    server = await startKafka({ dir });
  });
  after(async () => {
    await server?.kill();
    if (dir) rmSync(dir, { recursive: true, force: true });
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-fault-'));
    prefix = `fault-${randomUUID().slice(0, 8)}`;
    ledger = new Ledger();
    gateway = null;
    load = null;
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.log(gateway?.log());
    if (server && !server.running()) await server.restart();
    await gateway?.end('SIGKILL');
    await load?.end(ledger).catch(() => {});
    rmSync(folder, { recursive: true, force: true });
  });

  async function start(more = '', loaded = true): Promise<GatewayProcess> {
    gateway = await startGateway({ folder, yaml: kafkaYaml(server.brokers, prefix, more), role: 'gateway' });
    if (loaded) load = await startLoad(gateway, { folder, name: 'load', rate: RATE });
    return gateway;
  }

  async function endLoad(): Promise<{ sent: number; acknowledged: number }> {
    const ended = await load!.end(ledger);
    load = null;
    return ended;
  }

  async function inKafka(least = 500): Promise<Comparison> {
    const report = await new KafkaSide(server.brokers, prefix).compare(ledger);
    assert.equal(report.lost.count, 0, `acknowledged and not in Kafka: ${JSON.stringify(report)}`);
    assert.equal(report.disordered, 0, `first occurrences out of order: ${JSON.stringify(report)}`);
    assert.equal(report.neverSent, 0);
    assert.equal(report.altered, 0);
    assert.ok(report.acknowledged >= least, `there was a load: ${JSON.stringify(report)}`);
    return report;
  }

  async function failures(running: GatewayProcess): Promise<number> {
    return running.metric('millrace_forward_failures_total');
  }

  it(`is killed under load for ${OUTAGE_S} s and comes back goes on acknowledging, and all of it is in Kafka afterwards`, async () => {
    const running = await start();
    await until(
      async () => (await running.metric('millrace_forwarded_total')) > 200,
      DEADLINE_MS,
      'records are forwarded',
    );
    await server.kill();
    const before = await acknowledged(running);
    await until(async () => (await failures(running)) > 0, DEADLINE_MS, 'the outage is felt');
    await sleep(OUTAGE_S * 1_000);
    const during = await acknowledged(running);
    const away = await books(running);
    assert.ok(away.spooled > during - before, `the ledger says what waits: ${JSON.stringify(away)}`);
    assert.ok(during > before + 200, `acknowledged from the spool: ${during - before}`);
    const ready = await running.get('/readyz');
    assert.equal(ready.status, 200);
    assert.match(await ready.text(), /acknowledged and wait in the spool/);
    await server.restart();
    const forwarded = await running.metric('millrace_forwarded_total');
    await until(
      async () => (await running.metric('millrace_forwarded_total')) > forwarded + 500,
      DEADLINE_MS,
      'live again',
    );
    const live = await acknowledged(running);
    await until(
      async () => {
        await books(running);
        return (await acknowledged(running)) > live + 200;
      },
      DEADLINE_MS,
      'live traffic goes on',
    );
    const { sent, acknowledged: known } = await endLoad();
    assert.equal(known, sent, 'nothing went unacknowledged');
    await drained(running);
    const end = await books(running);
    assert.deepEqual([end.received, end.forwarded, end.spooled], [sent, sent, 0]);
    await inKafka();
    await until(
      async () => !(await (await running.get('/readyz')).text()).includes('wait in the spool'),
      DEADLINE_MS,
      'well',
    );
  });

  it('comes back to a spool full of what piled up acknowledges live readings all along while that drains', async function () {
    needTime(this);
    const running = await start(`spool: { history: 64MiB }\n`, false);
    await server.kill();
    const piling = startSimulator('load', [
      ...['--url', `mqtt://127.0.0.1:${running.mqttPort}`, '--connections', '20', '--in-flight', '50'],
      ...['--messages', String(PILED), '--duration', '0s', '--client', 'piled-', '--ledger', join(folder, 'piled')],
    ]);
    assert.equal((await piling.ended).code, 0);
    ledger.read(join(folder, 'piled'));
    load = await startLoad(running, { folder, name: 'live', rate: 500 });
    const waiting = async () => (await running.metric('millrace_spool_backlog_records')) >= PILED;
    await until(waiting, DEADLINE_MS, 'all of it waits');
    const probe = await RawClient.connected(running.mqttPort, { clientId: 'probe' });
    // it drains from the moment when Kafka listens, which is before its start is over
    const restarted = server.restart();
    const waits: number[] = [];
    let whileDraining = 0;
    let backlog = PILED;
    while (backlog >= PILED / 10) {
      const seq = waits.length;
      const sentMs = performance.now();
      probe.publish('sensors/kill/probe/environment', payloadOf(systemClock.nowMs(), seq), 1, seq + 1);
      await probe.until('puback', seq + 1);
      waits.push(performance.now() - sentMs);
      ledger.add('probe', seq, true);
      if (backlog < 0.95 * PILED) whileDraining++;
      await sleep(20);
      // looked at once a second
      backlog = await running.metric('millrace_spool_backlog_records');
    }
    await restarted;
    probe.end();
    const slowestMs = Math.max(...waits);
    assert.ok(whileDraining >= 10, `${whileDraining} live readings while it drained`);
    assert.ok(slowestMs < STARVED_MS, `one waited ${slowestMs} ms`);
    const { sent, acknowledged: known } = await endLoad();
    assert.equal(known, sent);
    await drained(running);
    await inKafka(PILED);
  });

  it('hangs longer than a request may take is forwarded to again, nothing lost, nothing out of order', async function () {
    needTime(this);
    const running = await start();
    await until(
      async () => (await running.metric('millrace_forwarded_total')) > 200,
      DEADLINE_MS,
      'records are forwarded',
    );
    server.freeze();
    try {
      const before = await acknowledged(running);
      await until(async () => (await failures(running)) > 0, DEADLINE_MS, 'a request times out');
      assert.ok((await acknowledged(running)) > before, 'acknowledged meanwhile');
    } finally {
      server.thaw();
    }
    const { sent, acknowledged: known } = await endLoad();
    assert.equal(known, sent);
    await drained(running);
    await inKafka();
  });

  it('is away, with ack: kafka, acknowledges nothing until it is back, and what it acknowledged is in Kafka at once', async () => {
    const running = await start('ack: kafka\n');
    await server.kill();
    await until(async () => (await failures(running)) > 0, DEADLINE_MS, 'the outage is felt');
    const stopped = await acknowledged(running);
    await sleep(2_000);
    assert.equal(await acknowledged(running), stopped, 'no device is acknowledged');
    await server.restart();
    await until(async () => (await acknowledged(running)) > stopped + 500, DEADLINE_MS, 'acknowledgements go on');
    await endLoad();
    await inKafka();
  });

  it('is killed together with the gateway has everything acknowledged once both are back', async () => {
    let running = await start();
    await until(
      async () => (await running.metric('millrace_forwarded_total')) > 200,
      DEADLINE_MS,
      'records are forwarded',
    );
    const gone = running.end('SIGKILL');
    await server.kill();
    await gone;
    await endLoad();
    running = await start('', false);
    await server.restart();
    load = await startLoad(running, { folder, name: 'second', rate: RATE });
    await endLoad();
    await drained(running);
    await inKafka();
  });

  it('is away when the gateway is told to stop does not keep it from stopping; the next one forwards what is left', async function () {
    needTime(this);
    let running = await start();
    await until(
      async () => (await running.metric('millrace_forwarded_total')) > 200,
      DEADLINE_MS,
      'records are forwarded',
    );
    await server.kill();
    await until(async () => (await failures(running)) > 0, DEADLINE_MS, 'the outage is felt');
    const fromMs = systemClock.monotonicMs();
    assert.equal(await running.end('SIGTERM'), 0);
    const tookMs = systemClock.monotonicMs() - fromMs;
    assert.ok(tookMs < 40_000, `stopped after ${tookMs} ms`);
    await endLoad();
    running = await start('', false);
    await server.restart();
    await drained(running);
    const report = await inKafka();
    assert.ok(report.stored >= report.acknowledged);
  });

  it('refuses a record for good keeps it as a dead letter with the reason, and nothing behind it waits', async () => {
    const running = await start('', false);
    const side = new KafkaSide(server.brokers, prefix);
    await until(async () => (await side.records('readings').catch(() => [])).length > 0, DEADLINE_MS, 'ticks flow');
    await withAdmin(server.brokers, (admin) =>
      admin.alterConfigs({
        validateOnly: false,
        resources: [
          {
            type: ConfigResourceTypes.TOPIC,
            name: `${prefix}.readings`,
            configEntries: [{ name: 'max.message.bytes', value: '20000' }],
          },
        ],
      }),
    );
    const client = await RawClient.connected(running.mqttPort, { clientId: 'mixed' });
    const large = noise(40_000);
    const payloads = Array.from({ length: 40 }, (_, seq) => {
      const pad = seq % 10 === 5 ? `,"pad":"${large}"` : '';
      return `{"ts":${systemClock.nowMs()},"seq":${seq},"temperature":20${pad}}`;
    });
    payloads.forEach((payload, seq) => {
      client.publish('sensors/a/mixed/environment', payload, 1, seq + 1);
    });
    await client.until('puback', payloads.length);
    await drained(running);
    const letters = (await side.records('deadletters')).map(
      ({ value }) => decodeRefusal(Buffer.from(value).toString())!,
    );
    assert.equal(letters.length, 4);
    const { received, forwarded, dead_lettered } = await books(running);
    assert.deepEqual({ received, forwarded, dead_lettered }, { received: 40, forwarded: 36, dead_lettered: 4 });
    for (const letter of letters) {
      assert.equal(letter.code, 'log-refused');
      assert.match(letter.reason, /max\.message\.bytes/);
      const { sequence } = decodeReading(Buffer.from(letter.payload).toString())!;
      assert.ok(Buffer.from(letter.payload).includes(payloads[sequence!]!), 'the reading is whole');
    }
    const kept = (await side.records('readings')).filter(({ kind }) => kind === 'reading');
    const sequences = kept.map(({ value }) => decodeReading(Buffer.from(value).toString())!.sequence!);
    assert.deepEqual(
      [...new Set(sequences)],
      payloads.map((_, seq) => seq).filter((seq) => seq % 10 !== 5),
    );
    const listed = await runMillrace(['deadletters', 'list', '--config', join(folder, 'gateway.yaml'), '--json']);
    assert.equal(listed.code, 0, listed.err);
    assert.equal(listed.out.trim().split('\n').length, 4);
    client.end();
  });

  it('is away while 160 MiB arrive keeps its memory flat', async function () {
    needTime(this);
    const running = await start('', false);
    await until(async () => (await running.metric('millrace_forwarded_total')) > 0, DEADLINE_MS, 'ticks flow');
    await server.kill();
    const client = await RawClient.connected(running.mqttPort, { clientId: 'heavy' });
    const pad = noise(100_000);
    const publish = async (from: number, count: number) => {
      for (let seq = from; seq < from + count; seq++) {
        const payload = `{"ts":${systemClock.nowMs()},"seq":${seq},"temperature":20,"pad":"${pad}"}`;
        client.publish(`sensors/a/heavy${seq % 10}/environment`, payload, 1, (seq % 60_000) + 1);
        if (seq % 20 === 19) await client.until('puback', seq - 10);
      }
      await client.until('puback', from + count - 1);
    };
    // what forward may hold in memory is in memory by then
    await publish(1, 500);
    const before = residentBytes(running);
    const samples: number[] = [];
    for (let part = 0; part < 8; part++) {
      await publish(501 + part * 150, 150);
      samples.push(residentBytes(running));
    }
    client.end();
    await until(
      async () => (await running.metric('millrace_spool_bytes')) > 150 * 2 ** 20,
      DEADLINE_MS,
      'the spool has it',
    );
    assert.ok((await failures(running)) > 0, 'Kafka was away');
    const grownMiB = (Math.max(...samples) - before) / 2 ** 20;
    console.log(`      resident MiB: ${mib(before)}, then ${samples.map(mib)}`);
    assert.ok(
      grownMiB < 80,
      `resident memory grew by ${grownMiB.toFixed()} MiB: ${samples.map(mib)} from ${mib(before)}`,
    );
    await server.restart();
    await drained(running);
    const kept = await new KafkaSide(server.brokers, prefix).records('readings');
    const sequences = kept
      .filter(({ kind }) => kind === 'reading')
      .map(({ value }) => decodeReading(Buffer.from(value).toString())!.sequence);
    assert.equal(new Set(sequences).size, 1_700);
  });

  it('and InfluxDB are not there at the start starts, acknowledges, says so in /readyz, and heals by itself', async function () {
    needInflux(this);
    const port = await freePort();
    let influx: InfluxServer | null = null;
    const token = 'not-there-yet-not-there-yet';
    const influxDir = mkdtempSync(join(tmpdir(), 'millrace-fault-influx-'));
    await server.kill();
    try {
      const store = `influx: { url: "http://127.0.0.1:${port}", org: millrace, bucket: ${prefix}, token: ${token}, timeout: 5s }\n`;
      const quick = 'rollup: { grace: 1s, disorder: 1s, tick: 1s, live: 1s }\n';
      const running = await startGateway({ folder, yaml: kafkaYaml(server.brokers, prefix, store + quick) });
      gateway = running;
      load = await startLoad(running, { folder, name: 'early', rate: 200 });
      await until(
        async () => /"kafka","stage":"journal","state":"away"/.test(await (await running.get('/readyz')).text()),
        DEADLINE_MS,
        'says that Kafka is away',
      );
      await until(
        async () => /"influx","stage":"store","state":"away"/.test(await (await running.get('/readyz')).text()),
        DEADLINE_MS,
        'says that InfluxDB is away',
      );
      assert.equal((await running.get('/readyz')).status, 200);
      assert.equal((await running.get('/livez')).status, 200);
      await endLoad();
      influx = await startInflux({ dir: influxDir, port, token });
      await server.restart();
      await drained(running);
      await inKafka(200);
      await until(
        async () => {
          const answer = await running.get(
            `/api/v1/rows?stream=environment&window=10s&metric=temperature&from=0&to=${systemClock.nowMs()}`,
          );
          const rows = (await answer.text())
            .trim()
            .split('\n')
            .filter((line) => line.startsWith('{'));
          const counted = rows.reduce((sum, row) => sum + (JSON.parse(row) as { count: number }).count, 0);
          return counted >= [...ledger.acknowledged.values()].reduce((sum, numbers) => sum + numbers.size, 0);
        },
        90_000,
        'every acknowledged reading is counted in a row of InfluxDB',
      );
      await until(
        async () => !/"state":"(?!ok)/.test(await (await running.get('/readyz')).text()),
        DEADLINE_MS,
        'every part says that it works',
      );
    } finally {
      await gateway?.end('SIGKILL');
      await influx?.kill();
      rmSync(influxDir, { recursive: true, force: true });
    }
  });
});

/** Text that does not compress. */
function noise(length: number): string {
  let text = '';
  while (text.length < length) text += randomUUID();
  return text.slice(0, length);
}

function residentBytes(running: GatewayProcess): number {
  const pages = readFileSync(`/proc/${running.child.pid}/statm`, 'utf8').split(' ')[1];
  return Number(pages) * 4_096;
}

const mib = (bytes: number) => Math.round(bytes / 2 ** 20);

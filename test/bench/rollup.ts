/**
 * What the rollup costs as a process, from a log that was filled before: only the rollup is measured, as it catches up.
 * Readings of three metrics; windows of 10s, 1m, 15m and 1h; every device sends `--each` readings a second of the log's
 * time, so a window of one series is the same work however many series there are.
 *
 *   npm run bench -- rollup [--readings 1000000] [--devices 10,1000,10000] [--each 10] [--logs kafka,spool]
 *                           [--stores influx,embedded] [--kill] [--peers]
 *
 * Kafka and InfluxDB are those that `npm run stack -- env` names; without them their lines are left out. CPU seconds are
 * those of the whole process, all threads, less what it takes to start on an empty log. A busy machine changes them little,
 * and readings a second a lot. Memory is the most that was resident at once. `--kill` adds what a kill -9 while it catches up
 * costs: the time from the new start until rows are written again, and how many of the log's readings are in no 10 s window
 * of the store when all are closed (below 0: some are in it twice). `--peers` brings Telegraf to the log in Kafka
 * (peers/telegraf-rollup.ts says what is the same and what is not).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type Config, parseConfig } from '../../src/config.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { removeBuckets } from '../support/influx.ts';
import { byPartition } from '../support/rollup-run.ts';
import { kafkaSide } from './ingress/target.ts';
import { type RollupPeer, startTelegrafRollup } from './peers/telegraf-rollup.ts';
import { METRICS } from './rollup/load.ts';
import { fillKafka, fillSpool, type Load, removeTopics, spanMs } from './rollup/logs.ts';
import { cpuSeconds, peakMiB } from './rollup/process.ts';

const PARTITIONS = 12;
/** The least that the configuration allows: how long Kafka waits before it gives a killed process's partitions away. */
const SESSION_MS = 6_000;
const GRACE_MS = 15_000;
const DISORDER_MS = 2_000;
const POLL_MS = 100;
const LIMIT_MS = 600_000;
const RULES = `rollup: { grace: ${GRACE_MS}ms, disorder: ${DISORDER_MS}ms, repair: 'off' }
spool: { max: 20GiB, history: 20GiB }
streams:
  environment:
    topic: sensors/{site}/{device}/environment
    time: ts
    metrics: [${METRICS}]
    windows: [10s, 1m, 15m, 1h]
`;
const { MILLRACE_TEST_KAFKA, MILLRACE_TEST_INFLUX, MILLRACE_TEST_INFLUX_TOKEN = '' } = process.env;

const PEER = 'telegraf';
/** Its smallest window, and the time to write it, twice. */
const PEER_WINDOW_MS = 30_000;

type LogKind = 'kafka' | 'spool';
type StoreKind = 'influx' | 'embedded';

interface Figures {
  readonly system: 'millrace' | typeof PEER;
  readonly log: LogKind;
  readonly store: StoreKind;
  readonly devices: number;
  readonly readings: number;
  /** Null: not comparable. */
  readonly rows: number | null;
  readonly readingsPerSecond: number;
  readonly cpuSecondsPerMillion: number;
  readonly startCpuSeconds: number;
  readonly peakMiB: number;
  /** With --kill: from the new start until rows are written again. */
  readonly recoverySeconds?: number;
  /** With --kill: readings of the log that are in no window of the store, less those that are there twice. */
  readonly lost?: number;
}

export async function run(args: readonly string[] = []): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      readings: { type: 'string', default: '1000000' },
      devices: { type: 'string', default: '10,1000,10000' },
      each: { type: 'string', default: '10' },
      logs: { type: 'string', default: 'kafka,spool' },
      stores: { type: 'string', default: 'influx,embedded' },
      kill: { type: 'boolean', default: false },
      peers: { type: 'boolean', default: false },
    },
  });
  const logs = values.logs.split(',').filter((log) => log === 'spool' || MILLRACE_TEST_KAFKA) as LogKind[];
  const stores = values.stores
    .split(',')
    .filter((store) => store === 'embedded' || MILLRACE_TEST_INFLUX) as StoreKind[];
  const all: Figures[] = [];
  console.log(
    'system   log    store     devices   readings      rows  readings/s  CPU-s per million  peak MiB  recovery s      lost',
  );
  for (const log of logs) {
    for (const devices of values.devices.split(',').map(Number)) {
      const shape = { devices, perSecond: Number(values.each), readings: Number(values.readings) };
      const bench = await Bench.open(log, shape);
      try {
        for (const store of stores) {
          const measured = await bench.measure(store);
          const figures = values.kill ? { ...measured, ...(await bench.recovery(store)) } : measured;
          all.push(figures);
          console.log(line(figures));
        }
        if (values.peers && log === 'kafka' && MILLRACE_TEST_INFLUX) {
          const measured = await bench.measurePeer();
          const figures = values.kill ? { ...measured, lost: await bench.peerLoss() } : measured;
          all.push(figures);
          console.log(line(figures));
        }
      } finally {
        await bench.close();
      }
    }
  }
  return { runs: all };
}

/** One filled log. */
class Bench {
  readonly #folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
  readonly #name = `bench-${process.pid}-${Date.now().toString(36)}`;
  readonly #log: LogKind;
  readonly #load: Load;
  /** All windows that end by then close. */
  readonly #endMs: number;
  readonly #buckets = new Set<string>();
  #runs = 0;

  static async open(log: LogKind, shape: Omit<Load, 'startMs'>): Promise<Bench> {
    const endMs = Math.floor(Date.now() / 10_000) * 10_000 - 60_000;
    const load = { ...shape, startMs: 0 };
    const bench = new Bench(log, { ...load, startMs: Math.floor((endMs - spanMs(load)) / 10_000) * 10_000 }, endMs);
    if (log === 'kafka') await fillKafka(bench.#config('embedded'), bench.#load, bench.#tickMs);
    return bench;
  }

  constructor(log: LogKind, load: Load, endMs: number) {
    this.#log = log;
    this.#load = load;
    this.#endMs = endMs;
  }

  get #tickMs(): number {
    return this.#endMs + GRACE_MS + DISORDER_MS;
  }

  async measure(store: StoreKind): Promise<Figures> {
    const startCpuSeconds = await this.#startAlone(store);
    const options = this.#options(store, this.#name);
    const { devices, readings } = this.#load;
    if (this.#log === 'spool') await fillSpool(this.#config(store), this.#load, this.#tickMs);
    const gateway = await startGateway(options);
    try {
      let first: { atMs: number; counted: number } | null = null;
      await this.#until(gateway, async (frontierMs) => {
        const counted = await gateway.metric('millrace_counted_total');
        if (counted > 0) first ??= { atMs: performance.now(), counted };
        return frontierMs >= this.#endMs;
      });
      const { atMs, counted } = first ?? { atMs: Number.NaN, counted: 0 };
      const seconds = (performance.now() - atMs) / 1_000;
      const pid = gateway.child.pid!;
      const cpu = cpuSeconds(pid) - startCpuSeconds;
      return {
        ...{ system: 'millrace', log: this.#log, store, devices, readings, startCpuSeconds },
        rows: await gateway.metric('millrace_rows_written_total'),
        readingsPerSecond: (readings - counted) / seconds,
        cpuSecondsPerMillion: (cpu / readings) * 1e6,
        peakMiB: peakMiB(pid),
      };
    } finally {
      await gateway.end('SIGKILL');
      this.#runs++;
    }
  }

  /** kill -9 as soon as rows are written: seconds from the new start until rows are written again, and what is lost. */
  async recovery(store: StoreKind): Promise<{ recoverySeconds: number; lost: number }> {
    const options = this.#options(store, this.#name);
    if (this.#log === 'spool') await fillSpool(this.#config(store), this.#load, this.#tickMs);
    const before = await startGateway(options);
    await until(async () => (await before.metric('millrace_rows_written_total')) > 0);
    const counted = await before.metric('millrace_counted_total');
    await before.end('SIGKILL');
    if (counted >= this.#load.readings) throw new Error('all was counted before the kill: give more --readings');
    const killedMs = performance.now();
    // a rollup's data folder, and with it the embedded store, goes by the port
    const { mqttPort, httpPort } = before;
    const after = await startGateway({ ...options, mqttPort, httpPort });
    try {
      await until(async () => (await after.metric('millrace_rows_written_total')) > 0);
      const recoverySeconds = (performance.now() - killedMs) / 1_000;
      await this.#until(after, (frontierMs) => frontierMs >= this.#endMs);
      return { recoverySeconds, lost: this.#load.readings - (await countedIn(after)) };
    } finally {
      await after.end('SIGKILL');
      this.#runs++;
    }
  }

  /** The same log, read by Telegraf. */
  async measurePeer(): Promise<Figures> {
    const empty = await this.#startPeer(`${this.#name}-empty`);
    const startCpuSeconds = cpuSeconds(empty.pid);
    await empty.close();
    await removeTopics(this.#config('influx', `${this.#name}-empty`));
    const { devices, readings } = this.#load;
    const records = await this.#records();
    const peer = await this.#startPeer(this.#name);
    try {
      let first: { atMs: number; committed: number } | null = null;
      await until(async () => {
        const committed = await peer.committed();
        if (committed > 0) first ??= { atMs: performance.now(), committed };
        return committed >= records;
      });
      const { atMs, committed } = first ?? { atMs: Number.NaN, committed: 0 };
      const seconds = (performance.now() - atMs) / 1_000;
      const written = await windowsWritten(peer, readings);
      // else what is lost by a kill says nothing
      if (written !== readings) throw new Error(`Telegraf counted ${written} of ${readings} readings without a kill`);
      return {
        ...{ system: PEER, log: 'kafka', store: 'influx', devices, readings, startCpuSeconds },
        rows: null,
        readingsPerSecond: (records - committed) / seconds,
        cpuSecondsPerMillion: ((cpuSeconds(peer.pid) - startCpuSeconds) / readings) * 1e6,
        peakMiB: peakMiB(peer.pid),
      };
    } finally {
      await peer.close();
    }
  }

  /** kill -9 when it has read a third, and a new start: readings that are in none of its windows. */
  async peerLoss(): Promise<number> {
    const records = await this.#records();
    const peer = await this.#startPeer(this.#name);
    try {
      await until(async () => (await peer.committed()) > records / 3);
      await peer.kill();
      if ((await peer.committed()) >= records) throw new Error('all was read before the kill: give more --readings');
      await peer.start();
      await until(async () => (await peer.committed()) >= records);
      return this.#load.readings - (await windowsWritten(peer, this.#load.readings));
    } finally {
      await peer.close();
    }
  }

  async #startPeer(name: string) {
    const topic = `${name}.readings`;
    const run = this.#runs++;
    const side = await kafkaSide(MILLRACE_TEST_KAFKA!);
    // there already, but for the empty one
    await side.admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }] });
    await side.admin.disconnect();
    return startTelegrafRollup({
      ...{ brokers: MILLRACE_TEST_KAFKA!, topic, group: `${name}-${PEER}-${run}` },
      ...{ server: influxServer(), bucket: `${this.#name}_${PEER}_${run}` },
    });
  }

  /** Records in the topic up to its last reading: the tick at the end of each partition is no message to Telegraf. */
  async #records(): Promise<number> {
    const side = await kafkaSide(MILLRACE_TEST_KAFKA!);
    const count = await side.count(`${this.#name}.readings`);
    await side.admin.disconnect();
    return count - PARTITIONS;
  }

  async close(): Promise<void> {
    if (this.#log === 'kafka') await removeTopics(this.#config('embedded'));
    if (MILLRACE_TEST_INFLUX) for (const bucket of this.#buckets) await removeBuckets(influxServer(), bucket);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** CPU seconds of a start on a log without readings, until it waits for them. */
  async #startAlone(store: StoreKind): Promise<number> {
    const name = `${this.#name}-empty`;
    const gateway = await startGateway(this.#options(store, name));
    const partitions = this.#log === 'kafka' ? PARTITIONS : 1;
    await until(async () => (await byPartition(gateway, 'millrace_lag_records')).size === partitions);
    const spent = cpuSeconds(gateway.child.pid!);
    await gateway.end('SIGKILL');
    if (this.#log === 'kafka') await removeTopics(this.#config(store, name));
    return spent;
  }

  /** Answers the frontier at which the condition held. */
  async #until(
    gateway: GatewayProcess,
    condition: (frontierMs: number) => boolean | Promise<boolean>,
  ): Promise<number> {
    const partitions = this.#log === 'kafka' ? PARTITIONS : 1;
    let frontierMs = Number.NEGATIVE_INFINITY;
    await until(async () => {
      const frontiers = [...(await byPartition(gateway, 'millrace_frontier_seconds')).values()];
      frontierMs = frontiers.length < partitions ? Number.NEGATIVE_INFINITY : Math.min(...frontiers) * 1_000;
      return condition(frontierMs);
    });
    return frontierMs;
  }

  #options(store: StoreKind, name: string) {
    const role = this.#log === 'kafka' ? ('rollup' as const) : ('all' as const);
    return { folder: join(this.#folder, `${store}-${name}-${this.#runs}`), yaml: this.#yaml(store, name), role };
  }

  #yaml(store: StoreKind, name: string): string {
    const { url, org, token } = influxServer();
    const bucket = `${name}-${this.#log}${this.#runs}`;
    this.#buckets.add(bucket);
    return [
      this.#log === 'kafka' &&
        `kafka: { brokers: [${MILLRACE_TEST_KAFKA}], prefix: ${name}, group: ${name}-${store}-${this.#runs}, partitions: ${PARTITIONS}, session_timeout: ${SESSION_MS}ms }`,
      store === 'influx' && `influx: { url: "${url}", org: ${org}, token: "${token}", bucket: ${bucket} }`,
      RULES,
    ]
      .filter(Boolean)
      .join('\n');
  }

  #config(store: StoreKind, name = this.#name): Config {
    const data = join(this.#options(store, name).folder, 'data');
    const loaded = parseConfig(`data: ${data}\n${this.#yaml(store, name)}`, {
      ...{ file: 'bench.yaml', env: {}, baseFolder: this.#folder, hostName: 'bench' },
    });
    if (!loaded.ok) throw new Error(JSON.stringify(loaded));
    return loaded.config;
  }
}

/** Readings that its smallest windows hold, of one metric. */
async function countedIn(gateway: GatewayProcess): Promise<number> {
  const answer = await gateway.get(`/api/v1/rows?stream=environment&window=10s&metric=${METRICS[0]}&from=0`);
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return text.split('\n').reduce((sum, row) => (row === '' ? sum : sum + JSON.parse(row).count), 0);
}

/** Waits until all readings are in windows that it has written, or no more can come; answers how many are. */
async function windowsWritten(peer: RollupPeer, readings: number): Promise<number> {
  const endMs = performance.now() + PEER_WINDOW_MS;
  while ((await peer.stored()) < readings && performance.now() < endMs) await sleep(POLL_MS);
  return peer.stored();
}

function influxServer() {
  return { url: MILLRACE_TEST_INFLUX ?? '', org: 'millrace', token: MILLRACE_TEST_INFLUX_TOKEN };
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + LIMIT_MS;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`the rollup was not through after ${LIMIT_MS / 1_000} s`);
    await sleep(POLL_MS);
  }
}

function line(figures: Figures): string {
  const { system, log, store, devices, readings, rows, readingsPerSecond, cpuSecondsPerMillion } = figures;
  const { recoverySeconds, lost } = figures;
  return [
    system.padEnd(8),
    log.padEnd(6),
    store.padEnd(9),
    String(devices).padStart(7),
    String(readings).padStart(10),
    String(rows ?? '').padStart(9),
    Math.round(readingsPerSecond).toLocaleString('en').padStart(11),
    cpuSecondsPerMillion.toFixed(2).padStart(18),
    figures.peakMiB.toFixed(0).padStart(9),
    (recoverySeconds?.toFixed(1) ?? '').padStart(11),
    (lost?.toLocaleString('en') ?? '').padStart(9),
  ].join(' ');
}

/**
 * What each setting of `kafka:` costs: compression, batch and linger of forwarding, fetch sizes of reading. Every line is a
 * process of its own on a real Kafka (`npm run stack -- env`); one setting is changed at a time, the others are the defaults.
 *
 *   npm run bench -- kafka-settings [--readings 300000] [--seconds 6]
 *
 * `drain`: the readings wait in a spool and go into Kafka as fast as they can. `pace`: 2,000 readings a second come in, and the
 * time until Kafka has each is noted. `read`: a consumer takes all of them, and does nothing with them. `idle`: it waits for
 * more. CPU is that of the process, all threads; bytes are what its sockets wrote or read.
 */
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { systemClock } from '../../src/clock.ts';
import { type Config, parseConfig } from '../../src/config.ts';
import { forwardLimits, startForward } from '../../src/journal/forward.ts';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { kafkaSender } from '../../src/journal/kafka-sender.ts';
import { kafkaTopics, prepareTopics } from '../../src/journal/kafka-topics.ts';
import { openSpool } from '../../src/journal/spool.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import { spoolFolder } from '../../src/parts/folders.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { METRICS, START_MS, Template } from './rollup/load.ts';
import { fillSpool, removeTopics, spanMs } from './rollup/logs.ts';
import { peakMiB } from './rollup/process.ts';

const PACE_PER_SECOND = 2_000;
const IDLE_SECONDS = 5;
const DEVICES = 1_000;

type Kind = 'drain' | 'pace' | 'read' | 'idle';
interface Task {
  readonly kind: Kind;
  /** What stands in the `kafka:` section beside brokers and prefix. */
  readonly settings: string;
  readonly data: string;
  readonly prefix: string;
  readonly readings: number;
  readonly seconds: number;
}
type Figures = Readonly<Record<string, number>>;

const LINES: readonly (readonly [kind: Kind, settings: string])[] = [
  ...['gzip', 'none'].map((value) => ['drain', `compression: ${value}`] as const),
  ...['64KiB', '512KiB', '4MiB'].map((value) => ['drain', `batch: ${value}`] as const),
  ...['0ms', '10ms', '50ms', '250ms'].map((value) => ['pace', `linger: ${value}`] as const),
  ...['32KiB', '128KiB', '512KiB', '2MiB'].map((value) => ['read', `fetch: ${value}`] as const),
  ...['50ms', '250ms', '1s'].map((value) => ['idle', `fetch_wait: ${value}`] as const),
];

export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: { readings: { type: 'string', default: '300000' }, seconds: { type: 'string', default: '6' } },
  });
  const [readings, seconds] = [Number(values.readings), Number(values.seconds)];
  const data = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
  const prefixes: string[] = [];
  const figures: (Figures & { kind: Kind; setting: string })[] = [];
  try {
    const load = { devices: DEVICES, perSecond: 10, readings, startMs: START_MS };
    await fillSpool(configOf({ settings: '', data, prefix: 'none' }), load, START_MS + spanMs(load));
    let filled = '';
    for (const [kind, settings] of LINES) {
      // A drain fills topics of its own; what reads reads those of the first.
      const own = kind === 'drain' || kind === 'pace';
      const prefix = own ? `bench-${process.pid}-${prefixes.length}` : filled;
      if (own) prefixes.push(prefix);
      filled ||= prefix;
      const paced = kind === 'pace' ? { data: mkdtempSync(join(data, 'pace-')) } : { data };
      const measured = await inProcess({ kind, settings, prefix, readings, seconds, ...paced });
      figures.push({ kind, setting: settings, ...measured } as Figures & { kind: Kind; setting: string });
      console.error(`${kind.padEnd(6)}${settings.padEnd(20)}${JSON.stringify(measured)}`);
    }
  } finally {
    for (const prefix of prefixes) await removeTopics(configOf({ settings: '', data, prefix }));
    rmSync(data, { recursive: true, force: true });
  }
  return { figures };
}

function inProcess(task: Task): Promise<Figures> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(task)]);
    let figures: Figures | null = null;
    child.once('message', (message) => {
      figures = message as Figures;
    });
    child.once('exit', (code) => {
      if (figures) resolve(figures);
      else reject(new Error(`${task.kind} ${task.settings} ended with ${code}`));
    });
  });
}

function configOf({ settings, data, prefix }: Pick<Task, 'settings' | 'data' | 'prefix'>): Config {
  const { MILLRACE_TEST_KAFKA: brokers } = process.env;
  if (!brokers) throw new Error('needs Kafka: eval "$(npm run --silent stack -- env)"');
  const yaml = `data: ${data}
kafka: { brokers: [${brokers}], prefix: ${prefix}, group: ${prefix}${settings === '' ? '' : `, ${settings}`} }
spool: { max: 20GiB, history: 10GiB }
streams: { environment: { topic: "sensors/{site}/{device}/environment", time: ts, metrics: [${METRICS}], windows: [10s] } }
`;
  const loaded = parseConfig(yaml, { file: 'bench.yaml', env: {}, baseFolder: data, hostName: 'bench' });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.mistakes));
  return loaded.config;
}

const telemetry = silentTelemetry();
const sockets = new Set<Socket>();

async function child(task: Task): Promise<Figures> {
  const connect = Socket.prototype.connect;
  Socket.prototype.connect = function (this: Socket, ...args: unknown[]) {
    sockets.add(this);
    return Reflect.apply(connect, this, args);
  } as typeof connect;
  const config = configOf(task);
  if (task.kind === 'drain' || task.kind === 'pace') {
    const prepared = await prepareTopics(config.kafka!, telemetry);
    if (!prepared.ok) throw new Error(prepared.failure.message);
  }
  return { drain, pace, read, idle }[task.kind](config, task);
}

async function drain(config: Config, { readings }: Task): Promise<Figures> {
  const kafka = config.kafka!;
  const reader = openSpoolReader({ folder: spoolFolder(config), clock: systemClock, telemetry });
  const offsets = await reader.offsets(0);
  if (!offsets.ok) throw new Error(offsets.failure.message);
  const sender = kafkaSender(kafka, 'bench', telemetry);
  const meter = new Meter();
  await new Promise<void>((resolve, reject) => {
    void startForward({
      ...{ reader, sender, telemetry, clock: systemClock, topics: kafkaTopics(kafka), group: kafka.prefix },
      limits: forwardLimits(kafka),
      onProgress: (offset) => offset >= offsets.value.endOffset && resolve(),
      onEnded: reject,
    });
  });
  return meter.read(readings, 'written');
}

async function pace(config: Config, { seconds }: Task): Promise<Figures> {
  const kafka = config.kafka!;
  const folder = spoolFolder(config);
  const { spool: settings } = config;
  const opened = await openSpool({ folder, ...settings, readers: [], clock: systemClock, telemetry });
  if (!opened.ok) throw new Error(opened.failure.message);
  const spool = opened.value;
  const reader = openSpoolReader({ folder, progress: spool.progress, clock: systemClock, telemetry });
  const appendedMs: number[] = [];
  const waits: number[] = [];
  await startForward({
    ...{ reader, telemetry, clock: systemClock, topics: kafkaTopics(kafka), group: kafka.prefix },
    sender: kafkaSender(kafka, 'bench', telemetry),
    limits: forwardLimits(kafka),
    onProgress(offset) {
      for (let i = waits.length; i < offset; i++) waits.push(performance.now() - appendedMs[i]!);
    },
    onEnded: (reason) => {
      throw reason;
    },
  });
  const templates = Array.from({ length: DEVICES }, (_, device) => new Template(device));
  const meter = new Meter();
  const startMs = performance.now();
  const count = seconds * PACE_PER_SECOND;
  for (let made = 0; made < count; await sleep(1)) {
    const due = Math.min(count, Math.floor(((performance.now() - startMs) * PACE_PER_SECOND) / 1_000));
    for (; made < due; made++) {
      const record = templates[made % DEVICES]!.at(0, systemClock.nowMs(), made);
      appendedMs.push(performance.now());
      spool.append({ ...record, value: Buffer.from(record.value) }, () => {});
    }
  }
  while (waits.length < count) await sleep(5);
  const sorted = waits.slice().sort((a, b) => a - b);
  const at = (share: number) => Math.round(sorted[Math.floor(sorted.length * share)]!);
  const { cpuSecondsPerMillion, bytesPerReading } = meter.read(count, 'written');
  return {
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    cpuSecondsPerMillion: cpuSecondsPerMillion!,
    bytesPerReading: bytesPerReading!,
  };
}

async function read(config: Config, { readings }: Task): Promise<Figures> {
  const meter = new Meter();
  await readTo(config, readings);
  return { ...meter.read(readings, 'read'), peakMiB: Math.round(peakMiB(process.pid)) };
}

async function idle(config: Config, { readings }: Task): Promise<Figures> {
  await readTo(config, readings);
  const meter = new Meter();
  await sleep(IDLE_SECONDS * 1_000);
  return { cpuMsPerSecond: Number((meter.cpuSeconds() * (1_000 / IDLE_SECONDS)).toFixed(1)) };
}

/** In a group of its own, so that each reads all. */
async function readTo(config: Config, readings: number): Promise<void> {
  const reader = kafkaReader(config.kafka!, kafkaTopics(config.kafka!).readings, telemetry);
  let count = 0;
  await new Promise<void>((resolve, reject) => {
    void reader.consume(`${config.kafka!.group}-${process.pid}`, {
      assigned: async (all) => new Map(all.map(({ partition, firstOffset }) => [partition, firstOffset])),
      batch: async ({ records }) => {
        for (const { kind } of records) if (kind === 'reading') count++;
        if (count >= readings) resolve();
      },
      stopping: async () => {},
      ended: reject,
    });
  });
}

class Meter {
  readonly #startMs = performance.now();
  readonly #cpu = process.cpuUsage();

  cpuSeconds(): number {
    const { user, system } = process.cpuUsage(this.#cpu);
    return (user + system) / 1e6;
  }

  read(count: number, direction: 'written' | 'read'): Figures {
    const seconds = (performance.now() - this.#startMs) / 1_000;
    let bytes = 0;
    for (const socket of sockets) bytes += direction === 'written' ? socket.bytesWritten : socket.bytesRead;
    return {
      readingsPerSecond: Math.round(count / seconds),
      cpuSecondsPerMillion: Number(((this.cpuSeconds() / count) * 1e6).toFixed(1)),
      bytesPerReading: Math.round(bytes / count),
    };
  }
}

if (process.send && process.argv[1] === fileURLToPath(import.meta.url)) {
  const figures = await child(JSON.parse(process.argv[2]!) as Task);
  process.send(figures, () => process.exit(0));
}

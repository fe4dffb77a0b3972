/**
 * `millrace demo`: everything in one process, on a configuration that ships with the program, and simulated devices as a
 * process of their own that speaks MQTT to it. Until Ctrl-C, or with --for until the time is up; then a stop in order.
 *
 * At the end the books are balanced: what the devices say was acknowledged, what the gateway says it kept, what the
 * rollup says it counted, and every closed window recomputed from the log. Exit 0 = they balance, 1 = they do not.
 */
import { existsSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../clock.ts';
import { formatMistake } from '../config/report.ts';
import { type Config, loadConfig } from '../config.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import { spoolFolder } from '../parts/folders.ts';
import { ROLLUP_GROUP } from '../parts/rollup.ts';
import { type Pipeline, startPipeline } from '../pipeline.ts';
import { pause } from '../retry.ts';
import { decodeCheckpoint } from '../rollup/checkpoint.ts';
import { silentTelemetry } from '../telemetry.ts';
import { untilSignal } from './run.ts';
import { readProfile } from './simulate.ts';
import { type SimulatorSummary, simulatorMistake, startSimulator, untilEnd } from './simulator.ts';
import { EXIT, readLogLevel, report, type Terminal } from './terminal.ts';
import { verifyAll } from './verify.ts';

export interface DemoOptions {
  readonly for?: string;
  readonly devices: string;
  readonly rate: string;
  /** Default: demo-data, and a folder in it for each sample, because a log belongs to its streams. */
  readonly data?: string;
  /** A folder of compose/samples, instead of the plant. */
  readonly sample?: string;
  readonly port: string;
  readonly httpPort: string;
  /** `http.token`; absent: the page only reads. */
  readonly token?: string;
  readonly faults?: boolean;
  readonly json?: boolean;
}

/** The summary's names are used by others: see the README. */
interface DemoSummary {
  /** Publishes of the devices. */
  readonly published: number;
  /** Of these, acknowledged. */
  readonly acknowledged: number;
  /** Readings durable in the log. */
  readonly stored: number;
  /** Payloads kept as dead letters. */
  readonly refused: number;
  /** Readings that were made of messages: see understand/. */
  readonly understood: number;
  /** Readings counted in a window, among them those that a run before this one stored and did not get to count. */
  readonly counted: number;
  readonly carriedOver: number;
  readonly duplicates: number;
  readonly late: number;
  /** Windows closed, one for each series. */
  readonly windows: number;
  /** Rows recomputed from the log and compared with the store, and how many differ. */
  readonly verified: number;
  readonly differences: number;
  readonly balanced: boolean;
}

type Totals = [number, number, number, number, number, number, number, number, number];

const FOREVER = '87600h';
const READ_LIMIT_MS = 20_000;
const POLL_MS = 50;
const FAULTS = ['--duplicates', '0.02', '--late', '0.02', '--late-by', '40s', '--malformed', '0.01', '--gaps', '0.01'];

export async function demo(options: DemoOptions, terminal: Terminal): Promise<number> {
  const mistake = simulatorMistake(options);
  if (mistake !== null) {
    terminal.err(`millrace: ${mistake}`);
    return EXIT.usage;
  }
  const config = await demoConfig(options, terminal);
  if (config === null) return EXIT.usage;
  const profile = options.sample === undefined ? [] : readProfile(join(dirname(config.file), 'simulator.yaml'));
  if (typeof profile === 'string') {
    terminal.err(`millrace: ${profile}`);
    return EXIT.usage;
  }
  const logLevel = readLogLevel(terminal, 'warn');
  if (logLevel === null) return EXIT.usage;
  const unread = await readingsNotCounted(config);
  const started = await startPipeline({
    config,
    role: 'all',
    version: terminal.version,
    logLevel,
    pretty: terminal.interactive,
  });
  if (!started.ok) {
    const code = report(started.failure, terminal);
    if (started.failure.code === 'PORT_IN_USE') {
      terminal.err('millrace: --port (MQTT) and --http-port (the page) name others; 0 is any that is free');
    }
    return code;
  }
  const pipeline = started.value;
  const interrupted = untilSignal();
  const say = options.json ? terminal.err : terminal.out;
  const folder = relative(process.cwd(), config.data) || '.';
  say('');
  say(`  Live page   ${pipeline.page}`);
  say(`  MQTT        ${pipeline.listeners[0]}   ${options.devices} simulated devices publish to it`);
  for (const other of pipeline.listeners.slice(1)) say(`              ${other}`);
  say(`  Data        ${folder}   started again, it goes on with what is there`);
  say('');
  say(options.for === undefined ? '  Ctrl-C stops.' : `  Stops by itself after ${options.for}.`);
  say('');

  const simulator = startSimulator([
    ...profile,
    ...['--url', pipeline.listeners[0]!, '--devices', options.devices, '--rate', options.rate],
    ...['--duration', options.for ?? FOREVER, ...(options.faults ? FAULTS : [])],
  ]);
  const ended = untilEnd(simulator);
  await Promise.race([interrupted, ended]);
  simulator.kill('SIGINT');
  const { summary: devices } = await ended;
  const summary = await balance(pipeline, config, devices, unread);
  if (options.json) terminal.out(JSON.stringify(summary));
  else describe(summary, terminal);
  return summary.balanced ? EXIT.ok : EXIT.no;
}

/** Folders of compose/samples, each with a configuration and a profile of simulated devices. */
const SAMPLES = ['sensors', 'clickstream', 'chat'];

async function demoConfig(options: DemoOptions, terminal: Terminal): Promise<Config | null> {
  const { sample } = options;
  if (sample !== undefined && !SAMPLES.includes(sample)) {
    terminal.err(`millrace: there is no sample ${sample}; known are ${SAMPLES.join(', ')}`);
    return null;
  }
  const path = sample === undefined ? 'compose/demo/millrace.yaml' : `compose/samples/${sample}/millrace.yaml`;
  const base = [`../../${path}`, `../../../${path}`];
  const file = base.map((path) => fileURLToPath(new URL(path, import.meta.url))).find((path) => existsSync(path));
  const loaded = await loadConfig(file ?? base[0]!, terminal.env);
  if (!loaded.ok) {
    for (const mistake of loaded.mistakes) terminal.err(formatMistake(mistake));
    return null;
  }
  const { config } = loaded;
  const ports = [Number(options.port), Number(options.httpPort)];
  if (!ports.every((port) => Number.isInteger(port) && port >= 0 && port < 65_536)) {
    terminal.err(`millrace: --port ${options.port} and --http-port ${options.httpPort} must be ports, 0 to 65535`);
    return null;
  }
  const [listener, ...others] = config.mqtt.listeners;
  // Any free port, where one was asked for, is meant for all of them.
  const port = (own: number) => (ports[0] === 0 ? 0 : own);
  return {
    ...config,
    data: resolve(options.data ?? join('demo-data', sample ?? '')),
    mqtt: {
      ...config.mqtt,
      listeners: [{ ...listener!, port: ports[0]! }, ...others.map((other) => ({ ...other, port: port(other.port) }))],
    },
    ingest: config.ingest && { ...config.ingest, port: port(config.ingest.port) },
    http: { ...config.http, port: ports[1]!, token: options.token || null },
  };
}

/** Readings that a run before this one stored, but was killed before it counted them. */
async function readingsNotCounted(config: Config): Promise<number> {
  const reader = openSpoolReader({ folder: spoolFolder(config), clock: systemClock, telemetry: silentTelemetry() });
  try {
    const [stored, known] = [await reader.checkpoint(ROLLUP_GROUP, 0), await reader.offsets(0)];
    if (!known.ok || !stored.ok) return 0;
    const progress = stored.value && decodeCheckpoint(stored.value);
    let count = 0;
    const from = Math.max(progress?.position ?? 0, known.value.firstOffset);
    for await (const batch of reader.range(0, from, known.value.endOffset)) {
      for (const record of batch.records) if (record.kind === 'reading') count++;
    }
    return count;
  } finally {
    await reader.close();
  }
}

/** Stops the pipeline and compares what each hop says. */
async function balance(
  pipeline: Pipeline,
  config: Config,
  devices: SimulatorSummary,
  unread: number,
): Promise<DemoSummary> {
  for (let waitedMs = 0; waitedMs < READ_LIMIT_MS && pipeline.backlog() !== 0; waitedMs += POLL_MS)
    await pause(POLL_MS);
  await pipeline.stop();
  // Only now: while it runs, each part counts ahead of the next one.
  const names = [
    'received',
    'turned_away',
    'accepted',
    'dead_letters',
    'counted',
    'duplicates',
    'late',
    'windows_closed',
    'understood',
  ];
  const totals = await Promise.all(names.map((name) => pipeline.total(`millrace_${name}_total`)));
  const [received, turnedAway, stored, refused, counted, duplicates, late, windows, understood] = totals as Totals;
  const verified = await verifyAll(config);
  const balanced =
    devices.acknowledged + devices.unacknowledged === devices.published &&
    devices.acknowledged <= stored + refused &&
    received === stored + refused + turnedAway &&
    unread + stored + understood === counted + duplicates + late &&
    verified.differences === 0;
  return {
    published: devices.published,
    acknowledged: devices.acknowledged,
    stored,
    refused,
    understood,
    counted,
    carriedOver: unread,
    duplicates,
    late,
    windows,
    verified: verified.rows,
    differences: verified.differences,
    balanced,
  };
}

function describe(summary: DemoSummary, terminal: Terminal): void {
  const number = (value: number) => value.toLocaleString('en').padStart(11);
  terminal.out('');
  terminal.out(`  published by the devices ${number(summary.published)}`);
  terminal.out(`  acknowledged             ${number(summary.acknowledged)}`);
  terminal.out(
    `  stored in the log        ${number(summary.stored)}   refused, kept as dead letters ${summary.refused}`,
  );
  terminal.out(
    `  windows closed           ${number(summary.windows)}   duplicates ${summary.duplicates}, late ${summary.late}`,
  );
  terminal.out(`  recomputed from the log  ${number(summary.verified)}   differences ${summary.differences}`);
  terminal.out(summary.balanced ? '  The books balance.' : '  The books do NOT balance.');
}

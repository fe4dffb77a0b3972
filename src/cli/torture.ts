/**
 * `millrace torture`: proves the promise on this machine, or shows where it breaks. Starts the product and simulated
 * devices as processes of their own, does to them what happens to machines and networks, and checks every claim from the
 * devices' ledgers (src/torture/). Without a configuration everything is embedded; with one, its Kafka and InfluxDB are
 * used, with topics and buckets of their own that are removed at the end. With --soak no process is killed: steady load, mild
 * faults, and what the processes hold must not grow.
 *
 * Exit 0: every claim held and every fault happened. 1: a claim is false. 2: usage or configuration. 3: inconclusive, a
 * fault did not happen or there was nothing to look at. With --mutant the question is whether the planted bug is caught:
 * 0: yes. 1: no. 3: no, but not every fault happened.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { messageOf } from '../errors.ts';
import { deleteTopics } from '../journal/kafka-topics.ts';
import type { LogReader } from '../log.ts';
import { openLogs } from '../parts/open-logs.ts';
import { deleteBuckets } from '../store/buckets.ts';
import { silentTelemetry } from '../telemetry.ts';
import type { Entry } from '../torture/log-claims.ts';
import { describe, type TortureReport } from '../torture/report.ts';
import { torture as runTorture, type TortureProgress } from '../torture/run.ts';
import { sampleEveryMs } from '../torture/soak.ts';
import { readConfig } from './open.ts';
import { untilSignal } from './run.ts';
import { startSimulator } from './simulator.ts';
import { EXIT, type Terminal } from './terminal.ts';
import { TORTURE_PARTITIONS, TORTURE_RULES, TortureSettings } from './torture-config.ts';
import { MUTANTS } from './torture-plant.ts';
import { verifyAll } from './verify.ts';

export interface TortureCommand {
  readonly config?: string;
  readonly minutes?: string;
  readonly soak?: boolean;
  readonly seed?: string;
  readonly mutant?: string;
  readonly keep?: boolean;
  readonly json?: boolean;
}

const INCONCLUSIVE = 3;
/** What devices sent and were told is all judged at the end, in memory; in a soak they send about twice as much. */
const MAX_MINUTES = { torture: 120, soak: 60 } as const;
const MINUTES = { torture: '1', soak: '30' } as const;
const MAX_SEED = 2 ** 31 - 1;
/** The small disk: at least, and for each minute that its log grows. */
const DISK_BYTES = 64 * 2 ** 20;
const DISK_BYTES_PER_MINUTE = 24 * 2 ** 20;

export async function torture(options: TortureCommand, terminal: Terminal): Promise<number> {
  const usage = (text: string) => {
    terminal.err(`millrace: ${text}`);
    return EXIT.usage;
  };
  const { soak = false } = options;
  const kind = soak ? 'soak' : 'torture';
  const { minutes: wished = MINUTES[kind] } = options;
  const minutes = Number(wished);
  if (!(minutes > 0 && minutes <= MAX_MINUTES[kind])) {
    return usage(`--minutes ${wished} is not a number above 0 and up to ${MAX_MINUTES[kind]}`);
  }
  const seed = options.seed === undefined ? systemClock.nowMs() % 1_000_000 : Number(options.seed);
  if (!Number.isInteger(seed) || seed < 0 || seed > MAX_SEED) {
    return usage(`--seed ${options.seed} is not an integer from 0 to ${MAX_SEED}`);
  }
  const { mutant } = options;
  if (mutant !== undefined && !Object.hasOwn(MUTANTS, mutant)) {
    const known = Object.entries(MUTANTS).map(
      ([name, { text, needsSoak }]) => `\n  ${name.padEnd(20)} ${text}${needsSoak ? ' (with --soak)' : ''}`,
    );
    return usage(`--mutant ${mutant} is not known; these bugs can be planted:${known.join('')}`);
  }
  if (mutant !== undefined && MUTANTS[mutant]!.needsSoak && !soak) {
    return usage(`--mutant ${mutant} shows only over time: give --soak, which looks at what processes hold`);
  }
  let own: Config | null = null;
  if (options.config !== undefined) {
    const config = await readConfig({ config: options.config }, terminal);
    if (typeof config === 'number') return config;
    own = config;
  }
  const folder = mkdtempSync(join(tmpdir(), 'millrace-torture-'));
  const settings = new TortureSettings(folder, `torture-${seed}-${systemClock.nowMs()}`, own);
  const probeFile = join(folder, 'probe.ndjson');
  const stopping = new AbortController();
  void untilSignal().then(() => stopping.abort());
  const progress = drawProgress(terminal);
  const timer = setInterval(progress.draw, 250);
  let report: TortureReport;
  try {
    report = await runTorture({
      ...{ folder, seed, durationMs: minutes * 60_000, mutant: mutant ?? null, clock: systemClock },
      ...{ isApart: settings.isApart, store: settings.store, against: settings.against },
      soak: soak ? { probeFile } : null,
      diskBytes: soak ? null : DISK_BYTES + Math.ceil(minutes * DISK_BYTES_PER_MINUTE),
      preload: [
        ...(mutant === undefined ? [] : [moduleOf('torture-plant', { plant: mutant })]),
        ...(soak ? [moduleOf('soak-probe', { to: probeFile, everyMs: sampleEveryMs(minutes * 60_000) })] : []),
      ],
      configure: (plan) => settings.write(plan),
      rules: TORTURE_RULES,
      partitions: settings.isApart ? TORTURE_PARTITIONS : 1,
      startSimulator,
      readLog: (which) => entries(settings, which, terminal),
      verify: async () => verifyAll(await configOf(settings, terminal)),
      onProgress: progress.note,
      signal: stopping.signal,
    });
  } catch (thrown) {
    terminal.err(`millrace: the torture could not be carried out: ${messageOf(thrown)}; see ${folder}`);
    return INCONCLUSIVE;
  } finally {
    clearInterval(timer);
    progress.end();
    await removeTraces(settings, terminal);
  }
  const isClean = report.verdict === 'held' && !options.keep;
  if (isClean || (mutant !== undefined && !options.keep)) rmSync(folder, { recursive: true, force: true });
  const shown = isClean || mutant !== undefined ? { ...report, folder: options.keep ? folder : null } : report;
  if (options.json) terminal.out(JSON.stringify(shown));
  else for (const line of describe(shown)) terminal.out(line);
  return codeOf(report);
}

function codeOf({ verdict, mutant }: TortureReport): number {
  if (mutant !== null) return verdict === 'broken' ? EXIT.ok : verdict === 'held' ? EXIT.no : INCONCLUSIVE;
  return verdict === 'held' ? EXIT.ok : verdict === 'broken' ? EXIT.no : INCONCLUSIVE;
}

/** A module to be loaded before the program, which reads what it is to do from its own address. */
function moduleOf(name: string, wish: Readonly<Record<string, string | number>>): string {
  const isCompiled = import.meta.url.endsWith('.js');
  const url = new URL(`${name}.${isCompiled ? 'js' : 'ts'}`, import.meta.url);
  for (const [key, value] of Object.entries(wish)) url.searchParams.set(key, String(value));
  return url.href;
}

/** Under which the log and the rows can be read. */
async function configOf(settings: TortureSettings, terminal: Terminal): Promise<Config> {
  const config = await readConfig({ config: settings.mainFile }, terminal);
  if (typeof config === 'number') throw new Error(`${settings.mainFile} is not a configuration`);
  return config;
}

async function* entries(
  settings: TortureSettings,
  which: 'readings' | 'late' | 'deadletters',
  terminal: Terminal,
): AsyncIterable<Entry> {
  const logs = openLogs(await configOf(settings, terminal));
  const reader: LogReader = { readings: logs.log, late: logs.late, deadletters: logs.deadLetters }[which];
  try {
    for (let partition = 0; partition < reader.partitions; partition++) {
      const known = await reader.offsets(partition);
      if (!known.ok) throw new Error(known.failure.message);
      const { firstOffset, endOffset } = known.value;
      if (firstOffset > 0) throw new Error(`the log no longer has its first ${firstOffset} records`);
      for await (const batch of reader.range(partition, firstOffset, endOffset)) yield* batch.records;
    }
  } finally {
    await logs.close();
  }
}

/** What the run made in the user's servers. */
async function removeTraces({ name, own }: TortureSettings, terminal: Terminal): Promise<void> {
  const labels = TORTURE_RULES.streams.flatMap(({ windows }) => windows);
  const left = [
    own?.kafka ? await deleteTopics({ ...own.kafka, prefix: name }, silentTelemetry()) : null,
    own?.influx ? await deleteBuckets({ ...own.influx, bucket: name }, labels) : null,
  ];
  for (const outcome of left) {
    if (outcome && !outcome.ok) terminal.err(`millrace: ${name}.* is left behind: ${outcome.failure.message}`);
  }
}

/** One line that is drawn again on a terminal; elsewhere a line for each thing that is done. */
function drawProgress(terminal: Terminal) {
  let last: TortureProgress | null = null;
  let notedMs = 0;
  const draw = () => {
    if (last === null || !terminal.interactive) return;
    const elapsedMs = last.elapsedMs + systemClock.monotonicMs() - notedMs;
    const done = Math.min(1, elapsedMs / last.durationMs);
    const bar = '#'.repeat(Math.round(done * 30)).padEnd(30, '.');
    const seconds = `${Math.floor(elapsedMs / 1_000)} s of ${Math.round(last.durationMs / 1_000)} s`;
    process.stderr.write(`\r[${bar}] ${seconds}  ${last.faults} faults so far  now: ${last.now}\x1b[K`);
  };
  return {
    draw,
    note(progress: TortureProgress) {
      last = progress;
      notedMs = systemClock.monotonicMs();
      if (terminal.interactive) draw();
      else terminal.err(`${(progress.elapsedMs / 1_000).toFixed(1).padStart(7)} s  ${progress.now}`);
    },
    end() {
      if (terminal.interactive && last !== null) process.stderr.write('\r\x1b[K');
    },
  };
}

/**
 * `npm run stack`: a real Kafka and a real InfluxDB on this machine, without Docker, for tests and for trying things.
 *
 *   npm run stack                 brings both up; a second time finds them running
 *   npm run stack -- down         ends them in order; the data stays
 *   npm run stack -- status       exit 0: all that is wanted runs, 1: it does not
 *   npm run stack -- env          export lines for a shell: eval "$(npm run -s stack -- env)"
 *
 *   --kafka-only, --influx-only   just one of the two
 *   --port-kafka, --port-influx   default 19092 and 18086, loopback only; with --name any free ones
 *   --name NAME                   several stacks side by side, each with its own ports and data
 *   --fresh                       begins with empty data; ends what runs first
 *
 * Data, logs and process ids are in `<cache>/stack/NAME/`, outside the checkout; see provision.ts for the cache.
 * Exit 0 done, 1 failed, 2 usage.
 */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { alive } from './launch.ts';
import { cacheFolder, StackError } from './provision.ts';
import { endDetached, type ServerState, startInflux, startKafka } from './servers.ts';

export class UsageError extends Error {}

type Kind = 'kafka' | 'influx';
export interface Wanted {
  readonly kinds: readonly Kind[];
  /** 0 = any free one. */
  readonly ports: Readonly<Record<Kind, number>>;
  readonly home: string;
  readonly fresh: boolean;
}

const TITLES: Readonly<Record<Kind, string>> = { kafka: 'Kafka', influx: 'InfluxDB' };
const DEFAULT_NAME = 'default';
const DEFAULT_PORTS: Readonly<Record<Kind, number>> = { kafka: 19_092, influx: 18_086 };
const LOCK_MS = 90 * 60_000;
const say = (line: string) => console.error(`stack: ${line}`);

const folderOf = (wanted: Wanted, kind: Kind) => join(wanted.home, kind);
const stateFile = (wanted: Wanted, kind: Kind) => join(wanted.home, `${kind}.json`);

/** The running server of this stack, or null. */
function running(wanted: Wanted, kind: Kind): ServerState | null {
  const file = stateFile(wanted, kind);
  if (!existsSync(file)) return null;
  const state: ServerState = JSON.parse(readFileSync(file, 'utf8'));
  return alive(state.pid, folderOf(wanted, kind)) ? state : null;
}

async function up(wanted: Wanted): Promise<void> {
  if (wanted.fresh) {
    await down(wanted);
    for (const kind of wanted.kinds) rmSync(folderOf(wanted, kind), { recursive: true, force: true });
  }
  const results = await Promise.allSettled(wanted.kinds.map((kind) => upOne(wanted, kind)));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}

async function upOne(wanted: Wanted, kind: Kind): Promise<void> {
  const found = running(wanted, kind);
  if (found) {
    if (wanted.ports[kind] && found.port !== wanted.ports[kind])
      say(`${TITLES[kind]} already runs on another port, ${found.port}`);
    else say(`${TITLES[kind]} already runs on port ${found.port}`);
    return;
  }
  const fromMs = performance.now();
  const options = { dir: folderOf(wanted, kind), port: wanted.ports[kind], detached: true, say };
  const server = kind === 'kafka' ? await startKafka(options) : await startInflux(options);
  const state: ServerState = { pid: server.pid(), port: server.port };
  writeFileSync(stateFile(wanted, kind), JSON.stringify(state));
  say(`${TITLES[kind]} is ready on port ${server.port} after ${((performance.now() - fromMs) / 1000).toFixed(1)} s`);
}

async function down(wanted: Wanted): Promise<void> {
  // InfluxDB first: what writes to it reads from Kafka.
  for (const kind of ['influx', 'kafka'] as const) {
    if (!wanted.kinds.includes(kind)) continue;
    const state = running(wanted, kind);
    if (state) {
      const inOrder = await endDetached(kind, state, folderOf(wanted, kind));
      say(`${TITLES[kind]} ${inOrder ? 'stopped' : 'did not stop in time and was killed'}`);
    }
    rmSync(stateFile(wanted, kind), { force: true });
  }
}

function environment(wanted: Wanted): string[] {
  const lines: string[] = [];
  const kafka = running(wanted, 'kafka');
  if (kafka) lines.push(`MILLRACE_TEST_KAFKA=127.0.0.1:${kafka.port}`);
  const influx = running(wanted, 'influx');
  if (influx) {
    const token = readFileSync(join(folderOf(wanted, 'influx'), 'token'), 'utf8');
    lines.push(`MILLRACE_TEST_INFLUX=http://127.0.0.1:${influx.port}`, `MILLRACE_TEST_INFLUX_TOKEN=${token}`);
  }
  return lines;
}

/** One `up` or `down` at a time for each name. A lock whose process is gone does not count. */
async function locked(wanted: Wanted, work: () => Promise<void>): Promise<void> {
  mkdirSync(wanted.home, { recursive: true });
  const file = join(wanted.home, 'lock');
  const untilMs = performance.now() + LOCK_MS;
  for (;;) {
    try {
      const lock = openSync(file, 'wx');
      writeFileSync(lock, String(process.pid));
      closeSync(lock);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = Number(readIfThere(file));
    if (holder && !alive(holder, 'stack')) rmSync(file, { force: true });
    else if (performance.now() > untilMs) throw new StackError(`process ${holder} holds ${file}`);
    else await sleep(100);
  }
  try {
    await work();
  } finally {
    rmSync(file, { force: true });
  }
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

export function parse(argv: string[]): { command: string; wanted: Wanted } {
  const { values, positionals } = parseOptions(argv);
  const [command = 'up', ...rest] = positionals;
  if (rest.length > 0 || !['up', 'down', 'status', 'env'].includes(command)) {
    throw new UsageError('expected one of: up, down, status, env');
  }
  if (values['kafka-only'] && values['influx-only'])
    throw new UsageError('--kafka-only and --influx-only exclude each other');
  if (!/^[\w-]{1,40}$/.test(values.name)) throw new UsageError('--name takes letters, digits, - and _');
  const port = (kind: Kind): number => {
    const text = values[`port-${kind}`];
    if (text === undefined) return values.name === DEFAULT_NAME ? DEFAULT_PORTS[kind] : 0;
    const number = Number(text);
    if (!Number.isInteger(number) || number < 1 || number > 65_535) throw new UsageError(`--port-${kind} takes a port`);
    return number;
  };
  const kinds: Kind[] = values['kafka-only'] ? ['kafka'] : values['influx-only'] ? ['influx'] : ['kafka', 'influx'];
  return {
    command,
    wanted: {
      kinds,
      ports: { kafka: port('kafka'), influx: port('influx') },
      home: join(cacheFolder(), 'stack', values.name),
      fresh: values.fresh,
    },
  };
}

function parseOptions(argv: string[]) {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        'kafka-only': { type: 'boolean', default: false },
        'influx-only': { type: 'boolean', default: false },
        'port-kafka': { type: 'string' },
        'port-influx': { type: 'string' },
        name: { type: 'string', default: DEFAULT_NAME },
        fresh: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

async function main(argv: string[]): Promise<number> {
  const { command, wanted } = parse(argv);
  if (command === 'down') {
    await locked(wanted, () => down(wanted));
    return 0;
  }
  if (command === 'up') {
    await locked(wanted, () => up(wanted));
    const lines = environment(wanted);
    console.log(`For the tests that need real servers, set\n  ${lines.join('\n  ')}`);
    return 0;
  }
  const missing = wanted.kinds.filter((kind) => running(wanted, kind) === null);
  if (command === 'env') {
    for (const line of environment(wanted)) console.log(`export ${line}`);
    if (missing.length > 0) say(`not running: ${missing.map((kind) => TITLES[kind]).join(', ')}`);
  } else {
    for (const kind of wanted.kinds) {
      const state = running(wanted, kind);
      console.log(
        `${TITLES[kind]}: ${state ? `port ${state.port}, process ${state.pid}` : 'not running'}, ${folderOf(wanted, kind)}`,
      );
    }
  }
  return missing.length === 0 ? 0 : 1;
}

async function run(): Promise<void> {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof StackError || error instanceof UsageError)) throw error;
    console.error(`stack: ${error.message}`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await run();

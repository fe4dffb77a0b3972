/**
 * What the local stack needs on disk, fetched or built once and kept outside the checkout in
 * `${MILLRACE_CACHE}`, by default `${XDG_CACHE_HOME:-~/.cache}/millrace`:
 *   kafka/3.9.2/lib/*.jar       Apache Kafka from Maven (46 MB, about 15 s)        needs java and mvn
 *   kafka/3.9.2/<java>.jsa      Java's class archive, written at the first stop in order; a start then takes a third
 *   influxd/influxd-v2.7.12     InfluxDB, built from its Go module (about 7 min)   needs go, cargo and cc
 *   spark/4.0.0/                PySpark and its jars, see compose/spark/provision.ts
 *   stack/<name>/               the data and logs of one stack, see stack.ts
 * Nothing else is installed. A missing tool is one sentence that names it. Two provisions at once do the work twice
 * (or wait, for InfluxDB) and both succeed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const KAFKA_VERSION = '3.9.2';
const INFLUXD_VERSION = 'v2.7.12';
/** Far more than either has ever taken, so that a hung download ends. */
const MAVEN_DEADLINE_MS = 10 * 60_000;
const BUILD_DEADLINE_MS = 60 * 60_000;

const here = fileURLToPath(new URL('.', import.meta.url));

/** Something on this machine is missing or failed; the message is for a person. */
export class StackError extends Error {}

export type Say = (line: string) => void;

export function cacheFolder(): string {
  return process.env.MILLRACE_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'millrace');
}

export interface KafkaParts {
  /** For `java -cp`: every jar by name and in a fixed order, as the class archive demands. */
  readonly classpath: string;
  /** Where the class archive of this Java is, or will be once a broker was stopped in order. */
  readonly archive: string;
}

export async function provisionKafka(say: Say): Promise<KafkaParts> {
  const java = spawnSync('java', ['-version'], { encoding: 'utf8' });
  if (java.status !== 0) throw new StackError('Kafka needs Java 11 or newer, and `java` is not on PATH.');
  const home = join(cacheFolder(), 'kafka', KAFKA_VERSION);
  const lib = join(home, 'lib');
  if (!existsSync(lib)) await fetchKafka(home, lib, say);
  const classpath = readdirSync(lib)
    .filter((name) => name.endsWith('.jar'))
    .sort()
    .map((name) => join(lib, name))
    .join(':');
  const build = (java.stderr.match(/build ([\w.+-]+)/) ?? ['', 'java'])[1]!;
  return { classpath, archive: join(home, `${build}.jsa`) };
}

async function fetchKafka(home: string, lib: string, say: Say): Promise<void> {
  say(`fetching Kafka ${KAFKA_VERSION} with Maven into ${lib}`);
  mkdirSync(home, { recursive: true });
  const scratch = mkdtempSync(join(home, 'fetch-'));
  try {
    const options = [`-Dkafka.version=${KAFKA_VERSION}`];
    const jars = await copyJars({ what: 'Kafka', pom: join(here, 'kafka-pom.xml'), scratch, options });
    if (!existsSync(lib)) renameSync(jars, lib);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

export interface JarsWanted {
  /** For messages. */
  readonly what: string;
  readonly pom: string;
  /** An empty folder. */
  readonly scratch: string;
  readonly options: readonly string[];
}

/** Has Maven copy what the pom depends on; answers the folder below `scratch`. */
export async function copyJars({ what, pom, scratch, options }: JarsWanted): Promise<string> {
  if (!onPath('mvn'))
    throw new StackError(`${what} is not in the cache, and \`mvn\` (Maven) is not on PATH to fetch it.`);
  copyFileSync(pom, join(scratch, 'pom.xml'));
  const jars = join(scratch, 'jars');
  const goal = ['dependency:copy-dependencies', ...options, `-DoutputDirectory=${jars}`, '-DincludeScope=runtime'];
  await runTool('mvn', ['-B', '-q', '-f', join(scratch, 'pom.xml'), ...goal], MAVEN_DEADLINE_MS);
  const wanted = readdirSync(jars).some((name) => name.includes('kafka'));
  if (!wanted) throw new StackError(`Maven copied nothing of ${what}.`);
  return jars;
}

/** The path of influxd. */
export async function provisionInflux(say: Say): Promise<string> {
  const folder = join(cacheFolder(), 'influxd');
  const binary = join(folder, `influxd-${INFLUXD_VERSION}`);
  if (existsSync(binary)) return binary;
  say(`building InfluxDB ${INFLUXD_VERSION} from source into ${folder}: about 7 minutes, once`);
  await runTool(join(here, 'build-influxd.sh'), [folder, INFLUXD_VERSION], BUILD_DEADLINE_MS, 'inherit');
  return binary;
}

function onPath(tool: string): boolean {
  return spawnSync(tool, ['--version'], { stdio: 'ignore' }).error === undefined;
}

export function runTool(command: string, args: string[], deadlineMs: number, output: 'pipe' | 'inherit' = 'pipe') {
  return new Promise<void>((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', output, output], timeout: deadlineMs });
    let text = '';
    const keep = (chunk: Buffer) => {
      text = (text + chunk.toString()).slice(-4_000);
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    child.once('error', (error) => reject(new StackError(`${command} could not be started: ${error.message}`)));
    child.once('close', (code, signal) => {
      if (code === 0) return resolve();
      const ended = signal ? `was ended by ${signal} after ${deadlineMs / 60_000} minutes` : `ended with ${code}`;
      reject(new StackError(`${command} ${ended}\n${text}`.trimEnd()));
    });
  });
}

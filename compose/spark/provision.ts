/**
 * `npm run spark`: a PySpark for compose/spark and its tests, on this machine and without root, in the cache of the local stack
 * (compose/stack/provision.ts): spark/4.0.0/venv with requirements.txt from PyPI, spark/4.0.0/jars with Spark's source for Kafka from
 * Maven. About 800 MB. Prints the line that the tests and the README's commands need; a second time it finds everything there.
 * Needs python3 (3.9 or newer) with venv, java (17 or newer) and mvn. Exit 0 done, 1 failed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, copyJars, runTool, type Say, StackError } from '../stack/provision.ts';

const SPARK_VERSION = '4.0.0';
/** Spark has these itself. */
const NOT_COPIED = 'scala-library,hadoop-client-api,hadoop-client-runtime,slf4j-api';
const FIRST_JAVA = 17;
const PIP_DEADLINE_MS = 20 * 60_000;

const here = fileURLToPath(new URL('.', import.meta.url));

/** The folder with `venv` and `jars`. */
export async function provisionSpark(say: Say): Promise<string> {
  const home = join(cacheFolder(), 'spark', SPARK_VERSION);
  const java = spawnSync('java', ['-version'], { encoding: 'utf8' });
  const found = Number(/version "(\d+)/.exec(java.stderr ?? '')?.[1] ?? 0);
  if (found < FIRST_JAVA) {
    const there = found === 0 ? '`java` is not on PATH' : `\`java\` on PATH is ${found}`;
    throw new StackError(`Spark ${SPARK_VERSION} needs Java ${FIRST_JAVA} or newer, and ${there}.`);
  }
  mkdirSync(home, { recursive: true });
  await Promise.all([installPackages(home, say), fetchJars(home, say)]);
  return home;
}

async function installPackages(home: string, say: Say): Promise<void> {
  const venv = join(home, 'venv');
  const requirements = readFileSync(join(here, 'requirements.txt'), 'utf8');
  // Written last: a venv without it is half made.
  const mark = join(venv, 'requirements.txt');
  if (existsSync(mark) && readFileSync(mark, 'utf8') === requirements) return;
  if (spawnSync('python3', ['-c', 'import venv, ensurepip'], { stdio: 'ignore' }).status !== 0) {
    throw new StackError('PySpark needs `python3` on PATH with its module venv (Debian: python3-venv).');
  }
  say(`installing PySpark ${SPARK_VERSION} with pip into ${venv}`);
  // The paths of a venv are in its programs: it cannot be made elsewhere and moved.
  rmSync(venv, { recursive: true, force: true });
  await runTool('python3', ['-m', 'venv', venv], PIP_DEADLINE_MS);
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-cache-dir'];
  await runTool(join(venv, 'bin', 'python'), [...pip, '-r', join(here, 'requirements.txt')], PIP_DEADLINE_MS);
  writeFileSync(mark, requirements);
}

async function fetchJars(home: string, say: Say): Promise<void> {
  const jars = join(home, 'jars');
  if (existsSync(jars)) return;
  const scratch = mkdtempSync(join(home, 'fetch-'));
  try {
    say(`fetching Spark's source for Kafka with Maven into ${jars}`);
    const version = [`-Dspark.version=${SPARK_VERSION}`, `-DexcludeArtifactIds=${NOT_COPIED}`];
    const fetched = await copyJars({ what: 'Spark', pom: join(here, 'pom.xml'), scratch, options: version });
    if (!existsSync(jars)) renameSync(fetched, jars);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function run(): Promise<void> {
  try {
    const home = await provisionSpark((line) => console.error(`spark: ${line}`));
    console.log(`export MILLRACE_TEST_SPARK=${home}`);
  } catch (error) {
    if (!(error instanceof StackError)) throw error;
    console.error(`spark: ${error.message}`);
    process.exitCode = 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await run();

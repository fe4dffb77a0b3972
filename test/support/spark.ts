/** Spark jobs as their users submit them: in processes of their own, small enough for a machine of two cores. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const JOBS = fileURLToPath(new URL('../../compose/spark', import.meta.url));

export interface SparkJob {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly ended: Promise<number | NodeJS.Signals | null>;
  /** SIGKILL to every process of the job, before any of them can do anything more. */
  kill(): void;
}

/** `home`: what `needSpark` answers. */
export function submit(home: string, job: string, args: readonly string[], env: Record<string, string> = {}): SparkJob {
  const jars = readdirSync(join(home, 'jars'))
    .filter((name) => name.endsWith('.jar'))
    .map((name) => join(home, 'jars', name));
  const bin = join(home, 'venv', 'bin');
  const options = [
    ...['--master', 'local[2]', '--driver-memory', '640m', '--jars', jars.join(',')],
    ...['--conf', 'spark.ui.enabled=false', '--conf', 'spark.sql.shuffle.partitions=2'],
    ...['--conf', 'spark.driver.extraJavaOptions=-XX:+UseSerialGC -XX:TieredStopAtLevel=1'],
  ];
  const child = spawn(join(bin, 'spark-submit'), [...options, join(JOBS, job), ...args], {
    // A group of its own: a job is a JVM, the Python of the job, and Python workers.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      PATH: `${bin}:${process.env.PATH}`,
      PYSPARK_PYTHON: join(bin, 'python'),
      PYTHONDONTWRITEBYTECODE: '1',
      SPARK_LOCAL_IP: '127.0.0.1',
      ...env,
    },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once('close', (code, signal) => resolve(code ?? signal));
  });
  const kill = () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL');
  };
  process.once('exit', kill);
  ended.then(() => process.removeListener('exit', kill));
  return { child, output: () => output, ended, kill };
}

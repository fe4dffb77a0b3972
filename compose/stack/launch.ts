/**
 * Starting and ending server processes whose output goes to a file: free ports, waiting for readiness with a deadline,
 * signals by process id. A process is recognised by its id *and* a text in its command line (its data folder), because
 * ids are used again.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { StackError } from './provision.ts';

const POLL_MS = 30;
const TAIL_LINES = 25;

/** True while the process lives and is the one meant; a zombie does not live. */
export function alive(pid: number, mark: string): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    if (existsSync('/proc/self/cmdline')) return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(mark);
  } catch {
    return false;
  }
  return spawnSync('ps', ['-p', String(pid), '-o', 'command='], { encoding: 'utf8' }).stdout.includes(mark);
}

export function free(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/**
 * A port nobody listens on. Below the range from which the system takes ports of outgoing connections: a server that
 * is killed and started again on its port must not find it taken by a client, nor may a client that keeps trying to
 * connect be answered by itself.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (await free(port)) return port;
  }
  throw new StackError('no free port between 20000 and 32000');
}

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly log: string;
  /** Goes on living when this process ends; otherwise it is killed with it. */
  readonly detached: boolean;
}

/** Starts the process; `logFrom` is where its own output begins in the file. */
export function launch(what: Launch): { child: ChildProcess; logFrom: number } {
  const logFrom = existsSync(what.log) ? statSync(what.log).size : 0;
  const output = openSync(what.log, 'a');
  const child = spawn(what.command, what.args, {
    stdio: ['ignore', output, output],
    detached: what.detached,
  });
  closeSync(output);
  child.unref();
  if (!what.detached) {
    const endWithUs = () => child.kill('SIGKILL');
    process.once('exit', endWithUs);
    child.once('exit', () => process.removeListener('exit', endWithUs));
  }
  return { child, logFrom };
}

/** Waits until `ready` says so. Throws, with the end of the log, when the process ends first or the time is over. */
export async function waitReady(
  name: string,
  started: { child: ChildProcess; logFrom: number },
  log: string,
  deadlineMs: number,
  ready: (output: string) => boolean | Promise<boolean>,
): Promise<void> {
  const { child, logFrom } = started;
  let failure: string | null = null;
  child.once('error', (error) => {
    failure = `could not be started: ${error.message}`;
  });
  const untilMs = performance.now() + deadlineMs;
  for (;;) {
    if (await ready(textFrom(log, logFrom))) return;
    if (child.exitCode !== null || child.signalCode !== null)
      failure ??= `ended with ${child.exitCode ?? child.signalCode}`;
    if (performance.now() > untilMs) failure ??= `was not ready after ${deadlineMs / 1000} s`;
    if (failure) break;
    await sleep(POLL_MS);
  }
  child.kill('SIGKILL');
  const tail = textFrom(log, logFrom).trimEnd().split('\n').slice(-TAIL_LINES).join('\n  ');
  throw new StackError(`${name} ${failure}. The end of ${log}:\n  ${tail}`);
}

/** Sends the signal and waits for the end; after `graceMs`, SIGKILL. True: it ended by itself. */
export async function end(pid: number, mark: string, signal: NodeJS.Signals, graceMs: number): Promise<boolean> {
  if (!alive(pid, mark)) return true;
  process.kill(pid, signal);
  const untilMs = performance.now() + graceMs;
  while (alive(pid, mark)) {
    if (performance.now() > untilMs) {
      process.kill(pid, 'SIGKILL');
      while (alive(pid, mark)) await sleep(POLL_MS);
      return false;
    }
    await sleep(POLL_MS);
  }
  return true;
}

function textFrom(file: string, from: number): string {
  const size = existsSync(file) ? statSync(file).size : 0;
  if (size <= from) return '';
  const buffer = Buffer.alloc(size - from);
  const descriptor = openSync(file, 'r');
  try {
    return buffer.toString('utf8', 0, readSync(descriptor, buffer, 0, buffer.length, from));
  } finally {
    closeSync(descriptor);
  }
}

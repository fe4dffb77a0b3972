/** One process of the product, as its users run it: started, struck, asked over HTTP, started again on the same data. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../clock.ts';
import { pause } from '../retry.ts';

const READY_MS = 60_000;
const POLL_MS = 25;
const ANSWER_MS = 5_000;
const STOP_MS = 60_000;

export interface ProgramOptions {
  readonly name: string;
  readonly role: 'all' | 'gateway' | 'rollup';
  readonly config: string;
  readonly httpPort: number;
  /** Its output is appended to it. */
  readonly log: string;
  /** Modules loaded before it: a planted bug. */
  readonly preload: readonly string[];
  readonly clock: Clock;
}

export class Program {
  readonly name: string;
  readonly #options: ProgramOptions;
  #child: ChildProcess | null = null;
  #expected = true;
  /** Ends that nobody asked for. */
  readonly crashes: string[] = [];

  constructor(options: ProgramOptions) {
    this.#options = options;
    this.name = options.name;
  }

  /** Resolves when it answers; throws when it does not. */
  async start(): Promise<void> {
    const { role, config, log, preload, clock, httpPort } = this.#options;
    const isCompiled = import.meta.url.endsWith('.js');
    const main = fileURLToPath(new URL(`../main.${isCompiled ? 'js' : 'ts'}`, import.meta.url));
    const output = openSync(log, 'a');
    const loaded = preload.flatMap((module) => ['--import', module]);
    // A group of its own: Ctrl-C reaches only us, who end it in order.
    const child = spawn(
      process.execPath,
      [...process.execArgv, ...loaded, main, 'run', '--config', config, '--role', role],
      {
        stdio: ['ignore', output, output],
        detached: true,
      },
    );
    closeSync(output);
    this.#child = child;
    this.#expected = false;
    child.once('exit', (code, signal) => {
      if (!this.#expected) this.crashes.push(`${this.name} ended by itself with ${code ?? signal}; see ${log}`);
      if (this.#child === child) this.#child = null;
    });
    const deadlineMs = clock.monotonicMs() + READY_MS;
    while (this.#child === child) {
      const answer = await fetch(`http://127.0.0.1:${httpPort}/livez`, soon()).catch(() => null);
      if (answer?.ok) return;
      if (clock.monotonicMs() > deadlineMs) break;
      await pause(POLL_MS);
    }
    throw new Error(`${this.name} did not start; see ${log}`);
  }

  get isRunning(): boolean {
    return this.#child !== null;
  }

  /** Null while it does not run. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** SIGSTOP, SIGCONT. */
  signal(signal: NodeJS.Signals): boolean {
    return this.#child?.kill(signal) ?? false;
  }

  /** Ends it and resolves with its exit code, or the signal that ended it; null when it was not running. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | string | null> {
    const child = this.#child;
    if (child === null) return null;
    this.#expected = true;
    const ended = once(child, 'exit') as Promise<[number | null, string | null]>;
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    const [code, by] = await ended;
    clearTimeout(late);
    return code ?? by;
  }

  /** Throws when it does not answer. */
  get(path: string, signal?: AbortSignal): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.#options.httpPort}${path}`, signal ? { signal } : {});
  }

  /** The sum of a metric over its labels, of those that match; null when it does not answer. */
  async metric(name: string, label = ''): Promise<number | null> {
    const values = await this.metrics(name);
    if (values === null) return null;
    return values.reduce((sum, { labels, value }) => (labels.includes(label) ? sum + value : sum), 0);
  }

  async metrics(name: string): Promise<{ labels: string; value: number }[] | null> {
    const url = `http://127.0.0.1:${this.#options.httpPort}/metrics`;
    const text = await fetch(url, soon()).then(
      (answer) => answer.text(),
      () => null,
    );
    if (text === null) return null;
    return [...text.matchAll(new RegExp(`^${name}(\\{[^\\n]*\\})? (\\S+)$`, 'gm'))].map(([, labels = '', value]) => ({
      labels,
      value: Number(value),
    }));
  }
}

function soon(): { signal: AbortSignal } {
  return { signal: AbortSignal.timeout(ANSWER_MS) };
}

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** A gateway as its users run it: the built program in a process of its own, on a configuration and data folder of the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/torture/program.ts';

const MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const READY_MS = 30_000;
const POLL_MS = 20;

export interface GatewayOptions {
  /** Holds the configuration and, below `data`, the data. */
  readonly folder: string;
  /** YAML below the settings that the harness owns (data, listener, http). */
  readonly yaml: string;
  readonly role?: 'all' | 'gateway' | 'rollup';
  /** Modules that are loaded before the program: a planted bug. */
  readonly preload?: string | readonly string[];
  readonly env?: Record<string, string>;
  /** More settings of the http section, such as `token: secret`. */
  readonly http?: string;
  /** More settings of the mqtt section. */
  readonly mqtt?: string;
  /** Default: free ones, kept over restarts by passing the same options again. */
  readonly mqttPort?: number;
  readonly httpPort?: number;
}

export interface GatewayProcess {
  readonly mqttPort: number;
  readonly httpPort: number;
  readonly child: ChildProcess;
  readonly log: () => string;
  /** Sends the signal and resolves with the exit code, or the signal that ended it. */
  end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null>;
  /** The sum of a metric over its labels. */
  metric(name: string): Promise<number>;
  get(path: string): Promise<Response>;
}

/** Starts it and waits until it listens; throws with its log when it ends instead. */
export async function startGateway(options: GatewayOptions): Promise<GatewayProcess> {
  const { folder, yaml, role = 'all', preload = [], env, http, mqtt } = options;
  const mqttPort = options.mqttPort ?? (await freePort());
  const httpPort = options.httpPort ?? (await freePort());
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${role}.yaml`);
  const listener = `mqtt: { listeners: [{ port: ${mqttPort}, host: 127.0.0.1 }]${mqtt ? `, ${mqtt}` : ''} }`;
  const data = join(folder, role === 'rollup' ? `data-rollup-${httpPort}` : 'data');
  writeFileSync(file, `data: ${data}\n${listener}\nhttp: { port: ${httpPort}${http ? `, ${http}` : ''} }\n${yaml}`);
  const args = [
    ...[preload].flat().flatMap((module) => ['--import', module]),
    MAIN,
    'run',
    '--config',
    file,
    '--role',
    role,
  ];
  const child = spawn(process.execPath, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-200_000);
    });
  }
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal));
  });
  const get = (path: string) => fetch(`http://127.0.0.1:${httpPort}${path}`);
  for (let waitedMs = 0; ; waitedMs += POLL_MS) {
    if (child.exitCode !== null || child.signalCode !== null || waitedMs > READY_MS) {
      child.kill('SIGKILL');
      throw new Error(`the gateway did not start: ${log}`);
    }
    const up = await get('/livez').then(
      (response) => response.ok,
      () => false,
    );
    if (up) break;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return {
    mqttPort,
    httpPort,
    child,
    log: () => log,
    get,
    end: (signal) => {
      child.kill(signal);
      return ended;
    },
    async metric(name) {
      const text = await (await get('/metrics')).text();
      const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
      return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
    },
  };
}

/** Runs a command of the built program to its end. */
export async function runMillrace(
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; input?: string } = {},
): Promise<{ code: number | null; out: string; err: string }> {
  const { cwd, env, input = '' } = options;
  const child = spawn(process.execPath, [MAIN, ...args], { cwd, env: { ...process.env, ...env } });
  const text = { out: '', err: '' };
  for (const name of ['out', 'err'] as const) {
    child[`std${name}`].setEncoding('utf8').on('data', (chunk: string) => {
      text[name] += chunk;
    });
  }
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...text };
}

/** Runs a program of devices-sim to its end. */
export function startSimulator(
  program: 'main' | 'load',
  args: readonly string[],
): {
  child: ChildProcess;
  /** The first line that it prints is complete. */
  started: Promise<void>;
  ended: Promise<{ code: number | null; summary: Record<string, number> }>;
} {
  const file = fileURLToPath(new URL(`../../dist/devices-sim/${program}.js`, import.meta.url));
  const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  const started = new Promise<void>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (chunk.includes('\n')) resolve();
    });
  });
  const ended = new Promise<{ code: number | null; summary: Record<string, number> }>((resolve) => {
    child.once('close', (code) => {
      const last = text.trim().split('\n').at(-1) ?? '';
      resolve({ code, summary: last.startsWith('{') ? JSON.parse(last) : {} });
    });
  });
  return { child, started, ended };
}

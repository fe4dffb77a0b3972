/** A real Mosquitto, for tests that need a broker that is not ours. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { freePort } from '../../compose/stack/launch.ts';
import { leaveOut } from './servers.ts';

/** The program, or this test (or the suite whose `before` calls) is skipped. */
export function needMosquitto(context: Mocha.Context): string {
  return findMosquitto() ?? leaveOut(context, 'mosquitto');
}

/** Null: it is not installed. */
export function findMosquitto(): string | null {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin'];
  return folders.map((folder) => join(folder, 'mosquitto')).find((file) => existsSync(file)) ?? null;
}

export class Mosquitto {
  readonly port: number;
  readonly #program: string;
  readonly #folder: string;
  #process: ChildProcess | null = null;

  private constructor(program: string, port: number, settings: readonly string[]) {
    this.#program = program;
    this.port = port;
    this.#folder = mkdtempSync(join(tmpdir(), 'millrace-mosquitto-'));
    const lines = [
      `listener ${port} 127.0.0.1`,
      'allow_anonymous true',
      'user root',
      'persistence true',
      `persistence_location ${this.#folder}/`,
      'max_queued_messages 0',
      ...settings,
    ];
    writeFileSync(join(this.#folder, 'mosquitto.conf'), `${lines.join('\n')}\n`);
  }

  static async start(program: string, settings: readonly string[] = []): Promise<Mosquitto> {
    const mosquitto = new Mosquitto(program, await freePort(), settings);
    await mosquitto.run();
    return mosquitto;
  }

  async run(): Promise<void> {
    const child = spawn(this.#program, ['-c', join(this.#folder, 'mosquitto.conf')], { stdio: 'ignore' });
    this.#process = child;
    const deadline = performance.now() + 5_000;
    while (!(await answers(this.port))) {
      if (performance.now() > deadline || child.exitCode !== null) throw new Error('mosquitto did not start');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Of the process started last. */
  get pid(): number {
    return this.#process!.pid!;
  }

  /** SIGTERM: sessions and what is queued are saved. SIGKILL: they are lost, since the last save. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  }

  async remove(): Promise<void> {
    await this.end('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

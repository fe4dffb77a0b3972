/**
 * Watches the processes of a soak: from outside their descriptors and threads (where the system has /proc), connections,
 * and how far the rollup is behind; from inside, by a module that is loaded before the program (src/cli/soak-probe.ts) and
 * writes lines into one file, what each thread still holds after a collection, and the resident memory. All samples stay
 * in `samples.ndjson` of the run's folder.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pause } from '../retry.ts';
import type { Claim } from './claim.ts';
import { type Sample, soakClaims, trends } from './soak-judge.ts';
import type { World } from './world.ts';

/** Of one run, however long it is. */
const SAMPLES = 120;
const LEAST_EVERY_MS = 500;

/** A line of the probe, one for each thread and turn. */
export interface ProbeLine {
  readonly atMs: number;
  readonly pid: number;
  /** 0: the main thread. */
  readonly thread: number;
  /** Heap and buffers after a collection. */
  readonly heldBytes: number;
  readonly residentBytes: number;
}

export function sampleEveryMs(durationMs: number): number {
  return Math.max(LEAST_EVERY_MS, Math.round(durationMs / SAMPLES));
}

export class SoakWatch {
  readonly #world: World;
  readonly #folder: string;
  readonly #probeFile: string;
  readonly #everyMs: number;
  readonly #clients: number;
  readonly #samples: Sample[] = [];
  readonly #stopping = new AbortController();
  readonly #fromMs: number;
  readonly #watching: Promise<void>;
  readonly #base: Promise<number | null>;
  #toMs = 0;
  #messagesPerSecond = 0;

  constructor(world: World, folder: string, watched: { probeFile: string; durationMs: number; clients: number }) {
    const { probeFile, durationMs, clients } = watched;
    this.#world = world;
    this.#folder = folder;
    this.#probeFile = probeFile;
    this.#clients = clients;
    this.#everyMs = sampleEveryMs(durationMs);
    this.#fromMs = world.clock.nowMs();
    this.#base = world.gateway.metric('millrace_acknowledged_total');
    this.#watching = this.#watch();
  }

  async stop(): Promise<void> {
    this.#toMs = this.#world.clock.nowMs();
    this.#stopping.abort();
    await this.#watching;
    const acknowledged = (await this.#world.gateway.metric('millrace_acknowledged_total')) ?? 0;
    const seconds = (this.#toMs - this.#fromMs) / 1_000;
    this.#messagesPerSecond = (acknowledged - ((await this.#base) ?? 0)) / seconds;
    this.#readProbe();
  }

  claims(): Claim[] {
    const all = this.#samples.map((sample) => `${JSON.stringify(sample)}\n`).join('');
    writeFileSync(join(this.#folder, 'samples.ndjson'), all);
    return soakClaims(trends(this.#samples, this.#fromMs, this.#toMs), {
      messagesPerSecond: this.#messagesPerSecond,
      clients: this.#clients,
    });
  }

  async #watch(): Promise<void> {
    const { world, stopping } = { world: this.#world, stopping: this.#stopping.signal };
    while (!stopping.aborted) {
      const atMs = world.clock.nowMs();
      for (const program of world.programs) {
        const { name: of, pid } = program;
        const connections = await program.metric('millrace_connections');
        const descriptors = pid === null ? null : descriptorsOf(pid);
        const threads = pid === null ? null : threadsOf(pid);
        if (threads !== null) this.#samples.push({ atMs, of, what: 'threads', value: threads });
        if (descriptors === null || connections === null) continue;
        this.#samples.push({ atMs, of, what: 'descriptors', value: descriptors - connections });
        this.#samples.push({ atMs, of, what: 'connections', value: connections });
      }
      const lags = await Promise.all(world.rollups.map((rollup) => rollup.metric('millrace_lag_records')));
      if (!lags.includes(null)) {
        const value = lags.reduce<number>((sum, lag) => sum + lag!, 0);
        this.#samples.push({ atMs, of: 'the rollup', what: 'lag', value });
      }
      await pause(this.#everyMs, stopping);
    }
  }

  #readProbe(): void {
    const names = new Map(this.#world.programs.map(({ name, pid }) => [pid, name]));
    const text = existsSync(this.#probeFile) ? readFileSync(this.#probeFile, 'utf8') : '';
    for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
      if (line === '') continue;
      const { atMs, pid, thread, heldBytes, residentBytes }: ProbeLine = JSON.parse(line);
      const process = names.get(pid);
      if (process === undefined) continue;
      const of = thread === 0 ? process : `${process} thread ${thread}`;
      this.#samples.push({ atMs, of, what: 'held', value: heldBytes });
      if (thread === 0) this.#samples.push({ atMs, of, what: 'resident', value: residentBytes });
    }
  }
}

/** Null where the system does not say. */
function descriptorsOf(pid: number): number | null {
  return entries(`/proc/${pid}/fd`);
}

function threadsOf(pid: number): number | null {
  return entries(`/proc/${pid}/task`);
}

function entries(folder: string): number | null {
  try {
    return readdirSync(folder).length;
  } catch {
    return null;
  }
}

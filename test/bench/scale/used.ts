/** CPU that processes have used, how long their threads waited for it, and what a message costs by it. */
import type { GatewayProcess } from '../../support/gateway-process.ts';
import { cpuSeconds, threadSeconds, waitSeconds } from '../rollup/process.ts';
import type { Cost } from './plan.ts';

/** CPU seconds of one process since its start. */
export interface Used {
  readonly pid: number;
  readonly process: number;
  readonly threads: ReadonlyMap<number, number>;
  /** By thread too: seconds in which it waited for a core. */
  readonly waits: ReadonlyMap<number, number>;
}

export function snapshot(all: readonly GatewayProcess[]): Used[] {
  return all.map(({ child }) => ({
    pid: child.pid!,
    process: cpuSeconds(child.pid!),
    threads: threadSeconds(child.pid!),
    waits: waitSeconds(child.pid!),
  }));
}

/** In the order of `after`. */
export function between(before: readonly Used[], after: readonly Used[]): Used[] {
  return after.map(({ pid, process, threads, waits }, i) => ({
    pid,
    process: process - before[i]!.process,
    threads: more(before[i]!.threads, threads),
    waits: more(before[i]!.waits, waits),
  }));
}

function more(before: ReadonlyMap<number, number>, after: ReadonlyMap<number, number>): Map<number, number> {
  return new Map([...after].map(([id, seconds]) => [id, seconds - (before.get(id) ?? 0)]));
}

export function busiestThread({ threads }: Used): number {
  return Math.max(...threads.values());
}

/** Seconds of CPU and of waiting for a core. */
export interface ThreadTime {
  readonly cpu: number;
  readonly wait: number;
}

export function mainThread({ pid, threads, waits }: Used): ThreadTime {
  return { cpu: threads.get(pid) ?? 0, wait: waits.get(pid) ?? 0 };
}

/** The busiest beside the main thread. */
export function workingThread({ pid, threads, waits }: Used): ThreadTime {
  const others = [...threads].filter(([id]) => id !== pid);
  const [id, cpu] = others.reduce((most, one) => (one[1] > most[1] ? one : most), [pid, 0]);
  return { cpu, wait: id === pid ? 0 : (waits.get(id) ?? 0) };
}

/** All processes of a kind together; the busiest thread of each of them for its part of the messages. */
export function costOf(used: readonly Used[], messages: number): Cost {
  const perMillion = (of: (one: Used) => number) =>
    Math.round((used.reduce((sum, one) => sum + of(one), 0) * 1e8) / messages) / 100;
  return { process: perMillion((one) => one.process), busiestThread: perMillion((one) => busiestThread(one)) };
}

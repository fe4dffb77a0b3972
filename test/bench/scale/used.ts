/** CPU that processes have used, and what a message costs by it. */
import type { GatewayProcess } from '../../support/gateway-process.ts';
import { cpuSeconds, threadSeconds } from '../rollup/process.ts';
import type { Cost } from './plan.ts';

/** CPU seconds of one process since its start. */
export interface Used {
  readonly pid: number;
  readonly process: number;
  readonly threads: ReadonlyMap<number, number>;
}

export function snapshot(all: readonly GatewayProcess[]): Used[] {
  return all.map(({ child }) => ({
    pid: child.pid!,
    process: cpuSeconds(child.pid!),
    threads: threadSeconds(child.pid!),
  }));
}

/** In the order of `after`. */
export function between(before: readonly Used[], after: readonly Used[]): Used[] {
  return after.map(({ pid, process, threads }, i) => ({
    pid,
    process: process - before[i]!.process,
    threads: new Map([...threads].map(([id, seconds]) => [id, seconds - (before[i]!.threads.get(id) ?? 0)])),
  }));
}

export function mainThread({ pid, threads }: Used): number {
  return threads.get(pid) ?? 0;
}

/** Beside the main thread, where it is left out. */
export function busiestThread({ pid, threads }: Used, isMainToo = true): number {
  return Math.max(...[...threads].map(([id, seconds]) => (id === pid && !isMainToo ? 0 : seconds)));
}

/** All processes of a kind together; the busiest thread of each of them for its part of the messages. */
export function costOf(used: readonly Used[], messages: number): Cost {
  const perMillion = (of: (one: Used) => number) =>
    Math.round((used.reduce((sum, one) => sum + of(one), 0) * 1e8) / messages) / 100;
  return { process: perMillion((one) => one.process), busiestThread: perMillion((one) => busiestThread(one)) };
}

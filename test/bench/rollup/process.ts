/** A process of the program under measurement: what it has used so far, from /proc. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** Of Linux, on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** CPU seconds of all threads since its start. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name, in brackets, may hold blanks.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** The most that was resident at once, MiB. */
export function peakMiB(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1] ?? 0) / 1_024;
}

/** CPU seconds of each thread since its start, by its number; the main thread has that of the process. */
export function threadSeconds(pid: number): Map<number, number> {
  const threads = new Map<number, number>();
  for (const name of readdirSync(`/proc/${pid}/task`)) {
    const stat = readFileSync(`/proc/${pid}/task/${name}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    threads.set(Number(name), (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND);
  }
  return threads;
}

/** Seconds in which each thread could run and waited for a core, by its number; 0 where the kernel does not count them. */
export function waitSeconds(pid: number): Map<number, number> {
  const waits = new Map<number, number>();
  for (const name of readdirSync(`/proc/${pid}/task`)) {
    const file = `/proc/${pid}/task/${name}/schedstat`;
    const [, waitedNs = '0'] = existsSync(file) ? readFileSync(file, 'utf8').split(' ') : [];
    waits.set(Number(name), Number(waitedNs) / 1e9);
  }
  return waits;
}

/** The device simulator as a process of its own: started by `demo` and `simulate`. It speaks MQTT to the gateway and nothing else. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseDurationMs } from '../units.ts';

/** What the simulator prints at its end; the part that is used here. */
export interface SimulatorSummary {
  readonly published: number;
  readonly acknowledged: number;
  readonly unacknowledged: number;
}

/** What is wrong with the options that `demo` and `simulate` hand on to it; null when nothing is. */
export function simulatorMistake(options: {
  readonly for?: string;
  readonly devices?: string;
  readonly rate?: string;
}): string | null {
  const { for: duration, devices, rate } = options;
  if (duration !== undefined && parseDurationMs(duration) === null) {
    return `--for ${duration} is not a duration such as 60s or 5m`;
  }
  if (devices !== undefined && !/^[1-9]\d*$/.test(devices)) return `--devices ${devices} is not a number from 1 on`;
  if (rate !== undefined && (!/^\d+(\.\d+)?(\/(ms|s|m|h|d))?$/.test(rate) || Number.parseFloat(rate) === 0)) {
    return `--rate ${rate} is not a rate such as 1/s or 30/m`;
  }
  return null;
}

export function startSimulator(args: readonly string[]): ChildProcess {
  const compiled = import.meta.url.endsWith('.js');
  const main = fileURLToPath(new URL(`../../devices-sim/main.${compiled ? 'js' : 'ts'}`, import.meta.url));
  // A group of its own: Ctrl-C reaches only us, and the simulator ends when the channel to us does.
  return spawn(process.execPath, [...process.execArgv, main, ...args, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    detached: true,
  });
}

export interface SimulatorEnd {
  readonly code: number | null;
  readonly summary: SimulatorSummary;
}

export async function untilEnd(simulator: ChildProcess): Promise<SimulatorEnd> {
  let text = '';
  simulator.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const code = await new Promise<number | null>((resolve) => simulator.once('close', resolve));
  const last = text.trim().split('\n').at(-1) ?? '';
  const summary = last.startsWith('{') ? JSON.parse(last) : { published: 0, acknowledged: 0, unacknowledged: 0 };
  return { code, summary };
}

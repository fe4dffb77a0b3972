/**
 * Simulated devices as processes of their own, with what goes wrong at devices; and, from their ledgers, how often each
 * of these faults really happened.
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { readSimulatorLedger, type SimulatedDelivery } from './deliveries.ts';

/** Starts the simulator with these options; it ends when this process does. */
export type StartSimulator = (args: readonly string[]) => ChildProcess;

const FOREVER = '87600h';
/** The rollup's skew is far below it, and so is its grace. */
const WRONG_CLOCK_MS = 20_000;

/** `plant`: many devices with every fault of payloads and connections. `clocks`: devices whose clocks are wrong, QoS 2. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  plant: [
    ...[
      '--devices',
      '20',
      '--rate',
      '5/s',
      '--duplicates',
      '0.05',
      '--gaps',
      '0.03',
      '--late',
      '0.04',
      '--late-by',
      '12s',
    ],
    ...['--future', '0.01', '--malformed', '0.02', '--oversized', '0.003', '--flapping', '0.01'],
  ],
  clocks: ['--devices', '8', '--rate', '2/s', '--clock-offset', '90s', '--qos', '2', '--devices-per-client', '2'],
};
/** In a soak more of them, so that a leak shows sooner; the last of an option counts. */
const SOAKING: Readonly<Record<string, readonly string[]>> = { plant: ['--devices', '40'], clocks: [] };
/** All of them together: one for each device of `plant`, and one for two of `clocks`. */
export const SOAK_CLIENTS = 44;
const FLOOD = ['--devices', '4', '--rate', '400/s', '--duration', '3s', '--in-flight', '1000', '--drain', '60s'];

export interface DeviceFault {
  readonly name: string;
  readonly text: string;
  readonly count: number;
}

export class Devices {
  readonly #folder: string;
  readonly #url: string;
  readonly #seed: number;
  readonly #start: StartSimulator;
  readonly #running: { readonly child: ChildProcess; readonly ended: Promise<unknown> }[] = [];
  readonly #ledgers: string[] = [];
  #floods = 0;

  constructor(folder: string, port: number, seed: number, start: StartSimulator) {
    this.#folder = folder;
    this.#url = `mqtt://127.0.0.1:${port}`;
    this.#seed = seed;
    this.#start = start;
  }

  start(soak: boolean): void {
    for (const [group, args] of Object.entries(GROUPS)) {
      this.#run(group, [...args, ...(soak ? SOAKING[group]! : []), '--duration', FOREVER]);
    }
  }

  /** A few devices that send far more than a device may, for some seconds. */
  flood(): void {
    this.#run(`flood${++this.#floods}`, FLOOD);
  }

  #run(group: string, args: readonly string[]): void {
    const ledger = join(this.#folder, `${group}.ndjson`);
    const child = this.#start([
      ...['--url', this.#url, '--topic', `torture/${group}/{device}/environment`, '--client', `${group}-`],
      ...['--seed', String(this.#seed), '--ledger', ledger, ...args],
    ]);
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.stdout?.resume();
    this.#ledgers.push(ledger);
    this.#running.push({ child, ended });
  }

  /** They stop measuring, wait for what is under way, and end. */
  async stop(): Promise<void> {
    for (const { child } of this.#running) if (child.exitCode === null) child.kill('SIGINT');
    await Promise.all(this.#running.map(({ ended }) => ended));
  }

  kill(): void {
    for (const { child } of this.#running) child.kill('SIGKILL');
  }

  /** What they have written so far. */
  read(): { readonly deliveries: SimulatedDelivery[]; readonly faults: readonly DeviceFault[] } {
    const ledgers = this.#ledgers.map(readSimulatorLedger);
    const deliveries = ledgers.flatMap((ledger) => ledger.deliveries);
    const sum = (name: 'gaps' | 'broken') => ledgers.reduce((total, ledger) => total + ledger[name], 0);
    return { deliveries, faults: faultsOf(deliveries, sum('gaps'), sum('broken')) };
  }
}

function faultsOf(deliveries: readonly SimulatedDelivery[], gaps: number, broken: number): DeviceFault[] {
  const counts = { duplicate: 0, late: 0, future: 0, malformed: 0, oversized: 0, resent: 0, clocks: 0, disordered: 0 };
  const newest = new Map<string, number>();
  for (const { topic, fault, copy, attempt, ts, sentMs } of [...deliveries].sort((a, b) => a.sentMs - b.sentMs)) {
    if (attempt > 1) {
      counts.resent++;
      continue;
    }
    if (fault === 'duplicate') counts.duplicate += copy;
    else if (fault === 'late' || fault === 'future' || fault === 'malformed' || fault === 'oversized') counts[fault]++;
    if (topic.startsWith('torture/clocks/') && Math.abs(ts - sentMs) > WRONG_CLOCK_MS) counts.clocks++;
    const last = newest.get(topic) ?? Number.NEGATIVE_INFINITY;
    if (fault !== 'future' && ts < last) counts.disordered++;
    if (fault !== 'future') newest.set(topic, Math.max(last, ts));
  }
  const named = (name: string, text: string, count: number) => ({ name, text, count });
  return [
    named('duplicates', 'reports published twice', counts.duplicate),
    named('gaps', 'reports that a device lost', gaps),
    named('late', 'reports held back', counts.late),
    named('disorder', 'reports sent behind newer ones', counts.disordered),
    named('clocks', 'reports of devices with a wrong clock', counts.clocks),
    named('future', 'reports stamped hours ahead', counts.future),
    named('malformed', 'broken payloads', counts.malformed),
    named('oversized', 'payloads larger than allowed', counts.oversized),
    named('flapping', 'messages whose connection was lost before the answer', broken),
    named('resent', 'messages sent again without an answer to the first', counts.resent),
  ];
}

/**
 * What a message costs on its way in, as ratios to bare Aedes in the same run: Aedes alone, a gateway that acknowledges from
 * its spool, and one that forwards to a real Kafka meanwhile, until the last message is there. The load comes from a process
 * of its own (85 bytes of JSON with three metrics, QoS 1); CPU is that of the measured process alone, from /proc. At a fixed
 * rate the disk is measured beside them (ingress/disk.ts): nobody who acknowledges after it is quicker.
 *
 *   eval "$(npm run --silent stack -- env)" && npm run bench -- ingress [--seconds 10] [--rounds 3] [--peers]
 *
 * `--peers` brings Mosquitto with Telegraf, and with Benthos, behind it to the same work (peers/mosquitto.ts).
 *
 * Rounds are interleaved, so that a noisy machine hits all alike; the median of each figure counts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startSimulator } from '../support/gateway-process.ts';
import { type DiskWaits, measureDisk } from './ingress/disk.ts';
import { NOBODY, startAedes, startMillrace, type Target } from './ingress/target.ts';
import { median } from './median.ts';
import { startMosquittoBenthos } from './peers/mosquitto-benthos.ts';
import { startMosquittoTelegraf } from './peers/mosquitto-telegraf.ts';
import { cpuSeconds, peakMiB } from './rollup/process.ts';

interface Case {
  readonly name: string;
  readonly connections: number;
  readonly inFlight: number;
  /** Messages a second; 0 = flat out. */
  readonly rate: number;
}

interface Figures {
  /** Until the last message was where it goes. */
  readonly messagesPerSecond: number;
  readonly cpuSecondsPerMillion: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly peakMiB: number;
}

const CASES: readonly Case[] = [
  { name: '100 x 20 flat out', connections: 100, inFlight: 20, rate: 0 },
  { name: '1,000 x 1 at 10,000/s', connections: 1_000, inFlight: 1, rate: 10_000 },
];
/** For what was sent to arrive in Kafka. */
const ARRIVAL_MS = 180_000;
/** Once everybody is connected: fills caches, and V8 compiles for ten seconds what 10,000 messages a second need. */
const WARMUP_S = 15;

function peersOf(brokers: string): Record<string, () => Promise<Target>> {
  return {
    'mosquitto + telegraf': () => startMosquittoTelegraf(brokers),
    'mosquitto + benthos': () => startMosquittoBenthos(brokers),
  };
}

export async function run(args: string[]): Promise<object> {
  const { values } = parseArgs({
    args,
    options: {
      seconds: { type: 'string', default: '10' },
      rounds: { type: 'string', default: '3' },
      peers: { type: 'boolean', default: false },
    },
  });
  const brokers = process.env.MILLRACE_TEST_KAFKA;
  const targets: Record<string, () => Promise<Target>> = {
    aedes: startAedes,
    spool: () => startMillrace(NOBODY),
    ...(brokers ? { kafka: () => startMillrace(brokers) } : undefined),
    ...(brokers && values.peers ? peersOf(brokers) : undefined),
  };
  const results: Record<string, object> = {};
  for (const one of CASES) {
    const rounds = new Map<string, Figures[]>();
    const disk: DiskWaits[] = [];
    for (let round = 0; round < Number(values.rounds); round++) {
      if (one.rate > 0) disk.push(await measureDisk(one.rate, Number(values.seconds)));
      for (const [name, start] of Object.entries(targets)) {
        const target = await start();
        try {
          const figures = await measure(target, one, Number(values.seconds));
          rounds.set(name, [...(rounds.get(name) ?? []), figures]);
        } finally {
          await target.close();
        }
      }
    }
    const medians = new Map([...rounds].map(([name, figures]) => [name, medianOf(figures)]));
    const base = medians.get('aedes')!;
    const ofTargets = [...medians].map(([name, figures]) => [
      name,
      {
        ...figures,
        throughputToAedes: round(figures.messagesPerSecond / base.messagesPerSecond),
        cpuToAedes: round(figures.cpuSecondsPerMillion / base.cpuSecondsPerMillion),
      },
    ]);
    results[one.name] = {
      ...(disk.length > 0 ? { 'the disk alone': medianOf(disk) } : undefined),
      ...Object.fromEntries(ofTargets),
    };
  }
  return results;
}

async function measure(target: Target, one: Case, seconds: number): Promise<Figures> {
  const running = load(target, one, ['--warmup', `${WARMUP_S}s`, '--duration', `${seconds}s`]);
  await running.measuring;
  const storedBefore = await target.stored();
  const cpuBefore = cpuOf(target);
  const startMs = performance.now();
  const { acknowledged, measured, latencyMs, ...summary } = await running.ended;
  if (storedBefore !== null) {
    // it began with an empty topic
    const deadlineMs = performance.now() + ARRIVAL_MS;
    while ((await target.stored())! < acknowledged) {
      if (performance.now() > deadlineMs) throw new Error('not everything has arrived in Kafka');
      await sleep(20);
    }
  }
  const spentS = storedBefore === null ? summary.seconds : (performance.now() - startMs) / 1_000;
  const handled = storedBefore === null ? measured : acknowledged - storedBefore;
  return {
    messagesPerSecond: handled / spentS,
    cpuSecondsPerMillion: ((cpuOf(target) - cpuBefore) * 1e6) / handled,
    p50Ms: latencyMs.p50,
    p99Ms: latencyMs.p99,
    p999Ms: latencyMs.p999,
    peakMiB: sum(target.pids().map(peakMiB)),
  };
}

interface Load {
  readonly acknowledged: number;
  readonly measured: number;
  readonly seconds: number;
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly p999: number };
}

function load({ port }: Target, { connections, inFlight, rate }: Case, more: string[]) {
  const args = ['--url', `mqtt://127.0.0.1:${port}`, '--connections', `${connections}`, '--in-flight', `${inFlight}`];
  const { started, ended } = startSimulator('load', [...args, '--rate', `${rate}/s`, ...more]);
  const finished = async (): Promise<Load> => {
    const { code, summary } = await ended;
    if (code !== 0) throw new Error(`the load ended with ${code}: ${JSON.stringify(summary)}`);
    return summary as unknown as Load;
  };
  return { measuring: started, ended: finished() };
}

/** Figure by figure. */
function medianOf<T extends { readonly [K in keyof T]: number }>(rounds: readonly T[]): T {
  const keys = Object.keys(rounds[0]!) as (keyof T)[];
  return Object.fromEntries(keys.map((key) => [key, round(median(rounds.map((one) => one[key])))])) as T;
}

function cpuOf(target: Target): number {
  return sum(target.pids().map(cpuSeconds));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

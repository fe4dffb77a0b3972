/**
 * What a message costs on its way in, as ratios to bare Aedes in the same run: Aedes alone, a gateway that acknowledges from
 * its spool, and one that forwards to a real Kafka meanwhile, until the last message is there. The load comes from a process
 * of its own (85 bytes of JSON with three metrics, QoS 1); CPU is that of the measured process alone, from /proc.
 *
 *   eval "$(npm run --silent stack -- env)" && npm run bench -- ingress [--seconds 6] [--rounds 3]
 *
 * Rounds are interleaved, so that a noisy machine hits all alike; the median of each figure counts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Kafka, logLevel } from 'kafkajs';
import { startGateway, startSimulator } from '../support/gateway-process.ts';
import { cpuSeconds, peakMiB } from './rollup/process.ts';

interface Target {
  readonly port: number;
  readonly pid: number;
  /** Messages that are in Kafka; null: it is not where they go. */
  stored(): Promise<number | null>;
  close(): Promise<void>;
}

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
const STREAM = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    time: ts
    sequence: seq
    metrics: [temperature, humidity, pressure]
`;
const PARTITIONS = 12;
/** Kafka is away: what is measured is the gateway up to its spool. */
const NOBODY = '127.0.0.1:1';
/** For what was sent to arrive in Kafka. */
const ARRIVAL_MS = 60_000;
/** Connects everybody, fills caches, and lets the compiler do its work. */
const WARMUP_S = 3;

export async function run(args: string[]): Promise<object> {
  const { values } = parseArgs({
    args,
    options: { seconds: { type: 'string', default: '6' }, rounds: { type: 'string', default: '3' } },
  });
  const brokers = process.env.MILLRACE_TEST_KAFKA;
  const targets: Record<string, () => Promise<Target>> = {
    aedes: startAedes,
    spool: () => startMillrace(NOBODY, false),
    ...(brokers ? { kafka: () => startMillrace(brokers, true) } : undefined),
  };
  const results: Record<string, object> = {};
  for (const one of CASES) {
    const rounds = new Map<string, Figures[]>();
    for (let round = 0; round < Number(values.rounds); round++) {
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
    results[one.name] = Object.fromEntries(
      [...medians].map(([name, figures]) => [
        name,
        {
          ...figures,
          throughputToAedes: round(figures.messagesPerSecond / base.messagesPerSecond),
          cpuToAedes: round(figures.cpuSecondsPerMillion / base.cpuSecondsPerMillion),
        },
      ]),
    );
  }
  return results;
}

async function measure(target: Target, one: Case, seconds: number): Promise<Figures> {
  const running = load(target, one, ['--warmup', `${WARMUP_S}s`, '--duration', `${seconds}s`]);
  await running.measuring;
  const storedBefore = await target.stored();
  const cpuBefore = cpuSeconds(target.pid);
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
    cpuSecondsPerMillion: ((cpuSeconds(target.pid) - cpuBefore) * 1e6) / handled,
    p50Ms: latencyMs.p50,
    p99Ms: latencyMs.p99,
    p999Ms: latencyMs.p999,
    peakMiB: peakMiB(target.pid),
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

async function startAedes(): Promise<Target> {
  const file = fileURLToPath(new URL('./ingress/bare-aedes.mjs', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout!, 'data')) as [Buffer];
  return {
    port: Number(line.toString()),
    pid: child.pid!,
    stored: async () => null,
    async close() {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

/** A gateway without a rollup. */
async function startMillrace(brokers: string, isThere: boolean): Promise<Target> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
  const prefix = `bench-${randomUUID().slice(0, 8)}`;
  const kafka = `kafka: { brokers: ["${brokers}"], prefix: ${prefix}, partitions: ${PARTITIONS} }\n`;
  const gateway = await startGateway({ folder, yaml: `${kafka}${STREAM}`, role: 'gateway' });
  const client = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.NOTHING });
  const admin = client.admin();
  if (isThere) await admin.connect();
  return {
    port: gateway.mqttPort,
    pid: gateway.child.pid!,
    async stored() {
      if (!isThere) return null;
      const offsets = await admin.fetchTopicOffsets(`${prefix}.readings`).catch(() => []);
      return offsets.reduce((sum, { high }) => sum + Number(high), 0);
    },
    async close() {
      await gateway.end('SIGTERM');
      if (isThere) {
        const ours = (await admin.listTopics()).filter((topic) => topic.startsWith(`${prefix}.`));
        await admin.deleteTopics({ topics: ours });
        await admin.disconnect();
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function medianOf(rounds: readonly Figures[]): Figures {
  const middle = (key: keyof Figures) => {
    const values = rounds.map((figures) => figures[key]).sort((a, b) => a - b);
    return round(values[values.length >> 1]!);
  };
  return {
    messagesPerSecond: middle('messagesPerSecond'),
    cpuSecondsPerMillion: middle('cpuSecondsPerMillion'),
    p50Ms: middle('p50Ms'),
    p99Ms: middle('p99Ms'),
    p999Ms: middle('p999Ms'),
    peakMiB: middle('peakMiB'),
  };
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

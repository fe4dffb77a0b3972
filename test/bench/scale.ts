/**
 * What a message costs with 1, 2 and 4 gateways and as many rollups on one Kafka, how that grows, and what follows for a million
 * events a second: how many gateways, partitions and rollups. CPU per message, from /proc, not throughput: on a machine with few
 * cores the processes share them, and each of them would wait for the others.
 *
 *   eval "$(npm run --silent stack -- env)" && npm run bench -- scale [--processes 1,2,4] [--messages 200000] [--rounds 2]
 *                                                                   [--warm 50000] [--rate 1000] [--seconds 10]
 *
 * Each gateway has a load of its own, the same however many there are (QoS 1, 85 bytes of JSON with three metrics). A run ends when the rollups, which read
 * meanwhile, have counted every message. Before it, each gateway gets `--warm` messages: the compiler of each process has its work done by then. `busiest` is the thread that has the most to do: a process can take as many messages as it can.
 *
 * Then each gateway gets `--rate` messages a second for `--seconds`, and what a simulation (scale/simulate.ts) predicts from the service
 * times is set beside the latencies that are found; at last it says what 10, 100 and 1,000 such gateways have to expect.
 *
 * The plan is arithmetic on these figures (scale/plan.ts), printed with its steps. Kafka itself, InfluxDB and the network are not measured here.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Kafka, logLevel } from 'kafkajs';
import { type GatewayProcess, startGateway, startSimulator } from '../support/gateway-process.ts';
import { cpuSeconds, threadSeconds } from './rollup/process.ts';
import { compare, expectAt, fitService, medianPoint, type Point } from './scale/compare.ts';
import { measureAt } from './scale/latency.ts';
import { type Cost, type Measured, planFor } from './scale/plan.ts';

const PARTITIONS = 12;
const TARGET_PER_SECOND = 1_000_000;
const COUNTED_MS = 120_000;
const STREAM = `streams:
  environment: { topic: "sensors/{site}/{device}/environment", time: ts, sequence: seq, metrics: [temperature, humidity, pressure] }
`;

export async function run(args: string[]): Promise<object> {
  const { values } = parseArgs({
    args,
    options: {
      messages: { type: 'string', default: '200000' },
      rounds: { type: 'string', default: '2' },
      processes: { type: 'string', default: '1,2,4' },
      warm: { type: 'string', default: '50000' },
      rate: { type: 'string', default: '1000' },
      seconds: { type: 'string', default: '10' },
    },
  });
  const brokers = process.env.MILLRACE_TEST_KAFKA;
  if (!brokers) throw new Error('needs a Kafka: eval "$(npm run --silent stack -- env)"');
  const counts = values.processes.split(',').map(Number);
  const rounds: Measured[][] = counts.map(() => []);
  const points: Point[][] = counts.map(() => []);
  if (counts.length < 2) throw new Error('--processes needs two numbers or more: how cost grows is told from them');
  const perSecond = Number(values.rate);
  const work = {
    messages: Number(values.messages),
    warm: Number(values.warm),
    perSecond,
    seconds: Number(values.seconds),
  };
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [index, count] of counts.entries()) {
      const { cost, point } = await measure(brokers, count, work);
      rounds[index]!.push(cost);
      points[index]!.push(point);
    }
  }
  const measured = rounds.map(medianOf);
  const plan = planFor(measured, TARGET_PER_SECOND);
  for (const step of plan.steps) console.log(step);
  const found = points.map(medianPoint);
  const service = fitService(found[0]!, perSecond, PARTITIONS);
  const compared = compare(found, service, perSecond, PARTITIONS);
  const expected = expectAt([10, 100, 1_000], service, measured, perSecond);
  for (const line of [...compared.lines, ...expected.lines]) console.log(line);
  const [load] = loadavg();
  if (load! > cpus().length) {
    console.log(
      `load ${load!.toFixed(1)} on ${cpus().length} cores: threads waited for cores, which the simulation leaves out`,
    );
  }
  const simulated = { service, compared: compared.rows, expected: expected.rows };
  return { cores: cpus().length, load, messages: Number(values.messages), measured, plan, simulated };
}

interface Found {
  readonly cost: Measured;
  readonly point: Point;
}

/** Of each gateway. */
interface Work {
  readonly warm: number;
  readonly messages: number;
  readonly perSecond: number;
  readonly seconds: number;
}

async function measure(brokers: string, count: number, work: Work): Promise<Found> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-scale-'));
  const prefix = `scale-${randomUUID().slice(0, 8)}`;
  const kafka = `kafka: { brokers: ["${brokers}"], prefix: ${prefix}, group: ${prefix}, partitions: ${PARTITIONS} }\n`;
  const gateways: GatewayProcess[] = [];
  const rollups: GatewayProcess[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const of = (role: 'gateway' | 'rollup') =>
        startGateway({ folder: join(folder, `${role}-${i}`), yaml: `gateway: g${i}\n${kafka}${STREAM}`, role });
      gateways.push(await of('gateway'));
      rollups.push(await of('rollup'));
    }
    const counted = async () => {
      const names = ['counted', 'duplicates', 'late', 'out_of_reach'].map((name) => `millrace_${name}_total`);
      const all = await Promise.all(rollups.flatMap((rollup) => names.map((name) => rollup.metric(name))));
      return all.reduce((sum, value) => sum + value, 0);
    };
    const send = async (each: number) => {
      const loads = gateways.map(({ mqttPort }, i) => {
        const shape = ['--connections', '100', '--in-flight', '20', '--rate', '0/s'];
        const topic = ['--topic', `sensors/site${i}/{device}/environment`];
        const end = ['--messages', String(each), '--duration', '0s'];
        return startSimulator('load', ['--url', `mqtt://127.0.0.1:${mqttPort}`, ...shape, ...topic, ...end]).ended;
      });
      let acknowledged = 0;
      for (const { code, summary } of await Promise.all(loads)) {
        if (code !== 0) throw new Error(`a load ended with ${code}: ${JSON.stringify(summary)}`);
        acknowledged += summary.acknowledged!;
      }
      return acknowledged;
    };
    const untilCounted = async (wanted: number) => {
      const deadlineMs = performance.now() + COUNTED_MS;
      while ((await counted()) < wanted) {
        if (performance.now() > deadlineMs) throw new Error(`${await counted()} of ${wanted} messages are counted`);
        await sleep(100);
      }
    };
    // The first messages also wait for the consumer group to have settled.
    const warm = await send(work.warm);
    await untilCounted(warm);
    const before = [gateways, rollups].map(snapshot);
    const sent = await send(work.messages);
    await untilCounted(warm + sent);
    const [gateway, rollup] = [gateways, rollups].map((all, i) => costOf(before[i]!, snapshot(all), sent));
    const cost = { processes: count, gateway: gateway!, rollup: rollup! };
    return { cost, point: await measureAt(work.perSecond, work.seconds, gateways, rollups) };
  } finally {
    for (const one of [...gateways, ...rollups]) await one.end('SIGKILL');
    await dropTopics(brokers, prefix);
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Used {
  readonly process: number;
  readonly threads: ReadonlyMap<number, number>;
}

const snapshot = (all: readonly GatewayProcess[]): Used[] =>
  all.map(({ child }) => ({ process: cpuSeconds(child.pid!), threads: threadSeconds(child.pid!) }));

/** All processes of a kind together; the busiest thread of each of them for its part of the messages. */
function costOf(before: readonly Used[], after: readonly Used[], messages: number): Cost {
  let [inAll, busiest] = [0, 0];
  for (const [i, used] of after.entries()) {
    inAll += used.process - before[i]!.process;
    busiest += Math.max(...[...used.threads].map(([id, seconds]) => seconds - (before[i]!.threads.get(id) ?? 0)));
  }
  return { process: round((inAll * 1e6) / messages), busiestThread: round((busiest * 1e6) / messages) };
}

async function dropTopics(brokers: string, prefix: string): Promise<void> {
  const admin = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(`${prefix}.`));
  if (topics.length > 0) await admin.deleteTopics({ topics });
  await admin.disconnect();
}

function medianOf(rounds: readonly Measured[]): Measured {
  const middle = (of: (one: Measured) => number) => rounds.map(of).sort((a, b) => a - b)[rounds.length >> 1]!;
  const cost = (kind: 'gateway' | 'rollup'): Cost => ({
    process: middle((one) => one[kind].process),
    busiestThread: middle((one) => one[kind].busiestThread),
  });
  return { processes: rounds[0]!.processes, gateway: cost('gateway'), rollup: cost('rollup') };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

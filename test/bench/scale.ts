/**
 * What a message costs with 1, 2 and 4 gateways and as many rollups on one Kafka, how that grows, what latencies follow, and what a
 * million events a second would need: how many gateways, partitions and rollups.
 *
 *   eval "$(npm run --silent stack -- env)" && npm run bench -- scale [--processes 1,2,4] [--rate 1000] [--seconds 10] [--rounds 2]
 *                                                                   [--messages 200000] [--warm 50000]
 *
 * QoS 1, 85 bytes of JSON with three metrics. A message's cost is CPU from /proc. It depends on the rate: what happens ten times a second,
 * whatever comes, is shared by more messages where more come. So growth is told at the same rate for each gateway, `--rate`, however many
 * there are; flat out, processes that share cores would get slower and each message dearer for that alone. At a rate that the machine does
 * not keep the bench ends. Flat out, `--messages` to each of the fewest gateways until the rollups have counted all, is what the plan
 * reckons with. Before either, each gateway gets `--warm` messages: the compiler of each process has its work done by then.
 *
 * What a simulation (scale/simulate.ts) predicts from service times is set beside the latencies at `--rate`; at last it says what 10, 100
 * and 1,000 such gateways have to expect. The plan is arithmetic on these figures (scale/plan.ts), printed with its steps. Kafka itself,
 * InfluxDB and the network are not measured here.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Kafka, logLevel } from 'kafkajs';
import { type GatewayProcess, startGateway, startSimulator } from '../support/gateway-process.ts';
import { median } from './median.ts';
import { BOUND_PERCENT, compare, expectAt, fitService, medianPoint, type Point } from './scale/compare.ts';
import { measureAt } from './scale/latency.ts';
import { type Cost, type Costs, type Measured, planFor } from './scale/plan.ts';
import { between, costOf, snapshot } from './scale/used.ts';

const PARTITIONS = 12;
const TARGET_PER_SECOND = 1_000_000;
const COUNTED_MS = 120_000;
const COUNTED_POLL_MS = 500;
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
  if (counts.length < 2) throw new Error('--processes needs two numbers or more: how cost grows is told from them');
  const perSecond = Number(values.rate);
  const work = {
    messages: Number(values.messages),
    warm: Number(values.warm),
    perSecond,
    seconds: Number(values.seconds),
  };
  const found: Found[][] = counts.map(() => []);
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [index, count] of counts.entries()) {
      found[index]!.push(await measure(brokers, count, index === 0, work));
    }
  }
  const flatOut = medianOf(found[0]!.map((one) => one.flatOut!));
  const costs: Costs = { steady: found.map((rounds) => medianOf(rounds.map(({ steady }) => steady))), flatOut };
  const plan = planFor(costs, TARGET_PER_SECOND);
  for (const step of plan.steps) console.log(step);
  const points = found.map((rounds) => medianPoint(rounds.map(({ point }) => point)));
  const service = fitService(points[0]!, perSecond, PARTITIONS);
  const compared = compare(points, service, perSecond, PARTITIONS);
  const expected = expectAt([10, 100, 1_000], service, costs, perSecond);
  for (const line of [...compared.lines, ...expected.lines]) console.log(line);
  const [load] = loadavg();
  const { requestMs, fetchMs, mainMs, forwardMs, rollupMs } = service;
  const simulated = {
    service: { requestMs, fetchMs, mainMs, forwardMs, rollupMs },
    boundPercent: BOUND_PERCENT,
    compared: compared.rows,
    expected: expected.rows,
  };
  return { cores: cpus().length, load, perSecond, costs, plan, simulated };
}

interface Found {
  /** Null where it was not asked for. */
  readonly flatOut: Measured | null;
  readonly steady: Measured;
  readonly point: Point;
}

/** Of each gateway. */
interface Work {
  readonly warm: number;
  readonly messages: number;
  readonly perSecond: number;
  readonly seconds: number;
}

async function measure(brokers: string, count: number, isFlatOutToo: boolean, work: Work): Promise<Found> {
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
    const total = async (of: readonly GatewayProcess[], names: readonly string[]) => {
      const all = await Promise.all(of.flatMap((one) => names.map((name) => one.metric(`millrace_${name}_total`))));
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
    const untilCounted = async () => {
      const deadlineMs = performance.now() + COUNTED_MS;
      const wanted = await total(gateways, ['accepted']);
      for (;;) {
        const counted = await total(rollups, ['counted', 'duplicates', 'late', 'out_of_reach']);
        if (counted >= wanted) return;
        if (performance.now() > deadlineMs) throw new Error(`${counted} of ${wanted} messages are counted`);
        // Asking costs the rollups something too.
        await sleep(COUNTED_POLL_MS);
      }
    };
    // The first messages also wait for the consumer group to have settled.
    await send(work.warm);
    await untilCounted();
    const { point, cost } = await measureAt(work.perSecond, work.seconds, gateways, rollups);
    if (!isFlatOutToo) return { flatOut: null, steady: cost, point };
    await untilCounted();
    const before = [gateways, rollups].map(snapshot);
    const sent = await send(work.messages);
    await untilCounted();
    const [gateway, rollup] = [gateways, rollups].map((all, i) => costOf(between(before[i]!, snapshot(all)), sent));
    return { flatOut: { processes: count, gateway: gateway!, rollup: rollup! }, steady: cost, point };
  } finally {
    for (const one of [...gateways, ...rollups]) await one.end('SIGKILL');
    await dropTopics(brokers, prefix);
    rmSync(folder, { recursive: true, force: true });
  }
}

async function dropTopics(brokers: string, prefix: string): Promise<void> {
  const admin = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(`${prefix}.`));
  if (topics.length > 0) await admin.deleteTopics({ topics });
  await admin.disconnect();
}

function medianOf(rounds: readonly Measured[]): Measured {
  const middle = (of: (one: Measured) => number) => median(rounds.map(of));
  const cost = (kind: 'gateway' | 'rollup'): Cost => ({
    process: middle((one) => one[kind].process),
    busiestThread: middle((one) => one[kind].busiestThread),
  });
  return { processes: rounds[0]!.processes, gateway: cost('gateway'), rollup: cost('rollup') };
}

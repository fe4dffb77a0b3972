/** Latencies, service times and costs of gateways and rollups that run, each gateway with the same rate of messages. */
import { type GatewayProcess, startSimulator } from '../../support/gateway-process.ts';
import type { Point } from './compare.ts';
import { between as countsBetween, countsOf, meanMs, spreadMs } from './histogram.ts';
import type { Measured } from './plan.ts';
import { between, costOf, mainThread, snapshot, type ThreadTime, type Used, workingThread } from './used.ts';

const WARMUP = '3s';
const HISTOGRAMS = ['millrace_forward_seconds', 'millrace_rollup_seconds', 'millrace_spool_commit_seconds'];
/** Commit times that stand for all. */
const COMMITS = 200;
/** Of the rate: fewer messages, and the machine did not keep up. */
const KEPT = 0.97;

interface Load {
  readonly measured: number;
  readonly latencyMs: { readonly p50: number; readonly p99: number };
}

export async function measureAt(
  perSecond: number,
  seconds: number,
  gateways: readonly GatewayProcess[],
  rollups: readonly GatewayProcess[],
): Promise<{ readonly point: Point; readonly cost: Measured }> {
  const running = gateways.map(({ mqttPort }, i) => {
    const shape = ['--connections', '100', '--in-flight', '20', '--topic', `sensors/paced${i}/{device}/environment`];
    const time = ['--rate', `${perSecond}/s`, '--warmup', WARMUP, '--duration', `${seconds}s`];
    return startSimulator('load', ['--url', `mqtt://127.0.0.1:${mqttPort}`, '--client', 'paced-', ...shape, ...time]);
  });
  await Promise.all(running.map(({ started }) => started));
  const look = async () => ({
    histograms: await Promise.all(HISTOGRAMS.map((name) => countsOf([...gateways, ...rollups], name))),
    used: [snapshot(gateways), snapshot(rollups)],
  });
  const before = await look();
  const loads: Load[] = [];
  for (const { ended } of running) {
    const { code, summary } = await ended;
    if (code !== 0) throw new Error(`a load ended with ${code}: ${JSON.stringify(summary)}`);
    loads.push(summary as unknown as Load);
  }
  const after = await look();
  const messages = loads.reduce((sum, { measured }) => sum + measured, 0);
  const wanted = gateways.length * perSecond * seconds;
  if (messages < KEPT * wanted) {
    throw new Error(`${messages} of ${wanted} messages in ${seconds} s: the machine is too busy, or --rate too high`);
  }
  const [forward, rollup, commit] = after.histograms.map((counts, i) => countsBetween(before.histograms[i]!, counts));
  const [ofGateways, ofRollups] = after.used.map((used, i) => between(before.used[i]!, used));
  const perMessageMs = (all: readonly Used[], of: (one: Used) => ThreadTime, key: keyof ThreadTime) =>
    (1_000 * all.reduce((sum, one) => sum + of(one)[key], 0)) / messages;
  const mean = (of: (load: Load) => number) => loads.reduce((sum, load) => sum + of(load), 0) / loads.length;
  const processes = gateways.length;
  return {
    cost: { processes, gateway: costOf(ofGateways!, messages), rollup: costOf(ofRollups!, messages) },
    point: {
      processes,
      p50Ms: mean(({ latencyMs }) => latencyMs.p50),
      p99Ms: mean(({ latencyMs }) => latencyMs.p99),
      forwardMeanMs: meanMs(forward!),
      rollupMeanMs: meanMs(rollup!),
      mainMs: perMessageMs(ofGateways!, mainThread, 'cpu'),
      mainWaitMs: perMessageMs(ofGateways!, mainThread, 'wait'),
      forwardMs: perMessageMs(ofGateways!, workingThread, 'cpu'),
      forwardWaitMs: perMessageMs(ofGateways!, workingThread, 'wait'),
      rollupMs: perMessageMs(ofRollups!, workingThread, 'cpu'),
      rollupWaitMs: perMessageMs(ofRollups!, workingThread, 'wait'),
      commitsMs: spreadMs(commit!, COMMITS),
    },
  };
}

/** Latencies and service times of gateways and rollups that run, each gateway with the same rate of messages. */
import type { GatewayProcess } from '../../support/gateway-process.ts';
import { startSimulator } from '../../support/gateway-process.ts';
import { threadSeconds } from '../rollup/process.ts';
import type { Point } from './compare.ts';

const WARMUP = '3s';
const MEANS = ['millrace_forward_seconds', 'millrace_rollup_seconds', 'millrace_spool_commit_seconds'] as const;

interface Load {
  readonly measured: number;
  readonly latencyMs: { readonly p50: number; readonly p99: number };
}

export async function measureAt(
  perSecond: number,
  seconds: number,
  gateways: readonly GatewayProcess[],
  rollups: readonly GatewayProcess[],
): Promise<Point> {
  const running = gateways.map(({ mqttPort }, i) => {
    const shape = ['--connections', '100', '--in-flight', '20', '--topic', `sensors/paced${i}/{device}/environment`];
    const time = ['--rate', `${perSecond}/s`, '--warmup', WARMUP, '--duration', `${seconds}s`];
    return startSimulator('load', ['--url', `mqtt://127.0.0.1:${mqttPort}`, '--client', 'paced-', ...shape, ...time]);
  });
  await Promise.all(running.map(({ started }) => started));
  const all = [...gateways, ...rollups];
  const sums = () => Promise.all(MEANS.map((name) => sumAndCount(all, name)));
  const threads = () => all.map(({ child }) => threadSeconds(child.pid!));
  const [sumsBefore, threadsBefore] = [await sums(), threads()];
  const loads: Load[] = [];
  for (const { ended } of running) {
    const { code, summary } = await ended;
    if (code !== 0) throw new Error(`a load ended with ${code}: ${JSON.stringify(summary)}`);
    loads.push(summary as unknown as Load);
  }
  const [sumsAfter, threadsAfter] = [await sums(), threads()];
  const [forwardMeanMs, rollupMeanMs, commitMs] = sumsAfter.map(([sum, count], i) => {
    const [sumBefore, countBefore] = sumsBefore[i]!;
    return (1_000 * (sum - sumBefore)) / (count - countBefore);
  });
  const messages = loads.reduce((sum, { measured }) => sum + measured, 0);
  /** Milliseconds of a message in the threads that `pick` chooses, one of each process. */
  const threadMs = (of: readonly GatewayProcess[], pick: (used: ReadonlyMap<number, number>, pid: number) => number) =>
    of.reduce((sum, one) => {
      const at = all.indexOf(one);
      const used = new Map([...threadsAfter[at]!].map(([id, s]) => [id, s - (threadsBefore[at]!.get(id) ?? 0)]));
      return sum + (1_000 * pick(used, one.child.pid!)) / messages;
    }, 0);
  const busiest = (used: ReadonlyMap<number, number>, not: number) =>
    Math.max(...[...used].map(([id, spent]) => (id === not ? 0 : spent)));
  const mean = (of: (load: Load) => number) => loads.reduce((sum, load) => sum + of(load), 0) / loads.length;
  return {
    processes: gateways.length,
    p50Ms: mean(({ latencyMs }) => latencyMs.p50),
    p99Ms: mean(({ latencyMs }) => latencyMs.p99),
    forwardMeanMs: forwardMeanMs!,
    rollupMeanMs: rollupMeanMs!,
    mainMs: threadMs(gateways, (used, pid) => used.get(pid) ?? 0),
    forwardMs: threadMs(gateways, busiest),
    rollupMs: threadMs(rollups, busiest),
    commitMs: commitMs!,
  };
}

async function sumAndCount(all: readonly GatewayProcess[], name: string): Promise<[number, number]> {
  const of = async (part: string) => {
    const each = await Promise.all(all.map((one) => one.metric(`${name}_${part}`)));
    return each.reduce((sum, value) => sum + value, 0);
  };
  return [await of('sum'), await of('count')];
}

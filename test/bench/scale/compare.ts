/**
 * The simulation beside what was measured, and beyond it. Pure.
 *
 * Service times are measured: CPU of the threads and how long they waited for a core, and how long commits take. Processes on one machine
 * share its cores and its disk, so each number of them has service times of its own. What is expected of more gateways is said without the
 * waiting: of machines that have a core for each thread that works. Two times cannot be seen from outside: how long Kafka takes to answer a request, and until a
 * rollup has what is there. They are chosen so that forwarding and reading come out right with the fewest processes, and kept for more; so what
 * is said of the fewest tests PUBACK only, and what is said of more tests everything.
 */
import { median } from '../median.ts';
import { type Costs, growthOf, planFor } from './plan.ts';
import { type Predicted, type Service, type Setup, simulate } from './simulate.ts';

/** So many gateways and as many rollups, at one rate for each gateway. */
export interface Point extends Omit<Service, 'requestMs' | 'fetchMs'> {
  readonly processes: number;
  /** PUBACK. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly forwardMeanMs: number;
  readonly rollupMeanMs: number;
  /** Of one message: how long a thread that could have worked on it waited for a core. */
  readonly mainWaitMs: number;
  readonly forwardWaitMs: number;
  readonly rollupWaitMs: number;
}

/** What the program does by default. */
const DEFAULTS = { commitIntervalMs: 5, lingerMs: 50 } as const;
const SECONDS = 20;
/** Of what was measured: how far a prediction may be off. */
export const BOUND_PERCENT = 35;
/** Of the range in which a time is looked for: to a thousandth. */
const HALVINGS = 10;
/** Messages of one simulation, beside its warm-up. */
const MESSAGES_AT_MOST = 2_000_000;

const COMPARED = ['p50Ms', 'p99Ms', 'forwardMeanMs', 'rollupMeanMs'] as const;
const NAMES: Record<(typeof COMPARED)[number], string> = {
  p50Ms: 'PUBACK p50',
  p99Ms: 'PUBACK p99',
  forwardMeanMs: 'in Kafka, mean of the oldest of each batch',
  rollupMeanMs: 'read by the rollup, mean of the newest of each batch',
};

export interface Compared {
  readonly processes: number;
  readonly what: string;
  readonly measuredMs: number;
  readonly predictedMs: number;
  readonly errorPercent: number;
  /** It had to come out right, because a time was chosen so. */
  readonly isFitted: boolean;
}

export interface Expected extends Predicted {
  readonly gateways: number;
  readonly rollups: number;
  readonly partitions: number;
}

/** Without the waiting for cores. */
export function fitService(point: Point, perSecond: number, partitions: number): Service {
  const setup = setupOf(point.processes, perSecond, partitions);
  const { mainMs, commitsMs, forwardMs, rollupMs } = point;
  const unknown = { ...timesOf(point), requestMs: 0, fetchMs: 0 };
  const requestMs = valueFor(point.forwardMeanMs, (ms) => simulate({ ...unknown, requestMs: ms }, setup).forwardMeanMs);
  const asked = { ...unknown, requestMs };
  const fetchMs = Math.max(0, point.rollupMeanMs - simulate(asked, setup).rollupMeanMs);
  return { mainMs, commitsMs, forwardMs, rollupMs, requestMs, fetchMs };
}

function timesOf(point: Point): Omit<Service, 'requestMs' | 'fetchMs'> {
  return {
    mainMs: point.mainMs + point.mainWaitMs,
    commitsMs: point.commitsMs,
    forwardMs: point.forwardMs + point.forwardWaitMs,
    rollupMs: point.rollupMs + point.rollupWaitMs,
  };
}

/** Where a growing function takes this value, between 0 and the value itself; 0: it is beyond it from the start. */
function valueFor(wanted: number, of: (ms: number) => number): number {
  let [low, high] = [0, wanted];
  for (let halving = 0; halving < HALVINGS; halving++) {
    const middle = (low + high) / 2;
    if (of(middle) < wanted) low = middle;
    else high = middle;
  }
  return low;
}

export function compare(
  points: readonly Point[],
  { requestMs, fetchMs }: Service,
  perSecond: number,
  partitions: number,
): { readonly rows: readonly Compared[]; readonly lines: readonly string[] } {
  const fewest = points[0]!.processes;
  const rows = points.flatMap((point) => {
    const setup = setupOf(point.processes, perSecond, partitions);
    const { acknowledged, forwardMeanMs, rollupMeanMs } = simulate({ ...timesOf(point), requestMs, fetchMs }, setup);
    const predicted = { ...acknowledged, forwardMeanMs, rollupMeanMs };
    return COMPARED.map((key) => ({
      processes: point.processes,
      what: NAMES[key],
      measuredMs: round(point[key]),
      predictedMs: round(predicted[key]),
      errorPercent: Math.round(100 * (predicted[key] / point[key] - 1)),
      isFitted: point.processes === fewest && (key === 'forwardMeanMs' || key === 'rollupMeanMs'),
    }));
  });
  const told = rows.filter(({ isFitted }) => !isFitted);
  const beyond = told.filter(({ errorPercent }) => Math.abs(errorPercent) > BOUND_PERCENT).length;
  const fitted = `Kafka's answer ${round(requestMs)} ms and the way to the rollup ${round(fetchMs)} ms, chosen to fit ${fewest} x`;
  const lines = [
    `simulated at ${perSecond.toLocaleString('en')}/s (${fitted}), against what was measured:`,
    ...rows.map(
      ({ processes, what, measuredMs, predictedMs, errorPercent, isFitted }) =>
        `  ${processes} x ${what}: measured ${measuredMs} ms, predicted ${predictedMs} ms, ${errorPercent > 0 ? '+' : ''}${errorPercent} %${isFitted ? ' (fitted)' : ''}`,
    ),
    `  ${told.length - beyond} of ${told.length} predictions are within ${BOUND_PERCENT} %`,
  ];
  return { rows, lines };
}

/** Of gateways with so many messages each, with as many rollups and partitions as the plan gives them, messages coming at random. */
export function expectAt(
  counts: readonly number[],
  service: Service,
  costs: Costs,
  perSecond: number,
): { readonly rows: readonly Expected[]; readonly lines: readonly string[] } {
  // A rollup that is busy finds larger batches than one at `perSecond`: the cost under load is the one that counts.
  const rollupMs = (costs.flatOut.rollup.busiestThread * growthOf(costs.steady, 'rollup', 'busiestThread')) / 1_000;
  const underLoad = { ...service, rollupMs };
  const rows = counts.map((gateways) => {
    const { rollups, partitions } = planFor(costs, gateways * perSecond);
    const seconds = Math.min(SECONDS, MESSAGES_AT_MOST / (gateways * perSecond));
    const setup = { ...setupOf(gateways, perSecond, partitions), rollups, seconds, arrivals: 'poisson' as const };
    return { gateways, rollups, partitions, ...simulate(underLoad, setup) };
  });
  const lines = rows.map(({ gateways, rollups, partitions, acknowledged, counted, busy, longestQueue, ...more }) =>
    [
      `${gateways.toLocaleString('en')} gateways at ${perSecond.toLocaleString('en')}/s, rollups: ${rollups}, partitions: ${partitions}:`,
      `PUBACK p50 ${round(acknowledged.p50Ms)} ms, p99 ${round(acknowledged.p99Ms)} ms;`,
      `counted p50 ${round(counted.p50Ms)} ms, p99 ${round(counted.p99Ms)} ms;`,
      `busy: main ${percent(busy.main)}, rollup ${percent(busy.rollup)};`,
      `longest queue: main ${longestQueue.main}, rollup ${longestQueue.rollup};`,
      `Kafka must answer ${Math.round(more.requestsPerSecond).toLocaleString('en')} requests/s as fast as now`,
    ].join(' '),
  );
  return { rows, lines: ['expected, if Kafka keeps up:', ...lines.map((line) => `  ${line}`)] };
}

/** Figure by figure; of the commits, all. */
export function medianPoint(points: readonly Point[]): Point {
  const { commitsMs: _, ...figures } = points[0]!;
  const keys = Object.keys(figures) as (keyof typeof figures)[];
  const middle = (key: keyof typeof figures) => median(points.map((point) => point[key]));
  const medians = Object.fromEntries(keys.map((key) => [key, middle(key)])) as unknown as typeof figures;
  return { ...medians, commitsMs: points.flatMap(({ commitsMs }) => commitsMs) };
}

function setupOf(processes: number, perSecond: number, partitions: number): Setup {
  const counts = { gateways: processes, rollups: processes, partitions, perSecond };
  return { ...counts, ...DEFAULTS, arrivals: 'paced', warmupSeconds: 1, seconds: SECONDS, seed: 1 };
}

function percent(part: number): string {
  return `${Math.round(100 * part)} %`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

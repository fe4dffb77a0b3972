/**
 * The simulation beside what was measured, and beyond it. Pure.
 *
 * Service times are those of one gateway and one rollup: CPU of their threads, and the time of a commit. Two times cannot be seen from
 * outside: how long Kafka takes to answer a request, and until a rollup has what is there. They are chosen so that forwarding and reading
 * come out right with one process; so what is said of one process tests PUBACK only, and what is said of more tests everything.
 */
import { type Measured, planFor } from './plan.ts';
import { type Predicted, type Service, type Setup, simulate } from './simulate.ts';

/** So many gateways and as many rollups, at one rate for each gateway. */
export interface Point extends Pick<Service, 'mainMs' | 'commitMs' | 'forwardMs' | 'rollupMs'> {
  readonly processes: number;
  /** PUBACK. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly forwardMeanMs: number;
  readonly rollupMeanMs: number;
}

/** What the program does by default. */
const DEFAULTS = { commitIntervalMs: 5, lingerMs: 50 } as const;
const SECONDS = 20;
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
}

export interface Expected extends Predicted {
  readonly gateways: number;
  readonly rollups: number;
  readonly partitions: number;
}

export function fitService(point: Point, perSecond: number, partitions: number): Service {
  const { mainMs, commitMs, forwardMs, rollupMs } = point;
  const setup = setupOf(1, perSecond, partitions);
  const unknown = { mainMs, commitMs, forwardMs, rollupMs, requestMs: 0, fetchMs: 0 };
  const requestMs = valueFor(point.forwardMeanMs, (ms) => simulate({ ...unknown, requestMs: ms }, setup).forwardMeanMs);
  const asked = { ...unknown, requestMs };
  return { ...asked, fetchMs: Math.max(0, point.rollupMeanMs - simulate(asked, setup).rollupMeanMs) };
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
  service: Service,
  perSecond: number,
  partitions: number,
): { readonly rows: readonly Compared[]; readonly lines: readonly string[] } {
  const fewest = points[0]!.processes;
  const isFitted = (processes: number, what: string) => processes === fewest && !what.startsWith('PUBACK');
  const rows = points.flatMap((point) => {
    const { acknowledged, forwardMeanMs, rollupMeanMs } = simulate(
      service,
      setupOf(point.processes, perSecond, partitions),
    );
    const predicted = { ...acknowledged, forwardMeanMs, rollupMeanMs };
    return COMPARED.map((key) => ({
      processes: point.processes,
      what: NAMES[key],
      measuredMs: round(point[key]),
      predictedMs: round(predicted[key]),
      errorPercent: Math.round(100 * (predicted[key] / point[key] - 1)),
    }));
  });
  const fitted = `Kafka's answer ${round(service.requestMs)} ms and the way to the rollup ${round(service.fetchMs)} ms, chosen to fit one process`;
  const lines = [
    `simulated with the service times of one process at ${perSecond.toLocaleString('en')}/s (${fitted}), against what was measured:`,
    ...rows.map(
      ({ processes, what, measuredMs, predictedMs, errorPercent }) =>
        `  ${processes} x ${what}: measured ${measuredMs} ms, predicted ${predictedMs} ms, ${errorPercent > 0 ? '+' : ''}${errorPercent} %${isFitted(processes, what) ? ' (fitted)' : ''}`,
    ),
  ];
  return { rows, lines };
}

/** Of gateways with so many messages each, with as many rollups and partitions as the plan gives them, messages coming at random. */
export function expectAt(
  counts: readonly number[],
  service: Service,
  measured: readonly Measured[],
  perSecond: number,
): { readonly rows: readonly Expected[]; readonly lines: readonly string[] } {
  // A rollup that is busy finds larger batches than one at `perSecond`: the cost under load is the one that counts.
  const underLoad = { ...service, rollupMs: measured.at(-1)!.rollup.busiestThread / 1_000 };
  const rows = counts.map((gateways) => {
    const { rollups, partitions } = planFor(measured, gateways * perSecond);
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

export function medianPoint(points: readonly Point[]): Point {
  const keys = Object.keys(points[0]!) as (keyof Point)[];
  const middle = (key: keyof Point) => points.map((point) => point[key]).sort((a, b) => a - b)[points.length >> 1]!;
  return Object.fromEntries(keys.map((key) => [key, middle(key)])) as unknown as Point;
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

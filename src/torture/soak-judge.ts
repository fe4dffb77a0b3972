/**
 * What a soak may show: nothing that a process holds grows without an end. Growth is the Theil-Sen slope (the median of the
 * slopes between every two samples) over the second half of the run, times its length: single peaks, and the start, when
 * caches fill, do not count. The bounds are for the second half however long it is, so a longer run finds smaller leaks.
 * Pure; fed by soak.ts.
 */
import { type Claim, ClaimSheet } from './claim.ts';

/** Of one thread, heap and buffers together, after a collection. */
export const HELD_GROWTH_BYTES = 2 * 2 ** 20;
export const RESIDENT_GROWTH_BYTES = 32 * 2 ** 20;
/** Files, sockets but those of devices, or threads of one process; and connections beyond one for each client. */
export const HANDLES_GROWTH = 8;
/** The rollup may be behind by what came in so long. */
export const LAG_SECONDS = 15;
/** With fewer in the second half nothing is said. */
const LEAST_SAMPLES = 5;

/** `held` and `resident` are bytes. `descriptors` are those beyond `connections`, which come and go with their devices. */
export type Measured = 'held' | 'resident' | 'descriptors' | 'connections' | 'threads' | 'lag';

export interface Sample {
  readonly atMs: number;
  /** `gateway`, `gateway thread 2`. */
  readonly of: string;
  readonly what: Measured;
  readonly value: number;
}

/** One thing that was measured at one process or thread, over the second half. */
export interface Trend {
  readonly of: string;
  readonly what: Measured;
  readonly samples: number;
  readonly median: number;
  readonly largest: number;
  readonly growth: number;
}

export function trends(samples: readonly Sample[], fromMs: number, toMs: number): Trend[] {
  const middleMs = (fromMs + toMs) / 2;
  const series = new Map<string, Sample[]>();
  for (const sample of samples) {
    if (sample.atMs < middleMs || sample.atMs > toMs) continue;
    const name = `${sample.of}\n${sample.what}`;
    const known = series.get(name);
    if (known) known.push(sample);
    else series.set(name, [sample]);
  }
  return [...series.values()].map((list) => {
    const { of, what } = list[0]!;
    const values = list.map(({ value }) => value);
    const growth = list.length < LEAST_SAMPLES ? 0 : slope(list) * (toMs - middleMs);
    return { of, what, samples: list.length, median: median(values), largest: Math.max(...values), growth };
  });
}

export function soakClaims(found: readonly Trend[], load: { messagesPerSecond: number; clients: number }): Claim[] {
  const { messagesPerSecond, clients } = load;
  const held = claim(
    'memory-flat',
    'What each thread holds after a collection does not grow',
    found.filter(({ what }) => what === 'held'),
    ({ growth }) => growth > HELD_GROWTH_BYTES,
  );
  const resident = claim(
    'resident-flat',
    'The resident memory of a process does not grow',
    found.filter(({ what }) => what === 'resident'),
    ({ growth }) => growth > RESIDENT_GROWTH_BYTES,
  );
  const handles = claim(
    'handles-flat',
    'Open files, sockets and threads do not grow',
    found.filter(({ what }) => HANDLES.has(what)),
    ({ what, growth, largest }) => (what === 'connections' ? largest - clients : growth) > HANDLES_GROWTH,
  );
  const lag = claim(
    'keeps-up',
    `The rollup is never behind by more than ${LAG_SECONDS} s of messages`,
    found.filter(({ what }) => what === 'lag'),
    ({ largest }) => largest > LAG_SECONDS * messagesPerSecond,
  );
  return [held, resident, handles, lag];
}

const HANDLES: ReadonlySet<Measured> = new Set(['descriptors', 'connections', 'threads'] as const);

function claim(name: string, text: string, found: readonly Trend[], isWrong: (trend: Trend) => boolean): Claim {
  const sheet = new ClaimSheet(name, text, 'samples');
  const enough = found.filter(({ samples }) => samples >= LEAST_SAMPLES);
  for (const trend of enough) {
    sheet.checked += trend.samples;
    if (isWrong(trend)) sheet.contradicted(trendText(trend));
  }
  sheet.note = enough.map(trendText).join('; ');
  return sheet.claim();
}

const UNITS: Readonly<Record<Measured, (value: number) => string>> = {
  held: mebibytes,
  resident: mebibytes,
  connections: (value) => `${round(value)} connections of devices`,
  descriptors: (value) => `${round(value)} descriptors`,
  threads: (value) => `${round(value)} threads`,
  lag: (value) => `${round(value)} records behind`,
};

function trendText({ of, what, median: middle, largest, growth }: Trend): string {
  const text = UNITS[what];
  if (what === 'lag' || what === 'connections') return `${of} at most ${text(largest)}`;
  return `${of} ${text(middle)}, ${growth < 0 ? '-' : '+'}${text(Math.abs(growth))}`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** Of a value per millisecond. */
function slope(list: readonly Sample[]): number {
  const slopes: number[] = [];
  for (const [index, first] of list.entries()) {
    for (const second of list.slice(index + 1)) {
      if (second.atMs > first.atMs) slopes.push((second.value - first.value) / (second.atMs - first.atMs));
    }
  }
  return median(slopes);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  if (sorted.length === 0) return 0;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/**
 * How well anomalies are found with the shipped threshold, one for all, and what it costs.
 *   npm run bench -- anomaly --nab DIR    on Numenta's benchmark (a copy of its `data` and `labels`), with its scoring
 *   npm run bench -- anomaly              on generated series with planted faults, by a seed
 */
import { parseArgs } from 'node:util';
import { Neighbours } from '../../src/score/neighbours.ts';
import { DEFAULT_THRESHOLD } from '../../src/scored.ts';
import { Random } from '../support/random.ts';
import { type NabFile, readNab, scoreNab } from './anomaly/nab.ts';
import { median } from './median.ts';

/** Published standard scores of others on the same files. */
const PUBLISHED = { randomCutForest: 51.7, windowedGaussian: 39.6 };
const SERIES = 40;
const WINDOWS = 3_000;
/** A detection within so many windows of the beginning of a fault has found it. */
const IN_TIME = 60;
const SEED = 1;

export async function run(options: string[]): Promise<object> {
  const { values } = parseArgs({ args: options, options: { nab: { type: 'string' } } });
  return values.nab === undefined ? generated() : onNab(readNab(values.nab));
}

function onNab(files: readonly NabFile[]): object {
  const startedMs = performance.now();
  const said = files.map(({ values }) => alarmsIn(values));
  const spentMs = performance.now() - startedMs;
  const half = (parity: number) => {
    const kept = files.flatMap((file, i) => (i % 2 === parity ? [{ file, alarms: said[i]!.alarms }] : []));
    return scoreNab(
      kept.map(({ file }) => file),
      kept.map(({ alarms }) => alarms),
    ).score;
  };
  const alarms = said.map((one) => one.alarms);
  return {
    threshold: DEFAULT_THRESHOLD,
    ...scoreNab(files, alarms),
    published: PUBLISHED,
    everyOtherFile: [half(0), half(1)],
    ...covered(said),
    microsecondsAWindow: (spentMs * 1_000) / files.reduce((sum, { values }) => sum + values.length, 0),
  };
}

function generated(): object {
  let found = 0;
  let planted = 0;
  let hits = 0;
  let alarms = 0;
  const delays: number[] = [];
  const said = [];
  for (let k = 0; k < SERIES; k++) {
    const { values, faults } = seriesWithFaults(SEED + k);
    const one = alarmsIn(values);
    said.push(one);
    planted += faults.length;
    for (const at of faults) {
      const first = one.alarms.find((i) => i >= at && i < at + IN_TIME);
      if (first === undefined) continue;
      found++;
      delays.push(first - at);
    }
    alarms += one.alarms.length;
    hits += one.alarms.filter((i) => faults.some((at) => i >= at && i < at + IN_TIME)).length;
  }
  return {
    threshold: DEFAULT_THRESHOLD,
    seed: SEED,
    planted,
    recall: found / planted,
    precision: hits / alarms,
    medianDelayWindows: median(delays),
    ...covered(said),
  };
}

interface Said {
  readonly alarms: number[];
  readonly bounded: number;
  readonly kept: number;
}

function alarmsIn(values: readonly number[]): Said {
  const model = new Neighbours(1, DEFAULT_THRESHOLD);
  const alarms: number[] = [];
  let bounded = 0;
  let kept = 0;
  values.forEach((value, i) => {
    const opinion = model.add(i, value);
    if (opinion?.alarm) alarms.push(i);
    if (opinion?.low == null) return;
    bounded++;
    if (value >= opinion.low && value <= opinion.high!) kept++;
  });
  return { alarms, bounded, kept };
}

/** The share of values within the bounds that were forecast for them; 0.9 is what is aimed at. */
function covered(said: readonly Said[]): object {
  return { withinBounds: said.reduce((n, { kept }) => n + kept, 0) / said.reduce((n, { bounded }) => n + bounded, 0) };
}

/** A daily wave with noise and slow drift; at random places a spike, a step, a standstill or a burst of noise. */
function seriesWithFaults(seed: number): { values: number[]; faults: number[] } {
  const random = new Random(seed);
  const noise = () => random.next() + random.next() + random.next() - 1.5;
  let drift = 0;
  const values = Array.from({ length: WINDOWS }, (_, i) => {
    drift += noise() / 200;
    return 20 + 5 * Math.sin((2 * Math.PI * i) / 144) + drift + noise() / 3;
  });
  const faults = [0, 1, 2].map((k) => 900 + k * 700 + random.integer(0, 400));
  for (const at of faults) {
    const kind = random.integer(0, 3);
    const length = random.integer(5, 40);
    for (let i = at; i < at + length; i++) {
      if (kind === 0) values[i]! += 12;
      else if (kind === 1) values[i]! -= 9;
      else if (kind === 2) values[i] = values[at]!;
      else values[i]! += noise() * 8;
    }
  }
  return { values, faults };
}

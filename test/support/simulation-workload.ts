/**
 * The log that a simulation works on: readings of a few devices with honest, fast and slow clocks, through two gateways
 * whose records are interleaved out of order; redelivered ones, some with other values; late ones; ticks; holes between
 * offsets. Ends with ticks that close every window.
 */
import type { LogRecord, StoredRecord } from '../../src/log.ts';
import { encodeReading } from '../../src/reading.ts';
import { parseWindow, type Stream } from '../../src/stream.ts';
import { Random } from './random.ts';
import { makeStream } from './readings.ts';

export const GRACE_MS = 15_000;
export const DISORDER_MS = 2_000;
export const SKEW_MS = 60_000;
const START_MS = 1_700_000_000_000;
const LARGEST_MS = 300_000;
const SILENCE_MS = 60_000;

export interface Workload {
  readonly streams: Readonly<Record<string, Stream>>;
  /** One list for each partition, offsets ascending. */
  readonly partitions: readonly (readonly StoredRecord[])[];
  readonly graceMs: number;
  readonly disorderMs: number;
  readonly skewMs: number;
}

export function simulatedStreams(windows = ['10s', '1m', '2m_1m', '5m']): Record<string, Stream> {
  return {
    s: makeStream('s', { metrics: ['a', 'b'], windows }),
    e: { ...makeStream('e', { metrics: [], windows: ['10s', '1m', '2m'] }), identity: ['id'] },
  };
}

interface Sent {
  readonly record: LogRecord;
  /** When it reaches the log: decides the order. */
  readonly appendedMs: number;
}

export function makeWorkload(seed: number, options: { shape: ShapeName; partitions?: number }): Workload {
  const random = new Random(seed);
  const { partitions = 2 } = options;
  const durationMs = random.integer(270, 360) * 1_000;
  const shape = SHAPES[options.shape];
  return {
    streams: simulatedStreams(),
    partitions: Array.from({ length: partitions }, () => makePartition(random, durationMs, shape)),
    graceMs: GRACE_MS,
    disorderMs: DISORDER_MS,
    skewMs: SKEW_MS,
  };
}

/** How far the log is out of order: a share of the readings reaches it up to so much later than the ticks do. */
interface Shape {
  readonly lagMs: number;
  readonly lagging: number;
  readonly everyMs: number;
  readonly tickMs: number;
  /**
   * Each window of five minutes begins with silence, and after it a tick, a reading that lags and is counted, and one that
   * lags a little more and is a straggler: but only for who knows of the tick. It lies just before the first reading of the
   * window, so a replay knows of it only if it remembers the watermark.
   */
  readonly hesitant?: boolean;
}

const SHAPES = {
  calm: { lagMs: 500, lagging: 0.3, everyMs: 6_000, tickMs: 5_000 },
  busy: { lagMs: 1_500, lagging: 0.5, everyMs: 9_000, tickMs: 5_000 },
  /** Nearly as far out of order as grace and disorder together allow. */
  disordered: { lagMs: 12_000, lagging: 0.3, everyMs: 6_000, tickMs: 5_000 },
  /** Many stragglers. */
  torn: { lagMs: 40_000, lagging: 0.3, everyMs: 6_000, tickMs: 5_000 },
  hesitant: { lagMs: 1_500, lagging: 0.3, everyMs: 9_000, tickMs: 5_000, hesitant: true },
} satisfies Record<string, Shape>;

export type ShapeName = keyof typeof SHAPES;

function makePartition(random: Random, durationMs: number, shape: Shape): StoredRecord[] {
  const sent: Sent[] = [];
  const endMs = START_MS + durationMs;
  const name = `p${random.integer(0, 1e6)}`;
  const lag = () => (random.chance(shape.lagging) ? random.integer(0, shape.lagMs) : random.integer(0, 400));
  const devices = random.integer(2, 3);
  for (let d = 0; d < devices; d++) {
    const key = `${name}-d${d}`;
    const clockMs = random.pick([0, 0, 0, -9_000, 4_000, 55_000]);
    const everyMs = random.integer(shape.everyMs / 2, shape.everyMs * 2);
    let sequence = random.integer(0, 50);
    for (let nowMs = START_MS + random.integer(0, everyMs); nowMs < endMs; nowMs += random.integer(1, 2 * everyMs)) {
      const delayMs = random.chance(0.85) ? random.integer(0, 3_000) : random.integer(0, 60_000);
      const receivedMs = nowMs + delayMs;
      const timeMs = Math.min(nowMs + clockMs, receivedMs + SKEW_MS);
      const event = random.chance(0.2);
      const tags: Record<string, string> = event ? { device: key, page: random.pick(['x', 'y']) } : { device: key };
      const reading = {
        stream: event ? 'e' : 's',
        key,
        timeMs,
        tags,
        values: event ? {} : valuesOf(random),
        ...(event ? { identity: `${key} ${timeMs} ${random.integer(0, 1)}` } : {}),
        ...(event || random.chance(0.1) ? {} : { sequence: sequence++ }),
      };
      if (random.chance(0.08)) sequence++;
      if (shape.hesitant && timeMs % LARGEST_MS < SILENCE_MS + 10_000) continue;
      const make = (values: Record<string, number>, atMs: number): Sent => ({
        record: {
          kind: 'reading',
          key,
          receivedMs: atMs,
          stream: reading.stream,
          topic: '',
          value: Buffer.from(encodeReading({ ...reading, values })),
        },
        appendedMs: atMs + lag(),
      });
      sent.push(make(reading.values, receivedMs));
      while (random.chance(0.15)) {
        const again = receivedMs + (random.chance(0.5) ? 0 : random.integer(0, 20_000));
        sent.push(make(random.chance(0.2) && !event ? valuesOf(random) : reading.values, again));
      }
    }
  }
  for (let nowMs = START_MS; nowMs < endMs; nowMs += shape.tickMs) {
    for (let gateway = 0; gateway < 2; gateway++) {
      const kind = random.chance(0.1) ? 'refusal' : 'tick';
      sent.push({
        record: bare(kind, nowMs + gateway * 700),
        appendedMs: nowMs + gateway * 700 + random.integer(0, 400),
      });
    }
  }
  if (shape.hesitant) {
    for (let startMs = START_MS - (START_MS % LARGEST_MS) + LARGEST_MS; startMs < endMs; startMs += LARGEST_MS) {
      const tickMs = startMs + SILENCE_MS + 7_900;
      const lagging = (byMs: number): LogRecord => {
        const timeMs = tickMs - byMs;
        const key = `${name}-d0`;
        const reading = { stream: 's', key, timeMs, tags: { device: key }, values: { a: byMs } };
        const value = Buffer.from(encodeReading(reading));
        return { kind: 'reading', key, receivedMs: timeMs, stream: 's', topic: '', value };
      };
      const beyondMs = GRACE_MS + DISORDER_MS;
      for (const record of [bare('tick', tickMs), lagging(beyondMs), lagging(beyondMs + 1_000)]) {
        sent.push({ record, appendedMs: tickMs });
      }
    }
  }
  sent.sort((a, b) => a.appendedMs - b.appendedMs);
  const records = [...sent.map(({ record }) => record), bare('tick', endMs + 500_000), bare('tick', endMs + 1_000_000)];
  let offset = 0;
  const holes = random.chance(0.3);
  return records.map((record) => {
    const stored = { ...record, offset };
    offset += holes && random.chance(0.05) ? random.integer(2, 4) : 1;
    return stored;
  });
}

function valuesOf(random: Random): Record<string, number> {
  // Of very different sizes: sums that are not exact differ with the order.
  const value = () =>
    random.pick([random.integer(-400, 400) / 4, random.next() * 10, 1e16 * (random.next() - 0.5), 0.1]);
  const values: Record<string, number> = {};
  if (random.chance(0.95)) values.a = value();
  if (random.chance(0.7)) values.b = value();
  return values;
}

function bare(kind: 'tick' | 'refusal', receivedMs: number): LogRecord {
  return { kind, key: '', receivedMs, stream: '', topic: '', value: new Uint8Array() };
}

/** The same workload under changed settings: for what happens at a change of the configuration. */
export function reconfigured(workload: Workload, change: 'grace' | 'windows' | 'metrics'): Workload {
  if (change === 'grace') return { ...workload, graceMs: 25_000 };
  if (change === 'windows') {
    const windows = ['10s', '30s', '2m_1m', '4m'].map((label) => parseWindow(label)!);
    return { ...workload, streams: { ...workload.streams, s: { ...workload.streams.s!, windows } } };
  }
  // Without the largest window: the log is read again from its middle.
  const windows = ['10s', '1m', '2m_1m'].map((label) => parseWindow(label)!);
  const s = { ...workload.streams.s!, metrics: ['b', 'a', 'c'], windows };
  return { ...workload, streams: { ...workload.streams, s } };
}

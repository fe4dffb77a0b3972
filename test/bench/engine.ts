/**
 * How many readings a second one engine folds on one core: from the bytes of the log's records to finished rows, with
 * three metrics and windows of 10s, 1m, 15m and 1h. Every series sends `perSecond` readings a second, so a closed pane has
 * the same number of readings however many series there are: what differs is memory and caches.
 *
 * Time is this process's CPU time, garbage collection included, so a busy machine changes it less. The records are made
 * once, and their numbers are written over in place: making them costs next to nothing.
 */
import { Engine } from '../../src/rollup/engine.ts';
import { makeStream } from '../support/readings.ts';
import { METRICS, START_MS, Template } from './rollup/load.ts';

export interface Figures {
  readonly readings: number;
  readonly rows: number;
  readonly readingsPerSecond: number;
  readonly microsecondsPerReading: number;
  /** Of the heap that the engine holds, for each stream + tags + metric. 0 without --expose-gc. */
  readonly bytesPerSeries: number;
}

export async function run(): Promise<void> {
  console.log('devices  each per s   readings      rows   readings/s   us each   bytes per series');
  for (const perSecond of [10, 1]) {
    for (const devices of [10, 1_000, 10_000]) {
      const figures = measure(devices, perSecond, 2_000_000);
      const columns = [
        String(devices).padStart(7),
        String(perSecond).padStart(11),
        String(figures.readings).padStart(10),
        String(figures.rows).padStart(9),
        Math.round(figures.readingsPerSecond).toLocaleString('en').padStart(12),
        figures.microsecondsPerReading.toFixed(2).padStart(9),
        Math.round(figures.bytesPerSeries).toLocaleString('en').padStart(18),
      ];
      console.log(columns.join(' '));
    }
  }
}

export function measure(devices: number, perSecond: number, readings: number): Figures {
  const streams = { environment: makeStream('environment', { metrics: METRICS, windows: ['10s', '1m', '15m', '1h'] }) };
  const records = Array.from({ length: devices }, (_, device) => new Template(device));
  const before = heap();
  const engine = new Engine(
    { partition: 0, streams, graceMs: 15_000, disorderMs: 2_000, skewMs: 60_000 },
    { checkpoint: null, firstOffset: 0, endOffset: 0 },
  );
  const stepMs = 1_000 / perSecond;
  let offset = 0;
  let rows = 0;
  const start = process.cpuUsage();
  for (let round = 0; offset < readings; round++) {
    for (let device = 0; device < devices; device++) {
      engine.process(records[device]!.at(offset++, START_MS + round * stepMs + (device % 97), round));
      if (engine.pendingRows > 10_000) rows += engine.take().rows.length;
    }
  }
  rows += engine.take().rows.length;
  const { user, system } = process.cpuUsage(start);
  const spentMs = (user + system) / 1_000;
  const bytes = heap() - before;
  return {
    readings: offset,
    rows,
    readingsPerSecond: (offset / spentMs) * 1_000,
    microsecondsPerReading: (spentMs / offset) * 1_000,
    bytesPerSeries: bytes / (engine.openSeries || 1),
  };
}

function heap(): number {
  if (!globalThis.gc) return 0;
  globalThis.gc();
  return process.memoryUsage().heapUsed;
}

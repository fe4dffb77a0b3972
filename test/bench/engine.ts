/**
 * How many readings a second one engine folds on one core: from the bytes of the log's records to finished rows, with
 * three metrics and windows of 10s, 1m, 15m and 1h. Every series sends `perSecond` readings a second, so a closed pane has
 * the same number of readings however many series there are: what differs is memory and caches.
 */

import type { StoredRecord } from '../../src/log.ts';
import { encodeReading } from '../../src/reading.ts';
import { Engine } from '../../src/rollup/engine.ts';
import { makeStream } from '../support/readings.ts';

const START_MS = 1_700_000_000_000;
const METRICS = ['temperature', 'humidity', 'pressure'];

interface Figures {
  readonly series: number;
  readonly perSecond: number;
  readonly readings: number;
  readonly rows: number;
  readonly readingsPerSecond: number;
  readonly microsecondsPerReading: number;
  readonly bytesPerSeries: number;
}

export async function run(): Promise<void> {
  console.log('devices  readings/s each   readings      rows   readings/s   us each   bytes per series');
  for (const [devices, perSecond] of [
    [10, 10],
    [1_000, 10],
    [10_000, 10],
    [10, 1],
    [1_000, 1],
    [10_000, 1],
  ] as const) {
    const figures = measure(devices, perSecond, 2_000_000);
    console.log(
      [
        String(devices).padStart(7),
        String(perSecond).padStart(17),
        String(figures.readings).padStart(10),
        String(figures.rows).padStart(9),
        Math.round(figures.readingsPerSecond).toLocaleString('en').padStart(12),
        figures.microsecondsPerReading.toFixed(2).padStart(9),
        Math.round(figures.bytesPerSeries).toLocaleString('en').padStart(18),
      ].join(' '),
    );
  }
}

export function measure(devices: number, perSecond: number, readings: number): Figures {
  const streams = { environment: makeStream('environment', { metrics: METRICS, windows: ['10s', '1m', '15m', '1h'] }) };
  const engine = new Engine(
    { partition: 0, streams, graceMs: 15_000, disorderMs: 2_000, skewMs: 60_000 },
    { checkpoint: null, firstOffset: 0 },
  );
  const before = heap();
  let offset = 0;
  let rows = 0;
  let spentMs = 0;
  const stepMs = 1_000 / perSecond;
  for (let round = 0; offset < readings; ) {
    // Making the records is not measured.
    const records: StoredRecord[] = [];
    while (records.length < 20_000 || records.length % devices !== 0) {
      const device = records.length % devices;
      if (device === 0) round++;
      const timeMs = START_MS + round * stepMs + (device % 97);
      records.push(makeRecord(offset + records.length, device, timeMs));
    }
    const startMs = performance.now();
    for (const record of records) {
      engine.process(record);
      if (engine.pendingRows > 10_000) rows += engine.take().rows.length;
    }
    rows += engine.take().rows.length;
    spentMs += performance.now() - startMs;
    offset += records.length;
  }
  const bytes = heap() - before;
  return {
    series: devices * METRICS.length,
    perSecond,
    readings: offset,
    rows,
    readingsPerSecond: (offset / spentMs) * 1_000,
    microsecondsPerReading: (spentMs / offset) * 1_000,
    bytesPerSeries: bytes / (devices * METRICS.length) + 0 * engine.position,
  };
}

function makeRecord(offset: number, device: number, timeMs: number): StoredRecord {
  const swing = Math.sin(timeMs / 60_000 + device);
  const values = {
    temperature: Math.round((20 + 5 * swing) * 100) / 100,
    humidity: Math.round((50 + 20 * swing) * 10) / 10,
    pressure: Math.round((1013 + 8 * swing) * 10) / 10,
  };
  const reading = {
    stream: 'environment',
    key: `device-${device}`,
    timeMs,
    tags: { device: `device-${device}`, site: `site-${device % 7}` },
    values,
    payload: JSON.stringify({ ts: timeMs, ...values }),
  };
  return {
    offset,
    kind: 'reading',
    key: reading.key,
    receivedMs: timeMs + 3,
    stream: 'environment',
    topic: `sensors/${reading.tags.site}/${reading.tags.device}/environment`,
    value: Buffer.from(encodeReading(reading)),
  };
}

function heap(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}

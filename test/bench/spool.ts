/**
 * The spool alone: how fast it makes small records durable, what 80,000 of them a second cost, how fast they are read.
 * Run by itself: `npx tsx test/bench/spool.ts`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { systemClock } from '../../src/clock.ts';
import { openSpool, type Spool } from '../../src/journal/spool.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import type { LogRecord } from '../../src/log.ts';
import { silentTelemetry } from '../../src/telemetry.ts';

const VALUE_BYTES = 200;
const RECORDS = 1_000_000;
const IN_FLIGHT = 2_000;
const PACED_PER_SECOND = 80_000;
const PACED_MS = 5_000;

export async function run(): Promise<object> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const telemetry = silentTelemetry();
  const opened = await openSpool({
    folder,
    maxBytes: 8 * 2 ** 30,
    segmentBytes: 64 * 2 ** 20,
    historyBytes: 8 * 2 ** 30,
    readers: [],
    clock: systemClock,
    telemetry,
  });
  if (!opened.ok) throw new Error(opened.failure.message);
  const spool = opened.value;
  try {
    const append = await measured(RECORDS, () => appendClosed(spool, RECORDS, IN_FLIGHT));
    const waits: number[] = [];
    const pacedCount = (PACED_PER_SECOND * PACED_MS) / 1_000;
    const paced = await measured(pacedCount, () => appendPaced(spool, pacedCount, waits));
    waits.sort((a, b) => a - b);
    const reader = openSpoolReader({ folder, progress: spool.progress, clock: systemClock, telemetry });
    let read = 0;
    const reading = await measured(RECORDS + pacedCount, async () => {
      for await (const batch of reader.range(0, 0, Number.MAX_SAFE_INTEGER)) read += batch.records.length;
    });
    if (read !== RECORDS + pacedCount) throw new Error(`read ${read} records`);
    await reader.close();
    return {
      append: { inFlight: IN_FLIGHT, ...append },
      paced: { ...paced, p50Ms: at(waits, 0.5), p99Ms: at(waits, 0.99) },
      read: reading,
    };
  } finally {
    await spool.close();
    await rm(folder, { recursive: true });
  }
}

interface Measured {
  readonly perSecond: number;
  readonly cpuSeconds: number;
  readonly cpuSecondsPerMillion: number;
}

async function measured(count: number, work: () => Promise<void>): Promise<Measured> {
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  await work();
  const seconds = (performance.now() - startMs) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  const cpuSeconds = (user + system) / 1e6;
  return {
    perSecond: Math.round(count / seconds),
    cpuSeconds: Number(cpuSeconds.toFixed(2)),
    cpuSecondsPerMillion: Number(((cpuSeconds / count) * 1e6).toFixed(2)),
  };
}

/** A fixed number of records wait for their callback; each callback appends the next. */
function appendClosed(spool: Spool, count: number, inFlight: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let appended = 0;
    let durable = 0;
    const next = () => {
      if (appended < count) spool.append(record(appended++), onDurable);
    };
    const onDurable: Parameters<Spool['append']>[1] = (outcome) => {
      if (!outcome.ok) return reject(new Error(outcome.failure.message));
      if (++durable === count) return resolve();
      next();
    };
    for (let i = 0; i < inFlight; i++) next();
  });
}

/** A fixed rate, in bursts of a millisecond; notes how long each record waited. */
function appendPaced(spool: Spool, count: number, waits: number[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const startMs = performance.now();
    let appended = 0;
    const burst = () => {
      const due = Math.min(count, Math.floor(((performance.now() - startMs) * PACED_PER_SECOND) / 1_000));
      const appendedMs = performance.now();
      for (; appended < due; appended++) {
        const last = appended === count - 1;
        spool.append(record(appended), (outcome) => {
          if (!outcome.ok) return reject(new Error(outcome.failure.message));
          waits.push(performance.now() - appendedMs);
          if (last) resolve();
        });
      }
      if (appended < count) setTimeout(burst, 1);
    };
    burst();
  });
}

const value = Buffer.alloc(VALUE_BYTES, 'x');
const keys = Array.from({ length: 1_000 }, (_, i) => `device-${i}`);
const topics = keys.map((key) => `sensors/site-1/${key}/environment`);

function record(i: number): LogRecord {
  const device = i % keys.length;
  return {
    kind: 'reading',
    key: keys[device]!,
    receivedMs: 1_700_000_000_000 + Math.floor(i / 80),
    stream: 'environment',
    topic: topics[device]!,
    value,
  };
}

function at(sorted: readonly number[], quantile: number): number {
  return Number((sorted[Math.floor(sorted.length * quantile)] ?? 0).toFixed(2));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  console.log(JSON.stringify(await run(), null, 2));
}

/** Logs that are filled before anything is measured: a topic of a real Kafka, or the spool of a data folder. */
import { Kafka, logLevel } from 'kafkajs';
import { systemClock } from '../../../src/clock.ts';
import type { Config } from '../../../src/config.ts';
import type { Outcome } from '../../../src/errors.ts';
import { partitionOf } from '../../../src/journal/kafka-partition.ts';
import { kafkaTopics, prepareTopics } from '../../../src/journal/kafka-topics.ts';
import { kafkaWriter } from '../../../src/journal/kafka-writer.ts';
import { openSpool } from '../../../src/journal/spool.ts';
import type { LogRecord, LogWriter } from '../../../src/log.ts';
import { spoolFolder } from '../../../src/parts/folders.ts';
import { silentTelemetry } from '../../../src/telemetry.ts';
import { Template } from './load.ts';

const BATCH = 5_000;

export interface Load {
  readonly devices: number;
  /** Readings of each device in a second of the log's time. */
  readonly perSecond: number;
  readonly readings: number;
  readonly startMs: number;
}

/** The log's time from the first reading to the last. */
export function spanMs({ devices, perSecond, readings }: Load): number {
  return Math.ceil(readings / devices) * (1_000 / perSecond);
}

/** Readings in the order of their times, the gateway's tick every five seconds, and one at `endMs` that closes windows. */
export async function fill(writer: LogWriter, load: Load, endMs: number): Promise<void> {
  const templates = Array.from({ length: load.devices }, (_, device) => new Template(device));
  const stepMs = 1_000 / load.perSecond;
  let batch: LogRecord[] = [];
  let nextTickMs = load.startMs;
  const flush = async () => {
    ensure(await writer.append(batch));
    batch = [];
  };
  for (let round = 0, made = 0; made < load.readings; round++) {
    const atMs = load.startMs + round * stepMs;
    if (atMs >= nextTickMs) {
      await flush();
      await tick(writer, atMs);
      nextTickMs = atMs + 5_000;
    }
    for (let device = 0; device < load.devices && made < load.readings; device++, made++) {
      const record = templates[device]!.at(0, atMs + (device % 97), round);
      batch.push({ ...record, value: Buffer.from(record.value) });
      if (batch.length >= BATCH) await flush();
    }
  }
  await flush();
  await tick(writer, endMs);
}

/** To every partition: keys are tried until each has one. */
async function tick(writer: LogWriter, receivedMs: number): Promise<void> {
  const ticks = keysOf(writer.partitions).map((key) => {
    return { kind: 'tick', key, receivedMs, stream: '', topic: '', value: new Uint8Array() } as const;
  });
  ensure(await writer.append(ticks));
}

const knownKeys = new Map<number, string[]>();

function keysOf(partitions: number): string[] {
  let keys = knownKeys.get(partitions);
  if (!keys) {
    const byPartition = new Map<number, string>();
    for (let i = 0; byPartition.size < partitions; i++)
      byPartition.set(partitionOf(`tick-${i}`, partitions), `tick-${i}`);
    keys = [...byPartition.values()];
    knownKeys.set(partitions, keys);
  }
  return keys;
}

export async function fillKafka(config: Config, load: Load, endMs: number): Promise<void> {
  const kafka = config.kafka!;
  const telemetry = silentTelemetry();
  ensure(await prepareTopics(kafka, telemetry));
  const writer = kafkaWriter(kafka, kafkaTopics(kafka).readings, { gateway: config.gateway, telemetry });
  await fill(writer, load, endMs);
  await writer.close();
}

export async function removeTopics(config: Config): Promise<void> {
  const admin = new Kafka({ brokers: [...config.kafka!.brokers], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(`${config.kafka!.prefix}.`));
  await admin.deleteTopics({ topics });
  await admin.disconnect();
}

export async function fillSpool(config: Config, load: Load, endMs: number): Promise<void> {
  const spool = ensure(
    await openSpool({
      folder: spoolFolder(config),
      ...config.spool,
      historyBytes: config.spool.maxBytes,
      readers: [],
      clock: systemClock,
      telemetry: silentTelemetry(),
    }),
  );
  await fill(spool.writer, load, endMs);
  await spool.close();
}

function ensure<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) throw new Error(outcome.failure.message);
  return outcome.value;
}

/**
 * The log that keeps the dead letters: with Kafka the topic `<prefix>.deadletters`; without it the spool, and as a second
 * partition the rollup's own log, where rows are that InfluxDB refused. (The embedded store refuses none.)
 */
import { existsSync } from 'node:fs';
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { succeed } from '../errors.ts';
import { kafkaReader } from '../journal/kafka-reader.ts';
import { kafkaTopics } from '../journal/kafka-topics.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import type { LogReader } from '../log.ts';
import type { Telemetry } from '../telemetry.ts';
import { lateFolder, spoolFolder } from './folders.ts';

/** `progress`: of the spool, where it is open in this process. */
export function openDeadLetters(config: Config, telemetry: Telemetry, progress?: SharedArrayBuffer): LogReader {
  if (config.kafka) return kafkaReader(config.kafka, kafkaTopics(config.kafka).deadletters, telemetry);
  const options = { clock: systemClock, telemetry };
  const ofSpool = progress ? { progress } : undefined;
  const spool = openSpoolReader({ folder: spoolFolder(config), ...ofSpool, ...options });
  if (!config.influx) return spool;
  const folder = lateFolder(config);
  // The rollup makes the folder when it finds InfluxDB for the first time.
  return joinLogs(spool, openSpoolReader({ folder, ...options }), () => existsSync(folder));
}

/** Two logs of one partition each as the partitions 0 and 1 of one. Closes both. */
function joinLogs(first: LogReader, second: LogReader, secondIsThere: () => boolean): LogReader {
  const of = (partition: number) => (partition === 0 ? first : second);
  const missing = (partition: number) => partition === 1 && !secondIsThere();
  return {
    partitions: 2,
    consume: () => Promise.reject(new Error('two joined logs cannot be consumed')),
    offsets: async (partition) =>
      missing(partition) ? succeed({ firstOffset: 0, endOffset: 0 }) : of(partition).offsets(0),
    offsetAtTime: async (partition, receivedMs) =>
      missing(partition) ? succeed(0) : of(partition).offsetAtTime(0, receivedMs),
    async *range(partition, fromOffset, toOffset) {
      for await (const batch of of(partition).range(0, fromOffset, toOffset)) yield { ...batch, partition };
    },
    checkpoint: (group, partition) => of(partition).checkpoint(group, 0),
    async close() {
      await first.close();
      await second.close();
    },
  };
}

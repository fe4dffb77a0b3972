/**
 * The log of commands: with Kafka the topic `<prefix>.commands`, to which whoever may write it gives commands, without it a log
 * of its own in the data folder, which the gateway writes. One partition, so that every gateway reads one order.
 */
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { type Outcome, succeed } from '../errors.ts';
import { kafkaReader } from '../journal/kafka-reader.ts';
import { kafkaTopics } from '../journal/kafka-topics.ts';
import { kafkaWriter } from '../journal/kafka-writer.ts';
import { openSpool } from '../journal/spool.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import type { LogReader, LogRecord } from '../log.ts';
import { Telemetry } from '../telemetry.ts';
import { commandsFolder } from './folders.ts';

const SEGMENT_BYTES = 2 ** 20;
const HISTORY_BYTES = 64 * 2 ** 20;

/** Every gateway reads all commands: each has a group of its own. */
export function commandsGroup(config: Config): string {
  return config.kafka ? `${config.kafka.group}.commands.${config.gateway}` : 'commands';
}

export interface CommandWriter {
  append(records: readonly LogRecord[]): Promise<Outcome>;
  close(): Promise<void>;
}

export async function openCommandWriter(config: Config, telemetry: Telemetry): Promise<Outcome<CommandWriter>> {
  if (config.kafka) {
    const { gateway, kafka } = config;
    return succeed(kafkaWriter(kafka, kafkaTopics(kafka).commands, { gateway, telemetry }));
  }
  const spool = await openSpool({
    folder: commandsFolder(config),
    ...config.spool,
    segmentBytes: Math.min(config.spool.segmentBytes, SEGMENT_BYTES),
    historyBytes: HISTORY_BYTES,
    readers: [commandsGroup(config)],
    clock: systemClock,
    // Its numbers are not the spool's: they are not exported.
    telemetry: new Telemetry(telemetry.log),
  });
  if (!spool.ok) return spool;
  return succeed({ append: (records) => spool.value.appendAll(records), close: () => spool.value.close() });
}

export function openCommandReader(config: Config, telemetry: Telemetry): LogReader {
  if (config.kafka) return kafkaReader(config.kafka, kafkaTopics(config.kafka).commands, telemetry);
  return openSpoolReader({ folder: commandsFolder(config), clock: systemClock, telemetry });
}

/** The logs of a configuration, opened for reading while a gateway and a rollup run or not. */
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { kafkaReader } from '../journal/kafka-reader.ts';
import { kafkaTopics } from '../journal/kafka-topics.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import type { LogReader } from '../log.ts';
import { silentTelemetry, type Telemetry } from '../telemetry.ts';
import { openDeadLetters } from './dead-letter-log.ts';
import { lateFolder, spoolFolder } from './folders.ts';

export interface OpenedLogs {
  readonly telemetry: Telemetry;
  /** Readings, ticks. */
  readonly log: LogReader;
  readonly late: LogReader;
  /** With two stages. */
  readonly panes: LogReader | undefined;
  readonly deadLetters: LogReader;
  /** Null: they are in the spool. */
  readonly accounts: LogReader | null;
  close(): Promise<void>;
}

/** Opens nothing yet: the first read does. */
export function openLogs(config: Config): OpenedLogs {
  const telemetry = silentTelemetry();
  const spool = (folder: string) => openSpoolReader({ folder, clock: systemClock, telemetry });
  const topic = (role: 'readings' | 'late' | 'panes' | 'accounts') =>
    kafkaReader(config.kafka!, kafkaTopics(config.kafka!)[role], telemetry);
  const log = config.kafka ? topic('readings') : spool(spoolFolder(config));
  const late = config.kafka ? topic('late') : spool(lateFolder(config));
  const panes = config.kafka && config.rollup.stages === 2 ? topic('panes') : undefined;
  const deadLetters = openDeadLetters(config, telemetry);
  const accounts = config.kafka ? topic('accounts') : null;
  return {
    telemetry,
    log,
    late,
    panes,
    deadLetters,
    accounts,
    async close() {
      for (const reader of [log, late, panes, deadLetters, accounts]) await reader?.close();
    },
  };
}

/** What commands share: reading the configuration, and opening the log and the store for reading while a gateway runs. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { systemClock } from '../clock.ts';
import { formatMistake } from '../config/report.ts';
import type { Settings } from '../config/schema.ts';
import { type Config, loadConfig } from '../config.ts';
import { kafkaReader } from '../journal/kafka-reader.ts';
import { kafkaTopics } from '../journal/kafka-topics.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import type { LogReader } from '../log.ts';
import { openDeadLetters } from '../parts/dead-letter-log.ts';
import { lateFolder, spoolFolder } from '../parts/folders.ts';
import { silentTelemetry, type Telemetry } from '../telemetry.ts';
import { EXIT, type Terminal } from './terminal.ts';

export interface ConfigOptions {
  readonly config: string;
  readonly data?: string;
}

/** The configuration, or the exit code after its mistakes were printed. */
export async function readConfig(options: ConfigOptions, terminal: Terminal): Promise<Config | number> {
  const loaded = await readLoaded(options, terminal);
  return typeof loaded === 'number' ? loaded : loaded.config;
}

/** The same with what the file says, in its own keys. */
export async function readLoaded(
  options: ConfigOptions,
  terminal: Terminal,
): Promise<{ readonly config: Config; readonly settings: Settings } | number> {
  const loaded = await loadConfig(options.config, terminal.env);
  if (!loaded.ok) {
    for (const mistake of loaded.mistakes) terminal.err(formatMistake(mistake));
    const count = loaded.mistakes.length;
    terminal.err(`millrace: ${options.config} has ${count} ${count === 1 ? 'mistake' : 'mistakes'}`);
    return EXIT.usage;
  }
  const { config, settings } = loaded;
  return { config: options.data === undefined ? config : { ...config, data: resolve(options.data) }, settings };
}

export interface OpenedLog {
  readonly config: Config;
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

export async function openForReading(options: ConfigOptions, terminal: Terminal): Promise<OpenedLog | number> {
  const config = await readConfig(options, terminal);
  if (typeof config === 'number') return config;
  if (config.kafka === null && !existsSync(config.data)) {
    terminal.err(`millrace: there is no data folder ${config.data}: no gateway of this configuration has run here`);
    return EXIT.usage;
  }
  return { config, ...openLogs(config) };
}

/** Opens nothing yet: the first read does. */
export function openLogs(config: Config): Omit<OpenedLog, 'config'> {
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

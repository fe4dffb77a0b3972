/** What commands share: reading the configuration, and opening its logs, also while a gateway runs. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { formatMistake } from '../config/report.ts';
import type { Settings } from '../config/schema.ts';
import { type Config, loadConfig } from '../config.ts';
import { type OpenedLogs, openLogs } from '../parts/open-logs.ts';
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

export interface OpenedLog extends OpenedLogs {
  readonly config: Config;
}

/** The configuration of a log that can be read from here: without a data folder nothing would be called equal to nothing. */
export async function readConfigOfLog(options: ConfigOptions, terminal: Terminal): Promise<Config | number> {
  const config = await readConfig(options, terminal);
  if (typeof config === 'number' || config.kafka !== null || existsSync(config.data)) return config;
  terminal.err(`millrace: there is no data folder ${config.data}: no gateway of this configuration has run here`);
  return EXIT.usage;
}

export async function openForReading(options: ConfigOptions, terminal: Terminal): Promise<OpenedLog | number> {
  const config = await readConfigOfLog(options, terminal);
  return typeof config === 'number' ? config : { config, ...openLogs(config) };
}

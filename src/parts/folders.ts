/** The folders below `data:`, each with one writer. */
import { join } from 'node:path';
import type { Config } from '../config.ts';

/** The spool: one gateway writes it. */
export function spoolFolder(config: Config): string {
  return join(config.data, 'spool');
}

/** Without Kafka: late readings and rows that the store refused, a log like the spool; the rollup writes it. */
export function lateFolder(config: Config): string {
  return join(config.data, 'late');
}

/** Without InfluxDB: the rows; the rollup writes them. */
export function rowsFolder(config: Config): string {
  return join(config.data, 'rows');
}

/** Without Kafka: what the user was told, a log like the spool; the rollup writes it. */
export function alertsFolder(config: Config): string {
  return join(config.data, 'alerts');
}

/** Without Kafka: commands to devices and what became of them, a log like the spool; the gateway writes it. */
export function commandsFolder(config: Config): string {
  return join(config.data, 'commands');
}

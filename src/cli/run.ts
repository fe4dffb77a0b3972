/** `millrace run`: the stages of a role until SIGINT or SIGTERM, then a stop in order. A second signal ends at once. */
import { type Role, startPipeline } from '../pipeline.ts';
import { readConfig } from './open.ts';
import { EXIT, report, type Terminal } from './terminal.ts';

export interface RunOptions {
  readonly config: string;
  readonly role: Role;
  readonly data?: string;
}

export async function run(options: RunOptions, terminal: Terminal): Promise<number> {
  const config = await readConfig(options, terminal);
  if (typeof config === 'number') return config;
  if (options.role !== 'all' && config.kafka === null) {
    terminal.err(
      `millrace: --role ${options.role} needs kafka: in ${options.config}; without Kafka one process runs all stages`,
    );
    return EXIT.usage;
  }
  const started = await startPipeline({
    config,
    role: options.role,
    version: terminal.version,
    logLevel: terminal.env.LOG_LEVEL ?? 'info',
    pretty: terminal.interactive,
  });
  if (!started.ok) return report(started.failure, terminal);
  await untilSignal();
  await started.value.stop();
  return EXIT.ok;
}

/** Resolves at the first SIGINT or SIGTERM. After it, the next one ends the process at once. */
export function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    const signalled = (signal: NodeJS.Signals) => {
      process.off('SIGINT', signalled);
      process.off('SIGTERM', signalled);
      resolve(signal);
    };
    process.on('SIGINT', signalled);
    process.on('SIGTERM', signalled);
  });
}

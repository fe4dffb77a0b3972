/** `millrace run`: the stages of a role until SIGINT or SIGTERM, then a stop in order. A second signal ends at once. */
import { systemClock } from '../clock.ts';
import { loadConfig } from '../config.ts';
import { type Role, startPipeline } from '../pipeline.ts';
import { readLoaded } from './open.ts';
import { EXIT, readLogLevel, report, type Terminal } from './terminal.ts';

export interface RunOptions {
  readonly config: string;
  readonly role: Role;
  readonly data?: string;
}

export async function run(options: RunOptions, terminal: Terminal): Promise<number> {
  const read = await readLoaded(options, terminal);
  if (typeof read === 'number') return read;
  const { config, settings } = read;
  if (options.role !== 'all' && config.kafka === null) {
    terminal.err(
      `millrace: --role ${options.role} needs kafka: in ${options.config}; without Kafka one process runs all stages`,
    );
    return EXIT.usage;
  }
  const logLevel = readLogLevel(terminal, 'info');
  if (logLevel === null) return EXIT.usage;
  const started = await startPipeline({
    config,
    live: { settings, load: () => loadConfig(options.config, terminal.env) },
    role: options.role,
    version: terminal.version,
    logLevel,
    pretty: terminal.interactive,
  });
  if (!started.ok) return report(started.failure, terminal);
  await untilSignal();
  await started.value.stop();
  return EXIT.ok;
}

/** Ctrl-C can arrive twice, from the terminal and from a parent that passes it on (npm does): that is one. */
const SAME_SIGNAL_MS = 1_000;
/** As a shell reports a program that SIGINT ended. */
const EXIT_INTERRUPTED = 130;

/** Resolves at the first SIGINT or SIGTERM. A later one ends the process at once. */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    let firstMs: number | null = null;
    const signalled = () => {
      const nowMs = systemClock.monotonicMs();
      firstMs ??= nowMs;
      if (nowMs - firstMs > SAME_SIGNAL_MS) process.exit(EXIT_INTERRUPTED);
      resolve();
    };
    process.on('SIGINT', signalled);
    process.on('SIGTERM', signalled);
  });
}

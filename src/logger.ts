/**
 * Where log lines go, and how many: JSON lines on stderr, readable ones when stderr is a terminal.
 *
 * The levels, as an operator reads them:
 * - fatal: the process ends because of this.
 * - error: something is lost or stands still until a person acts.
 * - warn: a promise is at risk or a limit was reached; it may heal by itself.
 * - info: started, stopped, changed, healed.
 * - debug: for developers. `trace` is not used.
 * Traffic that goes as it should writes nothing from info up.
 *
 * The limit `log.lines_per_second`: a thread writes no more lines than that in a second; lines of one kind are thinned out
 * before (`Telemetry.limited`). What is beyond is left out and counted, and a line of its own says how many, once a second
 * and at the end. A fatal line is always written: there is no later line that could make up for it.
 */
import { type Logger, type LoggerOptions, levels, pino, type TransportSingleOptions } from 'pino';
import { systemClock } from './clock.ts';
import { Telemetry } from './telemetry.ts';

export interface LogSettings {
  readonly level: string;
  readonly pretty: boolean;
  /** The thread: `main`, `forward`, `rollup`. */
  readonly name: string;
  readonly linesPerSecond: number;
}

interface Destination {
  write(line: string): void;
}

const SECOND_MS = 1_000;

/** The logs and metrics of one thread; `destination` is for tests. */
export function startTelemetry(
  settings: LogSettings,
  destination?: Destination,
  monotonicMs = systemClock.monotonicMs,
): Telemetry {
  const limit = new LineLimit(settings.linesPerSecond);
  const log = createLogger(settings, limit, destination, monotonicMs);
  const telemetry = new Telemetry(log, () => limit.lift());
  const say = () => {
    const { lines, severity } = limit.takeLeftOut();
    if (lines === 0) return;
    const level = severity >= levels.values.error! ? 'error' : 'warn';
    limit.without(() => log[level]({ suppressed: lines }, `${lines} log lines were left out: log.lines_per_second`));
  };
  limit.onLeftOut = (severity, isFirst) => {
    telemetry.suppressed(levels.labels[severity] ?? String(severity), 'log_lines');
    if (isFirst) setTimeout(say, SECOND_MS).unref();
  };
  return telemetry;
}

function createLogger(
  { level, pretty, name }: LogSettings,
  limit: LineLimit,
  destination: Destination | undefined,
  monotonicMs: () => number,
): Logger {
  const options: LoggerOptions = {
    level,
    base: { part: name },
    hooks: {
      logMethod(args, method, severity) {
        if (severity >= levels.values.fatal! || limit.admits(monotonicMs(), severity)) method.apply(this, args);
      },
    },
  };
  if (!pretty) return pino(options, destination ?? pino.destination({ dest: 2, sync: true }));
  const transport: TransportSingleOptions = {
    target: 'pino-pretty',
    options: { destination: 2, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss', singleLine: true },
  };
  return pino({ ...options, transport });
}

/** Counts lines in seconds that begin with a line. */
class LineLimit {
  onLeftOut: (severity: number, isFirst: boolean) => void = () => {};
  readonly #linesPerSecond: number;
  #secondMs = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #leftOut = 0;
  #worst = 0;
  #isLifted = false;

  constructor(linesPerSecond: number) {
    this.#linesPerSecond = linesPerSecond;
  }

  admits(nowMs: number, severity: number): boolean {
    if (this.#isLifted) return true;
    if (nowMs - this.#secondMs >= SECOND_MS) {
      this.#secondMs = nowMs;
      this.#lines = 0;
    }
    if (this.#lines < this.#linesPerSecond) {
      this.#lines++;
      return true;
    }
    this.#leftOut++;
    this.#worst = Math.max(this.#worst, severity);
    this.onLeftOut(severity, this.#leftOut === 1);
    return false;
  }

  /** What was left out since the last call, and the highest of its levels. */
  takeLeftOut(): { lines: number; severity: number } {
    const taken = { lines: this.#leftOut, severity: this.#worst };
    this.#leftOut = 0;
    this.#worst = 0;
    return taken;
  }

  without(write: () => void): void {
    const before = this.#isLifted;
    this.#isLifted = true;
    write();
    this.#isLifted = before;
  }

  /** For the last lines of a process. */
  lift(): void {
    this.#isLifted = true;
  }
}

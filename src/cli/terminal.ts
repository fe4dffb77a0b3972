/** What a command may know of the terminal it runs in, and the few things that every command does with it. */
import type { Failure } from '../errors.ts';

export interface Terminal {
  /** One line of the answer. */
  readonly out: (text: string) => void;
  /** One line for the person: errors, progress. */
  readonly err: (text: string) => void;
  readonly colour: boolean;
  /** stderr is a terminal: progress may be drawn. */
  readonly interactive: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
}

/** What the levels mean: logger.ts. */
const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'];

export const EXIT = { ok: 0, no: 1, usage: 2 } as const;

/** Prints a failure as one line and gives the exit code that goes with it. */
export function report(failure: Failure, terminal: Terminal): number {
  terminal.err(`millrace: ${failure.message}`);
  return failure.code === 'CONFIG_INVALID' || failure.code === 'USAGE' ? EXIT.usage : EXIT.no;
}

/** `LOG_LEVEL`, or the given one where it is not set; null after saying that it is none. */
export function readLogLevel(terminal: Terminal, fallback: string): string | null {
  const { LOG_LEVEL: level } = terminal.env;
  if (!level) return fallback;
  if (LOG_LEVELS.includes(level)) return level;
  terminal.err(`millrace: LOG_LEVEL=${level} is not a level; it is one of ${LOG_LEVELS.join(', ')}`);
  return null;
}

/** RFC 3339 or epoch milliseconds; null when neither. */
export function parseTimeMs(text: string): number | null {
  if (/^\d{10,16}$/.test(text)) return Number(text);
  if (!/^\d{4}-\d\d-\d\d/.test(text)) return null;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? null : ms;
}

/** `--from` and `--to`, by default all there is until now; a sentence that says what is wrong with them otherwise. */
export function parseRange(
  options: { readonly from?: string; readonly to?: string },
  nowMs: number,
): { fromMs: number; toMs: number } | string {
  const fromMs = options.from === undefined ? 0 : parseTimeMs(options.from);
  const toMs = options.to === undefined ? nowMs : parseTimeMs(options.to);
  const form = 'not a time such as 2026-01-31T12:00:00Z or milliseconds since 1970';
  if (fromMs === null) return `--from ${options.from} is ${form}`;
  if (toMs === null) return `--to ${options.to} is ${form}`;
  return fromMs < toMs ? { fromMs, toMs } : `--from ${options.from} is not before --to ${options.to ?? '(now)'}`;
}

export type Progress = (done: number, total: number, unit: string) => void;

/** A progress line that redraws itself on a terminal and is silent elsewhere. */
export function progress(
  terminal: Pick<Terminal, 'interactive'>,
  nowMs: () => number,
  write: (text: string) => void = (text) => process.stderr.write(text),
): Progress {
  if (!terminal.interactive) return () => {};
  const startedMs = nowMs();
  let drawnMs = 0;
  return (done, total, unit) => {
    const now = nowMs();
    if (done < total && now - drawnMs < REDRAW_MS) return;
    drawnMs = now;
    const share = total === 0 ? 1 : done / total;
    const rate = done / Math.max(1, now - startedMs);
    const leftS = rate > 0 ? Math.ceil((total - done) / rate / 1000) : 0;
    const left = leftS < 120 ? `${leftS} s` : `${Math.ceil(leftS / 60)} min`;
    const bar = '#'.repeat(Math.round(share * BAR)).padEnd(BAR, '.');
    const text = `[${bar}] ${Math.round(share * 100)} %  ${Math.round(rate * 1000)} ${unit}/s  ${left} left`;
    write(`\r${text}\x1b[K${done >= total ? '\n' : ''}`);
  };
}

const REDRAW_MS = 100;
const BAR = 30;

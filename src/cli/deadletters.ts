/**
 * `millrace deadletters list` and `show`: the refused payloads in the log, newest first. They are records like any other:
 * with Kafka in the topic `<prefix>.deadletters` (and, until forwarded, in the spool), without it in the spool itself.
 * A command has more time than a page: the whole log is searched. `requeue`: requeue.ts.
 */
import { systemClock } from '../clock.ts';
import { deadLetterAt, findDeadLetters } from '../parts/dead-letters.ts';
import { parseDurationMs } from '../units.ts';
import type { DeadLetter } from '../view/feed.ts';
import { openForReading } from './open.ts';
import { EXIT, progress, report, type Terminal } from './terminal.ts';

interface Common {
  config: string;
  data?: string;
  json?: boolean;
}

const MAX_LIST = 100_000;

export async function list(
  options: Common & { stream?: string; since?: string; limit: string },
  terminal: Terminal,
): Promise<number> {
  const limit = Number(options.limit);
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_LIST) {
    terminal.err(`millrace: --limit ${options.limit} is not a number from 1 to ${MAX_LIST}`);
    return EXIT.usage;
  }
  const fromMs = parseSince(options.since, terminal);
  if (fromMs === null) return EXIT.usage;
  const opened = await openForReading(options, terminal);
  if (typeof opened === 'number') return opened;
  try {
    const draw = progress(terminal, () => systemClock.monotonicMs());
    const found = await findDeadLetters(opened.deadLetters, {
      onProgress: (scanned, inAll) => draw(scanned, inAll, 'records'),
      limit,
      sinceMs: fromMs,
      maxScanned: Number.MAX_SAFE_INTEGER,
      wanted: ({ refusal }) => options.stream === undefined || refusal.stream === options.stream,
    });
    if (!found.ok) return report(found.failure, terminal);
    for (const letter of found.value) {
      const { refusal, id } = letter;
      if (options.json) terminal.out(JSON.stringify(asJson(letter)));
      else {
        const time = new Date(letter.receivedMs).toISOString();
        const field = refusal.field === '' ? '' : ` ${refusal.field}`;
        const again = letter.requeuedMs === undefined ? '' : '  (requeued)';
        terminal.out(
          `${id.padEnd(12)} ${time}  ${refusal.code.padEnd(19)} ${refusal.topic}${field}  ${refusal.reason}${again}`,
        );
      }
    }
    if (found.value.length === 0 && !options.json) terminal.out('No dead letters.');
    return EXIT.ok;
  } finally {
    await opened.close();
  }
}

export async function show(id: string, options: Common, terminal: Terminal): Promise<number> {
  if (!/^\d+-\d+$/.test(id)) {
    terminal.err(`millrace: ${id} is not an id; \`millrace deadletters list\` shows them, such as 0-1234`);
    return EXIT.usage;
  }
  const opened = await openForReading(options, terminal);
  if (typeof opened === 'number') return opened;
  try {
    const answer = await deadLetterAt(opened.deadLetters, id);
    if (!answer.ok) return report(answer.failure, terminal);
    const found = answer.value;
    if (!found) {
      terminal.err(`millrace: there is no dead letter ${id}`);
      return EXIT.no;
    }
    if (options.json) {
      terminal.out(JSON.stringify(asJson(found)));
      return EXIT.ok;
    }
    const { refusal } = found;
    const lines: [string, string][] = [
      ['received', new Date(found.receivedMs).toISOString()],
      ['topic', refusal.topic],
      ['client', refusal.client],
      ['stream', refusal.stream || '(none)'],
      ['code', refusal.code],
      ['reason', refusal.reason],
      ['field', refusal.field || '(the whole payload)'],
      ['payload', `${refusal.payload.length} bytes`],
    ];
    for (const [name, value] of lines) terminal.out(`${name.padEnd(9)} ${value}`);
    terminal.out('');
    terminal.out(printable(refusal.payload));
    return EXIT.ok;
  } finally {
    await opened.close();
  }
}

/** Epoch milliseconds; 0 without `--since`; null when it is not a duration, which was said then. */
export function parseSince(since: string | undefined, terminal: Terminal): number | null {
  if (since === undefined) return 0;
  const ms = parseDurationMs(since);
  if (ms !== null) return systemClock.nowMs() - ms;
  terminal.err(`millrace: --since ${since} is not a duration such as 30m, 2h or 3d`);
  return null;
}

/** Text where it is text; otherwise base64. */
function printable(payload: Uint8Array): string {
  const text = Buffer.from(payload).toString('utf8');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters must not reach a terminal
  return text.includes('\ufffd') || /[\0-\x08\x0b-\x1f\x7f]/.test(text)
    ? `base64: ${Buffer.from(payload).toString('base64')}`
    : text;
}

function asJson(found: DeadLetter): object {
  const { payload, ...rest } = found.refusal;
  const { id, receivedMs, requeuedMs = null } = found;
  return { id, receivedMs, requeuedMs, ...rest, payload: Buffer.from(payload).toString('base64') };
}

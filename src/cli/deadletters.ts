/**
 * `millrace deadletters`: the refused payloads in the log, newest first. They are records like any other: with Kafka in
 * the topic `<prefix>.deadletters` (and, until forwarded, in the spool), without it in the spool itself.
 * An id is `<partition>-<offset>`.
 */
import { systemClock } from '../clock.ts';
import type { LogReader } from '../log.ts';
import { decodeRefusal, type Refusal } from '../reading.ts';
import { parseDurationMs } from '../units.ts';
import { openForReading } from './open.ts';
import { EXIT, report, type Terminal } from './terminal.ts';

interface Common {
  config: string;
  data?: string;
  json?: boolean;
}

interface Found {
  readonly id: string;
  readonly receivedMs: number;
  readonly refusal: Refusal;
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
  const sinceMs = options.since === undefined ? null : parseDurationMs(options.since);
  if (options.since !== undefined && sinceMs === null) {
    terminal.err(`millrace: --since ${options.since} is not a duration such as 30m, 2h or 3d`);
    return EXIT.usage;
  }
  const opened = await openForReading(options, terminal);
  if (typeof opened === 'number') return opened;
  try {
    const fromMs = sinceMs === null ? 0 : systemClock.nowMs() - sinceMs;
    const wanted = (found: Found) => options.stream === undefined || found.refusal.stream === options.stream;
    const newest = await newestRefusals(opened.deadLetters, fromMs, limit, wanted);
    for (const found of newest) {
      const { refusal, id } = found;
      if (options.json) terminal.out(JSON.stringify(asJson(found)));
      else {
        const time = new Date(found.receivedMs).toISOString();
        const field = refusal.field === '' ? '' : ` ${refusal.field}`;
        terminal.out(`${id.padEnd(12)} ${time}  ${refusal.code.padEnd(19)} ${refusal.topic}${field}  ${refusal.reason}`);
      }
    }
    if (newest.length === 0 && !options.json) terminal.out('No dead letters.');
    return EXIT.ok;
  } finally {
    await opened.close();
  }
}

export async function show(id: string, options: Common, terminal: Terminal): Promise<number> {
  const [partition, offset] = id.split('-').map(Number);
  if (!/^\d+-\d+$/.test(id)) {
    terminal.err(`millrace: ${id} is not an id; \`millrace deadletters list\` shows them, such as 0-1234`);
    return EXIT.usage;
  }
  const opened = await openForReading(options, terminal);
  if (typeof opened === 'number') return opened;
  try {
    const reader = opened.deadLetters;
    const known = partition! < reader.partitions ? await reader.offsets(partition!) : null;
    if (known && !known.ok) return report(known.failure, terminal);
    const found = known && offset! >= known.value.firstOffset ? await refusalAt(reader, partition!, offset!) : null;
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

async function newestRefusals(
  reader: LogReader,
  fromMs: number,
  limit: number,
  wanted: (found: Found) => boolean,
): Promise<Found[]> {
  let kept: Found[] = [];
  for (let partition = 0; partition < reader.partitions; partition++) {
    const known = await reader.offsets(partition);
    const from = known.ok ? await reader.offsetAtTime(partition, fromMs) : known;
    if (!known.ok || !from.ok) continue;
    for await (const batch of reader.range(partition, Math.max(from.value, known.value.firstOffset), known.value.endOffset)) {
      for (const record of batch.records) {
        if (record.kind !== 'refusal') continue;
        const refusal = decodeRefusal(Buffer.from(record.value).toString());
        if (!refusal) continue;
        const found = { id: `${partition}-${record.offset}`, receivedMs: record.receivedMs, refusal };
        if (wanted(found)) kept.push(found);
      }
      if (kept.length > 2 * limit) kept = newest(kept, limit);
    }
  }
  return newest(kept, limit);
}

async function refusalAt(reader: LogReader, partition: number, offset: number): Promise<Found | null> {
  for await (const batch of reader.range(partition, offset, offset + 1)) {
    const record = batch.records.find((each) => each.offset === offset && each.kind === 'refusal');
    const refusal = record && decodeRefusal(Buffer.from(record.value).toString());
    if (record && refusal) return { id: `${partition}-${offset}`, receivedMs: record.receivedMs, refusal };
  }
  return null;
}

function newest(found: Found[], limit: number): Found[] {
  return found.sort((a, b) => b.receivedMs - a.receivedMs).slice(0, limit);
}

/** Text where it is text; otherwise base64. */
function printable(payload: Uint8Array): string {
  const text = Buffer.from(payload).toString('utf8');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters must not reach a terminal
  return text.includes('\ufffd') || /[\0-\x08\x0b-\x1f\x7f]/.test(text)
    ? `base64: ${Buffer.from(payload).toString('base64')}`
    : text;
}

function asJson(found: Found): object {
  const { payload, ...rest } = found.refusal;
  return { id: found.id, receivedMs: found.receivedMs, ...rest, payload: Buffer.from(payload).toString('base64') };
}

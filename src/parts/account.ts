/**
 * What a gateway took in, by minute and device, as a record of the log (kind `account`): the left side of the equation that
 * `millrace audit` checks against what is in the log. Made by accounts.ts, read by audit-books.ts. Pure.
 *
 * The value: `{"spool":"3f…","from":120,"to":480,"minutes":[[1700000040000,[["d1",60,1,0],["d2",60]]]]}`
 *   from, to   the spool offsets that it covers, half-open. Accounts of one spool follow each other without a gap.
 *   minutes    by received stamp: device, readings, dead letters and what the spool refused (not acknowledged); zeros at the
 *              end are left out. An account of many devices is several records with the same `from` and `to`, told apart by `part`.
 *   skipped    offsets in it that nobody counted, where there are some
 *   OTHERS     the devices of a minute beyond `spool.account_devices`, together.
 */
import type { LogRecord } from '../log.ts';
import { matchTopic, type Stream } from '../stream.ts';

/** Not a key that a device can have: keys hold no control characters. */
export const OTHERS = '\u0000others';
export const MINUTE_MS = 60_000;
/** Of one record. */
const MAX_ENTRIES = 2_000;

export interface Entry {
  readonly minuteMs: number;
  readonly device: string;
  readonly readings: number;
  readonly letters: number;
  readonly refused: number;
}

export interface Account {
  readonly spool: string;
  readonly from: number;
  readonly to: number;
  /** Of the records that make up this account: which, and how many there are. */
  readonly part: readonly [number, number];
  /** Offsets among them that nobody counted: they were gone when the gateway started again. */
  readonly skipped: readonly [number, number] | null;
  readonly entries: readonly Entry[];
}

export function minuteOf(ms: number): number {
  return Math.floor(ms / MINUTE_MS) * MINUTE_MS;
}

/**
 * Whom a record is counted for: a reading for its key (default: the device); a refused payload for the level of its topic
 * that is the stream's key, or, where there is none, for the client that sent it.
 */
export function deviceOf(
  record: Pick<LogRecord, 'kind' | 'key' | 'stream' | 'topic'>,
  streams: Readonly<Record<string, Stream>>,
): string {
  const stream = record.kind === 'refusal' ? streams[record.stream] : undefined;
  if (stream === undefined) return record.key;
  return matchTopic(stream.topic, record.topic)?.[stream.key] ?? record.key;
}

/** The records of one account, at least one. `entries` of one minute stand together. */
export function accountRecords(account: Omit<Account, 'part'>, gateway: string, receivedMs: number): LogRecord[] {
  const { spool, from, to, skipped, entries } = account;
  const parts = Math.max(1, Math.ceil(entries.length / MAX_ENTRIES));
  return Array.from({ length: parts }, (_, part) => {
    const minutes: [number, unknown[][]][] = [];
    for (const { minuteMs, device, readings, letters, refused } of entries.slice(
      part * MAX_ENTRIES,
      (part + 1) * MAX_ENTRIES,
    )) {
      const last = minutes.at(-1);
      const devices = last?.[0] === minuteMs ? last[1] : [];
      if (devices.length === 0) minutes.push([minuteMs, devices]);
      const counts = refused > 0 ? [readings, letters, refused] : letters > 0 ? [readings, letters] : [readings];
      devices.push([device, ...counts]);
    }
    const value = JSON.stringify({
      ...{ spool, from, to },
      ...(skipped ? { skipped } : undefined),
      ...(parts > 1 ? { part: [part, parts] } : undefined),
      minutes,
    });
    return { kind: 'account', key: gateway, receivedMs, stream: '', topic: '', value: Buffer.from(value) };
  });
}

/** Null when the value is not one of ours. */
export function decodeAccount(value: Uint8Array): Account | null {
  try {
    const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString();
    const { spool, from, to, part = [0, 1], skipped = null, minutes } = JSON.parse(text);
    if (typeof spool !== 'string' || !isOffset(from) || !isOffset(to) || !isOffset(part[0]) || !isOffset(part[1])) {
      return null;
    }
    if (skipped !== null && !(isOffset(skipped[0]) && isOffset(skipped[1]))) return null;
    const entries: Entry[] = [];
    for (const [minuteMs, devices] of minutes) {
      for (const [device, readings, letters = 0, refused = 0] of devices) {
        if (typeof device !== 'string' || ![minuteMs, readings, letters, refused].every(isOffset)) return null;
        entries.push({ minuteMs, device, readings, letters, refused });
      }
    }
    return { spool, from, to, part: [part[0], part[1]], skipped: skipped && [skipped[0], skipped[1]], entries };
  } catch {
    return null;
  }
}

function isOffset(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

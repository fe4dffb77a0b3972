/**
 * Keeps the gateway's accounts: counts every record that the spool took or refused by minute and device, and appends the
 * counts to the spool, at the first tick of each minute and at a stop (account.ts has the form). Called from the ledger on
 * the main thread, once for each record; a tick never falls between the settlings of one commit, so the counts are those
 * of all records below the spool's durable end.
 *
 * A crash loses counts, and not what they are made of: the spool keeps every segment that has no account yet (the cursor
 * ACCOUNTS_GROUP), and a start counts what stands behind the last account from the spool itself (`catchUp`). What was refused
 * is only in memory; a crash forgets it on both sides of the equation. A spool that has no room for an account lets go of
 * what it holds: should the process die just then, the next account says which offsets were counted by nobody (`skipped`).
 *
 * Memory: `maxDevices` entries for each account; devices beyond share one entry of the minute (OTHERS).
 */
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { done, type Outcome, succeed } from '../errors.ts';
import { CursorWriter, cursorPath } from '../journal/cursor.ts';
import { nodeFiles } from '../journal/files.ts';
import type { Spool } from '../journal/spool.ts';
import { spoolId } from '../journal/spool-id.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import type { Checkpoint, LogReader, LogRecord, RecordKind, StoredRecord } from '../log.ts';
import type { Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import { accountRecords, decodeAccount, deviceOf, type Entry, minuteOf, OTHERS } from './account.ts';
import { spoolFolder } from './folders.ts';
import type { Ledger } from './ledger.ts';

export interface OpenAccountsNeeds {
  readonly config: Config;
  readonly spool: Spool;
  readonly ledger: Ledger;
  readonly telemetry: Telemetry;
}

export interface OpenedAccounts extends Pick<Accounts, 'tick' | 'write'> {
  readonly spoolId: string;
  close(): Promise<void>;
}

/** On a spool that has just been opened: nothing was appended yet. */
export async function openAccounts(needs: OpenAccountsNeeds): Promise<Outcome<OpenedAccounts>> {
  const { config, spool, ledger, telemetry } = needs;
  const folder = spoolFolder(config);
  const id = await spoolId(folder);
  if (!id.ok) return id;
  const cursor = new CursorWriter(nodeFiles, cursorPath(folder, ACCOUNTS_GROUP));
  const accounts = new Accounts({
    spoolId: id.value,
    gateway: config.gateway,
    streams: config.streams,
    maxDevices: config.spool.accountDevices,
    endOffset: () => spool.stats().endOffset,
    append: (records, onDurable) => ledger.appendBatch(records, onDurable),
    commit: (checkpoint) => cursor.write(checkpoint),
    telemetry,
  });
  const reader = openSpoolReader({ folder, progress: spool.progress, clock: systemClock, telemetry });
  const caughtUp = await accounts.catchUp(reader);
  await reader.close();
  if (!caughtUp.ok) return caughtUp;
  ledger.account(accounts);
  return succeed({
    spoolId: id.value,
    tick: (receivedMs) => accounts.tick(receivedMs),
    write: (receivedMs) => accounts.write(receivedMs),
    close: () => cursor.close(),
  });
}

/** The cursor of the accounts in the spool. */
export const ACCOUNTS_GROUP = 'accounts';

export interface AccountsNeeds {
  readonly spoolId: string;
  readonly gateway: string;
  readonly streams: Readonly<Record<string, Stream>>;
  readonly maxDevices: number;
  /** The spool's durable end. */
  endOffset(): number;
  /** All records or none, through the ledger. */
  append(records: readonly LogRecord[], onDurable: (outcome: Outcome) => void): void;
  commit(checkpoint: Checkpoint): Promise<Outcome>;
  readonly telemetry: Telemetry;
}

type Counts = { -readonly [K in keyof Entry]: Entry[K] };

export class Accounts {
  readonly #needs: AccountsNeeds;
  #from = 0;
  /** Offsets that are gone and were counted in no account. */
  #skipped: readonly [number, number] | null = null;
  #minutes = new Map<number, Map<string, Counts>>();
  #entries = 0;
  #lastMinuteMs = Number.NEGATIVE_INFINITY;
  #lastMinute: Map<string, Counts> = new Map();
  #passedMinuteMs = Number.NEGATIVE_INFINITY;
  /** Null: no account is on its way. */
  #writing: Promise<Outcome> | null = null;

  constructor(needs: AccountsNeeds) {
    this.#needs = needs;
  }

  /** Before anything is appended: counts what is in the spool without an account. */
  async catchUp(spool: LogReader): Promise<Outcome> {
    const known = await spool.offsets(0);
    if (!known.ok) return known;
    const stored = await spool.checkpoint(ACCOUNTS_GROUP, 0);
    const cursor = stored.ok ? stored.value : null;
    const { firstOffset, endOffset } = known.value;
    // Without a checkpoint the books begin now: what an earlier version left was never accounted for.
    const ended = cursor === null ? endOffset : /^\d+$/.test(cursor.metadata) ? Number(cursor.metadata) : cursor.offset;
    const start = Math.min(endOffset, Math.max(ended, firstOffset));
    if (ended < start) this.#skipped = [ended, start];
    let from = Math.min(ended, start);
    for await (const batch of spool.range(0, start, endOffset)) {
      for (const record of batch.records) from = Math.max(from, this.#coveredBy(record));
    }
    for await (const batch of spool.range(0, Math.max(start, from), endOffset)) {
      for (const record of batch.records) this.count(record.kind, this.deviceOf(record), record.receivedMs, true);
    }
    this.#from = from;
    // Not durable: tried again with the next account, and until then the spool only keeps more than it must.
    await this.#commit(Math.max(cursor?.offset ?? start, from));
    return done;
  }

  #coveredBy(record: StoredRecord): number {
    const account = record.kind === 'account' ? decodeAccount(record.value) : null;
    return account?.spool === this.#needs.spoolId ? account.to : 0;
  }

  deviceOf(record: Pick<LogRecord, 'kind' | 'key' | 'stream' | 'topic'>): string {
    return deviceOf(record, this.#needs.streams);
  }

  count(kind: RecordKind, device: string, receivedMs: number, durable: boolean): void {
    if (kind !== 'reading' && kind !== 'refusal') return;
    const entry = this.#entryOf(minuteOf(receivedMs), device);
    if (!durable) entry.refused++;
    else if (kind === 'reading') entry.readings++;
    else entry.letters++;
  }

  #entryOf(minuteMs: number, device: string): Counts {
    if (minuteMs !== this.#lastMinuteMs) {
      const known = this.#minutes.get(minuteMs);
      this.#lastMinute = known ?? new Map();
      this.#lastMinuteMs = minuteMs;
      if (!known) this.#minutes.set(minuteMs, this.#lastMinute);
    }
    const known = this.#lastMinute.get(device);
    if (known) return known;
    if (this.#entries >= this.#needs.maxDevices && device !== OTHERS) {
      this.#needs.telemetry.limitReached.inc({ limit: 'spool.account_devices' });
      return this.#entryOf(minuteMs, OTHERS);
    }
    const entry = { minuteMs, device, readings: 0, letters: 0, refused: 0 };
    this.#lastMinute.set(device, entry);
    this.#entries++;
    return entry;
  }

  /** With every tick: appends an account when a minute is over. */
  tick(receivedMs: number): void {
    if (this.#writing) return;
    if (this.#entries === 0) {
      this.#passIdle(minuteOf(receivedMs));
      return;
    }
    const oldestMs = Math.min(...this.#minutes.keys());
    if (oldestMs < minuteOf(receivedMs)) void this.write(receivedMs);
  }

  /** Nothing to account for: the spool need not keep it, and the next account begins where the last one ended all the same. */
  #passIdle(minuteMs: number): void {
    if (minuteMs === this.#passedMinuteMs) return;
    this.#passedMinuteMs = minuteMs;
    void this.#commit(this.#needs.endOffset());
  }

  /** The cursor: below `offset` all is accounted for, and the next account begins at `from`. */
  #commit(offset: number): Promise<Outcome> {
    return this.#needs.commit({ offset, metadata: String(this.#from) });
  }

  /** Appends an account of everything until now, durable when it resolves with ok; otherwise it is part of the next one. */
  async write(receivedMs: number): Promise<Outcome> {
    await this.#writing;
    if (this.#entries === 0) return done;
    this.#writing = this.#write(receivedMs);
    const outcome = await this.#writing;
    this.#writing = null;
    return outcome;
  }

  #write(receivedMs: number): Promise<Outcome> {
    const { spoolId, gateway, endOffset, append } = this.#needs;
    const counted = this.#minutes;
    const from = this.#from;
    const to = endOffset();
    const skipped = this.#skipped;
    const entries = [...counted.values()].flatMap((devices) => [...devices.values()]);
    this.#from = to;
    this.#minutes = new Map();
    this.#entries = 0;
    this.#lastMinuteMs = Number.NEGATIVE_INFINITY;
    return new Promise((resolve) => {
      append(accountRecords({ spool: spoolId, from, to, skipped, entries }, gateway, receivedMs), (outcome) => {
        if (outcome.ok) {
          this.#skipped = null;
          return resolve(this.#commit(to));
        }
        this.#takeBack(entries, from);
        // A full spool must be able to let go of what it holds for an account that it has no room for.
        resolve(this.#commit(to).then(() => outcome));
      });
    });
  }

  #takeBack(entries: readonly Entry[], from: number): void {
    this.#from = from;
    for (const { minuteMs, device, readings, letters, refused } of entries) {
      const entry = this.#entryOf(minuteMs, device);
      entry.readings += readings;
      entry.letters += letters;
      entry.refused += refused;
    }
  }
}

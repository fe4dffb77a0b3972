/** The gateway's accounts on a real spool: what a crash loses of them is counted again from the spool, and nothing twice. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { fail, type Outcome } from '../../src/errors.ts';
import { CursorWriter, cursorPath } from '../../src/journal/cursor.ts';
import { nodeFiles } from '../../src/journal/files.ts';
import { openSpool, type Spool } from '../../src/journal/spool.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import type { LogRecord, StoredRecord } from '../../src/log.ts';
import { decodeAccount, OTHERS } from '../../src/parts/account.ts';
import { ACCOUNTS_GROUP, Accounts } from '../../src/parts/accounts.ts';
import { AuditBooks } from '../../src/parts/audit-books.ts';
import { Ledger } from '../../src/parts/ledger.ts';
import { silentTelemetry } from '../../src/telemetry.ts';

const MINUTE = 60_000;
const FROM = 10 * MINUTE;

describe('the accounts of a gateway', () => {
  let folder: string;
  let spool: Spool;
  let ledger: Ledger;
  let accounts: Accounts;
  let cursor: CursorWriter;
  /** Set: the spool takes no account. */
  let broken = false;

  /** A life of the gateway; `forgetful`: the planted mistake, it does not look at the spool. */
  async function start({ forgetful = false, maxDevices = 100 } = {}): Promise<void> {
    const options = {
      maxBytes: 2 ** 26,
      segmentBytes: 2 ** 20,
      historyBytes: 0,
      readers: [],
      holders: [ACCOUNTS_GROUP],
    };
    const telemetry = silentTelemetry();
    const opened = await openSpool({ folder, ...options, clock: systemClock, telemetry, commitIntervalMs: 0 });
    assert.ok(opened.ok);
    spool = opened.value;
    ledger = new Ledger(spool, null);
    cursor = new CursorWriter(nodeFiles, cursorPath(folder, ACCOUNTS_GROUP));
    accounts = new Accounts({
      spoolId: 'it',
      gateway: 'plant-7',
      streams: {},
      maxDevices,
      endOffset: () => spool.stats().endOffset,
      append(records, onDurable) {
        if (broken) onDurable(fail('SPOOL_IO', 'planted'));
        else ledger.appendBatch(records, onDurable);
      },
      commit: (checkpoint) => cursor.write(checkpoint),
      telemetry,
    });
    const reader = openSpoolReader({ folder, progress: spool.progress, clock: systemClock, telemetry });
    if (!forgetful) assert.ok((await accounts.catchUp(reader)).ok);
    await reader.close();
    ledger.account(accounts);
  }

  /** What a kill leaves: nothing of the accounts in memory. */
  async function die(): Promise<void> {
    await spool.close();
    await cursor.close();
  }

  function take(device: string, receivedMs: number): Promise<Outcome> {
    const record: LogRecord = {
      kind: 'reading',
      key: device,
      receivedMs,
      stream: 's',
      topic: '',
      value: Buffer.from('{}'),
    };
    return new Promise((resolve) => ledger.append(record, resolve));
  }

  async function records(): Promise<StoredRecord[]> {
    const reader = openSpoolReader({ folder, clock: systemClock, telemetry: silentTelemetry() });
    const all: StoredRecord[] = [];
    for await (const batch of reader.range(0, 0, Number.MAX_SAFE_INTEGER)) all.push(...batch.records);
    await reader.close();
    return all;
  }

  /** Whether segments stay for the sake of accounts: a later segment shows it. */
  async function cursorHolds(): Promise<boolean> {
    const value = Buffer.alloc(2 ** 19);
    for (let i = 0; i < 3; i++) {
      const tick: LogRecord = { kind: 'tick', key: '', receivedMs: FROM, stream: '', topic: '', value };
      await new Promise((resolve) => ledger.append(tick, resolve));
    }
    await spool.release();
    return spool.stats().firstOffset === 0;
  }

  async function judged() {
    const books = new AuditBooks({ fromMs: 0, toMs: 100 * MINUTE });
    for (const { kind, key, receivedMs, offset, value } of await records()) {
      const minuteMs = Math.floor(receivedMs / MINUTE) * MINUTE;
      if (kind === 'reading') books.seen(key, minuteMs, 'forwarded', { spool: 'it', offset });
      if (kind === 'account') books.account(decodeAccount(value)!);
    }
    return books.finish(0, () => Number.POSITIVE_INFINITY);
  }

  beforeEach(async () => {
    broken = false;
    folder = mkdtempSync(join(tmpdir(), 'millrace-accounts-'));
    await start();
  });

  afterEach(async () => {
    await die();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Three minutes in three lives, of which the first two end without a last account. */
  async function threeLives(options: { forgetful?: boolean }): Promise<void> {
    for (let life = 0; life < 3; life++) {
      for (let i = 0; i < 5; i++) await take(`d${i % 2}`, FROM + life * MINUTE + i);
      if (life === 1) assert.ok((await accounts.write(FROM + life * MINUTE + 10)).ok);
      await take('d0', FROM + life * MINUTE + 20);
      if (life === 2) break;
      await die();
      await start(options);
    }
    assert.ok((await accounts.write(FROM + 3 * MINUTE)).ok);
  }

  it('have every reading once after crashes, before and behind an account', async () => {
    await threeLives({});
    const { imbalances, gaps, totals, notAccountedYet } = await judged();
    assert.deepEqual([imbalances, gaps, notAccountedYet], [[], [], 0]);
    assert.deepEqual([totals.received, totals.forwarded], [18, 18]);
  });

  it('are found not to balance when a start does not look at the spool (a planted mistake)', async () => {
    await threeLives({ forgetful: true });
    const { imbalances } = await judged();
    assert.ok(imbalances.some(({ kind, device }) => kind === 'unaccounted' && device === 'd0'));
  });

  it('are written when a minute is over, and not before', async () => {
    await take('d1', FROM + 1);
    accounts.tick(FROM + 59_999);
    assert.equal((await records()).filter(({ kind }) => kind === 'account').length, 0);
    accounts.tick(FROM + MINUTE);
    await accounts.write(FROM + MINUTE);
    const [account] = (await records()).filter(({ kind }) => kind === 'account');
    assert.deepEqual(decodeAccount(account!.value)?.entries, [
      { minuteMs: FROM, device: 'd1', readings: 1, letters: 0, refused: 0 },
    ]);
  });

  it('let go of what needs none, and go on where the last one ended, after a crash too', async () => {
    const tick: LogRecord = { kind: 'tick', key: '', receivedMs: FROM, stream: '', topic: '', value: new Uint8Array() };
    await take('d1', FROM);
    assert.ok((await accounts.write(FROM)).ok);
    for (let i = 0; i < 5; i++) await new Promise((resolve) => ledger.append(tick, resolve));
    accounts.tick(FROM + MINUTE);
    const reader = openSpoolReader({ folder, clock: systemClock, telemetry: silentTelemetry() });
    const held = async () => {
      const stored = await reader.checkpoint(ACCOUNTS_GROUP, 0);
      return stored.ok ? stored.value?.offset : undefined;
    };
    while ((await held()) !== spool.stats().endOffset) await new Promise(setImmediate);
    await reader.close();
    await die();
    await start();
    await take('d1', FROM + MINUTE);
    assert.ok((await accounts.write(FROM + 2 * MINUTE)).ok);
    assert.deepEqual(spool.stats().backlog, {});
    const { gaps, imbalances, totals } = await judged();
    assert.deepEqual([gaps, imbalances, totals.received], [[], [], 2]);
  });

  it('that could not be written are part of the next one', async () => {
    await take('d1', FROM);
    broken = true;
    assert.ok(!(await accounts.write(FROM + MINUTE)).ok);
    broken = false;
    await take('d1', FROM + 1);
    assert.ok((await accounts.write(FROM + MINUTE)).ok);
    const { imbalances, totals } = await judged();
    assert.deepEqual([imbalances, totals.received], [[], 2]);
  });

  it('keep segments that have no account yet, and let go of them after it', async () => {
    const value = Buffer.alloc(2 ** 19);
    for (let i = 0; i < 6; i++) {
      const record: LogRecord = { kind: 'reading', key: 'd', receivedMs: FROM, stream: 's', topic: '', value };
      await new Promise((resolve) => ledger.append(record, resolve));
    }
    await spool.release();
    assert.equal(spool.stats().firstOffset, 0);
    await accounts.write(FROM + MINUTE);
    await take('d', FROM + MINUTE);
    await accounts.write(FROM + 2 * MINUTE);
    await spool.release();
    assert.ok(spool.stats().firstOffset > 0);
  });

  it('hold nothing in a spool that has no room for them, and say after a crash what nobody could count', async () => {
    const value = Buffer.alloc(2 ** 19);
    const large = { kind: 'reading', key: 'd', receivedMs: FROM, stream: 's', topic: '', value } as const;
    for (let i = 0; i < 6; i++) await new Promise((resolve) => ledger.append(large, resolve));
    broken = true;
    // Of a cursor the older of two commits counts.
    for (let tries = 0; tries < 2; tries++) assert.ok(!(await accounts.write(FROM + MINUTE)).ok);
    broken = false;
    assert.ok(!(await cursorHolds()));
    await die();
    await start();
    await take('d', FROM + MINUTE);
    assert.ok((await accounts.write(FROM + 2 * MINUTE)).ok);
    const { imbalances, gaps } = await judged();
    assert.deepEqual([imbalances, gaps], [[], []]);
  });

  it('name no more devices than the limit, and count the others together', async () => {
    await die();
    await start({ maxDevices: 2 });
    for (const device of ['a', 'b', 'c', 'd', 'a', 'c']) await take(device, FROM);
    await accounts.write(FROM + MINUTE);
    const [account] = (await records()).filter(({ kind }) => kind === 'account');
    const named = decodeAccount(account!.value)!.entries.map(({ device, readings }) => [device, readings]);
    assert.deepEqual(named, [
      ['a', 2],
      ['b', 1],
      [OTHERS, 3],
    ]);
    assert.deepEqual((await judged()).imbalances, []);
  });
});

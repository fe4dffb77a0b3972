import assert from 'node:assert/strict';
import fc from 'fast-check';
import { accountRecords, decodeAccount, deviceOf, OTHERS } from '../../src/parts/account.ts';
import { AuditBooks } from '../../src/parts/audit-books.ts';
import { parseTemplate, type Stream } from '../../src/stream.ts';

const MINUTE = 60_000;
const FROM = 10 * MINUTE;
const everywhere = () => Number.POSITIVE_INFINITY;
const at = (offset: number) => ({ spool: 's', offset });
const entry = (
  device: string,
  readings: number,
  more: { minuteMs?: number; letters?: number; refused?: number } = {},
) => ({
  ...{ minuteMs: FROM, device, readings, letters: 0, refused: 0 },
  ...more,
});

function books(device?: string): AuditBooks {
  return new AuditBooks({ fromMs: FROM, toMs: FROM + 10 * MINUTE, ...(device === undefined ? undefined : { device }) });
}

describe('an account of a gateway', () => {
  it('is the same after it was a record, however many devices it has', () => {
    const text = fc.string({ minLength: 1, maxLength: 8 });
    const entries = fc.array(
      fc
        .record({
          minuteMs: fc.nat(9).map((n) => n * MINUTE),
          device: text,
          readings: fc.nat(),
          letters: fc.nat(),
          refused: fc.nat(),
        })
        .map((one) => ({ ...one })),
      { maxLength: 50 },
    );
    fc.assert(
      fc.property(entries, (some) => {
        const [record, ...more] = accountRecords(
          { spool: 's', from: 3, to: 9, skipped: null, entries: some },
          'plant-7',
          1,
        );
        assert.equal(more.length, 0);
        assert.deepEqual(decodeAccount(record!.value), {
          spool: 's',
          from: 3,
          to: 9,
          part: [0, 1],
          skipped: null,
          entries: some,
        });
      }),
    );
  });

  it('is several records when it has many devices, and they say which of how many they are', () => {
    const entries = Array.from({ length: 4_500 }, (_, i) => entry(`d${i}`, i));
    const records = accountRecords({ spool: 's', from: 0, to: 9, skipped: null, entries }, 'plant-7', 1);
    const decoded = records.map(({ value }) => decodeAccount(value)!);
    assert.deepEqual(
      decoded.map(({ part }) => part),
      [
        [0, 3],
        [1, 3],
        [2, 3],
      ],
    );
    assert.deepEqual(
      decoded.flatMap((part) => part.entries),
      entries,
    );
  });

  it('is nothing when its bytes are not those of an account', () => {
    for (const text of ['', '{', '{}', '[]', 'null', '{"spool":"s","from":0,"to":1,"minutes":[[0,[["d",-1]]]]}']) {
      assert.equal(decodeAccount(Buffer.from(text)), null, text);
    }
  });

  it('counts a refused payload for the device in its topic, and where there is none for the client', () => {
    const topic = parseTemplate('sensors/{site}/{device}/environment');
    const streams = { environment: { topic, key: 'device' } as unknown as Stream };
    const letter = {
      kind: 'refusal',
      key: 'client-9',
      stream: 'environment',
      topic: 'sensors/a/d1/environment',
    } as const;
    assert.equal(deviceOf(letter, streams), 'd1');
    assert.equal(deviceOf({ ...letter, stream: '' }, streams), 'client-9');
    assert.equal(deviceOf({ ...letter, kind: 'reading', key: 'd7' }, streams), 'd7');
  });
});

describe('the books of an audit', () => {
  it('balance when the log holds what the accounts say, in whatever parts they say it', () => {
    const audited = books();
    for (let offset = 0; offset < 10; offset++)
      audited.seen('d1', FROM, offset === 4 ? 'deadLettered' : 'forwarded', at(offset));
    audited.account({
      spool: 's',
      from: 0,
      to: 4,
      part: [0, 1],
      skipped: null,
      entries: [entry('d1', 4, { refused: 2 })],
    });
    audited.sweep(0);
    audited.account({
      spool: 's',
      from: 4,
      to: 11,
      part: [0, 1],
      skipped: null,
      entries: [entry('d1', 5, { letters: 1 })],
    });
    const { totals, imbalances, gaps } = audited.finish(0, everywhere);
    const { received, forwarded, deadLettered, refused, spooled, missing } = totals;
    assert.deepEqual([received, forwarded, deadLettered, refused, spooled, missing], [12, 9, 1, 2, 0, 0]);
    assert.deepEqual([imbalances, gaps], [[], []]);
  });

  it('name what an account has and the log has not, unless its partition has not come so far', () => {
    for (const [reached, kind] of [
      [20, 'missing'],
      [5, 'spooled'],
    ] as const) {
      const audited = books();
      audited.seen('d1', FROM + MINUTE, 'forwarded', at(0));
      audited.account({
        spool: 's',
        from: 0,
        to: 10,
        part: [0, 1],
        skipped: null,
        entries: [entry('d1', 3, { minuteMs: FROM + MINUTE })],
      });
      const { totals, imbalances } = audited.finish(0, () => reached);
      assert.equal(totals[kind], 2);
      assert.equal(totals.received, totals.forwarded + totals.spooled + totals.missing);
      const named = { device: 'd1', minuteMs: FROM + MINUTE, kind: 'missing', readings: 2 };
      assert.deepEqual(imbalances, kind === 'missing' ? [named] : []);
    }
  });

  it('name what the log has and no account, unless it is newer than all accounts, or older', () => {
    const audited = books();
    audited.account({ spool: 's', from: 100, to: 110, part: [0, 1], skipped: null, entries: [] });
    audited.seen('old', FROM, 'forwarded', at(50));
    audited.seen('added', FROM, 'forwarded', at(105));
    audited.seen('new', FROM, 'forwarded', at(110));
    const { imbalances, notAccountedYet, withoutBooks } = audited.finish(0, everywhere);
    assert.deepEqual(imbalances, [{ device: 'added', minuteMs: FROM, kind: 'unaccounted', readings: 1 }]);
    assert.deepEqual([notAccountedYet, withoutBooks], [1, 1]);
  });

  it('do not expect an account of offsets that nobody could count', () => {
    const audited = books();
    audited.seen('d1', FROM, 'forwarded', at(3));
    audited.account({ spool: 's', from: 0, to: 10, part: [0, 1], skipped: [0, 5], entries: [] });
    audited.seen('d2', FROM, 'forwarded', at(7));
    const { imbalances, withoutBooks } = audited.finish(0, everywhere);
    assert.deepEqual(imbalances, [{ device: 'd2', minuteMs: FROM, kind: 'unaccounted', readings: 1 }]);
    assert.equal(withoutBooks, 1);
  });

  it('name the offsets of an account that is gone', () => {
    const audited = books();
    for (const [from, to] of [
      [0, 10],
      [10, 20],
      [30, 40],
      [10, 20],
    ] as const) {
      audited.account({ spool: 's', from, to, part: [0, 1], skipped: null, entries: [] });
    }
    assert.deepEqual(audited.finish(0, everywhere).gaps, [{ spool: 's', from: 20, to: 30 }]);
  });

  it('balance devices beyond the limit together, and find one that is missing among them', () => {
    for (const seen of [5, 4]) {
      for (const device of [undefined, 'd2']) {
        const audited = books(device);
        for (let i = 0; i < 3 && audited.isWanted('d1'); i++) audited.seen('d1', FROM, 'forwarded', at(i));
        for (let i = 0; i < seen; i++) audited.seen('d2', FROM, 'forwarded', at(10 + i));
        audited.account({
          spool: 's',
          from: 0,
          to: 20,
          part: [0, 1],
          skipped: null,
          entries: [entry('d1', 3), entry(OTHERS, 5)],
        });
        const { imbalances } = audited.finish(0, everywhere);
        const lack = { device: OTHERS, minuteMs: FROM, kind: 'missing', readings: 1 };
        assert.deepEqual(imbalances, seen === 4 && device === undefined ? [lack] : []);
      }
    }
  });

  it('count a reading as open until its window is closed', () => {
    const audited = books();
    audited.fate('d1', 'counted', 1_000);
    audited.fate('d1', 'counted', 2_000);
    audited.fate('d1', 'late', null);
    audited.sweep(1_000);
    const { counted, open, late, logRecords } = audited.finish(1_500, everywhere).totals;
    assert.deepEqual([logRecords, counted, open, late], [3, 1, 1, 1]);
  });
});

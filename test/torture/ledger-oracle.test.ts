/** The judge is judged: rows worked out by hand must pass, and every mistake planted in them must be found. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Delivery, readSimulatorLedger } from '../../src/torture/deliveries.ts';
import { type Judged, judge, type Verdict } from '../../src/torture/ledger-oracle.ts';
import type { Rules } from '../../src/torture/ledger-readings.ts';

const T0 = Date.UTC(2026, 0, 1, 12);
const RULES: Rules = {
  graceMs: 2_000,
  skewMs: 60_000,
  streams: [
    {
      name: 'air',
      topic: 'sensors/{site}/{device}/air',
      time: 'ts',
      sequence: 'seq',
      metrics: ['t', 'h'],
      windows: ['10s', '1m'],
    },
    {
      name: 'clicks',
      topic: 'web/{app}/clicks',
      time: 'at',
      identity: ['user', 'page', 'at'],
      tags: ['page'],
      metrics: [],
      windows: ['10s', '5m_1m'],
    },
  ],
};

function air(device: string, seq: number, atMs: number, values: object, more: Partial<Delivery> = {}): Delivery {
  const payload = JSON.stringify({ ts: T0 + atMs, seq, ...values });
  return delivery(`sensors/osaka/${device}/air`, payload, atMs, more);
}

function click(user: string, page: string, atMs: number): Delivery {
  return delivery('web/shop/clicks', JSON.stringify({ at: T0 + atMs, user, page }), atMs);
}

function delivery(topic: string, payload: string, atMs: number, more: Partial<Delivery> = {}): Delivery {
  return { topic, payload, sentMs: T0 + atMs + 1, acknowledgedMs: T0 + atMs + 5, ...more };
}

/** 1, 2, 3, 4 of one device in one window, the third of them twice, one counter missing. */
const DELIVERIES: readonly Delivery[] = [
  air('d1', 10, 1_000, { t: 3, h: 40 }),
  air('d1', 11, 2_000, { t: 1 }),
  air('d1', 13, 3_000, { t: 4, h: 40 }),
  air('d1', 13, 3_000, { t: 4, h: 40 }),
  air('d1', 14, 9_999, { t: 2 }),
];

const AIR_TAGS = { device: 'd1', site: 'osaka' };
const NOTHING = { sum: null, mean: null, min: null, max: null, stddev: null, first: null, last: null };
const NO_PERCENTILES = { p50: null, p95: null, p99: null };

function airRows(window: string, endMs: number) {
  const common = { stream: 'air', window, startMs: T0, endMs: T0 + endMs, tags: AIR_TAGS };
  const rest = { duplicates: 1, missing: 1, rev: 0 };
  const t = { sum: 10, mean: 2.5, min: 1, max: 4, stddev: Math.sqrt(1.25), first: 3, last: 2, p50: 2, p95: 4, p99: 4 };
  const h = { sum: 80, mean: 40, min: 40, max: 40, stddev: 0, first: 40, last: 40, p50: 40, p95: 40, p99: 40 };
  return [
    { ...common, metric: 't', count: 4, ...t, ...rest },
    { ...common, metric: 'h', count: 2, ...h, ...rest },
  ];
}

const ROWS = [...airRows('10s', 10_000), ...airRows('1m', 60_000)];
const ALL_CLOSED = T0 + 3_600_000;

function judged(more: Partial<Judged> = {}): Verdict {
  return judge(RULES, { deliveries: DELIVERIES, rows: ROWS, closedToMs: ALL_CLOSED, ...more });
}

/** The rows with one of them changed. */
function changed(change: object, index = 0): object[] {
  return ROWS.map((row, i) => (i === index ? { ...row, ...change } : row));
}

function found(verdict: Verdict, pattern: RegExp): void {
  assert.ok(
    verdict.findings.some((finding) => pattern.test(finding)),
    `${pattern} is not among ${JSON.stringify(verdict.findings)}`,
  );
}

describe('the oracle of rows', () => {
  it('shares no code with the program', () => {
    for (const file of ['deliveries', 'exact', 'ledger-oracle', 'ledger-readings']) {
      const text = readFileSync(new URL(`../../src/torture/${file}.ts`, import.meta.url), 'utf8');
      for (const [, module] of text.matchAll(/^(?:import|export) .*from '(.*)';$/gm)) {
        assert.match(module!, /^node:|^\.\/(deliveries|exact|ledger-readings)\.ts$/, file);
      }
    }
  });

  it('agrees with rows worked out by hand', () => {
    const verdict = judged();
    assert.deepEqual(verdict.findings, []);
    assert.equal(verdict.exact, 4);
    assert.equal(verdict.open, 0);
    assert.equal(verdict.counted, 4);
    assert.deepEqual(verdict.byWindow, { '10s': 2, '1m': 2 });
  });

  it('finds every number that is off by the least that a double can be', () => {
    const bits = new DataView(new ArrayBuffer(8));
    for (const field of ['sum', 'mean', 'min', 'max', 'stddev', 'first', 'last'] as const) {
      bits.setFloat64(0, ROWS[0]![field]);
      bits.setBigUint64(0, bits.getBigUint64(0) + 1n);
      found(judged({ rows: changed({ [field]: bits.getFloat64(0) }) }), new RegExp(` t 10s .*: ${field} is`));
    }
  });

  it('finds wrong counts, wrong ends, other revisions, and tags or fields of another form', () => {
    for (const field of ['count', 'missing', 'duplicates', 'endMs', 'rev'] as const) {
      for (const by of [-1, 1]) {
        found(judged({ rows: changed({ [field]: ROWS[0]![field] + by }) }), new RegExp(`${field} is`));
      }
    }
    found(judged({ rows: changed({ tags: { site: 'osaka', device: 'd1' } }) }), /tags are/);
    found(judged({ rows: changed({ extra: 1 }) }), /fields are/);
    found(judged({ rows: changed({ sum: null }) }), /sum is null/);
  });

  it('lets a percentile be near, but neither farther than its bound nor outside of the values', () => {
    assert.deepEqual(judged({ rows: changed({ p50: 2.015 }) }).findings, []);
    found(judged({ rows: changed({ p50: 2.016 }) }), /p50 is 2.016, too far from 2/);
    found(judged({ rows: changed({ p99: 4.001 }) }), /p99/);
  });

  it('finds rows that are missing, but only in windows that must be closed', () => {
    const rows = ROWS.slice(0, 3);
    found(judged({ rows }), /h 1m .*missing, with 2 readings/);
    assert.deepEqual(judged({ rows, closedToMs: T0 + 59_999 }).findings, []);
    assert.equal(judged({ rows: [], closedToMs: ALL_CLOSED }).findings.length, 4);
  });

  it('does not look at windows that end before a given time', () => {
    const sinceMs = T0 + 10_000;
    assert.deepEqual(judged({ rows: changed({ sum: 11 }), sinceMs }).findings, []);
    assert.deepEqual(judged({ rows: ROWS.slice(2), sinceMs }).findings, []);
    found(judged({ rows: changed({ sum: 11 }, 2), sinceMs }), / t 1m .*sum is 11/);
    assert.equal(judged({ rows: [], sinceMs }).findings.length, 2);
  });

  it('finds rows that nobody measured, open windows included, and rows that are there twice', () => {
    for (const change of [
      { tags: { ...AIR_TAGS, device: 'd2' } },
      { startMs: T0 + 10_000, endMs: T0 + 20_000 },
      { metric: 'x' },
      { stream: 'water' },
      { window: '5m' },
    ]) {
      const rows = [...ROWS, { ...ROWS[0], ...change }];
      found(judged({ rows, closedToMs: T0 }), /nothing was measured there/);
    }
    found(judged({ rows: [...ROWS, ROWS[2]] }), /stored more than once/);
  });

  it('wants nothing of what was refused, and nothing of what came late for certain', () => {
    const late = air('d1', 12, 2_500, { t: 9 }, { sentMs: T0 + 12_000, acknowledgedMs: T0 + 12_001 });
    const refused = [
      air('d9', 1, 3_700_000, { t: 1 }, { sentMs: T0, acknowledgedMs: T0 + 1 }),
      air('d9', 2, 0, { t: 1e151 }),
      air('d9', 3, 0, { t: '21' }),
      air('d9', -1, 0, { t: 21 }),
      air('d9', 4, 0, {}),
      { ...air('d9', 5, 0, { t: 1 }), payload: null },
      { ...air('d9', 6, 0, { t: 1 }), payload: '{"ts":' },
    ];
    const verdict = judged({ deliveries: [...DELIVERIES, late, ...refused] });
    assert.deepEqual(verdict.findings, []);
    assert.equal(verdict.leftOut, 2);
  });

  it('counts a late copy of a reading neither twice nor as a duplicate', () => {
    const late = { ...DELIVERIES[0]!, sentMs: T0 + 12_000, acknowledgedMs: T0 + 12_001 };
    assert.deepEqual(judged({ deliveries: [...DELIVERIES, late] }).findings, []);
  });

  it('asks only for bounds where an acknowledgement does not tell whether the reading was in time', () => {
    const open = air('d1', 15, 9_000, { t: 7 }, { sentMs: T0 + 11_999, acknowledgedMs: T0 + 12_000 });
    const verdict = judged({ deliveries: [...DELIVERIES, open] });
    assert.deepEqual(verdict.findings, []);
    assert.equal(verdict.open, 4);
    found(judged({ deliveries: [...DELIVERIES, open], rows: changed({ count: 3 }) }), /count is 3, not 4 to 5/);
    found(judged({ deliveries: [...DELIVERIES, open], rows: changed({ count: 6 }) }), /count is 6, not 4 to 5/);
    const unanswered = { ...open, sentMs: T0 + 9_000, acknowledgedMs: null };
    assert.equal(judged({ deliveries: [...DELIVERIES, unanswered] }).open, 4);
  });

  it('takes a delivery without an answer for a duplicate that may be', () => {
    const again = { ...DELIVERIES[0]!, acknowledgedMs: null };
    const deliveries = [...DELIVERIES, again];
    for (const duplicates of [1, 2]) {
      const rows = ROWS.map((row) => ({ ...row, duplicates }));
      assert.deepEqual(judged({ deliveries, rows }).findings, []);
    }
    const rows = ROWS.map((row) => ({ ...row, duplicates: 3 }));
    found(judged({ deliveries, rows }), /duplicates is 3, not 1 to 2/);
    assert.deepEqual(judged({ deliveries, rows, logRepeats: true }).findings, []);
  });

  it('knows rolling windows, streams that count events, and that users in one millisecond are two', () => {
    const deliveries = [
      click('ann', '/', 500),
      click('bob', '/', 500),
      click('ann', '/', 500),
      click('ann', '/x', 500),
    ];
    const row = (page: string, window: string, startMs: number, endMs: number, count: number, duplicates: number) => ({
      ...{
        stream: 'clicks',
        metric: '',
        window,
        startMs: T0 + startMs,
        endMs: T0 + endMs,
        tags: { app: 'shop', page },
      },
      ...{ count, ...NOTHING, ...NO_PERCENTILES, duplicates, missing: 0, rev: 0 },
    });
    const starts = [-240_000, -180_000, -120_000, -60_000, 0];
    const rows = ['/', '/x'].flatMap((page) => {
      const [count, duplicates] = page === '/' ? [2, 1] : [1, 0];
      return [
        row(page, '10s', 0, 10_000, count!, duplicates!),
        ...starts.map((start) => row(page, '5m_1m', start, start + 300_000, count!, duplicates!)),
      ];
    });
    const verdict = judged({ deliveries, rows });
    assert.deepEqual(verdict.findings, []);
    assert.equal(verdict.exact, 12);
    found(judged({ deliveries, rows: rows.slice(1) }), /missing/);
    found(judged({ deliveries, rows: rows.map((one) => ({ ...one, count: 1 })) }), /count is 1, not 2/);
  });

  it('does not decide between two payloads of one reading', () => {
    assert.throws(() => judged({ deliveries: [...DELIVERIES, air('d1', 10, 1_000, { t: 5 })] }), /two payloads/);
  });
});

describe('deliveries of a ledger', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-ledger-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('are one for each publish, with its answer, up to the last whole line', () => {
    const message = { device: 'd1', topic: 'a/b', seq: 7, copy: 0, ts: 5, fault: 'none', sha256: 'f00' };
    const lines = [
      { event: 'sent', at: 10, ...message, attempt: 1, payload: '{"ts":5}' },
      { event: 'failed', at: 11, ...message, attempt: 1, reason: 'x' },
      { event: 'sent', at: 12, ...message, attempt: 2 },
      { event: 'sent', at: 12, ...message, copy: 1, attempt: 1, payload: '{"ts":5}' },
      { event: 'acknowledged', at: 14, ...message, attempt: 2 },
      { event: 'gap', at: 15, ...message, seq: 8, attempt: 0 },
      { event: 'sent', at: 16, ...message, seq: 9, attempt: 1, fault: 'malformed', payload: '{"ts":5' },
    ].map((line) => JSON.stringify(line));
    const file = join(folder, 'ledger.ndjson');
    writeFileSync(file, `${lines.join('\n')}\n{"event":"sent","at":1`);
    const common = { ...message, payload: '{"ts":5}', acknowledgedMs: null, attempt: 1 };
    const { deliveries, gaps, broken } = readSimulatorLedger(file);
    assert.deepEqual(deliveries, [
      { ...common, sentMs: 10 },
      { ...common, sentMs: 12, acknowledgedMs: 14, attempt: 2 },
      { ...common, sentMs: 12, copy: 1 },
      { ...common, seq: 9, payload: null, sentMs: 16, fault: 'malformed' },
    ]);
    assert.deepEqual({ gaps, broken }, { gaps: 1, broken: 1 });
  });
});

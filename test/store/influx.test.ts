/** The InfluxDB store on a real server. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { InfluxDB } from '@influxdata/influxdb-client';
import { systemClock } from '../../src/clock.ts';
import type { InfluxConfig } from '../../src/config.ts';
import { classify } from '../../src/store/failures.ts';
import { openInfluxStore } from '../../src/store/influx.ts';
import { deliver, post } from '../../src/store/lines.ts';
import { sortRows } from '../../src/store/order.ts';
import { encodeLine } from '../../src/store/point.ts';
import { ReadFailed, type Store } from '../../src/store/store.ts';
import { parseWindow } from '../../src/stream.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { assertSame, storeContract } from '../contracts/store.ts';
import { listBuckets, removeBuckets } from '../support/influx.ts';
import { collect, makeRow, T0 } from '../support/rows.ts';
import { type InfluxServer, needInflux } from '../support/servers.ts';

storeContract('the InfluxDB store keeps the contract', async (context) => {
  const { url, org, token } = needInflux(context);
  const bucket = `contract-${randomBytes(4).toString('hex')}`;
  const config: InfluxConfig = { url, org, token, bucket, timeoutMs: 30_000, createBuckets: true, retentionMs: {} };
  const options = { config, telemetry: silentTelemetry(), clock: systemClock, settleMs: 50 };
  const store = openInfluxStore(options);
  const reader = openInfluxStore(options);
  return {
    store,
    reader,
    async release() {
      await store.close();
      await reader.close();
      await removeBuckets({ url, org, token }, bucket);
    },
  };
});

describe('the InfluxDB store on a real server', () => {
  let server: InfluxServer;
  const prefix = `real-${randomBytes(4).toString('hex')}`;
  const stores: Store[] = [];
  before(function () {
    server = needInflux(this);
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
  });
  after(async () => {
    if (server) await removeBuckets(server, prefix);
  });

  function openStore(more: Partial<InfluxConfig> = {}): Store {
    const { url, org, token } = server;
    const config = {
      url,
      org,
      token,
      bucket: prefix,
      timeoutMs: 10_000,
      createBuckets: true,
      retentionMs: {},
      ...more,
    };
    const store = openInfluxStore({ config, telemetry: silentTelemetry(), clock: systemClock, settleMs: 20 });
    stores.push(store);
    return store;
  }
  const prepare = (store: Store, ...labels: string[]) =>
    store.prepare(labels.map((label) => ({ stream: 'environment', window: parseWindow(label)! })));

  it('makes a bucket for each window size, with its retention and few blocks a shard', async () => {
    const store = openStore({ retentionMs: { '10s': 7 * 86_400_000, '15m': 10 * 86_400_000 } });
    assert((await prepare(store, '1s', '10s', '1m', '15m', '1h', '5m_1m')).ok);
    const rules = new Map((await listBuckets(server, prefix)).map(({ name, retentionRules: [rule] }) => [name, rule]));
    const days = (label: string) => {
      const rule = rules.get(`${prefix}_${label}`)!;
      return [rule.everySeconds / 86_400, rule.shardGroupDurationSeconds / 86_400];
    };
    assert.deepEqual(days('1s'), [0, 1 / 24]);
    assert.deepEqual(days('10s'), [7, 1]);
    assert.deepEqual(days('1m'), [0, 7]);
    assert.deepEqual(days('5m_1m'), [0, 7]);
    assert.deepEqual(days('15m'), [10, 10]);
    assert.deepEqual(days('1h'), [0, 30]);
    assert.deepEqual(days('live'), [1 / 24, 1 / 24]);
  });

  it('asks for a person when a bucket is missing, the token is wrong or a retention is impossible', async () => {
    const missing = await prepare(openStore({ bucket: `${prefix}-x`, createBuckets: false }), '10s');
    assert(!missing.ok && missing.failure.code === 'STORE_NOT_FOUND' && !missing.failure.retryable);
    assert.match(missing.failure.message, new RegExp(`${prefix}-x_10s.*influx.createBuckets`));
    const wrong = openStore({ token: 'wrong' });
    const [prepared, written, health] = [
      await prepare(wrong, '10s'),
      await wrong.write([makeRow()]),
      await wrong.health(),
    ];
    for (const outcome of [prepared, written, health]) {
      assert(!outcome.ok && outcome.failure.code === 'STORE_AUTHENTICATION' && !outcome.failure.retryable);
    }
    const short = await prepare(openStore({ retentionMs: { '10s': 60_000 } }), '10s');
    assert(!short.ok && short.failure.code === 'CONFIG_INVALID');
    const unknown = await prepare(openStore({ org: 'nobody' }), '10s');
    assert(!unknown.ok && unknown.failure.code === 'STORE_NOT_FOUND', JSON.stringify(unknown));
  });

  it('makes a bucket again that someone deleted, and says ReadFailed while it is not there', async () => {
    const store = openStore({ bucket: `${prefix}_gone` });
    assert((await prepare(store, '10s')).ok);
    await removeBuckets(server, `${prefix}_gone`);
    const reading = collect(store.read({ stream: 'environment', window: '10s', fromMs: 0, toMs: T0 * 2 }));
    await assert.rejects(
      reading,
      (thrown) => thrown instanceof ReadFailed && thrown.failure.code === 'STORE_NOT_FOUND',
    );
    const row = makeRow();
    assert.deepEqual(await store.write([row]), { ok: true, value: { refused: [] } });
    assertSame(await collect(store.read({ stream: 'environment', window: '10s', fromMs: 0, toMs: T0 * 2 })), [row]);
  });

  it('refuses rows older than the retention one by one, and stores the others', async () => {
    const store = openStore({ bucket: `${prefix}_short`, retentionMs: { '10s': 3_600_000 } });
    assert((await prepare(store, '10s')).ok);
    const nowMs = Date.now() - (Date.now() % 10_000);
    const rows = Array.from({ length: 40 }, (_, i) =>
      makeRow({ startMs: i % 9 === 4 ? T0 + i * 10_000 : nowMs - i * 10_000 }),
    );
    for (const outcome of [await store.write(rows), await store.replace(rows)]) {
      assert(outcome.ok);
      assert.deepEqual(
        outcome.value.refused.map(({ row }) => row),
        rows.filter((row) => row.startMs < nowMs - 3_600_000),
      );
      for (const { reason } of outcome.value.refused) assert.match(reason, /retention policy/);
    }
    const kept = await collect(store.read({ stream: 'environment', window: '10s', fromMs: 0, toMs: nowMs + 1 }));
    assertSame(kept, sortRows(rows.filter((row) => row.startMs > nowMs - 3_600_000)));
  });

  it('finds malformed lines and lines of the wrong type, as this server words it', async () => {
    const store = openStore({ bucket: `${prefix}_lines` });
    assert((await prepare(store, '10s')).ok);
    const { url, org, token } = server;
    const influx = new InfluxDB({ url, token });
    const lines = Array.from({ length: 50 }, (_, i) => {
      const row = makeRow({ startMs: T0 + i * 10_000 });
      return { row, text: encodeLine(row) };
    });
    const send = (texts: string[]) => post(influx, org, `${prefix}_lines_10s`, texts);
    const spoil = (spoilt: Record<number, string>) =>
      lines.map((line, i) => ({ ...line, text: spoilt[i] ?? line.text }));
    const fail = (thrown: unknown) => classify(thrown, 'here');
    const ends = async (spoilt: Record<number, string>, reasons: RegExp[]) => {
      const outcome = await deliver(spoil(spoilt), send, fail, () => false);
      assert(outcome.ok, JSON.stringify(outcome));
      assert.deepEqual(
        outcome.value.map(({ row }) => row),
        Object.keys(spoilt).map((i) => lines[Number(i)]!.row),
      );
      for (const [i, { reason }] of outcome.value.entries()) assert.match(reason, reasons[i]!);
      const stored = await collect(store.read({ stream: 'environment', window: '10s', fromMs: 0, toMs: T0 * 2 }));
      assertSame(
        stored,
        lines.filter((_, i) => !(i in spoilt)).map(({ row }) => row),
      );
    };
    await ends({ 3: 'environment,x= count=1i 5', 17: 'environment', 49: `é"\\ count=1i,x= ${T0}` }, [
      /missing tag value/,
      /missing fields|invalid/,
      /./,
    ]);
    await removeBuckets(server, `${prefix}_lines`);
    assert((await prepare(store, '10s')).ok);
    await send(lines.filter((_, i) => i !== 8 && i !== 30).map(({ text }) => text));
    const typed = (i: number) => lines[i]!.text.replace('count=3i', 'count=3.5');
    await ends({ 8: typed(8), 30: typed(30) }, [/field type conflict/, /field type conflict/]);
  });
});

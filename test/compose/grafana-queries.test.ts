/**
 * The dashboards' queries and those of the README, asked of a real InfluxDB that holds rows which the engine made: with one value,
 * several and all in every variable, in InfluxQL and in Flux.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { InfluxDB } from '@influxdata/influxdb-client';
import { dashboards, sampleDashboards } from '../../compose/grafana/generate.ts';
import { systemClock } from '../../src/clock.ts';
import type { StoredRecord } from '../../src/log.ts';
import { Engine } from '../../src/rollup/engine.ts';
import { openInfluxStore } from '../../src/store/influx.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { type Chosen, filled, panelsOf } from '../support/grafana.ts';
import { removeBuckets } from '../support/influx.ts';
import { makeStream, readingRecord, tickRecord } from '../support/readings.ts';
import { type InfluxServer, needInflux } from '../support/servers.ts';

const MINUTE_MS = 60_000;
const CLOSED_MINUTES = 3;
const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

/** Its name means something in a regular expression. */
const ODD_DEVICE = 'd.3 (spare)/x';
const DEVICES = [
  { stream: 'environment', device: 'd1', site: 'berlin' },
  { stream: 'environment', device: 'd2', site: 'lyon' },
  { stream: 'environment', device: ODD_DEVICE, site: 'berlin' },
  { stream: 'vibration', device: 'v1', site: 'lyon' },
] as const;

interface Series {
  readonly name: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly columns: readonly string[];
  readonly values: readonly (readonly unknown[])[];
}

describe('Queries of rows', function () {
  this.timeout(60_000);
  const bucket = `grafana-${randomUUID().slice(0, 8)}`;
  let influx: InfluxServer;

  before(async function () {
    influx = needInflux(this);
    const { url, org, token } = influx;
    const config = { url, org, token, bucket, timeoutMs: 30_000, createBuckets: true, retentionMs: {} };
    const store = openInfluxStore({ config, telemetry: silentTelemetry(), clock: systemClock });
    const streams = {
      environment: { ...makeStream('environment', { metrics: ['temperature'] }), sequence: 'seq' },
      vibration: makeStream('vibration', { metrics: ['temperature'] }),
      clicks: makeStream('clicks', { metrics: [] }),
      climate: makeStream('climate', { metrics: ['temperature', 'discomfort', 'pressure'] }),
      'chat.understood': makeStream('chat.understood', { metrics: ['sentiment', 'urgency', 'first_response'] }),
    };
    const engine = new Engine(
      { partition: 0, streams, graceMs: 0, disorderMs: 0, skewMs: MINUTE_MS },
      { checkpoint: null, firstOffset: 0, endOffset: 0 },
    );
    for (const record of records()) assert.ok(engine.process(record));
    try {
      const windows = Object.values(streams).flatMap(({ name, windows }) =>
        windows.map((window) => ({ stream: name, window })),
      );
      assert.ok((await store.prepare(windows)).ok);
      assert.ok((await store.write(engine.take().rows)).ok);
      assert.ok((await store.running(engine.provisional(1_000))).ok);
    } finally {
      await store.close();
    }
  });

  after(async () => {
    if (influx) await removeBuckets(influx, bucket);
  });

  async function ask(query: string, window: string): Promise<Series[]> {
    const url = new URL('/query', influx.url);
    url.search = new URLSearchParams({ db: `${bucket}_${window}`, q: query }).toString();
    const response = await fetch(url, { headers: { Authorization: `Token ${influx.token}` } });
    const { results, error } = (await response.json()) as {
      results?: { error?: string; series?: Series[] }[];
      error?: string;
    };
    assert.equal(error ?? results?.[0]?.error, undefined, query);
    return results?.[0]?.series ?? [];
  }

  /** The answers to the panels of that title, one for each target. */
  async function panel(title: string, chosen: Chosen, window = '10s'): Promise<Series[]> {
    const found = Object.values({ ...dashboards(), ...sampleDashboards() })
      .flatMap(panelsOf)
      .filter((one) => one.title === title);
    assert.equal(found.length, 1, title);
    const db = found[0]!.datasource?.uid === 'millrace-live' ? 'live' : window;
    return (await Promise.all(found[0]!.targets!.map(({ query }) => ask(filled(query!, chosen), db)))).flat();
  }

  const ONE: Chosen = {
    ...{ stream: 'environment', metric: 'temperature', site: 'lyon', device: 'd2', window: '10s' },
    ...{ app: 'shop', page: '/home', team: 'sales', room: 'office' },
  };
  const SEVERAL: Chosen = {
    ...{ stream: ['environment', 'vibration'], metric: 'temperature', site: ['berlin', 'lyon'] },
    ...{ device: ['d1', ODD_DEVICE, 'v1'], window: ['10s', '1m'], app: ['shop', 'nothing'], page: ['/home', '/cart'] },
    team: ['sales', 'support'],
    room: ['office', 'hall'],
  };
  const ALL: Chosen = {
    ...SEVERAL,
    site: '.*',
    device: '.*',
    window: '.*',
    app: '.*',
    page: '.*',
    team: '.*',
    room: '.*',
  };
  /** Of what not all rows here have: repairs, purchases, different users, and gaps within a window. */
  const MAY_BE_EMPTY = ['Repaired rows', 'Purchases', 'Users by page and action', 'Windows that lack readings'];

  for (const [how, chosen] of Object.entries({ 'one value': ONE, 'several values': SEVERAL, All: ALL })) {
    it(`fill every panel and every variable with ${how} in each of them`, async () => {
      let asked = 0;
      for (const board of Object.values({ ...dashboards(), ...sampleDashboards() })) {
        for (const { title, datasource, targets } of panelsOf(board)) {
          for (const { query } of targets ?? []) {
            if (!query) continue;
            asked++;
            for (const window of datasource?.uid === 'millrace-live' ? ['live'] : ['10s', '1m']) {
              const series = await ask(filled(query, chosen), window);
              if (!MAY_BE_EMPTY.includes(title!))
                assert.ok(series.length > 0, `${title}, ${window}: ${filled(query, chosen)}`);
            }
          }
        }
        for (const { type, query, datasource } of (board.templating?.list ?? []) as Variable[]) {
          if (type !== 'query') continue;
          const series = await ask(filled(query!, chosen), datasource?.uid === 'millrace-live' ? 'live' : '10s');
          assert.ok(series.length > 0, query);
        }
      }
      assert.ok(asked >= 20, `${asked} panels read InfluxDB`);
    });
  }

  it('take several values as the sum of each, and All as every one', async () => {
    const readings = async (chosen: Chosen) => {
      const series = await panel('Readings', { ...ALL, ...chosen });
      return Object.fromEntries(series.map(({ name, values }) => [name, values[0]![1] as number]));
    };
    const per = CLOSED_MINUTES * 60;
    const missed = 57;
    assert.deepEqual(await readings({}), { environment: 3 * per - missed, vibration: per - missed });
    assert.deepEqual(await readings({ stream: 'environment', device: ['d1', ODD_DEVICE] }), { environment: 2 * per });
    assert.deepEqual(await readings({ stream: 'environment', device: 'd2' }), { environment: per - missed });
    assert.deepEqual(await readings({ site: ['lyon', 'nowhere'] }), {
      environment: per - missed,
      vibration: per - missed,
    });
    assert.deepEqual(await readings({ stream: ['vibration', 'nothing'] }), { vibration: per - missed });
  });

  it('read the open windows that are chosen, one, several or all', async () => {
    const windows = async (window: string | string[]) => {
      const series = await panel('Running value of the open windows', {
        ...ALL,
        stream: 'environment',
        device: 'd1',
        window,
      });
      return series.map(({ tags }) => tags!.window).sort();
    };
    assert.deepEqual(await windows('1m'), ['1m']);
    assert.deepEqual(await windows(['10s', '1m']), ['10s', '1m']);
    assert.deepEqual(await windows('.*'), ['10s', '1m']);
  });

  it('show that a mean is of 3 readings where 60 were sent', async () => {
    const chosen: Chosen = { ...ALL, stream: 'environment' };
    const [lacking, ...others] = await panel('Windows that lack readings', chosen, '1m');
    assert.deepEqual(lacking!.tags, { site: 'lyon', device: 'd2' });
    assert.deepEqual(lacking!.columns, ['time', 'arrived', 'expected', 'mean']);
    assert.equal(lacking!.values.length, 1);
    assert.deepEqual(lacking!.values[0]!.slice(1), [3, 60, (1_060 + 1_090 + 1_119) / 3]);
    assert.deepEqual(others, [], 'and no other window lacks any');
    const series = await panel('Readings per window, and how many were expected', { ...chosen, device: 'd2' }, '1m');
    const [columns, values] = [series[0]!.columns, series[0]!.values];
    assert.deepEqual(columns.slice(1, 3), ['arrived', 'expected']);
    assert.deepEqual(
      values.map((row) => row.slice(1, 3)),
      [
        [60, 60],
        [3, 60],
        [60, 60],
      ],
    );
  });

  it('show it of a device without sequence numbers too, by the fewest and the most in a window', async () => {
    const table = await panel('Readings in a window: the fewest and the most', { ...ALL }, '1m');
    const of = (device: string) => table.find(({ tags }) => tags!.device === device)!.values[0]!.slice(1);
    assert.deepEqual(table[0]!.columns.slice(1), ['fewest', 'most']);
    assert.deepEqual(of('v1'), [3, 60]);
    assert.deepEqual(of('d2'), [3, 60]);
    assert.deepEqual(of('d1'), [60, 60]);
  });

  const pairs = [...README.matchAll(/```sql\n(SELECT .*?)```\n```flux\n(.*?)```/gs)];
  it('are in the README in InfluxQL and Flux by pairs', () => {
    assert.equal(pairs.length, 3);
    assert.equal(pairs.length, README.split('```flux').length - 1, 'no Flux without its twin');
  });

  for (const [, influxQl, flux] of pairs) {
    it(`give the same rows in Flux as in InfluxQL: ${influxQl!.slice(0, 60)}…`, async () => {
      const window = /bucket: "telemetry_(\w+)"/.exec(flux!)![1]!;
      const [series, ...more] = await ask(influxQl!.replace('d0001', 'd2'), window);
      assert.deepEqual(more, []);
      const rows = series!.values.map((row) =>
        Object.fromEntries(series!.columns.map((column, i) => [column, row[i]])),
      );
      assert.ok(rows.length >= 1);
      const api = new InfluxDB({ url: influx.url, token: influx.token }).getQueryApi(influx.org);
      const text = flux!.replace('"telemetry_', `"${bucket}_`).replace('d0001', 'd2');
      const found = await api.collectRows<Record<string, unknown>>(text);
      const columns = series!.columns.slice(1);
      assert.deepEqual(
        found.map((row) =>
          Object.fromEntries([['time', row._time], ...columns.map((column) => [column, row[column]])]),
        ),
        rows,
      );
    });
  }
});

interface Variable {
  readonly type: string;
  readonly query?: string;
  readonly datasource?: { readonly uid?: string };
}

/** Three whole minutes of a reading a second, within the last hour, and a little of the next one: whole numbers, so that sums are exact. */
function records(): StoredRecord[] {
  const startMs = Math.floor((systemClock.nowMs() - 10 * MINUTE_MS) / MINUTE_MS) * MINUTE_MS;
  const list: StoredRecord[] = [];
  for (let second = 0; second < CLOSED_MINUTES * 60 + 5; second++) {
    const timeMs = startMs + second * 1_000;
    for (const { stream, device, site } of DEVICES) {
      const isSecondMinute = second >= 60 && second < 120;
      // d2 sent all of them, and three arrived; v1 has no numbers, and three were sent.
      if (isSecondMinute && device === 'd2' && ![60, 90, 119].includes(second)) continue;
      if (isSecondMinute && device === 'v1' && second >= 63) continue;
      const sequence = stream === 'environment' ? { sequence: second } : undefined;
      const values = { temperature: 1_000 + second };
      list.push(
        readingRecord(list.length, { timeMs, stream, key: device, tags: { device, site }, values, ...sequence }),
      );
    }
    const page = second % 2 === 0 ? '/home' : '/cart';
    const identity = `click ${second}`;
    list.push(
      readingRecord(list.length, {
        timeMs,
        stream: 'clicks',
        key: page,
        tags: { app: 'shop', page, action: 'view' },
        values: {},
        identity,
      }),
    );
    list.push(
      readingRecord(list.length, {
        timeMs,
        stream: 'climate',
        key: 's1',
        tags: { device: 's1', model: 'TH-200', room: second % 2 === 0 ? 'office' : 'hall', site: 'lyon' },
        values: { temperature: 21, discomfort: 20, pressure: 101_300 },
      }),
    );
    list.push(
      readingRecord(list.length, {
        timeMs,
        stream: 'chat.understood',
        key: `c${second % 3}`,
        tags: { agent: 'ada', intent: 'refund', team: second % 2 === 0 ? 'sales' : 'support' },
        values: { sentiment: -0.5, urgency: 0, first_response: 12 },
        identity: `message ${second}`,
      }),
    );
  }
  list.push(tickRecord(list.length, startMs + (CLOSED_MINUTES * 60 + 4) * 1_000));
  return list;
}

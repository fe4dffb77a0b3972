/**
 * The clickstream sample as it ships, with other ports and shorter windows: clicks from a real browser over MQTT in WebSocket
 * and by HTTP POST, from a device over MQTT and from a program by HTTP, each counted once by page and action, and the rows
 * verified against the log. On the embedded default, and on real Kafka and InfluxDB.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { systemClock } from '../../src/clock.ts';
import { needChromium, startBrowser } from '../support/browser.ts';
import { runMillrace } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { onServers, type Sample, SampleRuns } from '../support/sample.ts';
import { until } from '../support/until.ts';

const SAMPLE = fileURLToPath(new URL('../../compose/samples/clickstream/', import.meta.url));

interface Row {
  readonly metric: string;
  readonly tags: { readonly app: string; readonly page: string; readonly action: string };
  readonly count: number;
  readonly duplicates: number;
}

describe('The clickstream sample', function () {
  this.timeout(120_000);
  let browser: Browser | undefined;
  const runs = new SampleRuns();

  before(async function () {
    needChromium(this);
    browser = await startBrowser();
  });
  after(() => browser?.close());

  function prepare(servers: string): Promise<Sample> {
    const changes = [
      ['{ grace: 5s }', '{ grace: 1s, tick: 250ms, disorder: 250ms }'],
      ['windows: [10s, 1m, 1h, { size: 5m, every: 1m }]', 'windows: [1s, 10s]'],
    ] as const;
    return runs.prepare('clickstream', ['1883', '8083', '8084', '8085', '8080'], changes, servers);
  }

  async function clicksAreCounted(servers: string): Promise<void> {
    const { config, port } = await prepare(servers);
    const http = `http://127.0.0.1:${port('8080')}`;
    const ingest = `http://127.0.0.1:${port('8084')}/ingest/`;
    await runs.start(config, http);
    const [shop, ws] = [`http://127.0.0.1:${port('8085')}`, `ws://127.0.0.1:${port('8083')}`];
    runs.spawn([join(SAMPLE, 'shop.mjs'), '--port', String(port('8085')), '--mqtt', ws, '--ingest', ingest]);
    await until(
      () =>
        fetch(shop).then(
          ({ ok }) => ok,
          () => false,
        ),
      10_000,
      'the shop is open',
    );

    const context = await browser!.newContext();
    const page = await context.newPage();
    const errors: string[] = [];
    page.on('pageerror', ({ message }) => errors.push(message));
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    await page.goto(shop);
    const status = page.locator('output');
    await status.filter({ hasText: /^connected: 0 sent/ }).waitFor();
    for (const name of ['Home', 'Products', 'Buy']) await page.getByRole('button', { name }).click();
    await status.filter({ hasText: '3 sent, 3 durable, 0 refused' }).waitFor();
    await page.getByLabel('HTTP POST').check();
    for (const name of ['Home', 'Cart']) await page.getByRole('button', { name }).click();
    await status.filter({ hasText: '5 sent, 5 durable, 0 refused' }).waitFor();
    await context.close();
    assert.deepEqual(errors, []);

    const click = (userid: string, path: string) =>
      JSON.stringify({ timestamp: systemClock.nowMs(), userid, page: path, action: 'view' });
    const once = click('u1', '/cart');
    const device = await RawClient.connected(port('1883'), { clientId: 'device' });
    device.publish('web/shop/clicks', once, 1, 1);
    await device.until('puback', 1);
    device.end();
    const response = await fetch(`${ingest}web/shop/clicks`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: [once, click('u2', '/cart'), '{"page":"/cart"}', click('u3', '/products')].join('\n'),
    });
    assert.equal(response.status, 202);
    const { accepted, refused } = (await response.json()) as {
      accepted: number;
      refused: { index: number; code: string }[];
    };
    assert.deepEqual([accepted, refused.map(({ index, code }) => [index, code])], [3, [[2, 'schema']]]);

    const allRows = async (): Promise<Row[]> => {
      const text = await (await fetch(`${http}/api/v1/rows?stream=clicks&window=10s`)).text();
      return text
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Row);
    };
    const rows = async () => (await allRows()).filter(({ metric }) => metric === '');
    const total = (found: readonly Row[]) => found.reduce((sum, { count }) => sum + count, 0);
    await until(async () => total(await rows()) >= 8, 30_000, 'all windows are closed');
    const counts: Record<string, number> = {};
    for (const { tags, count } of await rows()) {
      const name = `${tags.page} ${tags.action}`;
      counts[name] = (counts[name] ?? 0) + count;
    }
    assert.deepEqual(counts, { '/ view': 2, '/cart view': 3, '/checkout purchase': 1, '/products view': 2 });
    assert.equal(
      (await rows()).reduce((sum, { duplicates }) => sum + duplicates, 0),
      1,
    );

    const visitors = (await allRows()).filter(
      ({ metric, tags }) => metric === 'distinct_userid' && tags.page === '/cart',
    );
    assert.ok(visitors.length > 0 && visitors.length <= 3);
    // The page's user, u1 and u2: each once in its window.
    assert.ok(total(visitors) >= 3 || visitors.some(({ count }) => count > 1));
    const top = (await (
      await fetch(`${http}/api/v1/top?stream=clicks&window=10s&by=page&from=0&limit=2`)
    ).json()) as Record<string, unknown>;
    assert.deepEqual([top.values, top.count], [4, 8]);
    assert.deepEqual(top.top, [
      { value: '/cart', count: 3 },
      { value: '/', count: 2 },
    ]);
    const verified = await runMillrace(['verify', '--config', config]);
    assert.equal(verified.code, 0, verified.out + verified.err);
  }

  it('counts each click once, by page and action, whichever way it came', async () => {
    await clicksAreCounted('');
  });

  it('does the same on Kafka and InfluxDB', async function () {
    await onServers(this, 'clickstream', { app: '.*', page: '.*' }, clicksAreCounted);
  });

  it('is started with simulated users by one command', async () => {
    const { err } = await runs.demo('clickstream');
    assert.match(err, /ws:\/\/127\.0\.0\.1:\d+/);
    assert.match(err, /http:\/\/127\.0\.0\.1:\d+\/ingest\//);
  });
});

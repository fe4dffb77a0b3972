import assert from 'node:assert/strict';
import type { InjectOptions } from 'fastify';
import { ManualClock } from '../../src/clock.ts';
import { fail, type Outcome, succeed } from '../../src/errors.ts';
import type { Row } from '../../src/row.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { buildView } from '../../src/view/server.ts';
import { FakeFeed } from '../support/fake-feed.ts';
import { until } from '../support/until.ts';

function setup(
  options: { token?: string | null; devices?: number; names?: string[]; host?: string; seconds?: number } = {},
) {
  const clock = new ManualClock(1_700_000_000_000);
  const feed = new FakeFeed(clock, { devices: options.devices ?? 4, names: options.names ?? [] });
  clock.advance((options.seconds ?? 30) * 1_000);
  feed.step();
  const http = { host: options.host ?? '127.0.0.1', port: 0, token: options.token ?? null };
  const { app, observer } = buildView({ http, feed, telemetry: silentTelemetry(), clock });
  const get = (url: string, more: InjectOptions = {}) => app.inject({ method: 'GET', url, ...more });
  return { clock, feed, app, observer, get };
}

async function rowsOf(answer: { body: string }): Promise<Row[]> {
  return answer.body
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

describe('the API', () => {
  it('answers /api/v1/status with the stages in travel order, the parts and the problems', async () => {
    const { get, observer } = setup();
    await observer.take();
    const answer = await get('/api/v1/status');
    const body = answer.json();
    assert.equal(answer.statusCode, 200);
    assert.deepEqual(
      body.stages.map(({ name }: { name: string }) => name),
      ['ingress', 'inspect', 'journal', 'rollup', 'store'],
    );
    assert.equal(body.gateway, 'plant-7');
    assert.equal(body.ready, true);
    assert.equal(body.verdict, 'healthy');
    assert.equal(body.parts.length, 5);
    assert.ok(Array.isArray(body.problems));
    assert.equal(body.history.ingress.length, 1);
    const accepted = body.stages[1].counters.find(({ name }: { name: string }) => name === 'accepted');
    assert.ok(accepted.value > 100);
  });

  it('answers /api/v1/alerts with what is active and what came last', async () => {
    const { feed, get } = setup();
    assert.deepEqual((await get('/api/v1/alerts')).json(), { configured: false, active: [], recent: [] });
    feed.shownAlerts = { active: [], recent: [] };
    assert.equal((await get('/api/v1/alerts')).json().configured, true);
    assert.equal((await get('/api/v1/alerts?x=1')).statusCode, 400);
  });

  it('answers /api/v1/audit with the books of a range of at most a day, one audit at a time', async () => {
    const { feed, get, clock } = setup();
    assert.deepEqual((await get('/api/v1/audit')).json(), { balanced: true });
    assert.equal((await get('/api/v1/audit?from=1000&to=60000&device=sensor-1')).statusCode, 200);
    const toMs = clock.nowMs();
    assert.deepEqual(feed.audits, [
      { fromMs: toMs - 3_600_000, toMs },
      { fromMs: 1_000, toMs: 60_000, device: 'sensor-1' },
    ]);
    for (const bad of ['from=0&to=86400001', 'from=2&to=1', 'from=x', 'limit=1']) {
      assert.equal((await get(`/api/v1/audit?${bad}`)).statusCode, 400, bad);
    }
    let end = (_outcome: Outcome<object>) => {};
    feed.auditAnswer = new Promise((resolve) => {
      end = resolve;
    });
    const first = get('/api/v1/audit');
    await until(() => feed.audits.length === 3, 5_000, 'the first is under way');
    const second = await get('/api/v1/audit');
    assert.deepEqual([second.statusCode, second.json().error.code], [429, 'BUSY']);
    end(fail('KAFKA_UNREACHABLE', 'Kafka does not answer'));
    assert.equal((await first).statusCode, 503);
    feed.auditAnswer = succeed({ balanced: false });
    assert.deepEqual((await get('/api/v1/audit')).json(), { balanced: false });
  });

  it('answers /api/v1/streams with what is configured and what came', async () => {
    const { get } = setup();
    const [environment, clicks] = (await get('/api/v1/streams')).json().streams;
    assert.equal(environment.topic, 'sensors/{site}/{device}/environment');
    assert.deepEqual(environment.metrics, ['temperature', 'humidity', 'pressure']);
    assert.equal(environment.windows[0].label, '10s');
    assert.equal(environment.devices, 4);
    assert.ok(environment.accepted > 0);
    assert.equal(clicks.name, 'clicks');
  });

  it('answers /api/v1/devices in pages, by search and by stream', async () => {
    const { get } = setup({ devices: 25 });
    const page = (await get('/api/v1/devices?stream=environment&limit=10&offset=20')).json();
    assert.equal(page.total, 25);
    assert.deepEqual(
      page.devices.map(({ key }: { key: string }) => key),
      ['sensor-21', 'sensor-22', 'sensor-23', 'sensor-24', 'sensor-25'],
    );
    const found = (await get('/api/v1/devices?search=sensor-2')).json();
    assert.equal(found.total, 7);
  });

  it('stays quick with ten thousand devices', async () => {
    const { get } = setup({ devices: 10_000, seconds: 2 });
    await get('/api/v1/devices?limit=1');
    const before = performance.now();
    for (let i = 0; i < 10; i++) {
      const { total } = (await get(`/api/v1/devices?search=sensor-99${i}&order=skew&limit=100`)).json();
      assert.equal(total, 11);
    }
    const each = (performance.now() - before) / 10;
    assert.ok(each < 100, `one search took ${each} ms`);
  }).timeout(20_000);

  it('answers /api/v1/rows with final rows, one JSON object a line, half-open in time', async () => {
    const { get, clock } = setup();
    const start = Math.floor(clock.nowMs() / 10_000) * 10_000 - 100_000;
    const url = `/api/v1/rows?stream=environment&window=10s&from=${start}&to=${new Date(start + 30_000).toISOString()}&series=device=sensor-1,site=berlin&metric=temperature`;
    const answer = await get(url);
    assert.equal(answer.headers['content-type'], 'application/x-ndjson');
    const rows = await rowsOf(answer);
    assert.deepEqual(
      rows.map(({ startMs }) => startMs - start),
      [0, 10_000, 20_000],
    );
    assert.deepEqual(Object.keys(rows[0]!), [
      'stream',
      'metric',
      'window',
      'startMs',
      'endMs',
      'tags',
      'count',
      'sum',
      'mean',
      'min',
      'max',
      'stddev',
      'first',
      'last',
      'p50',
      'p95',
      'p99',
      'duplicates',
      'missing',
      'rev',
    ]);
    assert.ok(answer.body.endsWith('}\n'));
  });

  it('gives back the very bits of every number', async () => {
    const { get, feed, clock } = setup();
    const fromMs = clock.nowMs() - 600_000;
    const stored: Row[] = [];
    for await (const row of feed.rows({ stream: 'environment', window: '10s', fromMs, toMs: clock.nowMs() }))
      stored.push(row);
    assert.ok(stored.length > 100);
    assert.deepEqual(
      await rowsOf(await get(`/api/v1/rows?stream=environment&window=10s&from=${fromMs}&to=${clock.nowMs()}`)),
      stored,
    );
  });

  it('answers an empty range with nothing, not with an error', async () => {
    const { get } = setup();
    const answer = await get('/api/v1/rows?stream=clicks&window=1m&from=5&to=5');
    assert.equal(answer.statusCode, 200);
    assert.equal(answer.body, '');
  });

  const bad: [url: string, field: string, value: string][] = [
    ['/api/v1/rows?window=10s', 'stream', ''],
    ['/api/v1/rows?stream=nothing&window=10s', 'stream', 'nothing'],
    ['/api/v1/rows?stream=environment&window=7s', 'window', '7s'],
    ['/api/v1/rows?stream=environment&window=10s&from=today', 'from', 'today'],
    ['/api/v1/rows?stream=environment&window=10s&series=oops', 'series', 'oops'],
    ['/api/v1/rows?stream=environment&window=10s&metric=colour', 'metric', 'colour'],
    ['/api/v1/rows?stream=environment&window=10s&windw=10s', 'windw', '10s'],
    ['/api/v1/running?stream=environment&window=7s', 'window', '7s'],
    ['/api/v1/top?stream=environment&window=10s&by=colour', 'by', 'colour'],
    ['/api/v1/top?stream=environment&window=10s', 'by', ''],
    ['/api/v1/devices?limit=100000', 'limit', '100000'],
    ['/api/v1/devices?offset=-1', 'offset', '-1'],
    ['/api/v1/devices?order=size', 'order', 'size'],
    ['/api/v1/devices?stream=nothing', 'stream', 'nothing'],
    ['/api/v1/deadletters?limit=x', 'limit', 'x'],
    ['/api/v1/deadletters?since=x', 'since', 'x'],
    ['/api/v1/deadletters/a%20b', 'id', 'a b'],
    ['/api/v1/live?window=10s&stream=nothing', 'stream', 'nothing'],
    ['/api/v1/live?stream=environment', 'window', ''],
    ['/api/v1/status?x=1', 'x', '1'],
  ];
  for (const [url, field, value] of bad) {
    it(`refuses ${url}, naming ${field}`, async () => {
      const answer = await setup().get(url);
      const { error } = answer.json();
      assert.equal(answer.statusCode, 400);
      assert.equal(error.code, 'BAD_PARAMETER');
      assert.equal(error.field, field);
      assert.equal(error.value, value);
      assert.ok(error.expected.length > 3);
      assert.ok(error.message.includes(error.expected));
    });
  }

  it('answers 503 when the store cannot answer', async () => {
    const { get, feed } = setup();
    feed.rowsFailAfter = 0;
    const answer = await get('/api/v1/rows?stream=environment&window=10s');
    assert.equal(answer.statusCode, 503);
    assert.match(answer.json().error.message, /connection refused/);
  });

  it('answers /api/v1/running with the windows that are still open', async () => {
    const { get, clock } = setup();
    const rows = await rowsOf(
      await get('/api/v1/running?stream=environment&window=10s&series=device=sensor-1&metric=temperature'),
    );
    assert.ok(rows.length >= 1);
    assert.ok(rows.at(-1)!.endMs > clock.nowMs() - 10_000);
    const limited = await rowsOf(await get('/api/v1/running?stream=environment&limit=2'));
    assert.equal(limited.length, 2);
  });

  it('lists dead letters newest first, and gives one whole by its id', async () => {
    const { get, feed } = setup();
    feed.letters.length = 0;
    feed.refuse('schema', 'old', 'sensors/a/b/environment', 'b', '{}', 1_000);
    feed.refuse('too-large', 'big', 'sensors/a/b/environment', 'b', `"${'ü'.repeat(3_000)}"`, 2_000);
    feed.refuse('not-utf8', 'bytes', 'x', 'c', Buffer.from([0xff, 0, 1]), 3_000);
    const { deadLetters, requeue } = (await get('/api/v1/deadletters')).json();
    assert.equal(requeue, false);
    assert.deepEqual(
      deadLetters.map(({ reason }: { reason: string }) => reason),
      ['bytes', 'big', 'old'],
    );
    assert.equal(deadLetters[0].text, null);
    assert.equal(deadLetters[0].base64, '/wAB');
    assert.deepEqual([deadLetters[1].whole, deadLetters[1].bytes], [false, 6_002]);
    assert.match(deadLetters[1].text, /^"ü+$/);
    const one = (await get(`/api/v1/deadletters/${deadLetters[1].id}`)).json();
    assert.equal(one.text, `"${'ü'.repeat(3_000)}"`);
    const since = (await get('/api/v1/deadletters?since=2000&limit=1')).json();
    assert.equal(since.deadLetters.length, 1);
    assert.equal((await get('/api/v1/deadletters/0-999')).statusCode, 404);
    const away = await get('/api/v1/deadletters/log-away');
    assert.deepEqual([away.statusCode, away.json().error.code], [503, 'KAFKA_UNREACHABLE']);
  });

  describe('requeue', () => {
    const post = (app: ReturnType<typeof setup>['app'], id: string, token?: string) =>
      app.inject({
        method: 'POST',
        url: `/api/v1/deadletters/${id}/requeue`,
        headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      });

    it('is refused with a reason when no token is configured, whatever is sent', async () => {
      const { app, feed } = setup();
      feed.refuse('malformed', '', '', '', '{', 1);
      for (const token of [undefined, '', 'null', 'x']) {
        const answer = await post(app, '0-1', token);
        assert.equal(answer.statusCode, 403);
        assert.match(answer.json().error.message, /http\.token/);
      }
    });

    it('asks for the token and does nothing without the right one', async () => {
      const { app, feed } = setup({ token: 'secret' });
      let requeued = 0;
      feed.requeue = async () => {
        requeued++;
        return { ok: true, value: [] };
      };
      for (const token of [undefined, 'secre', 'secret2', '']) {
        const answer = await post(app, '0-1', token);
        assert.equal(answer.statusCode, 401, token);
        assert.match(String(answer.headers['www-authenticate']), /^Bearer/);
      }
      assert.equal(requeued, 0);
    });

    it('sends the payload again and says what became of it', async () => {
      const { app, feed } = setup({ token: 'secret' });
      feed.letters.length = 0;
      feed.refuse('malformed', 'broken', 't', 'c', '{', 1);
      feed.refuse('schema', 'still wrong', 't', 'c', '{}', 2);
      assert.deepEqual((await post(app, '0-1', 'secret')).json(), { result: 'accepted', readings: 1 });
      assert.deepEqual((await post(app, '0-2', 'secret')).json(), {
        result: 'refused',
        code: 'schema',
        reason: 'still wrong',
        field: '/temperature',
      });
      assert.equal((await post(app, '0-9', 'secret')).statusCode, 404);
      assert.deepEqual((await post(app, '0-1', 'secret')).json(), { result: 'already', requeuedMs: 2 });
      const { deadLetters } = (await app.inject('/api/v1/deadletters')).json();
      assert.deepEqual(
        deadLetters.map(({ requeuedMs }: { requeuedMs: number | null }) => requeuedMs),
        [null, 2],
      );
    });

    it('sends several at once, and says of each what became of it', async () => {
      const { app, feed } = setup({ token: 'secret' });
      feed.letters.length = 0;
      feed.refuse('malformed', 'broken', 't', 'c', '{', 1);
      feed.refuse('schema', 'still wrong', 't', 'c', '{}', 2);
      const send = (payload: unknown, token = 'secret') =>
        app.inject({
          method: 'POST',
          url: '/api/v1/deadletters/requeue',
          headers: { authorization: `Bearer ${token}` },
          payload: payload as object,
        });
      const letters = [{ id: '0-2', receivedMs: 2 }, { id: '0-9' }, { id: '0-1' }];
      assert.equal((await send({ letters }, 'wrong')).statusCode, 401);
      assert.deepEqual((await send({ letters })).json().results, [
        { id: '0-2', result: 'refused', code: 'schema', reason: 'still wrong', field: '/temperature' },
        { id: '0-9', result: 'missing' },
        { id: '0-1', result: 'accepted', readings: 1 },
      ]);
      const bad = [
        {},
        { letters: 'x' },
        { letters: [{}] },
        { letters: [{ id: 'a/b' }] },
        { letters: [{ id: '0-1', receivedMs: 'x' }] },
      ];
      for (const body of [...bad, { letters: Array(251).fill({ id: '0-1' }) }]) {
        assert.equal((await send(body)).statusCode, 400, JSON.stringify(body).slice(0, 80));
      }
    });
  });

  it('answers health, readiness and metrics', async () => {
    const { get, feed } = setup();
    assert.deepEqual((await get('/livez')).json(), { ok: true, reason: 'running' });
    assert.equal((await get('/readyz')).statusCode, 200);
    feed.setPart({ kind: 'spool', name: 'spool', stage: 'journal', state: 'full' });
    const answer = await get('/readyz');
    assert.equal(answer.statusCode, 503);
    assert.match(answer.json().reason, /spool/);
    const metrics = await get('/metrics');
    assert.match(String(metrics.headers['content-type']), /^text\/plain; version=0\.0\.4/);
    assert.match(metrics.body, /^millrace_received_total\{source="mqtt"\} \d+$/m);
  });

  it('protects every answer by its headers', async () => {
    const { get } = setup();
    for (const url of ['/', '/page/main.js', '/api/v1/status', '/api/v1/rows', '/nothing', '/livez', '/metrics']) {
      const { headers } = await get(url);
      const policy = String(headers['content-security-policy']);
      assert.match(policy, /default-src 'none'/, url);
      assert.match(policy, /script-src 'self';/);
      assert.doesNotMatch(policy, /unsafe|http|\*/);
      assert.equal(headers['x-content-type-options'], 'nosniff');
      assert.equal(headers['x-frame-options'], 'DENY');
      assert.equal(headers['referrer-policy'], 'no-referrer');
      assert.equal(headers['access-control-allow-origin'], undefined);
    }
  });

  it('serves a page without inline scripts, styles or anything from elsewhere', async () => {
    const { get } = setup();
    const page = (await get('/')).body;
    assert.doesNotMatch(page, /<script(?![^>]*\bsrc="\/page\/)/);
    assert.doesNotMatch(page, /<style|\sstyle=|\son\w+=|https?:\/\//);
    const files = [...page.matchAll(/(?:src|href)="(\/page\/[^"]+)"/g)].map(([, path]) => path!);
    assert.ok(files.length >= 4);
    const seen = new Set<string>();
    for (const path of files) {
      const answer = await get(path);
      assert.equal(answer.statusCode, 200, path);
      for (const [, name] of answer.body.matchAll(/from '\.\/([\w.-]+)'/g))
        if (!seen.has(name!)) files.push(`/page/${name}`);
      seen.add(path.slice(6));
    }
    assert.ok(seen.has('uPlot.esm.js'));
  });

  it('serves the page compressed and answers 304 to whoever has it', async () => {
    const { get } = setup();
    const answer = await get('/page/uPlot.esm.js', { headers: { 'accept-encoding': 'gzip, br' } });
    assert.equal(answer.headers['content-encoding'], 'gzip');
    assert.ok(answer.rawPayload.length < 60_000);
    const again = await get('/page/uPlot.esm.js', { headers: { 'if-none-match': String(answer.headers.etag) } });
    assert.equal(again.statusCode, 304);
  });

  it('has nothing but the files of the page, whatever path is asked for', async () => {
    const { get } = setup();
    for (const url of [
      '/page/../server.ts',
      '/page/%2e%2e/server.ts',
      '/page/..%2fserver.ts',
      '/page/',
      '/src/view/server.ts',
      '/page/constructor',
    ]) {
      const answer = await get(url);
      assert.equal(answer.statusCode, 404, url);
      assert.match(String(answer.headers['content-type']), /json/);
    }
  });

  it('answers on loopback only to names that cannot be pointed at it from outside', async () => {
    const status = async (host: string, listen = '127.0.0.1') =>
      (await setup({ host: listen }).get('/livez', { headers: { host } })).statusCode;
    for (const host of ['localhost', 'localhost:8080', '127.0.0.1:8080', '[::1]:8080', 'gateway.localhost'])
      assert.equal(await status(host), 200, host);
    for (const host of ['evil.example', 'evil.example:8080', 'localhost.evil.example'])
      assert.equal(await status(host), 421, host);
    assert.equal(await status('gateway.plant.example', '0.0.0.0'), 200);
  });

  it('does not change anything by a method other than POST on requeue', async () => {
    const { app } = setup({ token: 'secret' });
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH'] as const) {
      for (const url of ['/api/v1/status', '/api/v1/devices', '/api/v1/deadletters', '/api/v1/rows', '/']) {
        assert.equal((await app.inject({ method, url })).statusCode, 404, `${method} ${url}`);
      }
    }
  });

  it('says that a bug is a bug, without its details', async () => {
    const { get, feed } = setup();
    feed.status = () => {
      throw new Error('secret detail');
    };
    const answer = await get('/readyz');
    assert.equal(answer.statusCode, 500);
    assert.doesNotMatch(answer.body, /secret detail/);
  });

  it('keeps hostile names as plain text in JSON', async () => {
    const name = '<img src=x onerror="alert(1)">';
    const { get } = setup({ devices: 0, names: [name, '__proto__', 'constructor'] });
    const answer = await get('/api/v1/devices?stream=environment');
    assert.match(String(answer.headers['content-type']), /^application\/json/);
    const keys = answer.json().devices.map(({ key }: { key: string }) => key);
    assert.ok([name, '__proto__', 'constructor'].every((key) => keys.includes(key)));
    const rows = await rowsOf(
      await get(
        `/api/v1/rows?stream=environment&window=10s&limit=1&metric=humidity&series=${encodeURIComponent('device=<img src\\=x onerror\\="alert(1)">')}`,
      ),
    );
    assert.equal(rows[0]?.tags.device, name);
  });
});

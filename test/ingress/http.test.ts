/** The HTTP way in, with a pipeline that the test plays, and the users and bounds of a broker beside it. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { systemClock } from '../../src/clock.ts';
import type { IngestConfig, MqttLimits } from '../../src/config.ts';
import { type HttpIngest, startHttpIngest } from '../../src/ingress/http.ts';
import { bodyKind, splitBody } from '../../src/ingress/http-body.ts';
import { hashPassword } from '../../src/ingress/password.ts';
import type { Verdict } from '../../src/ingress/verdict.ts';
import type { Message } from '../../src/reading.ts';
import { until } from '../support/until.ts';
import { ACCEPTED, FAILED, type Harness, LIMITS, REFUSED, startHarness } from './harness.ts';

const INGEST: IngestConfig = {
  host: '127.0.0.1',
  port: 0,
  tls: null,
  cors: [],
  connections: 10,
  bodyBytes: 1_000,
  messages: 5,
};

const texts = (body: string, type: string, most = 1_000) =>
  splitBody(Buffer.from(body), bodyKind(type), most)?.map(String) ?? null;

describe('The body of a POST', () => {
  it('gives the elements of a JSON array byte for byte', () => {
    assert.deepEqual(texts(' [ {"a": [1,2]} ,{"b":"],\\"{"},\n7 ] ', 'application/json; charset=utf-8'), [
      '{"a": [1,2]} ',
      '{"b":"],\\"{"}',
      '7 ',
    ]);
    assert.deepEqual(texts('[]', ''), []);
    assert.deepEqual(texts('{"a":[1]}', ''), ['{"a":[1]}']);
  });

  it('takes an array that does not hang together as one message', () => {
    for (const text of ['[{"a":1}', '[{"a":1},]', '[,1]', '[1]x', '[1]]', '["a', '[[1]', '[', '[1,,2]']) {
      assert.deepEqual(texts(text, ''), [text]);
    }
  });

  it('gives the lines of NDJSON that are not blank', () => {
    assert.deepEqual(texts('{"a":1}\r\n\n  \n{"a":2}', 'application/x-ndjson'), ['{"a":1}\r', '{"a":2}']);
  });

  it('leaves every other type whole', () => {
    assert.deepEqual(texts('[{"n":"a","v":1}]', 'application/senml+json'), ['[{"n":"a","v":1}]']);
  });

  it('counts to its limit and no further', () => {
    assert.equal(texts('[1,2,3]', '', 3)?.length, 3);
    assert.equal(texts('[1,2,3,4]', '', 3), null);
    assert.equal(texts('1\n2\n3\n4', 'application/x-ndjson', 3), null);
  });

  it('finds the elements of any array', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue()), fc.constantFrom(undefined, 1), (values, space) => {
        const found = texts(JSON.stringify(values, null, space), '');
        assert.deepEqual(
          found?.map((text) => JSON.parse(text)),
          JSON.parse(JSON.stringify(values)),
        );
      }),
    );
  });
});

describe('Readings over HTTP', () => {
  let folder: string;
  let harness: Harness;
  let ingest: HttpIngest;
  let arrived: Message[];
  let delivered: string[];
  let verdict: (message: Message) => Verdict | null;
  let waiting: ((verdict: Verdict) => void)[];

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-http-'));
  });
  after(() => rmSync(folder, { recursive: true }));
  afterEach(async () => {
    await ingest.close(0);
    await harness.close();
  });

  async function start(
    changes: Partial<IngestConfig> = {},
    limits: Partial<MqttLimits> = {},
    users: string | null = null,
  ) {
    arrived = [];
    delivered = [];
    waiting = [];
    verdict = () => ACCEPTED;
    harness = await startHarness({ limits, auth: { anonymous: users === null, users } });
    const started = await startHttpIngest({
      ingest: { ...INGEST, ...changes },
      limits: { ...LIMITS, ...limits },
      shared: harness.broker.shared,
      accept: (message, settled) => {
        arrived.push(message);
        const known = verdict(message);
        if (known) settled(known);
        else waiting.push(settled);
      },
      deliver: (topic, payload) => delivered.push(`${topic} ${payload}`),
      telemetry: harness.telemetry,
      received: () => systemClock.nowMs(),
    });
    assert.ok(started.ok);
    ingest = started.value;
  }

  async function post(
    topic: string,
    body: string | ReadableStream,
    headers: Record<string, string> = {},
    method = 'POST',
  ) {
    const response = await fetch(`${ingest.url}${topic}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(method === 'POST' ? { body, duplex: 'half' } : undefined),
    } as RequestInit);
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === '' ? null : JSON.parse(text) };
  }

  it('answers 202 when all is durable, and not before', async () => {
    await start();
    verdict = () => null;
    let answered = false;
    const answer = post('web/shop/clicks', '[{"a":1},{"a":2}]').finally(() => {
      answered = true;
    });
    await until(() => waiting.length === 2, 5_000, 'both messages arrive');
    waiting[1]!(ACCEPTED);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(answered, false);
    assert.deepEqual(delivered, []);
    waiting[0]!(ACCEPTED);
    const { status, body } = await answer;
    assert.deepEqual([status, body], [202, { accepted: 2, refused: [] }]);
    assert.deepEqual(
      arrived.map(({ topic, payload, client }) => [topic, String(payload), client]),
      [
        ['web/shop/clicks', '{"a":1}', ''],
        ['web/shop/clicks', '{"a":2}', ''],
      ],
    );
    assert.deepEqual(delivered, ['web/shop/clicks {"a":1}', 'web/shop/clicks {"a":2}']);
    assert.equal(harness.broker.stats().pendingBytes, 0);
  });

  it('says per index what was refused and why, and 422 when everything was', async () => {
    await start();
    verdict = ({ payload }) => (String(payload).includes('bad') ? REFUSED : ACCEPTED);
    const { code, reason } = REFUSED as { code: string; reason: string };
    const mixed = await post('t', '{"a":1}\n"bad"\n{"a":3}\n', { 'content-type': 'application/x-ndjson' });
    assert.deepEqual([mixed.status, mixed.body], [202, { accepted: 2, refused: [{ index: 1, code, reason }] }]);
    assert.deepEqual(delivered, ['t {"a":1}', 't {"a":3}']);
    const all = await post('t', '"bad"');
    assert.deepEqual([all.status, all.body], [422, { accepted: 0, refused: [{ index: 0, code, reason }] }]);
  });

  it('answers 503 with Retry-After when some of it is not durable, and names it', async () => {
    await start();
    verdict = ({ payload }) => (String(payload) === '2' ? FAILED : ACCEPTED);
    const { status, headers, body } = await post('t', '[1,2,3]');
    assert.equal(status, 503);
    assert.equal(headers.get('retry-after'), '1');
    assert.deepEqual(body, { error: 'not durable: the disk is full', accepted: 2, refused: [], failed: [1] });
    assert.equal(await harness.counter('millrace_turned_away_total'), 1);
  });

  it('keeps the limits of body, messages and topic, and says which', async () => {
    await start();
    assert.equal((await post('t', 'x'.repeat(1_001))).status, 413);
    const chunked = new ReadableStream({
      start(controller) {
        for (let i = 0; i < 20; i++) controller.enqueue(new Uint8Array(100));
        controller.close();
      },
    });
    assert.equal((await post('t', chunked)).status, 413);
    assert.equal((await post('t', '[1,2,3,4,5,6]')).status, 413);
    assert.equal((await post('t', '')).status, 400);
    assert.equal((await post('t', '[]')).status, 400);
    assert.equal((await post('', '1')).status, 400);
    assert.equal((await post('a/%2B/b', '1')).status, 400);
    assert.equal((await post('a/%ff', '1')).status, 400);
    assert.equal((await post('a/%00', '1')).status, 400);
    assert.equal((await post(`${'a/'.repeat(16)}b`, '1')).status, 400);
    assert.equal((await post('%24SYS/x', '1')).status, 403);
    assert.equal((await post('t', '1', { 'content-encoding': 'gzip' })).status, 415);
    assert.equal((await post('t', '', {}, 'GET')).status, 405);
    assert.equal((await fetch(ingest.url.replace('/ingest/', '/'))).status, 404);
    assert.equal(arrived.length, 0);
    assert.equal(await harness.limitReached('ingest_body'), 2);
    assert.equal(await harness.limitReached('ingest_messages'), 1);
    assert.equal(await harness.limitReached('topic_levels'), 1);
    assert.equal(harness.broker.stats().pendingBytes, 0);
  });

  it('closes a connection that is one too many, and counts it (ingest_connections)', async () => {
    await start({ connections: 1 });
    const [first, second] = [connect(Number(new URL(ingest.url).port)), connect(Number(new URL(ingest.url).port))];
    const ended = [first, second].map(
      (socket) => new Promise((resolve) => socket.once('close', () => resolve(socket))),
    );
    await Promise.race(ended);
    assert.equal(await harness.limitReached('ingest_connections'), 1);
    for (const socket of [first, second]) socket.destroy();
    await Promise.all(ended);
    await until(async () => (await post('t', '1')).status === 202, 5_000, 'there is room again');
  });

  it('shares the bytes that may be pending with MQTT', async () => {
    await start({}, { pendingBytes: 500 });
    verdict = () => null;
    const first = post('t', 'x'.repeat(300));
    await until(() => waiting.length === 1, 5_000, 'the first is pending');
    assert.equal(harness.broker.stats().pendingBytes, 300);
    // A quarter is kept for MQTT.
    const second = await post('t', 'x'.repeat(100));
    assert.deepEqual([second.status, second.headers.get('retry-after')], [503, '1']);
    waiting[0]!(ACCEPTED);
    assert.equal((await first).status, 202);
    verdict = () => ACCEPTED;
    assert.equal((await post('t', 'x'.repeat(200))).status, 202);
  });

  it('answers 429 with Retry-After above the rate of one user', async () => {
    await start({}, { ratePerClient: 3 });
    assert.equal((await post('t', '[1,2,3]')).status, 202);
    const { status, headers } = await post('t', '1');
    assert.equal(status, 429);
    assert.match(headers.get('retry-after') ?? '', /^[1-9]$/);
    assert.equal(await harness.limitReached('rate_per_client'), 1);
  });

  it('lets in whom the users file lists, where it says', async () => {
    const users = join(folder, 'users.yaml');
    const hash = await hashPassword('secret:1');
    writeFileSync(users, `users:\n  shop:\n    password: ${hash}\n    publish: ["web/{username}/#"]\n`);
    await start({}, {}, users);
    const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString('base64')}` });
    const nobody = await post('web/shop/clicks', '1');
    assert.equal(nobody.status, 401);
    assert.match(nobody.headers.get('www-authenticate') ?? '', /^Basic /);
    assert.equal((await post('web/shop/clicks', '1', basic('shop:wrong'))).status, 401);
    assert.equal((await post('web/shop/clicks', '1', { authorization: 'Bearer x' })).status, 401);
    assert.equal((await post('web/shop/clicks', '1', basic('shop:secret:1'))).status, 202);
    assert.equal((await post('web/other/clicks', '1', basic('shop:secret:1'))).status, 403);
    assert.deepEqual(
      arrived.map(({ topic }) => topic),
      ['web/shop/clicks'],
    );
  });

  it('takes from web pages only of its own origin, and of those that cors lists', async () => {
    await start({ cors: ['https://shop.example'] });
    const evil = await post('t', '1', { origin: 'https://evil.example' });
    assert.deepEqual([evil.status, evil.headers.get('access-control-allow-origin')], [403, null]);
    assert.equal((await post('t', '1', { origin: 'null' })).status, 403);
    const shop = await post('t', '1', { origin: 'https://shop.example' });
    assert.deepEqual([shop.status, shop.headers.get('access-control-allow-origin')], [202, 'https://shop.example']);
    assert.equal((await post('t', '1', { origin: new URL(ingest.url).origin })).status, 202);
    const preflight = await fetch(`${ingest.url}t`, { method: 'OPTIONS', headers: { origin: 'https://shop.example' } });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers.get('access-control-allow-headers'), 'authorization, content-type');
  });

  it('speaks TLS with the files that it was given, and reads them again', async () => {
    const file = (name: string) => join(import.meta.dirname, 'tls', name);
    const folderFile = (name: string) => join(folder, name);
    for (const name of ['server.pem', 'server-key.pem']) copyFileSync(file(name), folderFile(name));
    await start({ tls: { cert: folderFile('server.pem'), key: folderFile('server-key.pem') } });
    assert.match(ingest.url, /^https:/);
    const send = () =>
      new Promise<number | undefined>((resolve, reject) => {
        const { port } = new URL(ingest.url);
        const options = {
          host: 'localhost',
          port,
          path: '/ingest/t',
          method: 'POST',
          ca: readFileSync(file('ca.pem')),
        };
        const sent = request(options, (response) => resolve(response.resume().statusCode));
        sent.on('error', reject).end('{"a":1}');
      });
    assert.equal(await send(), 202);
    assert.ok(ingest.reload().ok);
    assert.equal(await send(), 202);
    writeFileSync(folderFile('server.pem'), 'junk');
    const reloaded = ingest.reload();
    assert.ok(!reloaded.ok && /do not fit together/.test(reloaded.failure.message));
    assert.equal(await send(), 202);
  });

  it('releases what a client that went away in the middle had sent', async () => {
    await start();
    const socket = connect(Number(new URL(ingest.url).port), '127.0.0.1');
    socket.write('POST /ingest/t HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nhalf of it');
    await until(() => harness.broker.stats().pendingBytes > 0, 5_000, 'its bytes are pending');
    socket.destroy();
    await until(() => harness.broker.stats().pendingBytes === 0, 5_000, 'they are released');
    assert.equal(arrived.length, 0);
  });

  it('answers what is pending when it closes, and takes nothing more', async () => {
    await start();
    verdict = () => null;
    const answer = post('t', '1');
    await until(() => waiting.length === 1, 5_000, 'it is pending');
    const closed = ingest.close(5_000);
    await assert.rejects(post('t', '2'));
    waiting[0]!(ACCEPTED);
    assert.equal((await answer).status, 202);
    await closed;
  });
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get as httpGet, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { ManualClock, systemClock } from '../../src/clock.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { MAX_ROW_STREAMS } from '../../src/view/api.ts';
import { MAX_LIVE_CLIENTS } from '../../src/view/live.ts';
import { startView, type View } from '../../src/view/server.ts';
import { FakeFeed } from '../support/fake-feed.ts';

describe('the HTTP server', () => {
  const views: View[] = [];
  afterEach(async () => {
    await Promise.all(views.splice(0).map((view) => view.close()));
  });

  async function start(options: { port?: number; devices?: number } = {}) {
    const feed = new FakeFeed(systemClock, { devices: options.devices ?? 3 });
    const http = { host: '127.0.0.1', port: options.port ?? 0, token: null };
    const started = await startView({ http, feed, telemetry: silentTelemetry(), clock: systemClock });
    if (!started.ok) return { feed, started, address: '', view: null };
    views.push(started.value);
    return { feed, started, address: started.value.address, view: started.value };
  }

  it('says where it listens, and that a port is in use by name', async () => {
    const { address } = await start();
    assert.match(address, /^http:\/\/127\.0\.0\.1:\d+$/);
    const port = Number(new URL(address).port);
    const { started } = await start({ port });
    assert.ok(!started.ok);
    assert.equal(started.failure.code, 'PORT_IN_USE');
    assert.ok(started.failure.message.includes(`127.0.0.1:${port}`));
  });

  it('says why it cannot listen', async () => {
    const http = { host: '203.0.113.7', port: 0, token: null };
    const feed = new FakeFeed(new ManualClock());
    const started = await startView({ http, feed, telemetry: silentTelemetry(), clock: systemClock });
    assert.ok(!started.ok);
    assert.equal(started.failure.code, 'LISTEN_FAILED');
    assert.match(started.failure.message, /203\.0\.113\.7/);
  });

  it('reads from the store no faster than the reader, and stops when the reader has gone', async () => {
    const { address, feed } = await start();
    let produced = 0;
    const ended = await endless(feed, () => produced++);
    const response = await open(`${address}/api/v1/rows?stream=environment&window=10s`);
    response.pause();
    await steady(() => produced);
    assert.ok(produced > 0 && produced < 100_000, `${produced} rows were read for one that does not read`);
    response.destroy();
    await until(() => ended() === 1, 'the store is told that nobody reads any more');
  });

  it('cuts the connection when the store fails in the middle, so that half an answer never looks whole', async () => {
    const { address, feed } = await start();
    feed.rowsFailAfter = 250;
    const answer = await fetch(`${address}/api/v1/rows?stream=environment&window=10s`);
    assert.equal(answer.status, 200);
    await assert.rejects(answer.text());
    assert.equal(feed.rowsEnded, 1);
  });

  it('sends rows to so many readers at once and no more, and to the next when one has gone', async () => {
    const { address, feed } = await start();
    const ended = await endless(feed);
    const url = `${address}/api/v1/rows?stream=environment&window=10s`;
    const readers: IncomingMessage[] = [];
    for (let i = 0; i < MAX_ROW_STREAMS; i++) readers.push((await open(url)).pause());
    const refused = await fetch(url);
    assert.equal(refused.status, 429);
    assert.equal(refused.headers.get('retry-after'), '1');
    readers[0]!.destroy();
    await until(() => ended() === 1, 'one ended');
    readers[0] = await open(url);
    assert.equal(readers[0].statusCode, 200);
    for (const reader of readers) reader.destroy();
  });

  it('streams a snapshot at once and about one a second after that, and ends every stream when it closes', async () => {
    const { address, feed, view } = await start();
    const url = `${address}/api/v1/live?stream=environment&window=10s&series=device=sensor-1&metric=temperature`;
    const events = await listen(url);
    const timer = setInterval(() => feed.step(), 100);
    await until(
      () => ['status', 'devices', 'running', 'rows'].every((name) => events.some((event) => event.name === name)),
      'one event of each kind',
    );
    await until(() => events.filter(({ name }) => name === 'status').length >= 3, 'three snapshots');
    clearInterval(timer);
    const status = events.find(({ name }) => name === 'status')!.data;
    assert.equal(status.stages.length, 5);
    const rows = events.find(({ name }) => name === 'rows')!.data.rows;
    assert.ok(
      rows.every(
        (row: { tags: { device: string }; metric: string }) =>
          row.tags.device === 'sensor-1' && row.metric === 'temperature',
      ),
    );
    const running = events.find(({ name }) => name === 'running')!.data.rows;
    assert.ok(running.length > 0);
    const sent = events
      .filter(({ name }) => name === 'rows')
      .flatMap(({ data }) => data.rows.map((row) => row.startMs));
    assert.equal(new Set(sent).size, sent.length, 'a row was sent twice');
    await view!.close();
    await until(() => events.ended, 'the stream ends');
  });

  it('streams to so many pages and no more', async () => {
    const { address } = await start();
    const pages: IncomingMessage[] = [];
    for (let i = 0; i < MAX_LIVE_CLIENTS; i++) pages.push(await open(`${address}/api/v1/live`));
    const refused = await fetch(`${address}/api/v1/live`);
    assert.equal(refused.status, 503);
    assert.match(await refused.text(), /already/);
    pages[0]!.destroy();
    await until(async () => {
      const answer = await open(`${address}/api/v1/live`);
      pages.push(answer);
      return answer.statusCode === 200;
    }, 'the place of the one that left is free');
    for (const page of pages) page.destroy();
  });

  it('goes on when what it shows cannot be had', async () => {
    const { address, feed } = await start();
    const { status } = feed;
    const events = await listen(`${address}/api/v1/live`);
    await until(() => events.length > 0, 'a first snapshot');
    let asked = 0;
    feed.status = () => {
      asked++;
      throw new Error('a bug in the pipeline');
    };
    await until(() => asked >= 1, 'it asked in vain');
    assert.equal((await fetch(`${address}/readyz`)).status, 500);
    assert.equal((await fetch(`${address}/api/v1/live`)).status, 500);
    feed.status = status;
    const before = events.length;
    await until(() => events.length > before, 'a snapshot again');
  });

  it('answers a request that is not HTTP by closing the connection, and goes on', async () => {
    const { address } = await start();
    const socket = connect(Number(new URL(address).port), '127.0.0.1');
    socket.write('\x16\x03\x01nonsense\r\n\r\n');
    socket.resume();
    await once(socket, 'close');
    assert.equal((await fetch(`${address}/livez`)).status, 200);
  });
});

/** Makes the feed's rows have no end; answers how many readers of them have ended. */
async function endless(feed: FakeFeed, produced = () => {}): Promise<() => number> {
  let ended = 0;
  const [row] = await feed.running({ stream: 'environment', window: '10s', limit: 1 });
  feed.rows = async function* () {
    try {
      for (;;) {
        produced();
        yield row!;
      }
    } finally {
      ended++;
    }
  };
  return () => ended;
}

function open(url: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    httpGet(url, { agent: false }, (response) => {
      response.on('error', () => {});
      resolve(response);
    }).on('error', reject);
  });
}

/** What the events carry that is looked at here. */
interface Data {
  stages: unknown[];
  rows: { startMs: number; metric: string; tags: { device: string } }[];
}

interface Heard extends Array<{ name: string; data: Data }> {
  ended?: boolean;
}

async function listen(url: string): Promise<Heard> {
  const events: Heard = [];
  const response = await open(url);
  assert.equal(response.headers['content-type'], 'text/event-stream; charset=utf-8');
  assert.match(String(response.headers['content-security-policy']), /default-src 'none'/);
  let text = '';
  response.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    const parts = text.split('\n\n');
    text = parts.pop()!;
    for (const part of parts) {
      const name = /^event: (.*)$/m.exec(part)?.[1];
      const data = /^data: (.*)$/m.exec(part)?.[1];
      if (name && data) events.push({ name, data: JSON.parse(data) });
    }
  });
  response.on('close', () => {
    events.ended = true;
  });
  return events;
}

async function until(
  condition: () => boolean | undefined | Promise<boolean>,
  what: string,
  withinMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) assert.fail(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Resolves when the number no longer changes. */
async function steady(read: () => number): Promise<void> {
  let last = -1;
  let unchanged = 0;
  await until(() => {
    unchanged = read() === last ? unchanged + 1 : 0;
    last = read();
    return unchanged > 10 && last > 0;
  }, 'the number stands still');
}

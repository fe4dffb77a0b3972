/** The InfluxDB store against a server that misbehaves: a small one in this file, which keeps lines in memory. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { systemClock } from '../../src/clock.ts';
import type { InfluxConfig } from '../../src/config.ts';
import { openInfluxStore } from '../../src/store/influx.ts';
import { MAX_BATCH_LINES } from '../../src/store/lines.ts';
import { encodeLine } from '../../src/store/point.ts';
import { ReadFailed, type Store } from '../../src/store/store.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { collect, makeRow, T0 } from '../support/rows.ts';

const rows = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => makeRow({ startMs: T0 + (from + i) * 10_000 }));
const QUERY = { stream: 'environment', window: '10s', fromMs: T0, toMs: T0 + 100_000 };

describe('the InfluxDB store when the server misbehaves', () => {
  let server: FakeInflux;
  let store: Store;
  const telemetry = silentTelemetry();

  beforeEach(async () => {
    server = await FakeInflux.start();
    store = openStore();
  });
  afterEach(async () => {
    await store.close();
    await server.stop();
  });

  function openStore(more: Partial<InfluxConfig> = {}): Store {
    const config = {
      url: server.url,
      org: 'o',
      bucket: 'b',
      token: 't',
      timeoutMs: 300,
      createBuckets: false,
      retentionMs: {},
      ...more,
    };
    return openInfluxStore({ config, telemetry, clock: systemClock, settleMs: 20 });
  }

  const fails = async (code: string, retryable: boolean, retryAfterMs?: number) => {
    const before = server.requests;
    const outcome = await store.write(rows(5));
    assert(!outcome.ok, 'the write was acknowledged');
    assert.deepEqual(
      [outcome.failure.code, outcome.failure.retryable, outcome.failure.retryAfterMs],
      [code, retryable, retryAfterMs],
    );
    assert(server.requests > before, 'the fault never happened');
    return outcome.failure;
  };
  const heals = async (count = 5) => {
    server.answer = null;
    assert.deepEqual(await store.write(rows(count)), { ok: true, value: { refused: [] } });
    assert.deepEqual(
      server.linesOf('b_10s'),
      rows(count).map((row) => encodeLine(row)),
    );
  };

  it('sends about a thousand lines a request and two requests at a time', async () => {
    let most = 0;
    server.answer = async (request, response) => {
      most = Math.max(most, server.open);
      await new Promise((resolve) => setTimeout(resolve, 20));
      return server.store(request, response);
    };
    assert((await store.write(rows(5_500))).ok);
    assert.equal(server.requests, 6);
    assert.equal(most, 2);
    assert.equal(server.linesOf('b_10s').length, 5_500);
    assert.equal(MAX_BATCH_LINES, 1_000);
  });

  it('groups the rows of one write by bucket', async () => {
    const minute = makeRow({ window: '1m' });
    assert((await store.write([...rows(3), minute])).ok);
    assert((await store.running([minute])).ok);
    assert.deepEqual(server.linesOf('b_1m'), [encodeLine(minute)]);
    assert.deepEqual(server.linesOf('b_live'), [encodeLine(minute, 'environment_live')]);
    assert.equal(server.linesOf('b_10s').length, 3);
  });

  it('is told to wait by 429 and 503, for as long as they say', async () => {
    server.answer = reply(429, { code: 'too many requests', message: 'slow down' }, { 'retry-after': '7' });
    await fails('STORE_BUSY', true, 7_000);
    server.answer = reply(503, { code: 'unavailable', message: 'starting' });
    await fails('STORE_BUSY', true);
    await heals();
  });

  it('calls 500 retryable, 401 and 403 a matter for a person, and heals when they are gone', async () => {
    server.answer = reply(500, { code: 'internal error', message: 'engine: cache-max-memory-size exceeded' });
    await fails('STORE_OTHER', true);
    for (const status of [401, 403]) {
      server.answer = reply(status, { code: 'unauthorized', message: 'unauthorized access' });
      assert.match((await fails('STORE_AUTHENTICATION', false)).message, /influx\.token/);
    }
    server.answer = null;
    const health = await store.health();
    assert(!health.ok && health.failure.code === 'STORE_AUTHENTICATION', 'not said by health');
    await heals();
    assert((await store.health()).ok);
  });

  it('says that a bucket is missing, and makes it when it may', async () => {
    server.buckets = new Set(['b_live']);
    await fails('STORE_NOT_FOUND', false);
    await store.close();
    store = openStore({ createBuckets: true });
    await heals();
    assert.deepEqual([...server.buckets], ['b_live', 'b_10s']);
    assert.deepEqual(server.created, [{ everySeconds: 0, shardGroupDurationSeconds: 86_400, type: 'expire' }]);
  });

  it('refuses just the lines that a 400 names, with the reason, and stores all others', async () => {
    const all = rows(2_500);
    const bad = [all[3]!, all[999]!, all[2_400]!];
    server.refusedLines = new Set(bad.map((row) => encodeLine(row)));
    const outcome = await store.write(all);
    assert(outcome.ok);
    assert.deepEqual(new Set(outcome.value.refused.map(({ row }) => row)), new Set(bad));
    for (const { reason } of outcome.value.refused) assert.match(reason, /invalid field format/);
    assert.deepEqual(
      server.linesOf('b_10s'),
      all.filter((row) => !bad.includes(row)).map((row) => encodeLine(row)),
    );
    // Three full requests, and two of them again without the bad lines.
    assert.equal(server.requests, 5);
  });

  it('finds the bad lines of a 400 that names none of them', async () => {
    const all = rows(300);
    server.refusedLines = new Set([encodeLine(all[7]!), encodeLine(all[201]!)]);
    server.namesLines = false;
    const outcome = await store.write(all);
    assert(outcome.ok);
    assert.deepEqual(
      outcome.value.refused.map(({ row }) => row),
      [all[7], all[201]],
    );
    assert.equal(server.linesOf('b_10s').length, 298);
  });

  it('finds the rows that a 422 dropped, wherever they are', async () => {
    const all = rows(1_000);
    const dropped = [all[0]!, all[500]!, all[501]!, all[999]!];
    server.droppedLines = new Set(dropped.map((row) => encodeLine(row)));
    const outcome = await store.write(all);
    assert(outcome.ok);
    assert.deepEqual(
      outcome.value.refused.map(({ row }) => row),
      dropped,
    );
    for (const { reason } of outcome.value.refused) assert.match(reason, /partial write/);
    assert.equal(server.linesOf('b_10s').length, 996);
    assert(server.requests < 80, `${server.requests} requests`);
  });

  it('needs one request to refuse a batch that a 422 dropped as a whole', async () => {
    const all = rows(1_000);
    server.droppedLines = new Set(all.map((row) => encodeLine(row)));
    const outcome = await store.write(all);
    assert(outcome.ok && outcome.value.refused.length === 1_000);
    assert.equal(server.requests, 1);
  });

  it('halves requests that are too large for the server', async () => {
    server.answer = (request, response) =>
      request.lines.length > 100
        ? reply(413, { code: 'request too large', message: 'unable to read data: points batch is too large' })(
            request,
            response,
          )
        : server.store(request, response);
    assert.deepEqual(await store.write(rows(1_000)), { ok: true, value: { refused: [] } });
    assert.equal(server.linesOf('b_10s').length, 1_000);
  });

  it('refuses no row because of a proxy that answers 400 or 422 in its own words', async () => {
    for (const status of [400, 422]) {
      server.answer = (_request, response) =>
        void response.writeHead(status, { 'content-type': 'text/html' }).end('<h1>Bad Request</h1>');
      await fails('STORE_OTHER', false);
    }
    await heals();
  });

  it('does not take a lost answer for an acknowledgement, and writes the same rows again without harm', async () => {
    server.answer = async (request, response) => {
      await server.keep(request);
      response.socket?.destroy();
    };
    await fails('STORE_UNREACHABLE', true);
    assert.equal(server.linesOf('b_10s').length, 5, 'the fault: applied, but not acknowledged');
    await heals();
  });

  it('does not take silence for an acknowledgement, says so after the timeout, and lets go of the socket', async () => {
    server.answer = () => {};
    const failure = await fails('STORE_UNREACHABLE', true);
    assert.match(failure.message, /may still be applied/);
    for (let i = 0; i < 5; i++) await store.write(rows(5));
    await until(() => server.sockets.size <= 1, 'sockets of dead requests stay open');
    await heals();
  });

  it('does not take 200 with something else in it for an acknowledgement', async () => {
    server.answer = reply(200, { message: 'welcome to the hotel network' });
    await fails('STORE_OTHER', false);
    await heals();
  });

  it('says STORE_UNREACHABLE while the server is away, and goes on when it is back', async () => {
    await server.stop();
    const outcome = await store.write(rows(5));
    assert(!outcome.ok && outcome.failure.code === 'STORE_UNREACHABLE' && outcome.failure.retryable);
    const health = await store.health();
    assert(!health.ok && health.failure.code === 'STORE_UNREACHABLE');
    await server.restart();
    await heals();
  });

  it('sends nothing more of a large write after a failure', async () => {
    server.answer = reply(503, { message: 'busy' });
    const outcome = await store.write(rows(8_000));
    assert(!outcome.ok && outcome.failure.code === 'STORE_BUSY', JSON.stringify(outcome));
    // Two were under way, and each may have let one more pass.
    assert(server.requests <= 4, `${server.requests} requests`);
  });

  it('stops waiting for a hanging server at once when the signal aborts', async () => {
    server.answer = () => {};
    const controller = new AbortController();
    const startMs = performance.now();
    const writing = store.write(rows(5), controller.signal);
    await until(() => server.requests === 1, 'no request came');
    controller.abort();
    const outcome = await writing;
    assert(!outcome.ok && outcome.failure.code === 'STOPPED');
    assert(performance.now() - startMs < 290);
  });

  it('replaces by deleting exactly its rows before it writes, one delete for neighbours', async () => {
    const base = rows(10);
    const outcome = await store.replace([base[5]!, base[1]!, base[2]!, base[3]!]);
    assert(outcome.ok, JSON.stringify(outcome));
    const at = (index: number) => T0 + index * 10_000;
    const where = `AND "device" = 'd1' AND "metric" = 'temperature' AND "window" = '10s' AND "room" = '' AND "site" = ''`;
    assert.deepEqual(server.statements, [
      'SHOW TAG KEYS FROM "environment"',
      `DELETE FROM "environment" WHERE time >= ${at(1)}ms AND time < ${at(3) + 1}ms ${where};DELETE FROM "environment" WHERE time >= ${at(5)}ms AND time < ${at(5) + 1}ms ${where}`,
    ]);
    assert.equal(server.linesOf('b_10s').length, 4);
  });

  it('writes nothing when a delete failed, and waits before it deletes again while the first may still be applied', async () => {
    assert((await store.replace(rows(1))).ok);
    const first = server.statements.length;
    const startMs = performance.now();
    assert((await store.replace(rows(1))).ok);
    const usualMs = performance.now() - startMs;
    const writes = server.writes;
    server.hangingStatements = 'DELETE';
    const failed = await store.replace(rows(1));
    assert(!failed.ok && failed.failure.code === 'STORE_UNREACHABLE', JSON.stringify(failed));
    assert.equal(server.writes, writes, 'written although the delete failed');
    assert(server.statements.length > first + 2);
    server.hangingStatements = '';
    const againMs = performance.now();
    assert((await store.replace(rows(1))).ok);
    assert(performance.now() - againMs >= 20, 'did not wait');
    assert(usualMs >= 0);
  });

  it('reports a statement that failed with status 200', async () => {
    server.statementError = 'insufficient permissions';
    const replaced = await store.replace(rows(1));
    assert(!replaced.ok && replaced.failure.code === 'STORE_AUTHENTICATION');
    assert.equal(server.writes, 0);
    await assert.rejects(
      collect(store.read(QUERY)),
      (thrown) => thrown instanceof ReadFailed && thrown.failure.code === 'STORE_AUTHENTICATION',
    );
  });

  it('throws ReadFailed, and does not hang or give a part as the whole, when an answer stops in the middle', async () => {
    server.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.write('{"results":[{"statement_id":0,"series":[{"name":"environment","tags":{"window":"10s"},');
    };
    await assert.rejects(
      collect(store.read(QUERY)),
      (thrown) =>
        thrown instanceof ReadFailed && thrown.failure.code === 'STORE_UNREACHABLE' && thrown.failure.retryable,
    );
    server.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
      response.write('{"results":[');
      setTimeout(() => response.socket?.destroy(), 20);
    };
    await assert.rejects(
      collect(store.read(QUERY)),
      (thrown) => thrown instanceof ReadFailed && thrown.failure.code === 'STORE_UNREACHABLE',
    );
    server.answer = reply(200, { results: [{ statement_id: 0, error: 'query interrupted' }] });
    await assert.rejects(
      collect(store.read(QUERY)),
      (thrown) => thrown instanceof ReadFailed && thrown.failure.retryable,
    );
  });
});

async function until(condition: () => boolean, otherwise: string): Promise<void> {
  for (const endMs = performance.now() + 3_000; !condition(); ) {
    assert(performance.now() < endMs, otherwise);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

interface Request {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly lines: string[];
}

type Answer = (request: Request, response: ServerResponse) => unknown;

function reply(status: number, body: object, headers: Record<string, string> = {}): Answer {
  return (_request, response) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

/** As much of InfluxDB's HTTP API as the store uses to write. */
class FakeInflux {
  /** Takes the place of the usual answer. */
  answer: Answer | null = null;
  buckets: Set<string> | null = null;
  refusedLines = new Set<string>();
  namesLines = true;
  droppedLines = new Set<string>();
  statementError = '';
  hangingStatements = '';
  readonly statements: string[] = [];
  readonly created: unknown[] = [];
  readonly sockets = new Set<Socket>();
  requests = 0;
  writes = 0;
  open = 0;
  readonly #points = new Map<string, Set<string>>();
  #server!: Server;
  #port = 0;

  static async start(): Promise<FakeInflux> {
    const fake = new FakeInflux();
    await fake.restart();
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async restart(): Promise<void> {
    this.#server = createServer((request, response) => void this.#handle(request, response));
    this.#server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.once('close', () => this.sockets.delete(socket));
    });
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** In order of time. */
  linesOf(bucket: string): string[] {
    const time = (line: string) => Number(line.slice(line.lastIndexOf(' ')));
    return [...(this.#points.get(bucket) ?? [])].sort((a, b) => time(a) - time(b));
  }

  keep({ query, lines }: Request): void {
    const bucket = query.get('bucket')!;
    const points = this.#points.get(bucket) ?? new Set();
    this.#points.set(bucket, points);
    for (const line of lines) points.add(line);
  }

  store(request: Request, response: ServerResponse): unknown {
    const bucket = request.query.get('bucket')!;
    assert.deepEqual([request.query.get('org'), request.query.get('precision')], ['o', 'ms']);
    const refuse = (status: number, message: string) => reply(status, { code: 'x', message })(request, response);
    if (this.buckets !== null && !this.buckets.has(bucket)) return refuse(404, `bucket "${bucket}" not found`);
    const malformed = request.lines.filter((line) => this.refusedLines.has(line));
    if (malformed.length > 0) {
      const quote = (line: string) => `unable to parse '${this.namesLines ? line : '…'}': invalid field format`;
      return refuse(400, malformed.map(quote).join('\n'));
    }
    const lines = request.lines.filter((line) => !this.droppedLines.has(line));
    this.keep({ ...request, lines });
    const dropped = request.lines.length - lines.length;
    if (dropped > 0)
      return refuse(
        422,
        `failure writing points to database: partial write: points beyond retention policy dropped=${dropped}`,
      );
    return response.writeHead(204).end();
  }

  async #handle(message: IncomingMessage, response: ServerResponse): Promise<unknown> {
    this.requests++;
    this.open++;
    response.once('close', () => this.open--);
    let body = '';
    for await (const chunk of message.setEncoding('utf8')) body += chunk;
    const { pathname: path, searchParams: query } = new URL(message.url!, this.url);
    const isWrite = path === '/api/v2/write';
    const request = { path, query, lines: isWrite ? body.split('\n') : [] };
    if (isWrite) this.writes++;
    if (this.answer && (isWrite || path === '/query')) return this.answer(request, response);
    if (isWrite) return this.store(request, response);
    if (path === '/query') return this.#query(new URLSearchParams(body).get('q')!, request, response);
    if (path === '/api/v2/orgs') return reply(200, { orgs: [{ id: 'org-id', name: 'o' }] })(request, response);
    if (path === '/api/v2/buckets' && message.method === 'POST') {
      const { name, retentionRules } = JSON.parse(body);
      this.buckets?.add(name);
      this.created.push(...retentionRules);
      return reply(201, { name })(request, response);
    }
    const name = query.get('name')!;
    const found = this.buckets === null || this.buckets.has(name);
    if (!found) return reply(404, { code: 'not found', message: `bucket "${name}" not found` })(request, response);
    return reply(200, { buckets: [{ name, retentionRules: [] }] })(request, response);
  }

  #query(statement: string, request: Request, response: ServerResponse): void {
    this.statements.push(statement);
    if (this.hangingStatements !== '' && statement.startsWith(this.hangingStatements)) return;
    const keys = [['device'], ['metric'], ['room'], ['site'], ['window']];
    const series = statement.startsWith('SHOW') ? [{ columns: ['tagKey'], values: keys }] : [];
    const result = this.statementError ? { error: this.statementError } : { series };
    reply(200, { results: [{ statement_id: 0, ...result }] })(request, response);
  }
}

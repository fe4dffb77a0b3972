/**
 * Readings over HTTP, with the promise of MQTT: `POST /ingest/TOPIC`, body as in http-body.ts, and the answer comes when
 * everything in it is durable.
 *
 *   202  at least one message was accepted and is durable; the others are durable as dead letters:
 *        { "accepted": 2, "refused": [{ "index": 1, "code": "schema", "reason": "..." }] }
 *   422  the same, but every message was refused: sending it again as it is changes nothing
 *   503  not all of it is durable: { ..., "failed": [2, 3] } names what must come again. Those that were accepted may come
 *        again too: they are counted once, as with MQTT. Also when the gateway has no room: nothing was taken.
 *   413, 415, 429, 401, 403, 400, 405, 404: nothing was taken, and the body's `error` says why
 *
 * 429 and 503 carry Retry-After. Users, their passwords (basic authentication), where they may publish, the rate of each
 * and the bytes that may be pending are those of MQTT, and shared with it; a quarter of the bytes is kept for MQTT. A web
 * page of another origin is turned away unless `cors` lists it, since a browser would send what it says without asking anyone.
 *
 * Limits, counted as `millrace_limit_reached_total{limit}`: ingest_connections, ingest_body, ingest_messages, and MQTT's
 * pending, rate_per_client, topic_levels, logins.
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { IngestConfig, MqttLimits } from '../config.ts';
import { done, fail, messageOf, type Outcome, succeed } from '../errors.ts';
import type { RefusalCode } from '../reading.ts';
import type { Telemetry } from '../telemetry.ts';
import { bindAccess } from './access.ts';
import { type Authenticator, CONNACK, type Identity } from './authenticate.ts';
import { bodyKind, splitBody } from './http-body.ts';
import type { PendingBytes, Rates } from './pending.ts';
import { isReserved, TOO_MANY_LEVELS, topicNameProblem } from './topic.ts';
import type { Accept, Verdict } from './verdict.ts';

/** What MQTT and HTTP have in common; the broker has it. */
export interface SharedBounds {
  readonly authenticator: Authenticator;
  readonly pendingBytes: PendingBytes;
  readonly rates: Rates;
}

export interface HttpIngestOptions {
  readonly ingest: IngestConfig;
  readonly limits: MqttLimits;
  readonly shared: SharedBounds;
  readonly accept: Accept;
  /** To local MQTT subscribers: a message that was accepted. */
  readonly deliver: (topic: string, payload: Uint8Array) => void;
  readonly telemetry: Telemetry;
  readonly received: () => number;
}

export interface HttpIngest {
  /** `http://127.0.0.1:8084/ingest/` */
  readonly url: string;
  /** Reads the TLS files again; a mistake changes nothing. */
  reload(): Outcome;
  /** Takes nothing more, answers what is pending, closes. */
  close(drainMs?: number): Promise<void>;
}

const PREFIX = '/ingest/';
/** A request has this long to arrive whole. */
const REQUEST_MS = 30_000;
const DRAIN_MS = 5_000;
const RETRY_S = 1;
/** Part of the bytes that may be pending: bodies that arrive slowly must not keep devices from publishing. */
const KEPT_FOR_MQTT = 1 / 4;
/** A bucket that nobody has used for this long is full anyway. */
const RATE_IDLE_MS = 1_100;

export async function startHttpIngest(options: HttpIngestOptions): Promise<Outcome<HttpIngest>> {
  const { ingest, limits, telemetry } = options;
  const context = readTls(ingest);
  if (!context.ok) return context;
  const door = new Door(options);
  const settings = { requestTimeout: REQUEST_MS, headersTimeout: limits.connectTimeoutMs, keepAliveTimeout: 60_000 };
  let server: Server | TlsServer;
  try {
    server = ingest.tls ? createTlsServer({ ...settings, ...context.value }) : createServer(settings);
  } catch (thrown) {
    return misfit(thrown);
  }
  // One that would be one too many is closed at once and counted as dropped.
  server.maxConnections = ingest.connections;
  server.on('drop', () => telemetry.limitReached.inc({ limit: 'ingest_connections' }));
  server.on('request', (request, response) => door.answer(request, response));
  server.on('checkContinue', (request, response) => door.answer(request, response));
  const { host, port } = ingest;
  const listening = await new Promise<Outcome>((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const inUse = error.code === 'EADDRINUSE';
      const message = inUse
        ? `port ${port} on ${host} is in use by another program`
        : `cannot listen on port ${port} of ${host}: ${error.message}`;
      resolve(fail(inUse ? 'PORT_IN_USE' : 'LISTEN_FAILED', message, { cause: error }));
    });
    server.listen({ host, port }, () => resolve(done));
  });
  if (!listening.ok) return listening;
  server.removeAllListeners('error');
  server.on('error', (error) => telemetry.log.warn({ err: error, port }, 'accepting an HTTP connection failed'));
  const bound = (server.address() as AddressInfo).port;
  const name = host.includes(':') ? `[${host}]` : host;
  return succeed({
    url: `${ingest.tls ? 'https' : 'http'}://${name}:${bound}${PREFIX}`,
    reload: () => {
      const changed = readTls(ingest);
      if (!changed.ok || !ingest.tls) return changed.ok ? done : changed;
      try {
        (server as TlsServer).setSecureContext(changed.value);
        return done;
      } catch (thrown) {
        return misfit(thrown);
      }
    },
    close: async (drainMs = DRAIN_MS) => {
      door.stopping = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), drainMs);
      await closed;
      clearTimeout(timer);
    },
  });
}

interface Refused {
  readonly index: number;
  readonly code: RefusalCode;
  readonly reason: string;
}

class Door {
  stopping = false;
  readonly #options: HttpIngestOptions;

  constructor(options: HttpIngestOptions) {
    this.#options = options;
  }

  /** Never throws: whatever comes, the request gets an answer. */
  answer(request: IncomingMessage, response: ServerResponse): void {
    this.#handle(request, response).catch((thrown) => {
      this.#options.telemetry.log.error({ err: thrown }, 'an HTTP request could not be handled');
      if (!response.headersSent) deny(response, 503, 'internal error', { 'retry-after': RETRY_S });
    });
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {});
    const { ingest, limits, shared } = this.#options;
    const path = request.url ?? '';
    if (!path.startsWith(PREFIX)) return deny(response, 404, `this port takes POST ${PREFIX}TOPIC`);
    if (!this.#greet(request, response))
      return deny(response, 403, 'pages of this origin may not send; see ingest.cors');
    if (request.method === 'OPTIONS') return void response.writeHead(204).end();
    if (request.method !== 'POST')
      return deny(response, 405, 'readings are sent with POST', { allow: 'POST, OPTIONS' });
    if (this.stopping) return deny(response, 503, 'the gateway stops', { 'retry-after': RETRY_S });
    const topic = topicOf(path);
    const problem =
      topic === null ? 'the topic is not UTF-8 in percent-encoding' : topicNameProblem(topic, limits.topicLevels);
    if (topic === null || problem !== null) {
      if (problem === TOO_MANY_LEVELS) this.#reached('topic_levels');
      return deny(response, 400, problem ?? '');
    }
    const encoding = request.headers['content-encoding'] ?? 'identity';
    if (encoding !== 'identity') {
      const hint = 'send a packed payload as application/octet-stream to a stream with compression: gzip';
      return deny(response, 415, `Content-Encoding ${encoding} is not read here; ${hint}`);
    }
    const identity = await this.#identify(request);
    if (typeof identity === 'string') {
      return deny(response, 401, identity, { 'www-authenticate': 'Basic realm="millrace", charset="UTF-8"' });
    }
    if (identity === null) return deny(response, 503, 'too many logins at once', { 'retry-after': RETRY_S });
    if (isReserved(topic) || !bindAccess(identity.rules, identity.user, '').mayPublish(topic)) {
      return deny(response, 403, `not allowed to publish to "${topic.slice(0, 200)}"`);
    }
    const bucketName = identity.user === null ? `http:${request.socket.remoteAddress}` : `user:${identity.user}`;
    const bucket = shared.rates.join(bucketName);
    if (bucket) setTimeout(() => shared.rates.leave(bucketName), RATE_IDLE_MS).unref();
    if (bucket && bucket.available < 1) {
      this.#reached('rate_per_client');
      return deny(response, 429, 'more messages a second than mqtt.limits.rate_per_client allows', {
        'retry-after': Math.ceil(bucket.waitMs / 1_000),
      });
    }
    const body = await this.#read(request, response);
    if (body === null) return;
    try {
      const messages = splitBody(body, bodyKind(request.headers['content-type'] ?? ''), ingest.messages);
      if (messages === null) {
        this.#reached('ingest_messages');
        return deny(response, 413, `more messages than the limit of ${ingest.messages} in one request`);
      }
      if (body.length === 0 || messages.length === 0) return deny(response, 400, 'the body holds no message');
      bucket?.take(messages.length);
      report(response, await this.#acceptAll(topic, messages), messages.length);
    } finally {
      shared.pendingBytes.release(body.length);
    }
  }

  /** Sets what a browser needs to see; false: the page's origin may not send. */
  #greet({ headers }: IncomingMessage, response: ServerResponse): boolean {
    const { origin, host } = headers;
    if (origin === undefined) return true;
    const { cors } = this.#options.ingest;
    if (cors.includes('*') || cors.includes(origin)) {
      response.setHeader('access-control-allow-origin', origin);
      response.setHeader('vary', 'Origin');
      response.setHeader('access-control-allow-methods', 'POST');
      response.setHeader('access-control-allow-headers', 'authorization, content-type');
      response.setHeader('access-control-max-age', '600');
      return true;
    }
    return URL.canParse(origin) && new URL(origin).host === host;
  }

  /** A text: why not. Null: too busy to say. */
  #identify({ headers, socket }: IncomingMessage): Promise<Identity | string | null> {
    const login = readBasic(headers.authorization);
    if (login === null) return Promise.resolve('the Authorization header is not basic authentication');
    return new Promise((resolve) => {
      const address = socket.remoteAddress ?? '';
      this.#options.shared.authenticator.check({ ...login, certificateName: null, address }, (decision) => {
        if (decision.kind === 'in') resolve(decision.identity);
        else resolve(decision.code === CONNACK.unavailable ? null : decision.reason);
      });
    });
  }

  /** The body, its bytes taken from what may be pending; null: there was no room, and the request has its answer. */
  async #read(request: IncomingMessage, response: ServerResponse): Promise<Buffer | null> {
    const { ingest, shared } = this.#options;
    const { pendingBytes } = shared;
    const announced = Number(request.headers['content-length'] ?? 0);
    let taken = 0;
    const full = (bytes: number): boolean => {
      if (bytes > ingest.bodyBytes) {
        this.#reached('ingest_body');
        deny(response, 413, `the body has more than the limit of ${ingest.bodyBytes} bytes`, { connection: 'close' });
        return true;
      }
      if (bytes - taken <= pendingBytes.room - pendingBytes.limit * KEPT_FOR_MQTT) return false;
      this.#reached('pending');
      const why = 'too much is waiting to become durable';
      deny(response, 503, why, { 'retry-after': RETRY_S, connection: 'close' });
      return true;
    };
    if (full(announced)) return null;
    if (request.headers.expect) response.writeContinue();
    const chunks: Buffer[] = [];
    try {
      // Left as it is on the way out: destroyed, it would take the answer with it.
      for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        if (full(taken + chunk.length)) {
          pendingBytes.release(taken);
          return null;
        }
        taken += chunk.length;
        pendingBytes.take(chunk.length);
        chunks.push(chunk);
      }
    } catch {
      // The client went away in the middle.
      pendingBytes.release(taken);
      return null;
    }
    return Buffer.concat(chunks, taken);
  }

  async #acceptAll(topic: string, messages: readonly Buffer[]): Promise<Verdict[]> {
    const { accept, deliver, received, telemetry } = this.#options;
    telemetry.received.labels('http').inc(messages.length);
    const verdicts: Verdict[] = [];
    let left = messages.length;
    await new Promise<void>((resolve) => {
      for (const [index, payload] of messages.entries()) {
        accept({ topic, payload, client: '', receivedMs: received() }, (verdict) => {
          verdicts[index] = verdict;
          if (--left === 0) resolve();
        });
      }
    });
    for (const [index, { kind }] of verdicts.entries()) if (kind === 'accepted') deliver(topic, messages[index]!);
    const failed = verdicts.filter(({ kind }) => kind === 'failed').length;
    telemetry.turnedAway.labels('failed').inc(failed);
    telemetry.acknowledged.labels('http').inc(messages.length - failed);
    return verdicts;
  }

  #reached(limit: string): void {
    this.#options.telemetry.limitReached.inc({ limit });
  }
}

function report(response: ServerResponse, verdicts: readonly Verdict[], messages: number): void {
  const refused: Refused[] = [];
  const failed: number[] = [];
  let failure = '';
  for (const [index, verdict] of verdicts.entries()) {
    if (verdict.kind === 'refused') refused.push({ index, code: verdict.code, reason: verdict.reason });
    if (verdict.kind !== 'failed') continue;
    failed.push(index);
    failure ||= verdict.failure.message;
  }
  const accepted = messages - refused.length - failed.length;
  if (failed.length > 0) {
    send(response, 503, { error: `not durable: ${failure}`, accepted, refused, failed }, { 'retry-after': RETRY_S });
  } else send(response, accepted > 0 ? 202 : 422, { accepted, refused });
}

function deny(response: ServerResponse, status: number, error: string, headers: Headers = {}): void {
  send(response, status, { error }, headers);
}

type Headers = Readonly<Record<string, string | number>>;

function send(response: ServerResponse, status: number, body: object, headers: Headers = {}): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  response.end(text);
}

/** Null: it cannot be decoded. */
function topicOf(path: string): string | null {
  const end = path.indexOf('?');
  try {
    return decodeURIComponent(path.slice(PREFIX.length, end < 0 ? undefined : end));
  } catch {
    return null;
  }
}

/** Null: there is a header, and it is not basic authentication. */
function readBasic(header: string | undefined): { username: string | undefined; password: Buffer | undefined } | null {
  if (header === undefined) return { username: undefined, password: undefined };
  const encoded = /^basic +([A-Za-z0-9+/]+={0,2}) *$/i.exec(header)?.[1];
  if (encoded === undefined) return null;
  const bytes = Buffer.from(encoded, 'base64');
  const colon = bytes.indexOf(0x3a);
  if (colon < 0) return null;
  return { username: bytes.toString('utf8', 0, colon), password: bytes.subarray(colon + 1) };
}

function readTls({ tls }: IngestConfig): Outcome<{ cert?: Buffer; key?: Buffer }> {
  if (!tls) return succeed({});
  try {
    return succeed({ cert: readFileSync(tls.cert), key: readFileSync(tls.key) });
  } catch (thrown) {
    return fail('CONFIG_INVALID', `the TLS files of ingest cannot be read: ${messageOf(thrown)}`, { cause: thrown });
  }
}

function misfit(thrown: unknown): Outcome<never> {
  return fail('CONFIG_INVALID', `the TLS files of ingest do not fit together: ${messageOf(thrown)}`, { cause: thrown });
}

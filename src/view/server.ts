/**
 * The HTTP server: the live page, the API, health and metrics. It reads from the pipeline and never stands in its way: the
 * pipeline runs on when this server fails. `startView` resolves when it listens; `close` ends every answer under way.
 */
import type { AddressInfo } from 'node:net';
import { type FastifyInstance, fastify } from 'fastify';
import type { Clock } from '../clock.ts';
import type { HttpConfig } from '../config.ts';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import type { Telemetry } from '../telemetry.ts';
import { addApi, Refused } from './api.ts';
import { type Asset, loadAssets } from './assets.ts';
import type { Feed } from './feed.ts';
import { hostAllowed, SECURITY_HEADERS } from './guard.ts';
import { liveness, readiness } from './health.ts';
import { LiveHub } from './live.ts';
import { Observer } from './overview.ts';

const TICK_MS = 1_000;
const MAX_CONNECTIONS = 256;
const MAX_BODY_BYTES = 16 * 1024;
/** A connection on which nothing moves for this long is closed. */
const IDLE_MS = 65_000;

export interface ViewOptions {
  readonly http: HttpConfig;
  readonly feed: Feed;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
}

export interface View {
  /** As a URL: `http://127.0.0.1:8080`. */
  readonly address: string;
  close(): Promise<void>;
}

export async function startView(options: ViewOptions): Promise<Outcome<View>> {
  const { http, telemetry } = options;
  const { app, hub, observer } = buildView(options);
  const place = `${http.host}:${http.port}`;
  try {
    await app.listen({ host: http.host, port: http.port });
  } catch (thrown) {
    await app.close();
    const code = (thrown as { code?: string }).code;
    if (code === 'EADDRINUSE') {
      return fail('PORT_IN_USE', `The HTTP address ${place} is in use by another program; stop it, or set http.port.`, {
        cause: thrown,
      });
    }
    return fail('LISTEN_FAILED', `The HTTP server cannot listen on ${place}: ${messageOf(thrown)}`, { cause: thrown });
  }
  const tick = () => {
    void observer.take();
    try {
      hub.tick(() => JSON.stringify(observer.overview()));
    } catch (thrown) {
      telemetry.limited(
        'error',
        'view tick',
        { err: thrown },
        'The live page could not be brought up to date; this is a bug.',
      );
    }
  };
  tick();
  const timer = setInterval(tick, TICK_MS);
  const { port } = app.server.address() as AddressInfo;
  const host = http.host.includes(':') ? `[${http.host}]` : http.host;
  return succeed({
    address: `http://${host}:${port}`,
    close: async () => {
      clearInterval(timer);
      hub.close();
      await app.close();
    },
  });
}

/** Everything but the port and the timer; tests inject requests into `app`. */
export function buildView({ http, feed, telemetry, clock }: ViewOptions): {
  app: FastifyInstance;
  hub: LiveHub;
  observer: Observer;
} {
  const app = fastify({
    bodyLimit: MAX_BODY_BYTES,
    forceCloseConnections: true,
    connectionTimeout: IDLE_MS,
    keepAliveTimeout: 5_000,
    requestTimeout: 30_000,
    routerOptions: { maxParamLength: 200 },
  });
  app.server.maxConnections = MAX_CONNECTIONS;
  const observer = new Observer(feed, clock, telemetry);
  const hub = new LiveHub(feed, clock, telemetry);

  app.addHook('onRequest', async (request, reply) => {
    reply.headers(SECURITY_HEADERS);
    reply.header('cache-control', 'no-store');
    if (!hostAllowed(http.host, request.headers.host)) {
      throw new Refused(
        421,
        'HOST',
        'This gateway listens on loopback only and answers to localhost or an IP address, not to other names.',
      );
    }
  });
  app.setErrorHandler((thrown, request, reply) => {
    if (thrown instanceof Refused) return reply.code(thrown.statusCode).send(thrown.body());
    const { statusCode = 500 } = thrown as { statusCode?: number };
    if (statusCode < 500)
      return reply.code(statusCode).send({ error: { code: 'BAD_REQUEST', message: messageOf(thrown) } });
    telemetry.limited(
      'error',
      'view request',
      { url: request.url, err: thrown },
      'A request to the live page failed; this is a bug.',
    );
    return reply
      .code(500)
      .send({ error: { code: 'INTERNAL', message: 'This is a bug; the log of the process has the details.' } });
  });
  app.setNotFoundHandler((request, reply) =>
    reply.code(404).send({
      error: { code: 'NOT_FOUND', message: `There is nothing at ${request.method} ${request.url.slice(0, 200)}.` },
    }),
  );

  addPage(app, loadAssets());
  addHealth(app, feed, clock);
  addApi(app, { feed, observer, hub, token: http.token });
  return { app, hub, observer };
}

function addPage(app: FastifyInstance, assets: ReadonlyMap<string, Asset>): void {
  const serve = (path: string, asset: Asset) =>
    app.get(path, (request, reply) => {
      reply.header('cache-control', 'no-cache').header('etag', asset.etag).header('vary', 'accept-encoding');
      if (request.headers['if-none-match'] === asset.etag) return reply.code(304).send();
      reply.type(asset.type);
      if (!/\bgzip\b/.test(request.headers['accept-encoding'] ?? '')) return reply.send(asset.body);
      return reply.header('content-encoding', 'gzip').send(asset.gzipped);
    });
  for (const [name, asset] of assets) serve(name === 'index.html' ? '/' : `/page/${name}`, asset);
}

function addHealth(app: FastifyInstance, feed: Feed, clock: Clock): void {
  app.get('/livez', async (_request, reply) => {
    const health = liveness(feed.status());
    return reply.code(health.ok ? 200 : 503).send(health);
  });
  app.get('/readyz', async (_request, reply) => {
    const health = readiness(feed.status(), clock.nowMs());
    return reply.code(health.ok ? 200 : 503).send(health);
  });
  app.get('/metrics', async (_request, reply) => {
    const text = await feed.metrics();
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(text);
  });
}

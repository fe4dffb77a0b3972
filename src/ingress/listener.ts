/**
 * The sockets that listen: TCP, TLS, WebSocket, WebSocket over TLS. Gives each accepted connection as a byte stream with
 * where it came from; knows nothing of MQTT. Bounds the number of open connections and the time for handshakes.
 */
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import {
  createSecureContext,
  createServer as createTlsServer,
  type SecureContextOptions,
  TLSSocket,
  type Server as TlsServer,
} from 'node:tls';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Listener, MqttLimits, TlsFiles } from '../config.ts';
import { done, fail, messageOf, type Outcome, succeed } from '../errors.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Origin } from './connection.ts';
import { lendReads } from './socket-inside.ts';
import { WebSocketStream } from './websocket.ts';

export interface Address {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  readonly websocket: boolean;
}

export interface ListenOptions {
  readonly listeners: readonly Listener[];
  readonly limits: MqttLimits;
  /** Anyone may publish: then a web page of another origin must not, since it needs no password to try. */
  readonly anonymous: boolean;
  readonly telemetry: Telemetry;
  readonly connected: (origin: Origin) => void;
}

export interface Listening {
  readonly addresses: readonly Address[];
  /** Reads the TLS files again; open connections stay. A file with a mistake changes nothing. */
  reload(): Outcome;
  /** No new connections; open ones stay. */
  stop(): void;
  /** Ends the connections that never became an MQTT stream (handshakes). */
  destroy(): void;
}

/** What a socket's stream holds in each direction before it asks to wait. */
const BUFFER_BYTES = 64 * 1024;

interface Bound {
  readonly listener: Listener;
  readonly server: Server;
}

export async function listen(options: ListenOptions): Promise<Outcome<Listening>> {
  const sockets = new Set<Socket>();
  const bound: Bound[] = [];
  for (const listener of options.listeners) {
    const opened = await open(listener, sockets, options);
    if (!opened.ok) {
      for (const { server } of bound) server.close();
      return opened;
    }
    bound.push({ listener, server: opened.value });
  }
  return succeed({
    addresses: bound.map(({ listener, server }) => ({
      host: listener.host,
      port: (server.address() as AddressInfo).port,
      tls: listener.tls !== null,
      websocket: listener.websocket,
    })),
    reload: () => reload(bound),
    stop: () => {
      for (const { server } of bound) server.close();
    },
    destroy: () => {
      for (const socket of sockets) socket.destroy();
    },
  });
}

async function open(listener: Listener, sockets: Set<Socket>, options: ListenOptions): Promise<Outcome<Server>> {
  const { limits, telemetry } = options;
  const context = listener.tls === null ? succeed({}) : readTls(listener.tls);
  if (!context.ok) return context;
  let server: Server;
  try {
    server = createServer(listener, context.value, options);
  } catch (thrown) {
    return misfit(thrown);
  }
  // before any handshake
  server.on('connection', (socket: Socket) => {
    if (sockets.size >= limits.connections) {
      telemetry.limitReached.inc({ limit: 'connections' });
      telemetry.limited('warn', 'connections', { limit: limits.connections }, 'no more MQTT connections are accepted');
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  // a handshake that fails or does not end in time
  server.on('tlsClientError', (error: Error, socket: TLSSocket) => {
    socket.destroy();
    telemetry.limited('warn', 'tls', { reason: error.message }, 'a TLS handshake failed');
  });
  const { host, port } = listener;
  return new Promise((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') {
        resolve(fail('PORT_IN_USE', `port ${port} on ${host} is in use by another program`, { cause: error }));
      } else {
        resolve(fail('LISTEN_FAILED', `cannot listen on port ${port} of ${host}: ${error.message}`, { cause: error }));
      }
    });
    server.listen({ host, port, backlog: 1024 }, () => {
      server.removeAllListeners('error');
      server.on('error', (error) => telemetry.log.warn({ err: error, port }, 'accepting a connection failed'));
      resolve(succeed(server));
    });
  });
}

function createServer(listener: Listener, context: SecureContextOptions, options: ListenOptions): Server {
  const { limits, telemetry } = options;
  const socketOptions = { noDelay: true, keepAlive: true, highWaterMark: BUFFER_BYTES };
  const tlsOptions = {
    ...socketOptions,
    ...context,
    handshakeTimeout: limits.connectTimeoutMs,
    requestCert: listener.tls?.clientCertificate !== 'none',
    rejectUnauthorized: listener.tls?.clientCertificate === 'required',
  };
  const accept = (stream: Duplex, socket: Socket): void => {
    const certificate = readCertificate(socket);
    if (certificate === 'unverified') {
      telemetry.limited('warn', 'certificate', {}, 'a client certificate was not signed by the configured authority');
      stream.on('error', () => {});
      stream.destroy();
      return;
    }
    options.connected({ stream, address: socket.remoteAddress ?? '', certificateName: certificate });
  };
  if (!listener.websocket) {
    if (listener.tls === null) {
      return createTcpServer(socketOptions, (socket) => {
        lendReads(socket);
        accept(socket, socket);
      });
    }
    return createTlsServer(tlsOptions, (socket) => accept(socket, socket));
  }
  const http = listener.tls === null ? createHttpServer(socketOptions) : createHttpsServer(tlsOptions);
  // an HTTP request that never becomes a WebSocket
  http.headersTimeout = limits.connectTimeoutMs;
  http.requestTimeout = limits.connectTimeoutMs;
  http.on('request', (_request, response) => {
    response.writeHead(426, { connection: 'close', upgrade: 'websocket', 'content-type': 'text/plain' });
    response.end('This port speaks MQTT over WebSocket.\n');
  });
  const upgrader = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: limits.packetBytes,
    // [MQTT-6.0.0-3], [MQTT-6.0.0-4]
    handleProtocols: (protocols) => (protocols.has('mqtt') ? 'mqtt' : false),
  });
  http.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on('error', () => {});
    if (!mayUpgrade(request, options.anonymous)) {
      socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n');
      return;
    }
    upgrader.handleUpgrade(request, socket, head, (ws: WebSocket) => accept(new WebSocketStream(ws), socket));
  });
  return http;
}

/** A browser says by `Origin` which site's page asks; other programs do not send it. */
function mayUpgrade(request: IncomingMessage, anonymous: boolean): boolean {
  const protocols = request.headers['sec-websocket-protocol'] ?? '';
  if (!protocols.split(',').some((protocol) => protocol.trim() === 'mqtt')) return false;
  const { origin, host } = request.headers;
  if (!anonymous || origin === undefined) return true;
  try {
    return new URL(origin).hostname === new URL(`http://${host}`).hostname;
  } catch {
    return false;
  }
}

/** The common name of a verified client certificate; null: there is none. */
function readCertificate(socket: Socket): string | null | 'unverified' {
  if (!(socket instanceof TLSSocket)) return null;
  const certificate = socket.getPeerCertificate();
  if (!certificate || Object.keys(certificate).length === 0) return null;
  if (!socket.authorized) return 'unverified';
  const name: string | string[] | undefined = certificate.subject?.CN;
  // several common names, or none, name nobody
  return typeof name === 'string' && name !== '' ? name : 'unverified';
}

function readTls(files: TlsFiles): Outcome<SecureContextOptions> {
  const context: SecureContextOptions = { minVersion: 'TLSv1.2' };
  for (const [part, file] of [
    ['cert', files.cert],
    ['key', files.key],
    ['ca', files.ca],
  ] as const) {
    if (file === null) continue;
    try {
      context[part] = readFileSync(file);
    } catch (thrown) {
      return fail('CONFIG_INVALID', `the TLS ${part} file cannot be read: ${messageOf(thrown)}`, { cause: thrown });
    }
  }
  return succeed(context);
}

function reload(bound: readonly Bound[]): Outcome {
  const contexts: [TlsServer, SecureContextOptions][] = [];
  for (const { listener, server } of bound) {
    if (listener.tls === null) continue;
    const context = readTls(listener.tls);
    if (!context.ok) return context;
    try {
      createSecureContext(context.value);
    } catch (thrown) {
      return misfit(thrown);
    }
    contexts.push([server as TlsServer, context.value]);
  }
  for (const [server, context] of contexts) server.setSecureContext(context);
  return done;
}

function misfit(thrown: unknown): Outcome<never> {
  return fail('CONFIG_INVALID', `the TLS files do not fit together: ${messageOf(thrown)}`, { cause: thrown });
}

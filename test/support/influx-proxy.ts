/**
 * Stands between a rollup and InfluxDB, and does to final rows on their way what networks and servers do. Everything else
 * passes untouched.
 *
 * It keeps what InfluxDB has acknowledged, line by line. Whatever crashed and whoever wrote, a point may be written any
 * number of times, but never with another value: `changed` stays empty.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Fault =
  /** Not passed on: 503. */
  | { readonly kind: 'unavailable' }
  /** Not passed on: 429 with Retry-After. */
  | { readonly kind: 'busy'; readonly retryAfterS: number }
  /** Applied, and the connection is closed instead of an answer. */
  | { readonly kind: 'cut'; readonly then?: Then }
  /** Nothing happens until the rollup gives up; then it is applied after all. */
  | { readonly kind: 'hang' }
  /** Applied and answered, but not before `until` resolves. */
  | { readonly kind: 'hold'; readonly until: Promise<void> }
  /** Applied and answered; `then` is called as soon as the kernel has the answer. */
  | { readonly kind: 'answered'; readonly then: Then };

/** The lines that InfluxDB acknowledged. */
type Then = (lines: readonly string[]) => void;

export class InfluxProxy {
  readonly #upstream: URL;
  readonly #server: Server;
  readonly #faults: Fault[] = [];
  readonly #points = new Map<string, { readonly fields: string; times: number }>();
  /** Faults that were done, by kind. */
  readonly done: Record<Fault['kind'], number> = { unavailable: 0, busy: 0, cut: 0, hang: 0, hold: 0, answered: 0 };
  /** Hanging requests that InfluxDB acknowledged after their sender was gone. */
  appliedLate = 0;
  /** Requests that could not be passed on: InfluxDB was away. */
  unreachable = 0;
  /** Points that were written again, and those of them that were not the same. */
  repeated = 0;
  readonly changed: string[] = [];

  private constructor(upstream: string, server: Server) {
    this.#upstream = new URL(upstream);
    this.#server = server;
    server.on('request', (incoming, answer) => {
      this.#pass(incoming, answer).catch(() => answer.destroy());
    });
  }

  static async start(upstream: string): Promise<InfluxProxy> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new InfluxProxy(upstream, server);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How often a line was acknowledged. */
  timesWritten(line: string): number {
    return this.#points.get(placeOf(line).place)?.times ?? 0;
  }

  /** Faults that no write has met yet. */
  get waiting(): number {
    return this.#faults.length;
  }

  /** For the next writes of final rows, one each. */
  next(...faults: readonly Fault[]): void {
    this.#faults.push(...faults);
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  async #pass(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const url = new URL(incoming.url!, this.#upstream);
    const bucket = url.searchParams.get('bucket') ?? '';
    const isFinal = url.pathname === '/api/v2/write' && !bucket.endsWith('_live');
    const fault = isFinal ? this.#faults.shift() : undefined;
    if (fault) this.done[fault.kind]++;
    if (fault?.kind === 'unavailable') return refuse(answer, 503, {});
    if (fault?.kind === 'busy') return refuse(answer, 429, { 'retry-after': String(fault.retryAfterS) });
    if (fault?.kind === 'hang') await once(answer, 'close');
    if (fault?.kind === 'hold') await fault.until;
    const applied = await this.#forward(incoming, url, body).catch(() => null);
    if (applied === null) {
      this.unreachable++;
      answer.destroy();
      return;
    }
    const lines = isFinal ? body.toString().split('\n') : [];
    if (isFinal && applied.status === 204) {
      for (const line of lines) this.#note(line);
      if (fault?.kind === 'hang') this.appliedLate++;
    }
    if (fault?.kind === 'cut') {
      fault.then?.(lines);
      answer.destroy();
      return;
    }
    answer.writeHead(applied.status, applied.headers);
    answer.end(applied.body, () => fault?.kind === 'answered' && fault.then(lines));
  }

  #forward(incoming: IncomingMessage, url: URL, body: Buffer) {
    return new Promise<{ status: number; headers: IncomingMessage['headers']; body: Buffer }>((resolve, reject) => {
      const headers = { ...incoming.headers, host: this.#upstream.host };
      const passed = request(url, { method: incoming.method!, headers }, async (response) => {
        try {
          const chunks: Buffer[] = [];
          for await (const chunk of response) chunks.push(chunk as Buffer);
          const { 'transfer-encoding': _, connection: __, ...kept } = response.headers;
          resolve({ status: response.statusCode!, headers: kept, body: Buffer.concat(chunks) });
        } catch (error) {
          reject(error);
        }
      });
      passed.on('error', reject);
      passed.end(body);
    });
  }

  #note(line: string): void {
    const { place, fields } = placeOf(line);
    const point = this.#points.get(place) ?? { fields, times: 0 };
    this.#points.set(place, point);
    if (++point.times > 1) this.repeated++;
    if (point.fields !== fields) this.changed.push(`${place}: ${point.fields} became ${fields}`);
  }
}

/** Series and time of a line, and what is written there. The window is a tag, so buckets need no mention. */
function placeOf(line: string): { readonly place: string; readonly fields: string } {
  const parts = /^((?:\\.|[^ \\])+) (.+) (-?\d+)$/.exec(line);
  if (!parts) throw new Error(`not a point: ${line}`);
  const [, series, fields, time] = parts as unknown as [string, string, string, string];
  return { place: `${series} ${time}`, fields };
}

function refuse(answer: ServerResponse, status: number, headers: Record<string, string>): void {
  answer.writeHead(status, headers);
  answer.end('{"code":"unavailable","message":"try again"}');
}

/**
 * The live page's stream of events (server-sent events), about one snapshot a second. Bounded: so many clients, so many
 * devices and rows an event, and for a client that does not read, nothing is queued: it is left out until it has read
 * what it has (then told so, and it asks anew), and cut off when it does not read at all.
 *
 * Events: `status` (the overview), `devices` (those that changed, in a small fleet), and for the watched series `running` (open windows) and
 * `rows` (closed since the last event), `skipped` (you were left out this often).
 */
import type { ServerResponse } from 'node:http';
import type { Clock } from '../clock.ts';
import { messageOf } from '../errors.ts';
import type { Row, RowQuery } from '../row.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Feed } from './feed.ts';
import { SECURITY_HEADERS } from './guard.ts';
import { MAX_TIME_MS } from './query.ts';
import { encodeRow } from './rows.ts';

export const MAX_LIVE_CLIENTS = 32;
/** With more devices a page asks for those that it shows: most of an event would be thrown away there. */
const MAX_LIVE_DEVICES = 200;
const MAX_LIVE_ROWS = 200;
/** A client with more than this unread is left out. */
const MAX_UNREAD_BYTES = 64 * 1024;
const CUT_OFF_AFTER_MS = 30_000;
const RECONNECT_MS = 2_000;

/** Which series a client looks at. */
export interface Watch {
  readonly stream: string;
  readonly window: string;
  /** Distance between the starts of its windows. */
  readonly everyMs: number;
  readonly tags?: Readonly<Record<string, string>>;
  readonly metric?: string;
}

interface Client {
  readonly response: ServerResponse;
  readonly group: Group | null;
  skipped: number;
  /** Since when it has not read; null = it reads. */
  stuckSinceMs: number | null;
}

/** All clients that watch the same: the store is asked once for them. */
interface Group {
  readonly key: string;
  readonly watch: Watch;
  readonly clients: Set<Client>;
  /** Windows that start at or after this are looked at again. */
  fromMs: number;
  /** Row -> revision that was sent, for windows from `fromMs` on. */
  readonly sent: Map<string, { startMs: number; rev: number }>;
  nextPollMs: number;
  busy: boolean;
}

export class LiveHub {
  readonly #feed: Feed;
  readonly #clock: Clock;
  readonly #telemetry: Telemetry;
  readonly #clients = new Set<Client>();
  readonly #groups = new Map<string, Group>();

  constructor(feed: Feed, clock: Clock, telemetry: Telemetry) {
    this.#feed = feed;
    this.#clock = clock;
    this.#telemetry = telemetry;
  }

  get clients(): number {
    return this.#clients.size;
  }

  get full(): boolean {
    return this.#clients.size >= MAX_LIVE_CLIENTS;
  }

  /** Takes over the response. The caller has seen that the hub is not full. */
  attach(response: ServerResponse, watch: Watch | null, statusJson: string): void {
    response.writeHead(200, {
      ...SECURITY_HEADERS,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
    const group = watch ? this.#group(watch) : null;
    const client: Client = { response, group, skipped: 0, stuckSinceMs: null };
    this.#clients.add(client);
    group?.clients.add(client);
    response.once('close', () => this.#detach(client));
    response.on('error', () => this.#detach(client));
    response.write(`retry: ${RECONNECT_MS}\n\n${event('status', statusJson)}`);
  }

  /** Once a second. The status is made into text once for all clients. */
  tick(statusJson: () => string): void {
    if (this.#clients.size === 0) return;
    const nowMs = this.#clock.nowMs();
    const devices = this.#feed.board.changes(MAX_LIVE_DEVICES, nowMs);
    const text =
      event('status', statusJson()) + (devices.length > 0 ? event('devices', JSON.stringify({ devices })) : '');
    for (const client of this.#clients) this.#send(client, text, true);
    for (const group of this.#groups.values()) void this.#poll(group, nowMs);
  }

  close(): void {
    for (const client of this.#clients) client.response.end();
    this.#clients.clear();
    this.#groups.clear();
  }

  #group(watch: Watch): Group {
    const key = JSON.stringify([watch.stream, watch.window, watch.metric, Object.entries(watch.tags ?? {}).sort()]);
    let group = this.#groups.get(key);
    if (!group) {
      const fromMs = this.#clock.nowMs() - 4 * watch.everyMs;
      group = { key, watch, clients: new Set(), fromMs, sent: new Map(), nextPollMs: 0, busy: false };
      this.#groups.set(key, group);
    }
    return group;
  }

  #detach(client: Client): void {
    this.#clients.delete(client);
    const group = client.group;
    group?.clients.delete(client);
    if (group?.clients.size === 0) this.#groups.delete(group.key);
  }

  async #poll(group: Group, nowMs: number): Promise<void> {
    if (group.busy) return;
    group.busy = true;
    try {
      const { stream, window, tags, metric, everyMs } = group.watch;
      const which = {
        stream,
        window,
        ...(tags ? { tags } : undefined),
        ...(metric !== undefined ? { metric } : undefined),
      };
      const running = await this.#feed.running({ ...which, limit: MAX_LIVE_ROWS });
      this.#tell(group, 'running', running.slice(0, MAX_LIVE_ROWS));
      if (nowMs < group.nextPollMs) return;
      group.nextPollMs = nowMs + Math.min(10_000, Math.max(1_000, everyMs / 5));
      const fresh = await this.#freshRows(group, which);
      if (fresh.length > 0) this.#tell(group, 'rows', fresh);
    } catch (thrown) {
      this.#telemetry.limited(
        'warn',
        'view live',
        { reason: messageOf(thrown) },
        'The live chart stands still: the store or the rollup does not answer.',
      );
    } finally {
      group.busy = false;
    }
  }

  async #freshRows(group: Group, which: Omit<RowQuery, 'fromMs' | 'toMs' | 'limit'>): Promise<Row[]> {
    const fresh: Row[] = [];
    let newestMs = group.fromMs;
    const query: RowQuery = { ...which, fromMs: group.fromMs, toMs: MAX_TIME_MS, limit: 2 * MAX_LIVE_ROWS };
    for await (const row of this.#feed.rows(query)) {
      const key = `${row.startMs} ${row.metric} ${JSON.stringify(row.tags)}`;
      newestMs = Math.max(newestMs, row.startMs);
      if (group.sent.get(key)?.rev === row.rev) continue;
      group.sent.set(key, { startMs: row.startMs, rev: row.rev });
      fresh.push(row);
      if (fresh.length >= MAX_LIVE_ROWS) break;
    }
    // Partitions close the same window at different moments: look a little further back next time.
    group.fromMs = Math.max(group.fromMs, newestMs - 4 * group.watch.everyMs);
    for (const [key, { startMs }] of group.sent) if (startMs < group.fromMs) group.sent.delete(key);
    return fresh;
  }

  #tell(group: Group, name: string, rows: readonly Row[]): void {
    const { stream, window } = group.watch;
    const text = event(
      name,
      `{"stream":${JSON.stringify(stream)},"window":${JSON.stringify(window)},"rows":[${rows.map(encodeRow).join(',')}]}`,
    );
    for (const client of group.clients) this.#send(client, text, false);
  }

  /** `counts`: a tick that the client misses is counted once, not once for each event. */
  #send(client: Client, text: string, counts: boolean): void {
    const { response } = client;
    if (response.destroyed || response.writableEnded) return;
    if (response.writableLength > MAX_UNREAD_BYTES) {
      const nowMs = this.#clock.monotonicMs();
      client.stuckSinceMs ??= nowMs;
      if (counts) client.skipped++;
      else client.skipped = Math.max(1, client.skipped);
      if (nowMs - client.stuckSinceMs > CUT_OFF_AFTER_MS) response.destroy();
      return;
    }
    client.stuckSinceMs = null;
    if (client.skipped > 0) {
      response.write(event('skipped', `{"times":${client.skipped}}`));
      client.skipped = 0;
    }
    response.write(text);
  }
}

function event(name: string, json: string): string {
  return `event: ${name}\ndata: ${json}\n\n`;
}

/**
 * As much MQTT load as one thread can make: QoS 1 publishes over raw sockets, N connections with up to M messages in
 * flight each, flat out or at a fixed total rate. Payloads are small climate readings with a counter for each device.
 *
 * What is measured: time from publish to PUBACK. At a fixed rate it counts from the moment the message was due, so a
 * server that stalls is charged for every message that had to wait, not only for those in flight. A thousand clients that
 * connect at once are a measurement of their own: with a warm-up, messages at a fixed rate are due from the moment when every
 * connection is open, and the figures begin after it.
 * What is remembered: which counters of which device were acknowledged, outside of the server, so that it can be killed
 * at any instant and asked afterwards what it kept. With `reconnect`, connections come back and unacknowledged messages
 * are sent again, same counter and time; without it the run ends when the last connection is gone.
 */
import { LatencyHistogram } from './histogram.ts';
import {
  type ConnectionOptions,
  type DeviceRecord,
  LoadConnection,
  type LoadOwner,
  PING_EVERY_MS,
} from './load-connection.ts';

export interface LoadOptions extends ConnectionOptions {
  readonly connections: number;
  /** Messages per second of all connections; 0 = flat out. */
  readonly rate: number;
  /** Stop sending after this time, or after so many messages; 0 = no such end. */
  readonly durationMs: number;
  readonly messages: number;
  /** Sends for so long, from when every connection is open, before the figures and the duration begin. */
  readonly warmupMs: number;
  /** How long to wait for the last acknowledgements. */
  readonly drainMs: number;
}

export const DEFAULT_LOAD: LoadOptions = {
  url: 'mqtt://127.0.0.1:1883',
  connections: 100,
  inFlight: 20,
  rate: 0,
  durationMs: 10_000,
  messages: 0,
  warmupMs: 0,
  topic: 'sensors/load/{device}/environment',
  devicesPerConnection: 10,
  clientPrefix: 'load-',
  reconnect: false,
  drainMs: 10_000,
};

export interface LoadResult {
  /** Distinct messages sent, and those acknowledged. */
  readonly sent: number;
  readonly acknowledged: number;
  readonly unacknowledged: number;
  readonly resent: number;
  /** What the figures below are of: those acknowledged after the warm-up. */
  readonly measured: number;
  readonly seconds: number;
  readonly acknowledgedPerSecond: number;
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly p999: number; readonly max: number };
  /** Connections that were refused or broke. */
  readonly broken: number;
  readonly ended: 'complete' | 'stopped' | 'disconnected' | 'drain-timeout';
  readonly devices: readonly DeviceRecord[];
}

const TICK_MS = 1;

/** `measuring` is called when the figures begin. */
export function runLoad(
  options: LoadOptions,
  signal?: AbortSignal,
  measuring: () => void = () => {},
): Promise<LoadResult> {
  return new LoadRun(options, signal, measuring).run();
}

class LoadRun implements LoadOwner {
  readonly #options: LoadOptions;
  #latency = new LatencyHistogram();
  readonly #measuring: () => void;
  readonly #signal: AbortSignal | undefined;
  readonly #connections: LoadConnection[];
  readonly #unflushed = new Set<LoadConnection>();
  #startMs = 0;
  /** When the first message is due at a fixed rate, and the warm-up begins; null: it is not known yet. */
  #dueFromMs: number | null = null;
  /** When the figures began. */
  #measuredFromMs = 0;
  #warm = false;
  #acknowledged = 0;
  #issued = 0;
  #resent = 0;
  #broken = 0;
  #next = 0;
  #sending = true;
  #lastAcknowledgedMs = 0;

  constructor(options: LoadOptions, signal: AbortSignal | undefined, measuring: () => void) {
    this.#options = options;
    this.#measuring = measuring;
    this.#signal = signal;
    this.#connections = Array.from({ length: options.connections }, (_, i) => new LoadConnection(this, options, i));
  }

  async run(): Promise<LoadResult> {
    this.#startMs = performance.now();
    if (this.#options.warmupMs === 0) this.#dueFromMs = this.#startMs;
    for (const connection of this.#connections) connection.open();
    const ended = await this.#finished();
    for (const connection of this.#connections) connection.close();
    const devices = this.#connections.flatMap((connection) => connection.devices);
    const acknowledged = devices.reduce((sum, device) => sum + device.acknowledged.size, 0);
    const seconds = Math.max(1, this.#lastAcknowledgedMs - this.#measuredFromMs) / 1_000;
    const quantile = (q: number) => this.#latency.quantileMs(q);
    return {
      sent: this.#issued,
      acknowledged,
      unacknowledged: this.#issued - acknowledged,
      resent: this.#resent,
      measured: this.#acknowledged,
      seconds: Math.round(seconds * 1_000) / 1_000,
      acknowledgedPerSecond: Math.round(this.#acknowledged / seconds),
      latencyMs: { p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999), max: this.#latency.maxMs },
      broken: this.#broken,
      ended,
      devices,
    };
  }

  /** Flat out it is filled; at a fixed rate all of them get what is due. */
  hasRoom(connection: LoadConnection): void {
    if (this.#options.rate > 0) {
      this.#sendDue();
      return;
    }
    while (connection.hasRoom && this.#maySend(Number.POSITIVE_INFINITY)) this.#issue(connection, performance.now());
    connection.flush();
  }

  acknowledged(dueMs: number): void {
    const nowMs = performance.now();
    this.#lastAcknowledgedMs = nowMs;
    this.#latency.add(nowMs - dueMs);
    this.#acknowledged++;
  }

  resent(): void {
    this.#resent++;
  }

  broke(): void {
    this.#broken++;
  }

  /** At a fixed rate: sends what is due, as far as connections have room. */
  #sendDue(): void {
    const due = this.#due(performance.now());
    while (this.#maySend(due)) {
      const connection = this.#nextWithRoom();
      if (!connection) break;
      this.#issue(connection, this.#dueFromMs! + (this.#issued * 1_000) / this.#options.rate);
      this.#unflushed.add(connection);
    }
    for (const connection of this.#unflushed) connection.flush();
    this.#unflushed.clear();
  }

  /** How many messages a fixed rate asks for by then; a run asks for none after its end. */
  #due(nowMs: number): number {
    const { rate, durationMs } = this.#options;
    const fromMs = this.#dueFromMs;
    if (fromMs === null) return 0;
    // as durations: a point in time plus a second, less that point, is often a little less than a second
    const lastMs = durationMs > 0 && this.#warm ? this.#measuredFromMs - fromMs + durationMs : Number.POSITIVE_INFINITY;
    return Math.floor((Math.min(nowMs - fromMs, lastMs) * rate) / 1_000);
  }

  /** Without a warm-up the figures begin with the first connection. */
  #warmUp(nowMs: number): void {
    const { warmupMs } = this.#options;
    if (this.#dueFromMs === null && this.#connections.every((connection) => connection.isOpen)) this.#dueFromMs = nowMs;
    if (this.#dueFromMs === null || nowMs - this.#dueFromMs < warmupMs) return;
    this.#warm = true;
    this.#measuredFromMs = warmupMs > 0 ? nowMs : this.#startMs;
    if (warmupMs > 0) {
      this.#latency = new LatencyHistogram();
      this.#acknowledged = 0;
    }
    this.#measuring();
  }

  #maySend(due: number): boolean {
    const { messages } = this.#options;
    return this.#sending && this.#issued < due && (messages === 0 || this.#issued < messages);
  }

  #issue(connection: LoadConnection, dueMs: number): void {
    this.#issued++;
    connection.publishNext(dueMs);
  }

  #nextWithRoom(): LoadConnection | null {
    const count = this.#connections.length;
    for (let i = 0; i < count; i++) {
      const connection = this.#connections[this.#next]!;
      this.#next = (this.#next + 1) % count;
      if (connection.hasRoom) return connection;
    }
    return null;
  }

  async #finished(): Promise<LoadResult['ended']> {
    let ended: 'complete' | 'stopped' | null = null;
    let drainUntilMs = 0;
    let pingAtMs = this.#startMs + PING_EVERY_MS;
    for (;;) {
      const nowMs = performance.now();
      if (nowMs >= pingAtMs) {
        pingAtMs = nowMs + PING_EVERY_MS;
        for (const connection of this.#connections) connection.ping();
      }
      if (ended === null) {
        if (this.#options.rate > 0) this.#sendDue();
        if (!this.#warm) this.#warmUp(nowMs);
        ended = this.#endOfSending(nowMs);
        this.#sending = ended === null;
        drainUntilMs = nowMs + this.#options.drainMs;
      } else {
        if (this.#connections.every((connection) => connection.idle)) return ended;
        if (nowMs > drainUntilMs) return 'drain-timeout';
      }
      if (this.#connections.every((connection) => connection.gone)) return 'disconnected';
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
  }

  /** Null: there is more to send. What was due by the end is still sent, as long as that does not take for ever. */
  #endOfSending(nowMs: number): 'complete' | 'stopped' | null {
    const { durationMs, messages, drainMs, rate } = this.#options;
    if (this.#signal?.aborted) return 'stopped';
    if (messages > 0 && this.#issued >= messages) return 'complete';
    if (durationMs === 0 || !this.#warm) return null;
    const overMs = nowMs - this.#measuredFromMs - durationMs;
    const isUp = overMs >= 0 && (rate === 0 || this.#issued >= this.#due(nowMs) || overMs > drainMs);
    return isUp ? 'complete' : null;
  }
}

/**
 * As much MQTT load as one thread can make: QoS 1 publishes over raw sockets, N connections with up to M messages in
 * flight each, flat out or at a fixed total rate. Payloads are small climate readings with a counter for each device.
 *
 * What is measured: time from publish to PUBACK. At a fixed rate it counts from the moment the message was due, so a
 * server that stalls is charged for every message that had to wait, not only for those in flight. With a warm-up the figures
 * begin after it, when every connection is open: a thousand clients that connect at once are a measurement of their own.
 * What is remembered: which counters of which device were acknowledged, outside of the server, so that it can be killed
 * at any instant and asked afterwards what it kept. With `reconnect`, connections come back and unacknowledged messages
 * are sent again, same counter and time; without it the run ends when the last connection is gone.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import mqttPacket from 'mqtt-packet';
import { LatencyHistogram } from './histogram.ts';
import { IdSet } from './id-set.ts';
import { PublishBuffer } from './publish-buffer.ts';

export interface LoadOptions {
  readonly url: string;
  readonly connections: number;
  /** Unacknowledged messages of one connection, at most 65,535. */
  readonly inFlight: number;
  /** Messages per second of all connections; 0 = flat out. */
  readonly rate: number;
  /** Stop sending after this time, or after so many messages; 0 = no such end. */
  readonly durationMs: number;
  readonly messages: number;
  /** Sends for at least so long before the figures and the duration begin. */
  readonly warmupMs: number;
  /** `{device}` is filled in. */
  readonly topic: string;
  readonly devicesPerConnection: number;
  readonly clientPrefix: string;
  readonly username?: string;
  readonly password?: string;
  readonly reconnect: boolean;
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

/** What is known of one device's messages: counters 0 to sent - 1 were sent. */
export interface DeviceRecord {
  readonly device: string;
  readonly topic: string;
  readonly sent: number;
  readonly acknowledged: IdSet;
}

interface LoadDevice {
  readonly device: string;
  readonly topic: string;
  readonly topicBytes: Buffer;
  sent: number;
  lastTs: number;
  readonly acknowledged: IdSet;
}

interface Flying {
  readonly device: LoadDevice;
  readonly seq: number;
  readonly payload: string;
  readonly dueMs: number;
  /** Grows from one first sending of the connection to the next. */
  readonly order: number;
}

const TICK_MS = 1;
const RECONNECT_MS = 100;
const KEEPALIVE_S = 60;
const PING_EVERY_MS = 20_000;
const CONNECT_TIMEOUT_MS = 10_000;

/** `measuring` is called when the figures begin. */
export function runLoad(
  options: LoadOptions,
  signal?: AbortSignal,
  measuring: () => void = () => {},
): Promise<LoadResult> {
  return new LoadRun(options, signal, measuring).run();
}

class LoadRun {
  readonly options: LoadOptions;
  latency = new LatencyHistogram();
  readonly #measuring: () => void;
  readonly #signal: AbortSignal | undefined;
  readonly #connections: LoadConnection[];
  readonly #unflushed = new Set<LoadConnection>();
  #startMs = 0;
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
    this.options = options;
    this.#measuring = measuring;
    this.#signal = signal;
    this.#connections = Array.from({ length: options.connections }, (_, i) => new LoadConnection(this, i));
  }

  async run(): Promise<LoadResult> {
    this.#startMs = performance.now();
    for (const connection of this.#connections) connection.open();
    const ended = await this.#finished();
    for (const connection of this.#connections) connection.close();
    const devices = this.#connections.flatMap((connection) => connection.devices);
    const acknowledged = devices.reduce((sum, device) => sum + device.acknowledged.size, 0);
    const seconds = Math.max(1, this.#lastAcknowledgedMs - this.#measuredFromMs) / 1_000;
    const quantile = (q: number) => this.latency.quantileMs(q);
    return {
      sent: this.#issued,
      acknowledged,
      unacknowledged: this.#issued - acknowledged,
      resent: this.#resent,
      measured: this.#acknowledged,
      seconds: Math.round(seconds * 1_000) / 1_000,
      acknowledgedPerSecond: Math.round(this.#acknowledged / seconds),
      latencyMs: { p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999), max: this.latency.maxMs },
      broken: this.#broken,
      ended,
      devices,
    };
  }

  /** Sends what is due, as far as connections have room. `only`: the one that just got some. */
  pump(only?: LoadConnection): void {
    const { rate } = this.options;
    if (rate === 0) {
      if (!only) return;
      while (only.hasRoom && this.#maySend(Number.POSITIVE_INFINITY)) this.#issue(only, performance.now());
      only.flush();
      return;
    }
    const due = this.#due(performance.now());
    while (this.#maySend(due)) {
      const connection = this.#nextWithRoom();
      if (!connection) break;
      this.#issue(connection, this.#startMs + (this.#issued * 1_000) / rate);
      this.#unflushed.add(connection);
    }
    for (const connection of this.#unflushed) connection.flush();
    this.#unflushed.clear();
  }

  acknowledged(flying: Flying): void {
    const nowMs = performance.now();
    this.#lastAcknowledgedMs = nowMs;
    this.latency.add(nowMs - flying.dueMs);
    this.#acknowledged++;
    flying.device.acknowledged.add(flying.seq);
  }

  resent(): void {
    this.#resent++;
  }

  broke(): void {
    this.#broken++;
  }

  /** How many messages a fixed rate asks for by then; a run asks for none after its end. */
  #due(nowMs: number): number {
    const { rate, durationMs } = this.options;
    const endMs = durationMs > 0 && this.#warm ? this.#measuredFromMs + durationMs : Number.POSITIVE_INFINITY;
    return Math.floor(((Math.min(nowMs, endMs) - this.#startMs) * rate) / 1_000);
  }

  /** Without a warm-up the figures begin with the first connection. */
  #warmUp(nowMs: number): void {
    const { warmupMs } = this.options;
    if (warmupMs > 0 && nowMs - this.#startMs < warmupMs) return;
    if (warmupMs > 0 && !this.#connections.every((connection) => connection.isOpen)) return;
    this.#warm = true;
    this.#measuredFromMs = warmupMs > 0 ? nowMs : this.#startMs;
    if (warmupMs > 0) {
      this.latency = new LatencyHistogram();
      this.#acknowledged = 0;
    }
    this.#measuring();
  }

  #maySend(due: number): boolean {
    const { messages } = this.options;
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
    const { durationMs, messages, drainMs, rate } = this.options;
    let ended: LoadResult['ended'] = 'complete';
    let drainUntilMs = 0;
    let pingAtMs = this.#startMs + PING_EVERY_MS;
    for (;;) {
      const nowMs = performance.now();
      if (nowMs >= pingAtMs) {
        pingAtMs = nowMs + PING_EVERY_MS;
        for (const connection of this.#connections) connection.ping();
      }
      if (this.#sending) {
        if (rate > 0) this.pump();
        if (!this.#warm) this.#warmUp(nowMs);
        const overMs = durationMs > 0 && this.#warm ? nowMs - this.#measuredFromMs - durationMs : -1;
        // What was due by the end is still sent, as long as that does not take for ever.
        const timeIsUp = overMs >= 0 && (rate === 0 || this.#issued >= this.#due(nowMs) || overMs > drainMs);
        const enough = messages > 0 && this.#issued >= messages;
        if (this.#signal?.aborted) ended = 'stopped';
        if (timeIsUp || enough || this.#signal?.aborted) {
          this.#sending = false;
          drainUntilMs = nowMs + drainMs;
        }
      } else {
        if (this.#connections.every((connection) => connection.idle)) return ended;
        if (nowMs > drainUntilMs) return 'drain-timeout';
      }
      if (this.#connections.every((connection) => connection.gone)) return 'disconnected';
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
  }
}

class LoadConnection {
  readonly devices: LoadDevice[];
  readonly #run: LoadRun;
  readonly #clientId: string;
  /** By message id - 1. */
  readonly #flying: (Flying | null)[];
  readonly #freeIds: number[];
  readonly #unsent = new PublishBuffer();
  #socket: Socket | null = null;
  #open = false;
  #gone = false;
  #closing = false;
  #next = 0;
  #order = 0;
  #retryTimer: NodeJS.Timeout | undefined;

  constructor(run: LoadRun, index: number) {
    const { inFlight, devicesPerConnection, topic, clientPrefix } = run.options;
    this.#run = run;
    this.#clientId = `${clientPrefix}${index + 1}`;
    this.#flying = Array.from({ length: inFlight }, () => null);
    this.#freeIds = Array.from({ length: inFlight }, (_, i) => inFlight - i);
    this.devices = Array.from({ length: devicesPerConnection }, (_, i) => {
      const device = `${this.#clientId}-${i + 1}`;
      const text = topic.replaceAll('{device}', device);
      const topicBytes = Buffer.from(text);
      return { device, topic: text, topicBytes, sent: 0, lastTs: 0, acknowledged: new IdSet() };
    });
  }

  get hasRoom(): boolean {
    return this.#open && this.#freeIds.length > 0;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** Nothing can come any more: all acknowledged, or gone. */
  get idle(): boolean {
    return this.#gone || this.#freeIds.length === this.#flying.length;
  }

  /** It will not come back. */
  get gone(): boolean {
    return this.#gone;
  }

  open(): void {
    const { url, username, password, reconnect } = this.#run.options;
    const { protocol, hostname, port } = new URL(url);
    const tls = protocol === 'mqtts:';
    const target = { host: hostname, port: Number(port || (tls ? 8883 : 1883)) };
    const socket = tls ? connectTls({ ...target, servername: hostname }) : connectTcp(target);
    this.#socket = socket;
    socket.setNoDelay(true);
    const parser = mqttPacket.parser({ protocolVersion: 4 });
    const connectTimer = setTimeout(() => socket.destroy(), CONNECT_TIMEOUT_MS);
    parser.on('packet', (packet) => {
      if (packet.cmd === 'puback') return this.#acknowledged(packet.messageId!);
      if (packet.cmd !== 'connack') return;
      clearTimeout(connectTimer);
      if (packet.returnCode !== 0) socket.destroy();
      else this.#opened();
    });
    parser.on('error', () => socket.destroy());
    socket.on('data', (chunk) => {
      parser.parse(chunk as Buffer);
      if (this.#open) this.#run.pump(this);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(connectTimer);
      this.#open = false;
      if (this.#closing) return;
      this.#run.broke();
      if (reconnect) this.#retryTimer = setTimeout(() => this.open(), RECONNECT_MS);
      else this.#gone = true;
    });
    const credentials = {
      ...(username === undefined ? undefined : { username }),
      ...(password === undefined ? undefined : { password: Buffer.from(password) }),
    };
    socket.write(
      mqttPacket.generate({
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: 4,
        clean: true,
        clientId: this.#clientId,
        keepalive: KEEPALIVE_S,
        ...credentials,
      }),
    );
  }

  publishNext(dueMs: number): void {
    const device = this.devices[this.#next]!;
    this.#next = (this.#next + 1) % this.devices.length;
    const seq = device.sent++;
    const ts = Math.max(Date.now(), device.lastTs + 1);
    device.lastTs = ts;
    const id = this.#freeIds.pop()!;
    const temperature = 15 + (seq % 150) / 10;
    const payload = `{"ts":${ts},"seq":${seq},"temperature":${temperature},"humidity":${40 + (seq % 40)},"pressure":1013.25}`;
    const flying = { device, seq, payload, dueMs, order: this.#order++ };
    this.#flying[id - 1] = flying;
    this.#write(id, flying);
  }

  /** Hands everything published since the last call to the socket. */
  flush(): void {
    const bytes = this.#unsent.take();
    if (bytes.length > 0 && this.#open) this.#socket!.write(bytes);
  }

  ping(): void {
    if (this.#open) this.#socket!.write(mqttPacket.generate({ cmd: 'pingreq' }));
  }

  close(): void {
    this.#closing = true;
    clearTimeout(this.#retryTimer);
    if (this.#open) this.#socket?.end(mqttPacket.generate({ cmd: 'disconnect' }));
    else this.#socket?.destroy();
  }

  #opened(): void {
    this.#open = true;
    // In the order in which they were first sent, as MQTT asks: ids are used again in any order.
    const unanswered = this.#flying.flatMap((flying, index) => (flying === null ? [] : [{ flying, id: index + 1 }]));
    unanswered.sort((a, b) => a.flying.order - b.flying.order);
    for (const { flying, id } of unanswered) {
      this.#run.resent();
      this.#write(id, flying);
    }
    this.flush();
    this.#run.pump(this);
  }

  #acknowledged(id: number): void {
    const flying = this.#flying[id - 1];
    if (!flying) return;
    this.#flying[id - 1] = null;
    this.#freeIds.push(id);
    this.#run.acknowledged(flying);
  }

  #write(messageId: number, { device, payload }: Flying): void {
    this.#unsent.add(device.topicBytes, messageId, payload);
  }
}

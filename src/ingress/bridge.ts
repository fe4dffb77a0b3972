/**
 * Readings from another MQTT broker. A persistent session there (`clean: false`, a client id of its own) at QoS 1: the
 * broker keeps what comes while we are away, and its PUBACK leaves here only after `accept` has settled the reading as
 * accepted or refused, in order of arrival. A failed one is not acknowledged: the connection is closed after a while and
 * the broker sends again, from the oldest that was not acknowledged.
 *
 * How MQTT.js is made to do that: a `handleMessage` that calls back with an error sends no PUBACK and goes on with the
 * next packet, which is what keeps many in flight; the PUBACK is then written here, on the connection on which the
 * publish came and on no other. Not calling back at all stops the reading of the socket: the bound. Subscribing at
 * QoS 1 is a must: for QoS 2 MQTT.js sends the PUBREC before anyone has seen the message. (Tests hold each of these.)
 *
 * A retained message that the broker sends for a subscription is a copy of something older, not a new reading: it is
 * acknowledged and left out. When topics are taken out of the configuration, give the source another client id: the
 * session there still has them.
 */
import { readFileSync } from 'node:fs';
import { connect, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt';
import type { Clock } from '../clock.ts';
import type { BridgeSource, MqttLimits } from '../config.ts';
import { type Failure, fail, messageOf, type Outcome, succeed } from '../errors.ts';
import { backoff } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import { Tally } from './tally.ts';
import type { Accept, Verdict } from './verdict.ts';

export interface BridgeOptions {
  readonly source: BridgeSource;
  readonly limits: MqttLimits;
  readonly accept: Accept;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** The gateway's stamp. */
  readonly received: () => number;
  /** How long a connection with a failed publish is held before it is closed. */
  readonly failureHoldMs?: number;
  /** First pause before connecting again. */
  readonly reconnectMs?: number;
}

export interface BridgeStats {
  readonly connected: boolean;
  /** The broker granted every topic. */
  readonly subscribed: boolean;
  readonly pending: number;
}

export interface Bridge {
  readonly source: BridgeSource;
  /**
   * At QoS 0 and only while connected, to a broker from which anything under the topic's first level is taken: what the
   * gateway itself has to say to a device behind it.
   */
  publish(topic: string, payload: Uint8Array): void;
  stats(): BridgeStats;
  /** Takes nothing more, gives what is pending `drainMs` to be acknowledged, then disconnects; the session stays. */
  close(drainMs?: number): Promise<void>;
}

/** A publish between its arrival and its acknowledgement. */
interface Publish {
  readonly packet: IPublishPacket;
  readonly arrivedMs: number;
  verdict: Verdict | null;
}

const KEEPALIVE_S = 30;
const CONNECT_TIMEOUT_MS = 10_000;
const MAX_RECONNECT_MS = 30_000;
const DEFAULT_RECONNECT_MS = 1_000;
const DEFAULT_FAILURE_HOLD_MS = 5_000;
const DEFAULT_DRAIN_MS = 5_000;
const FLUSH_MS = 100;
/** `handleMessage` calls back with it: no PUBACK from MQTT.js. */
const NOT_YET = new Error('not acknowledged yet');

/** Does not wait for the broker: it connects when it can, for ever. A failure means that the TLS files cannot be read. */
export function startBridge(options: BridgeOptions): Outcome<Bridge> {
  const tls = readTls(options.source);
  return tls.ok ? succeed(new MqttBridge(options, tls.value)) : tls;
}

class MqttBridge implements Bridge {
  readonly source: BridgeSource;
  readonly #options: BridgeOptions;
  readonly #client: MqttClient;
  readonly #received: Tally;
  readonly #acknowledged: readonly [Tally, Tally, Tally];
  readonly #flushing: NodeJS.Timeout;
  readonly #pause = backoff({ firstMs: DEFAULT_RECONNECT_MS, maxMs: MAX_RECONNECT_MS });
  /** Of the present connection, in order of arrival. Those of earlier ones are void: the broker sends them again. */
  #publishes: Publish[] = [];
  #pendingBytes = 0;
  /** MQTT.js waits for this before it reads on. */
  #readOn: (() => void) | null = null;
  #failed = false;
  #subscribed = false;
  #everSubscribed = false;
  #attempts = 0;
  #closing: (() => void) | null = null;
  #closed = false;

  constructor(options: BridgeOptions, tls: IClientOptions) {
    const { source, telemetry } = options;
    this.source = source;
    this.#options = options;
    const { received, acknowledged } = telemetry;
    this.#received = new Tally(received.labels('bridge'));
    this.#acknowledged = [
      new Tally(acknowledged.labels('0')),
      new Tally(acknowledged.labels('1')),
      new Tally(acknowledged.labels('2')),
    ];
    this.#client = connect(source.url, {
      ...tls,
      ...(source.username === null ? {} : { username: source.username }),
      ...(source.password === null ? {} : { password: source.password }),
      clientId: source.clientId,
      clean: false,
      protocolVersion: 4,
      keepalive: KEEPALIVE_S,
      connectTimeout: CONNECT_TIMEOUT_MS,
      reconnectPeriod: options.reconnectMs ?? DEFAULT_RECONNECT_MS,
      reconnectOnConnackError: true,
      resubscribe: false,
    });
    this.#client.handleMessage = (packet, callback) => this.#handle(packet, callback as (error?: Error) => void);
    this.#watch();
    this.#flushing = setInterval(() => this.#flush(), FLUSH_MS).unref();
  }

  stats(): BridgeStats {
    return { connected: this.#client.connected, subscribed: this.#subscribed, pending: this.#publishes.length };
  }

  publish(topic: string, payload: Uint8Array): void {
    const [first] = topic.split('/');
    const takesFrom = (filter: string) => ['#', '+', first].includes(filter.split('/')[0]);
    if (!this.#client.connected || !this.source.topics.some(takesFrom)) return;
    this.#client.publish(topic, Buffer.from(payload), { qos: 0 }, () => {});
  }

  async close(drainMs = DEFAULT_DRAIN_MS): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#publishes.length > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, drainMs);
        this.#closing = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#void();
    clearInterval(this.#flushing);
    this.#flush();
    // without DISCONNECT when the connection is not sound; there is no will to prevent
    await this.#client.endAsync(!this.#client.connected).catch(() => {});
  }

  #watch(): void {
    const { telemetry, source } = this.#options;
    const client = this.#client;
    client.on('connect', ({ sessionPresent }) => {
      this.#attempts = 0;
      client.options.reconnectPeriod = this.#options.reconnectMs ?? DEFAULT_RECONNECT_MS;
      telemetry.log.info({ source: source.clientId }, 'connected to the other MQTT broker');
      // subscribing again would bring the retained messages again
      if (!sessionPresent || !this.#everSubscribed) this.#subscribe();
    });
    client.on('close', () => {
      const lost = this.#publishes.length;
      this.#void();
      if (this.#closed) return;
      telemetry.limited(
        'warn',
        `bridge-${source.clientId}`,
        { source: source.clientId, lost },
        'the other MQTT broker is away',
      );
    });
    client.on('reconnect', () => {
      const delayMs = this.#pause.delayMs(++this.#attempts);
      client.options.reconnectPeriod = Math.max(delayMs, this.#options.reconnectMs ?? 0);
    });
    client.on('error', (error) => {
      const fields = { source: source.clientId, reason: messageOf(error) };
      telemetry.limited(
        'warn',
        `bridge-error-${source.clientId}`,
        fields,
        'connecting to the other MQTT broker failed',
      );
    });
  }

  #subscribe(): void {
    const { telemetry, source } = this.#options;
    this.#client.subscribe([...source.topics], { qos: 1 }, (error, granted) => {
      const refused = granted?.filter(({ qos }) => qos > 1).map(({ topic }) => topic) ?? [];
      this.#subscribed = !error && refused.length === 0;
      this.#everSubscribed ||= this.#subscribed;
      if (this.#subscribed || this.#closed) return;
      const fields = { source: source.clientId, refused, reason: error ? messageOf(error) : 'not granted' };
      telemetry.limited(
        'error',
        `bridge-topics-${source.clientId}`,
        fields,
        'the other MQTT broker does not grant the topics',
      );
    });
  }

  #handle(packet: IPublishPacket, callback: (error?: Error) => void): void {
    if (packet.retain) {
      callback();
      return;
    }
    // nothing is taken any more: not acknowledged, and the broker sends it again when we are back
    if (this.#closed || this.#failed) return;
    const publish: Publish = { packet, arrivedMs: this.#options.clock.monotonicMs(), verdict: null };
    const publishes = this.#publishes;
    publishes.push(publish);
    this.#pendingBytes += packet.payload.length;
    this.#received.count++;
    // QoS 2 only from a session that someone else subscribed: MQTT.js asks with the PUBREL, and takes no error for an answer
    const goOn = packet.qos === 2 ? () => callback() : () => callback(NOT_YET);
    const { limits } = this.#options;
    if (publishes.length < limits.pendingPerClient && this.#pendingBytes < limits.pendingBytes) goOn();
    else {
      this.#options.telemetry.limitReached.inc({ limit: 'pending_per_client' });
      this.#readOn = goOn;
    }
    this.#accept(packet, (verdict) => {
      if (publish.verdict !== null) return;
      publish.verdict = verdict;
      if (publishes === this.#publishes) this.#complete();
      else this.#count(publish, verdict);
    });
  }

  #accept({ topic, payload }: IPublishPacket, settled: (verdict: Verdict) => void): void {
    const { accept, received, source, telemetry } = this.#options;
    const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
    try {
      accept({ topic, payload: bytes, client: source.clientId, receivedMs: received() }, settled);
    } catch (thrown) {
      telemetry.log.error({ err: thrown }, 'the pipeline threw on a publish');
      settled({ kind: 'failed', failure: { code: 'SPOOL_IO', message: messageOf(thrown), retryable: true } });
    }
  }

  /** Acknowledges what is settled at the front, with one write. */
  #complete(): void {
    const acknowledgements: number[] = [];
    let publish = this.#publishes[0];
    while (publish?.verdict && !this.#failed) {
      if (publish.verdict.kind === 'failed' && publish.packet.qos > 0) {
        this.#fail(publish.verdict.failure);
        break;
      }
      this.#publishes.shift();
      this.#pendingBytes -= publish.packet.payload.length;
      this.#count(publish, publish.verdict);
      const { qos, messageId } = publish.packet;
      if (qos === 1) acknowledgements.push(0x40, 2, messageId! >> 8, messageId! & 0xff);
      publish = this.#publishes[0];
    }
    if (acknowledgements.length > 0) this.#client.stream.write(Buffer.from(acknowledgements));
    const { limits } = this.#options;
    if (
      this.#readOn &&
      this.#publishes.length <= limits.pendingPerClient >> 1 &&
      this.#pendingBytes < limits.pendingBytes
    ) {
      const readOn = this.#readOn;
      this.#readOn = null;
      // in a turn of its own: it may bring the next publish, which may be settled at once
      setImmediate(readOn);
    }
    if (this.#publishes.length === 0) this.#closing?.();
  }

  #count({ packet, arrivedMs }: Publish, verdict: Verdict): void {
    const { telemetry, clock } = this.#options;
    if (verdict.kind === 'failed') {
      telemetry.turnedAway.inc({ reason: 'failed' });
      return;
    }
    this.#acknowledged[packet.qos].count++;
    telemetry.acknowledgeSeconds.observe((clock.monotonicMs() - arrivedMs) / 1000);
  }

  #fail(failure: Failure): void {
    const { telemetry, source, failureHoldMs } = this.#options;
    this.#failed = true;
    const fields = { source: source.clientId, code: failure.code, reason: failure.message };
    telemetry.limited(
      'warn',
      'bridge-failed',
      fields,
      'a publish could not be made durable: the other broker has to send it again',
    );
    const { stream } = this.#client;
    setTimeout(() => stream.destroy(), failure.retryAfterMs ?? failureHoldMs ?? DEFAULT_FAILURE_HOLD_MS);
  }

  /** The connection has ended: nothing of it can be acknowledged any more. */
  #void(): void {
    for (const publish of this.#publishes) if (publish.verdict) this.#count(publish, publish.verdict);
    this.#publishes = [];
    this.#pendingBytes = 0;
    this.#readOn = null;
    this.#failed = false;
  }

  #flush(): void {
    this.#received.flush();
    for (const tally of this.#acknowledged) tally.flush();
  }
}

function readTls({ tls }: BridgeSource): Outcome<IClientOptions> {
  const options: IClientOptions = {};
  for (const part of ['ca', 'cert', 'key'] as const) {
    const file = tls?.[part];
    if (!file) continue;
    try {
      options[part] = readFileSync(file);
    } catch (thrown) {
      return fail('CONFIG_INVALID', `the TLS ${part} file of an MQTT source cannot be read: ${messageOf(thrown)}`);
    }
  }
  return succeed(options);
}

/**
 * One MQTT connection of the simulator, kept up through every failure, and the messages that wait for it.
 *
 * Nothing is left to MQTT.js' own store and reconnecting, which can lose what is published while a connection comes
 * back: a message is published only while connected, each connection is a client object of its own, and when one ends,
 * its unacknowledged messages go back to the head of the queue in their old order and are sent again. Exception:
 * oversized ones, for which a broker closes the connection; they get one attempt.
 */
import { connect, type IClientOptions, type MqttClient } from 'mqtt';
import { type Ledger, type LedgerSubject, payloadFields } from './ledger.ts';
import type { Random } from './random.ts';

export interface Outgoing extends LedgerSubject {
  readonly payload: Uint8Array;
  /** Break the connection once this was sent; only the first time. */
  flaps: boolean;
  attempt: number;
}

export interface ClientOptions {
  readonly url: string;
  readonly clientId: string;
  readonly username?: string;
  readonly password?: string;
  readonly qos: 0 | 1 | 2;
  /** Messages sent and not acknowledged, at most. */
  readonly maxInFlight: number;
  /** Disconnect in order and connect again this often; 0 = never. */
  readonly reconnectEveryMs: number;
}

export interface ClientEvents {
  /** The message needs nothing more: acknowledged, or written with QoS 0. */
  settled(message: Outgoing): void;
  /** It will never be sent again. */
  abandoned(message: Outgoing): void;
  sent(message: Outgoing): void;
  connected(): void;
  disconnected(): void;
}

const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 3_000;
const CONNECT_TIMEOUT_MS = 10_000;
const END_TIMEOUT_MS = 5_000;

export class SimulatedClient {
  readonly #options: ClientOptions;
  readonly #ledger: Ledger;
  readonly #random: Random;
  readonly #events: ClientEvents;
  readonly #queue: Outgoing[] = [];
  #inFlight = new Set<Outgoing>();
  #connection: MqttClient | null = null;
  #ready = false;
  #stopped = false;
  #failures = 0;
  #retryTimer: NodeJS.Timeout | undefined;
  #renewTimer: NodeJS.Timeout | undefined;

  constructor(options: ClientOptions, ledger: Ledger, random: Random, events: ClientEvents) {
    this.#options = options;
    this.#ledger = ledger;
    this.#random = random;
    this.#events = events;
  }

  /** Messages not yet settled. */
  get pending(): number {
    return this.#queue.length + this.#inFlight.size;
  }

  start(): void {
    this.#connect();
  }

  enqueue(message: Outgoing): void {
    this.#queue.push(message);
    this.#pump();
  }

  /** Ends the connection; what is not settled by then is answered. */
  async stop(): Promise<readonly Outgoing[]> {
    this.#stopped = true;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#renewTimer);
    const left = [...this.#inFlight, ...this.#queue];
    const connection = this.#connection;
    this.#ready = false;
    if (connection) await endConnection(connection, left.length > 0);
    return left;
  }

  #connect(): void {
    const { url, clientId, username, password, reconnectEveryMs } = this.#options;
    const settings: IClientOptions = {
      clientId,
      clean: true,
      reconnectPeriod: 0,
      connectTimeout: CONNECT_TIMEOUT_MS,
      protocolVersion: 4,
      queueQoSZero: false,
    };
    if (username !== undefined) settings.username = username;
    if (password !== undefined) settings.password = password;
    const connection = connect(url, settings);
    this.#connection = connection;
    connection.on('connect', () => {
      if (connection !== this.#connection || this.#stopped) return;
      this.#ready = true;
      this.#failures = 0;
      this.#events.connected();
      if (reconnectEveryMs > 0) this.#renewTimer = setTimeout(() => this.#renew(connection), reconnectEveryMs);
      this.#pump();
    });
    // The reason is of no use to a device; `close` always follows.
    connection.on('error', () => {});
    connection.on('close', () => this.#closed(connection));
  }

  /** Disconnects in order: nothing new is sent, what is in flight is awaited, for a while. */
  #renew(connection: MqttClient): void {
    this.#ready = false;
    void endConnection(connection, false).then(() => this.#closed(connection));
  }

  #closed(connection: MqttClient): void {
    if (connection !== this.#connection) return;
    if (this.#ready) this.#events.disconnected();
    this.#connection = null;
    this.#ready = false;
    clearTimeout(this.#renewTimer);
    connection.end(true);
    if (this.#stopped) return;
    const unanswered = [...this.#inFlight];
    this.#inFlight = new Set();
    const again: Outgoing[] = [];
    for (const message of unanswered) {
      this.#ledger.note('failed', message, { reason: 'the connection ended before the acknowledgement' });
      if (message.fault === 'oversized') this.#events.abandoned(message);
      else again.push(message);
    }
    this.#queue.unshift(...again);
    const ceiling = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(this.#failures++, 10));
    this.#retryTimer = setTimeout(() => this.#connect(), this.#random.between(ceiling / 2, ceiling));
  }

  #pump(): void {
    const connection = this.#connection;
    while (this.#ready && connection?.connected && this.#inFlight.size < this.#options.maxInFlight) {
      const message = this.#queue.shift();
      if (!message) return;
      this.#publish(connection, message);
    }
  }

  #publish(connection: MqttClient, message: Outgoing): void {
    message.attempt++;
    this.#inFlight.add(message);
    this.#ledger.note('sent', message, payloadFields(message.payload, message.attempt === 1));
    this.#events.sent(message);
    const { qos } = this.#options;
    connection.publish(message.topic, Buffer.from(message.payload), { qos }, (error) => {
      // An answer of a connection that has ended came too late: the message is already queued again.
      if (error || connection !== this.#connection || !this.#inFlight.delete(message)) return;
      this.#ledger.note(qos === 0 ? 'written' : 'acknowledged', message);
      this.#events.settled(message);
      this.#pump();
    });
    if (message.flaps) {
      message.flaps = false;
      this.#ready = false;
      this.#events.disconnected();
      connection.stream.destroy();
    }
  }
}

function endConnection(connection: MqttClient, force: boolean): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      connection.stream?.destroy();
      resolve();
    }, END_TIMEOUT_MS);
    connection.end(force, {}, () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

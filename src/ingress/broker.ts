/**
 * The MQTT side of the gateway: aedes behind our listeners. Starts and stops it, and answers its questions: who may
 * connect (authenticate.ts), what may be subscribed and what is passed on (forward.ts). The bytes pass gate.ts and wire.ts
 * before aedes sees them; publishes leave them there and are acknowledged by acknowledge.ts; session.ts is aedes' memory.
 *
 * Every limit has a name, counted in `millrace_limit_reached_total{limit}`: the names of the configuration
 * in `mqtt.limits` (keepalive_max is counted as keepalive).
 */
import { Aedes, type Client } from 'aedes';
import type { Clock } from '../clock.ts';
import type { MqttConfig } from '../config.ts';
import { done, type Outcome, succeed } from '../errors.ts';
import type { Telemetry } from '../telemetry.ts';
import { Acknowledger } from './acknowledge.ts';
import { Admission } from './admission.ts';
import { detachDelivery, spareNumbers, takeKeepAlive } from './aedes-inside.ts';
import { Audience } from './audience.ts';
import { Authenticator, CONNACK } from './authenticate.ts';
import { meaningOf } from './client-error.ts';
import { Connection, connectionOf, linkConnection, type Origin } from './connection.ts';
import { Deliveries } from './deliver.ts';
import { Forwarder } from './forward.ts';
import type { GateOwner } from './gate.ts';
import type { SharedBounds } from './http.ts';
import { type Address, type Listening, listen } from './listener.ts';
import { PendingBytes, Rates } from './pending.ts';
import { Sessions } from './session.ts';
import { Subscriptions } from './subscriptions.ts';
import { readUsers } from './users.ts';
import type { Accept } from './verdict.ts';
import type { Violation } from './wire.ts';

export type { Address } from './listener.ts';
export type { Accept, Verdict } from './verdict.ts';

export interface BrokerOptions {
  readonly mqtt: MqttConfig;
  readonly accept: Accept;
  /** Accepted readings of this topic are retained. */
  readonly retain?: (topic: string) => boolean;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** The gateway's stamp, never running backwards. */
  readonly received: () => number;
  /** How long the connection of a publish that could not be made durable is held before it is closed. */
  readonly failureHoldMs?: number;
  /** First delay after a failed login. */
  readonly slowDownMs?: number;
}

export interface BrokerStats {
  readonly connections: number;
  /** Publishes that wait for their acknowledgement. */
  readonly pending: number;
  readonly pendingBytes: number;
  readonly sessions: number;
  readonly retained: number;
}

export interface Broker {
  readonly addresses: readonly Address[];
  stats(): BrokerStats;
  /** What other ways in share with this one. */
  readonly shared: SharedBounds;
  /** To local subscribers, at QoS 0 and without inspection. */
  readonly publish: (topic: string, payload: Uint8Array, retain?: boolean) => void;
  /** To one client at QoS 1, with word of its PUBACK: see deliver.ts. */
  readonly send: Deliveries['send'];
  /** Told whenever a client may have become reachable for `send`. */
  onReachable(told: (clientId: string) => void): void;
  /** Reads the users file and the TLS files again. A mistake in one changes nothing. Who may no longer connect is disconnected. */
  reload(): Outcome;
  /** Accepts and reads nothing more, gives what is pending `drainMs` to be acknowledged, then closes. */
  close(drainMs?: number): Promise<void>;
}

const BROKEN = Object.assign(new Error('internal error'), { returnCode: CONNACK.unavailable as number });
const FLUSH_MS = 100;
const DEFAULT_FAILURE_HOLD_MS = 5_000;
const DEFAULT_DRAIN_MS = 5_000;
/** For what was written to leave, and for the broker to end. */
const CLOSE_MS = 1_000;

export async function startBroker(options: BrokerOptions): Promise<Outcome<Broker>> {
  const users = readUsers(options.mqtt.auth.users);
  if (!users.ok) return users;
  const gateway = new MqttGateway(
    options,
    new Authenticator({
      users: users.value,
      anonymous: options.mqtt.auth.anonymous,
      telemetry: options.telemetry,
      clock: options.clock,
      maxWaiting: options.mqtt.limits.logins,
      slowDownMs: options.slowDownMs,
    }),
  );
  return gateway.start();
}

class MqttGateway implements Broker {
  addresses: readonly Address[] = [];
  readonly shared: SharedBounds;
  readonly #options: BrokerOptions;
  readonly #authenticator: Authenticator;
  readonly #acknowledger: Acknowledger;
  readonly #forwarder: Forwarder;
  readonly #sessions: Sessions;
  readonly #pendingBytes: PendingBytes;
  readonly #admission: Admission;
  readonly #subscriptions: Subscriptions;
  readonly #connections = new Set<Connection>();
  #aedes!: Aedes;
  #listening!: Listening;
  #flushing: NodeJS.Timeout | undefined;
  #connected = 0;
  #reachable: (clientId: string) => void = () => {};
  readonly #deliveries = new Deliveries((clientId) => this.#reachable(clientId));

  constructor(options: BrokerOptions, authenticator: Authenticator) {
    const { mqtt, telemetry, clock } = options;
    this.#options = options;
    this.#authenticator = authenticator;
    this.#sessions = new Sessions(mqtt.limits, telemetry, connectionOf);
    this.#pendingBytes = new PendingBytes(mqtt.limits.pendingBytes);
    const shared = {
      limits: mqtt.limits,
      sessions: this.#sessions,
      limitReached: (limit: string) => this.#reached(limit),
      turnedAway: (connection: Connection, reason: string) => this.#complain(connection, reason),
    };
    const rates = new Rates(mqtt.limits.ratePerClient, clock);
    this.shared = { authenticator, rates, pendingBytes: this.#pendingBytes };
    this.#admission = new Admission({ ...shared, authenticator, rates });
    const audience = new Audience();
    this.#subscriptions = new Subscriptions({ ...shared, audience });
    this.#forwarder = new Forwarder(telemetry, clock, mqtt.limits.forwards);
    this.#acknowledger = new Acknowledger({
      limits: mqtt.limits,
      accept: options.accept,
      retain: options.retain ?? (() => false),
      sessions: this.#sessions,
      audience,
      pendingBytes: this.#pendingBytes,
      telemetry,
      clock,
      received: options.received,
      failureHoldMs: options.failureHoldMs ?? DEFAULT_FAILURE_HOLD_MS,
      disconnect: (connection, reason) => {
        this.#complain(connection, reason);
        endInOrder(connection);
      },
    });
  }

  async start(): Promise<Outcome<Broker>> {
    const { mqtt, telemetry } = this.#options;
    const { limits } = mqtt;
    // a throw in a hook would end the process
    const guarded =
      <A extends readonly unknown[]>(hook: (...given: A) => void, give: (...given: A) => void) =>
      (...given: A): void => {
        try {
          hook(...given);
        } catch (thrown) {
          telemetry.log.error({ err: thrown }, 'an MQTT packet could not be handled');
          give(...given);
        }
      };
    this.#aedes = await Aedes.createBroker({
      // no queue inside: whoever waits, waits in its socket
      concurrency: 0,
      connectTimeout: limits.connectTimeoutMs,
      drainTimeout: limits.drainTimeoutMs,
      maxClientsIdLength: limits.clientIdLength,
      persistence: this.#sessions,
      preConnect: guarded(this.#admission.preConnect, (_client, _packet, callback) => callback(BROKEN, false)),
      authenticate: guarded(this.#admission.authenticate, (_client, _name, _password, callback) =>
        callback(BROKEN, false),
      ),
      authorizePublish: this.#acknowledger.authorizePublish,
      authorizeSubscribe: guarded(this.#subscriptions.authorizeSubscribe, (_client, _sub, callback) =>
        callback(BROKEN),
      ),
      authorizeForward: this.#forwarder.authorizeForward,
    });
    this.#acknowledger.broker = this.#aedes;
    spareNumbers();
    detachDelivery(this.#aedes);
    this.#watch();
    const listening = await listen({
      listeners: mqtt.listeners,
      limits,
      anonymous: mqtt.auth.anonymous,
      telemetry,
      connected: (origin) => this.#connect(origin),
    });
    if (!listening.ok) {
      await new Promise<void>((resolve) => this.#aedes.close(resolve));
      return listening;
    }
    this.#listening = listening.value;
    this.addresses = listening.value.addresses;
    this.#flushing = setInterval(() => this.#flush(), FLUSH_MS).unref();
    return succeed(this);
  }

  stats(): BrokerStats {
    return {
      connections: this.#connected,
      pending: this.#acknowledger.pending,
      pendingBytes: this.#pendingBytes.bytes,
      sessions: this.#sessions.sessions,
      retained: this.#sessions.retained,
    };
  }

  readonly send: Deliveries['send'] = (clientId, topic, payload, settled) =>
    !this.#acknowledger.stopping && this.#deliveries.send(clientId, topic, payload, settled);

  onReachable(told: (clientId: string) => void): void {
    this.#reachable = told;
  }

  readonly publish = (topic: string, payload: Uint8Array, retain = false): void => {
    if (this.#acknowledger.stopping) return;
    const packet = { cmd: 'publish', topic, payload: Buffer.from(payload), qos: 0, retain, dup: false } as const;
    this.#aedes.publish(packet, () => {});
  };

  reload(): Outcome {
    const users = readUsers(this.#options.mqtt.auth.users);
    if (!users.ok) return users;
    const listening = this.#listening.reload();
    if (!listening.ok) return listening;
    this.#authenticator.replaceUsers(users.value);
    for (const { origin } of this.#admission.review()) origin.stream.destroy();
    for (const connection of this.#admission.admitted()) this.#subscriptions.review(connection);
    return done;
  }

  async close(drainMs = DEFAULT_DRAIN_MS): Promise<void> {
    this.#acknowledger.stopping = true;
    this.#listening.stop();
    for (const { gate } of this.#connections) gate.shut();
    if (!(await this.#acknowledger.drained(drainMs))) {
      const { pending } = this.#acknowledger;
      this.#options.telemetry.log.warn({ pending }, 'stopping with publishes that are not acknowledged');
    }
    await Promise.all([...this.#connections].map(endInOrder));
    await atMost(CLOSE_MS, new Promise<void>((resolve) => this.#aedes.close(resolve)));
    this.#listening.destroy();
    clearInterval(this.#flushing);
    this.#flush();
  }

  // ---- connections

  #connect(origin: Origin): void {
    const { stream } = origin;
    if (this.#acknowledger.stopping) {
      stream.destroy();
      return;
    }
    const { limits } = this.#options.mqtt;
    const owner: GateOwner = {
      limits,
      pendingBytes: this.#pendingBytes,
      clock: this.#options.clock,
      violated: (violation) => this.#violated(connection, violation),
      connectArrived: () => clearTimeout(connection.connectTimer),
      take: (header, bytes, from, to) => this.#acknowledger.take(connection, header, bytes, from, to),
      published: () => this.#acknowledger.taken(connection),
      limitReached: (limit) => this.#reached(limit),
    };
    const connection = new Connection(origin, owner);
    this.#connections.add(connection);
    connection.connectTimer = setTimeout(() => {
      this.#reached('connect_timeout');
      stream.destroy();
    }, limits.connectTimeoutMs);
    stream.once('close', () => this.#disconnected(connection));
    linkConnection(this.#aedes.handle(stream), connection);
  }

  #disconnected(connection: Connection): void {
    clearTimeout(connection.connectTimer);
    connection.keepAlive?.stop();
    this.#connections.delete(connection);
    this.#acknowledger.connectionEnded(connection);
    this.#deliveries.left(connection);
    this.#admission.left(connection);
    this.#subscriptions.left(connection);
    if (!connection.counted) return;
    this.#connected--;
    this.#options.telemetry.connections.set(this.#connected);
    if (connection.client?.clean === false) this.#sessions.away(connection.id);
  }

  #violated(connection: Connection, { reason, limit, connack }: Violation): void {
    const { stream } = connection.origin;
    if (limit) this.#reached(limit);
    this.#complain(connection, reason);
    if (connack === undefined) stream.destroy();
    else stream.end(Buffer.from([0x20, 2, 0, connack]), () => stream.destroy());
  }

  // ---- aedes' events

  #watch(): void {
    const { telemetry } = this.#options;
    // before its CONNACK
    this.#aedes.on('client', (client) => {
      const connection = connectionOf(client)!;
      if (connection.closed) return;
      connection.counted = true;
      this.#connected++;
      telemetry.connections.set(this.#connected);
    });
    // after its CONNACK, and after what was queued for its session
    this.#aedes.on('clientReady', (client) => {
      const connection = connectionOf(client)!;
      connection.ready = true;
      connection.keepAlive = takeKeepAlive(client, this.#options.clock);
      connection.gate.open();
      this.#deliveries.ready(connection);
    });
    this.#aedes.on('subscribe', (_, client) => {
      const connection = connectionOf(client);
      if (connection) this.#deliveries.subscribed(connection);
    });
    this.#sessions.acknowledged = (client, messageId) => {
      const connection = connectionOf(client);
      if (connection) this.#deliveries.acknowledged(connection, messageId);
    };
    this.#aedes.on('unsubscribe', this.#subscriptions.ended);
    const failed = (client: Client, error: Error): void => this.#clientFailed(connectionOf(client), error);
    this.#aedes.on('clientError', failed);
    this.#aedes.on('connectionError', failed);
    (this.#aedes as NodeJS.EventEmitter).on('error', (error) =>
      telemetry.log.error({ err: error }, 'the MQTT broker reported an error'),
    );
  }

  #clientFailed(connection: Connection | undefined, error: Error): void {
    const meaning = meaningOf(error);
    if (meaning.kind === 'gone') return;
    if (meaning.kind === 'limit') this.#reached(meaning.limit);
    if (connection && !connection.refusal) this.#complain(connection, error.message);
  }

  #reached(limit: string): void {
    this.#options.telemetry.limitReached.inc({ limit });
  }

  #complain(connection: Connection, reason: string): void {
    const { address } = connection.origin;
    this.#options.telemetry.limited(
      'warn',
      'client',
      { client: connection.id, address, reason },
      'an MQTT client was turned away',
    );
  }

  #flush(): void {
    this.#acknowledger.flush();
    this.#forwarder.flush();
  }
}

/**
 * Lets what was written leave, then closes. What still comes is read and thrown away: a socket that is closed with unread
 * bytes is reset, which can take the last acknowledgements with it.
 */
function endInOrder({ origin: { stream }, gate, acks }: Connection): Promise<void> {
  acks.flush();
  return new Promise((resolve) => {
    const timer = setTimeout(() => stream.destroy(), CLOSE_MS);
    stream.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    gate.discard();
    stream.end();
    if (stream.destroyed) stream.emit('close');
  });
}

async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([work, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}

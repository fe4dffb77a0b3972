/**
 * What the broker remembers of clients and topics, in memory and bounded: retained messages, the subscriptions of
 * sessions that outlive their connection, what is queued for them, and the open QoS 2 exchanges. It is for local
 * subscribers only: readings are durable in the log before anything here sees them, and a restart of the gateway begins
 * with nothing retained or queued. At a limit the newest is refused: a message is not retained or not queued, a
 * subscription that would need one more session is refused (`maySubscribe`).
 *
 * Implements aedes' persistence interface, but for storing what clients publish, which aedes never sees. The methods on the
 * way of a live copy answer by a thenable that calls back at once, because a promise each would cost as much as the rest.
 */
import { Readable } from 'node:stream';
import type { AedesPublishPacket, Client } from 'aedes';
import type { MqttLimits } from '../config.ts';
import type { Telemetry } from '../telemetry.ts';
import { FilterTree } from './filter-tree.ts';
import { Retained } from './retained.ts';
import { Broken, Kept, kept } from './thenable.ts';

type Packet = AedesPublishPacket;
type Peer = Pick<Client, 'id'>;

/** What a connection says of itself to the store. */
export interface PeerState {
  readonly user: string | null;
  /** Filters that were allowed. */
  readonly filters: ReadonlyMap<string, number>;
  /** The broker's counter of the message that was last kept from this client. */
  readonly withheld: number;
}

/** A subscription as aedes stores and restores it. */
export interface StoredSubscription {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  readonly rh?: number;
  readonly rap?: boolean;
  readonly nl?: boolean;
}

interface Session {
  /** Null: anonymous. Another user may not take the session over. */
  owner: string | null;
  readonly filters: Map<string, StoredSubscription>;
  /** By the broker's counter, in order; what was sent carries its packet identifier. */
  readonly queue: Map<number, Packet>;
  readonly sent: Map<number, number>;
}

/** Payload bytes of all that is queued: no setting, since the counts have one. */
const MAX_QUEUED_BYTES = 64 * 2 ** 20;

export class Sessions {
  readonly #limits: MqttLimits;
  readonly #telemetry: Telemetry;
  readonly #retained: Retained;
  readonly #sessions = new Map<string, Session>();
  readonly #tree = new FilterTree<string, StoredSubscription & { readonly clientId: string }>();
  /** Packet identifiers between PUBREC and PUBREL; kept for a session that is away, the longest away first to go. */
  readonly #incoming = new Map<string, Set<number>>();
  readonly #wills = new Map<string, unknown>();
  #brokerId = '';
  #queuedBytes = 0;

  readonly #stateOf: (client: Peer) => PeerState | undefined;
  /** Told of each PUBACK. */
  acknowledged: (client: Peer, messageId: number) => void = () => {};

  constructor(limits: MqttLimits, telemetry: Telemetry, stateOf: (client: Peer) => PeerState | undefined) {
    this.#limits = limits;
    this.#retained = new Retained(limits.retainedMessages);
    this.#telemetry = telemetry;
    this.#stateOf = stateOf;
  }

  get retained(): number {
    return this.#retained.size;
  }

  get sessions(): number {
    return this.#sessions.size;
  }

  /** Whether the client has a session or may have one more. */
  mayKeepSession(clientId: string): boolean {
    if (this.#sessions.has(clientId) || this.#sessions.size < this.#limits.offlineSessions) return true;
    this.#reached('offline_sessions');
    return false;
  }

  /** The user that a stored session belongs to; undefined: there is none. */
  ownerOf(clientId: string): string | null | undefined {
    return this.#sessions.get(clientId)?.owner;
  }

  /** The packet identifiers of the QoS 2 exchanges that are open: a publish with one of them is a repetition. */
  openOf(clientId: string): ReadonlySet<number> {
    return this.#incoming.get(clientId) ?? NONE;
  }

  /** The PUBREC is about to leave. aedes' part begins with the PUBREL. */
  openExchange(clientId: string, messageId: number): void {
    let open = this.#incoming.get(clientId);
    if (!open) {
      open = new Set();
      this.#incoming.set(clientId, open);
    }
    open.add(messageId);
  }

  /** A stored session has a filter that matches. */
  listens(topic: string): boolean {
    return this.#tree.size > 0 && this.#tree.matches(topic);
  }

  // ---- aedes: start

  async setup(broker: { readonly id: string }): Promise<void> {
    this.#brokerId = broker.id;
  }

  // ---- aedes: retained messages

  storeRetained(packet: Packet): PromiseLike<void> {
    if (!this.#retained.store(packet)) this.#reached('retained_messages');
    return kept;
  }

  createRetainedStreamCombi(filters: readonly string[]): Readable {
    return Readable.from(this.#retainedFor(filters));
  }

  *#retainedFor(filters: readonly string[]): Generator<Packet> {
    for (const filter of filters) yield* this.#retained.match(filter);
  }

  // ---- aedes: sessions and their subscriptions

  /** aedes gives all filters of the SUBSCRIBE, refused ones too: only those that were allowed are stored. */
  async addSubscriptions(client: Peer, subscriptions: readonly StoredSubscription[]): Promise<void> {
    const state = this.#stateOf(client);
    if (!state) return;
    let session = this.#sessions.get(client.id);
    if (!session) {
      session = { owner: state.user, filters: new Map(), queue: new Map(), sent: new Map() };
      this.#sessions.set(client.id, session);
    }
    for (const { topic, qos, rh, rap, nl } of subscriptions) {
      if (!state.filters.has(topic)) continue;
      this.#tree.remove(topic, client.id);
      const subscription = { clientId: client.id, topic, qos, rh, rap, nl };
      session.filters.set(topic, subscription);
      if (qos > 0) this.#tree.set(topic, client.id, subscription);
    }
  }

  async removeSubscriptions(client: Peer, topics: readonly string[]): Promise<void> {
    const session = this.#sessions.get(client.id);
    if (!session) return;
    for (const topic of topics) {
      session.filters.delete(topic);
      this.#tree.remove(topic, client.id);
    }
    if (session.filters.size === 0) this.#forget(client.id, session);
  }

  async subscriptionsByClient(client: Peer): Promise<StoredSubscription[]> {
    return [...(this.#sessions.get(client.id)?.filters.values() ?? [])];
  }

  /** A clean session begins: all that was kept for this client goes [MQTT-3.1.2-6]. */
  async cleanSubscriptions(client: Peer): Promise<void> {
    const session = this.#sessions.get(client.id);
    if (session) this.#forget(client.id, session);
  }

  /** One entry for each session, whatever number of its filters match. */
  subscriptionsByTopic(topic: string): PromiseLike<readonly StoredSubscription[]> {
    return this.#tree.size === 0 ? noSubscriptions : new Kept(this.#tree.match(topic));
  }

  // ---- aedes: what is queued for sessions

  outgoingEnqueueCombi(subscriptions: readonly { readonly clientId: string }[], packet: Packet): PromiseLike<void> {
    for (const { clientId } of subscriptions) this.#enqueue(clientId, packet);
    return kept;
  }

  outgoingEnqueue(subscription: { readonly clientId: string }, packet: Packet): PromiseLike<void> {
    this.#enqueue(subscription.clientId, packet);
    return kept;
  }

  /** The packet is about to be sent under its packet identifier; or a PUBREL takes the place of the publish. */
  outgoingUpdate(client: Peer, packet: Packet): PromiseLike<void> {
    const session = this.#sessions.get(client.id);
    const messageId = packet.messageId!;
    if (!session) return kept;
    if ((packet.cmd as string) === 'pubrel') {
      const counter = session.sent.get(messageId);
      const queued = counter === undefined ? undefined : session.queue.get(counter);
      if (counter !== undefined && queued) {
        this.#queuedBytes -= queued.payload?.length ?? 0;
        session.queue.set(counter, { cmd: 'pubrel', messageId, brokerCounter: counter } as unknown as Packet);
      }
      return kept;
    }
    const queued = session.queue.get(packet.brokerCounter);
    // not queued = refused at the limit: it is sent once and not again
    if (!queued) return kept;
    if (queued.messageId !== undefined && queued.messageId !== messageId) session.sent.delete(queued.messageId);
    queued.messageId = messageId;
    session.sent.set(messageId, packet.brokerCounter);
    return kept;
  }

  /**
   * Acknowledged by the subscriber; or, without a packet identifier yet, not to be sent to it. The latter also comes for
   * the second of two filters that match the same message, whose first is on its way: then it stays.
   */
  outgoingClearMessageId(client: Peer, packet: Packet): PromiseLike<Packet | undefined> {
    if ((packet.cmd as string) === 'puback' && packet.messageId !== undefined)
      this.acknowledged(client, packet.messageId);
    const session = this.#sessions.get(client.id);
    if (!session) return nothingQueued;
    let counter: number | undefined;
    if (packet.messageId !== undefined) counter = session.sent.get(packet.messageId);
    else if (this.#stateOf(client)?.withheld === packet.brokerCounter || isOwn(client, packet))
      counter = packet.brokerCounter;
    const queued = counter === undefined ? undefined : session.queue.get(counter);
    if (counter === undefined || !queued) return nothingQueued;
    session.queue.delete(counter);
    if (queued.messageId !== undefined) session.sent.delete(queued.messageId);
    this.#queuedBytes -= queued.payload?.length ?? 0;
    return new Kept(queued);
  }

  outgoingStream(client: Peer): Readable {
    const queue = this.#sessions.get(client.id)?.queue;
    if (!queue) return Readable.from([]);
    // sent before: DUP [MQTT-3.3.1-1]
    const packets = [...queue.values()].map((packet) =>
      packet.messageId !== undefined && packet.cmd === 'publish' ? { ...packet, dup: true } : packet,
    );
    return Readable.from(packets);
  }

  // ---- aedes: QoS 2 publishes of clients

  incomingGetPacket(client: Peer, packet: Packet): PromiseLike<Packet> {
    return this.openOf(client.id).has(packet.messageId!) ? new Kept(packet) : notFound;
  }

  async incomingDelPacket(client: Peer, packet: Packet): Promise<void> {
    const open = this.#incoming.get(client.id);
    open?.delete(packet.messageId!);
    if (open?.size === 0) this.#incoming.delete(client.id);
  }

  async cleanIncoming(client: Peer): Promise<void> {
    this.#incoming.delete(client.id);
  }

  /** The connection of a session that stays has ended. */
  away(clientId: string): void {
    const open = this.#incoming.get(clientId);
    if (!open) return;
    this.#incoming.delete(clientId);
    this.#incoming.set(clientId, open);
    // whoever is dropped sends again what it had not finished, and the rollup counts it once
    const limit = Math.max(this.#limits.offlineSessions, 1) + this.#limits.connections;
    if (this.#incoming.size > limit) this.#incoming.delete(this.#incoming.keys().next().value!);
  }

  // ---- aedes: wills; a will lives as long as its connection, so there are no orphans to look for

  async putWill(client: Peer, will: { brokerId?: string; clientId?: string }): Promise<void> {
    will.brokerId = this.#brokerId;
    will.clientId = client.id;
    this.#wills.set(client.id, will);
  }

  async delWill(client: Peer): Promise<unknown> {
    const will = this.#wills.get(client.id);
    this.#wills.delete(client.id);
    return will;
  }

  streamWill(): Readable {
    return Readable.from([]);
  }

  // ----

  #enqueue(clientId: string, packet: Packet): void {
    const session = this.#sessions.get(clientId);
    if (!session) return;
    if (
      session.queue.size >= this.#limits.offlineQueue ||
      this.#queuedBytes + packet.payload.length > MAX_QUEUED_BYTES
    ) {
      this.#reached('offline_queue');
      return;
    }
    session.queue.set(packet.brokerCounter, keep(packet));
    this.#queuedBytes += packet.payload.length;
  }

  #forget(clientId: string, session: Session): void {
    for (const topic of session.filters.keys()) this.#tree.remove(topic, clientId);
    for (const packet of session.queue.values()) this.#queuedBytes -= packet.payload?.length ?? 0;
    this.#sessions.delete(clientId);
  }

  #reached(limit: string): void {
    this.#telemetry.limitReached.inc({ limit });
  }
}

/** A bridge does not get back what it published itself. */
function isOwn(client: Peer, packet: Packet & { clientId?: string; nl?: boolean }): boolean {
  return packet.nl === true && packet.clientId === client.id;
}

/** A copy that does not hold on to the socket's read buffer. */
function keep(packet: Packet): Packet {
  return { ...packet, payload: Buffer.from(packet.payload as Buffer), messageId: undefined } as Packet;
}

const NONE: ReadonlySet<number> = new Set();
const nothingQueued: PromiseLike<undefined> = new Kept(undefined);
const noSubscriptions: PromiseLike<readonly StoredSubscription[]> = new Kept([]);
const notFound = new Broken(new Error('no such packet'));

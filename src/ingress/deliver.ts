/**
 * A message to one named client at QoS 1, with word of what became of it: for commands, whose sender must know of the
 * client's PUBACK. Beside the broker's own queues: what is not acknowledged when the connection ends is the caller's to send again.
 *
 * `send` answers whether it was sent: the client is connected, is ready, has no unread bytes waiting, and has a subscription of
 * QoS 1 or 2 that covers the topic. Then `settled` is called once: true at the PUBACK, false when the connection ends before it.
 * `reachable` is told whenever a client may have become so: it connected, subscribed, or read what waited for it.
 */
import type { AedesPublishPacket } from 'aedes';
import type { Connection } from './connection.ts';
import { matchesTopic } from './topic.ts';

type Settled = (acknowledged: boolean) => void;

/** Of aedes' client: writes at QoS 1 without the queue of its session; and the next packet identifier. */
interface Sending {
  _nextId: number;
  deliverQoS(packet: AedesPublishPacket, done: () => void): void;
}

const MAX_MESSAGE_ID = 65_535;

export class Deliveries {
  readonly #reachable: (clientId: string) => void;
  readonly #ready = new Map<string, Connection>();
  readonly #inFlight = new Map<Connection, Map<number, Settled>>();

  constructor(reachable: (clientId: string) => void) {
    this.#reachable = reachable;
  }

  send(clientId: string, topic: string, payload: Uint8Array, settled: Settled): boolean {
    const connection = this.#ready.get(clientId);
    const client = connection?.client;
    if (!connection || !client || connection.closed || connection.origin.stream.writableNeedDrain) return false;
    if (!mayGet(connection, topic)) return false;
    const sending = client as unknown as Sending;
    const messageId = sending._nextId;
    sending._nextId = messageId >= MAX_MESSAGE_ID ? 1 : messageId + 1;
    let waiting = this.#inFlight.get(connection);
    if (!waiting) {
      waiting = new Map();
      this.#inFlight.set(connection, waiting);
    }
    waiting.set(messageId, settled);
    const bytes = Buffer.from(payload);
    const packet = { cmd: 'publish', topic, payload: bytes, qos: 1, retain: false, dup: false, messageId };
    sending.deliverQoS(packet as unknown as AedesPublishPacket, () => {});
    return true;
  }

  /** After CONNACK. */
  ready(connection: Connection): void {
    this.#ready.set(connection.id, connection);
    this.#reachable(connection.id);
  }

  subscribed(connection: Connection): void {
    if (this.#ready.get(connection.id) === connection) this.#reachable(connection.id);
  }

  left(connection: Connection): void {
    if (this.#ready.get(connection.id) === connection) this.#ready.delete(connection.id);
    const waiting = this.#inFlight.get(connection);
    this.#inFlight.delete(connection);
    for (const settled of waiting?.values() ?? []) settled(false);
  }

  /** A PUBACK, of whatever it acknowledges. */
  acknowledged(connection: Connection, messageId: number): void {
    const waiting = this.#inFlight.get(connection);
    const settled = waiting?.get(messageId);
    if (!settled) return;
    waiting!.delete(messageId);
    settled(true);
  }
}

function mayGet({ filters }: Connection, topic: string): boolean {
  const exact = filters.get(topic);
  if (exact !== undefined) return exact > 0;
  for (const [filter, qos] of filters) if (qos > 0 && matchesTopic(filter.split('/'), topic)) return true;
  return false;
}

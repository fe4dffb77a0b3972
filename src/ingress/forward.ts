/**
 * Which live copies local subscribers get. They are for looking on, never at the publishers' cost: a subscriber that
 * does not read gets nothing until it has read, and all of them together get a bounded number of messages a second
 * (mqtt.limits.forwards), beyond a few that each has for itself (a copy costs as much as taking in a reading; ten `#`
 * subscribers would else cut the intake to a tenth). So live copies are best effort, of QoS 1 and 2 too: who must have
 * every reading reads the log. What is withheld is counted.
 */
import type { AedesPublishPacket, Client } from 'aedes';
import type { Clock } from '../clock.ts';
import type { Telemetry } from '../telemetry.ts';
import { type Connection, connectionOf } from './connection.ts';
import { Tally } from './tally.ts';
import { matchesTopic } from './topic.ts';

/** The highest QoS of the filters that match; where none does any more, of all. */
export function grantedQos({ filters, maxQos }: Connection, topic: string): number {
  if (filters.size <= 1) return maxQos;
  let highest = -1;
  for (const [filter, qos] of filters) if (qos > highest && matchesTopic(filter.split('/'), topic)) highest = qos;
  return highest < 0 ? maxQos : highest;
}

/** Each subscriber has this part of it for itself besides, whatever the others get. */
const OWN_PART = 1 / 20;
const SLICE_MS = 100;

export class Forwarder {
  readonly #clock: Clock;
  readonly #perSlice: number;
  readonly #ownPerSlice: number;
  readonly #withheld: Tally;
  #sliceMs = Number.NEGATIVE_INFINITY;
  #left = 0;

  constructor(telemetry: Telemetry, clock: Clock, perSecond: number) {
    this.#clock = clock;
    this.#perSlice = Math.max(1, (perSecond * SLICE_MS) / 1000);
    this.#ownPerSlice = Math.max(1, this.#perSlice * OWN_PART);
    this.#withheld = new Tally(telemetry.limitReached.labels('forwards'));
  }

  /** aedes' hook: the packet as this client gets it, or null. The packet is a copy made for this subscription. */
  readonly authorizeForward = (client: Client, packet: AedesPublishPacket): AedesPublishPacket | null => {
    const connection = connectionOf(client);
    if (!connection || connection.closed) return null;
    // a session's queue is written one by one, each waiting for the one before: nothing to withhold
    if (connection.ready && (connection.origin.stream.writableNeedDrain || !this.#take(connection))) {
      connection.withheld = packet.brokerCounter;
      this.#withheld.count++;
      return null;
    }
    // aedes looks the subscription up by the topic, which misses those with wildcards [MQTT-3.8.4-6]
    if (packet.qos > 0) {
      const granted = grantedQos(connection, packet.topic) as 0 | 1 | 2;
      if (packet.qos > granted) packet.qos = granted;
    }
    return packet;
  };

  flush(): void {
    this.#withheld.flush();
  }

  #take(connection: Connection): boolean {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sliceMs >= SLICE_MS) {
      this.#sliceMs = nowMs;
      this.#left = this.#perSlice;
    }
    if (connection.forwardsSliceMs !== this.#sliceMs) {
      connection.forwardsSliceMs = this.#sliceMs;
      connection.forwards = 0;
    }
    if (connection.forwards++ < this.#ownPerSlice) return true;
    return this.#left-- > 0;
  }
}

/**
 * Where we reach into the broker beyond what it publishes of itself. Its version is pinned; a newer one is read here first.
 */
import type { Aedes, AedesPublishPacket, Client, PublishPacket } from 'aedes';
import mqttPacket from 'mqtt-packet';
import type { Clock } from '../clock.ts';
import { KeepAlive } from './keep-alive.ts';

/** The encoder that the broker uses makes a buffer of each 16-bit number with its first packet: 8 MiB that nobody misses. */
export function spareNumbers(): void {
  mqttPacket.writeToStream.cacheNumbers = false;
}

/**
 * aedes goes on with a publish when every subscriber has taken it, up to the drain timeout of one that sleeps. Publishers
 * do not wait for subscribers here: the emitter says that it is done at once.
 */
export function detachDelivery(aedes: Aedes): void {
  const { mq } = aedes as unknown as { mq: { emit: (packet: object, done?: () => void) => unknown } };
  const emit = mq.emit.bind(mq);
  mq.emit = (packet, done) => {
    emit(packet);
    done?.();
    return mq;
  };
}

/** Passes on what a client has published. Its types know only what the broker publishes of its own. */
export function publishOf(client: Client | null, aedes: Aedes, packet: PublishPacket): void {
  const publish = aedes.publish as unknown as (packet: PublishPacket, client: Client | null, done: () => void) => void;
  publish.call(aedes, packet, client, ignore);
}

interface Delivering {
  deliver0(packet: AedesPublishPacket, done: () => void): void;
  deliverQoS(packet: AedesPublishPacket, done: () => void): void;
}

/**
 * aedes delivers a message by the first filter that matches, at the QoS of that one; where several do, the highest counts
 * [MQTT-3.3.5-1]. `highest`: of the filters that match the topic. To be called before the client's first filter is granted.
 */
export function deliverAtHighest(client: Client, highest: (topic: string) => number): void {
  const delivering = client as unknown as Delivering;
  const deliver0 = delivering.deliver0.bind(client);
  delivering.deliver0 = (packet, done) => {
    if (packet.qos > 0 && highest(packet.topic) > 0) delivering.deliverQoS(packet, done);
    else deliver0(packet, done);
  };
}

/**
 * Takes the place of the timer that aedes has made for a client with a keep-alive and refreshes with each packet that it
 * sees; null where there is none. Whoever gets it stops it when the client is gone.
 */
export function takeKeepAlive(client: Client, clock: Clock): KeepAlive | null {
  const inside = client as unknown as {
    readonly _keepaliveInterval: number;
    _keepaliveTimer: NodeJS.Timeout | KeepAlive | null;
  };
  if (inside._keepaliveTimer === null) return null;
  clearTimeout(inside._keepaliveTimer as NodeJS.Timeout);
  const keepAlive = new KeepAlive(inside._keepaliveInterval, clock, () =>
    client.emit('error', new Error('keep alive timeout')),
  );
  inside._keepaliveTimer = keepAlive;
  return keepAlive;
}

function ignore(): void {}

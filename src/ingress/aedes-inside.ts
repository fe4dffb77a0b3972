/**
 * Where we reach into the broker beyond what it publishes of itself. Its version is pinned; a newer one is read here first.
 */
import type { Aedes, Client, PublishPacket } from 'aedes';

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

/** Counts as a sign of life: packets that the broker does not see are from a client that lives [MQTT-3.1.2-24]. */
export function keepAlive(client: Client): void {
  const { _keepaliveInterval, _keepaliveTimer } = client as unknown as {
    _keepaliveInterval: number;
    _keepaliveTimer: NodeJS.Timeout | null;
  };
  if (_keepaliveInterval > 0) _keepaliveTimer?.refresh();
}

function ignore(): void {}

/**
 * Holds each PUBACK and PUBREC until the reading is durable. The one owner of aedes' `authorizePublish`: within aedes a
 * QoS 1 publish goes `authorizePublish` -> PUBACK written -> `broker.publish`, so the callback of that hook is the only
 * place where an acknowledgement can mean "durable"; for QoS 2 the PUBREC follows the same callback.
 *
 * The contract:
 *  - `accept` (the pipeline) gets each publish once, in order of arrival per connection, and calls `settled` exactly once:
 *      accepted: durable. Acknowledge, then hand it to local subscribers.
 *      refused:  its dead letter is durable. Acknowledge, keep it from local subscribers, tell the device why.
 *      failed:   not durable. Not acknowledged, nor is anything behind it: the connection is no longer read and is closed
 *                after a while, so that the client comes again and re-sends, and a full disk is not a reconnect storm.
 *    QoS 0 has no promise: a failed one is counted and gone.
 *  - Acknowledgements leave in order of arrival per connection, whatever the order of settling [MQTT-4.6.0-2].
 *  - A QoS 2 publish repeated before its PUBREL is not given to `accept` again; it gets its PUBREC [MQTT-4.3.3-2].
 *  - A publish that breaks the standard or that the user may not make ends the connection, after what came before it was
 *    acknowledged. (A device re-sends a bad *payload* for ever, which is why that is a refusal and ends nothing.)
 *  - Wills come this way too: no acknowledgement, the same rules.
 *  - A retained publish without payload only clears the topic's retained message: no reading, not counted as one.
 * When a connection ends, what `accept` has of it still becomes durable; an accepted one still reaches local subscribers.
 * The client will re-send it, and the rollup counts it once.
 */
import type { Aedes, Client, PublishPacket } from 'aedes';
import type { Clock } from '../clock.ts';
import type { MqttLimits } from '../config.ts';
import { type Failure, messageOf } from '../errors.ts';
import type { Telemetry } from '../telemetry.ts';
import { type Connection, connectionOf } from './connection.ts';
import { tellRefused } from './notice.ts';
import type { PendingBytes } from './pending.ts';
import { ASIDE, denyPublish } from './permit.ts';
import { type Callback, type Outcome, Publish } from './publish.ts';
import type { Sessions } from './session.ts';
import { Tally } from './tally.ts';
import type { Accept, Verdict } from './verdict.ts';
import type { DecodedPublish } from './wire.ts';

export interface AcknowledgeOptions {
  readonly limits: MqttLimits;
  readonly accept: Accept;
  /** Accepted readings of this topic are retained, whatever the publisher asked. */
  readonly retain: (topic: string) => boolean;
  readonly sessions: Sessions;
  readonly pendingBytes: PendingBytes;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** The gateway's stamp. */
  readonly received: () => number;
  /** How long a connection with a failed publish is held before it is closed. */
  readonly failureHoldMs: number;
  /** Ends the connection, after what was written has left. */
  readonly disconnect: (connection: Connection, reason: string) => void;
}

const REPEATED: Outcome = { kind: 'repeated' };
const CLEARS: Outcome = { kind: 'clears' };

export class Acknowledger {
  pending = 0;
  /** Set when the broker exists, before it gets its first connection. */
  broker!: Aedes;
  /** No will becomes a reading any more: a gateway that stops says nothing about its devices. */
  stopping = false;

  readonly #options: AcknowledgeOptions;
  readonly #received: Tally;
  readonly #acknowledged: readonly [Tally, Tally, Tally];
  #idle: (() => void) | null = null;

  constructor(options: AcknowledgeOptions) {
    this.#options = options;
    const { received, acknowledged } = options.telemetry;
    this.#received = new Tally(received.labels('mqtt'));
    this.#acknowledged = [
      new Tally(acknowledged.labels('0')),
      new Tally(acknowledged.labels('1')),
      new Tally(acknowledged.labels('2')),
    ];
  }

  /** aedes' hook. */
  readonly authorizePublish = (client: Client | null, packet: PublishPacket, callback: Callback): void => {
    try {
      const connection = client ? connectionOf(client) : undefined;
      if (!connection) {
        callback(new Error('a publish without a connection'));
        return;
      }
      if (packet === connection.will) this.#will(connection, packet, callback);
      else this.#publish(connection, packet, callback);
    } catch (thrown) {
      // a throw here would end the process
      this.#options.telemetry.log.error({ err: thrown }, 'a publish could not be handled');
      callback(new Error('internal error'));
    }
  };

  /** aedes' hook: local subscribers have it; for QoS 2 the PUBREC is written by `done`. */
  readonly published = (packet: object, client: Client | null, done: Callback): void => {
    done(null);
    const connection = client ? connectionOf(client) : undefined;
    if (connection?.delivering === packet) {
      connection.delivering = null;
      this.#complete(connection);
    }
  };

  /** The connection has ended: its publishes are settled without order and acknowledged to nobody. */
  connectionEnded(connection: Connection): void {
    connection.closed = true;
    connection.gate.shut();
    for (const publish of connection.publishes.takeAll()) {
      if (publish.outcome !== null) this.#finishUnheard(connection, publish, publish.outcome);
    }
  }

  /** Resolves when nothing is pending, true; or after the time, false. */
  async drained(withinMs: number): Promise<boolean> {
    if (this.pending === 0) return true;
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#idle = null;
        resolve(false);
      }, withinMs);
      this.#idle = () => {
        clearTimeout(timer);
        this.#idle = null;
        resolve(true);
      };
    });
  }

  flush(): void {
    this.#received.flush();
    for (const tally of this.#acknowledged) tally.flush();
    this.#options.telemetry.pendingPublishes.set(this.pending);
    this.#options.telemetry.pendingBytes.set(this.#options.pendingBytes.bytes);
  }

  #publish(connection: Connection, packet: PublishPacket, callback: Callback): void {
    // behind one that ends the connection: not taken
    if (connection.gate.hold === 'shut') return;
    const publish = this.#begin(connection, packet, callback);
    connection.publishes.append(publish);
    const denied = this.#denied(connection, packet);
    if (denied !== null) {
      this.#received.count++;
      connection.gate.shut();
      this.#settle(connection, publish, denied);
    } else if (packet.qos === 2 && this.#isRepeated(connection, publish)) {
      this.#settle(connection, publish, REPEATED);
    } else if (packet.retain && publish.bytes === 0) {
      this.#settle(connection, publish, CLEARS);
    } else {
      this.#received.count++;
      this.#accept(connection, packet, (verdict) => this.#settle(connection, publish, verdict));
    }
  }

  /** Counts it as pending, until `#release`. */
  #begin(connection: Connection, packet: PublishPacket, callback: Callback): Publish {
    const publish = new Publish(packet, callback, this.#options.clock.monotonicMs());
    connection.gate.pending++;
    this.pending++;
    this.#options.pendingBytes.take(publish.bytes);
    return publish;
  }

  #accept(connection: Connection, packet: PublishPacket, settled: (verdict: Verdict) => void): void {
    const { accept, received, telemetry } = this.#options;
    const payload = packet.payload as Uint8Array;
    try {
      accept({ topic: packet.topic, payload, client: connection.id, receivedMs: received() }, settled);
    } catch (thrown) {
      telemetry.log.error({ err: thrown }, 'the pipeline threw on a publish');
      settled({ kind: 'failed', failure: { code: 'SPOOL_IO', message: messageOf(thrown), retryable: true } });
    }
  }

  /** Why the publish must not be made, or null. */
  #denied(connection: Connection, packet: PublishPacket): Outcome | null {
    const { limits, telemetry } = this.#options;
    const { access, allowedTopic } = connection;
    const denial = denyPublish(packet as DecodedPublish, access, limits.topicLevels, allowedTopic);
    if (denial === null) {
      connection.allowedTopic = packet.topic;
      return null;
    }
    if (denial.why === 'topic_levels') telemetry.limitReached.inc({ limit: 'topic_levels' });
    telemetry.turnedAway.inc({ reason: denial.why === 'not-authorized' ? 'not-authorized' : 'protocol' });
    return { kind: 'denied', reason: denial.reason };
  }

  #isRepeated(connection: Connection, publish: Publish): boolean {
    const messageId = publish.packet.messageId!;
    return this.#options.sessions.isOpen(connection.id, messageId) || connection.publishes.repeats(publish);
  }

  #settle(connection: Connection, publish: Publish, outcome: Outcome): void {
    if (publish.outcome !== null) {
      this.#options.telemetry.log.error({ topic: publish.packet.topic }, 'a publish was settled twice');
      return;
    }
    publish.outcome = outcome;
    if (connection.closed) this.#finishUnheard(connection, publish, outcome);
    else if (publish === connection.publishes.head) this.#complete(connection);
  }

  /** Completes what is settled at the front of the queue. */
  #complete(connection: Connection): void {
    // a callback may come back here by `published`, or settle the next publish: the loop below then goes on with it
    if (connection.completing) return;
    connection.completing = true;
    try {
      this.#completeAll(connection);
    } catch (thrown) {
      // whoever settled is not to blame and must not be interrupted
      this.#options.telemetry.log.error({ err: thrown }, 'an acknowledgement could not be completed');
      connection.origin.stream.destroy();
    }
    connection.completing = false;
  }

  #completeAll(connection: Connection): void {
    const { publishes } = connection;
    while (publishes.head?.outcome && connection.delivering === null) {
      const publish = publishes.head;
      const { outcome } = publishes.head;
      if (outcome.kind === 'failed' && publish.packet.qos > 0) {
        this.#hold(connection, outcome.failure);
        break;
      }
      publishes.dropHead();
      this.#release(connection, publish);
      this.#answer(connection, publish, outcome);
    }
  }

  #answer(connection: Connection, publish: Publish, outcome: Outcome): void {
    const { packet, callback } = publish;
    switch (outcome.kind) {
      case 'accepted':
        this.#count(publish);
        if (!packet.retain && this.#options.retain(packet.topic)) packet.retain = true;
        break;
      case 'refused':
        this.#count(publish);
        tellRefused(connection, packet.topic, outcome, this.#options.clock);
        setAside(packet);
        break;
      case 'failed':
        this.#options.telemetry.turnedAway.inc({ reason: 'failed' });
        setAside(packet);
        break;
      case 'denied':
        this.#options.disconnect(connection, outcome.reason);
        return;
      case 'repeated':
        callback(null);
        return;
    }
    if (packet.qos === 2) connection.delivering = packet;
    callback(null);
  }

  #count(publish: Publish): void {
    this.#acknowledged[publish.packet.qos].count++;
    const seconds = (this.#options.clock.monotonicMs() - publish.arrivedMs) / 1000;
    this.#options.telemetry.acknowledgeSeconds.observe(seconds);
  }

  #release(connection: Connection, publish: Publish): void {
    connection.gate.completed();
    this.pending--;
    this.#options.pendingBytes.release(publish.bytes);
    if (this.pending === 0) this.#idle?.();
  }

  /** Not durable: nothing more is acknowledged here, and after a while the client has to come again. */
  #hold(connection: Connection, failure: Failure): void {
    if (connection.failed) return;
    connection.failed = true;
    const { telemetry, failureHoldMs } = this.#options;
    connection.gate.shut();
    telemetry.limited(
      'warn',
      'publish-failed',
      { code: failure.code, client: connection.id, reason: failure.message },
      'a publish could not be made durable: it is not acknowledged, and its client has to send it again',
    );
    // spread out, so that those who were turned away together do not come back together
    const holdMs = this.stopping ? 0 : (failure.retryAfterMs ?? failureHoldMs);
    const delayMs = holdMs * (0.75 + Math.random() / 2);
    setTimeout(() => connection.origin.stream.destroy(), delayMs);
  }

  #finishUnheard(connection: Connection, publish: Publish, outcome: Outcome): void {
    this.#release(connection, publish);
    const { packet } = publish;
    if (outcome.kind === 'accepted') {
      this.#count(publish);
      const { topic, payload, qos } = packet;
      const retain = packet.retain || this.#options.retain(topic);
      if (!this.stopping) this.broker.publish({ cmd: 'publish', topic, payload, qos, retain, dup: false }, ignore);
    } else if (outcome.kind === 'refused') {
      this.#count(publish);
    } else if (outcome.kind === 'failed') {
      this.#options.telemetry.turnedAway.inc({ reason: 'failed' });
    }
    connection.delivering = null;
  }

  #will(connection: Connection, packet: PublishPacket, callback: Callback): void {
    if (this.stopping) {
      callback(new Error('the gateway stops'));
      return;
    }
    const denied = this.#denied(connection, { ...packet, qos: 0 });
    this.#received.count++;
    if (denied?.kind === 'denied') {
      callback(new Error(denied.reason));
      return;
    }
    const publish = this.#begin(connection, packet, callback);
    this.#accept(connection, packet, (verdict) => {
      if (publish.outcome !== null) return;
      publish.outcome = verdict;
      this.#release(connection, publish);
      if (verdict.kind === 'failed') this.#options.telemetry.turnedAway.inc({ reason: 'failed' });
      else this.#count(publish);
      if (verdict.kind !== 'accepted') {
        callback(new Error(`the will was ${verdict.kind}`));
        return;
      }
      if (this.#options.retain(packet.topic)) packet.retain = true;
      callback(null);
    });
  }
}

function setAside(packet: PublishPacket): void {
  packet.topic = ASIDE;
  packet.retain = false;
}

function ignore(): void {}

/**
 * Takes each PUBLISH from the wire and holds its PUBACK or PUBREC until the reading is durable. The broker (aedes) never
 * sees these packets: an acknowledgement that means "durable" is ours to write, and so the way from the socket to the log
 * is short. What the broker gets is the live copy of an accepted message, when somebody listens or it is to be retained.
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
 *  - Wills come this way too, by aedes' `authorizePublish`: no acknowledgement, the same rules.
 *  - A retained publish without payload only clears the topic's retained message: no reading, not counted as one.
 * When a connection ends, what `accept` has of it still becomes durable; an accepted one still reaches local subscribers.
 * The client will re-send it, and the rollup counts it once.
 */
import type { Aedes, Client, PublishPacket } from 'aedes';
import type { Clock } from '../clock.ts';
import type { MqttLimits } from '../config.ts';
import { type Failure, messageOf } from '../errors.ts';
import type { Telemetry } from '../telemetry.ts';
import { publishOf } from './aedes-inside.ts';
import type { Audience } from './audience.ts';
import { type Connection, connectionOf } from './connection.ts';
import { tellRefused } from './notice.ts';
import type { PendingBytes } from './pending.ts';
import { denyPublish } from './permit.ts';
import { type Outcome, Publish, type QoS, readPublish } from './publish.ts';
import type { Sessions } from './session.ts';
import { Tally } from './tally.ts';
import { type TopicName, TopicTable } from './topic-table.ts';
import type { Accept, Verdict } from './verdict.ts';

export interface AcknowledgeOptions {
  readonly limits: MqttLimits;
  readonly accept: Accept;
  /** Accepted readings of this topic are retained, whatever the publisher asked. */
  readonly retain: (topic: string) => boolean;
  readonly sessions: Sessions;
  readonly audience: Audience;
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

type Callback = (error?: Error | null) => void;

const REPEATED: Outcome = { kind: 'repeated' };
const CLEARS: Outcome = { kind: 'clears' };
const QOS2_WINDOW: Outcome = { kind: 'denied', reason: 'more QoS 2 exchanges are open than mqtt.limits.qos2_window' };

export class Acknowledger {
  pending = 0;
  /** Set when the broker exists, before it gets its first connection. */
  broker!: Aedes;
  /** No will becomes a reading any more: a gateway that stops says nothing about its devices. */
  stopping = false;

  readonly #options: AcknowledgeOptions;
  readonly #topics: TopicTable;
  readonly #received: Tally;
  readonly #acknowledged: readonly [Tally, Tally, Tally];
  #observedMs = -1;
  #idle: (() => void) | null = null;

  constructor(options: AcknowledgeOptions) {
    this.#options = options;
    this.#topics = new TopicTable(options.limits.topicLevels);
    const { received, acknowledged } = options.telemetry;
    this.#received = new Tally(received.labels('mqtt'));
    this.#acknowledged = [
      new Tally(acknowledged.labels('0')),
      new Tally(acknowledged.labels('1')),
      new Tally(acknowledged.labels('2')),
    ];
  }

  /** wire.ts's taker: false when nothing behind this publish is taken. */
  take(connection: Connection, header: number, bytes: Buffer, from: number, to: number): boolean {
    try {
      const nowMs = this.#options.clock.monotonicMs();
      const publish = readPublish(header, bytes, from, to, this.#topics, nowMs);
      if (typeof publish === 'string')
        this.#refuse(connection, new Publish(NO_TOPIC, NOTHING, 0, false, 0, nowMs), publish);
      else this.#publish(connection, publish);
    } catch (thrown) {
      // a throw here would end the process
      this.#options.telemetry.log.error({ err: thrown }, 'a publish could not be handled');
      connection.gate.shut();
      connection.origin.stream.destroy();
    }
    return connection.gate.hold !== 'shut';
  }

  /** Publishes of the connection were taken, one or more. */
  taken(connection: Connection): void {
    connection.keepAlive?.refresh();
  }

  /** aedes' hook: the will of a connection that has ended without a word. */
  readonly authorizePublish = (client: Client | null, packet: PublishPacket, callback: Callback): void => {
    try {
      const connection = client ? connectionOf(client) : undefined;
      if (connection && packet === connection.will) this.#will(connection, packet, callback);
      else callback(new Error('a publish without a connection'));
    } catch (thrown) {
      // a throw here would end the process
      this.#options.telemetry.log.error({ err: thrown }, 'a will could not be handled');
      callback(new Error('internal error'));
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

  #publish(connection: Connection, publish: Publish): void {
    const denied = this.#denied(connection, publish.topic);
    if (denied !== null) {
      this.#refuse(connection, publish, denied);
      return;
    }
    this.#begin(connection, publish);
    connection.publishes.append(publish);
    const known = publish.qos === 2 ? this.#exchange(connection, publish) : null;
    if (known !== null) {
      this.#settle(connection, publish, known);
    } else if (publish.retain && publish.payload.length === 0) {
      this.#settle(connection, publish, CLEARS);
    } else {
      this.#received.count++;
      this.#accept(connection, publish, (verdict) => this.#settle(connection, publish, verdict));
    }
  }

  /** It must not be made: the connection ends, after what came before it was acknowledged. */
  #refuse(connection: Connection, publish: Publish, reason: string): void {
    this.#received.count++;
    connection.gate.shut();
    this.#begin(connection, publish);
    connection.publishes.append(publish);
    this.#settle(connection, publish, { kind: 'denied', reason });
  }

  /** Counts it as pending, until `#release`. */
  #begin(connection: Connection, publish: Publish): void {
    connection.gate.pending++;
    this.pending++;
    this.#options.pendingBytes.take(publish.payload.length);
  }

  #accept(connection: Connection, { topic, payload }: Publish, settled: (verdict: Verdict) => void): void {
    const { accept, received, telemetry } = this.#options;
    try {
      accept({ topic: topic.text, payload, client: connection.id, receivedMs: received() }, settled);
    } catch (thrown) {
      telemetry.log.error({ err: thrown }, 'the pipeline threw on a publish');
      settled({ kind: 'failed', failure: { code: 'SPOOL_IO', message: messageOf(thrown), retryable: true } });
    }
  }

  /** Why the publish must not be made, or null. */
  #denied(connection: Connection, topic: TopicName): string | null {
    const { telemetry } = this.#options;
    const denial = denyPublish(topic, connection.access, connection.allowedTopic);
    if (denial === null) {
      connection.allowedTopic = topic.text;
      return null;
    }
    if (denial.why === 'topic_levels') telemetry.limitReached.inc({ limit: 'topic_levels' });
    telemetry.turnedAway.inc({ reason: denial.why === 'not-authorized' ? 'not-authorized' : 'protocol' });
    return denial.reason;
  }

  /** What a QoS 2 publish is without looking into it, or null when it begins an exchange. */
  #exchange(connection: Connection, publish: Publish): Outcome | null {
    const open = this.#options.sessions.openOf(connection.id);
    const before = connection.publishes.before(publish);
    if (before.repeats || open.has(publish.messageId)) return REPEATED;
    if (open.size + before.count < this.#options.limits.qos2Window) return null;
    this.#options.telemetry.limitReached.inc({ limit: 'qos2_window' });
    connection.gate.shut();
    return QOS2_WINDOW;
  }

  #settle(connection: Connection, publish: Publish, outcome: Outcome): void {
    if (publish.outcome !== null) {
      this.#options.telemetry.log.error({ topic: publish.topic.text }, 'a publish was settled twice');
      return;
    }
    publish.outcome = outcome;
    if (connection.closed) this.#finishUnheard(connection, publish, outcome);
    else if (publish === connection.publishes.head) this.#complete(connection);
  }

  /** Completes what is settled at the front of the queue. */
  #complete(connection: Connection): void {
    // what an answer calls may settle the next publish: the loop below then goes on with it
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
    while (publishes.head?.outcome) {
      const publish = publishes.head;
      const { outcome } = publishes.head;
      if (outcome.kind === 'failed' && publish.qos > 0) {
        this.#hold(connection, outcome.failure);
        break;
      }
      publishes.dropHead();
      this.#release(connection, publish);
      this.#answer(connection, publish, outcome);
    }
  }

  #answer(connection: Connection, publish: Publish, outcome: Outcome): void {
    switch (outcome.kind) {
      case 'accepted':
        this.#count(publish);
        this.#deliver(connection, publish);
        break;
      case 'clears':
        this.#deliver(connection, publish);
        break;
      case 'refused':
        this.#count(publish);
        tellRefused(connection, publish.topic.text, outcome, this.#options.clock);
        break;
      case 'failed':
        this.#options.telemetry.turnedAway.inc({ reason: 'failed' });
        return;
      case 'denied':
        this.#options.disconnect(connection, outcome.reason);
        return;
    }
    if (publish.qos === 1) connection.acks.puback(publish.messageId);
    else if (publish.qos === 2) {
      this.#options.sessions.openExchange(connection.id, publish.messageId);
      connection.acks.pubrec(publish.messageId);
    }
  }

  /** The live copy, where anybody gets it. */
  #deliver({ client }: Connection, { topic: name, payload, qos, retain }: Publish): void {
    const { audience, sessions } = this.#options;
    const topic = name.text;
    const retained = retain || this.#options.retain(topic);
    if (!retained && !audience.listens(topic) && !sessions.listens(topic)) return;
    const bytes = payload as Buffer;
    publishOf(client, this.broker, { cmd: 'publish', topic, payload: bytes, qos, retain: retained, dup: false });
  }

  #count({ qos, arrivedMs }: Publish): void {
    this.#acknowledged[qos].count++;
    // prom-client costs as much as the rest of this file: of those that arrived within a millisecond, one says enough
    const atMs = Math.floor(arrivedMs);
    if (atMs === this.#observedMs) return;
    this.#observedMs = atMs;
    this.#options.telemetry.acknowledgeSeconds.observe((this.#options.clock.monotonicMs() - arrivedMs) / 1000);
  }

  #release(connection: Connection, publish: Publish): void {
    connection.gate.completed();
    this.pending--;
    this.#options.pendingBytes.release(publish.payload.length);
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
    if (outcome.kind === 'accepted') {
      this.#count(publish);
      if (!this.stopping) this.#deliver(connection, publish);
    } else if (outcome.kind === 'refused') {
      this.#count(publish);
    } else if (outcome.kind === 'failed') {
      this.#options.telemetry.turnedAway.inc({ reason: 'failed' });
    }
  }

  #will(connection: Connection, packet: PublishPacket, callback: Callback): void {
    if (this.stopping) {
      callback(new Error('the gateway stops'));
      return;
    }
    const { payload, qos, retain } = packet;
    const topic = this.#topics.of(packet.topic);
    const denied = this.#denied(connection, topic);
    this.#received.count++;
    if (denied !== null) {
      callback(new Error(denied));
      return;
    }
    const nowMs = this.#options.clock.monotonicMs();
    const publish = new Publish(topic, payload as Uint8Array, qos as QoS, retain, 0, nowMs);
    this.#begin(connection, publish);
    this.#accept(connection, publish, (verdict) => {
      if (publish.outcome !== null) return;
      publish.outcome = verdict;
      this.#release(connection, publish);
      if (verdict.kind === 'failed') this.#options.telemetry.turnedAway.inc({ reason: 'failed' });
      else this.#count(publish);
      if (verdict.kind !== 'accepted') {
        callback(new Error(`the will was ${verdict.kind}`));
        return;
      }
      if (this.#options.retain(topic.text)) packet.retain = true;
      callback(null);
    });
  }
}

const NOTHING = new Uint8Array(0);
const NO_TOPIC: TopicName = { text: '', problem: null };

/** Which filters a client gets, how many, and what becomes of them when the rules change. */
import type { Client, Subscription } from 'aedes';
import type { MqttLimits } from '../config.ts';
import { deliverAtHighest } from './aedes-inside.ts';
import type { Audience } from './audience.ts';
import { type Connection, connectionOf } from './connection.ts';
import { grantedQos } from './forward.ts';
import { denySubscribe } from './permit.ts';
import type { Sessions } from './session.ts';
import { textProblem } from './topic.ts';

export interface SubscriptionsOptions {
  readonly limits: MqttLimits;
  readonly sessions: Sessions;
  readonly audience: Audience;
  readonly limitReached: (limit: string) => void;
  /** For the log. */
  readonly turnedAway: (connection: Connection, reason: string) => void;
}

export class Subscriptions {
  readonly #options: SubscriptionsOptions;

  constructor(options: SubscriptionsOptions) {
    this.#options = options;
  }

  /** aedes' hook, also for each filter of a session that comes back. */
  readonly authorizeSubscribe = (
    client: Client,
    subscription: Subscription,
    callback: (error: Error | null, subscription?: Subscription | null) => void,
  ): void => {
    const connection = connectionOf(client)!;
    if (!connection.deliversAtHighest) deliverAtHighest(client, (topic) => grantedQos(connection, topic));
    connection.deliversAtHighest = true;
    const granted = this.#grant(connection, subscription);
    if (typeof granted === 'string') callback(new Error(granted));
    else callback(null, granted ? subscription : null);
  };

  /** aedes' event. It does not look at the text of what is unsubscribed. */
  readonly ended = (filters: readonly string[], client: Client): void => {
    const connection = connectionOf(client)!;
    for (const filter of filters) connection.filters.delete(filter);
    this.#options.audience.remove(connection, filters);
    connection.maxQos = Math.max(0, ...connection.filters.values());
    const problem = filters.map(textProblem).find((text) => text !== null);
    if (problem) connection.origin.stream.destroy(new Error(`the topic filter ${problem}`));
  };

  /** The connection has ended. */
  left(connection: Connection): void {
    this.#options.audience.remove(connection, connection.filters.keys());
  }

  /** The rules have changed: filters that are not allowed any more end. */
  review(connection: Connection): void {
    const { limits, sessions } = this.#options;
    for (const filter of connection.filters.keys()) {
      if (denySubscribe(filter, connection.access, limits.topicLevels, connection.id) === null) continue;
      connection.client?.unsubscribe({ cmd: 'unsubscribe', unsubscriptions: [filter] }, () => {});
      sessions.removeSubscriptions(connection, [filter]);
    }
  }

  /** True or false: granted or not; a text: the client broke the standard and is disconnected. */
  #grant(connection: Connection, { topic, qos }: Subscription): boolean | string {
    const { limits, sessions, limitReached, turnedAway } = this.#options;
    const denial = denySubscribe(topic, connection.access, limits.topicLevels, connection.id);
    if (denial?.why === 'topic_levels') limitReached('topic_levels');
    if (denial && denial.why !== 'not-authorized') return denial.reason;
    if (denial) {
      turnedAway(connection, denial.reason);
      // one of a session, granted by earlier rules
      sessions.removeSubscriptions(connection, [topic]);
      return false;
    }
    if (!connection.filters.has(topic) && connection.filters.size >= limits.subscriptionsPerClient) {
      limitReached('subscriptions_per_client');
      return false;
    }
    if (connection.client?.clean === false && !sessions.mayKeepSession(connection.id)) return false;
    connection.filters.set(topic, qos);
    this.#options.audience.add(connection, topic);
    connection.maxQos = Math.max(connection.maxQos, qos);
    return true;
  }
}

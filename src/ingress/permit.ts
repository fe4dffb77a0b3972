/** What a connected client may publish and subscribe: the standard, the limits, the broker's own topics, the user's rules. */
import type { Access } from './access.ts';
import { isReserved, TOO_MANY_LEVELS, topicFilterProblem } from './topic.ts';
import type { TopicName } from './topic-table.ts';

export interface Denial {
  /** `protocol`: the client broke the standard. */
  readonly why: 'protocol' | 'topic_levels' | 'not-authorized';
  readonly reason: string;
}

/** Where a device reads why its payloads were refused. */
export function refusedTopic(clientId: string): string {
  return `$millrace/refused/${clientId}`;
}

/** Null: it may be made. `allowedTopic` is one that was allowed before: a device mostly publishes where it did last. */
export function denyPublish(
  { text: topic, problem }: TopicName,
  access: Access | null,
  allowedTopic: string | null,
): Denial | null {
  if (topic === allowedTopic) return null;
  if (problem !== null) return { why: problem === TOO_MANY_LEVELS ? 'topic_levels' : 'protocol', reason: problem };
  if (isReserved(topic)) return notAuthorized('topics that start with $ are reserved for the broker');
  if (!access?.mayPublish(topic)) return notAuthorized(`not allowed to publish to "${topic.slice(0, 200)}"`);
  return null;
}

/** Null: it may be subscribed. */
export function denySubscribe(
  filter: string,
  access: Access | null,
  topicLevels: number,
  clientId: string,
): Denial | null {
  const problem = topicFilterProblem(filter, topicLevels);
  if (problem !== null) return { why: problem === TOO_MANY_LEVELS ? 'topic_levels' : 'protocol', reason: problem };
  const own = filter === refusedTopic(clientId) && !/[+#]/.test(clientId);
  const hidden = isReserved(filter) && !filter.startsWith('$SYS/');
  if (own || (!hidden && access?.maySubscribe(filter))) return null;
  return notAuthorized(`not allowed to subscribe to "${filter.slice(0, 200)}"`);
}

function notAuthorized(reason: string): Denial {
  return { why: 'not-authorized', reason };
}

/**
 * One message of a support chat, understood: from the reading in the log to the reading of the stream `<name>.understood`.
 * Pure: the same log gives the same readings, with the same identities, so that one that is made again after a crash counts once.
 *
 * - A message of a customer: `sentiment` (-1 to 1) and `urgency`, with the tags `agent` and `intent`. Urgency is how negative a
 *   message is that also has an urgent intent or word, and 0 otherwise.
 * - The first message of an agent after that of the customer: `first_response`, in seconds by the event times, with the intent
 *   of the question. Other messages of agents say nothing.
 * Windows of these by agent and intent are what the user looks at: count, mean sentiment, time to the first response.
 */
import { type Reading, seriesName } from '../reading.ts';
import type { UnderstandPlan } from '../stream.ts';
import type { Conversation, Conversations } from './conversations.ts';
import { type Intents, NO_INTENT } from './intents.ts';
import type { Language } from './language.ts';

/** A message, of which nothing but its text is needed to be understood. */
export interface Message {
  readonly offset: number;
  /** The clock of the log. */
  readonly clockMs: number;
  readonly key: string;
  readonly timeMs: number;
  readonly tags: Readonly<Record<string, string>>;
  readonly identity: string;
  readonly text: string;
  /** Null: the message does not say. */
  readonly agent: string | null;
  readonly isOfAgent: boolean;
}

export interface Understanding {
  readonly plan: UnderstandPlan;
  readonly language: Language;
  readonly intents: Intents;
  readonly conversations: Conversations;
  readonly agents: Agents;
}

const NOBODY = 'unassigned';
const OTHERS = 'other';
const MAX_TAG_BYTES = 256;
const FORBIDDEN = /[\p{Cc}\p{Cs}]/u;

/** Agents that have rows of their own: each is a series, and whoever writes names as he likes. */
export class Agents {
  readonly #max: number;
  readonly #known = new Set<string>();
  overflowed = 0;

  constructor(max: number) {
    this.#max = max;
  }

  tag(name: string | null): string {
    if (name === null || name === '' || FORBIDDEN.test(name) || Buffer.byteLength(name) > MAX_TAG_BYTES) return NOBODY;
    if (this.#known.has(name) || name === OTHERS || name === NOBODY) return name;
    if (this.#known.size >= this.#max) {
      this.overflowed++;
      return OTHERS;
    }
    this.#known.add(name);
    return name;
  }
}

/** Null when the record's value is not a message that can be understood: no object, or no text. */
export function readMessage(
  record: { readonly offset: number; readonly key: string; readonly value: Uint8Array },
  plan: UnderstandPlan,
  clockMs: number,
): Message | null {
  const { offset, key, value } = record;
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(Buffer.from(value).toString());
  } catch {
    return null;
  }
  const { time, tags, identity, payload } = parsed ?? {};
  if (typeof payload !== 'object' || payload === null) return null;
  const field = (name: string): unknown => (Object.hasOwn(payload, name) ? (payload as never)[name] : undefined);
  const [text, agent] = [field(plan.text), field(plan.agent)];
  if (typeof text !== 'string' || text.trim() === '') return null;
  return {
    offset,
    clockMs,
    key,
    timeMs: time as number,
    tags: tags as Record<string, string>,
    identity:
      typeof identity === 'string'
        ? identity
        : `${seriesName(tags as Record<string, string>)}\n${String(time)}\n${key}`,
    text,
    agent: typeof agent === 'string' ? agent : null,
    isOfAgent: field(plan.from) === 'agent',
  };
}

/** Null: there is nothing to say of it. */
export function understand(message: Message, to: Understanding): Reading | null {
  const { key, clockMs, timeMs, text } = message;
  const known = to.conversations.at(key, clockMs);
  const agent = to.agents.tag(message.agent);
  if (message.isOfAgent) {
    if (known === null || known.isAnswered) return null;
    const state = { ...known, isAnswered: true };
    to.conversations.touch(key, state, clockMs);
    const seconds = Math.max(0, timeMs - known.openedMs) / 1_000;
    return made(message, to.plan, { agent, intent: known.intent }, { first_response: seconds }, state);
  }
  const { sentiment, words } = to.language.read(text);
  const intent = to.intents.of(text);
  const { urgentIntents, urgentWords } = to.plan;
  const isUrgent = urgentIntents.includes(intent) || words.some((word) => urgentWords.includes(word));
  const state = known ?? { openedMs: timeMs, intent, isAnswered: false };
  to.conversations.touch(key, state, clockMs);
  const urgency = isUrgent && sentiment < 0 ? -sentiment : 0;
  return made(message, to.plan, { agent, intent }, { sentiment, urgency }, state);
}

function made(
  { key, offset, clockMs, timeMs, tags, identity }: Message,
  plan: UnderstandPlan,
  found: { readonly agent: string; readonly intent: string },
  values: Readonly<Record<string, number>>,
  { openedMs, intent, isAnswered }: Conversation,
): Reading {
  const names = { ...tags, ...found };
  const sorted = Object.fromEntries(Object.entries(names).sort(([a], [b]) => (a < b ? -1 : 1)));
  const payload: Derived = { ...found, ...values, from: { offset, clockMs }, state: { openedMs, intent, isAnswered } };
  return {
    stream: plan.into,
    key,
    timeMs,
    tags: sorted,
    values,
    identity,
    payload: JSON.stringify(payload),
  };
}

/** The payload of a reading made here: what it says, of which record, and the state of the conversation after it. */
interface Derived {
  readonly agent: string;
  readonly intent: string;
  readonly from: { readonly offset: number; readonly clockMs: number };
  readonly state: Conversation;
}

/** Brings back what a reading made here says of its conversation. Answers the offset of its message; null when it is not ours. */
export function recall(
  { key, value }: { readonly key: string; readonly value: Uint8Array },
  conversations: Conversations,
  agents: Agents,
): number | null {
  try {
    const { agent, from, state } = JSON.parse(Buffer.from(value).toString()).payload as Derived;
    const { openedMs, intent = NO_INTENT, isAnswered } = state;
    if (!Number.isSafeInteger(from.offset) || !Number.isSafeInteger(from.clockMs)) return null;
    conversations.touch(key, { openedMs, intent, isAnswered }, from.clockMs);
    agents.tag(agent);
    return from.offset;
  } catch {
    return null;
  }
}

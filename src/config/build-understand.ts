/** `understand` of a stream: its plan, and the stream of what is understood. */
import { rowTags, type Stream, UNDERSTOOD_METRICS, UNDERSTOOD_SUFFIX, type UnderstandPlan } from '../stream.ts';
import type { FileAt } from './build.ts';
import { join } from './document.ts';
import type { StreamSettings } from './schema.ts';
import { NO_TOPIC } from './stream-topics.ts';

export function readUnderstand(
  written: NonNullable<StreamSettings['understand']>,
  stream: string,
  at: string,
  fileAt: FileAt,
): UnderstandPlan {
  const { text, agent, from, intents, conversations, agents, forget } = written;
  return {
    into: `${stream}${UNDERSTOOD_SUFFIX}`,
    text,
    agent,
    from,
    intents: fileAt(join(at, 'intents'), intents),
    urgentIntents: written.urgent_intents,
    urgentWords: written.urgent_words.map((word) => word.toLowerCase()),
    forgetMs: forget,
    conversations,
    agents,
  };
}

/** What is understood of messages is a stream like the others, but that no topic leads to it. */
export function understoodStream(stream: Stream, into: string): Stream {
  const { name, key, windows } = stream;
  return {
    name: into,
    topic: NO_TOPIC,
    format: 'json',
    schema: null,
    key,
    identity: [],
    time: null,
    sequence: null,
    tags: [...new Set([...rowTags(stream), 'agent', 'intent'])],
    metrics: UNDERSTOOD_METRICS,
    enrich: null,
    windows,
    score: null,
    madeFrom: name,
    retain: false,
  };
}

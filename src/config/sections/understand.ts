/** `understand:` of a stream, declared: what is understood of the messages of a support chat. */
import { duration, entry, FILE, integer, list, optionalSection, text } from '../setting.ts';
import { MAX_LIST } from './common.ts';

const PLAIN_FIELD = { expected: 'the name of a field', pattern: '^[^.\\u0000-\\u001f\\u007f]+$', maxLength: 128 };

export const understand = optionalSection(
  'Sentiment and intent of each message of a support chat, as readings of a stream <name>.understood; key: must be the conversation.',
  {
    intents: entry('Labelled file: an intent, a tab, a message, one a line.', FILE),
    text: text('Payload field with the message.', 'text', PLAIN_FIELD),
    agent: text('Payload field that names the agent.', 'agent', PLAIN_FIELD),
    from: text('Payload field that says who wrote it: agent; anything else is the customer.', 'from', PLAIN_FIELD),
    urgent_intents: list('Intents that are urgent.', entry('An intent.', { expected: 'the name of an intent' }), [], {
      max: MAX_LIST,
      expected: 'a list of intents',
    }),
    urgent_words: list(
      'Words that make a message urgent.',
      entry('A word.', { expected: 'a word without spaces', pattern: '^\\S+$' }),
      ['urgent', 'urgently', 'immediately', 'asap', 'emergency', 'dangerous', 'lawyer', 'police', 'fraud', 'hacked'],
      { max: MAX_LIST, expected: 'a list of words' },
    ),
    forget: duration('A conversation in which nothing new was said for this long is over.', '1h', '1s', '7d'),
    conversations: integer('Conversations remembered for each partition; the longest untouched makes room.', 10_000, {
      min: 1,
      max: 1_000_000,
    }),
    agents: integer('Agents with rows of their own in each partition; further ones share `other`.', 1_000, {
      min: 1,
      max: 100_000,
    }),
  },
);

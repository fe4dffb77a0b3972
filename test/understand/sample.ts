/** Messages of a support chat as records of a log, for the tests of what is understood of them. */
import type { StoredRecord } from '../../src/log.ts';
import { encodeReading } from '../../src/reading.ts';
import { makeWindow, type Stream, UNDERSTOOD_METRICS, type UnderstandPlan } from '../../src/stream.ts';
import { type Intents, train } from '../../src/understand/intents.ts';
import { Language } from '../../src/understand/language.ts';

export const language = new Language();

export const EXAMPLES = [
  ...['where is my parcel', 'the parcel is late', 'when does the courier come'],
  ...['the server is down', 'nothing loads, the system is down', 'the app is offline'],
].map((text, i) => ({ intent: i < 3 ? 'delivery' : 'outage', text }));

export const intents: Intents = train(EXAMPLES, language);

export const PLAN: UnderstandPlan = {
  into: 'chat.understood',
  text: 'text',
  agent: 'agent',
  from: 'from',
  intents: 'intents.tsv',
  urgentIntents: ['outage'],
  urgentWords: ['urgent'],
  forgetMs: 3_600_000,
  conversations: 100,
  agents: 10,
};

export function streamsWith(plan: Partial<UnderstandPlan> = {}): Record<string, Stream> {
  const base = {
    topic: { text: '', filter: '', captures: [], levels: [] },
    format: 'json',
    schema: null,
    key: 'conversation',
    identity: [],
    time: 'timestamp',
    sequence: null,
    tags: [],
    enrich: null,
    windows: [makeWindow(10_000)],
    score: null,
    retain: false,
  } as const;
  return {
    chat: { name: 'chat', ...base, metrics: [], understand: { ...PLAN, ...plan } },
    'chat.understood': { name: 'chat.understood', ...base, metrics: UNDERSTOOD_METRICS, madeFrom: 'chat' },
  };
}

export const START = 1_700_000_000_000;

export interface Said {
  readonly text: string;
  readonly agent?: string;
  readonly from?: 'agent' | 'customer';
  readonly conversation?: string;
  /** Seconds after START, by the event time and by the clock of the log. */
  readonly at: number;
}

export function messageRecord({ at, conversation = 'c1', ...said }: Said, offset: number): StoredRecord {
  const timeMs = START + at * 1_000;
  const payload = JSON.stringify({ timestamp: timeMs, conversation, customer: 'u1', ...said });
  const identity = JSON.stringify([conversation, timeMs, said.text]);
  const reading = { stream: 'chat', key: conversation, timeMs, tags: { team: 'a' }, values: {}, identity, payload };
  return {
    offset,
    kind: 'reading',
    key: conversation,
    receivedMs: timeMs,
    stream: 'chat',
    topic: 'support/a/chat',
    value: Buffer.from(encodeReading(reading)),
  };
}

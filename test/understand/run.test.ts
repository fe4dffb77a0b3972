/**
 * Messages in a log in memory, understood by the real thing, which is killed and started again: what it writes stands in the
 * same log, as with the spool and Kafka.
 */
import assert from 'node:assert/strict';
import { done, type Failure, fail } from '../../src/errors.ts';
import { decodeReading, encodeReading, type Reading } from '../../src/reading.ts';
import type { UnderstandPlan } from '../../src/stream.ts';
import { silentTelemetry, type Telemetry } from '../../src/telemetry.ts';
import { startUnderstanding, type Understanding } from '../../src/understand/run.ts';
import { MemoryLog } from '../support/memory-log.ts';
import { intents, language, messageRecord, type Said, START, streamsWith } from './sample.ts';

class Chat {
  readonly log = new MemoryLog([[]]);
  readonly telemetry: Telemetry = silentTelemetry();
  readonly #plan: Partial<UnderstandPlan>;
  failure: Failure | null = null;
  /** After this many readings the process is dead: what it writes later is not in the log. */
  diesAfter = Number.POSITIVE_INFINITY;
  running: Understanding | null = null;

  constructor(plan: Partial<UnderstandPlan> = {}) {
    this.#plan = plan;
  }

  say(...all: readonly Said[]): void {
    for (const said of all) this.log.records[0]!.push(messageRecord(said, this.log.records[0]!.length));
  }

  async start(): Promise<void> {
    const options = {
      reader: this.log,
      group: 'understand',
      streams: streamsWith(this.#plan),
      intents: new Map([['chat', intents]]),
      language,
      telemetry: this.telemetry,
      onEnded: (reason: unknown) => assert.fail(String(reason)),
      append: async (_: number, readings: readonly Reading[]) => {
        if (this.failure) return { ok: false as const, failure: this.failure };
        for (const reading of readings) {
          if (this.diesAfter-- <= 0) return fail('STOPPED', 'dead');
          const records = this.log.records[0]!;
          const receivedMs = records.at(-1)!.receivedMs;
          const value = Buffer.from(encodeReading(reading));
          const { stream, key } = reading;
          records.push({ kind: 'reading', key, receivedMs, stream, topic: '', value, offset: records.length });
        }
        return done;
      },
    };
    this.running = await startUnderstanding(options);
  }

  get made() {
    return this.log.records[0]!.filter(({ stream }) => stream === 'chat.understood').map(({ key, value }) => {
      const { tags, values, timeMs, identity } = decodeReading(Buffer.from(value).toString())!;
      return { key, tags, values, at: (timeMs - START) / 1_000, identity };
    });
  }

  async metric(name: string, labels: Record<string, string>): Promise<number> {
    const found = (await this.telemetry.registry.getMetricsAsJSON()).find((one) => one.name === name);
    const values = (found?.values ?? []) as { labels: Record<string, string>; value: number }[];
    return values.find((one) => Object.entries(labels).every(([key, value]) => one.labels[key] === value))?.value ?? 0;
  }
}

const QUESTION: Said = { at: 0, text: 'Where is my parcel? This is terrible.', agent: 'anna' };
const ANSWER: Said = { at: 42, text: 'It comes tomorrow.', agent: 'anna', from: 'agent' };

describe('Understanding messages', () => {
  it('writes sentiment and intent of what customers say, and how long the first answer took', async () => {
    const chat = new Chat();
    chat.say(QUESTION, { at: 9, text: 'Hello?' }, ANSWER, { ...ANSWER, at: 50 });
    await chat.start();
    await chat.log.deliver();
    const [question, again, answer, ...more] = chat.made;
    assert.deepEqual(question!.tags, { agent: 'anna', intent: 'delivery', team: 'a' });
    assert.ok(question!.values.sentiment! < 0);
    assert.equal(question!.values.urgency, 0);
    assert.deepEqual(again!.tags, { agent: 'unassigned', intent: 'unknown', team: 'a' });
    assert.deepEqual([answer!.tags, answer!.values, answer!.at], [question!.tags, { first_response: 42 }, 42]);
    assert.deepEqual(more, []);
    assert.equal(await chat.metric('millrace_understood_total', { stream: 'chat.understood' }), 3);
    assert.equal(await chat.metric('millrace_not_understood_total', { reason: 'nothing-new' }), 1);
  });

  it('calls urgent what has an urgent word or intent, as far as it is negative', async () => {
    const chat = new Chat();
    chat.say(
      { at: 0, text: 'URGENT: I hate this', conversation: 'word' },
      { at: 1, text: 'The server is down, this is terrible', conversation: 'intent' },
      { at: 2, text: 'urgent, but great and wonderful', conversation: 'glad' },
      { at: 3, text: 'My parcel is late, this is terrible', conversation: 'patient' },
    );
    await chat.start();
    await chat.log.deliver();
    const [word, intent, glad, patient] = chat.made.map(({ values }) => values);
    assert.ok(word!.urgency! > 0 && word!.urgency === -word!.sentiment!);
    assert.ok(intent!.urgency! > 0);
    assert.deepEqual([glad!.urgency, patient!.urgency], [0, 0]);
    assert.ok(glad!.sentiment! > 0 && patient!.sentiment! < 0);
  });

  it('remembers over a kill that the customer has asked, and makes nothing twice', async () => {
    const chat = new Chat();
    chat.say(
      QUESTION,
      { at: 1, text: 'Where is it?', conversation: 'c2' },
      { at: 2, text: 'Urgent!', conversation: 'c3' },
    );
    await chat.start();
    chat.diesAfter = 2;
    const dying = chat.log.deliver();
    while (chat.running!.status().failure === null) await new Promise((resolve) => setImmediate(resolve));
    await Promise.all([chat.running!.stop(), dying]);
    // The fault: two of three were written, nothing was committed.
    assert.equal(chat.made.length, 2);
    assert.deepEqual(chat.log.commits, []);
    chat.diesAfter = Number.POSITIVE_INFINITY;
    chat.say(ANSWER);
    const replay = new Chat();
    replay.log.records[0]!.push(...chat.log.records[0]!);
    await replay.start();
    await replay.log.deliver();
    assert.deepEqual(
      replay.made.map(({ key, values }) => [key, Object.keys(values).sort().join()]),
      [
        ['c1', 'sentiment,urgency'],
        ['c2', 'sentiment,urgency'],
        ['c3', 'sentiment,urgency'],
        ['c1', 'first_response'],
      ],
    );
    assert.equal(replay.made.at(-1)!.values.first_response, 42);
  });

  it('goes on from its commit after a stop in order, with the conversations as they were', async () => {
    const chat = new Chat();
    chat.say(QUESTION);
    await chat.start();
    await chat.log.deliver();
    await chat.running!.stop();
    assert.equal(chat.log.commits.at(-1)?.checkpoint.offset, 1);
    chat.say(ANSWER, { ...ANSWER, at: 60 });
    await chat.start();
    await chat.log.deliver();
    assert.deepEqual(
      chat.made.flatMap(({ values }) => values.first_response ?? []),
      [42],
    );
  });

  it('forgets a conversation in which nothing was said for long, before and after a restart', async () => {
    const chat = new Chat({ forgetMs: 30_000 });
    chat.say(QUESTION);
    await chat.start();
    await chat.log.deliver();
    await chat.running!.stop();
    chat.say(ANSWER);
    await chat.start();
    await chat.log.deliver();
    assert.equal(chat.made.length, 1);
  });

  it('gives rows of their own to so many agents and counts the others under one name', async () => {
    const chat = new Chat({ agents: 2 });
    chat.say(...['x', 'y', 'z', 'x', 'bad\u0000name'].map((agent, at) => ({ at, agent, text: 'Where is my parcel?' })));
    await chat.start();
    await chat.log.deliver();
    assert.deepEqual(
      chat.made.map(({ tags }) => tags.agent),
      ['x', 'y', 'other', 'x', 'unassigned'],
    );
    assert.equal(await chat.metric('millrace_limit_reached_total', { limit: 'agents' }), 1);
  });

  it('counts each conversation that had to make room', async () => {
    const chat = new Chat({ conversations: 2 });
    chat.say(...['a', 'b', 'c'].map((conversation, at) => ({ at, conversation, text: 'Where is my parcel?' })));
    chat.say({ ...ANSWER, conversation: 'a' });
    await chat.start();
    await chat.log.deliver();
    assert.equal(await chat.metric('millrace_limit_reached_total', { limit: 'conversations' }), 1);
    assert.equal(chat.made.length, 3);
  });

  it('passes over what has no text, and says so', async () => {
    const chat = new Chat();
    chat.say({ at: 0, text: '  ' }, QUESTION);
    await chat.start();
    await chat.log.deliver();
    assert.equal(chat.made.length, 1);
    assert.equal(await chat.metric('millrace_not_understood_total', { reason: 'no-text' }), 1);
  });

  it('tries again while the log takes nothing, and commits nothing meanwhile', async () => {
    const chat = new Chat();
    chat.say(QUESTION);
    await chat.start();
    const away = fail('SPOOL_FULL', 'full', { retryable: true });
    chat.failure = away.failure;
    const delivered = chat.log.deliver();
    while (chat.running!.status().failure === null) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([chat.made.length, chat.log.commits.length], [0, 0]);
    chat.failure = null;
    await delivered;
    assert.equal(chat.made.length, 1);
    assert.equal(chat.running!.status().failure, null);
  });
});

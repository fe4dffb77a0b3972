import assert from 'node:assert/strict';
import { spreadOf, spreadText, spreadTextOf } from '../../src/journal/spread.ts';
import { encodeReading, type Reading } from '../../src/reading.ts';
import { parseTemplate, type Stream, type TopicTemplate } from '../../src/stream.ts';
import { makeStream } from '../support/readings.ts';

const stream = (topic: string, key: string, more: Partial<Stream> = {}): Stream => ({
  ...makeStream('s'),
  topic: parseTemplate(topic) as TopicTemplate,
  key,
  ...more,
});
const enrich = (tags: readonly string[]) =>
  ({ registry: 'd.csv', by: 'team', tags, scale: {}, unknown: 'accept' }) as Stream['enrich'];
const namesOf = (of: Stream) => spreadOf({ s: of }).get('s');
const message = (key: string, tags: Readonly<Record<string, string>>): Reading => ({
  stream: 's',
  key,
  timeMs: 1,
  tags,
  values: {},
});

describe('What spreads the readings of a stream over partitions', () => {
  it('is the key where it is a capture of the topic, a payload tag or a tag of the registry', () => {
    assert.equal(namesOf(stream('t/{team}/{device}', 'device')), undefined);
    assert.equal(namesOf(stream('t/{team}', 'page', { tags: ['page'] })), undefined);
    assert.equal(namesOf(stream('t/{team}', 'room', { enrich: enrich(['room']) })), undefined);
    assert.equal(spreadText(message('d1', { team: 'a', device: 'd1' }), new Map()), 'd1');
  });

  it('is the series where the key is a payload field, in whatever order its tags are named, without those of the registry', () => {
    const of = stream('t/{team}', 'conversation', { tags: ['channel'], enrich: enrich(['city']) });
    assert.deepEqual(namesOf(of), ['channel', 'team']);
    const spread = spreadOf({ s: of });
    const one = spreadText(message('c1', { channel: 'web', city: 'x', team: 'a' }), spread);
    assert.equal(spreadText(message('c2', { channel: 'web', city: 'y', team: 'a' }), spread), one);
    assert.notEqual(spreadText(message('c1', { channel: 'web', team: 'b' }), spread), one);
  });

  it('is one text where there is no tag at all: the stream has one series', () => {
    const spread = spreadOf({ s: stream('t/all', 'conversation') });
    assert.equal(spreadText(message('c1', {}), spread), spreadText(message('c2', {}), spread));
  });

  it('is that of the messages for what is made of them', () => {
    const messages = stream('t/{team}', 'conversation', { name: 'chat' });
    const made = stream('', 'conversation', { madeFrom: 'chat', tags: ['team', 'agent'] });
    assert.deepEqual(spreadOf({ chat: messages, s: made }).get('s'), ['team']);
  });

  it('is found in a reading as it stands in the log', () => {
    const spread = spreadOf({ s: stream('t/{team}', 'conversation') });
    const reading = message('c1', { team: 'a' });
    const record = { stream: 's', key: 'c1', value: Buffer.from(encodeReading(reading)) };
    assert.equal(spreadTextOf(record, spread), spreadText(reading, spread));
    assert.equal(spreadTextOf({ ...record, value: Buffer.from('no reading') }, spread), 'c1');
    assert.equal(spreadTextOf({ ...record, stream: 'other' }, spread), 'c1');
  });
});

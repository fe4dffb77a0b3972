/**
 * What spreads the readings of a stream over the partitions of Kafka. A series is counted in one partition, by whoever has it,
 * so its tags must decide which. Mostly the key does: it is a tag, and all readings of a series have the same. A key that is a
 * payload field, such as the conversation of a message, says nothing about the series, of which readings would be counted in
 * several partitions that then write the same row. So:
 *
 *   the key is a tag             its text
 *   the key is a payload field   the topic captures and payload tags, in ascending order of their names: readings are in order
 *                                per key as long as these stay the same for a key
 *   made of messages             as the messages, whose tags it has, too
 *
 * Tags of the registry are left out: a message that is sent again must come to the same partition, to be known as a duplicate,
 * whatever the registry has become in between. Pure.
 */
import { decodeReading, type Reading, seriesName } from '../reading.ts';
import type { Stream } from '../stream.ts';

/** Names of tags by the name of the stream; a stream that its key spreads is not in it. */
export type Spread = ReadonlyMap<string, readonly string[]>;

export const BY_KEY: Spread = new Map();

export function spreadOf(streams: Readonly<Record<string, Stream>>): Spread {
  const spread = new Map<string, readonly string[]>();
  for (const stream of Object.values(streams)) {
    const { topic, tags, enrich, key } = stream.madeFrom === undefined ? stream : streams[stream.madeFrom]!;
    const own = [...topic.captures, ...tags];
    if (!own.includes(key) && !enrich?.tags.includes(key)) spread.set(stream.name, own.sort());
  }
  return spread;
}

/** The text by which a reading finds its partition. */
export function spreadText({ stream, key, tags }: Pick<Reading, 'stream' | 'key' | 'tags'>, spread: Spread): string {
  const names = spread.get(stream);
  if (names === undefined) return key;
  return seriesName(Object.fromEntries(names.map((name) => [name, tags[name] ?? ''])));
}

/** As `spreadText`, of a reading as it stands in the log. */
export function spreadTextOf(record: { stream: string; key: string; value: Uint8Array }, spread: Spread): string {
  const { stream, key, value } = record;
  const reading = spread.has(stream) ? decodeReading(Buffer.from(value).toString()) : null;
  return reading === null ? key : spreadText({ stream, key, tags: reading.tags }, spread);
}

/** Topics of streams: templates that can be read, fit the format of their payloads, and belong to one stream each. */
import { parseTemplate, type Stream, type TopicTemplate } from '../stream.ts';
import { join } from './document.ts';
import { type Report, show } from './report.ts';
import type { StreamSettings } from './schema.ts';

/** Of a stream to which no topic leads. */
export const NO_TOPIC: TopicTemplate = { text: '', filter: '', captures: [], levels: [] };

export function readTopic(text: string, at: string, topicLevels: number, report: Report): TopicTemplate {
  const topic = parseTemplate(text);
  if (typeof topic === 'string') {
    report.mistake(at, { message: `${show(text)}: ${topic}`, value: text });
    return NO_TOPIC;
  }
  if (topic.levels.length > topicLevels) {
    const message = `has ${topic.levels.length} levels, but mqtt.limits.topic_levels is ${topicLevels}`;
    report.mistake(at, { message, value: text, involved: ['/mqtt/limits/topic_levels'], goOn: true });
  }
  return topic;
}

/** What belongs to one format only. */
export function checkFormat(
  { format, precision }: StreamSettings,
  topic: TopicTemplate,
  at: string,
  report: Report,
): void {
  const precisionAt = join(at, 'precision');
  if (format !== 'line-protocol' && report.isWritten(precisionAt)) {
    const message = `is the unit of the timestamps of line-protocol, and the format is ${format}`;
    report.mistake(precisionAt, { message, value: precision, atKey: true, involved: [join(at, 'format')] });
  }
  const [first, , type] = topic.levels;
  if (format !== 'sparkplug-b' || topic.levels.length === 0) return;
  const fits = first && 'literal' in first && first.literal === 'spBv1.0' && [4, 5].includes(topic.levels.length);
  if (!fits || !type || !('capture' in type) || type.capture !== null) {
    const message = `${show(topic.text)} is not a topic of Sparkplug B`;
    const wayOut = 'write spBv1.0/{group}/+/{node}/{device} for devices, spBv1.0/{group}/+/{node} for nodes';
    report.mistake(join(at, 'topic'), { message, value: topic.text, wayOut });
  }
}

/** Two streams must not have the same topics; where one is the more special, it wins, and that is said. */
export function checkOverlaps(streams: readonly Stream[], report: Report): void {
  streams.forEach((later, i) => {
    for (const earlier of streams.slice(0, i)) {
      const winner = moreSpecial(earlier, later);
      if (winner === null) continue;
      const at = join(join('/streams', later.name), 'topic');
      const involved = [join(join('/streams', earlier.name), 'topic')];
      const value = later.topic.text;
      if (winner === 'neither') {
        const message = `${show(value)} matches the same topics as that of the stream ${earlier.name}`;
        report.mistake(at, { message, value, involved, wayOut: 'a message belongs to one stream' });
      } else {
        const message = `${show(value)} has topics in common with that of the stream ${earlier.name}; they go to ${winner.name}`;
        report.warn(at, { message, value, involved });
      }
    }
  });
}

/** Null = no common topic. Plain text at the first level in which two templates differ is the more special. */
function moreSpecial(a: Stream, b: Stream): Stream | 'neither' | null {
  if (a.topic.levels.length !== b.topic.levels.length || a.topic.levels.length === 0) return null;
  let winner: Stream | null = null;
  for (let i = 0; i < a.topic.levels.length; i++) {
    const one = a.topic.levels[i]!;
    const other = b.topic.levels[i]!;
    if ('literal' in one && 'literal' in other) {
      if (one.literal !== other.literal) return null;
    } else if ('literal' in one || 'literal' in other) {
      // A capture does not match an empty level.
      if (('literal' in one && one.literal === '') || ('literal' in other && other.literal === '')) return null;
      winner ??= 'literal' in one ? a : b;
    }
  }
  return winner ?? 'neither';
}

/**
 * Names in a stream: tags, fields, the key, and what a registry is asked by; with everything that cannot work reported.
 * Names in `tags` are payload fields; a name in `key` or `identity` is a tag where there is one of that name, otherwise
 * a payload field.
 */
import { rowTags, type TopicTemplate } from '../stream.ts';
import { join } from './document.ts';
import { nearestName, type Report, show } from './report.ts';
import type { StreamSettings } from './schema.ts';

/** Tag names that rows use for themselves in the store. */
const RESERVED_TAGS = ['metric', 'window', 'time'];
const DEFAULT_KEY = 'device';

/** Each tag has one source and a name that the store can keep. */
export function checkTags(settings: StreamSettings, topic: TopicTemplate, at: string, report: Report): void {
  const { tags, enrich } = settings;
  const topicAt = join(at, 'topic');
  const known = new Map<string, string>(topic.captures.map((name) => [name, 'a capture of the topic']));
  for (const name of topic.captures) checkTagName(name, topicAt, report);
  const listed = (names: readonly string[], listAt: string, source: string) =>
    names.forEach((name, i) => {
      const itemAt = join(listAt, i);
      const earlier = known.get(name);
      if (earlier !== undefined) {
        report.mistake(itemAt, { message: `${show(name)} is already ${earlier}`, value: name, involved: [topicAt] });
      }
      checkTagName(name, itemAt, report);
      known.set(name, source);
    });
  listed(tags, join(at, 'tags'), 'one of the tags');
  if (enrich) listed(enrich.tags, join(join(at, 'enrich'), 'tags'), 'one of the tags');
}

function checkTagName(name: string, at: string, report: Report): void {
  if (!RESERVED_TAGS.includes(name) && !name.startsWith('_')) return;
  const message = name.startsWith('_') ? 'a tag name must not start with _' : 'is a tag name that rows use themselves';
  report.mistake(at, { message: `${show(name)}: ${message}`, value: name, wayOut: 'give it another name' });
}

export function checkNames(names: readonly string[], what: string, at: string, report: Report): void {
  names.forEach((name, i) => {
    const itemAt = join(at, i);
    if (name.split('.').includes('__proto__')) {
      report.mistake(itemAt, { message: `${show(name)} cannot be the name of a ${what}`, value: name });
    }
    if (names.indexOf(name) < i) {
      report.mistake(itemAt, { message: `the ${what} ${show(name)} is listed twice`, value: name });
    }
  });
}

export function readKey(
  { key, tags, enrich }: StreamSettings,
  topic: TopicTemplate,
  at: string,
  report: Report,
): string {
  const named = rowTags({ topic, tags, enrich });
  if (key === null) {
    if (!named.includes(DEFAULT_KEY)) {
      const message = 'needs a key: its topic has no {device}, by which readings are partitioned and ordered otherwise';
      const example = topic.captures[0] ?? 'page';
      const wayOut = `add for example key: ${example}`;
      report.mistake(at, {
        message,
        wayOut,
        atKey: true,
        goOn: true,
        involved: [join(at, 'topic'), join(at, 'key'), join(at, 'tags')],
      });
    }
    return DEFAULT_KEY;
  }
  const keyAt = join(at, 'key');
  const nearest = named.includes(key) ? null : nearestName(key, named);
  if (nearest !== null) {
    const message = `${show(key)} is no capture or tag, so it is read from the payload`;
    report.warn(keyAt, { message, value: key, nearest, involved: [join(at, 'topic')] });
  }
  return key;
}

export function checkEnrichment(
  { enrich, metrics, tags }: StreamSettings,
  topic: TopicTemplate,
  at: string,
  report: Report,
): void {
  if (enrich === null) return;
  const known = [...new Set([...topic.captures, ...tags])];
  const byAt = join(at, 'by');
  const streamAt = at.slice(0, at.lastIndexOf('/'));
  const topicAt = join(streamAt, 'topic');
  if (!known.includes(enrich.by)) {
    report.mistake(byAt, {
      message: `${show(enrich.by)} is neither captured from the topic nor one of the tags`,
      value: enrich.by,
      expected: known.length > 0 ? `one of ${known.join(', ')}` : null,
      nearest: nearestName(enrich.by, known),
      involved: [topicAt, join(streamAt, 'tags'), at],
    });
  }
  for (const metric of Object.keys(enrich.scale)) {
    if (metrics.includes(metric)) continue;
    report.mistake(join(join(at, 'scale'), metric), {
      message: `${show(metric)} is not one of the metrics`,
      value: metric,
      nearest: nearestName(metric, metrics),
      atKey: true,
      involved: [join(streamAt, 'metrics')],
    });
  }
}

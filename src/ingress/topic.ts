/**
 * Topic names and topic filters as MQTT 3.1.1 section 4.7 has them. The decoder turns bytes that are not UTF-8 (encoded
 * surrogates too) into U+FFFD, so a name with U+FFFD counts as ill-formed. Pure.
 */

export const TOO_MANY_LEVELS = 'the topic has more levels than this gateway allows';

const SLASH = 0x2f;
const HASH = 0x23;
const PLUS = 0x2b;
const DOLLAR = 0x24;

/** Why a client may not publish to this name, or null. One pass: it runs for every message. */
export function topicNameProblem(topic: string, maxLevels: number): string | null {
  if (topic.length === 0) return 'the topic is empty [MQTT-4.7.3-1]';
  let levels = 1;
  for (let i = 0; i < topic.length; i++) {
    const code = topic.charCodeAt(i);
    if (code === SLASH) levels++;
    else if (code === HASH || code === PLUS) return 'the topic of a publish has a wildcard [MQTT-3.3.2-2]';
    else if (code === 0) return 'the topic has U+0000 [MQTT-1.5.3-2]';
    else if (code === 0xfffd) return 'the topic is not UTF-8 [MQTT-1.5.3-1]';
  }
  return levels > maxLevels ? TOO_MANY_LEVELS : null;
}

/** Why this is not a topic filter, or null. */
export function topicFilterProblem(filter: string, maxLevels: number): string | null {
  const text = textProblem(filter);
  if (text !== null) return `the topic filter ${text}`;
  if (filter === '') return 'the topic filter is empty [MQTT-4.7.3-1]';
  const levels = filter.split('/');
  if (levels.length > maxLevels) return TOO_MANY_LEVELS;
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i]!;
    if (level === '+' || (level === '#' && i === levels.length - 1)) continue;
    if (level.includes('#')) return 'the topic filter has # elsewhere than as its last level [MQTT-4.7.1-2]';
    if (level.includes('+')) return 'the topic filter has + as a part of a level [MQTT-4.7.1-3]';
  }
  return null;
}

/** Why a string is not one that MQTT allows, or null: the predicate of a sentence. */
export function textProblem(text: string): string | null {
  if (text.includes('\0')) return 'has U+0000 [MQTT-1.5.3-2]';
  if (text.includes('\ufffd')) return 'is not UTF-8 [MQTT-1.5.3-1]';
  return null;
}

/** Names that start with $ belong to the broker; a filter that starts with a wildcard does not match them [MQTT-4.7.2-1]. */
export function isReserved(topic: string): boolean {
  return topic.charCodeAt(0) === DOLLAR;
}

/** Whether the filter, given as its levels, matches the name. */
export function matchesTopic(filter: readonly string[], topic: string): boolean {
  if (isReserved(topic) && isWildcard(filter[0])) return false;
  let start = 0;
  for (const level of filter) {
    if (level === '#') return true;
    if (start > topic.length) return false;
    let end = topic.indexOf('/', start);
    if (end < 0) end = topic.length;
    if (level !== '+' && (end - start !== level.length || !topic.startsWith(level, start))) return false;
    start = end + 1;
  }
  return start > topic.length;
}

/** Whether every name that `filter` matches is also matched by `rule`; both given as levels. */
export function coversFilter(rule: readonly string[], filter: readonly string[]): boolean {
  if (isReserved(filter[0] ?? '') && isWildcard(rule[0])) return false;
  for (let i = 0; i < rule.length; i++) {
    const level = rule[i]!;
    if (level === '#') return true;
    if (i >= filter.length || filter[i] === '#') return false;
    if (level !== '+' && level !== filter[i]) return false;
  }
  return rule.length === filter.length;
}

function isWildcard(level: string | undefined): boolean {
  return level === '+' || level === '#';
}

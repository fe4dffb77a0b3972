/**
 * The streams of a configuration: from what the user wrote to `Stream`s, with everything that cannot work reported.
 * Names in `tags` are payload fields; a name in `key` or `identity` is a tag where there is one of that name, otherwise
 * a payload field.
 */
import { basename } from 'node:path';
import {
  type ModelPlan,
  makeWindow,
  parseTemplate,
  type ScorePlan,
  type Stream,
  type TopicTemplate,
  UNDERSTOOD_METRICS,
  UNDERSTOOD_SUFFIX,
  type UnderstandPlan,
  type WindowSize,
} from '../stream.ts';
import { formatDuration } from '../units.ts';
import { checkDerived, checkDistinct, readRanges, readRates } from './build-values.ts';
import { join } from './document.ts';
import { nearestName, type Report, show } from './report.ts';
import type { StreamSettings } from './schema.ts';

export type StreamsSettings = Readonly<Record<string, StreamSettings>>;

export interface StreamContext {
  readonly report: Report;
  readonly topicLevels: number;
  /** Resolves the path of a file and has it looked for. */
  readonly fileAt: (pointer: string, path: string) => string;
}

/** Tag names that rows use for themselves in the store. */
const RESERVED_TAGS = ['metric', 'window', 'time'];
/** Running values of stream S are written as S_live. */
const LIVE_SUFFIX = '_live';
/** Scores of the windows of stream S are written as S_scores. */
const SCORES_SUFFIX = '_scores';
const DEFAULT_KEY = 'device';

const NO_TOPIC: TopicTemplate = { text: '', filter: '', captures: [], levels: [] };

export function buildStreams(settings: StreamsSettings, context: StreamContext): Record<string, Stream> {
  const streams: Record<string, Stream> = Object.create(null);
  for (const [name, written] of Object.entries(settings)) {
    streams[name] = buildStream(name, written, join('/streams', name), context);
  }
  for (const stream of Object.values(streams)) {
    if (!stream.understand) continue;
    const { into } = stream.understand;
    if (streams[into]) {
      const message = `is the name of what is understood of the stream ${stream.name}`;
      const involved = [join(join('/streams', stream.name), 'understand')];
      context.report.mistake(join('/streams', into), { message, value: into, atKey: true, involved });
    } else streams[into] = understoodStream(stream, into);
  }
  checkOverlaps(Object.values(streams), context.report);
  return streams;
}

function buildStream(name: string, settings: StreamSettings, at: string, context: StreamContext): Stream {
  const { report, fileAt } = context;
  const { schema, identity, time, sequence, tags, metrics, enrich, format, retain, compression, distinct } = settings;
  const place = (...keys: (string | number)[]) => keys.reduce<string>(join, at);
  const taken = [LIVE_SUFFIX, SCORES_SUFFIX].find((suffix) => name.endsWith(suffix));
  if (taken !== undefined) {
    const message = `a name that ends in ${taken} is kept for ${taken === LIVE_SUFFIX ? 'running values' : 'scores'}`;
    report.mistake(at, { message, value: name, atKey: true, goOn: true });
  }
  const topic = readTopic(settings.topic, place('topic'), context);
  checkFormat(settings, topic, at, report);
  checkTags(settings, topic, at, report);
  checkNames(metrics, 'metric', place('metrics'), report);
  checkNames(identity, 'field', place('identity'), report);
  checkNames(distinct, 'field', place('distinct'), report);
  checkDistinct(settings, place('distinct'), report);
  const key = readKey(settings, topic, at, report);
  checkEnrichment(settings, topic, place('enrich'), report);
  const derive = checkDerived(settings, place('derive'), report);
  const range = readRanges(settings, place('range'), report);
  const rate = readRates(settings, place('rate'), report);
  if (metrics.length === 0 && !report.isWritten(place('metrics'))) {
    const message = 'has no metrics, so its windows only count events';
    report.warn(at, { message, atKey: true, wayOut: 'list them, or write metrics: [] if that is meant' });
  }
  if (time === null && identity.length === 0) {
    const message = 'has neither time nor identity, so a message that a device sends twice counts twice';
    report.warn(at, { message, atKey: true, involved: [place('time'), place('identity')] });
  }
  const windows = readWindows(settings.windows, place('windows'), report);
  return {
    name,
    topic,
    format,
    ...(format === 'line-protocol' ? { precision: settings.precision } : undefined),
    ...(compression === 'none' ? undefined : { compression }),
    schema: schema === null ? null : fileAt(place('schema'), schema),
    key,
    identity,
    time,
    sequence,
    ...readTrace(settings, place('trace'), report),
    tags,
    metrics: [...metrics, ...Object.keys(derive)],
    ...(distinct.length > 0 ? { distinct } : undefined),
    ...(Object.keys(derive).length > 0 ? { derive } : undefined),
    ...(Object.keys(range).length > 0 ? { range } : undefined),
    ...(Object.keys(rate).length > 0 ? { rate } : undefined),
    enrich: enrich && { ...enrich, registry: fileAt(place('enrich', 'registry'), enrich.registry) },
    windows,
    score: readScore(settings, windows, place('score'), context),
    ...(settings.understand
      ? { understand: readUnderstand(settings.understand, name, place('understand'), context) }
      : undefined),
    retain,
  };
}

function readTrace({ trace }: StreamSettings, at: string, report: Report): Pick<Stream, 'trace'> {
  if (trace === null) return {};
  if (trace.field === null && !trace.make) {
    const wayOut = 'name the field that brings them, or leave trace: out';
    report.mistake(at, { message: 'neither takes trace contexts from a field nor makes them', atKey: true, wayOut });
  }
  return { trace };
}

function readUnderstand(
  written: NonNullable<StreamSettings['understand']>,
  stream: string,
  at: string,
  { fileAt }: StreamContext,
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
function understoodStream({ name, key, topic, tags, enrich, windows }: Stream, into: string): Stream {
  return {
    name: into,
    topic: NO_TOPIC,
    format: 'json',
    schema: null,
    key,
    identity: [],
    time: null,
    sequence: null,
    tags: [...new Set([...topic.captures, ...tags, ...(enrich?.tags ?? []), 'agent', 'intent'])],
    metrics: UNDERSTOOD_METRICS,
    enrich: null,
    windows,
    score: null,
    madeFrom: name,
    retain: false,
  };
}

function readTopic(text: string, at: string, { report, topicLevels }: StreamContext): TopicTemplate {
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
function checkFormat({ format, precision }: StreamSettings, topic: TopicTemplate, at: string, report: Report): void {
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

/** Each tag has one source and a name that the store can keep. */
function checkTags(settings: StreamSettings, topic: TopicTemplate, at: string, report: Report): void {
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

function checkNames(names: readonly string[], what: string, at: string, report: Report): void {
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

function readKey({ key, tags, enrich }: StreamSettings, topic: TopicTemplate, at: string, report: Report): string {
  const named = [...topic.captures, ...tags, ...(enrich?.tags ?? [])];
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

function checkEnrichment(
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

/** Ascending; the smallest is the base pane, and all others are merged from it. */
function readWindows(settings: StreamSettings['windows'], at: string, report: Report): WindowSize[] {
  const written = settings.map(({ size, every }, i) => ({ ...makeWindow(size, every ?? size), at: join(at, i) }));
  const usable = written.filter((window) => window.sizeMs > 0 && window.everyMs > 0 && !report.isBroken(window.at));
  usable.sort((a, b) => a.sizeMs - b.sizeMs || b.everyMs - a.everyMs);
  const base = usable[0];
  usable.forEach((window, i) => {
    const { sizeMs, everyMs, label } = window;
    const size = formatDuration(sizeMs);
    const every = formatDuration(everyMs);
    const value = label;
    if (i > 0 && usable[i - 1]!.label === label) {
      report.mistake(window.at, { message: `the window ${label} is listed twice`, value });
    } else if (sizeMs % everyMs !== 0) {
      report.mistake(window.at, {
        message: `${size} is not a multiple of ${every}, the distance between starts`,
        value,
      });
    } else if (base && window === base && sizeMs !== everyMs) {
      const wayOut = `list ${every} too`;
      const message = 'the smallest window must be a plain one: all others are merged from it';
      report.mistake(window.at, { message, value, wayOut });
    } else if (base && (sizeMs % base.sizeMs !== 0 || everyMs % base.sizeMs !== 0)) {
      const part = sizeMs % base.sizeMs !== 0 ? size : `the distance ${every}`;
      const message = `${part} is not a multiple of ${formatDuration(base.sizeMs)}, the smallest window, from which it is merged`;
      report.mistake(window.at, { message, value, involved: [base.at] });
    }
  });
  return usable.map(({ label, sizeMs, everyMs }) => ({ label, sizeMs, everyMs }));
}

/** Null: nothing is scored. */
function readScore(
  { score, metrics: written, derive }: StreamSettings,
  windows: readonly WindowSize[],
  at: string,
  { report, fileAt }: StreamContext,
): ScorePlan | null {
  const [smallest] = windows;
  if (score === null || smallest === undefined) return null;
  const metrics = [...written, ...Object.keys(derive)];
  const label = score.window ?? smallest.label;
  const labels = windows.map((window) => window.label);
  if (!labels.includes(label)) {
    report.mistake(join(at, 'window'), {
      message: `${show(label)} is not one of the windows`,
      value: label,
      expected: `one of ${labels.join(', ')}`,
      nearest: nearestName(label, labels),
    });
  }
  score.metrics.forEach((metric, i) => {
    if (metrics.includes(metric)) return;
    report.mistake(join(join(at, 'metrics'), i), {
      message: `${show(metric)} is not one of the metrics`,
      value: metric,
      nearest: nearestName(metric, metrics),
    });
  });
  const { statistic, threshold, ahead, model } = score;
  return {
    window: label,
    metrics: score.metrics.length > 0 ? score.metrics : metrics,
    statistic,
    threshold,
    ahead,
    ...(model && { model: readModel(model, join(at, 'model'), fileAt) }),
  };
}

function readModel(
  { name, file, windows }: NonNullable<NonNullable<StreamSettings['score']>['model']>,
  at: string,
  fileAt: StreamContext['fileAt'],
): ModelPlan {
  const plain = basename(file)
    .replace(/\.onnx$/i, '')
    .replace(/[^A-Za-z0-9_.-]/g, '_');
  return { name: name ?? (plain || 'model'), file: fileAt(join(at, 'file'), file), windows };
}

/** Two streams must not have the same topics; where one is the more special, it wins, and that is said. */
function checkOverlaps(streams: readonly Stream[], report: Report): void {
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

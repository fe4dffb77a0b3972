/**
 * The streams of a configuration: from what the user wrote to `Stream`s, with everything that cannot work reported. What
 * is between streams is told here; what is within one, in the files of its topics, names, values and windows.
 */
import type { Stream } from '../stream.ts';
import type { FileAt } from './build.ts';
import { readUnderstand, understoodStream } from './build-understand.ts';
import { checkDerived, checkDistinct, readRanges, readRates } from './build-values.ts';
import { readScore, readWindows } from './build-windows.ts';
import { join } from './document.ts';
import type { Report } from './report.ts';
import type { StreamSettings } from './schema.ts';
import { checkEnrichment, checkNames, checkTags, readKey } from './stream-names.ts';
import { checkFormat, checkOverlaps, readTopic } from './stream-topics.ts';

export type StreamsSettings = Readonly<Record<string, StreamSettings>>;

export interface StreamContext {
  readonly report: Report;
  readonly topicLevels: number;
  readonly fileAt: FileAt;
}

/** Running values of stream S are written as S_live. */
const LIVE_SUFFIX = '_live';
/** Scores of the windows of stream S are written as S_scores. */
const SCORES_SUFFIX = '_scores';

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
  const { report, topicLevels, fileAt } = context;
  const { schema, identity, time, sequence, tags, metrics, enrich, format, retain, compression, distinct } = settings;
  const place = (...keys: (string | number)[]) => keys.reduce<string>(join, at);
  checkName(name, at, report);
  const topic = readTopic(settings.topic, place('topic'), topicLevels, report);
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
  warnOfDefaults(settings, at, report);
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
    score: readScore(settings, windows, place('score'), report, fileAt),
    ...(settings.understand
      ? { understand: readUnderstand(settings.understand, name, place('understand'), fileAt) }
      : undefined),
    retain,
  };
}

function checkName(name: string, at: string, report: Report): void {
  const taken = [LIVE_SUFFIX, SCORES_SUFFIX].find((suffix) => name.endsWith(suffix));
  if (taken === undefined) return;
  const message = `a name that ends in ${taken} is kept for ${taken === LIVE_SUFFIX ? 'running values' : 'scores'}`;
  report.mistake(at, { message, value: name, atKey: true, goOn: true });
}

/** What works, but is seldom meant. */
function warnOfDefaults({ metrics, time, identity }: StreamSettings, at: string, report: Report): void {
  if (metrics.length === 0 && !report.isWritten(join(at, 'metrics'))) {
    const message = 'has no metrics, so its windows only count events';
    report.warn(at, { message, atKey: true, wayOut: 'list them, or write metrics: [] if that is meant' });
  }
  if (time === null && identity.length === 0) {
    const message = 'has neither time nor identity, so a message that a device sends twice counts twice';
    report.warn(at, { message, atKey: true, involved: [join(at, 'time'), join(at, 'identity')] });
  }
}

function readTrace({ trace }: StreamSettings, at: string, report: Report): Pick<Stream, 'trace'> {
  if (trace === null) return {};
  if (trace.field === null && !trace.make) {
    const wayOut = 'name the field that brings them, or leave trace: out';
    report.mistake(at, { message: 'neither takes trace contexts from a field nor makes them', atKey: true, wayOut });
  }
  return { trace };
}

/**
 * A stream: a named kind of reading. This file holds what the configuration says about one, after checking and with
 * every default filled in, and the two small languages in it: topic templates and window sizes.
 */
import { formatDuration, parseDurationMs } from './units.ts';

/** In the order in which they are named to users. One file each in inspect/decode/. */
export const PAYLOAD_FORMATS = ['json', 'senml', 'sparkplug-b', 'cbor', 'msgpack', 'line-protocol', 'lorawan'] as const;
export type PayloadFormat = (typeof PAYLOAD_FORMATS)[number];
/** Units of the timestamps of line protocol. */
export const PRECISIONS = ['ns', 'us', 'ms', 's'] as const;

export interface Enrichment {
  /** CSV file with a header line, path resolved against the configuration file. */
  readonly registry: string;
  /** Column of the registry and tag of the reading that are compared. */
  readonly by: string;
  /** Columns that become tags. */
  readonly tags: readonly string[];
  /** Metric name -> column whose number the metric is multiplied by. */
  readonly scale: Readonly<Record<string, string>>;
  /** What becomes of a reading whose device the registry does not list. */
  readonly unknown: 'accept' | 'refuse';
}

/** What of a window can be watched. */
export const SCORE_STATISTICS = ['mean', 'min', 'max', 'last', 'sum', 'stddev', 'p50', 'p95', 'p99'] as const;

/** Which windows of a stream are scored, and how: see score/neighbours.ts. */
export interface ScorePlan {
  /** Label of one of the stream's windows. */
  readonly window: string;
  readonly metrics: readonly string[];
  /** What is watched; the windows of a stream without metrics are watched by their count. */
  readonly statistic: (typeof SCORE_STATISTICS)[number];
  /** Scores from here on are alarms. */
  readonly threshold: number;
  /** Windows that are forecast. */
  readonly ahead: number;
  /** Absent: none but ours. */
  readonly model?: ModelPlan;
}

/** A model that the user brings: score/model-scoring.ts. */
export interface ModelPlan {
  /** As it stands in its scores. */
  readonly name: string;
  /** An ONNX file. */
  readonly file: string;
  /** The newest so many windows are what it is asked about. */
  readonly windows: number;
}

/** Where the trace context of a reading comes from: traceparent.ts. */
export interface TracePlan {
  /** Payload field with a traceparent; null = none. */
  readonly field: string | null;
  /** A message that brings none is given one. */
  readonly make: boolean;
}

/** How the messages of a stream are understood: see understand/message.ts. */
export interface UnderstandPlan {
  /** Name of the stream of what is understood. */
  readonly into: string;
  /** Payload fields. */
  readonly text: string;
  readonly agent: string;
  readonly from: string;
  /** Path of the labelled file, resolved. */
  readonly intents: string;
  readonly urgentIntents: readonly string[];
  /** In lower case. */
  readonly urgentWords: readonly string[];
  readonly forgetMs: number;
  /** Remembered for each partition. */
  readonly conversations: number;
  readonly agents: number;
}

/** What is added to the name of a stream for what is understood of its messages. */
export const UNDERSTOOD_SUFFIX = '.understood';
export const UNDERSTOOD_METRICS = ['sentiment', 'urgency', 'first_response'] as const;

export interface Stream {
  readonly name: string;
  readonly topic: TopicTemplate;
  readonly format: PayloadFormat;
  /** Line protocol; default: ns. */
  readonly precision?: (typeof PRECISIONS)[number];
  /** gzip: payloads may be packed. Default: none is. */
  readonly compression?: 'none' | 'gzip';
  /** Path of the JSON Schema file, resolved; null = any object. */
  readonly schema: string | null;
  /** Tag or payload field the reading is ordered by; partitioned, too, where it is a tag: journal/spread.ts. */
  readonly key: string;
  /** Fields whose values together make two messages the same event; empty = series + time. */
  readonly identity: readonly string[];
  /** Payload field with the event time; null = the gateway's clock. */
  readonly time: string | null;
  readonly sequence: string | null;
  /** Absent: no trace contexts. */
  readonly trace?: TracePlan;
  /** Payload fields that become tags, beside the topic's captures. */
  readonly tags: readonly string[];
  /** Payload fields that are aggregated; empty = the windows count events. Dots reach into objects: `env.temperature`. */
  readonly metrics: readonly string[];
  /** Fields and tags whose different values are counted in every window. Each gives rows of its own: `distinctMetric`. */
  readonly distinct?: readonly string[];
  readonly enrich: Enrichment | null;
  /** Metric -> expression (expression.ts) over the metrics before it; these metrics are the last ones of `metrics`. */
  readonly derive?: Readonly<Record<string, string>>;
  /** Metric -> the values that it may have, after scaling. */
  readonly range?: Readonly<Record<string, Range>>;
  /** Metric -> how fast it may change. */
  readonly rate?: Readonly<Record<string, Rate>>;
  /** Ascending by size. The first is the base pane; all others are multiples of it. */
  readonly windows: readonly WindowSize[];
  /** Null: nothing is scored. */
  readonly score: ScorePlan | null;
  /** Of streams of messages. */
  readonly understand?: UnderstandPlan;
  /** The stream whose messages this one is made from; no topic leads to it. */
  readonly madeFrom?: string;
  /** Accepted readings are also retained, so that a local MQTT subscriber gets the last one at once. */
  readonly retain: boolean;
}

/** The metric of the rows whose `count` is the number of different values of a field. */
export function distinctMetric(field: string): string {
  return `distinct_${field}`;
}

/** The metrics that rows of the stream may have; a stream without metrics also has rows with the metric ''. */
export function rowMetrics({ metrics, distinct = [] }: Stream): string[] {
  return [...metrics, ...distinct.map(distinctMetric)];
}

/** The tags that rows of the stream have; those of the registry, where it knows the device. */
export function rowTags({
  topic,
  tags,
  enrich,
}: {
  readonly topic: Pick<TopicTemplate, 'captures'>;
  readonly tags: readonly string[];
  readonly enrich: Pick<Enrichment, 'tags'> | null;
}): string[] {
  return [...topic.captures, ...tags, ...(enrich?.tags ?? [])];
}

export interface Range {
  /** -Infinity, Infinity: no limit on that side. */
  readonly min: number;
  readonly max: number;
  /** A value outside: the reading is refused, or goes on without it. */
  readonly outside: 'refuse' | 'drop';
}

export interface Rate {
  /** Largest change, either way, in `perMs` of event time. */
  readonly max: number;
  readonly perMs: number;
  /** A value that changed faster: the reading is refused, or goes on without it. */
  readonly beyond: 'refuse' | 'drop';
}

export interface WindowSize {
  /** `10s`, or `5m_1m` for five minutes every minute: a tag value, a part of a bucket's name, a query parameter. */
  readonly label: string;
  readonly sizeMs: number;
  /** Distance between starts; equal to sizeMs for tumbling windows. */
  readonly everyMs: number;
}

/** The window that `label` names, or null. */
export function parseWindow(label: string): WindowSize | null {
  const [size = '', every] = label.split('_');
  const sizeMs = parseDurationMs(size);
  const everyMs = every === undefined ? sizeMs : parseDurationMs(every);
  if (!sizeMs || !everyMs || sizeMs % everyMs !== 0) return null;
  return makeWindow(sizeMs, everyMs);
}

export function makeWindow(sizeMs: number, everyMs = sizeMs): WindowSize {
  const label = sizeMs === everyMs ? formatDuration(sizeMs) : `${formatDuration(sizeMs)}_${formatDuration(everyMs)}`;
  return { label, sizeMs, everyMs };
}

/**
 * `sensors/{site}/{device}/environment`: a level in braces matches any one non-empty level and captures it as a tag.
 * A level `+` matches any one non-empty level and captures nothing. The text of a template and what it matches follow
 * MQTT 3.1.1 section 4.7; there are no other wildcards.
 */
export interface TopicTemplate {
  readonly text: string;
  /** The MQTT subscription filter that covers it: `sensors/+/+/environment`. */
  readonly filter: string;
  /** Capture names in order of appearance. */
  readonly captures: readonly string[];
  readonly levels: readonly TemplateLevel[];
}

/** A capture of null is any level, and no tag. */
export type TemplateLevel = { readonly literal: string } | { readonly capture: string | null };

/** A template, or a sentence that says what is wrong with the text. */
export function parseTemplate(text: string): TopicTemplate | string {
  if (text === '') return 'a topic template must not be empty';
  const levels: TemplateLevel[] = [];
  const captures: string[] = [];
  for (const level of text.split('/')) {
    const capture = /^\{([A-Za-z_][A-Za-z0-9_]*)\}$/.exec(level)?.[1];
    if (capture !== undefined) {
      if (captures.includes(capture)) return `the capture {${capture}} appears twice`;
      captures.push(capture);
      levels.push({ capture });
    } else if (level === '+') {
      levels.push({ capture: null });
    } else if (/[{}+#\0]/.test(level)) {
      return `the level "${level}" is neither plain text nor one capture such as {device} nor + alone; # is not used here`;
    } else {
      levels.push({ literal: level });
    }
  }
  if (text.startsWith('$')) return 'a topic that starts with $ is reserved for the broker';
  const filter = levels.map((level) => ('literal' in level ? level.literal : '+')).join('/');
  return { text, filter, captures, levels };
}

/** The captured values by name, or null when the topic does not match. Linear in the topic's length. */
export function matchTopic(template: TopicTemplate, topic: string): Record<string, string> | null {
  const parts = topic.split('/');
  if (parts.length !== template.levels.length) return null;
  const captured: Record<string, string> = {};
  for (let i = 0; i < parts.length; i++) {
    const level = template.levels[i]!;
    const part = parts[i]!;
    if ('literal' in level) {
      if (level.literal !== part) return null;
    } else {
      if (part === '') return null;
      if (level.capture !== null) captured[level.capture] = part;
    }
  }
  return captured;
}

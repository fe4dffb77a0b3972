/**
 * What would become of a message, stage by stage, without sending it: the same inspector, partitioner and window
 * arithmetic as a running gateway. The message counts as received now.
 */
import type { Config } from '../config.ts';
import type { Outcome } from '../errors.ts';
import { loadAssets } from '../inspect/assets.ts';
import { checkCaptures } from '../inspect/enrich.ts';
import { createInspector, DEFAULT_LIMITS } from '../inspect/inspect.ts';
import { createRouter } from '../inspect/route.ts';
import { partitionOf } from '../journal/kafka-partition.ts';
import { spreadOf, spreadText } from '../journal/spread.ts';
import type { Inspection, Message, Reading, Refusal, RefusalCode } from '../reading.ts';
import { windowStarts } from '../rollup/window.ts';
import { matchTopic, type Stream } from '../stream.ts';
import { formatDuration } from '../units.ts';

/** In the order in which a message passes them. */
export const STAGES = [
  'topic',
  'decode',
  'schema',
  'time',
  'tags',
  'metrics',
  'sequence',
  'identity',
  'series',
] as const;
export type Stage = (typeof STAGES)[number];

export interface Trace {
  readonly topic: string;
  readonly bytes: number;
  readonly receivedMs: number;
  /** Null: no stream has a topic that matches. */
  readonly stream: string | null;
  readonly template: string | null;
  readonly captures: Readonly<Record<string, string>>;
  readonly accepted: boolean;
  readonly refusal: {
    readonly code: RefusalCode;
    readonly reason: string;
    readonly field: string;
    readonly stage: Stage;
  } | null;
  readonly readings: readonly TracedReading[];
}

export interface TracedReading {
  readonly key: string;
  readonly partition: number;
  readonly timeMs: number;
  readonly tags: Readonly<Record<string, string>>;
  readonly values: Readonly<Record<string, number>>;
  readonly sequence: number | null;
  readonly identity: string | null;
  readonly windows: readonly { readonly window: string; readonly startMs: number; readonly endMs: number }[];
  /** Its pane no longer accepts it: it would be kept as late, and counted by a repair. */
  readonly late: boolean;
}

/** The function that looks into a message: `Inspector.inspect`. */
export type Inspect = (message: Message) => Inspection;

/** An inspector with the limits of a gateway of this configuration. */
export async function loadInspector(config: Config): Promise<Outcome<Inspect>> {
  const streams = Object.values(config.streams);
  const assets = await loadAssets(streams, DEFAULT_LIMITS);
  if (!assets.ok) return assets;
  const { skewMs, maxSeries } = config.rollup;
  const wellFormed = config.kafka?.schemaRegistry?.format === 'avro';
  const payloadBytes = config.mqtt.limits.packetBytes;
  const limits = { ...DEFAULT_LIMITS, skewMs, maxSeries, payloadBytes, wellFormed };
  const inspector = createInspector(streams, assets.value, limits);
  return { ok: true, value: (message) => inspector.inspect(message) };
}

export function trace(config: Config, inspect: Inspect, topic: string, payload: Uint8Array, nowMs: number): Trace {
  const inspection = inspect({ topic, payload, client: '', receivedMs: nowMs });
  const stream = createRouter(Object.values(config.streams))(topic);
  const captures = stream ? (matchTopic(stream.topic, topic) ?? {}) : {};
  return {
    topic,
    bytes: payload.length,
    receivedMs: nowMs,
    stream: stream?.name ?? null,
    template: stream?.topic.text ?? null,
    captures,
    accepted: inspection.kind === 'readings',
    refusal: inspection.kind === 'refused' ? traceRefusal(inspection.refusal, captures) : null,
    readings:
      inspection.kind === 'readings'
        ? inspection.readings.map((each) => traceReading(config, stream!, each, nowMs))
        : [],
  };
}

function traceReading(config: Config, stream: Stream, reading: Reading, receivedMs: number): TracedReading {
  const { key, timeMs, tags, values, sequence = null, identity = null } = reading;
  const windows = stream.windows.flatMap(({ label, sizeMs, everyMs }) =>
    // The window that covers the one millisecond of the reading.
    windowStarts({ sizeMs, everyMs }, timeMs, timeMs + 1).map((startMs) => ({
      window: label,
      startMs,
      endMs: startMs + sizeMs,
    })),
  );
  const pane = windows.find(({ window }) => window === stream.windows[0]!.label)!;
  return {
    key,
    partition: config.kafka ? partitionOf(spreadText(reading, spreadOf(config.streams)), config.kafka.partitions) : 0,
    timeMs,
    tags,
    values,
    sequence,
    identity,
    windows,
    late: pane.endMs + config.rollup.graceMs <= receivedMs,
  };
}

const STAGE_OF: Readonly<Record<RefusalCode, Stage>> = {
  'unknown-topic': 'topic',
  empty: 'decode',
  'not-utf8': 'decode',
  'too-large': 'decode',
  'too-deep': 'decode',
  malformed: 'decode',
  'forbidden-key': 'decode',
  'no-birth': 'decode',
  schema: 'schema',
  'time-missing': 'time',
  'time-invalid': 'time',
  'time-future': 'time',
  'tag-invalid': 'tags',
  'unknown-device': 'tags',
  'number-invalid': 'metrics',
  'number-out-of-range': 'metrics',
  'sequence-invalid': 'sequence',
  'identity-missing': 'identity',
  'too-many-series': 'series',
  'log-refused': 'series',
  'store-refused': 'series',
};

function traceRefusal({ code, reason, field }: Refusal, captures: Trace['captures']): NonNullable<Trace['refusal']> {
  // What is wrong with a topic's levels is found before the payload is looked at.
  const inTopic = code === 'tag-invalid' && checkCaptures(captures, DEFAULT_LIMITS.tagBytes) !== null;
  return { code, reason, field, stage: inTopic ? 'topic' : STAGE_OF[code] };
}

/** One line for each stage that the message passed, and the one at which it was refused. */
export function describeTrace(traced: Trace, config: Config): string[] {
  const { refusal, readings } = traced;
  const stream = traced.stream === null ? null : config.streams[traced.stream]!;
  const last = refusal === null ? STAGES.length : STAGES.indexOf(refusal.stage);
  const line = (stage: string, text: string) => `${stage.padEnd(9)} ${printable(text)}`;
  const lines = [line('message', `${traced.topic}, ${traced.bytes} bytes, received ${iso(traced.receivedMs)}`)];
  const passed: Partial<Record<Stage, string>> = {};
  if (stream) {
    passed.topic = `stream ${stream.name}, ${stream.topic.text}${named(traced.captures, ': ')}`;
    passed.decode = readings.length === 1 ? `${stream.format}: ok` : `${stream.format}: ${readings.length} readings`;
    if (refusal) passed.decode = `${stream.format}: ok`;
    passed.schema = stream.schema === null ? 'none' : `${stream.schema}: matches`;
    if (refusal) passed.time = stream.time === null ? "the gateway's clock" : `${stream.time}: ok`;
  }
  for (const stage of STAGES.slice(0, last)) if (passed[stage]) lines.push(line(stage, passed[stage]));
  if (refusal) {
    lines.push(
      line(refusal.stage, refusal.reason),
      line('REFUSED', `${refusal.code}: kept whole as a dead letter, acknowledged`),
    );
    return lines;
  }
  readings.slice(0, MAX_DESCRIBED).forEach((reading, i) => {
    if (readings.length > 1) lines.push(`reading ${i + 1} of ${readings.length}`);
    lines.push(...describeReading(reading, config, stream!).map(([stage, text]) => line(stage, text)));
  });
  if (readings.length > MAX_DESCRIBED) lines.push(`... and ${readings.length - MAX_DESCRIBED} more`);
  const none = 'no reading: acknowledged, nothing is counted';
  const count = readings.length === 1 ? '1 reading' : `${readings.length} readings`;
  lines.push(line('ACCEPTED', readings.length === 0 ? none : count));
  return lines;
}

const MAX_DESCRIBED = 10;

function describeReading(reading: TracedReading, config: Config, stream: Stream): [string, string][] {
  const { key, partition, timeMs, tags, values, sequence, identity, windows, late } = reading;
  const partitions = config.kafka?.partitions ?? 1;
  const absent = stream.metrics.filter((metric) => !Object.hasOwn(values, metric));
  const metrics = stream.metrics.length === 0 ? 'none: counted as an event' : named(values, '') || 'none of them';
  const lines: [string, string][] = [
    ['time', `${iso(timeMs)}, ${stream.time === null ? "the gateway's clock" : `from ${stream.time}`}`],
    ['tags', named(tags, '') || 'none'],
    ['metrics', `${metrics}${absent.length === 0 ? '' : `; not there: ${absent.join(', ')}`}`],
    ['key', `${key}: partition ${partition} of ${partitions}`],
  ];
  if (sequence !== null) lines.push(['sequence', String(sequence)]);
  if (identity !== null) lines.push(['identity', identity]);
  for (const { window, startMs, endMs } of windows)
    lines.push(['window', `${window.padEnd(7)} ${iso(startMs)} to ${iso(endMs)}`]);
  if (late) {
    const grace = formatDuration(config.rollup.graceMs);
    const then =
      config.rollup.repair === 'auto' ? 'a repair counts it a few minutes later' : 'it is kept as late, not counted';
    lines.push(['late', `its first window closed ${grace} after its end, before this was received: ${then}`]);
  }
  return lines;
}

/** A topic or a payload may hold what a terminal would obey. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function named(values: Readonly<Record<string, string | number>>, before: string): string {
  const text = Object.entries(values)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
  return text === '' ? '' : `${before}${text}`;
}

/** Event times may lie outside what a Date can say. */
function iso(timeMs: number): string {
  const date = new Date(timeMs);
  return Number.isNaN(date.getTime()) ? `${timeMs} ms` : date.toISOString();
}

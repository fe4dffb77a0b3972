/**
 * From a message to readings, or to a refusal with its reason. The whole of inspection, in this order: topic, bytes and
 * format, schema, time, tags and registry, key, metrics and what is made of them, sequence, identity, what is counted as
 * distinct, number of series, how fast metrics change. The first check that fails is the reason. `inspect` never throws on any
 * input, does no I/O, and reads no clock: the same messages in the same order give the same answers, byte for byte. A batch
 * (an array of objects) is checked as a whole: all or nothing; a schema applies to each element.
 *
 * An inspector holds its schemas and registries for good. To reload, make a new one from new assets and the same
 * `SeriesMemory` and `BirthMemory`, and swap; see watch.ts.
 *
 * Streams without a time field: the event time is the received stamp, and one millisecond more than the series'
 * previous one while it would not be greater. A series that so runs ahead of the clock by more than the accepted skew
 * is refused as `time-future`. A redelivery of such a message is a new reading unless the stream names an identity.
 */
import type { Inspection, Message, Reading } from '../reading.ts';
import { matchTopic, type Stream } from '../stream.ts';
import { NO_TRACES, parseTraceparent, type TraceSource } from '../traceparent.ts';
import { BirthMemory } from './births.ts';
import type { DecodeLimits, Document } from './decode/document.ts';
import { readDistinct } from './distinct.ts';
import { checkCaptures, type Tagging, tagReading } from './enrich.ts';
import { type Field, readField } from './field.ts';
import { readIdentity } from './identity.ts';
import { readMetrics } from './metric.ts';
import { type Assets, makePlan, type Plan } from './plan.ts';
import { checkRates, RateUndo } from './rate.ts';
import { Problem, refuse, show } from './refusal.ts';
import { createRouter, type Router } from './route.ts';
import { type Series, type SeriesLimits, SeriesMemory } from './series.ts';
import { tagText } from './tag.ts';
import { parseTimeMs, unitHint } from './time.ts';

export interface InspectLimits extends DecodeLimits, SeriesLimits {
  /** How far ahead of the received stamp an event time may be. */
  readonly skewMs: number;
  /** UTF-8 bytes of one tag's value, and of a key. */
  readonly tagBytes: number;
  /** A longer identity is kept as its hash. */
  readonly identityBytes: number;
  /** Topics whose stream and tags are remembered, about; more only costs time. */
  readonly topics: number;
  /** Half of a surrogate pair is refused where a text becomes part of a reading: JSON can carry it, UTF-8 and Avro cannot. */
  readonly wellFormed: boolean;
}

export const DEFAULT_LIMITS: InspectLimits = {
  payloadBytes: 256 * 1024,
  depth: 64,
  batchReadings: 1_000,
  unpackedBytes: 2 ** 20,
  maxSeries: 100_000,
  seriesIdleMs: 24 * 3_600_000,
  skewMs: 60_000,
  tagBytes: 256,
  identityBytes: 256,
  topics: 20_000,
  wellFormed: false,
};

export interface Inspector {
  inspect(message: Message): Inspection;
}

/** What is known of a topic before any payload. */
interface Source {
  readonly plan: Plan;
  readonly captures: Readonly<Record<string, string>>;
  /** Null where tags depend on the payload. */
  readonly tagging: Tagging | Problem | null;
}

/** A reading that has passed everything but the checks that need memory. */
interface Candidate {
  readonly reading: { -readonly [K in keyof Reading]: Reading[K] };
  readonly tagging: Tagging;
}

const NO_DOCUMENT: Document = {};

export function createInspector(
  streams: readonly Stream[],
  assets: Assets,
  limits: InspectLimits = DEFAULT_LIMITS,
  memory: SeriesMemory = new SeriesMemory(limits),
  births: BirthMemory = new BirthMemory(),
  traces: TraceSource = NO_TRACES,
): Inspector {
  return new StreamInspector(streams, assets, limits, memory, births, traces);
}

class StreamInspector implements Inspector {
  readonly #limits: InspectLimits;
  readonly #traces: TraceSource;
  readonly #memory: SeriesMemory;
  readonly #route: Router;
  readonly #plans: ReadonlyMap<Stream, Plan>;
  /** Two generations: when `#recent` is full it becomes `#older`, and what nobody asked for is gone the next time. */
  #recent = new Map<string, Source>();
  #older = new Map<string, Source>();

  constructor(
    streams: readonly Stream[],
    assets: Assets,
    limits: InspectLimits,
    memory: SeriesMemory,
    births: BirthMemory,
    traces: TraceSource,
  ) {
    this.#limits = limits;
    this.#traces = traces;
    this.#memory = memory;
    this.#route = createRouter(streams);
    this.#plans = new Map(streams.map((stream) => [stream, makePlan(stream, assets, births)]));
  }

  inspect(message: Message): Inspection {
    const source = this.#recent.get(message.topic) ?? this.#findSource(message.topic);
    if (source === null) {
      const problem = new Problem('unknown-topic', '', `no stream has a topic that matches ${show(message.topic)}`);
      return { kind: 'refused', refusal: refuse(message, '', problem) };
    }
    const { plan } = source;
    const tracing = plan.trace === null ? null : new Tracing(plan.trace, this.#traces);
    const readings = this.#read(source, message, tracing);
    if (readings instanceof Problem) {
      const problem = tracing === null || readings.trace !== undefined ? readings : readings.traced(tracing.make());
      const refusal = refuse(message, plan.stream.name, problem);
      return { kind: 'refused', refusal: plan.schema === null ? refusal : { ...refusal, schema: plan.schema.version } };
    }
    return { kind: 'readings', readings };
  }

  #read(source: Source, message: Message, tracing: Tracing | null): Reading[] | Problem {
    const { receivedMs } = message;
    if (source.tagging instanceof Problem && source.tagging.code === 'tag-invalid') return source.tagging;
    const decoded = source.plan.decode(message.payload, this.#limits, message);
    if (decoded instanceof Problem) return decoded;
    const { length } = decoded.documents;
    // of its length from the start: one that grows makes room for seventeen first
    const candidates = new Array<Candidate>(length);
    for (let i = 0; i < length; i++) {
      const document = decoded.documents[i]!;
      const trace = tracing === null ? undefined : tracing.of(document);
      const candidate: Candidate | Problem = this.#build(
        source,
        document,
        decoded.texts[i]!,
        decoded.source,
        receivedMs,
      );
      if (candidate instanceof Problem) {
        const problem = candidate.traced(trace);
        return decoded.batch ? problem.within(i) : problem;
      }
      if (trace !== undefined) candidate.reading.trace = trace;
      if (decoded.batch) candidate.reading.batch = [i, length];
      candidates[i] = candidate;
    }
    return this.#admit(candidates, source.plan, message, decoded.batch);
  }

  #build(
    { plan, captures, tagging }: Source,
    document: Document,
    text: string,
    source: string | undefined,
    receivedMs: number,
  ): Candidate | Problem {
    const { stream, schema } = plan;
    const mismatch = schema === null ? null : schema(document);
    if (mismatch) return mismatch;
    const timeMs = plan.time === null ? 0 : readTimeMs(plan.time, document, receivedMs + this.#limits.skewMs);
    if (timeMs instanceof Problem) return timeMs;
    const { tagBytes, identityBytes } = this.#limits;
    const tagged = tagging ?? tagReading(plan, captures, document, tagBytes);
    if (tagged instanceof Problem) return tagged;
    const key = readKey(plan, tagged, document, tagBytes);
    if (key instanceof Problem) return key;
    const values = readMetrics(plan.metrics, document, tagged.factors, source);
    if (values instanceof Problem) return values;
    const unfit = plan.transform === null ? null : plan.transform(values);
    if (unfit) return unfit;
    const sequence = plan.sequence === null ? undefined : readSequence(plan.sequence, document);
    if (sequence instanceof Problem) return sequence;
    const identity =
      plan.identity.length === 0 ? undefined : readIdentity(plan.identity, document, tagged.tags, identityBytes);
    if (identity instanceof Problem) return identity;
    const { tags, tagsText } = tagged;
    const { name } = stream;
    const reading: Candidate['reading'] = {
      stream: name,
      key,
      timeMs,
      tags,
      tagsText,
      values,
      sequence,
      identity,
      payload: text,
    };
    if (schema !== null) reading.schema = schema.version;
    if (plan.distinct.length === 0) return { reading, tagging: tagged };
    const distinct = readDistinct(plan.distinct, document, tags, identityBytes, this.#limits.wellFormed);
    return distinct instanceof Problem ? distinct : { reading: { ...reading, distinct }, tagging: tagged };
  }

  /** Registers new series and gives times where the payload has none. On refusal no series of the batch stays. */
  #admit(candidates: readonly Candidate[], plan: Plan, message: Message, batch: boolean): Reading[] | Problem {
    const { receivedMs } = message;
    const rates = message.replayed ? null : plan.rates;
    const undo = rates === null ? null : new RateUndo();
    const added: Series[] = [];
    const readings = new Array<Reading>(candidates.length);
    for (let i = 0; i < candidates.length; i++) {
      const { reading, tagging } = candidates[i]!;
      const series = this.#seriesOf(tagging, plan, receivedMs, added);
      let problem =
        series === null
          ? new Problem('too-many-series', '', `there is no room for one more than ${this.#memory.size} series`)
          : plan.time === null
            ? this.#giveTime(reading, series, receivedMs)
            : null;
      if (rates !== null && problem === null) {
        problem = checkRates(rates, series!, reading.timeMs, reading.values, undo!);
      }
      if (problem) {
        undo?.putBack();
        for (const one of added) this.#memory.forget(one);
        problem = problem.traced(reading.trace);
        return batch ? problem.within(i) : problem;
      }
      readings[i] = reading;
    }
    return readings;
  }

  #seriesOf(tagging: Tagging, plan: Plan, receivedMs: number, added: Series[]): Series | null {
    if (tagging.series?.known) {
      tagging.series.seenMs = receivedMs;
      return tagging.series;
    }
    const size = this.#memory.size;
    const weight = Math.max(1, plan.metrics.length);
    const series = this.#memory.register(tagging.seriesName, weight, receivedMs);
    if (series !== null && this.#memory.size > size) added.push(series);
    tagging.series = series;
    return series;
  }

  #giveTime(reading: Candidate['reading'], series: Series, receivedMs: number): Problem | null {
    const timeMs = receivedMs > series.lastTimeMs ? receivedMs : series.lastTimeMs + 1;
    if (timeMs > receivedMs + this.#limits.skewMs) {
      const reason = 'the series has sent more than one reading a millisecond for too long, and none carries a time';
      return new Problem('time-future', '', reason);
    }
    series.lastTimeMs = timeMs;
    reading.timeMs = timeMs;
    return null;
  }

  #findSource(topic: string): Source | null {
    let source = this.#older.get(topic);
    if (source === undefined) {
      const stream = this.#route(topic);
      if (stream === null) return null;
      source = this.#makeSource(this.#plans.get(stream)!, matchTopic(stream.topic, topic)!);
      // What holds text of any length is not remembered.
      if (source.tagging instanceof Problem && source.tagging.code === 'tag-invalid') return source;
    }
    if (this.#recent.size >= this.#limits.topics) {
      this.#older = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(topic, source);
    return source;
  }

  #makeSource(plan: Plan, captures: Readonly<Record<string, string>>): Source {
    const { tagBytes } = this.#limits;
    const problem = checkCaptures(captures, tagBytes);
    if (problem) return { plan, captures, tagging: problem };
    return { plan, captures, tagging: plan.tagsByTopic ? tagReading(plan, captures, NO_DOCUMENT, tagBytes) : null };
  }
}

/** The trace contexts of one message: each reading's own, or one for all that bring none. */
class Tracing {
  readonly #plan: NonNullable<Plan['trace']>;
  readonly #source: TraceSource;
  #made: string | undefined;

  constructor(plan: NonNullable<Plan['trace']>, source: TraceSource) {
    this.#plan = plan;
    this.#source = source;
  }

  of(document: Document): string | undefined {
    const value = this.#plan.field === null ? undefined : readField(document, this.#plan.field);
    if (value === undefined || value === null) return this.make();
    const trace = parseTraceparent(value);
    this.#source.seen(trace === null ? 'invalid' : 'payload');
    return trace ?? this.make();
  }

  make(): string | undefined {
    if (!this.#plan.make || this.#made !== undefined) return this.#made;
    this.#made = this.#source.make();
    if (this.#made !== undefined) this.#source.seen('made');
    return this.#made;
  }
}

function readTimeMs(field: Field, document: Document, latestMs: number): number | Problem {
  const value = readField(document, field);
  if (value === undefined || value === null) {
    return new Problem('time-missing', field.pointer, `${field.pointer} is missing, but it is the event time`);
  }
  const timeMs = parseTimeMs(value);
  if (timeMs === null) {
    const expected = 'expected epoch milliseconds, epoch seconds or RFC 3339';
    const reason = `${show(value)} is not a time${unitHint(value)}; ${expected}`;
    return new Problem('time-invalid', field.pointer, `${field.pointer}: ${reason}`);
  }
  if (timeMs <= latestMs) return timeMs;
  const reason = `${show(value)} is more than the accepted skew ahead of the gateway's clock${unitHint(value)}`;
  return new Problem('time-future', field.pointer, `${field.pointer}: ${reason}`);
}

function readKey(plan: Plan, tagging: Tagging, document: Document, tagBytes: number): string | Problem {
  if ('field' in plan.key) {
    return tagText(readField(document, plan.key.field), plan.key.field.pointer, tagBytes);
  }
  const key = tagging.tags[plan.key.tag];
  // Only a registry tag can be absent.
  return key ?? new Problem('tag-invalid', '', `the device has no ${plan.key.tag} in the registry, but it is the key`);
}

/** Absent and null: the reading carries none. */
function readSequence(field: Field, document: Document): number | undefined | Problem {
  const value = readField(document, field);
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value + 0;
  const expected = 'is not an integer from 0 to 2^53 - 1';
  return new Problem('sequence-invalid', field.pointer, `${field.pointer}: ${show(value)} ${expected}`);
}

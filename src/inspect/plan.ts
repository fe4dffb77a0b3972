/**
 * A stream's configuration turned into what inspecting a payload needs: fields parsed, names resolved, schema and
 * registry at hand. Made once for each set of assets. A name in `key` or `identity` is a topic capture or another tag
 * where there is one of that name, otherwise a payload field. That names can live together (each tag has one source,
 * `enrich.by` is a tag, `enrich.scale` names metrics, none is `__proto__`) has been checked with the configuration.
 */
import type { PayloadFormat, Stream } from '../stream.ts';
import type { BirthMemory } from './births.ts';
import { decodeCbor } from './decode/cbor.ts';
import type { Decoder } from './decode/document.ts';
import { unpacking } from './decode/gzip.ts';
import { decodeJson } from './decode/json.ts';
import { lineProtocolDecoder } from './decode/line-protocol.ts';
import { decodeLorawan } from './decode/lorawan.ts';
import { decodeMsgpack } from './decode/msgpack.ts';
import { decodeSenml } from './decode/senml.ts';
import { sparkplugDecoder } from './decode/sparkplug.ts';
import type { Counted } from './distinct.ts';
import { type Field, type Origin, parseField } from './field.ts';
import { makeRates, type RateCheck } from './rate.ts';
import type { Registry } from './registry.ts';
import { makeTransform, type Transform } from './transform.ts';
import type { SchemaCheck } from './validate.ts';

/** What the streams' files hold, read and checked. Keys are stream names; a stream without one has no entry. */
export interface Assets {
  readonly schemas: ReadonlyMap<string, SchemaCheck>;
  readonly registries: ReadonlyMap<string, Registry>;
}

export interface TagSlot {
  readonly name: string;
  readonly from: 'topic' | 'payload' | 'registry';
  /** Read when `from` is `payload`. */
  readonly field: Field;
}

export interface Plan {
  readonly stream: Stream;
  readonly decode: Decoder;
  readonly schema: SchemaCheck | null;
  readonly registry: Registry | null;
  /** In ascending order of their names. */
  readonly tags: readonly TagSlot[];
  /** True: tags depend on the topic alone, so all payloads of one topic share them. */
  readonly tagsByTopic: boolean;
  readonly key: Origin;
  readonly identity: readonly Origin[];
  readonly distinct: readonly Counted[];
  readonly time: Field | null;
  readonly sequence: Field | null;
  readonly trace: { readonly field: Field | null; readonly make: boolean } | null;
  /** Those that are in payloads. */
  readonly metrics: readonly Field[];
  readonly transform: Transform | null;
  readonly rates: readonly RateCheck[] | null;
}

const DECODERS: Readonly<Record<PayloadFormat, (stream: Stream, births: BirthMemory) => Decoder>> = {
  json: () => decodeJson,
  senml: () => decodeSenml,
  'sparkplug-b': ({ metrics }, births) =>
    sparkplugDecoder(
      births,
      metrics.map((metric) => parseField(metric).path[0]!),
    ),
  cbor: () => decodeCbor,
  msgpack: () => decodeMsgpack,
  'line-protocol': ({ precision = 'ns' }) => lineProtocolDecoder(precision),
  lorawan: () => decodeLorawan,
};

export function makePlan(stream: Stream, assets: Assets, births: BirthMemory): Plan {
  const { name, topic, enrich } = stream;
  const schema = assets.schemas.get(name) ?? null;
  const registry = assets.registries.get(name) ?? null;
  if ((schema === null) !== (stream.schema === null) || (registry === null) !== (enrich === null)) {
    throw new Error(`the assets of stream ${name} do not fit its configuration`);
  }
  const slot = (from: TagSlot['from']) => (tag: string) => ({ name: tag, from, field: parseField(tag) });
  const tags = [
    ...topic.captures.map(slot('topic')),
    ...stream.tags.map(slot('payload')),
    ...(enrich?.tags ?? []).map(slot('registry')),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
  const origin = (field: string): Origin =>
    tags.some((tag) => tag.name === field) ? { tag: field } : { field: parseField(field) };
  const decode = DECODERS[stream.format](stream, births);
  return {
    stream,
    decode: stream.compression === 'gzip' ? unpacking(decode) : decode,
    schema,
    registry,
    tags,
    tagsByTopic: stream.tags.length === 0,
    key: origin(stream.key),
    identity: stream.identity.map(origin),
    distinct: (stream.distinct ?? []).map((name) => ({ name, origin: origin(name) })),
    time: stream.time === null ? null : parseField(stream.time),
    sequence: stream.sequence === null ? null : parseField(stream.sequence),
    trace: stream.trace
      ? { field: stream.trace.field === null ? null : parseField(stream.trace.field), make: stream.trace.make }
      : null,
    metrics: stream.metrics.filter((metric) => !Object.hasOwn(stream.derive ?? {}, metric)).map(parseField),
    transform: makeTransform(stream),
    rates: makeRates(stream),
  };
}

/**
 * Readings on the wire, where a schema registry is used: Confluent's wire format, which is a zero byte, the id of the schema in
 * four bytes (big-endian), and the value, as Avro or as JSON. Only readings have it, in the topic of the readings, under the
 * subject `<topic>-value`; everything on this side of Kafka sees the JSON of `encodeReading`.
 *
 * On the way out a record that does not fit the schema is refused like one that the broker refuses (`KAFKA_RECORD_REFUSED`:
 * it becomes a dead letter); inspection sees to it that there is none. On the way back the first byte says whether a value may
 * be framed, JSON begins otherwise; so a topic may have both, from before and after the setting was changed. While the registry
 * does not answer, or the setting is missing and the value is a reading of ours, reading waits and nothing is skipped. What the
 * registry says is no reading, somebody else's record, passes as it is: whoever reads on counts it as unreadable.
 */

import type { SchemaRegistryConfig } from '../config/kafka.ts';
import type { KafkaConfig } from '../config.ts';
import { fail, type Outcome, succeed } from '../errors.ts';
import type { LogRecord, StoredRecord } from '../log.ts';
import type { KafkaTopic } from './kafka-topics.ts';
import { beginsAsAvro, type FromAvro, fromAvro, READING_AVRO, READING_JSON_SCHEMA, toAvro } from './reading-avro.ts';
import { type RegisteredSchema, type SchemaRegistry, schemaRegistry } from './schema-registry.ts';

const MAGIC = 0;
const HEAD_BYTES = 5;
/** Only a person gives the setting that is missing. */
const PERSON_PAUSE_MS = 10_000;

const SCHEMAS: Readonly<Record<SchemaRegistryConfig['format'], RegisteredSchema>> = {
  avro: { type: 'AVRO', text: JSON.stringify(READING_AVRO) },
  json: { type: 'JSON', text: JSON.stringify(READING_JSON_SCHEMA) },
};

/** One for each registry of a thread, so that all connections share what is known. */
const registries = new WeakMap<SchemaRegistryConfig, SchemaRegistry>();

function registryOf(config: SchemaRegistryConfig): SchemaRegistry {
  const registry = registries.get(config) ?? schemaRegistry(config);
  registries.set(config, registry);
  return registry;
}

/** The records as they are to be sent. */
export async function framed(
  config: KafkaConfig,
  topic: KafkaTopic,
  records: readonly LogRecord[],
): Promise<Outcome<readonly LogRecord[]>> {
  const { schemaRegistry: settings } = config;
  if (!settings || topic.kind !== 'reading') return succeed(records);
  const { format } = settings;
  const id = await registryOf(settings).idOf(`${topic.name}-value`, SCHEMAS[format]);
  if (!id.ok) return id;
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32BE(id.value, 1);
  const out: LogRecord[] = [];
  for (const record of records) {
    if (record.kind !== 'reading') {
      out.push(record);
      continue;
    }
    const body = format === 'avro' ? toAvro(record.value) : record.value;
    if (body === null) return fail('KAFKA_RECORD_REFUSED', `the value does not fit the ${format} schema of readings`);
    out.push({ ...record, value: Buffer.concat([head, body]) });
  }
  return succeed(out);
}

/** As far as the first bytes tell. */
export function isFramed(record: StoredRecord): boolean {
  return record.kind === 'reading' && record.value.length >= HEAD_BYTES && record.value[0] === MAGIC;
}

/** The records with the JSON of the readings. */
export async function unframed(
  config: KafkaConfig,
  topic: KafkaTopic,
  records: readonly StoredRecord[],
): Promise<Outcome<StoredRecord[]>> {
  const out: StoredRecord[] = [];
  for (const record of records) {
    if (!isFramed(record)) {
      out.push(record);
      continue;
    }
    const { buffer, byteOffset, byteLength } = record.value;
    const bytes = Buffer.from(buffer, byteOffset, byteLength);
    const [id, body] = [bytes.readUInt32BE(1), bytes.subarray(HEAD_BYTES)];
    const { schemaRegistry: settings } = config;
    if (!settings) {
      if (body[0] === OPENING_BRACE || beginsAsAvro(body)) return missing(topic, id);
      out.push(record);
      continue;
    }
    const read = await readerOf(settings, id);
    if (!read.ok) return read;
    const value = read.value(body);
    out.push(value === null ? record : { ...record, value });
  }
  return succeed(out);
}

const OPENING_BRACE = 0x7b;

function missing(topic: KafkaTopic, id: number) {
  const message = `reading ${topic.name}: its readings have a schema (id ${id}): set kafka.schema_registry`;
  return fail('REGISTRY_REFUSED', message, { retryable: true, retryAfterMs: PERSON_PAUSE_MS });
}

const asItIs: FromAvro = (bytes) => bytes;
const notOurs: FromAvro = () => null;
/** Compiled, by the text of the schema, of which a topic has few. */
const compiled = new Map<string, FromAvro>();
const MAX_COMPILED = 100;

async function readerOf(settings: SchemaRegistryConfig, id: number): Promise<Outcome<FromAvro>> {
  const schema = await registryOf(settings).schemaOf(id);
  if (!schema.ok) return schema;
  if (schema.value === null) return succeed(notOurs);
  const { type, text } = schema.value;
  if (type === 'JSON') return succeed(asItIs);
  if (type !== 'AVRO') return succeed(notOurs);
  let reader = compiled.get(text);
  if (reader === undefined) {
    reader = fromAvro(text) ?? notOurs;
    if (compiled.size >= MAX_COMPILED) compiled.clear();
    compiled.set(text, reader);
  }
  return succeed(reader);
}

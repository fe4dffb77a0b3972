/**
 * A reading as Avro, and back to the JSON that every reader of the log knows, byte for byte. The schema is of the envelope that
 * `encodeReading` writes, the same for all streams, because all are in one topic; what a device sent stays JSON text in it.
 * So nothing that inspection accepts can fail to fit: its texts are well-formed (`InspectLimits.wellFormed`), its numbers
 * finite. Pure.
 */
import avsc from 'avsc';
import { encodeReading, type Reading } from '../reading.ts';

export const READING_AVRO = {
  type: 'record',
  name: 'Reading',
  namespace: 'millrace',
  doc: 'One device’s values at one time.',
  fields: [
    { name: 'stream', type: 'string' },
    { name: 'time', type: { type: 'long', logicalType: 'timestamp-millis' }, doc: 'event time' },
    { name: 'tags', type: { type: 'map', values: 'string' } },
    { name: 'values', type: { type: 'map', values: 'double' } },
    { name: 'schema', type: ['null', 'string'], default: null, doc: 'version of the schema that it was judged by' },
    {
      name: 'batch',
      type: ['null', { type: 'array', items: 'long' }],
      default: null,
      doc: 'place in its list, and how many',
    },
    { name: 'sequence', type: ['null', 'long'], default: null },
    { name: 'identity', type: ['null', 'string'], default: null },
    { name: 'distinct', type: ['null', { type: 'array', items: 'string' }], default: null },
    { name: 'payload', type: ['null', 'string'], default: null, doc: 'JSON text, as the device sent it' },
  ],
} as const;

export const READING_JSON_SCHEMA = {
  $schema: 'http://json-schema.org/draft-07/schema#',
  title: 'Reading',
  description: 'One device’s values at one time.',
  type: 'object',
  properties: {
    stream: { type: 'string' },
    time: { type: 'integer', description: 'event time, epoch milliseconds' },
    tags: { type: 'object', additionalProperties: { type: 'string' } },
    values: { type: 'object', additionalProperties: { type: 'number' } },
    schema: { type: 'string', description: 'version of the schema that it was judged by' },
    batch: { type: 'array', items: { type: 'integer' }, description: 'place in its list, and how many' },
    sequence: { type: 'integer' },
    identity: { type: 'string' },
    distinct: { type: 'array', items: { type: 'string' } },
    payload: { description: 'as the device sent it' },
  },
  required: ['stream', 'time', 'tags', 'values'],
} as const;

interface AvroReading {
  stream: string;
  time: number;
  tags: Record<string, string>;
  values: Record<string, number>;
  schema: string | null;
  batch: [number, number] | null;
  sequence: number | null;
  identity: string | null;
  distinct: string[] | null;
  payload: string | null;
}

/** avsc's own is wrong without a word from 2^52 on; this one is good for all that a number holds exactly. */
const LONG = avsc.types.LongType.__with({
  fromBuffer: (bytes: Buffer) => Number(bytes.readBigInt64LE()),
  toBuffer(value: number) {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(value));
    return bytes;
  },
  fromJSON: Number,
  toJSON: Number,
  isValid: Number.isSafeInteger,
  compare: (a: number, b: number) => Math.sign(a - b),
});

function typeOf(schema: unknown): avsc.Type {
  const isLong = (part: avsc.Schema) => part === 'long' || (part as { type?: unknown }).type === 'long';
  return avsc.Type.forSchema(schema as avsc.Schema, { typeHook: (part) => (isLong(part) ? LONG : undefined) });
}

const OURS = typeOf(READING_AVRO);
const PAYLOAD = ',"payload":';

/** Null: not in the form that `encodeReading` gives. */
export function toAvro(value: Uint8Array): Buffer | null {
  const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString();
  let parsed: AvroReading | null;
  try {
    parsed = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof parsed !== 'object' || parsed === null) return null;
  const {
    stream,
    time,
    tags,
    values,
    schema = null,
    batch = null,
    sequence = null,
    identity = null,
    distinct = null,
  } = parsed;
  const reading = { stream, time, tags, values, schema, batch, sequence, identity, distinct, payload: null };
  const bare = envelope(reading);
  if (text === bare) return encoded(reading);
  // The payload is last, and its text is kept as it stands.
  const head = `${bare.slice(0, -1)}${PAYLOAD}`;
  if (!text.startsWith(head)) return null;
  return encoded({ ...reading, payload: text.slice(head.length, -1) });
}

function encoded(reading: AvroReading): Buffer | null {
  try {
    return OURS.toBuffer(reading);
  } catch {
    return null;
  }
}

function envelope({
  stream,
  time,
  tags,
  values,
  schema,
  batch,
  sequence,
  identity,
  distinct,
  payload,
}: AvroReading): string {
  const reading: Reading = {
    ...{ stream, key: '', timeMs: time, tags, values },
    ...(schema === null ? undefined : { schema }),
    ...(batch === null ? undefined : { batch }),
    ...(sequence === null ? undefined : { sequence }),
    ...(identity === null ? undefined : { identity }),
    ...(distinct === null ? undefined : { distinct }),
    ...(payload === null ? undefined : { payload }),
  };
  return encodeReading(reading);
}

/** The JSON of a reading; null: the bytes are not of that schema. */
export type FromAvro = (bytes: Buffer) => Buffer | null;

/** Whether the bytes are, or begin with, a reading by our schema, which may have grown since. */
export function beginsAsAvro(bytes: Buffer): boolean {
  try {
    // The declaration leaves out that a value which is cut short is `undefined`.
    return (OURS.decode(bytes) as { value?: unknown }).value !== undefined;
  } catch {
    return false;
  }
}

/** For what was written with this schema, ours or one that Avro's rules can resolve to it; null: that of something else. */
export function fromAvro(schema: string): FromAvro | null {
  let resolver: Parameters<typeof OURS.fromBuffer>[1];
  try {
    const writer = typeOf(JSON.parse(schema));
    if (!writer.equals(OURS)) resolver = OURS.createResolver(writer);
  } catch {
    return null;
  }
  return (bytes) => {
    try {
      return Buffer.from(envelope(OURS.fromBuffer(bytes, resolver) as AvroReading));
    } catch {
      return null;
    }
  };
}

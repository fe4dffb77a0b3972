/**
 * The bytes of a Sparkplug B payload (protobuf, tahu's sparkplug_b.proto), as far as readings need them, and the one
 * payload that the gateway writes itself. Unknown fields are passed over. Data sets, templates and array values are kept as
 * their bytes. Throws what the protobuf reader throws; sparkplug.ts turns it into a problem.
 */
import protobuf from 'protobufjs/minimal.js';

const { Reader, Writer } = protobuf;
type ProtobufReader = InstanceType<typeof Reader>;

export interface SparkplugPayload {
  timestamp: bigint | null;
  sequence: bigint | null;
  readonly metrics: SparkplugMetric[];
}

export interface SparkplugMetric {
  name: string | null;
  alias: bigint | null;
  timestamp: bigint | null;
  /** Null: as the birth said. */
  type: number | null;
  isNull: boolean;
  value: SparkplugValue | null;
}

/** As the field of the `value` oneof says. Integers are the unsigned number on the wire. */
export type SparkplugValue =
  | { readonly kind: 'int32' | 'int64'; readonly value: bigint }
  | { readonly kind: 'float' | 'double'; readonly value: number }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'bytes'; readonly value: Uint8Array };

/** Larger ones stand for a payload that is hostile. */
const MAX_METRICS = 65_536;

export function readSparkplug(bytes: Uint8Array): SparkplugPayload {
  const reader = Reader.create(bytes);
  const payload: SparkplugPayload = { timestamp: null, sequence: null, metrics: [] };
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    switch (tag) {
      case field(1, VARINT):
        payload.timestamp = uint64(reader);
        break;
      case field(2, BYTES):
        if (payload.metrics.length >= MAX_METRICS) throw new RangeError(`more than ${MAX_METRICS} metrics`);
        payload.metrics.push(readMetric(reader));
        break;
      case field(3, VARINT):
        payload.sequence = uint64(reader);
        break;
      default:
        reader.skipType(tag & 7);
    }
  }
  return payload;
}

function readMetric(reader: ProtobufReader): SparkplugMetric {
  const length = reader.uint32();
  const end = reader.pos + length;
  if (end > reader.len) throw new RangeError('a metric is cut short');
  const metric: SparkplugMetric = { name: null, alias: null, timestamp: null, type: null, isNull: false, value: null };
  while (reader.pos < end) {
    const tag = reader.uint32();
    switch (tag) {
      case field(1, BYTES):
        metric.name = reader.string();
        break;
      case field(2, VARINT):
        metric.alias = uint64(reader);
        break;
      case field(3, VARINT):
        metric.timestamp = uint64(reader);
        break;
      case field(4, VARINT):
        metric.type = reader.uint32();
        break;
      case field(7, VARINT):
        metric.isNull = reader.bool();
        break;
      case field(10, VARINT):
        // Some write a negative number as the ten bytes of a signed one: what counts are its low 32 bits.
        metric.value = { kind: 'int32', value: BigInt.asUintN(32, uint64(reader)) };
        break;
      case field(11, VARINT):
        metric.value = { kind: 'int64', value: uint64(reader) };
        break;
      case field(12, FIXED32):
        metric.value = { kind: 'float', value: reader.float() };
        break;
      case field(13, FIXED64):
        metric.value = { kind: 'double', value: reader.double() };
        break;
      case field(14, VARINT):
        metric.value = { kind: 'boolean', value: reader.bool() };
        break;
      case field(15, BYTES):
        metric.value = { kind: 'text', value: reader.string() };
        break;
      case field(16, BYTES):
      case field(17, BYTES):
      case field(18, BYTES):
      case field(19, BYTES):
        metric.value = { kind: 'bytes', value: reader.bytes() };
        break;
      default:
        reader.skipType(tag & 7);
    }
  }
  if (reader.pos !== end) throw new RangeError('a metric is longer than it says');
  return metric;
}

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

function field(number: number, wireType: number): number {
  return number * 8 + wireType;
}

function uint64(reader: ProtobufReader): bigint {
  const { low, high } = reader.uint64();
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

export function rebirthTopic(group: string, node: string): string {
  return `spBv1.0/${group}/NCMD/${node}`;
}

/** NCMD: the metric `Node Control/Rebirth`, true. */
export function rebirthPayload(nowMs: number): Uint8Array {
  const writer = Writer.create();
  writer.uint32(field(1, VARINT)).uint64(nowMs);
  writer.uint32(field(2, BYTES)).fork();
  writer.uint32(field(1, BYTES)).string('Node Control/Rebirth');
  writer.uint32(field(3, VARINT)).uint64(nowMs);
  writer.uint32(field(4, VARINT)).uint32(BOOLEAN);
  writer.uint32(field(14, VARINT)).bool(true);
  writer.ldelim();
  return writer.finish();
}

const BOOLEAN = 11;

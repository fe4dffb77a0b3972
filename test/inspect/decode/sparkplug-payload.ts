/** Writes Sparkplug B payloads for tests: by protobufjs' reflection and tahu's field numbers, not by the code under test. */
import protobuf from 'protobufjs';

const { root } = protobuf.parse(
  `
  syntax = "proto2";
  message Payload {
    message Metric {
      optional string name = 1;
      optional uint64 alias = 2;
      optional uint64 timestamp = 3;
      optional uint32 datatype = 4;
      optional bool is_historical = 5;
      optional bool is_transient = 6;
      optional bool is_null = 7;
      oneof value {
        uint32 int_value = 10;
        uint64 long_value = 11;
        float float_value = 12;
        double double_value = 13;
        bool boolean_value = 14;
        string string_value = 15;
        bytes bytes_value = 16;
        bytes dataset_value = 17;
        bytes template_value = 18;
      }
    }
    optional uint64 timestamp = 1;
    repeated Metric metrics = 2;
    optional uint64 seq = 3;
    optional string uuid = 4;
    optional bytes body = 5;
  }`,
  { keepCase: true },
);

const Payload = root.lookupType('Payload');

/** Integers may be bigints, also negative ones, which are written as their 64 bits. */
export type MetricFields = Readonly<Record<string, unknown>>;

export function sparkplug(
  seq: number | null,
  metrics: readonly MetricFields[],
  timestamp: number | null = 1_700_000_000_000,
): Uint8Array {
  return Payload.encode(
    Payload.fromObject({
      ...(timestamp === null ? undefined : { timestamp }),
      metrics: metrics.map((metric) =>
        Object.fromEntries(Object.entries(metric).map(([key, value]) => [key, written(value)])),
      ),
      ...(seq === null ? undefined : { seq }),
    }),
  ).finish();
}

function written(value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  const half = (bits: bigint) => Number(BigInt.asIntN(32, bits));
  return { low: half(value), high: half(value >> 32n), unsigned: true };
}

export function readBack(bytes: Uint8Array): Record<string, unknown> {
  return Payload.toObject(Payload.decode(bytes), { longs: Number });
}

export const TYPE = {
  int8: 1,
  int16: 2,
  int32: 3,
  int64: 4,
  uint8: 5,
  uint16: 6,
  uint32: 7,
  uint64: 8,
  float: 9,
  double: 10,
  boolean: 11,
  string: 12,
  dateTime: 13,
  text: 14,
  dataSet: 16,
  bytes: 17,
} as const;

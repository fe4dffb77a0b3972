/** A stream, its assets and messages for the tests and the measurements of inspection. */
import assert from 'node:assert/strict';
import type { Outcome } from '../../src/errors.ts';
import type { BirthMemory } from '../../src/inspect/births.ts';
import { parseCsv } from '../../src/inspect/csv.ts';
import { createInspector, DEFAULT_LIMITS, type InspectLimits } from '../../src/inspect/inspect.ts';
import type { Assets } from '../../src/inspect/plan.ts';
import { buildRegistry, type Registry } from '../../src/inspect/registry.ts';
import type { SeriesMemory } from '../../src/inspect/series.ts';
import { compileSchema, type SchemaCheck } from '../../src/inspect/validate.ts';
import type { Inspection, Message, Reading, Refusal } from '../../src/reading.ts';
import { makeWindow, parseTemplate, type Stream } from '../../src/stream.ts';
import type { TraceSource } from '../../src/traceparent.ts';

export const NOW = 1_700_000_000_000;
export const TOPIC = 'sensors/berlin/d1/environment';

export const SCHEMA = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  required: ['ts', 'temperature'],
  properties: {
    ts: { type: 'integer' },
    seq: { type: 'integer', minimum: 0 },
    temperature: { type: 'number', minimum: -50, maximum: 125, unit: 'Cel' },
    humidity: { type: 'number', minimum: 0, maximum: 100 },
    pressure: { type: 'number' },
  },
};

type Changes = Omit<Partial<Stream>, 'topic'> & { topic?: string };

/** Plain by default: no schema, no registry, time from `ts`. */
export function makeStream(changes: Changes = {}): Stream {
  const { topic: text = 'sensors/{site}/{device}/environment', ...rest } = changes;
  const topic = parseTemplate(text);
  assert.ok(typeof topic !== 'string', String(topic));
  return {
    name: 'environment',
    format: 'json',
    schema: null,
    key: 'device',
    identity: [],
    time: 'ts',
    sequence: 'seq',
    tags: [],
    metrics: ['temperature', 'humidity', 'pressure'],
    enrich: null,
    windows: [makeWindow(10_000)],
    score: null,
    retain: false,
    ...rest,
    topic,
  };
}

export function resultOf<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) assert.fail(outcome.failure.message);
  return outcome.value;
}

export function failureOf(outcome: Outcome<unknown>): string {
  if (outcome.ok) assert.fail('expected a failure');
  assert.equal(outcome.failure.code, 'CONFIG_INVALID');
  return outcome.failure.message;
}

interface Parts {
  readonly schema?: object;
  readonly registry?: string;
  readonly limits?: Partial<InspectLimits>;
  readonly memory?: SeriesMemory;
  readonly births?: BirthMemory;
  readonly traces?: TraceSource;
}

/** An inspector for one stream; a schema or registry content given here belongs to it. */
export function inspectorFor(changes: Changes = {}, parts: Parts = {}) {
  const stream = makeStream({ ...changes, ...(parts.schema ? { schema: '/s.json' } : undefined) });
  const limits = { ...DEFAULT_LIMITS, ...parts.limits };
  return createInspector([stream], assetsFor(stream, parts), limits, parts.memory, parts.births, parts.traces);
}

export function assetsFor(stream: Stream, parts: Pick<Parts, 'schema' | 'registry'>): Assets {
  const schemas = new Map<string, SchemaCheck>();
  const registries = new Map<string, Registry>();
  if (parts.schema) schemas.set(stream.name, resultOf(compileSchema(JSON.stringify(parts.schema), '/s.json')));
  if (stream.enrich) {
    const table = resultOf(parseCsv(parts.registry ?? '', stream.enrich.registry));
    registries.set(stream.name, resultOf(buildRegistry(table, stream.enrich, stream.metrics, DEFAULT_LIMITS.tagBytes)));
  }
  return { schemas, registries };
}

export function makeMessage(payload: unknown, changes: Partial<Message> = {}): Message {
  const bytes =
    payload instanceof Uint8Array
      ? payload
      : Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload));
  return { topic: TOPIC, client: 'c1', receivedMs: NOW, ...changes, payload: bytes };
}

export function readingsOf(inspection: Inspection): readonly Reading[] {
  if (inspection.kind === 'refused') assert.fail(`refused: ${inspection.refusal.code}: ${inspection.refusal.reason}`);
  return inspection.readings;
}

export function readingOf(inspection: Inspection): Reading {
  const readings = readingsOf(inspection);
  assert.equal(readings.length, 1);
  return readings[0]!;
}

export function refusalOf(inspection: Inspection): Refusal {
  if (inspection.kind === 'readings') assert.fail(`accepted: ${JSON.stringify(inspection.readings)}`);
  return inspection.refusal;
}

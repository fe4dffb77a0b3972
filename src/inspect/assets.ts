/**
 * Reads and checks the files that streams name: JSON Schemas and device registries. The only I/O of `inspect/` beside
 * watch.ts. The first thing that is wrong is the failure, with file, line or field, and nothing is half loaded.
 */
import { isUtf8 } from 'node:buffer';
import { readFile, stat } from 'node:fs/promises';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import type { Stream } from '../stream.ts';
import { formatBytes } from '../units.ts';
import { parseCsv } from './csv.ts';
import type { Assets } from './plan.ts';
import { buildRegistry, type Registry } from './registry.ts';
import { compileSchema, type SchemaCheck } from './validate.ts';

const MAX_SCHEMA_BYTES = 4 * 2 ** 20;
const MAX_REGISTRY_BYTES = 256 * 2 ** 20;

export async function loadAssets(streams: readonly Stream[], limits: { tagBytes: number }): Promise<Outcome<Assets>> {
  const schemas = new Map<string, SchemaCheck>();
  const registries = new Map<string, Registry>();
  /** Streams that share a schema share its compiled form. */
  const compiled = new Map<string, SchemaCheck>();
  for (const stream of streams) {
    if (stream.schema !== null) {
      const check = compiled.get(stream.schema);
      const loaded: Outcome<SchemaCheck> = check ? succeed(check) : await loadSchema(stream.schema);
      if (!loaded.ok) return loaded;
      compiled.set(stream.schema, loaded.value);
      schemas.set(stream.name, loaded.value);
    }
    if (stream.enrich !== null) {
      const registry = await loadRegistry(stream, limits.tagBytes);
      if (!registry.ok) return registry;
      registries.set(stream.name, registry.value);
    }
  }
  return succeed({ schemas, registries });
}

async function loadSchema(file: string): Promise<Outcome<SchemaCheck>> {
  const text = await readText(file, MAX_SCHEMA_BYTES);
  return text.ok ? compileSchema(text.value, file) : text;
}

async function loadRegistry(stream: Stream, tagBytes: number): Promise<Outcome<Registry>> {
  const enrich = stream.enrich!;
  const text = await readText(enrich.registry, MAX_REGISTRY_BYTES);
  if (!text.ok) return text;
  const table = parseCsv(text.value, enrich.registry);
  return table.ok ? buildRegistry(table.value, enrich, stream.metrics, tagBytes) : table;
}

async function readText(file: string, maxBytes: number): Promise<Outcome<string>> {
  try {
    const { size } = await stat(file);
    if (size > maxBytes) {
      return fail('CONFIG_INVALID', `${file} has ${formatBytes(size)}, above the limit of ${formatBytes(maxBytes)}.`);
    }
    const bytes = await readFile(file);
    return isUtf8(bytes) ? succeed(bytes.toString('utf8')) : fail('CONFIG_INVALID', `${file} is not valid UTF-8.`);
  } catch (error) {
    return fail('CONFIG_INVALID', `${file} cannot be read: ${messageOf(error)}.`, { cause: error });
  }
}

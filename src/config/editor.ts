/**
 * The schema for editors that understand YAML, generated from the declaration: plain JSON Schema, in which `${NAME}` may
 * stand for any single value. `npx tsx compose/schema.ts` writes it to compose/millrace.schema.json; a test compares.
 */
import { DURATION_PATTERN, SIZE_PATTERN } from '../units.ts';
import { SETTINGS } from './schema.ts';
import type { JsonSchema } from './setting.ts';

export function editorSchema(): JsonSchema {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Millrace configuration',
    ...forEditor(SETTINGS.schema),
  };
}

const FROM_ENVIRONMENT = { type: 'string', pattern: '\\$\\{' };

function forEditor(schema: JsonSchema): JsonSchema {
  const { description, default: fallback, duration, size, ...rest } = schema;
  const annotations = {
    ...(description === undefined ? {} : { description }),
    ...(fallback === undefined ? {} : { default: fallback }),
  };
  const plain: Record<string, unknown> = { ...rest };
  if (duration !== undefined) plain.pattern = DURATION_PATTERN;
  if (size !== undefined) plain.pattern = SIZE_PATTERN;
  for (const key of ['items', 'additionalProperties']) {
    if (typeof plain[key] === 'object') plain[key] = forEditor(plain[key] as JsonSchema);
  }
  if (plain.properties !== undefined) {
    const entries = Object.entries(plain.properties as Record<string, JsonSchema>);
    plain.properties = Object.fromEntries(entries.map(([name, child]) => [name, forEditor(child)]));
  }
  const single = rest.type !== 'object' && rest.type !== 'array';
  return single ? { ...annotations, anyOf: [plain, FROM_ENVIRONMENT] } : { ...annotations, ...plain };
}

/**
 * What ajv reads otherwise than the standard says, found before a schema is used: a schema that cannot be honoured is refused,
 * and not honoured in part. The rules cover what the official suite finds wrong (test/inspect/schema-conformance.test.ts); where
 * they look at keywords anywhere in the file they refuse a little more than that. Pure.
 */

type Schema = Readonly<Record<string, unknown>>;

/** Beside `$ref` in draft-07 everything else is ignored; these say nothing that could be missed. */
const HARMLESS_BESIDE_REF = new Set(['$ref', '$schema', '$comment', 'title', 'description', 'default', 'examples']);
const ALSO_AT_THE_ROOT = new Set(['$id', 'definitions']);

/** Keywords with values of the payload, not with schemas. */
const WITH_VALUES = new Set(['const', 'enum', 'default', 'examples']);
/** Keywords with an object of schemas, whose keys are names. */
const WITH_NAMED_SCHEMAS = new Set([
  ...['properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas', 'dependencies'],
]);

/** A sentence's end that says what stands in the way; null: nothing does. `isAnnotation`: of keywords that assert nothing. */
export function misread(
  root: object,
  draft: '07' | '2020-12',
  isAnnotation: (keyword: string) => boolean,
): string | null {
  const schemas = [...schemasIn(root)];
  if (draft === '07') {
    for (const schema of schemas) {
      if (typeof schema.$ref !== 'string') continue;
      const isHarmless = (keyword: string) =>
        HARMLESS_BESIDE_REF.has(keyword) || isAnnotation(keyword) || (schema === root && ALSO_AT_THE_ROOT.has(keyword));
      const ignored = Object.keys(schema).find((keyword) => !isHarmless(keyword));
      if (ignored !== undefined) return `"${ignored}" beside "$ref" checks nothing in draft-07; put both into "allOf"`;
    }
    return null;
  }
  const has = (...keywords: string[]) =>
    schemas.some((schema) => keywords.some((keyword) => Object.hasOwn(schema, keyword)));
  if (has('$dynamicRef')) return '"$dynamicRef" is not supported; use "$ref"';
  if (has('unevaluatedItems') && has('contains')) return '"unevaluatedItems" together with "contains" is not supported';
  if (has('unevaluatedItems') && has('items') && has('anyOf', 'oneOf', 'if', 'dependentSchemas')) {
    return '"unevaluatedItems" together with "items" and alternatives ("anyOf", "oneOf", "if", "dependentSchemas") is not supported';
  }
  const isHalf = (schema: Schema) => Object.hasOwn(schema, 'if') && !Object.hasOwn(schema, 'then');
  if (has('unevaluatedItems', 'unevaluatedProperties') && schemas.some(isHalf)) {
    return '"if" without "then" is not supported together with "unevaluatedItems" or "unevaluatedProperties"';
  }
  return null;
}

/** Every schema in a schema, itself included: not what merely looks like one among values and names. */
export function* schemasIn(root: object): Generator<Schema> {
  const waiting: unknown[] = [root];
  while (waiting.length > 0) {
    const next = waiting.pop();
    if (Array.isArray(next)) waiting.push(...next);
    else if (typeof next === 'object' && next !== null) {
      const schema = next as Schema;
      yield schema;
      for (const [keyword, value] of Object.entries(schema)) {
        if (WITH_VALUES.has(keyword)) continue;
        const isNamed = WITH_NAMED_SCHEMAS.has(keyword) && typeof value === 'object' && value !== null;
        waiting.push(isNamed ? Object.values(value) : value);
      }
    }
  }
}

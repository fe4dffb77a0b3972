/**
 * JSON Schema by ajv: 2020-12 (also where a schema names no `$schema`) and draft-07. A schema is compiled once, when it
 * is loaded; a payload is checked up to its first mistake, which becomes one sentence with field, value and what was
 * expected. A schema is one file: references may only point into it. `format` is asserted, in 2020-12 too. Keywords that ajv
 * does not know are an error (`maximun` would check nothing), except annotations: those in ANNOTATIONS and any that starts with
 * `x-`; so are keywords that check nothing where they stand (ajv's strict mode) and those that it misreads (misread.ts). The
 * official suite runs through it: test/inspect/schema-conformance.test.ts, which lists every difference.
 */
import { createHash } from 'node:crypto';
import { Ajv, type ErrorObject, type Options, type ValidateFunction } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import { misread, schemasIn } from './misread.ts';
import { isMultipleOf } from './multiple.ts';
import { Problem, printable, show } from './refusal.ts';

/** A schema, compiled. */
export interface SchemaCheck {
  /** Null = valid. */
  (document: unknown): Problem | null;
  /** What records name it by: the first 12 hex digits of the file's SHA-256. */
  readonly version: string;
}

const ANNOTATIONS = ['unit', 'units', 'symbol', 'displayName', 'precision', 'example', 'version', 'author'];

const EXTENSION = /^x-[\w-]+$/;

const VERSION_DIGITS = 12;

const OPTIONS: Options = {
  allErrors: false,
  $data: false,
  ownProperties: true,
  verbose: true,
  strictSchema: true,
  strictNumbers: true,
  strictTypes: false,
  strictTuples: false,
  allowMatchingProperties: true,
  logger: false,
};

/** `file` is named in failures only. */
export function compileSchema(text: string, file: string): Outcome<SchemaCheck> {
  let schema: unknown;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    return fail('CONFIG_INVALID', `The schema ${file} is not JSON: ${printable(messageOf(error))}.`);
  }
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
    return fail('CONFIG_INVALID', `The schema ${file} is not a JSON object.`);
  }
  const named = '$schema' in schema ? schema.$schema : undefined;
  const ajv = createAjv(named);
  if (ajv === null) {
    const known = 'https://json-schema.org/draft/2020-12/schema or http://json-schema.org/draft-07/schema';
    return fail('CONFIG_INVALID', `The schema ${file} has $schema ${show(named)}; known are ${known}.`);
  }
  const isAnnotation = (keyword: string) => ANNOTATIONS.includes(keyword) || EXTENSION.test(keyword);
  const obstacle = misread(schema, ajv instanceof Ajv2020 ? '2020-12' : '07', isAnnotation);
  if (obstacle !== null) return fail('CONFIG_INVALID', `The schema ${file} cannot be used: ${obstacle}.`);
  try {
    addFormats.default(ajv);
    // ajv resolves anchors, but its strict mode does not know the word.
    if (ajv instanceof Ajv2020) ajv.addVocabulary(['$anchor']);
    ajv.removeKeyword('multipleOf').addKeyword({
      keyword: 'multipleOf',
      ...{ type: 'number', schemaType: 'number' },
      compile: (divisor: number) => (value: number) => isMultipleOf(value, divisor),
    });
    ajv.addVocabulary([...ANNOTATIONS, ...extensionKeywords(schema)]);
    const check = checkBy(ajv.compile(schema));
    const version = createHash('sha256').update(text).digest('hex').slice(0, VERSION_DIGITS);
    return succeed(Object.assign(check, { version }));
  } catch (error) {
    return fail('CONFIG_INVALID', `The schema ${file} cannot be used: ${printable(messageOf(error))}.`, {
      cause: error,
    });
  }
}

function checkBy(validate: ValidateFunction): (document: unknown) => Problem | null {
  return (document) => {
    try {
      return validate(document) ? null : describe(validate.errors ?? []);
    } catch (error) {
      // The stack's end: depth is limited before, so it is the schema that goes round in a circle.
      if (!(error instanceof RangeError)) throw error;
      return new Problem('schema', '', 'the schema refers to itself without end for this payload');
    }
  };
}

function createAjv(named: unknown): Ajv | null {
  if (named === undefined) return new Ajv2020(OPTIONS);
  const uri = typeof named === 'string' ? named.replace(/#$/, '').replace(/^https?:/, '') : '';
  if (uri === '//json-schema.org/draft/2020-12/schema') return new Ajv2020(OPTIONS);
  if (uri === '//json-schema.org/draft-07/schema') return new Ajv(OPTIONS);
  return null;
}

function extensionKeywords(schema: object): string[] {
  const keywords = [...schemasIn(schema)].flatMap(Object.keys);
  return [...new Set(keywords.filter((keyword) => EXTENSION.test(keyword)))];
}

/** Of several errors the last one is the outermost (`anyOf` after its branches), except for `if`, which says nothing. */
function describe(errors: readonly ErrorObject[]): Problem {
  const outer = errors.at(-1);
  const error = outer?.keyword === 'if' ? errors[0] : outer;
  if (!error) return new Problem('schema', '', 'the payload does not match the schema');
  const field = error.instancePath + missingPart(error);
  return new Problem('schema', field, `${field === '' ? 'the payload' : printable(field)}${sentence(error)}`);
}

/** Errors about a key that is absent, or should be, are about that key and not about the object around it. */
function missingPart(error: ErrorObject): string {
  const { keyword, params } = error;
  if (keyword === 'required') return `/${escapePointer(params.missingProperty)}`;
  if (keyword === 'dependentRequired' || keyword === 'dependencies') return `/${escapePointer(params.missingProperty)}`;
  if (keyword === 'additionalProperties') return `/${escapePointer(params.additionalProperty)}`;
  if (keyword === 'unevaluatedProperties') return `/${escapePointer(params.unevaluatedProperty)}`;
  if (keyword === 'propertyNames') return `/${escapePointer(params.propertyName)}`;
  return '';
}

function escapePointer(key: unknown): string {
  return String(key).replaceAll('~', '~0').replaceAll('/', '~1');
}

const COMPARED: Readonly<Record<string, string>> = {
  maximum: 'above the maximum',
  minimum: 'below the minimum',
  exclusiveMaximum: 'not below',
  exclusiveMinimum: 'not above',
};

function sentence({ keyword, params, data, message, schema }: ErrorObject): string {
  switch (keyword) {
    case 'required':
      return ' is missing';
    case 'dependentRequired':
    case 'dependencies':
      return ` is missing; ${show(params.property)} needs it`;
    case 'additionalProperties':
    case 'unevaluatedProperties':
      return ' is not a known field';
    case 'propertyNames':
      return ' is not an allowed field name';
    case 'type':
      return `: ${show(data)} is not of type ${[params.type].flat().join(' or ')}`;
    case 'maximum':
    case 'minimum':
    case 'exclusiveMaximum':
    case 'exclusiveMinimum':
      return `: ${show(data)} is ${COMPARED[keyword]} ${params.limit}`;
    case 'multipleOf':
      return `: ${show(data)} is not a multiple of ${schema}`;
    case 'enum':
      return `: ${show(data)} is not one of ${printable(params.allowedValues.map(show).join(', '))}`;
    case 'const':
      return `: ${show(data)} is not ${show(params.allowedValue)}`;
    case 'pattern':
      return `: ${show(data)} does not match the pattern ${printable(params.pattern)}`;
    case 'format':
      return `: ${show(data)} is not of the format ${printable(params.format)}`;
    case 'maxLength':
      return `: ${show(data)} is longer than ${params.limit} characters`;
    case 'minLength':
      return `: ${show(data)} is shorter than ${params.limit} characters`;
    case 'anyOf':
    case 'oneOf':
      return `: ${show(data)} matches ${oneOfCount(params)} of the ${Array.isArray(schema) ? schema.length : ''} allowed forms`;
    case 'false schema':
      return ' is not allowed';
    default:
      return `: ${show(data)} ${printable(message ?? `does not satisfy ${keyword}`)}`;
  }
}

function oneOfCount(params: Record<string, unknown>): string {
  return Array.isArray(params.passingSchemas) ? 'more than one' : 'none';
}

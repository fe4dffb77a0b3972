/**
 * The kinds of settings, of which `schema.ts` declares the configuration file. A `Setting<T>` knows what the user
 * may write (a JSON Schema), how a sentence names that, and what it means to the program (`read`): durations become
 * milliseconds, sizes bytes, absent settings their default.
 */
import { formatBytes, formatDuration, parseDurationMs, parseSizeBytes } from '../units.ts';

export type JsonSchema = { readonly [keyword: string]: unknown };

export interface Setting<T> {
  /** One sentence for the user. */
  readonly sentence: string;
  /** What is expected, as it follows the word "expected". */
  readonly expected: string;
  readonly required: boolean;
  /** The value is never shown. */
  readonly secret: boolean;
  /** Checks what the user wrote, children included. `duration` and `size` are keywords of ours: see `Range`. */
  readonly schema: JsonSchema;
  /** Of a section: its settings by name. */
  readonly keys: Readonly<Record<string, Setting<unknown>>> | null;
  /** Of a list, or of a section whose keys the user names. */
  readonly item: Setting<unknown> | null;
  /**
   * The meaning of what the user wrote and the schema let pass; `undefined` = not written: the default. A required
   * setting that is missing reads as something blank: by then a mistake is reported.
   */
  readonly read: (raw: unknown) => T;
}

export type ValueOf<S> = S extends Setting<infer T> ? T : never;

/** Inclusive, in milliseconds or bytes. */
export interface Range {
  readonly min: number;
  readonly max: number;
}

interface Leaf<T> {
  readonly sentence: string;
  readonly expected: string;
  readonly schema: JsonSchema;
  readonly convert: (raw: unknown) => T;
  readonly secret?: boolean;
}

/** `fallback`, in the user's form, stands for what is not written. */
function leaf<T>(options: Leaf<T>, fallback: unknown): Setting<T> {
  const { sentence, expected, schema, convert, secret = false } = options;
  const documented = fallback === undefined ? {} : { default: fallback };
  return {
    sentence,
    expected,
    required: false,
    secret,
    schema: { description: sentence, ...schema, ...documented },
    keys: null,
    item: null,
    read: (raw) => convert(raw ?? fallback),
  };
}

function absentIsNull<T>({ convert, ...rest }: Leaf<T>): Setting<T | null> {
  return leaf({ ...rest, convert: (raw) => (raw === undefined ? null : convert(raw)) }, undefined);
}

/** The setting must be written. */
export function required<T>(setting: Setting<T | null>, blank: T): Setting<T> {
  const { default: _, ...schema } = setting.schema;
  const read = (raw: unknown) => (raw === undefined ? blank : (setting.read(raw) ?? blank));
  return { ...setting, required: true, schema, read };
}

export interface TextRules {
  readonly expected?: string;
  readonly pattern?: string;
  readonly maxLength?: number;
  readonly secret?: boolean;
}

const MAX_TEXT = 1024;

/** Of a setting that names a file. */
export const FILE: TextRules = { expected: 'the path of a file' };

/** A text without default: required in a section, or an entry of a list. */
export function entry(sentence: string, rules: TextRules = {}): Setting<string> {
  return required(optionalText(sentence, rules), '');
}

function textLeaf(sentence: string, rules: TextRules): Leaf<string> {
  const { expected = 'text', pattern, maxLength = MAX_TEXT, secret = false } = rules;
  const schema = { type: 'string', minLength: 1, maxLength, ...(pattern === undefined ? {} : { pattern }) };
  return { sentence, expected, schema, secret, convert: String };
}

export function text(sentence: string, fallback: string, rules: TextRules = {}): Setting<string> {
  return leaf(textLeaf(sentence, rules), fallback);
}

export function optionalText(sentence: string, rules: TextRules = {}): Setting<string | null> {
  return absentIsNull(textLeaf(sentence, rules));
}

function integerLeaf(sentence: string, { min, max }: Range): Leaf<number> {
  return {
    sentence,
    expected: `a whole number from ${min} to ${max}`,
    schema: { type: 'integer', minimum: min, maximum: max },
    convert: Number,
  };
}

export function integer(sentence: string, fallback: number, range: Range): Setting<number> {
  return leaf(integerLeaf(sentence, range), fallback);
}

export function requiredInteger(sentence: string, range: Range): Setting<number> {
  return required(absentIsNull(integerLeaf(sentence, range)), 0);
}

/** Any finite number. */
export function optionalNumber(sentence: string): Setting<number | null> {
  return absentIsNull({ sentence, expected: 'a number', schema: { type: 'number' }, convert: Number });
}

export function decimal(sentence: string, fallback: number, { min, max }: Range): Setting<number> {
  const expected = `a number from ${min} to ${max}`;
  return leaf(
    { sentence, expected, schema: { type: 'number', minimum: min, maximum: max }, convert: Number },
    fallback,
  );
}

export function optionalInteger(sentence: string, range: Range): Setting<number | null> {
  return absentIsNull(integerLeaf(sentence, range));
}

export function flag(sentence: string, fallback: boolean): Setting<boolean> {
  return leaf(flagLeaf(sentence), fallback);
}

export function optionalFlag(sentence: string): Setting<boolean | null> {
  return absentIsNull(flagLeaf(sentence));
}

function flagLeaf(sentence: string): Leaf<boolean> {
  return { sentence, expected: 'true or false', schema: { type: 'boolean' }, convert: Boolean };
}

export function choice<const T extends string | number>(
  sentence: string,
  values: readonly T[],
  fallback: T,
): Setting<T> {
  return leaf(choiceLeaf(sentence, values), fallback);
}

/** The default depends on other settings. */
export function optionalChoice<const T extends string | number>(
  sentence: string,
  values: readonly T[],
): Setting<T | null> {
  return absentIsNull(choiceLeaf(sentence, values));
}

function choiceLeaf<const T extends string | number>(sentence: string, values: readonly T[]): Leaf<T> {
  const expected = values.length === 1 ? String(values[0]) : `one of ${values.join(', ')}`;
  return { sentence, expected, schema: { enum: values }, convert: (raw) => raw as T };
}

export function duration(sentence: string, fallback: string, min: string, max: string): Setting<number> {
  return leaf(durationLeaf(sentence, fallback, min, max), fallback);
}

export function optionalDuration(sentence: string, example: string, min: string, max: string): Setting<number | null> {
  return absentIsNull(durationLeaf(sentence, example, min, max));
}

function durationLeaf(sentence: string, example: string, min: string, max: string): Leaf<number> {
  return {
    sentence,
    expected: `a duration from ${min} to ${max}, such as ${example}`,
    schema: { type: 'string', duration: { min: parseDurationMs(min)!, max: parseDurationMs(max)! } },
    convert: (raw) => parseDurationMs(String(raw)) ?? 0,
  };
}

export function size(sentence: string, fallback: string, min: string, max: string): Setting<number> {
  return leaf(sizeLeaf(sentence, fallback, min, max), fallback);
}

/** The default depends on other settings: `otherwise` says how, `example` shows the form. */
export function optionalSize(sentence: string, example: string, min: string, max: string): Setting<number | null> {
  return absentIsNull(sizeLeaf(sentence, example, min, max));
}

function sizeLeaf(sentence: string, example: string, min: string, max: string): Leaf<number> {
  return {
    sentence,
    expected: `a size from ${min} to ${max}, such as ${example}`,
    schema: { type: ['string', 'integer'], size: { min: parseSizeBytes(min)!, max: parseSizeBytes(max)! } },
    convert: (raw) => parseSizeBytes(String(raw)) ?? 0,
  };
}

/** What a duration or a size outside its range, or not of the form at all, is told; null = fine. */
export function rangeFault(kind: 'duration' | 'size', raw: string | number, { min, max }: Range): string | null {
  const value = kind === 'duration' ? parseDurationMs(String(raw)) : parseSizeBytes(String(raw));
  const format = kind === 'duration' ? formatDuration : formatBytes;
  if (value === null) return kind === 'duration' ? 'is not a duration' : 'is not a size';
  if (value < min) return `is less than ${format(min)}`;
  if (value > max) return `is more than ${format(max)}`;
  return null;
}

export function list<T>(
  sentence: string,
  item: Setting<T>,
  fallback: readonly unknown[],
  rules: { readonly min?: number; readonly max: number; readonly expected: string },
): Setting<readonly T[]> {
  const { min = 0, max, expected } = rules;
  return {
    sentence,
    expected: `${expected}${min > 0 ? `, at least ${min}` : ''}`,
    required: false,
    secret: false,
    schema: {
      description: sentence,
      type: 'array',
      items: item.schema,
      ...(min > 0 ? { minItems: min } : {}),
      maxItems: max,
      ...(min > fallback.length ? {} : { default: fallback }),
    },
    keys: null,
    item,
    read: (raw) => ((raw ?? fallback) as unknown[]).map((entry) => item.read(entry)),
  };
}

/** A section whose keys the user names. */
export function map<T>(
  sentence: string,
  item: Setting<T>,
  rules: { readonly keyPattern: string; readonly min?: number; readonly max: number; readonly expected: string },
): Setting<Readonly<Record<string, T>>> {
  const { keyPattern, min = 0, max, expected } = rules;
  return {
    sentence,
    expected,
    required: min > 0,
    secret: false,
    schema: {
      description: sentence,
      type: 'object',
      propertyNames: { pattern: keyPattern },
      additionalProperties: item.schema,
      ...(min > 0 ? { minProperties: min } : {}),
      maxProperties: max,
    },
    keys: null,
    item,
    read: (raw) => {
      const values: Record<string, T> = Object.create(null);
      for (const [key, entry] of Object.entries(raw ?? {})) values[key] = item.read(entry);
      return values;
    },
  };
}

type Keys = Readonly<Record<string, Setting<unknown>>>;
export type SectionValue<K extends Keys> = { readonly [P in keyof K]: ValueOf<K[P]> };

/** A section that is always there: what is not written has its default. */
export function section<K extends Keys>(sentence: string, keys: K): Setting<SectionValue<K>> {
  const names = Object.keys(keys);
  const needed = names.filter((name) => keys[name]!.required);
  return {
    sentence,
    expected: `a section with keys such as ${names.slice(0, 3).join(', ')}`,
    required: false,
    secret: false,
    schema: {
      description: sentence,
      type: 'object',
      properties: Object.fromEntries(names.map((name) => [name, keys[name]!.schema])),
      ...(needed.length > 0 ? { required: needed } : {}),
      additionalProperties: false,
    },
    keys,
    item: null,
    read: (raw) => {
      const written = (raw ?? {}) as Record<string, unknown>;
      const entries = names.map((name) => [name, keys[name]!.read(written[name])]);
      return Object.fromEntries(entries) as SectionValue<K>;
    },
  };
}

/** A section that means something by being there; absent = null. */
export function optionalSection<K extends Keys>(sentence: string, keys: K): Setting<SectionValue<K> | null> {
  const always = section(sentence, keys);
  return { ...always, read: (raw) => (raw === undefined ? null : always.read(raw)) };
}

/** `true` stands for the section with all its defaults, `false` for its absence. */
export function switchable<T>(setting: Setting<T | null>): Setting<T | null> {
  return {
    ...setting,
    expected: `${setting.expected}; or true, or false`,
    schema: { ...setting.schema, type: ['object', 'boolean'] },
    read: (raw) => (raw === false ? null : setting.read(raw === true ? {} : raw)),
  };
}

/** A section that may be written in short as a text: `short` turns the text into the section. */
export function shortened<T>(
  setting: Setting<T>,
  short: { readonly schema: JsonSchema; readonly expected: string; readonly expand: (text: string) => unknown },
): Setting<T> {
  return {
    ...setting,
    expected: short.expected,
    schema: { ...setting.schema, ...short.schema, type: ['string', 'object'] },
    read: (raw) => setting.read(typeof raw === 'string' ? short.expand(raw) : raw),
  };
}

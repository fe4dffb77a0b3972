/**
 * Checks what is written against the declaration, by ajv, and turns each of its findings into a mistake. What is wrong is
 * taken out of the document, so that the checks that follow see only values of the right kind, or defaults.
 */
import { Ajv, type ErrorObject, type SchemaValidateFunction, type ValidateFunction } from 'ajv';
import { type ConfigDocument, join, split } from './document.ts';
import { type Details, nearestName, pathOf, pathsOfKey, type Report, settingAt, show } from './report.ts';
import { SETTINGS } from './schema.ts';
import { type Range, rangeFault, type Setting } from './setting.ts';

/** Adds the mistakes to the report; answers the document without them. */
export function checkShape(document: ConfigDocument, report: Report): unknown {
  const { value } = document;
  for (const pointer of document.substituted.keys()) convert(value, pointer);
  const validate = compiled();
  if (!validate(value)) {
    for (const error of validate.errors ?? []) {
      const found = describe(error, report);
      if (found) report.mistake(found.pointer, found);
    }
  }
  for (const pointer of report.broken) remove(value, pointer);
  return value;
}

let validator: ValidateFunction | null = null;

/** Compiled on first use: most commands never do. */
function compiled(): ValidateFunction {
  if (validator) return validator;
  const ajv = new Ajv({ allErrors: true, verbose: true, allowUnionTypes: true, strictTypes: false, logger: false });
  ajv.addKeyword({ keyword: 'duration', type: 'string', errors: true, validate: ranged('duration') });
  ajv.addKeyword({ keyword: 'size', type: ['string', 'number'], errors: true, validate: ranged('size') });
  validator = ajv.compile(SETTINGS.schema);
  return validator;
}

function ranged(kind: 'duration' | 'size'): SchemaValidateFunction {
  const check: SchemaValidateFunction = (range: Range, data: string | number) => {
    const fault = rangeFault(kind, data, range);
    check.errors = fault === null ? [] : [{ keyword: kind, message: fault, params: {} }];
    return fault === null;
  };
  return check;
}

/**
 * What came from the environment is text; a number or a flag is made of it where one is wanted, and nothing at all of an
 * empty text where nothing is needed.
 */
function convert(root: unknown, pointer: string): void {
  const setting = settingAt(SETTINGS, pointer);
  const type = setting?.schema.type;
  const choices = setting?.schema.enum;
  change(root, pointer, (text) => {
    if (typeof text !== 'string') return text;
    if (text === '' && setting?.required === false) return undefined;
    const wantsNumber = type === 'integer' || (Array.isArray(choices) && choices.includes(Number(text)));
    if (wantsNumber && /^-?\d+$/.test(text)) return Number(text);
    if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
    return text;
  });
}

function remove(root: unknown, pointer: string): void {
  change(root, pointer, () => undefined);
}

/** Replaces one value; undefined takes it out of a section, but leaves its place in a list. */
function change(root: unknown, pointer: string, by: (value: unknown) => unknown): void {
  const keys = split(pointer);
  const last = keys.pop();
  let parent = root as Record<string, unknown> | undefined;
  for (const key of keys) {
    if (typeof parent !== 'object' || parent === null || !Object.hasOwn(parent, key)) return;
    parent = parent[key] as Record<string, unknown>;
  }
  if (last === undefined || typeof parent !== 'object' || parent === null || !Object.hasOwn(parent, last)) return;
  const value = by(parent[last]);
  if (value === undefined && !Array.isArray(parent)) delete parent[last];
  else parent[last] = value;
}

type Found = Details & { readonly pointer: string };

/** Null: another finding says the same. */
function describe(error: ErrorObject, report: Report): Found | null {
  const { keyword, params, instancePath: pointer, propertyName } = error;
  if (propertyName !== undefined) return null;
  switch (keyword) {
    case 'additionalProperties':
      return unknownKey(pointer, String(params.additionalProperty));
    case 'required':
      return missingKey(pointer, String(params.missingProperty));
    case 'propertyNames':
      return badName(pointer, String(params.propertyName));
    default:
      return badValue(pointer, error, report);
  }
}

function unknownKey(section: string, key: string): Found {
  const known = Object.keys(settingAt(SETTINGS, section)?.keys ?? {});
  const nearest = nearestName(key, known);
  const elsewhere = nearest === null ? pathsOfKey(SETTINGS, key) : [];
  const wayOut = elsewhere.length > 0 ? `there is ${elsewhere.slice(0, 3).join(' and ')}` : null;
  const expected = nearest === null && wayOut === null ? `one of ${known.join(', ')}` : null;
  return { pointer: join(section, key), message: 'unknown key', value: key, nearest, wayOut, expected, atKey: true };
}

function missingKey(section: string, key: string): Found {
  const pointer = join(section, key);
  const setting = settingAt(SETTINGS, pointer);
  const variable = pathOf(pointer).toUpperCase().replace(/\W+/g, '_');
  const wayOut = setting?.secret ? `write ${key}: "\${${variable}}" and set that variable` : null;
  return { pointer, message: 'is missing', expected: setting?.expected ?? null, wayOut };
}

function badName(section: string, name: string): Found {
  const pointer = join(section, name);
  const message = `${show(name)} cannot be a name here`;
  const expected = 'up to 64 letters, digits, dots, dashes and underscores, the first one a letter';
  return { pointer, message, value: name, expected, atKey: true, goOn: true };
}

function badValue(pointer: string, error: ErrorObject, report: Report): Found {
  const setting = settingAt(SETTINGS, pointer);
  const written = report.written(pointer);
  const secret = setting?.secret ?? false;
  const shown = shownValue(error.data, written, secret);
  const expected = setting?.expected ?? null;
  const value = secret ? null : (written ?? show(error.data));
  const found = { pointer, value, expected, atKey: error.data === null };
  const { keyword, params, data } = error;
  switch (keyword) {
    case 'type':
      if (data === null) return { ...found, message: 'has no value', wayOut: 'give it one, or remove the line' };
      return { ...found, message: `${shown} is ${kindOf(data)}`, wayOut: typeHint(setting, data, secret) };
    case 'enum': {
      const choices = (params.allowedValues as unknown[]).map(String);
      const nearest = typeof data === 'string' ? nearestName(data, choices) : null;
      return { ...found, message: `${shown} is not known`, nearest };
    }
    case 'duration':
    case 'size':
      return { ...found, message: `${shown} ${error.message}` };
    case 'minimum':
      return { ...found, message: `${shown} is too small` };
    case 'maximum':
      return { ...found, message: `${shown} is too large` };
    case 'maxLength':
      return { ...found, message: `${shown} has more than ${params.limit} characters` };
    case 'minLength':
    case 'minItems':
    case 'minProperties':
      return { ...found, message: 'is empty' };
    case 'maxItems':
    case 'maxProperties':
      return { ...found, message: `has more than ${params.limit} entries`, expected: null };
    default:
      return { ...found, message: `${shown} is not of the right form` };
  }
}

function shownValue(data: unknown, written: string | undefined, secret: boolean): string {
  if (secret) return 'the value (not shown)';
  return written === undefined ? show(data) : `${show(data)}, from ${written},`;
}

function kindOf(data: unknown): string {
  if (Array.isArray(data)) return 'not one value';
  switch (typeof data) {
    case 'object':
      return 'not one value';
    case 'string':
      return 'text';
    case 'boolean':
      return 'a flag';
    default:
      return 'a number';
  }
}

function typeHint(setting: Setting<unknown> | null, data: unknown, secret: boolean): string | null {
  if (secret) return 'put it in quotes';
  const { type, duration } = setting?.schema ?? {};
  const single = typeof data === 'number' || typeof data === 'boolean';
  if (duration !== undefined && typeof data === 'number') return `give a unit: ${data}s`;
  if (type === 'string' && single) return `put it in quotes: "${data}"`;
  if (type === 'boolean' && typeof data === 'string' && /^(yes|on)$/i.test(data)) return 'write true';
  if (type === 'boolean' && typeof data === 'string' && /^(no|off)$/i.test(data)) return 'write false';
  if (type === 'array' && (single || typeof data === 'string')) return `write a list: [${String(data)}]`;
  return null;
}

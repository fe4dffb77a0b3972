/**
 * The text of a configuration file as plain values that know where they stand: YAML 1.2, every syntax error with its
 * line, and `${NAME}` or `${NAME:-default}` in values replaced from the environment (`$${` is a plain `${`). A value is
 * addressed by its JSON pointer, `/streams/environment/windows/2`. Never throws, whatever the text.
 */
import { isAlias, isMap, isNode, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLError } from 'yaml';
import { messageOf } from '../errors.ts';

export interface Position {
  /** From 1. */
  readonly line: number;
  readonly column: number;
}

export interface Problem {
  readonly position: Position;
  readonly pointer: string;
  readonly message: string;
  readonly value: string | null;
  readonly wayOut: string | null;
}

export interface Place {
  readonly key: Position | null;
  readonly value: Position;
}

export interface ConfigDocument {
  /** Objects have no prototype; undefined when the text is not YAML. */
  readonly value: unknown;
  readonly problems: readonly Problem[];
  readonly places: ReadonlyMap<string, Place>;
  /** Values that came from the environment: pointer -> the text as written. */
  readonly substituted: ReadonlyMap<string, string>;
}

/** Nested deeper, or with more values (aliases repeat them), a file is not a configuration. */
const MAX_DEPTH = 32;
const MAX_VALUES = 100_000;
const START: Position = { line: 1, column: 1 };

export type Environment = Readonly<Record<string, string | undefined>>;

export function readDocument(text: string, env: Environment): ConfigDocument {
  const lines = new LineCounter();
  let document: ReturnType<typeof parseDocument>;
  try {
    document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: true,
      logLevel: 'error',
      stringKeys: true,
      resolveKnownTags: false,
    });
  } catch (error) {
    return nothing([problem(START, '', `this cannot be read as YAML: ${messageOf(error)}`)]);
  }
  const reader = new Reader(lines, env);
  for (const error of syntaxErrors([...document.errors, ...document.warnings])) {
    const position = reader.position(error.pos[0]);
    const line = text.split('\n', position.line)[position.line - 1] ?? '';
    reader.problems.push(problem(position, '', describe(error, text), null, hint(line)));
  }
  // After a repeated key the rest is still worth checking; after other errors it is guesswork.
  if (document.errors.some((error) => error.code !== 'DUPLICATE_KEY')) return nothing(reader.problems);
  const value = reader.read(document.contents, '', null, 0) ?? Object.create(null);
  if (reader.gaveUp) return nothing(reader.problems);
  const { problems, places, substituted } = reader;
  return { value, problems, places, substituted };
}

function nothing(problems: readonly Problem[]): ConfigDocument {
  return { value: undefined, problems, places: new Map(), substituted: new Map() };
}

function problem(
  position: Position,
  pointer: string,
  message: string,
  value: string | null = null,
  wayOut: string | null = null,
): Problem {
  return { position, pointer, message, value, wayOut };
}

/** The first of each line, and nothing after the parser has lost its way: from there it complains about every word. */
function syntaxErrors(errors: readonly YAMLError[]): YAMLError[] {
  const lost = errors.findIndex(({ message }) => message.includes('in YAML stream'));
  const sound = lost === 0 ? errors.slice(0, 1) : lost > 0 ? errors.slice(0, lost) : errors;
  return sound.filter(({ linePos }, i) => i === 0 || linePos?.[0].line !== sound[i - 1]!.linePos?.[0].line);
}

/** In our grammar: small first letter, no full stop. */
function describe({ code, message, pos }: YAMLError, text: string): string {
  switch (code) {
    case 'DUPLICATE_KEY':
      return `the key ${keyAt(text, pos[0])} appears twice`;
    case 'TAB_AS_INDENT':
      return 'the line is indented with a tab, YAML wants spaces';
    case 'UNEXPECTED_TOKEN':
      return 'this does not belong here';
    default: {
      const first = message.split('\n')[0]!.replace(/( at line \d+, column \d+)?[.:]?\s*$/, '');
      return first.charAt(0).toLowerCase() + first.slice(1);
    }
  }
}

function hint(line: string): string | null {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: this is what the user is to write
  return /[{[,:]\s*\$\{/.test(line) ? 'between braces or brackets put "${NAME}" in quotes' : null;
}

function keyAt(text: string, offset: number): string {
  const key = /^["']?[^\s:"',{}[\]]*/.exec(text.slice(offset, offset + 80))?.[0].replace(/^["']/, '') ?? '';
  return `"${key}"`;
}

class Reader {
  readonly problems: Problem[] = [];
  readonly places = new Map<string, Place>();
  readonly substituted = new Map<string, string>();
  readonly #lines: LineCounter;
  readonly #env: Environment;
  readonly #anchors = new Map<string, Node>();
  #aliases = 0;
  #values = 0;
  gaveUp = false;

  constructor(lines: LineCounter, env: Environment) {
    this.#lines = lines;
    this.#env = env;
  }

  position(offset: number): Position {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  read(node: unknown, pointer: string, key: Position | null, depth: number): unknown {
    const range = isNode(node) ? node.range : undefined;
    const at = range ? this.position(range[0]) : (key ?? START);
    this.places.set(pointer, { key, value: at });
    this.#values++;
    if (depth > MAX_DEPTH || this.#values > MAX_VALUES) {
      this.#giveUp(at, depth > MAX_DEPTH ? `more than ${MAX_DEPTH} levels` : `more than ${MAX_VALUES} values`);
      return null;
    }
    if (isAlias(node)) {
      this.#aliases++;
      const value = this.read(this.#anchors.get(node.source), pointer, key, depth + 1);
      this.#aliases--;
      this.places.set(pointer, { key, value: at });
      return value;
    }
    // What an alias repeats has set its anchors before.
    if (this.#aliases === 0 && isNode(node) && node.anchor) this.#anchors.set(node.anchor, node);
    if (isMap(node)) {
      const values: Record<string, unknown> = Object.create(null);
      for (const pair of node.items) {
        const name = isScalar(pair.key) ? (pair.key.source ?? String(pair.key.value ?? '')) : String(pair.key);
        const keyRange = isNode(pair.key) ? pair.key.range : undefined;
        const keyAt = keyRange ? this.position(keyRange[0]) : at;
        values[name] = this.read(pair.value, join(pointer, name), keyAt, depth + 1);
      }
      return values;
    }
    if (isSeq(node)) return node.items.map((item, i) => this.read(item, join(pointer, i), null, depth + 1));
    if (!isScalar(node)) return null;
    const { value } = node;
    return typeof value === 'string' ? this.#substitute(value, pointer, at) : value;
  }

  /** Once, for the first place where a limit was passed. */
  #giveUp(at: Position, limit: string): void {
    if (!this.gaveUp) this.problems.push(problem(at, '', `the file has ${limit}`));
    this.gaveUp = true;
  }

  #substitute(text: string, pointer: string, at: Position): string {
    if (!text.includes('${')) return text;
    this.substituted.set(pointer, text);
    return text.replace(/(\$?)\$\{([^}]*)(\}?)/g, (written, dollar: string, inside: string, end: string) => {
      if (dollar !== '') return written.slice(1);
      const parts = /^([A-Za-z_][A-Za-z0-9_]*)(?::-([\s\S]*))?$/.exec(inside);
      if (end === '' || !parts) {
        // biome-ignore lint/suspicious/noTemplateCurlyInString: this is what the user is to write
        const wayOut = 'write ${NAME}, ${NAME:-default}, or $${ for a plain ${';
        this.problems.push(problem(at, pointer, `"${written}" does not name an environment variable`, text, wayOut));
        return written;
      }
      const [, name, otherwise] = parts;
      const value = this.#env[name!];
      if (value !== undefined && (value !== '' || otherwise === undefined)) return value;
      if (otherwise !== undefined) return otherwise;
      const wayOut = `set it, or give a default: \${${name}:-...}`;
      this.problems.push(problem(at, pointer, `the environment variable ${name} is not set`, text, wayOut));
      return written;
    });
  }
}

/** JSON pointer of a child. */
export function join(pointer: string, key: string | number): string {
  return `${pointer}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

/** The keys of a JSON pointer. */
export function split(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/**
 * The mistakes in a configuration file, each with its place, what is wrong, what was expected, the nearest known name
 * and the way out. Collects them from all checks; what is already known to be wrong is not complained about again.
 */
import { distance } from 'fastest-levenshtein';
import { type ConfigDocument, join, type Position, split } from './document.ts';
import type { Setting } from './setting.ts';

export interface Mistake {
  readonly file: string;
  /** From 1; 0 = the file as a whole. */
  readonly line: number;
  readonly column: number;
  /** `streams.environment.windows[2]`; '' = the file. */
  readonly path: string;
  /** What is wrong, in words, the value included where it may be shown. */
  readonly message: string;
  /** As the user wrote it; null when there is none or it is a secret. */
  readonly value: string | null;
  readonly expected: string | null;
  /** The known name that comes nearest to an unknown one. */
  readonly nearest: string | null;
  readonly wayOut: string | null;
}

/** One line: `millrace.yaml:12:5: rollup.grase: unknown key; did you mean "grace"?` */
export function formatMistake(mistake: Mistake): string {
  const { path, message, expected, nearest, wayOut } = mistake;
  const start = path === '' ? '' : `${path}: `;
  const details = [
    expected === null ? '' : `; expected ${expected}`,
    nearest === null ? '' : `; did you mean "${nearest}"?`,
    wayOut === null ? '' : `; ${wayOut}`,
  ];
  return printable(`${formatPlace(mistake)}: ${start}${message}${details.join('')}`);
}

export function formatPlace({ file, line, column }: Mistake): string {
  return line === 0 ? file : `${file}:${line}:${column}`;
}

export interface Details {
  readonly message: string;
  readonly value?: string | null;
  readonly expected?: string | null;
  readonly nearest?: string | null;
  readonly wayOut?: string | null;
  /** The place is that of the key rather than that of the value. */
  readonly atKey?: boolean;
  /** Other values that take part: if one of them is wrong itself, this is not said. */
  readonly involved?: readonly string[];
  /** The value is wrong, but what it contains is still worth checking. */
  readonly goOn?: boolean;
}

export class Report {
  readonly mistakes: Mistake[] = [];
  readonly warnings: Mistake[] = [];
  readonly #file: string;
  readonly #document: ConfigDocument;
  readonly #broken = new Set<string>();

  constructor(file: string, document: ConfigDocument) {
    this.#file = file;
    this.#document = document;
    for (const { pointer, position, ...rest } of document.problems) {
      this.mistakes.push({ ...this.make(pointer, rest), ...position });
      if (pointer !== '') this.#broken.add(pointer);
    }
  }

  /** Adds a mistake in the value at `pointer`, unless that value, or one around it, is known to be wrong. */
  mistake(pointer: string, details: Details): void {
    if ([pointer, ...(details.involved ?? [])].some((one) => this.isBroken(one))) return;
    if (!details.goOn) this.#broken.add(pointer);
    this.mistakes.push(this.make(pointer, details));
  }

  warn(pointer: string, details: Details): void {
    if ([pointer, ...(details.involved ?? [])].some((one) => this.isBroken(one))) return;
    this.warnings.push(this.make(pointer, details));
  }

  isBroken(pointer: string): boolean {
    for (let at = pointer; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) if (this.#broken.has(at)) return true;
    return false;
  }

  get broken(): ReadonlySet<string> {
    return this.#broken;
  }

  /** Whether the user wrote a value there. */
  isWritten(pointer: string): boolean {
    return this.#document.places.has(pointer);
  }

  /** The text as written, where a value came from the environment. */
  written(pointer: string): string | undefined {
    return this.#document.substituted.get(pointer);
  }

  /** A mistake with its place, not added. */
  make(pointer: string, details: Details): Mistake {
    const { message, value = null, expected = null, nearest = null, wayOut = null, atKey = false } = details;
    const place = this.#place(pointer, atKey);
    return { file: this.#file, ...place, path: pathOf(pointer), message, value, expected, nearest, wayOut };
  }

  /** Of a value that is not there: the key of what should contain it. */
  #place(pointer: string, atKey: boolean): Position {
    const place = this.#document.places.get(pointer);
    if (place) return atKey ? (place.key ?? place.value) : place.value;
    if (pointer === '') return { line: 1, column: 1 };
    return this.#place(pointer.slice(0, pointer.lastIndexOf('/')), true);
  }
}

/** `/streams/a/windows/2` -> `streams.a.windows[2]` */
export function pathOf(pointer: string): string {
  return split(pointer).reduce(
    (path, key) => (/^\d+$/.test(key) && path !== '' ? `${path}[${key}]` : `${path}${path === '' ? '' : '.'}${key}`),
    '',
  );
}

const MAX_SHOWN = 80;

/** A value as it may stand in a message: short, on one line, quoted if it is text. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'a section';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}...` : value);
}

/** Keys and messages may hold what a terminal would obey. */
function printable(line: string): string {
  return line.replace(/[\p{Cc}\u2028\u2029]/gu, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** The known name that was probably meant, or null. */
export function nearestName(name: string, known: readonly string[]): string | null {
  const plain = (text: string) => text.toLowerCase().replace(/[-_.\s]/g, '');
  const same = known.find((each) => each !== name && plain(each) === plain(name));
  if (same !== undefined) return same;
  const letters = (text: string) => [...plain(text)].sort().join('');
  const swapped = known.find((each) => each !== name && letters(each) === letters(name));
  if (swapped !== undefined) return swapped;
  let best: string | null = null;
  let least = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const each of known) {
    const steps = distance(name, each);
    if (steps > 0 && steps < least) {
      best = each;
      least = steps;
    }
  }
  return best;
}

/** The declaration of the value at `pointer`; null where none is declared. */
export function settingAt(root: Setting<unknown>, pointer: string): Setting<unknown> | null {
  let setting: Setting<unknown> | null = root;
  for (const key of split(pointer)) {
    if (setting?.keys) setting = Object.hasOwn(setting.keys, key) ? setting.keys[key]! : null;
    else setting = setting?.item ?? null;
  }
  return setting;
}

/** Paths of all settings with this name, such as `mqtt.limits.packet` for `packet`. */
export function pathsOfKey(setting: Setting<unknown>, name: string, pointer = ''): string[] {
  const found: string[] = [];
  for (const [key, child] of Object.entries(setting.keys ?? {})) {
    const at = join(pointer, key);
    if (key === name) found.push(pathOf(at));
    found.push(...pathsOfKey(child, name, at));
  }
  if (setting.item) found.push(...pathsOfKey(setting.item, name, join(pointer, '*')));
  return found;
}

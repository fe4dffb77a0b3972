/**
 * The little language of derived values: numbers, names of metrics, `+ - * /`, parentheses, and the functions abs, sqrt,
 * min, max, with the usual precedence. A name may hold letters, digits, `_` and dots; any other one stands in backquotes.
 *   voltage * current            (inlet + outlet) / 2            `Inputs/count` * 60            max(a, b) - 273.15
 * Evaluation is plain IEEE arithmetic in the order written, so the same values always give the same bits. Pure.
 */

export interface Expression {
  /** The metrics that it needs, each once. */
  readonly names: readonly string[];
  /** Null: one of the metrics is absent. Otherwise any number, also NaN or infinite. */
  evaluate(values: Readonly<Record<string, number>>): number | null;
}

type Node = (values: Readonly<Record<string, number>>) => number;

const MAX_LENGTH = 500;
/** Parentheses and functions within each other. */
const MAX_DEPTH = 32;
const TOKEN = /\s*(?:(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)|([A-Za-z_][\w.]*)|`([^`]+)`|([-+*/(),]))/y;

const FUNCTIONS: Readonly<
  Record<string, { readonly least: number; readonly most: number; readonly of: typeof Math.min }>
> = {
  abs: { least: 1, most: 1, of: Math.abs },
  sqrt: { least: 1, most: 1, of: Math.sqrt },
  min: { least: 2, most: 16, of: Math.min },
  max: { least: 2, most: 16, of: Math.max },
};

/** An expression, or a sentence that says what is wrong with the text. */
export function parseExpression(text: string): Expression | string {
  if (text.length > MAX_LENGTH) return `an expression has at most ${MAX_LENGTH} characters`;
  try {
    const parser = new Parser(text);
    const node = parser.sum(0);
    parser.end();
    const names = [...parser.names];
    return {
      names,
      evaluate: (values) => (names.every((name) => Object.hasOwn(values, name)) ? node(values) : null),
    };
  } catch (thrown) {
    if (thrown instanceof Mistake) return thrown.message;
    throw thrown;
  }
}

class Mistake extends Error {}

class Parser {
  readonly names = new Set<string>();
  readonly #text: string;
  #at = 0;
  #token: {
    readonly number?: string;
    readonly name?: string;
    readonly sign?: string;
    readonly quoted?: boolean;
  } | null;

  constructor(text: string) {
    this.#text = text;
    this.#token = this.#next();
  }

  end(): void {
    if (this.#token !== null) throw new Mistake(`${this.#shown()} is one too many`);
  }

  sum(depth: number): Node {
    let left = this.#product(depth);
    for (;;) {
      const sign = this.#token?.sign;
      if (sign !== '+' && sign !== '-') return left;
      this.#token = this.#next();
      const [a, b] = [left, this.#product(depth)];
      left = sign === '+' ? (values) => a(values) + b(values) : (values) => a(values) - b(values);
    }
  }

  #product(depth: number): Node {
    let left = this.#signed(depth);
    for (;;) {
      const sign = this.#token?.sign;
      if (sign !== '*' && sign !== '/') return left;
      this.#token = this.#next();
      const [a, b] = [left, this.#signed(depth)];
      left = sign === '*' ? (values) => a(values) * b(values) : (values) => a(values) / b(values);
    }
  }

  #signed(depth: number): Node {
    let negative = false;
    while (this.#token?.sign === '-') {
      negative = !negative;
      this.#token = this.#next();
    }
    const node = this.#single(depth);
    return negative ? (values) => -node(values) : node;
  }

  #single(depth: number): Node {
    const token = this.#token;
    if (token === null) throw new Mistake('it ends where a number, a metric or ( is expected');
    if (depth > MAX_DEPTH) throw new Mistake(`it is nested deeper than ${MAX_DEPTH} levels`);
    if (token.number !== undefined) {
      this.#token = this.#next();
      const number = Number(token.number);
      return () => number;
    }
    if (token.name !== undefined) {
      const name = token.name;
      this.#token = this.#next();
      if (!token.quoted && Object.hasOwn(FUNCTIONS, name) && this.#token?.sign === '(') return this.#call(name, depth);
      this.names.add(name);
      return (values) => values[name]!;
    }
    if (token.sign !== '(') throw new Mistake(`${this.#shown()} stands where a number, a metric or ( is expected`);
    this.#token = this.#next();
    const node = this.sum(depth + 1);
    this.#take(')');
    return node;
  }

  #call(name: string, depth: number): Node {
    const { least, most, of } = FUNCTIONS[name]!;
    const parts: Node[] = [];
    do {
      this.#token = this.#next();
      parts.push(this.sum(depth + 1));
    } while (this.#token?.sign === ',');
    this.#take(')');
    if (parts.length < least || parts.length > most) {
      throw new Mistake(`${name} takes ${least === most ? least : `${least} to ${most}`} values, not ${parts.length}`);
    }
    return (values) => of(...parts.map((part) => part(values)));
  }

  #take(sign: string): void {
    if (this.#token?.sign !== sign) throw new Mistake(`${this.#shown()} stands where ${sign} is expected`);
    this.#token = this.#next();
  }

  #shown(): string {
    return this.#token === null ? 'the end' : `"${this.#token.number ?? this.#token.name ?? this.#token.sign}"`;
  }

  #next() {
    if (/^\s*$/.test(this.#text.slice(this.#at))) return null;
    TOKEN.lastIndex = this.#at;
    const match = TOKEN.exec(this.#text);
    if (!match) throw new Mistake(`"${this.#text.slice(this.#at).trim().slice(0, 10)}" is not understood`);
    this.#at = TOKEN.lastIndex;
    const [, number, plain, quoted, sign] = match;
    if (number !== undefined) return { number };
    if (sign !== undefined) return { sign };
    return { name: plain ?? quoted!, quoted: plain === undefined };
  }
}

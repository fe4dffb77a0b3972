/** One claim of the promise and what became of it: how much was looked at, and what contradicts it. */

export interface Claim {
  /** For programs: `nothing-lost`. */
  readonly name: string;
  /** For people. */
  readonly text: string;
  readonly held: boolean;
  /** What was looked at, in the words of `unit`. */
  readonly checked: number;
  readonly unit: string;
  /** Contradictions. */
  readonly findings: number;
  /** The first of them. */
  readonly examples: readonly string[];
  /** What is not in the numbers. */
  readonly note: string;
}

const EXAMPLES = 5;

/** Collects what contradicts a claim. */
export class ClaimSheet {
  readonly #name: string;
  readonly #text: string;
  readonly #unit: string;
  readonly #examples: string[] = [];
  #findings = 0;
  checked = 0;
  note = '';

  constructor(name: string, text: string, unit: string) {
    this.#name = name;
    this.#text = text;
    this.#unit = unit;
  }

  contradicted(example: string): void {
    this.#findings++;
    if (this.#examples.length < EXAMPLES) this.#examples.push(example);
  }

  /** A claim about nothing is not held. */
  claim(): Claim {
    const { checked, note } = this;
    return {
      name: this.#name,
      text: this.#text,
      held: this.#findings === 0 && checked > 0,
      checked,
      unit: this.#unit,
      findings: this.#findings,
      examples: this.#examples,
      note: checked === 0 && this.#findings === 0 ? 'there was nothing to look at' : note,
    };
  }
}

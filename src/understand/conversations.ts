/**
 * What must be remembered between the messages of a conversation to know how long its first answer took: when the customer
 * first wrote, about what, and whether an agent has answered. Pure; the clock is that of the log.
 *
 * Bounded: `max` conversations, of which the one longest untouched makes room, and none longer than `forgetMs` untouched. What
 * it holds is a function of the last touch of each conversation, in the log's order, and each touch is written to the log with
 * the state after it (message.ts): so it comes back after a restart by reading those of the last `forgetMs`.
 */
export interface Conversation {
  /** Event time of the customer's first message. */
  readonly openedMs: number;
  readonly intent: string;
  readonly isAnswered: boolean;
}

interface Entry extends Conversation {
  readonly touchedMs: number;
}

export class Conversations {
  readonly #max: number;
  readonly #forgetMs: number;
  /** In the order of the last touch. */
  readonly #entries = new Map<string, Entry>();
  /** How many had to make room. */
  evicted = 0;

  constructor(max: number, forgetMs: number) {
    this.#max = max;
    this.#forgetMs = forgetMs;
  }

  get size(): number {
    return this.#entries.size;
  }

  at(name: string, clockMs: number): Conversation | null {
    const entry = this.#entries.get(name);
    return entry && clockMs - entry.touchedMs < this.#forgetMs ? entry : null;
  }

  touch(name: string, { openedMs, intent, isAnswered }: Conversation, clockMs: number): void {
    this.#entries.delete(name);
    this.#entries.set(name, { openedMs, intent, isAnswered, touchedMs: clockMs });
    for (const [oldest, { touchedMs }] of this.#entries) {
      const isOver = clockMs - touchedMs >= this.#forgetMs;
      if (!isOver && this.#entries.size <= this.#max) return;
      if (!isOver) this.evicted++;
      this.#entries.delete(oldest);
    }
  }
}

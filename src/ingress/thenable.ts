/**
 * Promises that are kept or broken already and call back at once, within `then`: for an interface that asks for promises
 * on the way of every message, where one each would cost as much as the rest, and would change the order of messages.
 */

export class Kept<T> implements PromiseLike<T> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a thenable, that is its purpose
  then<A = T, B = never>(onKept?: ((value: T) => A | PromiseLike<A>) | null): PromiseLike<A | B> {
    return onKept ? new Kept(onKept(this.#value) as A) : (this as unknown as PromiseLike<A>);
  }
}

export class Broken implements PromiseLike<never> {
  readonly #reason: Error;

  constructor(reason: Error) {
    this.#reason = reason;
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a thenable, that is its purpose
  then<A = never, B = never>(
    _onKept?: unknown,
    onBroken?: ((reason: Error) => B | PromiseLike<B>) | null,
  ): PromiseLike<A | B> {
    return onBroken ? new Kept(onBroken(this.#reason) as B) : this;
  }
}

/** Done, with nothing to say. */
export const kept: PromiseLike<void> = new Kept(undefined);

/** Waiting for tasks: some at a time, until a signal, for a limited time. */
import { pause } from '../retry.ts';

/** Lets at most `limit` tasks run at once, in the order in which they came. */
export class Gate {
  readonly #limit: number;
  readonly #waiting: (() => void)[] = [];
  readonly #idle: (() => void)[] = [];
  #running = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    // A finished task hands its place to the one that waits, so nobody overtakes.
    if (this.#running < this.#limit) this.#running++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else if (--this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  /** Resolves when nothing runs or waits, or after `timeoutMs`. */
  async idle(timeoutMs: number): Promise<void> {
    if (this.#running === 0) return;
    const over = new AbortController();
    const idle = new Promise<void>((resolve) => this.#idle.push(resolve));
    await Promise.race([idle, pause(timeoutMs, over.signal)]);
    over.abort();
  }
}

/** Waits for the promise or the abort, whichever is first; true = the promise was. It goes on either way. */
export async function finishedBefore(promise: Promise<unknown>, signal?: AbortSignal): Promise<boolean> {
  if (!signal) {
    await promise;
    return true;
  }
  if (signal.aborted) return false;
  let stop = () => {};
  const aborted = new Promise<false>((resolve) => {
    stop = () => resolve(false);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([promise.then(() => true), aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/**
 * How far the spool is durable, in memory that threads share. The spool writes it, readers in any thread of the process
 * read it and wait on it. Readers never deliver an offset at or beyond `durableEnd`.
 *
 * Order matters: a segment is announced (`activeFirst`) before `durableEnd` moves into it. A reader that loads
 * `durableEnd` first and then still finds its own segment active knows that all up to that end lies in it.
 */

/** What of Atomics.waitAsync (in V8, not yet in this TypeScript library level) is used. */
interface WaitAsync {
  waitAsync?(
    array: Int32Array,
    index: number,
    value: number,
    timeoutMs: number,
  ): { readonly async: false } | { readonly async: true; readonly value: Promise<unknown> };
}

const BYTES = 24;
const DURABLE_END = 0;
const ACTIVE_FIRST = 1;
/** Index of the change counter in the Int32 view. */
const CHANGES = 4;

export class Progress {
  readonly shared: SharedArrayBuffer;
  readonly #offsets: BigInt64Array;
  readonly #changes: Int32Array;

  constructor(shared = new SharedArrayBuffer(BYTES)) {
    this.shared = shared;
    this.#offsets = new BigInt64Array(shared, 0, 2);
    this.#changes = new Int32Array(shared);
  }

  durableEnd(): number {
    return Number(Atomics.load(this.#offsets, DURABLE_END));
  }

  activeFirst(): number {
    return Number(Atomics.load(this.#offsets, ACTIVE_FIRST));
  }

  announceSegment(first: number): void {
    Atomics.store(this.#offsets, ACTIVE_FIRST, BigInt(first));
  }

  advance(durableEnd: number): void {
    Atomics.store(this.#offsets, DURABLE_END, BigInt(durableEnd));
    Atomics.add(this.#changes, CHANGES, 1);
    Atomics.notify(this.#changes, CHANGES);
  }

  /** Resolves when the durable end is beyond `offset`, after `timeoutMs`, or at once when the signal aborts. */
  waitBeyond(offset: number, timeoutMs: number, signal: AbortSignal): Promise<void> {
    const seen = Atomics.load(this.#changes, CHANGES);
    if (this.durableEnd() > offset || signal.aborted) return Promise.resolve();
    const waiting = (Atomics as unknown as WaitAsync).waitAsync?.(this.#changes, CHANGES, seen, timeoutMs);
    if (waiting?.async === false) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        resolve();
      };
      // The timer keeps the event loop alive, which a pending waitAsync does not.
      const timer = setTimeout(end, timeoutMs);
      signal.addEventListener('abort', end, { once: true });
      waiting?.value.then(end);
    });
  }
}

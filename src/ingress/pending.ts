/**
 * Bounds that connections share: the bytes of all publishes that wait for their acknowledgement, and the rate of one
 * user. A connection that finds no room stops reading and is told when there is room again; those that wait longest first.
 */
import type { Clock } from '../clock.ts';

/** Payload bytes of all clients between their arrival and their acknowledgement. */
export class PendingBytes {
  bytes = 0;
  readonly limit: number;
  readonly #waiting = new Set<() => void>();

  constructor(limit: number) {
    this.limit = limit;
  }

  get room(): number {
    return this.limit - this.bytes;
  }

  take(bytes: number): void {
    this.bytes += bytes;
  }

  release(bytes: number): void {
    this.bytes -= bytes;
    // the slack spares those who wait from waking for a single packet each
    if (this.#waiting.size === 0 || this.bytes > this.limit * 0.75) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** `wake` is called once, when there is room again. */
  wait(wake: () => void): void {
    this.#waiting.add(wake);
  }

  forget(wake: () => void): void {
    this.#waiting.delete(wake);
  }
}

/** One user's publishes per second, over all its connections. A second's worth may come at once. */
export class TokenBucket {
  readonly #rate: number;
  readonly #clock: Clock;
  #tokens: number;
  #atMs: number;

  constructor(perSecond: number, clock: Clock) {
    this.#rate = perSecond;
    this.#clock = clock;
    this.#tokens = perSecond;
    this.#atMs = clock.monotonicMs();
  }

  /** Whole publishes that may pass now. */
  get available(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#rate, this.#tokens + ((nowMs - this.#atMs) * this.#rate) / 1000);
    this.#atMs = nowMs;
    return Math.floor(this.#tokens);
  }

  /** May go below zero: what has passed has passed. */
  take(count: number): void {
    this.#tokens -= count;
  }

  /** Until about a tenth of a second's worth, and at least one, may pass. */
  get waitMs(): number {
    const wanted = Math.max(1, Math.floor(this.#rate / 10));
    return Math.max(1, Math.ceil(((wanted - this.#tokens) * 1000) / this.#rate));
  }
}

/** The buckets of users that are connected. */
export class Rates {
  readonly #perSecond: number;
  readonly #clock: Clock;
  readonly #buckets = new Map<string, { readonly bucket: TokenBucket; users: number }>();

  constructor(perSecond: number, clock: Clock) {
    this.#perSecond = perSecond;
    this.#clock = clock;
  }

  /** Null: unlimited. Give the same name to `leave` when the connection ends. */
  join(name: string): TokenBucket | null {
    if (this.#perSecond === 0) return null;
    let entry = this.#buckets.get(name);
    if (!entry) {
      entry = { bucket: new TokenBucket(this.#perSecond, this.#clock), users: 0 };
      this.#buckets.set(name, entry);
    }
    entry.users++;
    return entry.bucket;
  }

  leave(name: string): void {
    const entry = this.#buckets.get(name);
    if (entry && --entry.users === 0) this.#buckets.delete(name);
  }
}

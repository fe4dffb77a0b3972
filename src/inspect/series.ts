/**
 * What inspection remembers between messages: which series there are, the last event time that the gateway's own clock gave
 * each, and the last values where a stream limits how fast they may change. Bounded by `maxSeries`, counted as stream +
 * metric + tags. When it is full, series that have been idle for `idleMs` of received time make room; if there are none, a new
 * series is turned away. It is handed from one inspector to the next when schemas or registries are reloaded. It does not
 * outlive the process: after a restart the received stamp has moved on, and with it the times given to payloads that carry none.
 */

export interface Series {
  readonly name: string;
  /** How many series of the definition this one entry stands for: one for each metric. */
  readonly weight: number;
  lastTimeMs: number;
  seenMs: number;
  /** By metric, of streams that limit how fast it may change: see rate.ts. Absent: nothing is known. */
  lasts?: Map<string, Last>;
  /** False once it was forgotten; a holder then has to register it again. */
  known: boolean;
}

export interface Last {
  readonly timeMs: number;
  readonly value: number;
}

export interface SeriesLimits {
  readonly maxSeries: number;
  readonly seriesIdleMs: number;
}

/** Least received time between two searches for idle series: a search looks at all of them. */
const SWEEP_EVERY_MS = 10_000;

export class SeriesMemory {
  readonly #series = new Map<string, Series>();
  readonly #limits: SeriesLimits;
  #weight = 0;
  #sweptMs = Number.NEGATIVE_INFINITY;

  constructor(limits: SeriesLimits) {
    this.#limits = limits;
  }

  /** Series now remembered. */
  get size(): number {
    return this.#weight;
  }

  /** `name` is unique over all streams. Null: there is no room for a new series. */
  register(name: string, weight: number, receivedMs: number): Series | null {
    const found = this.#series.get(name);
    if (found) {
      found.seenMs = receivedMs;
      return found;
    }
    const { maxSeries } = this.#limits;
    if (this.#weight + weight > maxSeries) this.#sweep(receivedMs);
    if (this.#weight + weight > maxSeries) return null;
    const series: Series = { name, weight, lastTimeMs: 0, seenMs: receivedMs, known: true };
    this.#series.set(name, series);
    this.#weight += weight;
    return series;
  }

  has(name: string): boolean {
    return this.#series.has(name);
  }

  forget(series: Series): void {
    if (!series.known) return;
    series.known = false;
    this.#series.delete(series.name);
    this.#weight -= series.weight;
  }

  #sweep(receivedMs: number): void {
    if (receivedMs - this.#sweptMs < SWEEP_EVERY_MS) return;
    this.#sweptMs = receivedMs;
    for (const series of this.#series.values()) {
      if (receivedMs - series.seenMs >= this.#limits.seriesIdleMs) this.forget(series);
    }
  }
}

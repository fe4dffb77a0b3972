/**
 * The only place that reads the machine's clock. Everything else is given a `Clock`, so tests own time.
 */

export interface Clock {
  /** Milliseconds since the epoch, an integer. May jump when the machine's clock is set. */
  nowMs(): number;
  /** Milliseconds from an arbitrary start, never running backwards; for durations. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

/** Runs `task` after `ms`; the answer cancels it. */
export type Schedule = (ms: number, task: () => void) => () => void;

export const systemSchedule: Schedule = (ms, task) => {
  const timer = setTimeout(task, ms);
  return () => clearTimeout(timer);
};

/**
 * The gateway's received stamp: epoch milliseconds that never run backwards, not even over a restart when
 * `floorMs` is the last stamp in the log.
 */
export function monotoneStamp(clock: Clock, floorMs = 0): () => number {
  let last = floorMs;
  return () => {
    const now = clock.nowMs();
    if (now > last) last = now;
    return last;
  };
}

/** A clock that stands still until it is told to move. For tests and simulations. */
export class ManualClock implements Clock {
  #nowMs: number;
  constructor(nowMs = 1_700_000_000_000) {
    this.#nowMs = nowMs;
  }
  nowMs(): number {
    return this.#nowMs;
  }
  monotonicMs(): number {
    return this.#nowMs;
  }
  advance(byMs: number): void {
    this.#nowMs += byMs;
  }
}

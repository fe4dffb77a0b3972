/** Waiting between tries: exponential with full jitter, bounded, ended at once by a signal. */

export interface Backoff {
  /** Pause before try n+1, n counted from 1. */
  delayMs(failures: number): number;
}

export function backoff(options: { firstMs?: number; maxMs?: number; random?: () => number } = {}): Backoff {
  const { firstMs = 100, maxMs = 10_000, random = Math.random } = options;
  return {
    delayMs: (failures) => {
      const ceiling = Math.min(maxMs, firstMs * 2 ** Math.min(failures - 1, 30));
      return Math.ceil(ceiling / 2 + (random() * ceiling) / 2);
    },
  };
}

/** Resolves after `ms`, or at once when the signal aborts; true = the time passed. */
export function pause(ms: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve(false);
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve(true);
    }, ms);
    const stop = () => {
      clearTimeout(timer);
      resolve(false);
    };
    signal?.addEventListener('abort', stop, { once: true });
  });
}

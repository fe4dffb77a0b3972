/** Latencies in log-linear buckets: every value is known to better than 1.6 %, at any number of them. */

const BITS = 6;
const BUCKETS = (31 - BITS + 1) << BITS;

export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #maxUs = 0;

  add(ms: number): void {
    const us = Math.min(2 ** 31 - 1, Math.max(0, Math.round(ms * 1_000)));
    this.#counts[bucketOf(us)]!++;
    this.#count++;
    if (us > this.#maxUs) this.#maxUs = us;
  }

  get count(): number {
    return this.#count;
  }

  get maxMs(): number {
    return this.#maxUs / 1_000;
  }

  /** Milliseconds that a part `quantile` of all values does not exceed; 0 when there are none. */
  quantileMs(quantile: number): number {
    const rank = Math.max(1, Math.ceil(quantile * this.#count));
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      seen += this.#counts[bucket]!;
      if (seen >= rank) return Math.min(this.#maxUs, upperBound(bucket)) / 1_000;
    }
    return 0;
  }
}

function bucketOf(us: number): number {
  if (us < 1 << BITS) return us;
  const exponent = 31 - Math.clz32(us) - BITS;
  return ((exponent + 1) << BITS) + ((us >>> exponent) - (1 << BITS));
}

function upperBound(bucket: number): number {
  if (bucket < 1 << BITS) return bucket;
  const exponent = (bucket >> BITS) - 1;
  return ((bucket & ((1 << BITS) - 1)) + (1 << BITS) + 1) * 2 ** exponent - 1;
}

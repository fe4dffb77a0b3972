/**
 * Counting on the hot path: a number in memory, handed to the metric a few times a second. A labelled counter of
 * prom-client costs a third of a microsecond each time, which at 100,000 messages per second is a core's thirtieth.
 */
import type { Counter } from 'prom-client';

export class Tally {
  count = 0;
  readonly #counter: Pick<Counter.Internal, 'inc'>;

  constructor(counter: Pick<Counter.Internal, 'inc'>) {
    this.#counter = counter;
  }

  flush(): void {
    if (this.count === 0) return;
    this.#counter.inc(this.count);
    this.count = 0;
  }
}

/**
 * `ack: kafka`: a reading that is durable in the spool waits here until Kafka has it on all in-sync replicas.
 * One number answers for many: `forward` says below which spool offset Kafka has everything, and entries are in order of
 * their offsets. While Kafka is away nothing is released, devices are not acknowledged, and `ingress/` bounds what waits.
 */
import type { Outcome } from '../errors.ts';

interface Held {
  /** Released when Kafka has everything below this. */
  readonly belowOffset: number;
  readonly release: (outcome: Outcome) => void;
  readonly outcome: Outcome;
}

export class KafkaHold {
  #held: Held[] = [];
  #next = 0;
  #forwarded = 0;

  get waiting(): number {
    return this.#held.length - this.#next;
  }

  /** `durableEnd`: the spool's end when the record had become durable, so the record lies below it. */
  add(durableEnd: number, outcome: Outcome, release: (outcome: Outcome) => void): void {
    this.#held.push({ belowOffset: durableEnd, release, outcome });
    this.#releaseReady();
  }

  forwarded(offset: number): void {
    this.#forwarded = Math.max(this.#forwarded, offset);
    this.#releaseReady();
  }

  #releaseReady(): void {
    while (this.#next < this.#held.length) {
      const { belowOffset, release, outcome } = this.#held[this.#next]!;
      if (outcome.ok && belowOffset > this.#forwarded) break;
      this.#next++;
      release(outcome);
    }
    if (this.#next === this.#held.length) {
      this.#held = [];
      this.#next = 0;
    } else if (this.#next > COMPACT_AT) {
      this.#held = this.#held.slice(this.#next);
      this.#next = 0;
    }
  }
}

const COMPACT_AT = 4_096;

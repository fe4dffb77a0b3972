/**
 * The end of a client that is silent for too long [MQTT-3.1.2-24]. Each packet is a sign of life and costs an assignment:
 * the timer is not moved by it, but looks when it fires how long the silence has lasted, and comes again for what is left.
 */
import { type Clock, type Schedule, systemSchedule } from '../clock.ts';

export class KeepAlive {
  readonly #silenceMs: number;
  readonly #clock: Clock;
  readonly #expired: () => void;
  readonly #schedule: Schedule;
  readonly #look = () => this.#judge();
  #seenMs: number;
  #cancel: () => void;

  /** `expired` is called once, after a silence of so long, unless `stop` comes first. */
  constructor(silenceMs: number, clock: Clock, expired: () => void, schedule: Schedule = systemSchedule) {
    this.#silenceMs = silenceMs;
    this.#clock = clock;
    this.#expired = expired;
    this.#seenMs = clock.monotonicMs();
    this.#schedule = schedule;
    this.#cancel = schedule(silenceMs, this.#look);
  }

  /** A sign of life. */
  refresh(): void {
    this.#seenMs = this.#clock.monotonicMs();
  }

  stop(): void {
    this.#cancel();
  }

  #judge(): void {
    const leftMs = this.#seenMs + this.#silenceMs - this.#clock.monotonicMs();
    if (leftMs <= 0) this.#expired();
    else this.#cancel = this.#schedule(Math.ceil(leftMs), this.#look);
  }
}

/** The states of the parts of one thread, with the time of each change; `/readyz` and the live page show them. */
import type { Clock } from '../clock.ts';
import type { Failure } from '../errors.ts';
import type { PartKind, PartState, PartStatus, StageName } from '../view/feed.ts';

export class PartStates {
  readonly #clock: Clock;
  readonly #parts = new Map<PartKind, PartStatus>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  set(kind: PartKind, name: string, stage: StageName, state: PartState, failure?: Failure): void {
    const before = this.#parts.get(kind);
    const sinceMs = before?.state === state ? before.sinceMs : this.#clock.nowMs();
    const reason = failure ? { failure: { code: failure.code, message: failure.message } } : undefined;
    this.#parts.set(kind, { kind, name, stage, state, sinceMs, ...reason });
  }

  /** Retryable: it does not answer, and is tried again. Otherwise it answers with a refusal that a person must end. */
  failed(kind: PartKind, failure: Failure): void {
    const part = this.#parts.get(kind);
    if (part) this.set(kind, part.name, part.stage, failure.retryable ? 'away' : 'failing', failure);
  }

  /** All of them, unless one stopped for good. */
  works(): void {
    for (const { kind, name, stage, state } of this.#parts.values()) {
      if (state !== 'ok' && state !== 'stopped') this.set(kind, name, stage, 'ok');
    }
  }

  all(): PartStatus[] {
    return [...this.#parts.values()];
  }
}

/** What the pipeline makes of a message: the contract between whoever takes messages in and whoever makes them durable. */
import type { Failure } from '../errors.ts';
import type { Message, RefusalCode } from '../reading.ts';

export type Verdict =
  /** Durable. */
  | { readonly kind: 'accepted' }
  /** Not a reading; its dead letter is durable. */
  | { readonly kind: 'refused'; readonly code: RefusalCode; readonly reason: string }
  /** Not durable: it must come again. */
  | { readonly kind: 'failed'; readonly failure: Failure };

/** Given by the pipeline. `settled` may be called at once or later, once. */
export type Accept = (message: Message, settled: (verdict: Verdict) => void) => void;

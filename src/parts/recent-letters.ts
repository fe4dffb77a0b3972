/**
 * The newest dead letters, for those who ask again and again: open pages. The first look reads the log backwards; every
 * further one reads only what came since. Payloads are kept to their beginning, so memory is at most
 * MAX_KEPT x PREVIEW_BYTES.
 */
import { type Outcome, succeed } from '../errors.ts';
import type { LogReader } from '../log.ts';
import type { DeadLetter, DeadLetterQuery } from '../view/feed.ts';
import { type Findings, findDeadLetters, lookForLetters } from './dead-letters.ts';

/** Of a payload; the whole of it is read by its id. */
const PREVIEW_BYTES = 2_048;
const MAX_KEPT = 500;

export class RecentLetters {
  readonly #reader: LogReader;
  /** Of the largest limit that was asked for. */
  #known: { readonly limit: number; readonly findings: Findings } | null = null;
  /** One look at a time: pages that ask together share what it finds. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(reader: LogReader) {
    this.#reader = reader;
  }

  list(query: DeadLetterQuery): Promise<Outcome<readonly DeadLetter[]>> {
    const { limit, sinceMs } = query;
    if (sinceMs > 0 || limit > MAX_KEPT) return findDeadLetters(this.#reader, query);
    const looked = this.#last.then(() => this.#look(limit));
    this.#last = looked.catch(() => undefined);
    return looked;
  }

  async #look(asked: number): Promise<Outcome<readonly DeadLetter[]>> {
    const known = this.#known && this.#known.limit >= asked ? this.#known : null;
    const limit = known?.limit ?? asked;
    let looked = await lookForLetters(this.#reader, { limit, sinceMs: 0 }, known?.findings);
    // Letters that were kept have left the log: older ones of another partition may take their place.
    const isShort = looked.ok && looked.value.letters.length < limit && known?.findings.letters.length === limit;
    if (isShort) looked = await lookForLetters(this.#reader, { limit, sinceMs: 0 });
    if (!looked.ok) return looked;
    const findings = { ...looked.value, letters: looked.value.letters.map(shortened) };
    this.#known = { limit, findings };
    return succeed(findings.letters.slice(0, asked));
  }
}

function shortened(letter: DeadLetter): DeadLetter {
  const { payload } = letter.refusal;
  if (payload.byteLength <= PREVIEW_BYTES) return letter;
  const refusal = { ...letter.refusal, payload: payload.slice(0, PREVIEW_BYTES) };
  return { ...letter, refusal, payloadBytes: payload.byteLength };
}

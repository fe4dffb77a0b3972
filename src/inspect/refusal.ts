/**
 * Makes refusals. Inside `inspect/` a check that fails answers with a `Problem`; `inspect.ts` turns the first one into
 * a `Refusal` together with the payload, untouched, and where it came from. Reasons are for people: field, value
 * (shortened), what was expected. They never carry a control character or a lone surrogate, whatever was sent.
 */
import type { Message, Refusal, RefusalCode } from '../reading.ts';

/** A class only because `instanceof` is the quickest test there is on the hot path. */
export class Problem {
  readonly code: RefusalCode;
  /** JSON pointer, '' for the whole payload. */
  readonly field: string;
  readonly reason: string;
  /** Of the reading that has the problem. */
  readonly trace: string | undefined;
  constructor(code: RefusalCode, field: string, reason: string, trace?: string) {
    this.code = code;
    this.field = field;
    this.reason = reason;
    this.trace = trace;
  }
  /** The same problem, seen from the batch that holds the reading. */
  within(index: number): Problem {
    const field = `/${index}${this.field}`;
    return new Problem(this.code, field, `reading ${index + 1} of the batch: ${this.reason}`, this.trace);
  }
  /** Another one, since a problem of a topic is kept for all its messages. */
  traced(trace: string | undefined): Problem {
    return trace === undefined ? this : new Problem(this.code, this.field, this.reason, trace);
  }
}

export function refuse(message: Message, stream: string, problem: Problem): Refusal {
  return {
    code: problem.code,
    reason: problem.reason,
    field: problem.field,
    stream,
    topic: message.topic,
    client: message.client,
    payload: message.payload,
    ...(problem.trace === undefined ? undefined : { trace: problem.trace }),
  };
}

const SHOWN = 60;
const UNPRINTABLE = /[\p{C}\u2028\u2029]/gu;

/** A payload's value for a sentence: as JSON, on one line, at most about 60 characters. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return printable(JSON.stringify(shorten(value)));
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/** Any text for a sentence: on one line, shortened, without what a terminal could take as a command. */
export function printable(text: string): string {
  return shorten(text, 2 * SHOWN).replace(UNPRINTABLE, escapeCharacter);
}

function shorten(text: string, length = SHOWN): string {
  return text.length <= length ? text : `${text.slice(0, length)}…`;
}

function escapeCharacter(character: string): string {
  return `\\u{${character.codePointAt(0)!.toString(16)}}`;
}

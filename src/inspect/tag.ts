/**
 * What may be a tag's value, and so part of a series' name: text that is not empty (InfluxDB cannot keep an empty tag),
 * not too long, and free of control characters and lone surrogates. Numbers and booleans become text; an integer that
 * a double cannot hold exactly is refused, because two of them could become the same tag.
 */
import { Problem, show } from './refusal.ts';

const FORBIDDEN = /[\p{Cc}\p{Cs}]/u;
const SIMPLE = /^[ -~]*$/;

/** What is wrong with the text as a tag, or null. */
export function tagFault(text: string, maxBytes: number): string | null {
  if (text === '') return 'is empty';
  if (text.length <= maxBytes && SIMPLE.test(text)) return null;
  if (FORBIDDEN.test(text)) return 'contains a control character or half of a surrogate pair';
  const bytes = text.length * 3 <= maxBytes ? 0 : Buffer.byteLength(text);
  return bytes > maxBytes ? `has ${bytes} bytes, above the limit of ${maxBytes}` : null;
}

/** The tag's text, or why there is none. `pointer` names the payload field. */
export function tagText(value: unknown, pointer: string, maxBytes: number): string | Problem {
  if (typeof value === 'string') {
    const fault = tagFault(value, maxBytes);
    return fault === null ? value : new Problem('tag-invalid', pointer, `${pointer}: ${show(value)} ${fault}`);
  }
  if (typeof value === 'number') {
    if (!Number.isInteger(value) || Number.isSafeInteger(value)) return String(value);
    const hint = 'is too large to be kept exactly; send it as a string';
    return new Problem('tag-invalid', pointer, `${pointer}: ${show(value)} ${hint}`);
  }
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (value === undefined) return new Problem('tag-invalid', pointer, `${pointer} is missing, but it is a tag or key`);
  return new Problem('tag-invalid', pointer, `${pointer}: ${show(value)} cannot be a tag or key`);
}

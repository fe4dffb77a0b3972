/**
 * From the body of a POST to the messages in it. JSON (also without a Content-Type, and what browsers and curl send when
 * nobody says) with an array: each element is a message, byte for byte as it stands in the array. NDJSON: each line that is
 * not blank. Anything else is one message in the format of its stream. Only brackets, quotes and commas are looked at here:
 * whether an element is JSON, and a reading, is decided by inspection, for each by itself. Pure.
 */

export type BodyKind = 'json' | 'ndjson' | 'whole';

const JSON_TYPES = ['', 'application/json', 'text/json', 'text/plain', 'application/x-www-form-urlencoded'];
const NDJSON_TYPES = ['application/x-ndjson', 'application/ndjson', 'application/jsonl', 'application/x-jsonlines'];

export function bodyKind(contentType: string): BodyKind {
  const type = contentType.split(';', 1)[0]!.trim().toLowerCase();
  if (JSON_TYPES.includes(type)) return 'json';
  return NDJSON_TYPES.includes(type) ? 'ndjson' : 'whole';
}

/** Null: more than `most`. A JSON array that does not hang together is one message, so that inspection says what is wrong. */
export function splitBody(body: Buffer, kind: BodyKind, most: number): Buffer[] | null {
  if (kind === 'ndjson') return splitLines(body, most);
  const elements = kind === 'json' ? splitArray(body, most) : undefined;
  return elements === undefined ? [body] : elements;
}

function splitLines(body: Buffer, most: number): Buffer[] | null {
  const lines: Buffer[] = [];
  for (let from = 0; from < body.length; ) {
    let end = body.indexOf(LF, from);
    if (end < 0) end = body.length;
    if (skipBlanks(body, from) < end) {
      if (lines.length === most) return null;
      lines.push(body.subarray(from, end));
    }
    from = end + 1;
  }
  return lines;
}

const LF = 0x0a;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN = [0x5b, 0x7b];
const CLOSE = [0x5d, 0x7d];

/** Undefined: not an array, or one that does not hang together. */
function splitArray(body: Buffer, most: number): Buffer[] | null | undefined {
  const elements: Buffer[] = [];
  const first = skipBlanks(body, 0);
  if (body[first] !== OPEN[0]) return undefined;
  let from = skipBlanks(body, first + 1);
  if (body[from] === CLOSE[0]) return skipBlanks(body, from + 1) === body.length ? elements : undefined;
  let depth = 1;
  for (let at = from; at < body.length; at++) {
    const byte = body[at]!;
    if (byte === QUOTE) at = endOfText(body, at);
    else if (byte === OPEN[0] || byte === OPEN[1]) depth++;
    else if (byte === CLOSE[0] || byte === CLOSE[1]) depth--;
    if (depth > 1 || (depth === 1 && byte !== COMMA)) continue;
    if (elements.length === most) return null;
    const element = body.subarray(from, at);
    if (skipBlanks(element, 0) === element.length) return undefined;
    elements.push(element);
    if (depth === 0) return skipBlanks(body, at + 1) === body.length ? elements : undefined;
    from = skipBlanks(body, at + 1);
  }
  return undefined;
}

function endOfText(body: Buffer, quote: number): number {
  for (let at = quote + 1; at < body.length; at++) {
    if (body[at] === BACKSLASH) at++;
    else if (body[at] === QUOTE) return at;
  }
  return body.length;
}

function skipBlanks(body: Buffer, from: number): number {
  let at = from;
  while (at < body.length && (body[at] === 0x20 || (body[at]! >= 0x09 && body[at]! <= 0x0d))) at++;
  return at;
}

/**
 * One row's numbers as bytes in a block. Pure. Most rows repeat themselves (with one reading a window nine statistics are
 * equal, percentiles end in zero bytes), so 110 bytes become 20 to 85.
 *
 *   varints: startMs - the block's minStartMs, count, duplicates, missing, rev
 *   5 bytes: a code of 4 bits for each of the ten statistics, in their order; low half first
 *   then the bytes that the codes ask for, as one run
 *
 *   code    0-8: that many leading bytes (big-endian) of the double, the others are zero
 *           9: null    10: the same bits as the statistic before    11: as min    12: as max
 *   varint  7 bits a byte, low first, high bit = more follow; up to 2^53
 */
import { type Row, STATISTICS } from '../row.ts';

/** The most that a row and its series' id take. */
export const MAX_ROW_BYTES = 6 * 8 + 5 + 80;

const NULL = 9;
const SAME_AS_PREVIOUS = 10;
const SAME_AS_MIN = 11;
const SAME_AS_MAX = 12;
const MIN = STATISTICS.indexOf('min');
const MAX = STATISTICS.indexOf('max');

/** What the rows of a series have in common. */
export interface Series {
  readonly stream: string;
  readonly metric: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Its text in dictionaries: equal for equal series. */
  readonly text: string;
}

/** Which window the rows of a file are of; it is not in the file but in its folder's name. */
export interface WindowOfFile {
  readonly label: string;
  readonly sizeMs: number;
}

export function putVarint(bytes: Buffer, at: number, value: number): number {
  let rest = value;
  let end = at;
  while (rest >= 128) {
    bytes[end++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  bytes[end++] = rest;
  return end;
}

const scratch = Buffer.alloc(8);

/** Answers where the row ends. */
export function putRow(bytes: Buffer, start: number, row: Row, minStartMs: number): number {
  let at = putVarint(bytes, start, row.startMs - minStartMs);
  at = putVarint(bytes, at, row.count);
  at = putVarint(bytes, at, row.duplicates);
  at = putVarint(bytes, at, row.missing);
  at = putVarint(bytes, at, row.rev);
  const codes = at;
  bytes.fill(0, at, at + 5);
  at += 5;
  let previous: number | null = null;
  for (let i = 0; i < STATISTICS.length; i++) {
    const value = row[STATISTICS[i]!];
    let code: number;
    if (value === null) code = NULL;
    else if (i > 0 && Object.is(value, previous)) code = SAME_AS_PREVIOUS;
    else if (i > MIN && Object.is(value, row.min)) code = SAME_AS_MIN;
    else if (i > MAX && Object.is(value, row.max)) code = SAME_AS_MAX;
    else {
      scratch.writeDoubleBE(value);
      code = 8;
      while (code > 0 && scratch[code - 1] === 0) code--;
      for (let k = 0; k < code; k++) bytes[at++] = scratch[k]!;
    }
    bytes[codes + (i >> 1)]! |= code << ((i & 1) * 4);
    previous = value;
  }
  return at;
}

/** Reads rows one after the other. */
export class RowCursor {
  readonly #bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  varint(): number {
    let byte = this.#bytes[this.at++]!;
    if (byte < 128) return byte;
    let value = byte & 127;
    let scale = 128;
    do {
      byte = this.#bytes[this.at++]!;
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte >= 128);
    return value;
  }

  skipRow(): void {
    for (let i = 0; i < 5; i++) while (this.#bytes[this.at++]! >= 128);
    const codes = this.at;
    this.at += 5;
    for (let i = 0; i < STATISTICS.length; i++) {
      const code = this.#code(codes, i);
      if (code <= 8) this.at += code;
    }
  }

  row(series: Series, window: WindowOfFile, minStartMs: number): Row {
    const startMs = minStartMs + this.varint();
    const count = this.varint();
    const duplicates = this.varint();
    const missing = this.varint();
    const rev = this.varint();
    const codes = this.at;
    this.at += 5;
    // In the order of STATISTICS.
    const sum = this.#statistic(codes, 0, null, null, null);
    const mean = this.#statistic(codes, 1, sum, null, null);
    const min = this.#statistic(codes, 2, mean, null, null);
    const max = this.#statistic(codes, 3, min, min, null);
    const stddev = this.#statistic(codes, 4, max, min, max);
    const first = this.#statistic(codes, 5, stddev, min, max);
    const last = this.#statistic(codes, 6, first, min, max);
    const p50 = this.#statistic(codes, 7, last, min, max);
    const p95 = this.#statistic(codes, 8, p50, min, max);
    const p99 = this.#statistic(codes, 9, p95, min, max);
    return {
      stream: series.stream,
      metric: series.metric,
      window: window.label,
      startMs,
      endMs: startMs + window.sizeMs,
      tags: series.tags,
      count,
      sum,
      mean,
      min,
      max,
      stddev,
      first,
      last,
      p50,
      p95,
      p99,
      duplicates,
      missing,
      rev,
    };
  }

  #code(codes: number, i: number): number {
    return (this.#bytes[codes + (i >> 1)]! >> ((i & 1) * 4)) & 15;
  }

  #statistic(codes: number, i: number, previous: number | null, min: number | null, max: number | null): number | null {
    const code = this.#code(codes, i);
    if (code === NULL) return null;
    if (code === SAME_AS_PREVIOUS) return previous;
    if (code === SAME_AS_MIN) return min;
    if (code === SAME_AS_MAX) return max;
    for (let i = 0; i < 8; i++) scratch[i] = i < code ? this.#bytes[this.at + i]! : 0;
    this.at += code;
    return scratch.readDoubleBE();
  }
}

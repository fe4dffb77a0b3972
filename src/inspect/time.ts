/**
 * Event time from a payload: epoch milliseconds, epoch seconds, or RFC 3339.
 *
 * A number below 1e11 is seconds (until the year 5138), any other is milliseconds (from 1973 on). Fractions are rounded
 * down to the millisecond; seconds are first rounded to the microsecond, which is what a double of that size holds.
 * RFC 3339 is read strictly, with `T`, `t` or one space between date and time, any number of fraction digits, `Z`, `z`
 * or an offset. A leap second is accepted where one can be, at 23:59:60 UTC, and is the first second of the next day,
 * as POSIX counts. Times at or before the epoch are invalid; how far back or ahead is allowed is not decided here.
 */

const SECONDS_BELOW = 1e11;
const MAX_DATE_MS = 8.64e15;

/** Milliseconds since the epoch, or null when the value is not a time after it. */
export function parseTimeMs(value: unknown): number | null {
  let ms: number;
  if (typeof value === 'number') {
    ms = value < SECONDS_BELOW ? Math.floor(Math.round(value * 1e6) / 1e3) : Math.floor(value);
  } else if (typeof value === 'string') {
    ms = parseRfc3339Ms(value) ?? 0;
  } else {
    return null;
  }
  return ms > 0 && ms <= Number.MAX_SAFE_INTEGER ? ms : null;
}

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;

/** Null when the text is not a date and time of RFC 3339. May be negative. */
export function parseRfc3339Ms(text: string): number | null {
  const match = RFC3339.exec(text);
  if (!match) return null;
  const year = Number(match[1]);
  const month = Number(match[2]);
  const day = Number(match[3]);
  const hour = Number(match[4]);
  const minute = Number(match[5]);
  const second = Number(match[6]);
  const offsetHours = match[8] === undefined ? 0 : Number(match[9]);
  const offsetMinutes = match[8] === undefined ? 0 : Number(match[10]);
  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return null;
  if (hour > 23 || minute > 59 || second > 60 || offsetHours > 23 || offsetMinutes > 59) return null;
  const fractionMs = match[7] === undefined ? 0 : Number(match[7].slice(0, 3).padEnd(3, '0'));
  const offsetMs = (match[8] === '-' ? -1 : 1) * (offsetHours * 60 + offsetMinutes) * 60_000;
  const wholeMs = utcMs(year, month, day, hour, minute, second) - offsetMs;
  if (second === 60 && wholeMs % 86_400_000 !== 0) return null;
  return wholeMs + fractionMs;
}

/** Date.UTC, but the years 0 to 99 are what they say. */
function utcMs(year: number, month: number, day: number, hour: number, minute: number, second: number): number {
  if (year >= 100) return Date.UTC(year, month - 1, day, hour, minute, second);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute, second);
  return date.getTime();
}

const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

function daysIn(year: number, month: number): number {
  const leap = month === 2 && year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return DAYS[month - 1]! + (leap ? 1 : 0);
}

/** What a time far ahead most likely is, as a hint in the refusal; '' when there is none. */
export function unitHint(value: unknown): string {
  if (typeof value !== 'number' || value < 1e14) return '';
  return value < MAX_DATE_MS ? '; it looks like microseconds' : '; it looks like nanoseconds';
}

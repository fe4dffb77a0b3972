// Numbers, durations and times as people read them.

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export function whole(value) {
  return WHOLE.format(value);
}

export function rate(perSecond) {
  if (perSecond >= 100_000) return COMPACT.format(perSecond);
  if (perSecond >= 100) return WHOLE.format(perSecond);
  if (perSecond === 0) return '0';
  return perSecond >= 10 ? perSecond.toFixed(1) : perSecond.toFixed(perSecond < 0.1 ? 2 : 1);
}

export function compact(value) {
  return value < 100_000 ? WHOLE.format(value) : COMPACT.format(value);
}

/** A measured value, about five significant digits. `aligned`: with its zeros, for columns. */
export function measure(value, aligned = false) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e9 || size < 1e-4)) return value.toExponential(3);
  const digits = size >= 1_000 ? 1 : size >= 100 ? 2 : size >= 1 || size === 0 ? 3 : 4;
  return value.toLocaleString('en', { minimumFractionDigits: aligned ? digits : 0, maximumFractionDigits: digits });
}

export function latency(ms) {
  if (ms >= 60_000) return `${(ms / 60_000).toFixed(1)} min`;
  if (ms >= 1_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms >= 10) return `${Math.round(ms)} ms`;
  return ms >= 0.1 ? `${ms.toFixed(1)} ms` : `${Math.ceil(ms * 1_000)} µs`;
}

/** How long something took or lasts, one unit. */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

export function ago(thenMs, nowMs) {
  const ms = nowMs - thenMs;
  return ms < 1_500 ? 'now' : `${duration(ms)} ago`;
}

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

const TIME = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

export function time(ms) {
  return TIME.format(ms);
}

/** With the day where it is not today. */
export function moment(ms, nowMs = ms) {
  const sameDay = DAY.format(ms) === DAY.format(nowMs);
  return sameDay ? TIME.format(ms) : `${DAY.format(ms)} ${TIME.format(ms)}`;
}

/** The text that names tags in URLs: `device=d1,site=a`, with \, comma and = escaped. */
export function seriesName(tags) {
  return Object.keys(tags)
    .sort()
    .map((name) => `${escapePart(name)}=${escapePart(tags[name])}`)
    .join(',');
}

function escapePart(text) {
  return text.replace(/[\\,=]/g, '\\$&');
}

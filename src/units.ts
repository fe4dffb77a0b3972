/** Durations (`250ms`, `10s`, `5m`, `1h`, `7d`) and sizes (`512`, `64KiB`, `10GiB`, `1MB`) as people write them. */

const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE_BYTES: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** The forms of a duration and of a size, as regular expressions. */
export const DURATION_PATTERN = '^(\\d+(?:\\.\\d+)?)\\s*(ms|s|m|h|d)$';
export const SIZE_PATTERN = '^(\\d+(?:\\.\\d+)?)\\s*(|B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$';
const DURATION = new RegExp(DURATION_PATTERN);
const SIZE = new RegExp(SIZE_PATTERN);

/** Milliseconds, a positive integer or zero; null when the text is not a duration. */
export function parseDurationMs(text: string): number | null {
  const match = DURATION.exec(text.trim());
  if (!match) return null;
  const ms = Number(match[1]) * DURATION_MS[match[2]!]!;
  return Number.isSafeInteger(ms) ? ms : null;
}

/** Bytes, an integer; null when the text is not a size. */
export function parseSizeBytes(text: string): number | null {
  const match = SIZE.exec(text.trim());
  if (!match) return null;
  const bytes = Math.round(Number(match[1]) * SIZE_BYTES[match[2]!]!);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/** The shortest exact form: 60000 -> `1m`, 90000 -> `90s`, 250 -> `250ms`. */
export function formatDuration(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const size = DURATION_MS[unit]!;
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${ms}ms`;
}

/** For people: 1536 -> `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Numbers as words in sentences. */
import { formatBytes } from '../units.ts';
import type { Queue } from './stages.ts';

export function worst(by: Readonly<Record<string, number>>): string {
  const sorted = Object.entries(by).sort((a, b) => b[1] - a[1]);
  return (
    sorted
      .slice(0, 2)
      .map(([reason, times]) => `${reason} (${times})`)
      .join(', ') || 'not known'
  );
}

export function percent(share: number): string {
  const value = share * 100;
  return value > 0 && value < 0.1 ? 'less than 0.1 %' : `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

export function amount(value: number, unit: Queue['unit']): string {
  return unit === 'bytes' ? formatBytes(value) : `${value} ${unit}`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const UNITS: readonly (readonly [ms: number, one: string, many: string])[] = [
  [86_400_000, 'day', 'days'],
  [3_600_000, 'hour', 'hours'],
  [60_000, 'minute', 'minutes'],
  [1_000, 'second', 'seconds'],
];

/** One unit is enough: 95 s -> `2 minutes`. */
export function roughly(ms: number): string {
  for (const [unit, one, many] of UNITS) if (ms >= unit) return count(Math.round(ms / unit), one, many);
  return 'a moment';
}

export function roomFor(bytes: number, growthPerSecond: number): string {
  if (growthPerSecond <= 0 || bytes <= 0) return '';
  return ` There is room for about ${roughly((bytes / growthPerSecond) * 1_000)} more at this rate.`;
}

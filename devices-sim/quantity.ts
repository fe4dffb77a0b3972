/** Durations (`500ms`, `10s`, `2m`, `1h`) and rates (`1/s`, `30/m`, `10`) as the command line has them. */

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds, or null when the text is not a duration. */
export function parseDurationMs(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
  return match ? Number(match[1]) * UNIT_MS[match[2]!]! : null;
}

/** Events per second, or null when the text is not a rate. A bare number is per second. */
export function parseRate(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)(?:\/(ms|s|m|h|d))?$/.exec(text);
  return match ? (Number(match[1]) * 1_000) / UNIT_MS[match[2] ?? 's']! : null;
}

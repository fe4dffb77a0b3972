/**
 * Which readings must be in which windows, from what the devices did and were told. No code of `src/`: topics, payloads,
 * admission and windows are written here again, from their definitions.
 *
 * What is known of a delivery's received stamp is that it lies between the sending and the acknowledgement, by the same
 * machine's clock; so whether it was late, or too far ahead, is certain or open:
 *   counted    some delivery of the reading was acknowledged, and was in time however its stamp fell
 *   open       none was, but one may have been
 *   left out   all came late for certain, or were refused
 */
import type { Delivery } from './deliveries.ts';

export interface StreamRules {
  readonly name: string;
  /** `sensors/{site}/{device}/environment` */
  readonly topic: string;
  /** Payload field with epoch milliseconds. */
  readonly time: string;
  readonly sequence?: string;
  /** Payload fields or tags; absent: series and time. */
  readonly identity?: readonly string[];
  /** Payload fields that are tags. */
  readonly tags?: readonly string[];
  readonly metrics: readonly string[];
  /** Labels, `10s` or `5m_1m`; the first divides all others. */
  readonly windows: readonly string[];
}

export interface Rules {
  readonly streams: readonly StreamRules[];
  readonly graceMs: number;
  readonly skewMs: number;
}

export interface Reading {
  readonly timeMs: number;
  /** One for each metric of the stream. */
  readonly values: readonly (number | undefined)[];
  readonly sequence: number | undefined;
  readonly payload: string;
  /** Deliveries that were admitted for certain, and that may have been. */
  certain: number;
  possible: number;
}

/** One series in one window. */
export interface Place {
  readonly stream: StreamRules;
  readonly window: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly tags: string;
  readonly counted: Reading[];
  readonly open: Reading[];
}

export interface Expected {
  readonly places: ReadonlyMap<string, Place>;
  /** Distinct readings. */
  readonly counted: number;
  readonly leftOut: number;
}

/** Without windows that end at or before `sinceMs`. */
export function expected(rules: Rules, deliveries: readonly Delivery[], sinceMs: number): Expected {
  const places = new Map<string, Place>();
  const readings = new Map<string, { stream: StreamRules; tags: string; reading: Reading }>();
  for (const delivery of deliveries) {
    const stream = streamOf(rules, delivery.topic);
    const payload = delivery.payload === null ? null : parse(delivery.payload);
    if (!stream || !payload) continue;
    const measured = measure(stream, payload);
    if (measured === null) continue;
    const named: Record<string, string> = capturesOf(stream.topic, delivery.topic)!;
    for (const tag of stream.tags ?? []) named[tag] = String(payload[tag]);
    const tags = tagText(named);
    const { timeMs } = measured;
    const identity = stream.identity?.map((field) => named[field] ?? payload[field]) ?? [tags, timeMs];
    const key = `${stream.name} ${JSON.stringify(identity)}`;
    let known = readings.get(key);
    if (known === undefined) {
      known = { stream, tags, reading: { ...measured, payload: delivery.payload!, certain: 0, possible: 0 } };
      readings.set(key, known);
    } else if (stream.metrics.length > 0 && known.reading.payload !== delivery.payload) {
      throw new Error(`two payloads for one reading, ${key}: this judge does not know which came first`);
    }
    const admitted = admission(rules, stream, delivery, timeMs);
    if (admitted === 'certain') known.reading.certain++;
    else if (admitted === 'possible') known.reading.possible++;
  }
  let [counted, leftOut] = [0, 0];
  for (const { stream, tags, reading } of readings.values()) {
    if (reading.certain > 0) counted++;
    else if (reading.possible === 0) leftOut++;
    if (reading.certain + reading.possible === 0) continue;
    for (const window of stream.windows) {
      const { sizeMs, everyMs } = lengths(window);
      for (let startMs = downTo(reading.timeMs, everyMs); startMs + sizeMs > reading.timeMs; startMs -= everyMs) {
        if (startMs + sizeMs <= sinceMs) break;
        const key = `${stream.name} ${window} ${startMs} ${tags}`;
        let place = places.get(key);
        if (place === undefined) {
          place = { stream, window, startMs, endMs: startMs + sizeMs, tags, counted: [], open: [] };
          places.set(key, place);
        }
        (reading.certain > 0 ? place.counted : place.open).push(reading);
      }
    }
  }
  return { places, counted, leftOut };
}

export function streamOf(rules: Rules, topic: string): StreamRules | undefined {
  return rules.streams.find((one) => capturesOf(one.topic, topic) !== null);
}

/** Null: such a payload is refused. */
function measure(stream: StreamRules, payload: Record<string, unknown>) {
  const timeMs = payload[stream.time];
  const sequence = stream.sequence === undefined ? undefined : payload[stream.sequence];
  if (typeof timeMs !== 'number') return null;
  if (sequence !== undefined && !(Number.isSafeInteger(sequence) && (sequence as number) >= 0)) return null;
  const values: (number | undefined)[] = [];
  for (const metric of stream.metrics) {
    const value = payload[metric];
    if (value !== undefined && typeof value !== 'number') return null;
    const size = Math.abs(value ?? 0);
    if (size > 1e150 || (size !== 0 && size < 1e-140)) return null;
    values.push(value);
  }
  if (stream.metrics.length > 0 && values.every((value) => value === undefined)) return null;
  return { timeMs, values, sequence: sequence as number | undefined };
}

/** Whether what was delivered was in time for its window, as far as sending and acknowledgement tell. */
export function admission(
  rules: Rules,
  stream: StreamRules,
  { sentMs, acknowledgedMs }: Delivery,
  timeMs: number,
): 'certain' | 'possible' | 'no' {
  const latestMs = acknowledgedMs ?? Number.POSITIVE_INFINITY;
  const paneMs = lengths(stream.windows[0]!).sizeMs;
  const lateFromMs = downTo(timeMs, paneMs) + paneMs + rules.graceMs;
  if (sentMs >= lateFromMs || timeMs > latestMs + rules.skewMs) return 'no';
  return latestMs < lateFromMs && timeMs <= sentMs + rules.skewMs ? 'certain' : 'possible';
}

/** Tags by ascending names, as text. */
export function tagText(tags: unknown): string {
  const entries = Object.entries(tags as Record<string, string>);
  return JSON.stringify(Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1))));
}

function capturesOf(template: string, topic: string): Record<string, string> | null {
  const [levels, parts] = [template.split('/'), topic.split('/')];
  const tags: Record<string, string> = {};
  for (let i = 0; i < Math.max(levels.length, parts.length); i++) {
    const name = /^\{(.+)\}$/.exec(levels[i] ?? '')?.[1];
    if (name !== undefined && parts[i]) tags[name] = parts[i]!;
    else if (levels[i] !== parts[i]) return null;
  }
  return tags;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `5m_1m`: five minutes long, every minute. */
export function lengths(window: string): { sizeMs: number; everyMs: number } {
  const [sizeMs, everyMs] = window.split('_').map((length) => {
    const [, number, unit] = /^(\d+)([a-z]+)$/.exec(length)!;
    return Number(number) * UNITS[unit!]!;
  });
  return { sizeMs: sizeMs!, everyMs: everyMs ?? sizeMs! };
}

function downTo(timeMs: number, stepMs: number): number {
  return timeMs - (((timeMs % stepMs) + stepMs) % stepMs);
}

function parse(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

/**
 * One device on the board: what it did last, and what can be told from that about its sequence, its clock and its pauses.
 * `accept` is on the hot path: assignments only.
 */
import { type Reading, type Refusal, type RefusalCode, seriesName } from '../reading.ts';

/** A counter that falls by more than this began anew; by less, a reading was overtaken. */
const RESTART_DISTANCE = 1_000;
const SILENT_AT_LEAST_MS = 30_000;
const SILENT_INTERVALS = 5;
const SMOOTHING = 1 / 8;
const REASON_LENGTH = 300;

/** One device as it is shown. */
export interface DeviceView {
  readonly stream: string;
  readonly key: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly values: Readonly<Record<string, number>>;
  /** What to ask `/api/v1/rows` for. */
  readonly series: string;
  /** Event time and received stamp of the last accepted reading; null when there was none. */
  readonly timeMs: number | null;
  readonly receivedMs: number | null;
  readonly readings: number;
  readonly sequence: number | null;
  /** Sequence numbers skipped since this process started, and in how many gaps. */
  readonly missing: number;
  readonly gaps: number;
  readonly restarts: number;
  /** Smoothed received stamp minus event time. */
  readonly skewMs: number;
  /** Nothing for much longer than this device's usual interval. */
  readonly silent: boolean;
  readonly refusals: number;
  readonly lastRefusal: { readonly code: RefusalCode; readonly reason: string; readonly receivedMs: number } | null;
}

export class Device {
  readonly stream: string;
  readonly key: string;
  readonly sortKey: string;
  /** What a search looks into. */
  haystack: string;
  tags: Readonly<Record<string, string>>;
  /** Our own copy: a reading that is kept until the next one comes would be one more for the garbage collector to move. */
  readonly #values = new LastValues();
  timeMs = 0;
  receivedMs = 0;
  readings = 0;
  sequence = -1;
  missing = 0;
  gaps = 0;
  restarts = 0;
  skewMs = 0;
  intervalMs = 0;
  refusals = 0;
  lastRefusal: DeviceView['lastRefusal'] = null;
  /** Changed since it was last sent to the live pages. */
  changed = true;

  constructor(stream: string, key: string, tags: Readonly<Record<string, string>>) {
    this.stream = stream;
    this.key = key;
    this.tags = tags;
    this.sortKey = `${sortable(key)}\0${stream}`;
    this.haystack = haystackOf(key, tags);
  }

  accept(reading: Reading, receivedMs: number): void {
    const skewMs = receivedMs - reading.timeMs;
    if (this.readings === 0) {
      this.skewMs = skewMs;
      if (this.refusals > 0) this.haystack = haystackOf(this.key, reading.tags);
    } else {
      const sinceMs = receivedMs - this.receivedMs;
      this.skewMs += (skewMs - this.skewMs) * SMOOTHING;
      this.intervalMs = this.readings === 1 ? sinceMs : this.intervalMs + (sinceMs - this.intervalMs) * SMOOTHING;
    }
    this.readings++;
    this.tags = reading.tags;
    this.#values.set(reading.values);
    this.timeMs = reading.timeMs;
    this.receivedMs = receivedMs;
    this.changed = true;
    if (reading.sequence !== undefined) this.#follow(reading.sequence);
  }

  refuse(refusal: Refusal, receivedMs: number): void {
    this.refusals++;
    this.lastRefusal = { code: refusal.code, reason: refusal.reason.slice(0, REASON_LENGTH), receivedMs };
    this.changed = true;
  }

  #follow(sequence: number): void {
    const last = this.sequence;
    if (last < 0 || sequence === last + 1) {
      this.sequence = sequence;
    } else if (sequence > last) {
      this.gaps++;
      this.missing += sequence - last - 1;
      this.sequence = sequence;
    } else if (sequence === last) {
      // Redelivered.
    } else if (last - sequence > RESTART_DISTANCE || sequence <= 1) {
      this.restarts++;
      this.sequence = sequence;
    } else if (this.missing > 0) {
      // One that was overtaken fills its gap; an older one that is redelivered does so here too, unlike in the rows.
      this.missing--;
    }
  }

  lastSeenMs(): number {
    return Math.max(this.receivedMs, this.lastRefusal?.receivedMs ?? 0);
  }

  /** By its newest message. What is too far ahead is refused, and how far is then not known. */
  hasWrongClock(limitMs: number): boolean {
    const refusal = this.lastRefusal;
    if (refusal?.code === 'time-future' && refusal.receivedMs >= this.receivedMs) return true;
    return this.readings > 0 && Math.abs(this.skewMs) > limitMs;
  }

  silent(nowMs: number): boolean {
    if (this.readings < 2) return false;
    return nowMs - this.receivedMs > Math.max(SILENT_AT_LEAST_MS, SILENT_INTERVALS * this.intervalMs);
  }

  show(nowMs: number): DeviceView {
    const seen = this.readings > 0;
    return {
      stream: this.stream,
      key: this.key,
      tags: this.tags,
      values: this.#values.copy(),
      series: seriesName(this.tags),
      timeMs: seen ? this.timeMs : null,
      receivedMs: seen ? this.receivedMs : null,
      readings: this.readings,
      sequence: this.sequence < 0 ? null : this.sequence,
      missing: this.missing,
      gaps: this.gaps,
      restarts: this.restarts,
      skewMs: Math.round(this.skewMs),
      silent: this.silent(nowMs),
      refusals: this.refusals,
      lastRefusal: this.lastRefusal,
    };
  }
}

/** By place, in two arrays: a device sends the same metrics each time, and writing them by name costs three times as much. */
class LastValues {
  #names: string[] = [];
  #numbers: number[] = [];

  set(values: Readonly<Record<string, number>>): void {
    let count = 0;
    for (const name in values) {
      if (this.#names[count] !== name) {
        count = Number.NaN;
        break;
      }
      this.#numbers[count++] = values[name]!;
    }
    if (count === this.#names.length) return;
    this.#names = Object.keys(values);
    this.#numbers = Object.values(values);
  }

  copy(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#names.map((name, i) => [name, this.#numbers[i]!]));
  }
}

/** Digits are compared as numbers: d2 before d10. */
function sortable(key: string): string {
  return key.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(15, '0'));
}

function haystackOf(key: string, tags: Readonly<Record<string, string>>): string {
  return [key, ...Object.values(tags)].join('\0').toLowerCase();
}

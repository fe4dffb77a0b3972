/**
 * Alerts: what the user wants to be told about (`AlertRule`, from the configuration) and what is told (`Alert`, the value of
 * an `alert` record in the log of alerts). Each comes at least once; equal ids are the same alert, so receivers can drop
 * repeats. A raised alert and the one that clears it have the same `rule`, `series` and `sinceMs`.
 */
import { createHash } from 'node:crypto';
import type { Statistic } from './row.ts';
import type { ScorePlan } from './stream.ts';

export type AlertStatistic = Statistic | 'count';

/** A statistic of a closed window is beyond a limit, and has come back only when it is within `clear` again. */
export interface ThresholdRule {
  readonly kind: 'threshold';
  readonly name: string;
  readonly stream: string;
  readonly metric: string;
  /** Label of the window size. */
  readonly window: string;
  readonly statistic: AlertStatistic;
  /** Exactly one of the two is not null. */
  readonly above: number | null;
  readonly below: number | null;
  /** Cleared at or within this: not above it, or not below it. */
  readonly clear: number;
  /** So many windows of a series in a row. */
  readonly windows: number;
}

/** A device that was seen has no reading for so long, by the clock of the log. */
export interface SilentRule {
  readonly kind: 'silent';
  readonly name: string;
  readonly stream: string;
  /** The tag by which the stream's readings are ordered: the device. */
  readonly by: string;
  readonly silentMs: number;
}

/** So many payloads were refused within so long. */
export interface DeadLetterRule {
  readonly kind: 'dead-letters';
  readonly name: string;
  /** Null: of any stream, and of none. */
  readonly stream: string | null;
  readonly count: number;
  readonly withinMs: number;
}

/** One reading is beyond a limit: told at once, without waiting for a window to close. */
export interface EachRule {
  readonly kind: 'each';
  readonly name: string;
  readonly stream: string;
  readonly metric: string;
  /** Name of the stream's key: readings of one key are one subject. */
  readonly by: string;
  /** Exactly one of the two is not null. */
  readonly above: number | null;
  readonly below: number | null;
  /** Cleared by the next reading at or within this. */
  readonly clear: number;
  /** Cleared without such a reading after so long, by the clock of the rules. */
  readonly forgetMs: number;
}

/** A score of a series is an alarm: what the model says of the windows, not the user's own limit. */
export interface ScoreRule extends Pick<ScorePlan, 'window' | 'statistic'> {
  readonly kind: 'score';
  readonly name: string;
  readonly stream: string;
  /** Null: every metric that is scored. */
  readonly metric: string | null;
  /** Of the windows that are scored. */
  readonly sizeMs: number;
  readonly everyMs: number;
  /** A score at or above this is not calm; at most the threshold of an alarm. */
  readonly clear: number;
  /** Cleared when so many windows went by without such a score. */
  readonly calm: number;
  /** The tag by which the stream's readings are ordered; null: no tag names it. */
  readonly by: string | null;
}

export type AlertRule = ThresholdRule | SilentRule | DeadLetterRule | EachRule | ScoreRule;

export interface Alert {
  readonly id: string;
  readonly rule: string;
  readonly kind: AlertRule['kind'];
  readonly state: 'raised' | 'cleared';
  /** '' when of no stream in particular. */
  readonly stream: string;
  /** What it is about: `device=d1,site=a`, for scores with the metric; '' for dead letters. */
  readonly series: string;
  readonly tags: Readonly<Record<string, string>>;
  /** When what it is about began: the start of the first window beyond the limit, the last reading, the first refusal. */
  readonly sinceMs: number;
  /** When it was noticed, by the clock of the log. */
  readonly atMs: number;
  /** The statistic, seconds of silence, the number of refusals, or the score. */
  readonly value: number;
  readonly message: string;
}

export function makeAlert(alert: Omit<Alert, 'id'>): Alert {
  const { rule, series, sinceMs, state } = alert;
  const id = createHash('sha256')
    .update(JSON.stringify([rule, series, sinceMs, state]))
    .digest('hex')
    .slice(0, 32);
  return { id, ...alert };
}

/** Raised and cleared alerts of the same thing have the same subject. */
export function subjectOf({ rule, series }: Pick<Alert, 'rule' | 'series'>): string {
  return `${rule}\n${series}`;
}

export function encodeAlert(alert: Alert): Buffer {
  return Buffer.from(JSON.stringify(alert));
}

/** Null when the value is not one of ours. */
export function decodeAlert(value: Uint8Array): Alert | null {
  try {
    const alert = JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString()) as Alert;
    return typeof alert?.id === 'string' && typeof alert.rule === 'string' ? alert : null;
  } catch {
    return null;
  }
}

/**
 * The rules of `alerts:` on closed windows, their scores, the clock of the log, and dead letters. Pure: rows, scores, times and
 * refusals in, alerts out. Fed by parts/alerts.ts, which makes the alerts durable before the rows' position is committed.
 *
 * - Threshold: by the final rows of one window size. Raised after `windows` rows of a series in a row beyond the limit,
 *   cleared by the first row at or within `clear`; what lies between changes nothing.
 * - Silent: a device is seen by any row of its stream. Raised when the clock of the log (the frontier: all up to there is
 *   final) is `silentMs` past its last window; cleared by its next row. A device is known after its first row. When the
 *   clock jumps by more than MAX_STEP_MS nobody was listening (the gateway was down), and that time is not silence.
 * - Each: judges every reading of a stream as it comes by in the log, by its key. Raised by a reading beyond the limit, cleared by the
 *   next one at or within `clear`, or after `forgetMs`. Readings that come by again after a restart are not judged again: those
 *   received up to the last alert of their key are passed over.
 * - Score: raised by a score that is an alarm, cleared when `calm` windows' time went by since the last score at or above `clear`,
 *   by a later score of the series, or by the clock when none comes. Scores that are made again after a crash are not judged again:
 *   those of windows that end at or before the last alert of their series are passed over.
 * - Dead letters: raised when `count` of them were received within `withinMs`, cleared when fewer than half were.
 *
 * What is active comes back after a restart by `restore`, and who was seen by `seen`, both from what is durable. What a
 * restart forgets: windows in a row that were not yet enough, and refusals that were not yet enough.
 * Memory: at most MAX_SUBJECTS devices or series for a rule, and MAX_ACTIVE active alerts; further ones are counted.
 */
import {
  type Alert,
  type AlertRule,
  type DeadLetterRule,
  type EachRule,
  makeAlert,
  type ScoreRule,
  type SilentRule,
  subjectOf,
  type ThresholdRule,
} from '../alert.ts';
import { type Reading, seriesName } from '../reading.ts';
import type { Row } from '../row.ts';
import type { Score } from '../scored.ts';
import { formatDuration } from '../units.ts';

export const MAX_SUBJECTS = 100_000;
export const MAX_ACTIVE = 10_000;
export const MAX_STEP_MS = 60_000;

/** Rows in a row beyond a threshold. */
interface Run {
  readonly sinceMs: number;
  lastMs: number;
  windows: number;
}

interface Seen {
  lastMs: number;
  readonly tags: Readonly<Record<string, string>>;
}

export class AlertEngine {
  readonly #thresholds: readonly ThresholdRule[];
  readonly #silent: readonly SilentRule[];
  readonly #deadLetters: readonly DeadLetterRule[];
  readonly #each: readonly EachRule[];
  readonly #scores: readonly ScoreRule[];
  readonly #known: ReadonlySet<string>;
  readonly #active = new Map<string, Alert>();
  readonly #runs = new Map<ThresholdRule, Map<string, Run>>();
  readonly #seen = new Map<SilentRule, Map<string, Seen>>();
  /** Received stamps, the newest `count` of them. */
  readonly #refusals = new Map<DeadLetterRule, number[]>();
  /** Of rules that judge readings or scores: the time of the last alert, by subject. */
  readonly #judgedTo = new Map<string, number>();
  /** Of active alerts of scores: the end of the last window that was not calm, by subject. */
  readonly #unusualTo = new Map<string, number>();
  #clockMs = Number.NEGATIVE_INFINITY;
  /** Series, devices and alerts that there was no room for. */
  overflowed = 0;

  constructor(rules: readonly AlertRule[]) {
    const of = <K extends AlertRule['kind']>(kind: K) =>
      rules.filter((rule): rule is Extract<AlertRule, { kind: K }> => rule.kind === kind);
    this.#thresholds = of('threshold');
    this.#silent = of('silent');
    this.#deadLetters = of('dead-letters');
    this.#each = of('each');
    this.#scores = of('score');
    this.#known = new Set(rules.map(({ name }) => name));
    for (const rule of this.#thresholds) this.#runs.set(rule, new Map());
    for (const rule of this.#silent) this.#seen.set(rule, new Map());
    for (const rule of this.#deadLetters) this.#refusals.set(rule, []);
  }

  get active(): readonly Alert[] {
    return [...this.#active.values()];
  }

  /**
   * Alerts as they were made durable, oldest first; those of rules that are gone are left out. And how far the clock was. Only an
   * alert of a score that `isOurs` is cleared by the clock alone: of another process's series no scores come by here.
   */
  restore(
    alerts: Iterable<Alert>,
    frontierMs: number,
    isOurs: (rule: ScoreRule, tags: Alert['tags']) => boolean = () => true,
  ): void {
    if (Number.isFinite(frontierMs)) this.#clockMs = frontierMs;
    for (const alert of alerts) {
      const subject = subjectOf(alert);
      this.#active.delete(subject);
      if (alert.kind === 'each' || alert.kind === 'score') this.#judged(subject, alert.atMs);
      if (alert.state === 'raised' && this.#known.has(alert.rule)) this.#active.set(subject, alert);
    }
    // What was unusual between an alert and the restart is not known here: calm windows are counted anew.
    for (const rule of this.#scores) {
      for (const [subject, { rule: name, tags, atMs }] of this.#active) {
        if (name === rule.name && isOurs(rule, tags)) this.#unusualTo.set(subject, Math.max(atMs, this.#clockMs));
      }
    }
  }

  /** A row that was closed before: its device was there. */
  seen(row: Row): void {
    for (const rule of this.#silent) if (rule.stream === row.stream) this.#saw(rule, row);
  }

  closed(rows: readonly Row[]): Alert[] {
    const alerts: Alert[] = [];
    for (const row of rows) {
      for (const rule of this.#thresholds) {
        if (rule.stream === row.stream && rule.metric === row.metric && rule.window === row.window) {
          this.#judge(rule, row, alerts);
        }
      }
      for (const rule of this.#silent) {
        if (rule.stream !== row.stream) continue;
        this.#saw(rule, row);
        const active = this.#activeOf(rule, deviceOf(rule, row));
        if (active && row.endMs > active.sinceMs) {
          const value = Math.round((row.endMs - active.sinceMs) / 1_000);
          this.#clear(active, row.endMs, value, `${active.series} is back`, alerts);
        }
      }
    }
    return alerts;
  }

  /** Every window that ends at or before it has been given to `closed`. */
  clock(frontierMs: number): Alert[] {
    if (frontierMs <= this.#clockMs) return [];
    const stepMs = frontierMs - this.#clockMs;
    this.#clockMs = frontierMs;
    const alerts: Alert[] = [];
    for (const [rule, devices] of this.#seen) {
      if (Number.isFinite(stepMs) && stepMs > MAX_STEP_MS) {
        for (const seen of devices.values()) if (seen.lastMs <= frontierMs - stepMs) seen.lastMs += stepMs;
      }
      for (const [series, { lastMs, tags }] of devices) {
        if (frontierMs - lastMs < rule.silentMs) continue;
        devices.delete(series);
        const value = Math.round((frontierMs - lastMs) / 1_000);
        const message = `${series} has been silent for more than ${formatDuration(rule.silentMs)}`;
        this.#raise(
          rule,
          { stream: rule.stream, series, tags, sinceMs: lastMs, atMs: frontierMs, value, message },
          alerts,
        );
      }
    }
    return alerts;
  }

  /** Scores of each series in the order of its windows, some of them again after a crash. */
  scored(scores: readonly Score[]): Alert[] {
    const alerts: Alert[] = [];
    for (const score of scores) {
      for (const rule of this.#scores) {
        if (rule.stream !== score.stream || (rule.metric !== null && rule.metric !== score.metric)) continue;
        this.#judgeScore(rule, score, alerts);
      }
    }
    return alerts;
  }

  /** Every window that ends at or before it has been scored, as far as it ever will be. */
  scoredTo(frontierMs: number): Alert[] {
    const alerts: Alert[] = [];
    for (const rule of this.#scores) {
      for (const [subject, active] of [...this.#active]) {
        const unusualToMs = active.rule === rule.name ? this.#unusualTo.get(subject) : undefined;
        if (unusualToMs === undefined || frontierMs - unusualToMs < rule.calm * rule.everyMs) continue;
        this.#calm(rule, active, frontierMs, active.value, alerts);
      }
    }
    return alerts;
  }

  /** A reading as it stands in the log, whether it is counted in a window or not. */
  read(reading: Pick<Reading, 'stream' | 'key' | 'timeMs' | 'tags' | 'values'>, receivedMs: number): Alert[] {
    const alerts: Alert[] = [];
    for (const rule of this.#each) {
      const value = rule.stream === reading.stream ? reading.values[rule.metric] : undefined;
      if (value === undefined) continue;
      const series = seriesName({ [rule.by]: reading.key });
      const subject = subjectOf({ rule: rule.name, series });
      if (receivedMs <= (this.#judgedTo.get(subject) ?? Number.NEGATIVE_INFINITY)) continue;
      const active = this.#active.get(subject);
      const isBeyond = rule.above !== null ? value > rule.above : value < rule.below!;
      const isWithin = rule.above !== null ? value <= rule.clear : value >= rule.clear;
      if (active && isWithin) {
        this.#judged(subject, receivedMs);
        const message = `${rule.metric} ${short(value, 6)} of ${series}: within ${rule.clear} again`;
        this.#clear(active, receivedMs, value, message, alerts);
      } else if (!active && isBeyond) {
        this.#judged(subject, receivedMs);
        const limit = rule.above !== null ? `above ${rule.above}` : `below ${rule.below}`;
        const message = `${rule.metric} ${short(value, 6)} of ${series} is ${limit}`;
        const tags = { ...reading.tags, [rule.by]: reading.key };
        const about = { stream: rule.stream, series, tags, sinceMs: reading.timeMs, atMs: receivedMs };
        this.#raise(rule, { ...about, value, message }, alerts);
      }
    }
    return alerts;
  }

  refused(stream: string, receivedMs: number): Alert[] {
    const alerts: Alert[] = [];
    for (const [rule, times] of this.#refusals) {
      if (rule.stream !== null && rule.stream !== stream) continue;
      times.push(receivedMs);
      if (times.length > rule.count) times.shift();
      const sinceMs = times[0]!;
      if (times.length < rule.count || receivedMs - sinceMs > rule.withinMs || this.#activeOf(rule, '')) continue;
      const message = `${rule.count} payloads${rule.stream ? ` of ${rule.stream}` : ''} were refused within ${formatDuration(rule.withinMs)}`;
      const about = { stream: rule.stream ?? '', series: '', tags: {}, value: rule.count, message };
      this.#raise(rule, { ...about, sinceMs, atMs: receivedMs }, alerts);
    }
    return alerts;
  }

  /** Looks whether bursts of dead letters are over, and alerts of single readings old. */
  quiet(nowMs: number): Alert[] {
    const alerts: Alert[] = [];
    for (const rule of this.#each) {
      for (const active of [...this.#active.values()]) {
        if (active.rule !== rule.name || nowMs - active.atMs < rule.forgetMs) continue;
        this.#judged(subjectOf(active), nowMs);
        const message = `${active.series}: nothing more for ${formatDuration(rule.forgetMs)}`;
        this.#clear(active, nowMs, active.value, message, alerts);
      }
    }
    for (const [rule, times] of this.#refusals) {
      const active = this.#activeOf(rule, '');
      if (!active) continue;
      const recent = times.filter((atMs) => atMs > nowMs - rule.withinMs).length;
      if (recent < rule.count / 2) this.#clear(active, nowMs, recent, 'fewer payloads are refused again', alerts);
    }
    return alerts;
  }

  #judge(rule: ThresholdRule, row: Row, alerts: Alert[]): void {
    const value = row[rule.statistic];
    if (value === null) return;
    const series = seriesName(row.tags);
    const active = this.#activeOf(rule, series);
    const runs = this.#runs.get(rule)!;
    const beyond = rule.above !== null ? value > rule.above : value < rule.below!;
    if (active) {
      const within = rule.above !== null ? value <= rule.clear : value >= rule.clear;
      if (!within || row.startMs <= active.sinceMs) return;
      this.#clear(
        active,
        row.endMs,
        value,
        `${describe(rule, value)} of ${series}: within ${rule.clear} again`,
        alerts,
      );
      return;
    }
    if (!beyond) {
      runs.delete(series);
      return;
    }
    let run = runs.get(series);
    if (!run) {
      if (runs.size >= MAX_SUBJECTS) {
        this.overflowed++;
        return;
      }
      run = { sinceMs: row.startMs, lastMs: Number.NEGATIVE_INFINITY, windows: 0 };
      runs.set(series, run);
    }
    // A row that comes again after a crash counts once.
    if (row.startMs <= run.lastMs) return;
    run.lastMs = row.startMs;
    run.windows++;
    if (run.windows < rule.windows) return;
    runs.delete(series);
    const limit = rule.above !== null ? `above ${rule.above}` : `below ${rule.below}`;
    const message = `${describe(rule, value)} of ${series} is ${limit}`;
    const { stream, tags, endMs: atMs } = row;
    this.#raise(rule, { stream, series, tags, sinceMs: run.sinceMs, atMs, value, message }, alerts);
  }

  #judgeScore(rule: ScoreRule, scored: Score, alerts: Alert[]): void {
    const { stream, metric, startMs, value, expected, score, alarm } = scored;
    const tags = metric === '' ? scored.tags : { ...scored.tags, metric };
    const series = seriesName(tags);
    const subject = subjectOf({ rule: rule.name, series });
    const endMs = startMs + rule.sizeMs;
    if (endMs <= (this.#judgedTo.get(subject) ?? Number.NEGATIVE_INFINITY)) return;
    const active = this.#active.get(subject);
    if (active) {
      const unusualToMs = this.#unusualTo.get(subject) ?? endMs - rule.everyMs;
      const isCalm = score === null || score < rule.clear;
      this.#unusualTo.set(subject, isCalm ? unusualToMs : Math.max(unusualToMs, endMs));
      if (isCalm && endMs - unusualToMs >= rule.calm * rule.everyMs) {
        this.#calm(rule, active, endMs, score ?? active.value, alerts);
      }
      return;
    }
    if (!alarm || score === null) return;
    const forecast = expected === null ? '' : `, ${short(expected)} was forecast`;
    const message = `${describe({ ...rule, metric }, value)} of ${seriesName(scored.tags)} is unusual: score ${short(score)}${forecast}`;
    const about = { stream, series, tags, sinceMs: startMs, atMs: endMs, value: score, message };
    if (!this.#raise(rule, about, alerts)) return;
    this.#judged(subject, endMs);
    this.#unusualTo.set(subject, endMs);
  }

  #calm(rule: ScoreRule, active: Alert, atMs: number, value: number, alerts: Alert[]): void {
    const subject = subjectOf(active);
    this.#judged(subject, atMs);
    this.#unusualTo.delete(subject);
    this.#clear(active, atMs, value, `${active.series}: nothing unusual for ${rule.calm} windows`, alerts);
  }

  #saw(rule: SilentRule, row: Row): void {
    const series = deviceOf(rule, row);
    const devices = this.#seen.get(rule)!;
    const seen = devices.get(series);
    if (seen) seen.lastMs = Math.max(seen.lastMs, row.endMs);
    else if (devices.size >= MAX_SUBJECTS) this.overflowed++;
    else devices.set(series, { lastMs: row.endMs, tags: { [rule.by]: row.tags[rule.by] ?? '' } });
  }

  /** The oldest make room: their readings and scores are the least likely to come by again. */
  #judged(subject: string, atMs: number): void {
    this.#judgedTo.delete(subject);
    this.#judgedTo.set(subject, atMs);
    if (this.#judgedTo.size > MAX_SUBJECTS) this.#judgedTo.delete(this.#judgedTo.keys().next().value!);
  }

  #activeOf(rule: AlertRule, series: string): Alert | undefined {
    return this.#active.get(subjectOf({ rule: rule.name, series }));
  }

  /** False: it is active, or there is no room for it. */
  #raise(rule: AlertRule, about: Omit<Alert, 'id' | 'rule' | 'kind' | 'state'>, alerts: Alert[]): boolean {
    if (this.#activeOf(rule, about.series)) return false;
    if (this.#active.size >= MAX_ACTIVE) {
      this.overflowed++;
      return false;
    }
    const alert = makeAlert({ rule: rule.name, kind: rule.kind, state: 'raised', ...about });
    this.#active.set(subjectOf(alert), alert);
    alerts.push(alert);
    return true;
  }

  #clear(active: Alert, atMs: number, value: number, message: string, alerts: Alert[]): void {
    this.#active.delete(subjectOf(active));
    const { id: _, ...rest } = active;
    alerts.push(makeAlert({ ...rest, state: 'cleared', atMs, value, message }));
  }
}

function deviceOf({ by }: SilentRule, { tags }: Row): string {
  return seriesName({ [by]: tags[by] ?? '' });
}

function describe(of: Pick<ThresholdRule, 'metric' | 'statistic' | 'window'>, value: number): string {
  return `${of.metric || 'count'} (${of.metric ? of.statistic : 'count'} over ${of.window}) ${value}`;
}

/** A number to be read: what a model says is good for four digits. The alert itself has all of it. */
function short(value: number, digits = 4): string {
  return String(Number(value.toPrecision(digits)));
}

/**
 * Scores closed windows: the stage behind the rollup that has opinions. It reads final rows and the scores of before, and
 * writes scores; exact rows never wait for it and never change by it.
 *
 * Who calls: the rollup hands over rows once they are durable (`closed`), and says when partitions changed hands
 * (`reassigned`). Nothing here is called back before that returns; the work is done in small steps in between.
 *
 * The store is this stage's log: there is no checkpoint. A series that is not in memory (after a start, a change of hands, a
 * failed write) is made anew from the stored rows and scores of its horizon (neighbours.ts), and gets the scores that
 * are missing since its newest stored one, at most CATCH_UP windows. So after a crash every row is scored all the same, at
 * the latest with the next row of its series, and to the same bits; only where a repair has changed rows meanwhile may
 * the scores after them differ from what they were.
 *
 * Alarms are handed to `alert` before their scores are written: with the store as the only memory, what is not written is scored
 * again, so a crash between the two tells an alert again, and never loses it.
 *
 * Bounded: `maxSeries` series in memory, the longest unused makes room; MAX_WAITING rows wait, beyond that the series of a
 * row is made anew later instead. A store that fails is not tried again at once: the series is made anew with its next row.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { done, messageOf, type Outcome } from '../errors.ts';
import { seriesName } from '../reading.ts';
import type { Row, RowQuery } from '../row.ts';
import type { Forecast, ForecastQuery, Score } from '../scored.ts';
import type { ScorePlan, Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import { horizonMs, memoryMs, Neighbours } from './neighbours.ts';

/** Windows before the newest that are scored late, after an interruption. */
export const CATCH_UP = 360;
/** Rows that wait to be scored. */
export const MAX_WAITING = 50_000;
/** Scores of one write. */
const MAX_BATCH = 1_000;
/** Rows scored between two pauses for others. */
const ROWS_A_TURN = 100;

export interface ScoringStore {
  read(query: RowQuery): AsyncIterable<Row>;
  readScores(query: RowQuery): AsyncIterable<Score>;
  writeScores(scores: readonly Score[]): Promise<Outcome>;
}

export interface ScoringOptions {
  readonly streams: Readonly<Record<string, Stream>>;
  readonly maxSeries: number;
  readonly store: ScoringStore;
  /** Resolves with ok when what these scores raise or clear is durable. */
  readonly alert?: ((scores: readonly Score[]) => Promise<Outcome>) | undefined;
  readonly telemetry: Telemetry;
}

interface Series {
  readonly plan: Planned;
  readonly like: Pick<Row, 'stream' | 'metric' | 'window' | 'tags'>;
  /** Null: to be made from the store. */
  memory: Neighbours | null;
  waiting: Row[];
}

type Planned = ScorePlan & { readonly stepMs: number };

export class Scoring {
  readonly #options: ScoringOptions;
  readonly #plans = new Map<string, Planned>();
  /** By stream, metric and tags; the most recently used last. */
  readonly #series = new Map<string, Series>();
  readonly #due = new Set<Series>();
  #waiting = 0;
  #working: Promise<void> | null = null;
  #stopping = false;

  constructor(options: ScoringOptions) {
    this.#options = options;
    for (const { name, score, windows } of Object.values(options.streams)) {
      if (score === null) continue;
      const window = windows.find(({ label }) => label === score.window)!;
      this.#plans.set(name, { ...score, stepMs: window.everyMs });
    }
  }

  /** Whether anything is scored at all. */
  get isIdle(): boolean {
    return this.#plans.size === 0;
  }

  /** Rows that just became durable. */
  closed(rows: readonly Row[]): void {
    if (this.isIdle || this.#stopping) return;
    for (const row of rows) {
      const plan = this.#plans.get(row.stream);
      if (plan === undefined || plan.window !== row.window || !isWatched(plan, row)) continue;
      const series = this.#of(row, plan);
      if (this.#waiting < MAX_WAITING) {
        series.waiting.push(row);
        this.#waiting++;
      } else {
        // Its rows are in the store: one is enough to come back to them.
        this.#waiting -= series.waiting.length - 1;
        series.waiting = [row];
        series.memory = null;
        this.#options.telemetry.limitReached.inc({ limit: 'score.waiting' });
      }
      this.#due.add(series);
    }
    this.#work();
  }

  /** Other processes may have scored what was ours, and what is ours now was scored by others. */
  reassigned(): void {
    for (const series of this.#series.values()) series.memory = null;
  }

  /** The next windows of the series that match, as far as they are in memory; at most `limit` forecasts. */
  forecasts({ limit, ...query }: ForecastQuery): Forecast[] {
    const forecasts: Forecast[] = [];
    for (const { like, memory, plan } of this.#series.values()) {
      if (like.stream !== query.stream || (query.metric !== undefined && like.metric !== query.metric)) continue;
      if (!Object.entries(query.tags ?? {}).every(([name, value]) => like.tags[name] === value)) continue;
      for (const ahead of memory?.ahead(plan.ahead) ?? []) {
        if (forecasts.length === limit) return forecasts;
        forecasts.push({ ...like, ...ahead });
      }
    }
    return forecasts;
  }

  /** All that was handed over is scored and stored, or could not be. */
  get isSettled(): boolean {
    return this.#working === null && this.#due.size === 0;
  }

  /** Resolves when all that was handed over is scored and stored, or could not be. */
  async settled(): Promise<void> {
    while (this.#working) await this.#working;
  }

  /** Lets go of what waits: the next start comes back to it. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#due.clear();
    await this.settled();
  }

  #of(row: Row, plan: Planned): Series {
    const key = `${row.stream} ${row.metric} ${seriesName(row.tags)}`;
    let series = this.#series.get(key);
    if (series === undefined) {
      const { stream, metric, window, tags } = row;
      series = { plan, like: { stream, metric, window, tags }, memory: null, waiting: [] };
      this.#makeRoom();
    } else {
      this.#series.delete(key);
    }
    this.#series.set(key, series);
    return series;
  }

  #makeRoom(): void {
    if (this.#series.size < this.#options.maxSeries) return;
    const [key, oldest] = this.#series.entries().next().value!;
    this.#series.delete(key);
    this.#due.delete(oldest);
    this.#waiting -= oldest.waiting.length;
    const fields = { maxSeries: this.#options.maxSeries };
    this.#options.telemetry.limitReached.inc({ limit: 'score.maxSeries' });
    this.#options.telemetry.limited('warn', 'score-series', fields, 'more series are scored than score.max_series');
  }

  #work(): void {
    if (this.#working || this.#due.size === 0) return;
    this.#working = this.#workOff().finally(() => {
      this.#working = null;
      this.#work();
    });
  }

  async #workOff(): Promise<void> {
    let scores: Score[] = [];
    let from = new Set<Series>();
    let rows = 0;
    for (const series of this.#due) {
      this.#due.delete(series);
      const waiting = series.waiting;
      series.waiting = [];
      this.#waiting -= waiting.length;
      scores.push(...(await this.#scored(series, waiting)));
      from.add(series);
      rows += waiting.length;
      if (rows >= ROWS_A_TURN) {
        rows = 0;
        await nextTurn();
      }
      if (scores.length >= MAX_BATCH) {
        await this.#write(scores, from);
        scores = [];
        from = new Set();
      }
    }
    await this.#write(scores, from);
  }

  async #scored(series: Series, rows: readonly Row[]): Promise<Score[]> {
    const { like, plan, memory } = series;
    if (memory !== null) return rows.flatMap((row) => scoreOf(row, plan, memory) ?? []);
    try {
      return await this.#anew(series, rows.at(-1)!);
    } catch (thrown) {
      const fields = { stream: like.stream, reason: messageOf(thrown) };
      this.#options.telemetry.limited(
        'warn',
        'score-read',
        fields,
        'windows are not scored: their past cannot be read',
      );
      return [];
    }
  }

  /** From the store; answers the scores that are missing there, up to that of `last`. */
  async #anew(series: Series, last: Row): Promise<Score[]> {
    const { store } = this.#options;
    const { like, plan } = series;
    const { stepMs } = plan;
    const name = seriesName(like.tags);
    const query = { stream: like.stream, window: like.window, metric: like.metric, tags: like.tags };
    const isOurs = (row: { readonly tags: Row['tags'] }) => seriesName(row.tags) === name;
    const oldestMs = last.startMs - CATCH_UP * stepMs;
    const known = new Map<number, Score>();
    let missingFromMs = last.startMs;
    for await (const score of store.readScores({ ...query, fromMs: oldestMs - memoryMs(stepMs), toMs: last.startMs })) {
      if (!isOurs(score)) continue;
      known.set(score.startMs, score);
      missingFromMs = Math.max(oldestMs, score.startMs + 1);
    }
    const memory = new Neighbours(stepMs, plan.threshold);
    const scores: Score[] = [];
    const fromMs = missingFromMs - horizonMs(stepMs);
    for await (const row of store.read({ ...query, fromMs, toMs: last.startMs + 1 })) {
      if (!isOurs(row)) continue;
      const value = watchedOf(row, plan);
      if (value === null) continue;
      if (row.startMs >= missingFromMs) scores.push(...(scoreOf(row, plan, memory) ?? []));
      else if (row.startMs < missingFromMs - memoryMs(stepMs)) memory.prime(row.startMs, value);
      else memory.add(row.startMs, value, known.get(row.startMs));
    }
    series.memory = memory;
    return scores;
  }

  async #write(scores: readonly Score[], from: ReadonlySet<Series>): Promise<void> {
    if (scores.length === 0) return;
    const { store, telemetry, alert } = this.#options;
    const told = (await alert?.(scores)) ?? done;
    const written = told.ok ? await store.writeScores(scores) : told;
    if (!written.ok) {
      for (const series of from) series.memory = null;
      const { code, message } = written.failure;
      // The next start comes back to them.
      if (code === 'STOPPED') return;
      telemetry.limited('warn', 'score-write', { code, reason: message }, 'scores were not written');
      return;
    }
    for (const score of scores) {
      telemetry.scored.inc({ stream: score.stream });
      if (score.alarm) telemetry.alarms.inc({ stream: score.stream });
    }
  }
}

export function isWatched({ metrics }: ScorePlan, row: Row): boolean {
  return row.metric === '' || metrics.includes(row.metric);
}

/** Null: the row has no such statistic. */
export function watchedOf(row: Row, { statistic }: ScorePlan): number | null {
  return row.metric === '' ? row.count : row[statistic];
}

function scoreOf(row: Row, plan: ScorePlan, memory: Neighbours): Score[] | null {
  const value = watchedOf(row, plan);
  const opinion = value === null ? null : memory.add(row.startMs, value);
  if (value === null || opinion === null) return null;
  const { stream, metric, window, startMs, tags } = row;
  return [{ stream, metric, window, startMs, tags, value, ...opinion }];
}

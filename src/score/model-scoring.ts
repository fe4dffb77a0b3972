/**
 * Scores of a model that the user brings, as an ONNX file, beside those of neighbours.ts: of the newest `windows` closed windows of each
 * series, one number. Exact rows never wait for it and never change by it.
 *
 * Who calls: the rollup hands over rows once they are durable (`closed`), and says when partitions changed hands (`reassigned`).
 * A score has the tags of its series and one more, MODEL_TAG, with the name of the model; it is never an alarm.
 *
 * What the model is asked: float32[count, windows], the values oldest first; it has to answer one float32 for each row, as [count] or
 * [count, 1]. Windows of one series follow one another as they came: a gap in time is none in the values. A series that is not in memory
 * is read from the store; one with fewer windows says nothing. A window whose score could not be made or written is passed over.
 *
 * Bounded: `batch` rows of one call, `queue` rows that wait (beyond that the oldest are passed over), `timeoutMs` of one call,
 * `maxSeries` series in memory.
 */
import type { Clock } from '../clock.ts';
import { messageOf } from '../errors.ts';
import { seriesName } from '../reading.ts';
import type { Row } from '../row.ts';
import type { Score } from '../scored.ts';
import type { ModelPlan, ScorePlan, Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import { ModelThread } from './model-thread.ts';
import { isWatched, type ScoringStore, watchedOf } from './scoring.ts';

/** No tag of a reading begins like this. */
export const MODEL_TAG = '_model';
/** Of a series that is read anew: so many times the windows that the model wants, for those that are absent. */
const GAPS = 4;

export interface ModelLimits {
  readonly batch: number;
  readonly queue: number;
  readonly timeoutMs: number;
}

export interface ModelScoringOptions {
  readonly streams: Readonly<Record<string, Stream>>;
  readonly maxSeries: number;
  readonly limits: ModelLimits;
  readonly store: Pick<ScoringStore, 'read' | 'writeScores'>;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** Of the thread; tests, which run from TypeScript, name the compiled one. */
  readonly threadEntry?: URL;
}

interface Memory {
  newestMs: number;
  readonly values: number[];
}

export class ModelScoring {
  readonly #models: ReadonlyMap<string, OfStream>;

  constructor(options: ModelScoringOptions) {
    const models = Object.values(options.streams).flatMap((stream) => {
      const { name, score, windows } = stream;
      if (score?.model === undefined) return [];
      const { everyMs } = windows.find(({ label }) => label === score.window)!;
      return [[name, new OfStream(name, score, score.model, everyMs, options)] as const];
    });
    this.#models = new Map(models);
  }

  /** Rows that just became durable. */
  closed(rows: readonly Row[]): void {
    for (const row of rows) this.#models.get(row.stream)?.add(row);
  }

  /** Other processes may have gone on with what was ours. */
  reassigned(): void {
    for (const model of this.#models.values()) model.forget();
  }

  /** Resolves when all that was handed over is scored and stored, or could not be. */
  async settled(): Promise<void> {
    await Promise.all([...this.#models.values()].map((model) => model.settled()));
  }

  /** Lets go of what waits. */
  async stop(): Promise<void> {
    await Promise.all([...this.#models.values()].map((model) => model.stop()));
  }
}

/** One stream and its model. */
class OfStream {
  readonly #stream: string;
  readonly #plan: ScorePlan;
  readonly #model: ModelPlan;
  readonly #stepMs: number;
  readonly #options: ModelScoringOptions;
  readonly #thread: ModelThread;
  /** By metric and tags; the most recently used last. */
  readonly #series = new Map<string, Memory>();
  #waiting: Row[] = [];
  #working: Promise<void> | null = null;
  #stopping = false;

  constructor(stream: string, plan: ScorePlan, model: ModelPlan, stepMs: number, options: ModelScoringOptions) {
    this.#stream = stream;
    this.#plan = plan;
    this.#model = model;
    this.#stepMs = stepMs;
    this.#options = options;
    const { telemetry, clock, limits, threadEntry } = options;
    this.#thread = new ModelThread({
      ...model,
      timeoutMs: limits.timeoutMs,
      clock,
      entry: threadEntry,
      failed: (reason) => telemetry.modelFailures.inc({ stream, reason }),
    });
  }

  add(row: Row): void {
    if (this.#stopping || row.window !== this.#plan.window || !isWatched(this.#plan, row)) return;
    this.#waiting.push(row);
    if (this.#waiting.length > this.#options.limits.queue) {
      // Its series is read anew with its next row.
      this.#series.delete(keyOf(this.#waiting.shift()!));
      this.#options.telemetry.limitReached.inc({ limit: 'score.model_queue' });
    }
    this.#working ??= this.#workOff().finally(() => {
      this.#working = null;
    });
  }

  forget(): void {
    this.#series.clear();
  }

  async settled(): Promise<void> {
    while (this.#working) await this.#working;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#waiting = [];
    await this.#thread.stop();
    await this.settled();
  }

  async #workOff(): Promise<void> {
    // The rows of one call are together, and those of the next may be about to come.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#scoreBatch(this.#waiting.splice(0, this.#options.limits.batch));
  }

  async #scoreBatch(rows: readonly Row[]): Promise<void> {
    const { windows, name } = this.#model;
    const known: { readonly row: Row; readonly value: number; readonly values: readonly number[] }[] = [];
    for (const row of rows) {
      const value = watchedOf(row, this.#plan);
      const values = value === null ? null : await this.#valuesUpTo(row, value);
      if (value !== null && values?.length === windows) known.push({ row, value, values });
    }
    if (known.length === 0 || this.#stopping) return;
    const asked = Float32Array.from(known.flatMap(({ values }) => values));
    const { telemetry, store, clock } = this.#options;
    const startMs = clock.monotonicMs();
    const answer = await this.#thread.run(known.length, asked);
    telemetry.modelSeconds.observe((clock.monotonicMs() - startMs) / 1_000);
    if (!answer.ok) {
      if (answer.failure.code !== 'STOPPED') this.#say(answer.failure.message);
      return;
    }
    const scores = known.flatMap(({ row, value }, i): Score[] => {
      const score = answer.value[i]!;
      if (!Number.isFinite(score)) return [];
      const { stream, metric, window, startMs, tags } = row;
      const unknown = { expected: null, low: null, high: null, distance: 0, alarm: false };
      return [{ stream, metric, window, startMs, tags: { ...tags, [MODEL_TAG]: name }, value, score, ...unknown }];
    });
    if (scores.length < known.length) {
      const lost = known.length - scores.length;
      telemetry.modelFailures.inc({ stream: this.#stream, reason: 'not-finite' }, lost);
      this.#say(`of ${known.length} scores ${lost} are not numbers`);
    }
    const written = scores.length === 0 ? null : await store.writeScores(scores);
    if (written === null) return;
    if (written.ok) telemetry.scored.inc({ stream: this.#stream }, scores.length);
    else this.#say(`its scores were not written: ${written.failure.message}`);
  }

  /** The newest windows of its series up to this one, oldest first; null: it is not newer than the newest, or there is no past. */
  async #valuesUpTo(row: Row, value: number): Promise<readonly number[] | null> {
    const key = keyOf(row);
    let memory = this.#series.get(key);
    this.#series.delete(key);
    if (memory === undefined) {
      try {
        memory = await this.#anew(row);
      } catch (thrown) {
        this.#say(`the past of a series cannot be read: ${messageOf(thrown)}`);
        return null;
      }
      if (this.#series.size >= this.#options.maxSeries) {
        this.#series.delete(this.#series.keys().next().value!);
        this.#options.telemetry.limitReached.inc({ limit: 'score.maxSeries' });
      }
    }
    this.#series.set(key, memory);
    if (row.startMs <= memory.newestMs) return null;
    memory.newestMs = row.startMs;
    memory.values.push(value);
    if (memory.values.length > this.#model.windows) memory.values.shift();
    return [...memory.values];
  }

  async #anew({ stream, metric, window, tags, startMs }: Row): Promise<Memory> {
    const fromMs = startMs - GAPS * this.#model.windows * this.#stepMs;
    const values: number[] = [];
    const name = seriesName(tags);
    for await (const row of this.#options.store.read({ stream, metric, window, tags, fromMs, toMs: startMs })) {
      const value = seriesName(row.tags) === name ? watchedOf(row, this.#plan) : null;
      if (value !== null) values.push(value);
    }
    return { newestMs: Number.NEGATIVE_INFINITY, values: values.slice(-this.#model.windows) };
  }

  #say(message: string): void {
    const { name, file } = this.#model;
    const fields = { stream: this.#stream, model: name, file };
    this.#options.telemetry.limited(
      'warn',
      `score-model ${this.#stream}`,
      fields,
      `the model ${name} does not score: ${message}`,
    );
  }
}

function keyOf({ metric, tags }: Row): string {
  return `${metric} ${seriesName(tags)}`;
}

/**
 * The store in InfluxDB 2. The layout of a point is in `point.ts`, the buckets in `buckets.ts`.
 *
 * Writes: rows are grouped by bucket, about 1,000 lines a request, at most two requests under way at once for the whole
 * store. A request is acknowledged by 204 after InfluxDB's fsync. Retrying is the caller's.
 *
 * Replacing: InfluxDB does not honour an overwrite that changes a value. (Above about a dozen blocks of 1,000 rows per
 * series and shard, the third overlapping generation of changed values can read back old, and stay so after compaction.)
 * So `write` is for values that never change, and `replace` first deletes the places of its rows and then writes. A delete
 * or write whose fate is unknown (a timeout, a lost connection, a crash of this process) may be applied by the server a
 * little later, and would then undo a replacement. Hence `replace` waits until the server answers, and then `settleMs`
 * more, whenever such a request may exist: after such a failure, and at its first call in a process.
 */
import { HttpError } from '@influxdata/influxdb-client';
import type { Clock } from '../clock.ts';
import type { InfluxConfig } from '../config.ts';
import { done, type Failure, fail, type Outcome, succeed } from '../errors.ts';
import { pause } from '../retry.ts';
import type { Row, RowQuery } from '../row.ts';
import type { Score } from '../scored.ts';
import type { WindowSize } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import { admit, windowOf } from './admit.ts';
import { bucketName, ensureBucket, LIVE } from './buckets.ts';
import { Connection } from './connection.ts';
import { classify } from './failures.ts';
import { finishedBefore, Gate } from './gate.ts';
import { ask, deleteRun, selectTagKeys } from './influxql.ts';
import { readRows, withinTime } from './influxread.ts';
import { batches, deliver, type Line, MAX_BATCH_LINES, post } from './lines.ts';
import { lastOfEachPlace } from './order.ts';
import { encodeLine } from './point.ts';
import { runsOf } from './runs.ts';
import { decodeScores, encodeScore, selectScores } from './score-point.ts';
import { ReadFailed, type RefusedRow, type Store, type Written } from './store.ts';

export interface InfluxOptions {
  readonly config: InfluxConfig;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** How long a request of unknown fate is given to be applied, counted from the server's next answer. */
  readonly settleMs?: number;
}

const MAX_REQUESTS = 2;
const DELETES_PER_REQUEST = 50;
const CLOSE_TIMEOUT_MS = 5_000;
const SETTLE_MS = 2_000;

/** Opens no socket: the first call does. */
export function openInfluxStore(options: InfluxOptions): Store {
  return new InfluxStore(options);
}

class InfluxStore implements Store {
  readonly #config: InfluxConfig;
  readonly #telemetry: Telemetry;
  readonly #clock: Clock;
  readonly #settleMs: number;
  readonly #gate = new Gate(MAX_REQUESTS);
  readonly #connection: Connection;
  #closed = false;
  /** Requests that the server may still apply: how many were noticed, and how many of them have had their time. */
  #doubts = 1;
  #settled = 0;
  /** Of the last write, when it failed for a reason that needs a person. */
  #lastFailure: Failure | null = null;

  constructor(options: InfluxOptions) {
    this.#config = options.config;
    this.#telemetry = options.telemetry;
    this.#clock = options.clock;
    this.#settleMs = options.settleMs ?? SETTLE_MS;
    this.#connection = new Connection(options.config);
  }

  async prepare(windows: readonly { readonly stream: string; readonly window: WindowSize }[]): Promise<Outcome> {
    const labels = new Set([...windows.map(({ window }) => window.label), LIVE]);
    for (const label of labels) {
      const ensured = await ensureBucket(this.#connection.influx, this.#config, this.#telemetry, label);
      if (!ensured.ok) return this.#note(ensured);
    }
    return done;
  }

  async write(rows: readonly Row[], signal?: AbortSignal): Promise<Outcome<Written>> {
    const { admitted, refused } = admit(rows);
    return this.#finish(await this.#writeAll(lastOfEachPlace(admitted), signal), refused);
  }

  async replace(rows: readonly Row[], signal?: AbortSignal): Promise<Outcome<Written>> {
    const { admitted, refused } = admit(rows);
    const latest = lastOfEachPlace(admitted);
    const deleted = await this.#deleteAll(latest, signal);
    return this.#finish(deleted.ok ? await this.#writeAll(latest, signal) : deleted, refused);
  }

  async running(rows: readonly Row[]): Promise<Outcome> {
    const { admitted } = admit(rows);
    const lines = lastOfEachPlace(admitted).map((row) => ({ row, text: encodeLine(row, liveMeasurement(row.stream)) }));
    const written = await this.#send(lines.length > 0 ? [[LIVE, lines]] : []);
    return written.ok ? done : written;
  }

  read(query: RowQuery): AsyncIterable<Row> {
    return this.#read(query, query.window, query.stream);
  }

  readRunning(query: RowQuery): AsyncIterable<Row> {
    return this.#read(query, LIVE, liveMeasurement(query.stream));
  }

  async writeScores(scores: readonly Score[]): Promise<Outcome> {
    const byLabel = new Map<string, string[]>();
    for (const score of scores) {
      const lines = byLabel.get(score.window);
      if (lines) lines.push(encodeScore(score));
      else byLabel.set(score.window, [encodeScore(score)]);
    }
    const stopped = () => this.#closed;
    for (const [label, lines] of byLabel) {
      for (let first = 0; first < lines.length; first += MAX_BATCH_LINES) {
        try {
          await this.#post(label, lines.slice(first, first + MAX_BATCH_LINES), stopped);
        } catch (thrown) {
          return this.#failed(thrown, bucketName(this.#config.bucket, label));
        }
      }
    }
    return done;
  }

  async *readScores(query: RowQuery): AsyncGenerator<Score> {
    const { url, timeoutMs } = this.#config;
    const bucket = bucketName(this.#config.bucket, query.window);
    const range = { ...query, ...withinTime(query) };
    if (windowOf(query.window) === null || !(range.fromMs < range.toMs) || query.limit === 0) return;
    const newest: Score[] = [];
    try {
      const database = { influx: this.#connection.queries, bucket, timeoutMs };
      for await (const answer of ask(database, selectScores(range))) {
        if (query.limit === undefined) yield* decodeScores(answer, query.stream);
        else newest.push(...decodeScores(answer, query.stream));
      }
    } catch (thrown) {
      throw new ReadFailed(classify(thrown, `InfluxDB at ${url}, bucket ${bucket}`).failure);
    }
    yield* newest.reverse();
  }

  async health(): Promise<Outcome> {
    const { url, org, bucket } = this.#config;
    const name = bucketName(bucket, LIVE);
    const where = `InfluxDB at ${url}`;
    try {
      const path = `/api/v2/buckets?org=${encodeURIComponent(org)}&name=${encodeURIComponent(name)}`;
      await this.#connection.influx.transport.request(path, '', { method: 'GET' });
    } catch (thrown) {
      return classify(thrown, where);
    }
    return this.#lastFailure === null ? done : { ok: false, failure: this.#lastFailure };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#gate.idle(CLOSE_TIMEOUT_MS);
    this.#connection.close();
  }

  /** Writes rows, all of them or as far as it came. */
  async #writeAll(rows: readonly Row[], signal?: AbortSignal): Promise<Outcome<RefusedRow[]>> {
    const byLabel = new Map<string, Line[]>();
    for (const row of rows) {
      const line = { row, text: encodeLine(row) };
      const lines = byLabel.get(row.window);
      if (lines) lines.push(line);
      else byLabel.set(row.window, [line]);
    }
    return this.#send([...byLabel], signal);
  }

  async #send(groups: readonly [label: string, lines: Line[]][], signal?: AbortSignal): Promise<Outcome<RefusedRow[]>> {
    const refused: RefusedRow[] = [];
    let failure: Failure | null = null;
    const stopped = () => this.#closed || signal?.aborted === true || failure !== null;
    const requests = groups.flatMap(([label, lines]) =>
      batches(lines).map(async (batch) => {
        const outcome = await deliver(
          batch,
          (texts) => this.#post(label, texts, stopped),
          (thrown) => this.#failed(thrown, bucketName(this.#config.bucket, label)),
          stopped,
        );
        if (!outcome.ok) {
          failure = graver(failure, outcome.failure);
          return;
        }
        refused.push(...outcome.value);
        if (label !== LIVE) this.#telemetry.rowsWritten.inc({ window: label }, batch.length - outcome.value.length);
      }),
    );
    const all = Promise.all(requests);
    if (!(await finishedBefore(all, signal))) {
      this.#doubts++;
      return fail('STOPPED', 'asked to stop before InfluxDB had acknowledged the rows', { retryable: true });
    }
    return failure === null ? succeed(refused) : { ok: false, failure };
  }

  /** One write request; when its bucket is missing and may be made, makes it and tries once more. */
  async #post(label: string, texts: string[], stopped: () => boolean): Promise<void> {
    const { org, bucket, createBuckets } = this.#config;
    await this.#gate.run(async () => {
      if (stopped()) throw new Stopped();
      const { influx } = this.#connection;
      const startMs = this.#clock.monotonicMs();
      try {
        await post(influx, org, bucketName(bucket, label), texts);
      } catch (thrown) {
        this.#connection.failed(influx, thrown);
        if (!createBuckets || !isMissing(thrown)) throw thrown;
        const made = await ensureBucket(influx, this.#config, this.#telemetry, label);
        if (!made.ok) throw thrown;
        await post(influx, org, bucketName(bucket, label), texts);
      } finally {
        this.#telemetry.storeSeconds.observe((this.#clock.monotonicMs() - startMs) / 1_000);
      }
    });
  }

  async #deleteAll(rows: readonly Row[], signal?: AbortSignal): Promise<Outcome<RefusedRow[]>> {
    const byPlace = new Map<string, Row[]>();
    for (const row of rows) {
      const key = JSON.stringify([row.window, row.stream]);
      const group = byPlace.get(key);
      if (group) group.push(row);
      else byPlace.set(key, [row]);
    }
    for (const group of byPlace.values()) {
      const { window, stream } = group[0]!;
      const name = bucketName(this.#config.bucket, window);
      const doubts = this.#doubts;
      const keys = await this.#statement(name, selectTagKeys(stream), signal);
      if (!keys.ok) return keys;
      if (this.#settled < doubts && !(await pause(this.#settleMs, signal))) return stoppedDeleting;
      this.#settled = Math.max(this.#settled, doubts);
      const tagKeys = new Set(keys.value);
      const statements = runsOf(group).map((run) => deleteRun(run.row, run.fromMs, run.toMs, tagKeys));
      for (let i = 0; i < statements.length; i += DELETES_PER_REQUEST) {
        const deleted = await this.#statement(name, statements.slice(i, i + DELETES_PER_REQUEST).join(';'), signal);
        if (!deleted.ok) return deleted;
      }
    }
    return succeed([]);
  }

  /** Runs statements; answers the first column of what came back (the tag keys, or nothing). */
  async #statement(bucket: string, text: string, signal?: AbortSignal): Promise<Outcome<string[]>> {
    if (signal?.aborted) return stoppedDeleting;
    const database = { influx: this.#connection.queries, bucket, timeoutMs: this.#config.timeoutMs };
    const asked = this.#gate.run(async (): Promise<Outcome<string[]>> => {
      if (this.#closed || signal?.aborted) return stoppedDeleting;
      const values: string[] = [];
      try {
        for await (const answer of ask(database, text)) {
          for (const [value] of answer.values) values.push(String(value));
        }
        return succeed(values);
      } catch (thrown) {
        return this.#failed(thrown, bucket);
      }
    });
    if (await finishedBefore(asked, signal)) return asked;
    this.#doubts++;
    return stoppedDeleting;
  }

  async *#read(query: RowQuery, label: string, measurement: string): AsyncGenerator<Row> {
    const { url, timeoutMs } = this.#config;
    const window = windowOf(query.window);
    if (window === null) return;
    const bucket = bucketName(this.#config.bucket, label);
    try {
      yield* readRows({ influx: this.#connection.queries, bucket, measurement, timeoutMs }, query, window);
    } catch (thrown) {
      throw new ReadFailed(classify(thrown, `InfluxDB at ${url}, bucket ${bucket}`).failure);
    }
  }

  #failed(thrown: unknown, bucket: string): ReturnType<typeof fail> {
    if (thrown instanceof Stopped) return stoppedWriting;
    const failed = classify(thrown, `InfluxDB at ${this.#config.url}, bucket ${bucket}`);
    if (failed.failure.retryable) this.#doubts++;
    return failed;
  }

  #finish(outcome: Outcome<RefusedRow[]>, refused: RefusedRow[]): Outcome<Written> {
    this.#note(outcome);
    return outcome.ok ? succeed({ refused: [...refused, ...outcome.value] }) : outcome;
  }

  /** Counts and remembers how a write ended. */
  #note<T>(outcome: Outcome<T>): Outcome<T> {
    if (outcome.ok) this.#lastFailure = null;
    else if (outcome.failure.code !== 'STOPPED') {
      this.#telemetry.storeFailures.inc({ code: outcome.failure.code });
      this.#lastFailure = outcome.failure.retryable ? null : outcome.failure;
    }
    return outcome;
  }
}

class Stopped extends Error {}

const stoppedWriting = fail('STOPPED', 'asked to stop before all rows were sent', { retryable: true });
const stoppedDeleting = fail('STOPPED', 'asked to stop before the rows were replaced', { retryable: true });

/** Which of two failures the caller has to know. */
function graver(one: Failure | null, other: Failure): Failure {
  if (one === null || one.code === 'STOPPED') return other;
  return one.retryable && !other.retryable ? other : one;
}

function isMissing(thrown: unknown): boolean {
  return thrown instanceof HttpError && thrown.statusCode === 404;
}

/** The measurement of running values, which are in a bucket of their own. */
function liveMeasurement(stream: string): string {
  return `${stream}_live`;
}

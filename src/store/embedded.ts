/**
 * The store in files of the data folder: the default, with nothing to install.
 *
 * Layout and retention: `shelf.ts`. Bytes in a file: `block.ts`. Recovery after a crash: `appender.ts`. In short: each write
 * appends one checksummed block per window size and period, and is acknowledged after fdatasync; blocks never change; of
 * two rows with one place the later written counts, so `replace` is an append too, and writing the same rows again is
 * harmless. A crash loses only what was not acknowledged. The disk is bounded by `maxBytes`.
 *
 * One writer: the caller holds the lock on the data folder and opens one store for writing. Readers, any number, in other
 * threads or processes, open it with `readOnly` and need nothing of the writer.
 *
 * A write that fails (no space, a broken disk) is STORE_IO and retryable: it heals by itself when the disk does.
 */
import { constants } from 'node:fs';
import { access, mkdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '../clock.ts';
import { done, type Failure, fail, type Outcome, succeed } from '../errors.ts';
import type { Row, RowQuery } from '../row.ts';
import type { Score } from '../scored.ts';
import type { WindowSize } from '../stream.ts';
import { Telemetry } from '../telemetry.ts';
import { admit, windowOf } from './admit.ts';
import { Appender, type Encoded } from './appender.ts';
import { FileReader, ioMessage } from './filereader.ts';
import { finishedBefore, Gate } from './gate.ts';
import { type OpenFile, openFile } from './rowfile.ts';
import { Running, runningFile } from './running.ts';
import { rowOfScore, scoreOfRow } from './score-row.ts';
import { periodStart, rowFile, Shelf } from './shelf.ts';
import { ReadFailed, type Store, type Written } from './store.ts';

export interface EmbeddedOptions {
  /** `<data>/rows` */
  readonly folder: string;
  /** All files of rows together; at this the oldest are deleted. */
  readonly maxBytes: number;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  readonly readOnly?: boolean;
  /** How row files are opened; a failing disk in tests. */
  readonly openFile?: OpenFile;
}

/** Files kept open for appending. */
const MAX_APPENDERS = 16;
const MIN_PART_BYTES = 64 * 1024;
const MAX_PART_BYTES = 128 * 1024 * 1024;
/** No part is larger than this share of maxBytes, so that retention takes small steps. */
const PARTS_PER_STORE = 32;
const CLOSE_TIMEOUT_MS = 5_000;
const SCORES = 'scores';
/** Of `maxBytes`, beside what the rows may take. */
const SCORES_SHARE = 8;

/** Touches no file: the first call does. */
export function openEmbeddedStore(options: EmbeddedOptions): Store {
  return new EmbeddedStore(options);
}

class EmbeddedStore implements Store {
  readonly #options: EmbeddedOptions;
  readonly #openFile: OpenFile;
  readonly #partBytes: number;
  readonly #shelf: Shelf;
  readonly #reader: FileReader;
  readonly #running: Running;
  /** Opened at the first use. */
  #scores: EmbeddedStore | null = null;
  /** Writes go one after the other. */
  readonly #turn = new Gate(1);
  /** By path, the most recently used last. */
  readonly #appenders = new Map<string, Appender>();
  /** Paths of files that are never written again. */
  readonly #sealed = new Set<string>();
  #closed = false;
  /** Of the last write, when it failed. */
  #lastFailure: Failure | null = null;

  constructor(options: EmbeddedOptions) {
    this.#options = options;
    this.#openFile = options.openFile ?? openFile;
    this.#partBytes = Math.min(
      MAX_PART_BYTES,
      Math.max(MIN_PART_BYTES, Math.floor(options.maxBytes / PARTS_PER_STORE)),
    );
    this.#shelf = new Shelf(options.folder, options.maxBytes);
    this.#reader = new FileReader(options.folder, options.telemetry, this.#openFile);
    this.#running = new Running(options.folder, options.clock);
  }

  async prepare(windows: readonly { readonly stream: string; readonly window: WindowSize }[]): Promise<Outcome> {
    if (this.#options.readOnly) return done;
    try {
      for (const { window } of windows) await mkdir(join(this.#options.folder, window.label), { recursive: true });
      return done;
    } catch (thrown) {
      return this.#failed(thrown);
    }
  }

  async write(rows: readonly Row[], signal?: AbortSignal): Promise<Outcome<Written>> {
    const { admitted, refused } = admit(rows);
    if (this.#options.readOnly) return readOnlyFailure;
    if (this.#closed || signal?.aborted) return stoppedFailure;
    const written = this.#turn.run(() => this.#writeAll(admitted, signal));
    if (!(await finishedBefore(written, signal))) return stoppedFailure;
    const outcome = await written;
    return outcome.ok ? succeed({ refused }) : outcome;
  }

  /** The later row counts, so replacing is writing. */
  replace(rows: readonly Row[], signal?: AbortSignal): Promise<Outcome<Written>> {
    return this.write(rows, signal);
  }

  async running(rows: readonly Row[]): Promise<Outcome> {
    if (this.#options.readOnly) return readOnlyFailure;
    if (this.#closed) return stoppedFailure;
    return this.#turn.run(async () => {
      try {
        await this.#running.add(admit(rows).admitted);
        return done;
      } catch (thrown) {
        return fail('STORE_IO', ioMessage(thrown, this.#options.folder), { retryable: true, cause: thrown });
      }
    });
  }

  read(query: RowQuery): AsyncIterable<Row> {
    return this.#read(query, (window) => this.#reader.read(query, window));
  }

  readRunning(query: RowQuery): AsyncIterable<Row> {
    const path = runningFile(this.#options.folder, query.window);
    return this.#read(query, (window) => this.#reader.readWhole(query, window, path));
  }

  async writeScores(scores: readonly Score[]): Promise<Outcome> {
    const written = await this.#ofScores().write(scores.map(rowOfScore));
    if (!written.ok) return written;
    const [refused] = written.value.refused;
    return refused ? fail('STORE_ROW_REFUSED', `a score was not kept: ${refused.reason}`) : done;
  }

  async *readScores(query: RowQuery): AsyncGenerator<Score> {
    for await (const row of this.#ofScores().read(query)) yield scoreOfRow(row);
  }

  async health(): Promise<Outcome> {
    if (this.#lastFailure) return { ok: false, failure: this.#lastFailure };
    const { folder, readOnly } = this.#options;
    try {
      if (!readOnly) await mkdir(folder, { recursive: true });
      await access(folder, readOnly ? constants.R_OK : constants.W_OK);
      return done;
    } catch (thrown) {
      // A reader may come before the writer has made the folder.
      if (readOnly && (thrown as NodeJS.ErrnoException).code === 'ENOENT') return done;
      return fail('STORE_IO', ioMessage(thrown, folder), { retryable: true, cause: thrown });
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#scores?.close();
    await this.#turn.idle(CLOSE_TIMEOUT_MS);
    for (const appender of this.#appenders.values()) await appender.close();
    this.#appenders.clear();
  }

  #ofScores(): EmbeddedStore {
    const { folder, maxBytes, telemetry } = this.#options;
    this.#scores ??= new EmbeddedStore({
      ...this.#options,
      folder: join(folder, SCORES),
      maxBytes: Math.floor(maxBytes / SCORES_SHARE),
      // Its numbers are not those of the rows: they are not exported.
      telemetry: new Telemetry(telemetry.log),
    });
    return this.#scores;
  }

  async *#read(query: RowQuery, from: (window: WindowSize) => AsyncIterable<Row[]>): AsyncGenerator<Row> {
    const window = windowOf(query.window);
    if (window === null) return;
    try {
      for await (const rows of from(window)) yield* rows;
    } catch (thrown) {
      const message = ioMessage(thrown, this.#options.folder);
      throw new ReadFailed(fail('STORE_IO', message, { retryable: true, cause: thrown }).failure);
    }
  }

  async #writeAll(rows: readonly Row[], signal?: AbortSignal): Promise<Outcome> {
    const { telemetry, clock } = this.#options;
    const startMs = clock.monotonicMs();
    try {
      await this.#shelf.load();
      for (const group of this.#byPeriod(rows)) {
        if (signal?.aborted) return stoppedFailure;
        await this.#append(group.label, group.periodStartMs, group.rows);
        telemetry.rowsWritten.inc({ window: group.label }, group.rows.length);
      }
      this.#running.forget(rows);
      if (this.#lastFailure) telemetry.log.info({ folder: this.#options.folder }, 'rows can be written again');
      this.#lastFailure = null;
      return done;
    } catch (thrown) {
      return this.#failed(thrown);
    } finally {
      telemetry.storeSeconds.observe((clock.monotonicMs() - startMs) / 1_000);
    }
  }

  #byPeriod(rows: readonly Row[]): { label: string; periodStartMs: number; rows: Row[] }[] {
    const groups = new Map<string, { label: string; periodStartMs: number; rows: Row[] }>();
    for (const row of rows) {
      const periodStartMs = periodStart(windowOf(row.window)!, row.startMs);
      const key = `${row.window} ${periodStartMs}`;
      const group = groups.get(key);
      if (group) group.rows.push(row);
      else groups.set(key, { label: row.window, periodStartMs, rows: [row] });
    }
    return [...groups.values()];
  }

  async #append(label: string, periodStartMs: number, rows: readonly Row[]): Promise<void> {
    const appender = await this.#appender(label, periodStartMs);
    const encoded: Encoded = appender.encode(rows);
    const deleted = await this.#shelf.makeRoom(encoded.bytes.length, appender.file);
    for (const file of deleted) await this.#retire(file.path);
    if (deleted.length > 0) {
      const fields = { files: deleted.map(({ path }) => path), maxBytes: this.#options.maxBytes };
      this.#options.telemetry.limited('info', 'rows deleted', fields, 'the oldest rows were deleted to make room');
    }
    try {
      await appender.append(encoded);
      this.#shelf.note(appender.file, appender.endOffset);
    } catch (thrown) {
      await this.#abandon(appender);
      throw thrown;
    }
  }

  /** For the newest part of the period, or the next one when that is full or was sealed. */
  async #appender(label: string, periodStartMs: number): Promise<Appender> {
    const { folder } = this.#options;
    const newest = this.#shelf.lastPart(label, periodStartMs);
    const isFull = newest !== null && (newest.bytes >= this.#partBytes || this.#sealed.has(newest.file.path));
    const part = newest === null ? 0 : newest.file.part + (isFull ? 1 : 0);
    const file = rowFile(folder, label, periodStartMs, part);
    let appender = this.#appenders.get(file.path);
    if (!appender) {
      await mkdir(dirname(file.path), { recursive: true });
      appender = await Appender.open(file, this.#openFile);
      this.#tellRecovery(appender);
    }
    this.#appenders.delete(file.path);
    this.#appenders.set(file.path, appender);
    if (this.#appenders.size > MAX_APPENDERS) await this.#retire(this.#appenders.keys().next().value!);
    return appender;
  }

  /** After a failed append: a sealed file is left to its readers, or removed when nothing in it was acknowledged. */
  async #abandon(appender: Appender): Promise<void> {
    const { path } = appender.file;
    if (!appender.sealed) {
      this.#shelf.note(appender.file, appender.endOffset);
      return;
    }
    await this.#retire(path);
    const removed =
      appender.endOffset === 0 &&
      (await unlink(path).then(
        () => true,
        () => false,
      ));
    if (removed) {
      this.#shelf.forget(appender.file);
    } else {
      this.#shelf.note(appender.file, appender.endOffset);
      this.#sealed.add(path);
    }
  }

  async #retire(path: string): Promise<void> {
    const appender = this.#appenders.get(path);
    this.#appenders.delete(path);
    await appender?.close().catch(() => {});
  }

  #tellRecovery({ file, recovery }: Appender): void {
    const { log } = this.#options.telemetry;
    const fields = { path: file.path, ...recovery };
    if (recovery.damagedBytes > 0) log.error(fields, 'a file of rows is damaged; rows are missing');
    else if (recovery.cutBytes > 0) log.info(fields, 'cut off an unfinished append, which was never acknowledged');
  }

  #failed(thrown: unknown): Outcome<never> {
    const { telemetry, folder } = this.#options;
    const failed = fail('STORE_IO', ioMessage(thrown, folder), { retryable: true, cause: thrown });
    telemetry.storeFailures.inc({ code: failed.failure.code });
    telemetry.limited('warn', 'store', { folder, error: failed.failure.message }, 'rows cannot be written');
    this.#lastFailure = failed.failure;
    return failed;
  }
}

const stoppedFailure = fail('STOPPED', 'asked to stop before the rows were durable', { retryable: true });
const readOnlyFailure = fail('STORE_IO', 'this store was opened for reading only');

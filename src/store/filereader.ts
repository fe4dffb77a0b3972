/**
 * Reads rows out of the embedded store's files, while another thread or process appends to them. A reader takes no lock
 * and changes nothing. What it knows of a file (where its blocks are, which series they hold) is kept for the next query
 * and only added to, since whole blocks never change.
 */
import type { FileHandle } from 'node:fs/promises';
import { messageOf } from '../errors.ts';
import type { Row, RowQuery } from '../row.ts';
import type { WindowSize } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Series } from './rowcodec.ts';
import { extendScan, type FileScan, newScan, type OpenFile } from './rowfile.ts';
import { type KnownFiles, type Period, Session } from './session.ts';
import { listFiles, periodMs } from './shelf.ts';
import { readSlices } from './slices.ts';

/** Files whose blocks are remembered between queries: about a megabyte each for a thousand series. */
const MAX_REMEMBERED_FILES = 16;
const MAX_REMEMBERED_SERIES = 100_000;

interface Remembered {
  readonly inode: number;
  readonly scan: FileScan;
  /** The last of the queries that extend the scan: one after the other. */
  extended: Promise<void>;
}

export class FileReader implements KnownFiles {
  readonly #folder: string;
  readonly #telemetry: Telemetry;
  readonly #openFile: OpenFile;
  /** By path, the most recently used last. */
  readonly #remembered = new Map<string, Remembered>();
  /** By text: the same series is one object in all files. */
  readonly #series = new Map<string, Series>();

  constructor(folder: string, telemetry: Telemetry, openFile: OpenFile) {
    this.#folder = folder;
    this.#telemetry = telemetry;
    this.#openFile = openFile;
  }

  async *read(query: RowQuery, window: WindowSize): AsyncGenerator<Row[]> {
    const periods = new Map<number, string[]>();
    for (const { periodStartMs, path } of await listFiles(this.#folder, window.label)) {
      if (periodStartMs >= query.toMs || periodStartMs + periodMs(window) <= query.fromMs) continue;
      const paths = periods.get(periodStartMs);
      if (paths) paths.push(path);
      else periods.set(periodStartMs, [path]);
    }
    const list = [...periods].map(([startMs, paths]) => ({ startMs, endMs: startMs + periodMs(window), paths }));
    yield* this.#readPeriods(query, window, list);
  }

  /** The rows of one file that is written anew each time. */
  async *readWhole(query: RowQuery, window: WindowSize, path: string): AsyncGenerator<Row[]> {
    this.#remembered.delete(path);
    yield* this.#readPeriods(query, window, [{ startMs: 0, endMs: Number.POSITIVE_INFINITY, paths: [path] }]);
  }

  async *#readPeriods(query: RowQuery, window: WindowSize, periods: readonly Period[]): AsyncGenerator<Row[]> {
    const session = new Session(query, window, periods, this.#openFile, this);
    try {
      yield* readSlices(query, window, session);
    } finally {
      await session.close();
    }
  }

  /** What is known of an open file, brought up to date. */
  async scan(path: string, file: FileHandle): Promise<FileScan> {
    const { ino: inode } = await file.stat();
    let entry = this.#remembered.get(path);
    if (entry?.inode !== inode) entry = { inode, scan: newScan(), extended: Promise.resolve() };
    this.#remembered.delete(path);
    this.#remembered.set(path, entry);
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= MAX_REMEMBERED_FILES) break;
      this.#remembered.delete(oldest);
    }
    const { scan } = entry;
    entry.extended = entry.extended.catch(() => {}).then(() => this.#extend(path, file, scan));
    await entry.extended;
    return scan;
  }

  async #extend(path: string, file: FileHandle, scan: FileScan): Promise<void> {
    const before = scan.damagedBytes;
    if (this.#series.size > MAX_REMEMBERED_SERIES) this.#series.clear();
    await extendScan(scan, file, this.#series);
    if (scan.damagedBytes > before) this.damaged(path, scan.damagedBytes - before);
  }

  forget(path: string): void {
    this.#remembered.delete(path);
  }

  damaged(path: string, bytes: number): void {
    this.#telemetry.limited('error', `damaged ${path}`, { path, bytes }, 'a file of rows is damaged; rows are missing');
  }
}

/** A thrown value in a sentence. */
export function ioMessage(thrown: unknown, folder: string): string {
  const code = (thrown as NodeJS.ErrnoException).code;
  if (code === 'ENOSPC' || code === 'EDQUOT') return `no space left on the disk that holds ${folder}`;
  return `${folder}: ${messageOf(thrown)}`;
}

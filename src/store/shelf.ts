/**
 * The folders and file names of the embedded store, and how many bytes it may use.
 *
 *   <folder>/<window label>/<period start, ms>-<part>.rows
 *
 * A file holds the rows of one window size whose start lies in its period: 360 starts, at least an hour. A period has more
 * parts when one grew large, or when a disk failed while it was written. In a period, later parts are newer, and so are
 * later blocks of a part: of two rows with one place the newer counts.
 *
 * `maxBytes` bounds all files together, each counted as at least one disk block. Before a write would pass it, the window
 * size that uses most gives up its oldest file. So coarse windows, which need little, reach much further back.
 */
import { mkdir, open, readdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { WindowSize } from '../stream.ts';

const STARTS_PER_PERIOD = 360;
const LEAST_PERIOD_MS = 3_600_000;
/** What the smallest file takes on a disk. */
const DISK_BLOCK_BYTES = 4_096;

export function periodMs(window: WindowSize): number {
  return Math.max(LEAST_PERIOD_MS, STARTS_PER_PERIOD * window.everyMs);
}

export function periodStart(window: WindowSize, startMs: number): number {
  return startMs - (startMs % periodMs(window));
}

export interface RowFile {
  readonly path: string;
  readonly label: string;
  readonly periodStartMs: number;
  readonly part: number;
}

export function rowFile(folder: string, label: string, periodStartMs: number, part: number): RowFile {
  return { path: join(folder, label, `${periodStartMs}-${part}.rows`), label, periodStartMs, part };
}

/** The files of one window size, oldest period first, then by part. */
export async function listFiles(folder: string, label: string): Promise<RowFile[]> {
  const files: RowFile[] = [];
  for (const name of await readdir(join(folder, label)).catch(noFolder)) {
    const match = /^(\d+)-(\d+)\.rows$/.exec(name);
    if (match) files.push(rowFile(folder, label, Number(match[1]), Number(match[2])));
  }
  return files.sort((a, b) => a.periodStartMs - b.periodStartMs || a.part - b.part);
}

function noFolder(thrown: NodeJS.ErrnoException): string[] {
  if (thrown.code === 'ENOENT' || thrown.code === 'ENOTDIR') return [];
  throw thrown;
}

/** Makes a folder's new entries durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

export interface Kept {
  readonly file: RowFile;
  bytes: number;
}

/** The writer's account of what is on the disk. */
export class Shelf {
  readonly #folder: string;
  readonly #maxBytes: number;
  /** By label, oldest first. */
  readonly #files = new Map<string, Kept[]>();
  #loaded = false;

  constructor(folder: string, maxBytes: number) {
    this.#folder = folder;
    this.#maxBytes = maxBytes;
  }

  async load(): Promise<void> {
    if (this.#loaded) return;
    await mkdir(this.#folder, { recursive: true });
    for (const entry of await readdir(this.#folder, { withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      const kept: Kept[] = [];
      for (const file of await listFiles(this.#folder, entry.name)) {
        kept.push({ file, bytes: (await stat(file.path)).size });
      }
      this.#files.set(entry.name, kept);
    }
    this.#loaded = true;
  }

  /** The newest part of a period, or null. */
  lastPart(label: string, periodStartMs: number): Readonly<Kept> | null {
    return this.#files.get(label)?.findLast(({ file }) => file.periodStartMs === periodStartMs) ?? null;
  }

  /** Notes a file's size; a new file is added. */
  note(file: RowFile, bytes: number): void {
    const kept = this.#files.get(file.label) ?? [];
    const entry = kept.find((known) => known.file.path === file.path);
    if (entry) {
      entry.bytes = bytes;
      return;
    }
    kept.push({ file, bytes });
    kept.sort((a, b) => a.file.periodStartMs - b.file.periodStartMs || a.file.part - b.file.part);
    this.#files.set(file.label, kept);
  }

  totalBytes(): number {
    let total = 0;
    for (const kept of this.#files.values()) total += usedBytes(kept);
    return total;
  }

  /** Deletes oldest files until `more` bytes fit; answers which. `keep` is the file about to be written. */
  async makeRoom(more: number, keep: RowFile): Promise<RowFile[]> {
    const deleted: RowFile[] = [];
    while (this.totalBytes() + more > this.#maxBytes) {
      const largest = [...this.#files.values()]
        .filter((kept) => kept.some(({ file }) => file.path !== keep.path))
        .sort((a, b) => usedBytes(b) - usedBytes(a))[0];
      if (!largest) break;
      const index = largest.findIndex(({ file }) => file.path !== keep.path);
      const { file } = largest[index]!;
      await unlink(file.path).catch((thrown: NodeJS.ErrnoException) => {
        if (thrown.code !== 'ENOENT') throw thrown;
      });
      largest.splice(index, 1);
      deleted.push(file);
    }
    return deleted;
  }

  forget(file: RowFile): void {
    const kept = this.#files.get(file.label);
    const index = kept?.findIndex((known) => known.file.path === file.path) ?? -1;
    if (index >= 0) kept!.splice(index, 1);
  }
}

function usedBytes(kept: readonly Kept[]): number {
  return kept.reduce((total, { bytes }) => total + Math.max(bytes, DISK_BLOCK_BYTES), 0);
}

/**
 * Running values in the embedded store: one file a window label, written anew each time and put in place by a rename, never
 * forced to the disk. `<folder>/running/<label>.rows`, in the format of `block.ts`.
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../clock.ts';
import type { Row } from '../row.ts';
import { encodeBlock, MAX_BLOCK_ROWS, type NumberedRow, seriesText } from './block.ts';
import { lastOfEachPlace } from './order.ts';

export const RUNNING = 'running';
export const RUNNING_RETENTION_MS = 3_600_000;
/** The newest this many of one window size are shown. */
export const MAX_RUNNING_ROWS = 100_000;

export function runningFile(folder: string, label: string): string {
  return join(folder, RUNNING, `${label}.rows`);
}

export class Running {
  readonly #folder: string;
  readonly #clock: Clock;
  /** By label, then by place: the latest value and when it came; oldest first. */
  readonly #latest = new Map<string, Map<string, { row: Row; atMs: number }>>();

  constructor(folder: string, clock: Clock) {
    this.#folder = folder;
    this.#clock = clock;
  }

  async add(rows: readonly Row[]): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    for (const label of new Set(rows.map((row) => row.window))) {
      const latest = this.#latest.get(label) ?? new Map<string, { row: Row; atMs: number }>();
      this.#latest.set(label, latest);
      for (const row of rows) {
        if (row.window !== label) continue;
        const key = keyOf(row);
        latest.delete(key);
        latest.set(key, { row, atMs: nowMs });
      }
      for (const [key, { atMs }] of latest) {
        if (nowMs - atMs <= RUNNING_RETENTION_MS && latest.size <= MAX_RUNNING_ROWS) break;
        latest.delete(key);
      }
      await this.#put(
        label,
        [...latest.values()].map(({ row }) => row),
      );
    }
  }

  /** These rows are final now. */
  forget(rows: readonly Row[]): void {
    if (this.#latest.size === 0) return;
    for (const row of rows) this.#latest.get(row.window)?.delete(keyOf(row));
  }

  async #put(label: string, rows: readonly Row[]): Promise<void> {
    const path = runningFile(this.#folder, label);
    await mkdir(join(this.#folder, RUNNING), { recursive: true });
    await writeFile(`${path}.new`, encodeAll(rows));
    await rename(`${path}.new`, path);
  }
}

function keyOf(row: Row): string {
  return `${row.startMs} ${seriesText(row)}`;
}

function encodeAll(rows: readonly Row[]): Buffer {
  const ids = new Map<string, number>();
  const blocks: Buffer[] = [];
  for (let first = 0; first < rows.length; first += MAX_BLOCK_ROWS) {
    const firstSeries = ids.size;
    const newSeries: string[] = [];
    const numbered: NumberedRow[] = lastOfEachPlace(rows.slice(first, first + MAX_BLOCK_ROWS)).map((row) => {
      const text = seriesText(row);
      let id = ids.get(text);
      if (id === undefined) {
        id = ids.size;
        ids.set(text, id);
        newSeries.push(text);
      }
      return { id, row };
    });
    blocks.push(encodeBlock(numbered, firstSeries, newSeries));
  }
  return Buffer.concat(blocks);
}

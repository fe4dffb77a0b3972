/**
 * The files in which InfluxDB keeps the rows of one bucket, so that a test can prove what happened to them. Their names
 * are `<generation>-<sequence>.tsm`: a snapshot of the cache makes a new generation with sequence 1; a compaction joins
 * files under the highest generation among them with a higher sequence. InfluxDB removes what it has joined, so
 * whoever counts must look often.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

export class InfluxFiles {
  readonly #folder: string;
  readonly #seen = new Set<string>();

  constructor(serverFolder: string, bucketId: string) {
    this.#folder = join(serverFolder, 'engine', 'data', bucketId);
  }

  /** What is there now; remembered. */
  look(): string[] {
    const names: string[] = [];
    for (const entry of list(this.#folder)) if (entry.endsWith('.tsm')) names.push(entry);
    for (const name of names) this.#seen.add(name);
    return names;
  }

  /** Snapshots of the cache seen so far: at least so many were made. */
  get snapshots(): number {
    this.look();
    return new Set([...this.#seen].map((name) => name.split('-')[0])).size;
  }

  /** Compactions seen so far: at least so many were made. */
  get compactions(): number {
    this.look();
    return [...this.#seen].filter(isCompacted).length;
  }

  /** Every row is in files that compactions wrote: often one, and sometimes two that InfluxDB leaves as they are. */
  get areAllCompacted(): boolean {
    const names = this.look();
    return names.length > 0 && names.every(isCompacted);
  }
}

function isCompacted(name: string): boolean {
  return Number(name.slice(0, -'.tsm'.length).split('-')[1]) > 1;
}

/** Names of files at any depth. A folder that is not there yet, or is being changed, has what can be read of it. */
function list(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}

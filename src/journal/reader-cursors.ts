/** The checkpoints of the readers that hold segments back, as last read from their files. */
import { cursorPath, readCursor } from './cursor.ts';
import type { Files } from './files.ts';

interface Known {
  /** Null: never committed. */
  readonly newest: number | null;
  /** Every record below it may go; null: none may. */
  readonly heldFrom: number | null;
}

export class ReaderCursors {
  readonly #files: Files;
  readonly #folder: string;
  readonly #readers: readonly string[];
  readonly #known: Map<string, Known>;

  constructor(files: Files, folder: string, readers: readonly string[], holders: readonly string[] = []) {
    this.#readers = readers;
    this.#files = files;
    this.#folder = folder;
    this.#known = new Map([...readers, ...holders].map((reader) => [reader, { newest: null, heldFrom: null }]));
  }

  /** Never rejects: a checkpoint that cannot be read holds everything back. */
  async refresh(): Promise<void> {
    for (const reader of this.#known.keys()) {
      const outcome = await readCursor(this.#files, cursorPath(this.#folder, reader));
      const stored = outcome.ok ? outcome.value : null;
      this.#known.set(reader, { newest: stored?.newest.offset ?? null, heldFrom: stored?.heldFrom ?? null });
    }
  }

  /** Below this offset no reader needs anything; -1 when one needs everything. */
  get slowest(): number {
    let slowest = Number.POSITIVE_INFINITY;
    for (const { heldFrom } of this.#known.values()) slowest = Math.min(slowest, heldFrom ?? -1);
    return slowest;
  }

  /** By reader: offsets from its checkpoint, or from the first one, to the end. */
  backlog(firstOffset: number, endOffset: number): Record<string, number> {
    const backlog: Record<string, number> = {};
    for (const reader of this.#readers) {
      const { newest } = this.#known.get(reader)!;
      backlog[reader] = Math.max(0, endOffset - Math.max(firstOffset, newest ?? firstOffset));
    }
    return backlog;
  }
}

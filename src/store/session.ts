/**
 * One query over the embedded store's files: finds the blocks and groups that can hold matching rows, reads just those,
 * and lets the later written of two rows with one place win.
 */
import type { FileHandle } from 'node:fs/promises';
import type { Row, RowQuery } from '../row.ts';
import type { WindowSize } from '../stream.ts';
import { decodeGroup, groupEnd } from './block.ts';
import type { Series } from './rowcodec.ts';
import { type Block, type FileScan, type OpenFile, readAt } from './rowfile.ts';
import type { SliceSource } from './slices.ts';

/** Blocks read at the same time, and about how many rows are then decoded without a pause for others. */
const READ_AHEAD_BLOCKS = 16;
const READ_AHEAD_ROWS = 4_000;

/** The files of one period, in the order in which they were written. */
export interface Period {
  readonly startMs: number;
  readonly endMs: number;
  readonly paths: readonly string[];
}

/** What is known of files beyond this query. */
export interface KnownFiles {
  /** The blocks of an open file, brought up to date. */
  scan(path: string, file: FileHandle): Promise<FileScan>;
  /** What was known turned out to be wrong. */
  forget(path: string): void;
  damaged(path: string, bytes: number): void;
}

interface OpenPart {
  readonly file: FileHandle;
  readonly seriesCount: number;
  /** As they were when the file was opened; other queries add to the scan. */
  readonly blocks: readonly Block[];
  /** By id: the series that match the query. */
  readonly wanted: (Wanted | undefined)[];
  /** Their ids, ascending. */
  readonly wantedIds: number[];
}

interface Wanted {
  readonly series: Series;
  /** The same for the same series in every file of this session. */
  readonly number: number;
}

interface Piece {
  readonly path: string;
  readonly part: OpenPart;
  readonly block: Block;
  /** First and last of neighbouring groups. */
  readonly spans: readonly [first: number, last: number][];
  /** About how many of its rows match. */
  readonly rows: number;
  readonly isLast: boolean;
}

/** One query: files open, slices read from them. */
export class Session implements SliceSource {
  readonly #query: RowQuery;
  readonly #window: WindowSize;
  readonly #periods: readonly Period[];
  readonly #openFile: OpenFile;
  readonly #known: KnownFiles;
  readonly #parts = new Map<string, OpenPart | null>();
  readonly #numbers = new Map<string, number>();

  constructor(query: RowQuery, window: WindowSize, periods: readonly Period[], openFile: OpenFile, known: KnownFiles) {
    this.#query = query;
    this.#window = window;
    this.#periods = periods;
    this.#openFile = openFile;
    this.#known = known;
  }

  async rows(fromMs: number, toMs: number, maxRows: number): Promise<Row[] | null> {
    const byPlace = new Map<string, Row>();
    for (const period of this.#periods) {
      if (period.endMs <= fromMs || period.startMs >= toMs) continue;
      const pieces = await this.#pieces(period, fromMs, toMs);
      if (pieces.reduce((sum, { rows }) => sum + rows, 0) > maxRows) return null;
      for (const ahead of readAhead(pieces)) {
        const bytes = await Promise.all(ahead.map(readPiece));
        for (const [k, piece] of ahead.entries()) this.#take(piece, bytes[k]!, fromMs, toMs, byPlace);
        if (byPlace.size > maxRows) return null;
      }
    }
    return [...byPlace.values()];
  }

  async edge(fromMs: number, toMs: number, edge: 'oldest' | 'newest'): Promise<number | null> {
    const periods = edge === 'oldest' ? this.#periods : [...this.#periods].reverse();
    for (const period of periods) {
      if (period.endMs <= fromMs || period.startMs >= toMs) continue;
      const pieces = await this.#pieces(period, fromMs, toMs);
      if (pieces.length === 0) continue;
      return edge === 'oldest'
        ? pieces.reduce((least, { block }) => Math.min(least, Math.max(fromMs, block.minStartMs)), toMs)
        : pieces.reduce((most, { block }) => Math.max(most, Math.min(toMs - 1, block.maxStartMs)), fromMs);
    }
    return null;
  }

  async close(): Promise<void> {
    await this.#closeExcept([]);
  }

  /** The files of one period at a time are open: neighbouring slices mostly need the same. */
  async #closeExcept(paths: readonly string[]): Promise<void> {
    for (const [path, part] of this.#parts) {
      if (paths.includes(path)) continue;
      this.#parts.delete(path);
      await part?.file.close();
    }
  }

  /** What has to be read for this slice, in the order of writing. */
  async #pieces(period: Period, fromMs: number, toMs: number): Promise<Piece[]> {
    const pieces: Piece[] = [];
    await this.#closeExcept(period.paths);
    for (const path of period.paths) {
      const part = await this.#part(path);
      if (part === null || part.wantedIds.length === 0) continue;
      const { blocks } = part;
      const share = part.wantedIds.length / part.seriesCount;
      for (const block of blocks) {
        if (block.minStartMs >= toMs || block.maxStartMs < fromMs) continue;
        const spans = spansOf(block, part.wantedIds);
        if (spans.length === 0) continue;
        pieces.push({ path, part, block, spans, rows: block.rowCount * share, isLast: block === blocks.at(-1) });
      }
    }
    return pieces;
  }

  async #part(path: string): Promise<OpenPart | null> {
    const known = this.#parts.get(path);
    if (known !== undefined) return known;
    const part = await this.#openPart(path);
    this.#parts.set(path, part);
    return part;
  }

  /** Null when the file was deleted to make room. */
  async #openPart(path: string): Promise<OpenPart | null> {
    let file: FileHandle;
    try {
      file = await this.#openFile(path, 'r');
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw thrown;
    }
    try {
      const scan = await this.#known.scan(path, file);
      const wanted: (Wanted | undefined)[] = [];
      const wantedIds: number[] = [];
      scan.series.forEach((series, id) => {
        if (!series || !this.#matches(series)) return;
        wanted[id] = { series, number: this.#numberOf(series) };
        wantedIds.push(id);
      });
      return { file, seriesCount: scan.series.length, blocks: [...scan.blocks], wanted, wantedIds };
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
  }

  #take(piece: Piece, bytes: readonly Buffer[], fromMs: number, toMs: number, byPlace: Map<string, Row>): void {
    const { block, part } = piece;
    piece.spans.forEach(([first, last], i) => {
      const start = block.groupOffset[first]!;
      for (let group = first; group <= last; group++) {
        const of = bytes[i]!.subarray(block.groupOffset[group]! - start, groupEnd(block, group) - start);
        const whole = decodeGroup(
          block,
          group,
          of,
          this.#window,
          (id) => part.wanted[id]?.series,
          (row, id) => {
            if (row.startMs >= fromMs && row.startMs < toMs)
              byPlace.set(`${part.wanted[id]!.number} ${row.startMs}`, row);
          },
        );
        // The last block may be an append that has not finished; it will be read again.
        if (!whole) {
          this.#known.forget(piece.path);
          if (!piece.isLast) this.#known.damaged(piece.path, of.length);
        }
      }
    });
  }

  #matches(series: Series): boolean {
    const { stream, metric, tags } = this.#query;
    if (series.stream !== stream || (metric !== undefined && series.metric !== metric)) return false;
    for (const [name, value] of Object.entries(tags ?? {})) {
      if (!Object.hasOwn(series.tags, name) || series.tags[name] !== value) return false;
    }
    return true;
  }

  #numberOf(series: Series): number {
    const number = this.#numbers.get(series.text) ?? this.#numbers.size;
    this.#numbers.set(series.text, number);
    return number;
  }
}

/** The pieces in order, in groups that are small in blocks and in rows. */
function* readAhead(pieces: readonly Piece[]): Generator<Piece[]> {
  let group: Piece[] = [];
  let rows = 0;
  for (const piece of pieces) {
    if (group.length === READ_AHEAD_BLOCKS || (group.length > 0 && rows + piece.rows > READ_AHEAD_ROWS)) {
      yield group;
      group = [];
      rows = 0;
    }
    group.push(piece);
    rows += piece.rows;
  }
  if (group.length > 0) yield group;
}

function readPiece({ part, block, spans }: Piece): Promise<Buffer[]> {
  const rows = block.offset + block.headBytes;
  return Promise.all(
    spans.map(([first, last]) => {
      const start = block.groupOffset[first]!;
      return readAt(part.file, rows + start, groupEnd(block, last) - start);
    }),
  );
}

/** Groups closer than this are read in one go. */
const MAX_GAP_GROUPS = 4;

/** The groups that may hold rows of these series: both lists ascend, so one pass finds them. */
export function spansOf(block: Block, ids: readonly number[]): [first: number, last: number][] {
  const { groupSeries } = block;
  const spans: [number, number][] = [];
  let i = lowerBound(ids, groupSeries[0]!);
  for (let group = 0; group < groupSeries.length && i < ids.length; group++) {
    // The series of the next group's first row may begin in this one.
    const upTo = group + 1 < groupSeries.length ? groupSeries[group + 1]! : Number.POSITIVE_INFINITY;
    if (ids[i]! > upTo) continue;
    const last = spans.at(-1);
    if (last && group - last[1] <= MAX_GAP_GROUPS) last[1] = group;
    else spans.push([group, group]);
    while (i < ids.length && ids[i]! < upTo) i++;
  }
  return spans;
}

function lowerBound(ids: readonly number[], id: number): number {
  let low = 0;
  let high = ids.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ids[middle]! < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

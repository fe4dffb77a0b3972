/**
 * The open windows of one engine: opened with the first reading or pane that belongs to them, with all larger ones that
 * they are merged into; closed once the frontier has passed their end, in the order of their ends.
 */
import { type Cell, OpenWindow } from './pane.ts';
import type { StreamState } from './stream-state.ts';
import { type Level, windowStarts } from './window.ts';

/** Is told of every series of a window that closes; `isGivenOut`: its rows or its pane are wanted. */
export type OnClosed = (cell: Cell, window: OpenWindow, state: StreamState, isGivenOut: boolean) => void;

export class OpenWindows implements Iterable<OpenWindow> {
  readonly #streams: ReadonlyMap<string, StreamState>;
  /** Windows that end at or before it are durable: nothing of them is given out. */
  readonly #emittedToMs: number;
  readonly #open = new Set<OpenWindow>();
  /** The smallest end. */
  #nextEndMs = Number.POSITIVE_INFINITY;

  constructor(streams: ReadonlyMap<string, StreamState>, emittedToMs: number) {
    this.#streams = streams;
    this.#emittedToMs = emittedToMs;
  }

  [Symbol.iterator](): Iterator<OpenWindow> {
    return this.#open.values();
  }

  /** The base pane that starts at `startMs`; null when nothing that it belongs to is to be given out. */
  pane(state: StreamState, startMs: number, offset: number, watermarkBeforeMs: number): OpenWindow | null {
    if (state.lastPaneMs !== startMs) {
      state.lastPane = this.#window(state, state.base, startMs, offset, watermarkBeforeMs);
      state.lastPaneMs = startMs;
    }
    return state.lastPane;
  }

  /** The window with the smallest offset: all below it is needed no more. */
  oldest(): OpenWindow | null {
    let oldest: OpenWindow | null = null;
    for (const window of this.#open) if (oldest === null || window.minOffset < oldest.minOffset) oldest = window;
    return oldest;
  }

  /** Closes every window that ends at or before the frontier: ascending, so that a source comes before what it feeds. */
  close(frontierMs: number, onClosed: OnClosed): void {
    if (frontierMs < this.#nextEndMs) return;
    const due = [...this.#open].filter((window) => window.endMs <= frontierMs);
    due.sort((a, b) => a.endMs - b.endMs || a.level.sizeMs - b.level.sizeMs);
    for (const window of due) {
      const state = this.#streams.get(window.stream)!;
      // S of a second stage may have risen since the window was opened.
      const isGivenOut = window.emitted && window.startMs > state.completeAfterMs;
      for (const cell of window.cells.values()) {
        cell.close(window);
        onClosed(cell, window, state, isGivenOut);
        let kept = false;
        for (let i = 1; i <= window.parents.length; i++) {
          kept = window.parents[i - 1]!.merge(cell, i === window.parents.length);
        }
        if (!kept) state.release(cell.series);
      }
      state.deleteWindow(window);
      this.#open.delete(window);
    }
    this.#nextEndMs = Number.POSITIVE_INFINITY;
    for (const window of this.#open) if (window.endMs < this.#nextEndMs) this.#nextEndMs = window.endMs;
  }

  #window(
    state: StreamState,
    level: Level,
    startMs: number,
    minOffset: number,
    watermarkBeforeMs: number,
  ): OpenWindow | null {
    const known = state.window(level, startMs);
    if (known !== undefined) return known;
    const endMs = startMs + level.sizeMs;
    const parents: OpenWindow[] = [];
    for (const larger of level.feeds) {
      for (const start of windowStarts(larger, startMs, endMs)) {
        const parent = this.#window(state, larger, start, minOffset, watermarkBeforeMs);
        if (parent !== null) parents.push(parent);
      }
    }
    const isWanted = level.label !== null || level.isJoint;
    const emitted = isWanted && endMs > this.#emittedToMs && startMs > state.completeAfterMs;
    if (!emitted && parents.length === 0) return null;
    const { name: stream, metrics, distinct = [] } = state.stream;
    const window = new OpenWindow({
      stream,
      metrics,
      distinct,
      level,
      startMs,
      endMs,
      emitted,
      parents,
      minOffset,
      watermarkBeforeMs,
    });
    state.setWindow(window);
    this.#open.add(window);
    if (endMs < this.#nextEndMs) this.#nextEndMs = endMs;
    return window;
  }
}

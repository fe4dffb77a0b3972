/**
 * What the first of two stages hands on, in the order of the panes topic (panes.ts): the panes that were closed, between a
 * tick of what was true before them and one of what is true after them. Filled by the engine, emptied at each take.
 */
import type { LogRecord } from '../log.ts';
import type { Cell, OpenWindow } from './pane.ts';
import { paneRecord, tickRecord } from './panes.ts';
import type { StreamState } from './stream-state.ts';

/** The engine's clocks as they are. */
export interface PaneClock {
  readonly watermarkMs: number;
  readonly frontierMs: number;
}

export class PaneOutbox {
  readonly #group: string;
  readonly #streams: readonly StreamState[];
  readonly #rules: ReadonlySet<string>;
  #toldFrontierMs: number;
  #opened = false;
  #panes: LogRecord[] = [];

  /** @param emittedToMs F of the commit that the engine goes on from */
  constructor(group: string, streams: readonly StreamState[], emittedToMs: number) {
    this.#group = group;
    this.#streams = streams;
    this.#rules = new Set(streams.map(({ firstHash }) => firstHash));
    this.#toldFrontierMs = emittedToMs;
  }

  get length(): number {
    return this.#panes.length;
  }

  add(cell: Cell, window: OpenWindow, rules: string, watermarkMs: number): void {
    this.#panes.push(paneRecord(cell, window, rules, this.#group, watermarkMs));
  }

  take({ watermarkMs, frontierMs }: PaneClock): LogRecord[] {
    const completeAfterMs = new Map<string, number>();
    for (const { stream, handedAfterMs } of this.#streams) {
      if (Number.isFinite(handedAfterMs)) completeAfterMs.set(stream.name, handedAfterMs);
    }
    const tick = (toMs: number) =>
      tickRecord({ frontierMs: toMs, completeAfterMs, rules: this.#rules }, this.#group, watermarkMs);
    const opening = this.#opened ? [] : [tick(this.#toldFrontierMs)];
    const closing = frontierMs > this.#toldFrontierMs ? [tick(frontierMs)] : [];
    const panes = [...opening, ...this.#panes, ...closing];
    this.#opened = true;
    this.#toldFrontierMs = frontierMs;
    this.#panes = [];
    return panes;
  }
}

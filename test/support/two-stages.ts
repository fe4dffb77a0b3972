/** Two engines joined by a panes topic in memory, in place of processes: what the first hands on, the second reads. */
import assert from 'node:assert/strict';
import type { Checkpoint, LogRecord, StoredRecord } from '../../src/log.ts';
import { Engine, type EngineOptions } from '../../src/rollup/engine.ts';
import type { Stage } from '../../src/rollup/window.ts';
import type { Row } from '../../src/row.ts';

export class TwoStages {
  readonly #options: EngineOptions;
  readonly #readings: readonly StoredRecord[];
  readonly topic: StoredRecord[] = [];
  readonly rows: Row[] = [];
  /** What is committed for the group, and for that of the second stage. */
  checkpoint: Checkpoint | null = null;
  secondCheckpoint: Checkpoint | null = null;

  constructor(options: EngineOptions, readings: readonly StoredRecord[]) {
    this.#options = options;
    this.#readings = readings;
  }

  /**
   * Reads from the commit to `endOffset`, handing out after every `flushEvery` records. Without a commit at the end: it is
   * killed, and what it wrote since the last commit is written again by the next.
   */
  read(endOffset: number, flushEvery: number, options: { stage?: Stage; killed?: boolean } = {}): void {
    const { stage = 'first', killed = false } = options;
    const restore = { checkpoint: this.checkpoint, firstOffset: 0, endOffset: this.#readings.length * 4 };
    const engine = new Engine({ ...this.#options, stage, firstGroup: 'g' }, restore);
    const records = this.#readings.filter((record) => record.offset < endOffset);
    for (const [index, record] of records.entries()) {
      assert.ok(engine.process(record));
      if (index % flushEvery === 0 || index === records.length - 1) this.#flush(engine, killed);
    }
  }

  #flush(engine: Engine, killed: boolean): void {
    const { rows, panes, checkpoint } = engine.take();
    this.rows.push(...rows);
    for (const record of panes) this.append(record);
    if (!killed) this.checkpoint = checkpoint;
  }

  append(record: LogRecord): void {
    this.topic.push({ ...record, offset: this.topic.length });
  }

  /** The second stage, from its commit to `endOffset` of the topic. */
  merge(flushEvery: number, options: { killed?: boolean; endOffset?: number; options?: EngineOptions } = {}): Engine {
    const { killed = false, endOffset = this.topic.length } = options;
    const restore = { checkpoint: this.secondCheckpoint, firstOffset: 0, endOffset: this.topic.length };
    const engine = new Engine({ ...(options.options ?? this.#options), stage: 'second', firstGroup: 'g' }, restore);
    for (const record of this.topic.slice(0, endOffset)) {
      assert.ok(engine.process(record));
      if (record.offset % flushEvery !== 0 && record.offset !== endOffset - 1) continue;
      const { rows, checkpoint } = engine.take();
      this.rows.push(...rows);
      if (!killed) this.secondCheckpoint = checkpoint;
    }
    return engine;
  }
}

/** Planted mistakes in the rollup. A simulation that does not notice one of them proves nothing about it. */
import type { Clock } from '../../src/clock.ts';
import type { Checkpoint, LogRecord, StoredRecord } from '../../src/log.ts';
import { decodeReading, encodeReading } from '../../src/reading.ts';
import { decodeCheckpoint, encodeCheckpoint, type Progress, streamHash } from '../../src/rollup/checkpoint.ts';
import { Engine, type EngineOptions, type Taken } from '../../src/rollup/engine.ts';
import { Cell } from '../../src/rollup/pane.ts';
import { decodeTick, type PassedPane, tickRecord } from '../../src/rollup/panes.ts';
import type { Restore } from '../../src/rollup/restore.ts';
import type { Row } from '../../src/row.ts';
import type { Mutant } from './simulation-process.ts';

function altered(checkpoint: Checkpoint | null, change: (progress: Progress) => Partial<Progress>): Checkpoint | null {
  const progress = checkpoint && decodeCheckpoint(checkpoint);
  return progress && encodeCheckpoint({ ...progress, ...change(progress) });
}

/** An engine that commits something else than it should. */
function committing(change: (progress: Progress, engine: Engine) => Partial<Progress>): Mutant {
  class Mistaken extends Engine {
    override take(): Taken {
      const taken = super.take();
      return { ...taken, checkpoint: altered(taken.checkpoint, (progress) => change(progress, this)) };
    }
  }
  return { createEngine: (options, restore) => new Mistaken(options, restore) };
}

/** An engine that is restored from something else than was committed. */
function restoring(change: (progress: Progress) => Partial<Progress>): Mutant {
  return {
    createEngine: (options, restore) =>
      new Engine(options, { ...restore, checkpoint: altered(restore.checkpoint, change) }),
  };
}

/** An engine that sees other records than the log has. */
function seeing(change: (record: StoredRecord, clock: Clock) => StoredRecord): Mutant {
  class Mistaken extends Engine {
    readonly #clock: Clock;
    constructor(options: EngineOptions, restore: Restore, clock: Clock) {
      super(options, restore);
      this.#clock = clock;
    }
    override process(record: StoredRecord): boolean {
      return super.process(change(record, this.#clock));
    }
  }
  return { createEngine: (options, restore, clock) => new Mistaken(options, restore, clock) };
}

/** Opens the window of a late reading again, for just this reading. */
class ReopeningEngine extends Engine {
  readonly #settings: EngineOptions;
  #reopened: Row[] = [];

  constructor(options: EngineOptions, restore: Restore) {
    super(options, restore);
    this.#settings = options;
  }

  override process(record: StoredRecord): boolean {
    const before = this.pendingLate;
    const taken = super.process(record);
    if (this.pendingLate > before) this.#reopen(record);
    return taken;
  }

  override take(): Taken {
    const taken = super.take();
    const rows = [...taken.rows, ...this.#reopened];
    this.#reopened = [];
    return { ...taken, rows };
  }

  #reopen(record: StoredRecord): void {
    const fresh = new Engine(this.#settings, { checkpoint: null, firstOffset: 0, endOffset: 0 });
    const timeMs = decodeReading(Buffer.from(record.value).toString())!.timeMs;
    fresh.process({ ...record, offset: 0, receivedMs: timeMs });
    const tick: LogRecord = { ...record, kind: 'tick', receivedMs: timeMs + 10_000_000 };
    fresh.process({ ...tick, offset: 1 });
    this.#reopened.push(...fresh.take().rows);
  }
}

export const MUTANTS: Readonly<Record<string, Mutant>> = {
  'the read position is committed': committing((progress, engine) => ({
    offset: progress.position,
    watermarkMs: engine.stats().watermarkMs,
  })),
  'the watermark of the read position is committed': committing((_, engine) => ({
    watermarkMs: engine.stats().watermarkMs,
  })),
  'windows that are durable are emitted again': restoring(() => ({ frontierMs: Number.NEGATIVE_INFINITY })),
  'the watermark is forgotten': restoring(() => ({ watermarkMs: Number.NEGATIVE_INFINITY })),
  'duplicates are counted': seeing((record) => {
    const reading = record.kind === 'reading' ? decodeReading(Buffer.from(record.value).toString()) : null;
    if (reading === null) return record;
    const unique = { ...reading, key: record.key, identity: String(record.offset) };
    return { ...record, value: Buffer.from(encodeReading(unique)) };
  }),
  'a late reading opens its window again': {
    createEngine: (options, restore) => new ReopeningEngine(options, restore),
  },
  'the commit comes before the write': { commitBeforeWrite: true },
  'the clock on the wall decides what is late': seeing((record, clock) => ({ ...record, receivedMs: clock.nowMs() })),
};

/** A first stage that hands on something else than it should. */
function handing(change: (panes: readonly LogRecord[]) => readonly LogRecord[]): Mutant {
  class Mistaken extends Engine {
    override take(): Taken {
      const taken = super.take();
      return { ...taken, panes: change(taken.panes) };
    }
  }
  return { createEngine: (options, restore) => new Mistaken(options, restore) };
}

/** Adds every copy of a pane to its window. */
class RepeatingEngine extends Engine {
  protected override isRepeat(): boolean {
    return false;
  }

  protected override place(part: PassedPane, cell: Cell): void {
    const again = new Cell(cell.series, cell.aggregates.length);
    part.fill(again);
    cell.merge(again);
  }
}

/** Of the stage between the two. */
export const TWO_STAGE_MUTANTS: Readonly<Record<string, Mutant>> = {
  'panes that were merged are merged again': {
    createEngine: (options, restore) => new RepeatingEngine(options, restore),
  },
  'the tick goes before the panes': handing((panes) => [
    ...panes.filter(({ kind }) => kind === 'tick'),
    ...panes.filter(({ kind }) => kind === 'pane'),
  ]),
  'the panes come after the commit': { commitBeforePanes: true },
};

/** Seen only when history is truncated, or a setting changes. */
export const HISTORY_MUTANTS: Readonly<Record<string, Mutant>> = {
  'ticks do not say from when panes are complete': handing((panes) =>
    panes.map((record) => {
      const tick = record.kind === 'tick' ? decodeTick(record.value) : null;
      return tick === null
        ? record
        : tickRecord({ ...tick, completeAfterMs: new Map() }, record.key, record.receivedMs);
    }),
  ),
};

/** Takes every tick for one of its own rules. */
class CredulousEngine extends Engine {
  readonly #rules: ReadonlySet<string>;

  constructor(options: EngineOptions, restore: Restore) {
    super(options, restore);
    this.#rules = new Set(Object.values(options.streams).map((stream) => streamHash(stream, options, 'first')));
  }

  override process(record: StoredRecord): boolean {
    const tick = record.kind === 'tick' ? decodeTick(record.value) : null;
    if (tick === null) return super.process(record);
    const { value } = tickRecord({ ...tick, rules: this.#rules }, record.key, record.receivedMs);
    return super.process({ ...record, value });
  }
}

/** Seen only when the rules of a stream change, and the second stage had not committed yet what it knew of the old ones. */
export const TICK_MUTANT: Mutant = { createEngine: (options, restore) => new CredulousEngine(options, restore) };

/** Seen only when the rules of a stream change. */
export const CHANGE_MUTANTS: Readonly<Record<string, Mutant>> = {
  'a changed stream is not read again below the commit': {
    createEngine: (options, { rereadFrom, ...restore }) =>
      new Engine(options, rereadFrom === undefined ? restore : { ...restore, rereadFrom: restore.checkpoint!.offset }),
  },
};

/**
 * The rollup of one partition: a pure function of the log's records and of one small commit. No I/O, no timer, no clock;
 * time comes from the records alone. `run.ts` feeds it, makes durable what it gives, and then commits.
 *
 * Definitions, for a record r at offset o:
 *   tIn(r)        its received stamp                tEv(r)   the event time of the reading in it
 *   pane(r)       the base pane (window.ts) that holds tEv; [start, end)
 *   watermark(o)  the largest tIn of any record, ticks and refusals included, below o: a function of the log's prefix
 *   frontier(o)   watermark(o) - grace - disorder
 *   late(r)       pane end + grace <= tIn: whoever reads it, whenever, it is late
 *   straggler(r)  not late, but pane end <= frontier(o): the log is further out of order than `disorder`; close to never
 *   admitted(r)   neither, and the first offset of its identity in its pane: the named identity within the stream, or else
 *                 series + tEv. The others are duplicates.
 *   a window      holds the admitted readings of its base panes; it is closed once its end <= frontier.
 * Device clocks cannot move the watermark, and no clock of ours decides what is counted: a replay decides the same.
 *
 * Restore and commit. `take` hands out what was closed since the last take and a checkpoint, which may be committed once
 * all of that is durable, however long it takes and whoever else commits in the meantime (checkpoint.ts names its fields).
 * It is valid: WL is the watermark at L, every window with end <= F is durable, and no open window has an admitted
 * reading below L. An engine restored from it decides about every reading from L on as before, so what it emits is the same
 * to the last bit. Windows with end <= F are not emitted again: the replay may see only a part of them.
 *
 * When history is truncated, only windows that start after S are emitted: restore.ts. S is part of the commit: after a crash
 * the windows around it are as partial as before.
 *
 * Two stages are two engines: panes.ts says what goes from the first to the second. They differ in what a base pane is
 * given, readings or panes, and in the clock: that of the second is the frontier of the first, without grace or disorder.
 *
 * Positions may have holes. A truncation under a running engine looks like one: `run.ts` notices it and restores anew.
 */
import type { Checkpoint, LogRecord, StoredRecord } from '../log.ts';
import type { Row } from '../row.ts';
import type { Stream } from '../stream.ts';
import { encodeCheckpoint, streamHash } from './checkpoint.ts';
import { type LateReason, lateRecord } from './late.ts';
import { type OnClosed, OpenWindows } from './open-windows.ts';
import type { Cell, OpenWindow, Series } from './pane.ts';
import { PaneOutbox } from './pane-outbox.ts';
import { decodePane, decodeTick, type PanesTick, type PassedPane } from './panes.ts';
import { provisionalRows, type Wanted } from './provisional.ts';
import { type CountableReading, fingerprintOf, readingOf, tagsOf } from './record.ts';
import { type Admission, type Beginning, completeAfterFirst, type Restore, type Start, startOf } from './restore.ts';
import { StreamState, type StreamStats } from './stream-state.ts';
import { floorTo, type Stage, windowsOf } from './window.ts';

export interface EngineOptions extends Admission {
  readonly partition: number;
  readonly streams: Readonly<Record<string, Stream>>;
  /** Absent: 'only'. */
  readonly stage?: Stage;
  /** Of two stages: the consumer group of the first, by which the second knows what is meant for it. */
  readonly firstGroup?: string;
  /** May one more series be held? Decides when a record is taken, never how. Absent: always. */
  hasRoom?(): boolean;
  /** Hears of every reading record what became of it; for `audit`. */
  onFate?(record: StoredRecord, fate: Fate, place: FatePlace | null): void;
}

/**
 * counted     in the window of its base size, closed or open
 * duplicate   its identity was there already
 * late        its window could not take it any more: late, or straggler
 * outOfReach  its window began before what this engine knows of
 * unreadable  not a reading, or of a stream that is not configured
 */
export type Fate = 'counted' | 'duplicate' | 'late' | 'outOfReach' | 'unreadable';

export interface FatePlace {
  readonly stream: string;
  readonly timeMs: number;
  /** Of its base window. */
  readonly startMs: number;
  readonly endMs: number;
}

export interface Taken {
  /** Ascending by end. */
  readonly rows: readonly Row[];
  readonly late: readonly LogRecord[];
  /** Of a first stage: for the panes topic, in this order. */
  readonly panes: readonly LogRecord[];
  /** To be committed when all of the above is durable; null while nothing was read or committed ever. */
  readonly checkpoint: Checkpoint | null;
}

export interface EngineStats {
  /** Where the next record is expected; all below was read. */
  readonly position: number;
  readonly watermarkMs: number;
  /** Every window that ends at or before it was closed, here or before. */
  readonly frontierMs: number;
  readonly openSeries: number;
  readonly openAccumulators: number;
  readonly pendingRows: number;
  readonly pendingLate: number;
  /** Reading records that are not readings, or of a stream that is not configured. */
  readonly unreadable: number;
  readonly unknownStream: number;
  readonly streams: ReadonlyMap<string, StreamStats>;
  /** Windows closed and emitted, one for each series, by window label. */
  readonly closed: ReadonlyMap<string, number>;
}

/**
 * A reading further ahead of its received stamp than `skew` and this was not accepted by any gateway. It would keep its
 * window open, and with it the log from there on, until that time has come.
 */
const FAR_AHEAD_MS = 86_400_000;

export class Engine {
  readonly beginning: Beginning;
  readonly #options: EngineOptions;
  readonly #stage: Stage;
  /** Of the first of two stages. */
  readonly #group: string;
  readonly #outbox: PaneOutbox;
  readonly #restored: Checkpoint | null;
  readonly #start: Start;
  readonly #streams = new Map<string, StreamState>();
  readonly #open: OpenWindows;
  #position: number;
  #watermarkMs: number;
  #awaitsFirst: boolean;
  #beganAfterMs: number | undefined;
  #rows: Row[] = [];
  #late: LogRecord[] = [];
  #unreadable = 0;
  #unknownStream = 0;
  readonly #closed = new Map<string, number>();

  constructor(options: EngineOptions, restore: Restore) {
    this.#options = options;
    this.#restored = restore.checkpoint;
    const stage = options.stage ?? 'only';
    this.#stage = stage;
    this.#group = options.firstGroup ?? '';
    const streams = Object.values(options.streams).filter(({ windows }) => windowsOf(windows, stage).length > 0);
    this.#start = startOf(restore, streams, options, stage);
    this.beginning = this.#start.beginning;
    this.#position = this.#start.offset;
    this.#watermarkMs = this.#start.watermarkMs;
    this.#awaitsFirst = this.#start.awaitsFirst;
    this.#beganAfterMs = this.#start.beganAfterMs;
    for (const stream of streams) {
      const firstHash = streamHash(stream, options, 'first');
      const hash = stage === 'first' ? firstHash : streamHash(stream, options, stage);
      const state = new StreamState(stream, { hash, firstHash }, stage);
      state.completeAfterMs = this.#start.completeAfterMs.get(stream.name) ?? Number.NEGATIVE_INFINITY;
      state.handedAfterMs = Math.max(state.completeAfterMs, this.#start.handedAfterMs.get(stream.name) ?? -Infinity);
      this.#streams.set(stream.name, state);
    }
    const { emittedToMs } = this.#start;
    this.#open = new OpenWindows(this.#streams, emittedToMs);
    this.#outbox = new PaneOutbox(this.#group, [...this.#streams.values()], emittedToMs);
  }

  /** Where to read from, and after that what to expect next. */
  get position(): number {
    return this.#position;
  }

  get frontierMs(): number {
    return Math.max(this.#frontierMs(), this.#start.emittedToMs);
  }

  /** S, the largest of all streams: windows that start at or before it may be incomplete and are not emitted. */
  get completeAfterMs(): number {
    if (this.#awaitsFirst) return Number.POSITIVE_INFINITY;
    return Math.max(...[...this.#streams.values()].map((state) => state.completeAfterMs));
  }

  /** Rows and panes. */
  get pendingRows(): number {
    return this.#rows.length + this.#outbox.length;
  }

  /** Series (stream, tags and metric) with a cell in an open window: what memory grows with. */
  get openSeries(): number {
    let series = 0;
    for (const state of this.#streams.values()) series += state.series.size * Math.max(1, state.stream.metrics.length);
    return series;
  }

  get pendingLate(): number {
    return this.#late.length;
  }

  /**
   * Records in the order of their offsets; one below `position` was read already and changes nothing. False: the record
   * was not taken, because it is of a new series and there is no room; to be given again later.
   */
  process(record: StoredRecord): boolean {
    if (record.offset < this.#position) return true;
    if (this.#stage === 'second') return this.#processPane(record);
    if (this.#awaitsFirst) this.#begin(record);
    if (record.kind === 'reading' && !this.#read(record)) return false;
    this.#position = record.offset + 1;
    this.#hear(record.receivedMs);
    return true;
  }

  #processPane(record: StoredRecord): boolean {
    if (record.key === this.#group) {
      if (this.#awaitsFirst) this.#begin(record);
      if (record.kind === 'pane' && !this.#merge(record)) return false;
      const tick = record.kind === 'tick' ? decodeTick(record.value) : null;
      if (tick !== null) this.#hearTick(tick);
    }
    this.#position = record.offset + 1;
    return true;
  }

  /** A stream whose rules it does not name is only known to be whole from its frontier on: panes.ts. */
  #hearTick({ frontierMs, completeAfterMs, rules }: PanesTick): void {
    for (const [name, state] of this.#streams) {
      const knownAfterMs = rules.has(state.firstHash) ? (completeAfterMs.get(name) ?? -Infinity) : frontierMs;
      state.completeAfterMs = Math.max(state.completeAfterMs, knownAfterMs);
    }
    this.#hear(frontierMs);
  }

  /** What was closed since the last take. */
  take(): Taken {
    const taken = { rows: this.#rows, late: this.#late, panes: this.#handOn(), checkpoint: this.#checkpoint() };
    this.#rows = [];
    this.#late = [];
    return taken;
  }

  /** Rows of open windows as they stand, the newest window of each size first come, at most `limit`. Changes nothing. */
  provisional(limit: number, wanted?: Wanted): Row[] {
    return provisionalRows(this.#open, limit, wanted);
  }

  stats(): EngineStats {
    let openAccumulators = 0;
    for (const window of this.#open) openAccumulators += window.cells.size * Math.max(1, window.metrics.length);
    return {
      position: this.#position,
      watermarkMs: this.#watermarkMs,
      frontierMs: this.frontierMs,
      openSeries: this.openSeries,
      openAccumulators,
      pendingRows: this.pendingRows,
      pendingLate: this.#late.length,
      unreadable: this.#unreadable,
      unknownStream: this.#unknownStream,
      streams: new Map([...this.#streams].map(([name, state]) => [name, { ...state.stats }])),
      closed: new Map(this.#closed),
    };
  }

  #frontierMs(): number {
    if (this.#stage === 'second') return this.#watermarkMs;
    return this.#watermarkMs - this.#options.graceMs - this.#options.disorderMs;
  }

  #hear(clockMs: number): void {
    if (clockMs <= this.#watermarkMs) return;
    this.#watermarkMs = clockMs;
    this.#open.close(this.#frontierMs(), this.#giveOut);
  }

  #begin(first: StoredRecord): void {
    this.#awaitsFirst = false;
    const completeAfterMs = completeAfterFirst(first, this.#start, this.#options, this.#stage);
    if (this.beginning === 'chosen') this.#beganAfterMs = completeAfterMs;
    for (const state of this.#streams.values()) {
      state.completeAfterMs = Math.max(state.completeAfterMs, completeAfterMs);
      state.handedAfterMs = Math.max(state.handedAfterMs, completeAfterMs);
    }
  }

  /** Of a first stage. Nothing is known before the first record. */
  #handOn(): LogRecord[] {
    if (this.#stage !== 'first' || this.#awaitsFirst || this.#watermarkMs === Number.NEGATIVE_INFINITY) return [];
    return this.#outbox.take({ watermarkMs: this.#watermarkMs, frontierMs: this.frontierMs });
  }

  /** False: no room for a new series. */
  #read(record: StoredRecord): boolean {
    const isNew = record.offset >= this.#start.producedTo;
    const reading = readingOf(record.value);
    if (reading === null || reading.timeMs - record.receivedMs > this.#options.skewMs + FAR_AHEAD_MS) {
      if (isNew) this.#unreadable++;
      this.#options.onFate?.(record, 'unreadable', null);
      return true;
    }
    const state = this.#streams.get(reading.stream);
    if (state === undefined) {
      if (isNew) this.#unknownStream++;
      this.#options.onFate?.(record, 'unreadable', null);
      return true;
    }
    const startMs = floorTo(reading.timeMs, state.base.sizeMs);
    const endMs = startMs + state.base.sizeMs;
    const { onFate } = this.#options;
    const place = onFate ? { stream: reading.stream, timeMs: reading.timeMs, startMs, endMs } : null;
    if (endMs + this.#options.graceMs <= record.receivedMs) {
      if (isNew) this.#refuse(record, state, 'late');
      onFate?.(record, 'late', place);
      return true;
    }
    if (endMs <= this.#frontierMs()) {
      if (isNew) this.#refuse(record, state, 'straggler');
      onFate?.(record, 'late', place);
      return true;
    }
    const fingerprint = fingerprintOf(reading.values, state.stream.metrics);
    const known = state.seriesByTags.get(reading.tags);
    const tags = known === undefined ? tagsOf(reading.tags) : known.tags;
    if (fingerprint === null || tags === null) {
      if (isNew) this.#unreadable++;
      onFate?.(record, 'unreadable', null);
      return true;
    }
    const pane = this.#open.pane(state, startMs, record.offset, this.#watermarkMs);
    if (pane === null) {
      if (isNew) state.stats.outOfReach++;
      onFate?.(record, 'outOfReach', place);
      return true;
    }
    const series = known ?? state.addSeries(reading.tags, tags, this.#options.hasRoom);
    if (series === null) return false;
    const counted = this.#count(reading, fingerprint, state, pane.cellOfReading(series), pane, isNew);
    onFate?.(record, counted ? 'counted' : 'duplicate', place);
    return true;
  }

  /** False: no room for a new series. */
  #merge(record: StoredRecord): boolean {
    const isNew = record.offset >= this.#start.producedTo;
    const part = decodePane(record.value);
    const tags = part && tagsOf(part.tags);
    if (part === null || tags === null) {
      if (isNew) this.#unreadable++;
      return true;
    }
    const state = this.#streams.get(part.stream);
    if (state === undefined || part.rules !== state.firstHash) {
      if (isNew) this.#unknownStream++;
      return true;
    }
    // The first copy of a pane that the clock has passed stands before the tick.
    const isPassed = part.endMs <= this.#frontierMs();
    const pane = isPassed ? null : this.#open.pane(state, part.startMs, record.offset, this.#watermarkMs);
    if (pane === null) {
      if (isNew) state.stats.outOfReach++;
      return true;
    }
    const series = state.seriesByTags.get(part.tags) ?? state.addSeries(part.tags, tags, this.#options.hasRoom);
    if (series === null) return false;
    if (this.isRepeat(pane, series)) {
      if (isNew) state.stats.duplicates++;
      return true;
    }
    this.place(part, pane.cell(series));
    if (isNew) state.stats.counted++;
    return true;
  }

  /** These two are not private, so that a test can plant a mistake here. */
  protected isRepeat(pane: OpenWindow, series: Series): boolean {
    return pane.cells.has(series);
  }

  protected place(part: PassedPane, cell: Cell): void {
    part.fill(cell);
  }

  #refuse(record: StoredRecord, state: StreamState, reason: LateReason): void {
    state.stats[reason]++;
    this.#late.push(lateRecord(record, reason, this.#options.partition));
  }

  /** False: a duplicate. */
  #count(
    reading: CountableReading,
    fingerprint: number,
    state: StreamState,
    cell: Cell,
    pane: OpenWindow,
    isNew: boolean,
  ): boolean {
    const { timeMs, values, identity, sequence, distinct } = reading;
    const first =
      identity === undefined ? cell.remember(timeMs - pane.startMs, fingerprint) : pane.remember(identity, fingerprint);
    if (first !== null) {
      cell.duplicates++;
      if (isNew) state.stats.duplicates++;
      if (isNew && first !== fingerprint) state.stats.conflicts++;
      return false;
    }
    if (sequence !== undefined) cell.addSequence(sequence);
    cell.add(timeMs, values, state.stream.metrics);
    const { distinct: fields } = state.stream;
    if (distinct !== undefined && fields !== undefined) cell.addDistinct(distinct, fields);
    if (isNew) state.stats.counted++;
    return true;
  }

  readonly #giveOut: OnClosed = (cell, window, state, isGivenOut) => {
    if (!isGivenOut) return;
    const { label, isJoint } = window.level;
    if (isJoint) this.#outbox.add(cell, window, state.firstHash, this.#watermarkMs);
    if (label === null) return;
    cell.rows(window, this.#rows);
    this.#closed.set(label, (this.#closed.get(label) ?? 0) + 1);
  };

  #checkpoint(): Checkpoint | null {
    // S is not known yet: what was restored is still all there is to say.
    if (this.#awaitsFirst) return this.#restored;
    const oldest = this.#open.oldest();
    const offset = oldest?.minOffset ?? this.#position;
    const watermarkMs = oldest?.watermarkBeforeMs ?? this.#watermarkMs;
    const { frontierMs } = this;
    const streams = new Map<string, boolean>();
    let completeAfterMs = Number.NEGATIVE_INFINITY;
    for (const state of this.#streams.values()) {
      // Once everything around S is durable, S has nothing more to say.
      const bound = state.completeAfterMs + state.largestMs > frontierMs;
      streams.set(state.hash, bound);
      if (bound) completeAfterMs = Math.max(completeAfterMs, state.completeAfterMs);
    }
    const position = Math.max(this.#position, this.#start.producedTo);
    const beganAfterMs = this.#beganAfterMs;
    return encodeCheckpoint({ offset, watermarkMs, frontierMs, position, completeAfterMs, streams, beganAfterMs });
  }
}

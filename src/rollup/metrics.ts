/** The engines' counts as telemetry: engines count from zero at every assignment, the process's counters only grow. */
import type { Telemetry } from '../telemetry.ts';
import type { Engine, EngineStats } from './engine.ts';
import { MAX_WAITING_ROWS } from './partition.ts';
import type { Stage } from './window.ts';

/** What this needs of a partition. */
interface Observed {
  readonly engine: Pick<Engine, 'stats' | 'beginning' | 'position'>;
  readonly endOffset: number;
  readonly committedFrontierMs: number;
  readonly waitingRows: number;
}

export class RollupMetrics {
  readonly #telemetry: Telemetry;
  readonly #stage: Stage;
  /** What was counted so far of each partition's present engine. */
  readonly #seen = new Map<number, { engine: unknown; stats: EngineStats | null }>();

  constructor(telemetry: Telemetry, stage: Stage) {
    this.#telemetry = telemetry;
    this.#stage = stage;
  }

  /** The log of a second stage is the panes topic: its positions are no readings. */
  get #gauges() {
    const telemetry = this.#telemetry;
    if (this.#stage !== 'second') return telemetry;
    const {
      panesLagRecords: lagRecords,
      panesOpenAccumulators: openAccumulators,
      panesFrontierSeconds: frontierSeconds,
    } = telemetry;
    return { lagRecords, openAccumulators, frontierSeconds };
  }

  /** Gauges of partitions that are not ours any more disappear: their new owner shows them. */
  assigned(partitions: ReadonlySet<number>): void {
    const { lagRecords, openAccumulators, frontierSeconds } = this.#gauges;
    const { openSeries, waitingRows, waitingRowsLimit } = this.#telemetry;
    for (const partition of this.#seen.keys()) {
      if (partitions.has(partition)) continue;
      for (const gauge of [lagRecords, openAccumulators, frontierSeconds]) gauge.remove({ partition });
      for (const gauge of [waitingRows, waitingRowsLimit]) gauge.remove({ stage: this.#stage, partition });
      if (this.#stage !== 'second') openSeries.remove({ partition });
      this.#seen.delete(partition);
    }
  }

  /** Says what a person should know about how an engine began. */
  beginning(partition: number, engine: Observed['engine']): void {
    this.#seen.set(partition, { engine, stats: null });
    const { log } = this.#telemetry;
    const fields = { partition, offset: engine.position, stage: this.#stage };
    switch (engine.beginning) {
      case 'truncated':
        log.error(fields, 'the log lost records that open windows need: windows around the gap will be missing');
        break;
      case 'rewound':
        log.error(fields, 'the log ends before the commit: it lost its end, or is not the same log');
        break;
      case 'cold':
        log.warn(fields, 'no commit and the log does not begin at its beginning: its first windows will be missing');
        break;
      case 'chosen':
        log.info(fields, 'no commit: begins where kafka.start says; windows that were open there are left out');
        break;
      case 'foreign':
        log.warn(
          fields,
          'the commit of this group is not a checkpoint of the rollup: its first windows will be missing',
        );
        break;
      case 'reconfigured':
        log.info(
          fields,
          'streams are new or changed: their open windows are counted anew, as far as the log goes back',
        );
        break;
      default:
        log.debug(fields, engine.beginning);
    }
  }

  observe(partition: number, observed: Observed): void {
    const seen = this.#seen.get(partition);
    if (seen === undefined || seen.engine !== observed.engine) return;
    const telemetry = this.#telemetry;
    const stats = observed.engine.stats();
    const before = seen.stats;
    seen.stats = stats;
    for (const [stream, now] of stats.streams) {
      const last = before?.streams.get(stream);
      if (this.#stage === 'second') {
        grow(now.counted, last?.counted, (by) => telemetry.panes.inc({ kind: 'merged' }, by));
        grow(now.duplicates, last?.duplicates, (by) => telemetry.panes.inc({ kind: 'repeated' }, by));
        grow(now.outOfReach, last?.outOfReach, (by) => telemetry.panes.inc({ kind: 'out of reach' }, by));
        continue;
      }
      grow(now.counted, last?.counted, (by) => telemetry.counted.inc({ stream }, by));
      grow(now.duplicates, last?.duplicates, (by) => telemetry.duplicates.inc({ stream }, by));
      grow(now.outOfReach, last?.outOfReach, (by) => telemetry.outOfReach.inc({ stream }, by));
      grow(now.late, last?.late, (by) => telemetry.late.inc({ stream, kind: 'late' }, by));
      grow(now.straggler, last?.straggler, (by) => telemetry.late.inc({ stream, kind: 'straggler' }, by));
    }
    for (const [window, closed] of stats.closed) {
      grow(closed, before?.closed.get(window), (by) => telemetry.windowsClosed.inc({ window }, by));
    }
    if (this.#stage !== 'second') {
      grow(stats.unreadable, before?.unreadable, (by) => telemetry.unexplained.inc({ reason: 'unreadable' }, by));
      grow(stats.unknownStream, before?.unknownStream, (by) =>
        telemetry.unexplained.inc({ reason: 'unknown-stream' }, by),
      );
    }
    const skipped = stats.unreadable + stats.unknownStream;
    if (skipped > (before === null ? 0 : before.unreadable + before.unknownStream)) {
      const fields = { partition, unreadable: stats.unreadable, unknownStream: stats.unknownStream };
      telemetry.limited('warn', 'rollup-skipped', fields, 'the log holds records that no configured stream explains');
    }
    const { lagRecords, openAccumulators, frontierSeconds } = this.#gauges;
    lagRecords.set({ partition }, Math.max(0, observed.endOffset - stats.position));
    openAccumulators.set({ partition }, stats.openAccumulators);
    if (this.#stage !== 'second') telemetry.openSeries.set({ partition }, stats.openSeries);
    telemetry.waitingRows.set({ stage: this.#stage, partition }, observed.waitingRows);
    telemetry.waitingRowsLimit.set({ stage: this.#stage, partition }, MAX_WAITING_ROWS);
    if (Number.isFinite(observed.committedFrontierMs)) {
      frontierSeconds.set({ partition }, observed.committedFrontierMs / 1_000);
    }
  }
}

function grow(now: number, last = 0, increase: (by: number) => void): void {
  if (now > last) increase(now - last);
}

/**
 * The log of one partition, counted again for `verify` from where its range begins: an engine under today's rules, and how far the
 * rollup has committed there. What the engine emits is what must be in the store.
 */
import type { RollupConfig } from '../config.ts';
import { type Outcome, succeed } from '../errors.ts';
import type { LogBatch, LogReader, StoredRecord } from '../log.ts';
import type { Stream } from '../stream.ts';
import { encodeCheckpoint, streamHash } from './checkpoint.ts';
import { Engine, type Fate, type FatePlace } from './engine.ts';
import { committedFrontiers, type Frontiers } from './frontiers.ts';

export interface WalkOptions {
  readonly reader: LogReader;
  /** With two stages: the panes topic, whose commits say which larger windows must be in the store. */
  readonly panes?: LogReader | undefined;
  /** The group of the rollup, whose commits say what must be in the store. Null: every window that is closed by the end of the log. */
  readonly group: string | null;
  readonly streams: Readonly<Record<string, Stream>>;
  readonly config: Pick<RollupConfig, 'graceMs' | 'disorderMs' | 'skewMs' | 'continues'>;
  /** Windows that start at or after it. */
  readonly fromMs: number;
  /** Hears of every record that is read, with what became of it if it is a reading, and how far the log was read then. */
  onRecord?(record: StoredRecord, partition: number, fate: Fate | null, place: FatePlace | null): void;
}

/** One partition of the log with an engine on it. */
export interface PartitionWalk {
  readonly partition: number;
  readonly engine: Engine;
  /** What the engine said last of a record. */
  readonly heard: { fate: Fate | null; place: FatePlace | null };
  readonly batches: AsyncIterator<LogBatch>;
  readonly records: number;
  readonly committed: Frontiers;
  finished: boolean;
}

/** Null: the partition has no records at all. */
export async function openWalk(options: WalkOptions, partition: number): Promise<Outcome<PartitionWalk | null>> {
  const { reader, streams, config, fromMs, group } = options;
  const committed =
    group === null ? succeed(ALL_CLOSED) : await committedFrontiers({ ...options, group, log: reader }, partition);
  if (!committed.ok) return committed;
  const offsets = await reader.offsets(partition);
  if (!offsets.ok) return offsets;
  const { firstOffset, endOffset } = offsets.value;
  if (firstOffset === endOffset) return succeed(null);
  // Nothing that is received earlier can be of a window that starts at fromMs or later.
  const from = await reader.offsetAtTime(partition, fromMs - config.skewMs);
  if (!from.ok) return from;
  const begin = Math.min(from.value, endOffset);
  const isTruncated = begin === firstOffset && firstOffset > 0;
  // As if a commit said: all is known about windows that start at fromMs or later, and nothing about others.
  const position = { offset: begin, position: begin, watermarkMs: -Infinity, frontierMs: -Infinity };
  const bound = new Map(Object.values(streams).map((stream) => [streamHash(stream, config), true]));
  const known = encodeCheckpoint({ ...position, completeAfterMs: fromMs - 1, streams: bound });
  const heard: { fate: Fate | null; place: FatePlace | null } = { fate: null, place: null };
  const onFate = (_: StoredRecord, fate: Fate, place: FatePlace | null) => Object.assign(heard, { fate, place });
  const engine = new Engine(
    { partition, streams, ...config, ...(options.onRecord ? { onFate } : undefined) },
    {
      checkpoint: isTruncated || begin === 0 ? null : known,
      firstOffset: begin,
      endOffset,
      continues: config.continues,
    },
  );
  return succeed({
    partition,
    engine,
    heard,
    batches: reader.range(partition, begin, endOffset)[Symbol.asyncIterator](),
    records: endOffset - begin,
    committed: committed.value,
    finished: begin === endOffset,
  });
}

/** Whoever wrote the rows has had the whole log, from its beginning. */
const ALL_CLOSED: Frontiers = Object.assign(() => Number.POSITIVE_INFINITY, { beganAfterMs: Number.NEGATIVE_INFINITY });

/**
 * A log in memory, read by one consumer at a time. The test decides when a batch is delivered: `deliver` gives the next
 * records of a partition to the handlers, as a log would, and resolves when they have been taken.
 */
import { done, type Failure, type Outcome, succeed } from '../../src/errors.ts';
import type { Checkpoint, ConsumerHandlers, LogBatch, LogReader, StoredRecord } from '../../src/log.ts';

export class MemoryLog implements LogReader {
  readonly records: StoredRecord[][];
  readonly firstOffsets: number[];
  readonly commits: { partition: number; checkpoint: Checkpoint }[] = [];
  /** Answers a commit in place of "done". */
  onCommit: (partition: number) => Outcome | Promise<Outcome> = () => done;
  trouble: Failure | null = null;
  #handlers: ConsumerHandlers | null = null;
  #signal = new AbortController();
  readonly #positions = new Map<number, number>();
  readonly #checkpoints = new Map<number, Checkpoint>();

  constructor(partitions: readonly (readonly StoredRecord[])[]) {
    this.records = partitions.map((records) => [...records]);
    this.firstOffsets = partitions.map((records) => records[0]?.offset ?? 0);
  }

  get partitions(): number {
    return this.records.length;
  }

  async consume(_group: string, handlers: ConsumerHandlers) {
    this.#handlers = handlers;
    await this.assign();
    return {
      trouble: () => this.trouble,
      commit: async (partition: number, checkpoint: Checkpoint) => {
        const outcome = await this.onCommit(partition);
        if (outcome.ok) this.setCheckpoint(partition, checkpoint);
        return outcome;
      },
      stop: async () => {
        await handlers.stopping();
        this.#signal.abort();
      },
    };
  }

  /** A new generation: all partitions, or these, from their commits. */
  async assign(ours: readonly number[] = this.records.map((_, partition) => partition)): Promise<void> {
    this.loseGeneration();
    this.#signal = new AbortController();
    const assignments = ours.map((partition) => ({
      partition,
      checkpoint: this.#checkpoints.get(partition) ?? null,
      ...this.#offsets(partition),
    }));
    const starts = await this.#handlers!.assigned(assignments);
    for (const [partition, start] of starts) this.#positions.set(partition, start);
  }

  loseGeneration(): void {
    this.#signal.abort();
  }

  end(reason: unknown): void {
    this.#handlers!.ended(reason);
  }

  async deliver(partition = 0, count = Number.POSITIVE_INFINITY): Promise<void> {
    const from = this.#positions.get(partition)!;
    const records = this.#from(partition, from).slice(0, count);
    const nextOffset = records.length === 0 ? from : records.at(-1)!.offset + 1;
    this.#positions.set(partition, nextOffset);
    const batch = { partition, records, nextOffset, endOffset: this.#offsets(partition).endOffset };
    await this.#handlers!.batch(batch, this.#signal.signal);
  }

  async offsets(partition: number) {
    return succeed(this.#offsets(partition));
  }

  async offsetAtTime(partition: number, receivedMs: number) {
    const found = this.#from(partition, 0).find((record) => record.receivedMs >= receivedMs);
    return succeed(found?.offset ?? this.#offsets(partition).endOffset);
  }

  async *range(partition: number, fromOffset: number, toOffset: number): AsyncIterable<LogBatch> {
    const { endOffset } = this.#offsets(partition);
    const records = this.#from(partition, fromOffset).filter((record) => record.offset < toOffset);
    for (let i = 0; i < records.length; i += 7) {
      const part = records.slice(i, i + 7);
      yield { partition, records: part, nextOffset: part.at(-1)!.offset + 1, endOffset };
    }
  }

  async checkpoint(_group: string, partition: number) {
    return succeed(this.#checkpoints.get(partition) ?? null);
  }

  setCheckpoint(partition: number, checkpoint: Checkpoint): void {
    this.#checkpoints.set(partition, checkpoint);
    this.commits.push({ partition, checkpoint });
  }

  async close(): Promise<void> {}

  #from(partition: number, offset: number): StoredRecord[] {
    const from = Math.max(offset, this.firstOffsets[partition]!);
    return this.records[partition]!.filter((record) => record.offset >= from);
  }

  #offsets(partition: number): { firstOffset: number; endOffset: number } {
    const last = this.records[partition]!.at(-1);
    return { firstOffset: this.firstOffsets[partition]!, endOffset: last === undefined ? 0 : last.offset + 1 };
  }
}

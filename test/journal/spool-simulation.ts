/**
 * The spool on a disk that fails and forgets, held against a model: what was acknowledged, what a reader has seen, what
 * was committed. `simulateSpool` throws when the spool breaks its promise.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { systemClock } from '../../src/clock.ts';
import type { Files } from '../../src/journal/files.ts';
import { openSpool, type Spool } from '../../src/journal/spool.ts';
import { openSpoolReader, type SpoolReader } from '../../src/journal/spool-reader.ts';
import type { LogConsumer, LogRecord, StoredRecord } from '../../src/log.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { Random } from '../support/random.ts';
import { until } from '../support/until.ts';
import { type Fault, MemoryDisk, type Operation } from './memory-disk.ts';

export type Step =
  /** Appends values of these sizes, and waits for every callback. */
  | { readonly do: 'append'; readonly sizes: readonly number[] }
  /** The same as one batch: all of them or none. */
  | { readonly do: 'batch'; readonly sizes: readonly number[] }
  /** Reads all that is durable, as a reader in the same process. */
  | { readonly do: 'read' }
  /** Commits what was read. */
  | { readonly do: 'commit' }
  /** Lets the spool delete what it may. */
  | { readonly do: 'release' }
  /** The call number `after` of this operation from now on meets the fault. */
  | { readonly do: 'fault'; readonly operation: Operation; readonly after: number; readonly fault: Fault }
  | { readonly do: 'crash'; readonly how: 'power' | 'kill' }
  /** Closes in order and opens again. */
  | { readonly do: 'reopen' }
  /** No more faults, until the spool accepts again. */
  | { readonly do: 'heal' };

const FOLDER = '/data/spool';
const GROUP = 'rollup';
const SEGMENT_BYTES = 1_500;
const MAX_BYTES = 40_000;
const START_MS = 1_700_000_000_000;
const telemetry = silentTelemetry();

const OFTEN: readonly Operation[] = ['write', 'datasync'];
const RARE: readonly Operation[] = ['open', 'rename', 'syncFolder', 'truncate'];

/** Calls that are made often meet their fault a little later than those that are rare. */
const faultStep: fc.Arbitrary<Step> = fc
  .record({
    operation: fc.constantFrom<Operation>(...RARE, ...OFTEN, ...OFTEN, ...OFTEN),
    after: fc.nat(3),
    fault: fc.constantFrom<Fault>(
      { error: 'EIO' },
      { error: 'EIO' },
      { error: 'ENOSPC' },
      { short: true },
      { crash: 'power' },
      { crash: 'kill' },
    ),
  })
  .map(({ operation, after, fault }) => ({
    do: 'fault',
    operation,
    after: OFTEN.includes(operation) ? after : 0,
    fault,
  }));

const appendStep: fc.Arbitrary<Step> = fc
  .tuple(
    fc.constantFrom('append' as const, 'append' as const, 'batch' as const),
    fc.array(fc.integer({ min: 4, max: 400 }), { minLength: 1, maxLength: 8 }),
  )
  .map(([what, sizes]) => ({ do: what, sizes }));

export const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: appendStep },
    { weight: 5, arbitrary: faultStep },
    { weight: 3, arbitrary: fc.constant<Step>({ do: 'read' }) },
    { weight: 2, arbitrary: fc.constant<Step>({ do: 'commit' }) },
    { weight: 1, arbitrary: fc.constant<Step>({ do: 'release' }) },
    { weight: 1, arbitrary: fc.constantFrom<Step>({ do: 'crash', how: 'power' }, { do: 'crash', how: 'kill' }) },
    { weight: 1, arbitrary: fc.constant<Step>({ do: 'reopen' }) },
    { weight: 2, arbitrary: fc.constant<Step>({ do: 'heal' }) },
  ),
  { minLength: 15, maxLength: 60 },
);

/** Batches whose commit is cut short by a crash: what a bug that concerns only batches needs to show itself. */
export const batchSteps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc
        .array(fc.integer({ min: 4, max: 400 }), { minLength: 3, maxLength: 8 })
        .map((sizes): Step => ({ do: 'batch', sizes })),
    },
    {
      weight: 4,
      arbitrary: fc
        .record({
          operation: fc.constantFrom<Operation>('write', 'datasync'),
          after: fc.nat(1),
          fault: fc.constantFrom<Fault>({ short: true }, { crash: 'power' }, { crash: 'kill' }),
        })
        .map((fault): Step => ({ do: 'fault', ...fault })),
    },
    { weight: 1, arbitrary: fc.constant<Step>({ do: 'heal' }) },
  ),
  { minLength: 15, maxLength: 60 },
);

/** Answers how often each fault happened. `twist` replaces the file system of each process: a planted bug. */
export async function simulateSpool(
  todo: readonly Step[],
  seed: number,
  twist: (files: Files) => Files = (files) => files,
): Promise<ReadonlyMap<string, number>> {
  const simulation = new Simulation(seed, twist);
  try {
    await simulation.run(todo);
  } finally {
    await simulation.end();
  }
  return simulation.disk.faults;
}

class Simulation {
  readonly disk: MemoryDisk;
  readonly #twist: (files: Files) => Files;
  #spool!: Spool;
  #reader!: SpoolReader;
  #consumer!: LogConsumer;
  #armed: { operation: Operation; after: number; fault: Fault }[] = [];
  /** By record number: its size, and whether it was acknowledged. */
  readonly #appended: { readonly size: number; acknowledged: boolean }[] = [];
  /** The numbers of the records of one batch. */
  readonly #batches: (readonly number[])[] = [];
  /** By offset: the number of the record that a reader has seen there. */
  readonly #seen = new Map<number, number>();
  /** Where the reader goes on. */
  #position = 0;
  /** What the stored checkpoint may be: the last commit that succeeded, or one tried since. */
  #checkpoints = new Set([0]);

  constructor(seed: number, twist: (files: Files) => Files) {
    const random = new Random(seed);
    this.disk = new MemoryDisk(() => random.next());
    this.#twist = twist;
    this.disk.plan = (operation) => {
      const index = this.#armed.findIndex((armed) => armed.operation === operation && armed.after-- === 0);
      return index < 0 ? null : this.#armed.splice(index, 1)[0]!.fault;
    };
  }

  async run(todo: readonly Step[]): Promise<void> {
    await this.#open();
    for (const step of todo) {
      await this.#take(step);
      if (this.disk.crashed) await this.#restart();
    }
    await this.#heal();
    if (this.disk.crashed) await this.#restart();
    await this.#append([10]);
    assert.ok(this.#appended.at(-1)!.acknowledged, 'a healthy spool accepts');
    await this.#verify();
    await this.#take({ do: 'reopen' });
    await this.#verify();
  }

  async end(): Promise<void> {
    this.#armed = [];
    await this.#consumer?.stop();
    await this.#reader?.close();
    await this.#spool?.close();
  }

  async #take(step: Step): Promise<void> {
    switch (step.do) {
      case 'append':
        return this.#append(step.sizes);
      case 'batch':
        return this.#appendBatch(step.sizes);
      case 'read':
        return this.#read();
      case 'commit':
        return this.#commit();
      case 'release':
        return this.#spool.release();
      case 'fault':
        this.#armed.push({ ...step });
        return;
      case 'crash':
        this.disk.crash(step.how);
        return;
      case 'reopen':
        await this.end();
        if (!this.disk.crashed) this.disk.crash('kill');
        return this.#restart();
      case 'heal':
        return this.#heal();
    }
  }

  async #append(sizes: readonly number[]): Promise<void> {
    const order: number[] = [];
    const first = this.#appended.length;
    await Promise.all(
      sizes.map((size) => {
        const number = this.#appended.length;
        const entry = { size, acknowledged: false };
        this.#appended.push(entry);
        return new Promise<void>((resolve) => {
          this.#spool.append(recordOf(number, size), (outcome) => {
            order.push(number);
            // A process that is dead cannot acknowledge.
            if (outcome.ok && !this.disk.crashed) entry.acknowledged = true;
            resolve();
          });
        });
      }),
    );
    assert.deepEqual(
      order,
      sizes.map((_, i) => first + i),
      'callbacks fire in the order of the appends',
    );
  }

  async #appendBatch(sizes: readonly number[]): Promise<void> {
    const entries = sizes.map((size) => ({ size, acknowledged: false }));
    const first = this.#appended.length;
    this.#appended.push(...entries);
    this.#batches.push(sizes.map((_, i) => first + i));
    const records = sizes.map((size, i) => recordOf(first + i, size));
    await new Promise<void>((resolve) => {
      this.#spool.appendBatch(records, (outcome) => {
        if (outcome.ok && !this.disk.crashed) for (const entry of entries) entry.acknowledged = true;
        resolve();
      });
    });
  }

  async #read(): Promise<void> {
    try {
      for await (const batch of this.#reader.range(0, this.#position, Number.MAX_SAFE_INTEGER)) {
        for (const record of batch.records) this.#see(record);
        this.#position = batch.nextOffset;
      }
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error;
    }
  }

  #see(record: StoredRecord): void {
    const number = numberOf(record);
    assert.deepEqual({ ...recordOf(number, this.#appended[number]!.size), offset: record.offset }, plain(record));
    const before = this.#seen.get(record.offset);
    assert.ok(before === undefined || before === number, `offset ${record.offset} was ${before} and is now ${number}`);
    this.#seen.set(record.offset, number);
  }

  async #commit(): Promise<void> {
    const offset = this.#position;
    this.#checkpoints.add(offset);
    const outcome = await this.#consumer.commit(0, { offset, metadata: `at ${offset}` });
    if (outcome.ok && !this.disk.crashed) this.#checkpoints = new Set([offset]);
  }

  async #heal(): Promise<void> {
    this.#armed = [];
    await until(
      () => this.disk.crashed || this.#spool.stats().healthy || this.#isFull(),
      5_000,
      'the spool is healthy',
    );
    if (this.#isFull()) {
      await this.#read();
      for (let i = 0; i < 2; i++) await this.#commit();
      await this.#spool.release();
    }
  }

  #isFull(): boolean {
    return this.#spool.stats().failure?.code === 'SPOOL_FULL';
  }

  /** The dead process ends, a new one opens the folder, and everything is checked. */
  async #restart(): Promise<void> {
    await this.end();
    do {
      await this.#open();
    } while (this.disk.crashed);
    await this.#heal();
    await this.#verify();
  }

  async #open(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const files = this.#twist(this.disk.restart());
      const opened = await openSpool({
        folder: FOLDER,
        maxBytes: MAX_BYTES,
        segmentBytes: SEGMENT_BYTES,
        historyBytes: 0,
        commitIntervalMs: 0,
        probeIntervalMs: 1,
        refreshIntervalMs: 1e6,
        readers: [GROUP],
        clock: systemClock,
        telemetry,
        files,
      });
      if (!opened.ok) {
        assert.equal(opened.failure.code === 'SPOOL_IO' || opened.failure.code === 'SPOOL_NO_SPACE', true);
        assert.ok(attempt < 20, `it does not open: ${opened.failure.message}`);
        continue;
      }
      this.#spool = opened.value;
      const { progress } = this.#spool;
      this.#reader = openSpoolReader({ folder: FOLDER, progress, clock: systemClock, telemetry, files });
      this.#consumer = await this.#reader.consume(GROUP, {
        assigned: async () => new Map([[0, Number.MAX_SAFE_INTEGER]]),
        batch: async () => undefined,
        stopping: async () => undefined,
        ended: (reason) => assert.fail(String(reason)),
      });
      return;
    }
  }

  async #verify(): Promise<void> {
    assert.deepEqual(this.#spool.damage, []);
    // A deletion under way ends first.
    await this.#spool.release();
    const offsets = await this.#reader.offsets(0);
    assert.ok(offsets.ok);
    const { firstOffset, endOffset } = offsets.value;
    const stored = await this.#reader.checkpoint(GROUP, 0);
    assert.ok(stored.ok, JSON.stringify(stored));
    const checkpoint = stored.value?.offset ?? 0;
    assert.ok(this.#checkpoints.has(checkpoint), `${checkpoint} is none of ${[...this.#checkpoints]}`);
    assert.ok(stored.value === null || stored.value.metadata === `at ${checkpoint}`);
    assert.ok(endOffset >= checkpoint, `the end ${endOffset} is below the checkpoint ${checkpoint}`);
    assert.ok(firstOffset <= checkpoint, `deleted up to ${firstOffset}, but the checkpoint is ${checkpoint}`);

    const present = new Map<number, number>();
    let last = -1;
    let lastAcknowledged = -1;
    for await (const batch of this.#reader.range(0, firstOffset, Number.MAX_SAFE_INTEGER)) {
      for (const record of batch.records) {
        assert.ok(record.offset > last && record.offset < endOffset);
        last = record.offset;
        this.#see(record);
        const number = numberOf(record);
        assert.ok(!present.has(number), `record ${number} is there twice`);
        present.set(number, record.offset);
        if (this.#appended[number]!.acknowledged) {
          assert.ok(number > lastAcknowledged, `record ${number} comes after ${lastAcknowledged}`);
          lastAcknowledged = number;
        }
      }
    }
    assert.deepEqual(this.#reader.damage, []);
    for (const [offset, number] of this.#seen) {
      if (offset >= firstOffset) assert.equal(present.get(number), offset, `record ${number} was seen at ${offset}`);
    }
    for (const batch of this.#batches) {
      const found = batch.filter((number) => present.has(number)).length;
      assert.ok(found === 0 || found === batch.length, `${found} of ${batch.length} records of a batch are there`);
    }
    const deleted = new Set([...this.#seen].filter(([offset]) => offset < firstOffset).map(([, number]) => number));
    this.#appended.forEach(({ acknowledged }, number) => {
      if (acknowledged) assert.ok(present.has(number) || deleted.has(number), `acknowledged record ${number} is lost`);
    });
    this.#position = checkpoint;
  }
}

function recordOf(number: number, size: number): LogRecord {
  const value = new Uint8Array(size).fill(number & 255);
  new DataView(value.buffer).setUint32(0, number);
  return { kind: 'reading', key: `k${number % 3}`, receivedMs: START_MS + number, stream: 's', topic: 't/é', value };
}

function numberOf({ value }: StoredRecord): number {
  return new DataView(value.buffer, value.byteOffset).getUint32(0);
}

function plain({ offset, kind, key, receivedMs, stream, topic, value }: StoredRecord): StoredRecord {
  return { offset, kind, key, receivedMs, stream, topic, value: Uint8Array.from(value) };
}

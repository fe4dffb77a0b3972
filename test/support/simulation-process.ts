/**
 * One process of a simulation: the real rollup, one for each stage, on logs, a group and a store that the world plays.
 * Everything that it waits for is an event of the world.
 */
import type { Clock } from '../../src/clock.ts';
import { done, fail, type Outcome, succeed } from '../../src/errors.ts';
import type { Assignment, ConsumerHandlers, LogBatch, LogConsumer, LogReader, LogRecord } from '../../src/log.ts';
import { Engine, type EngineOptions } from '../../src/rollup/engine.ts';
import { decodeLate } from '../../src/rollup/late.ts';
import type { Restore } from '../../src/rollup/restore.ts';
import { type Rollup, startRollup } from '../../src/rollup/run.ts';
import type { Stage } from '../../src/rollup/window.ts';
import type { Row } from '../../src/row.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import type { SimulatedLog, World } from './simulation.ts';
import type { Truth } from './simulation-oracle.ts';
import type { Workload } from './simulation-workload.ts';

/** A planted mistake, made of the parts that a process is made of. */
export interface Mutant {
  createEngine?(options: EngineOptions, restore: Restore, clock: Clock): Engine;
  /** Writes are acknowledged at once and carried out after the commit. */
  readonly commitBeforeWrite?: boolean;
  /** The same with what goes to the panes topic. */
  readonly commitBeforePanes?: boolean;
}

export type Kind = 'fetch' | 'write' | 'commit' | 'append' | 'pause' | 'offsets' | 'join';

const GROUP = 'rollup';
const telemetry = silentTelemetry();

export class Process {
  readonly world: World;
  readonly workload: Workload;
  readonly truth: readonly Truth[];
  readonly members: readonly Member[];
  isAlive = true;
  isZombie = false;
  isStopping = false;

  constructor(world: World, workload: Workload, truth: readonly Truth[]) {
    this.world = world;
    this.workload = workload;
    this.truth = truth;
    const { readings, panes } = world.logs;
    this.members =
      world.stages === 1
        ? [new Member(this, readings, 'only')]
        : [new Member(this, readings, 'first'), new Member(this, panes, 'second')];
  }

  async start(): Promise<void> {
    for (const member of this.members) await member.start();
  }

  /** kill -9: what is under way may or may not be carried out, and nobody hears of it. */
  crash(): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    const { world } = this;
    for (const pending of world.pending.filter(({ process }) => process === this)) {
      world.drop(pending);
      const changes = pending.kind === 'write' || pending.kind === 'commit' || pending.kind === 'append';
      if (changes && world.random.chance(0.5)) pending.happen(false);
    }
  }

  stopInOrder(): void {
    this.isStopping = true;
    void Promise.all(this.members.map((member) => member.stop())).then(() => {
      this.isAlive = false;
    });
  }
}

interface Lease {
  readonly partition: number;
  readonly controller: AbortController;
  readonly start: number;
  position: number;
  busy: Promise<void>;
}

/** What a process is in one consumer group: the rollup of one stage. */
export class Member {
  readonly log: SimulatedLog;
  readonly #process: Process;
  readonly #world: World;
  readonly #stage: Stage;
  #handlers: ConsumerHandlers | null = null;
  #rollup: Rollup | null = null;
  #leases: Lease[] = [];
  #generation = 0;
  #assigning: Promise<void> = settled;
  /** Acknowledged but not carried out: only with a mutant that commits first. */
  #deferred: (() => void)[] = [];

  constructor(process: Process, log: SimulatedLog, stage: Stage) {
    this.#process = process;
    this.#world = process.world;
    this.log = log;
    this.#stage = stage;
  }

  async start(): Promise<void> {
    const world = this.#world;
    const { mutant = {} } = world.options;
    const { graceMs, disorderMs, skewMs, streams } = this.#process.workload;
    const started = await startRollup({
      reader: this.#reader(),
      group: GROUP,
      stage: this.#stage,
      streams,
      config: {
        graceMs,
        disorderMs,
        skewMs,
        tickMs: 5_000,
        stages: world.stages,
        repair: 'off',
        repairDelayMs: 60_000,
        maxSeries: 1_000,
        flushMs: 1_000,
        liveMs: 2_000,
      },
      store: { write: (rows, signal) => this.#write(rows, signal) },
      appendLate: (_partition, records) => this.#appendLate(records),
      appendPanes: (partition, records) => this.#appendPanes(partition, records),
      deadLetter: async () => done,
      telemetry,
      clock: world.clock,
      pause: async (_ms, signal) =>
        (await world.event(this.#process, 'pause', () => true, signal ? { signal } : {})) ?? false,
      createEngine: (options, restore) =>
        mutant.createEngine?.(options, restore, world.clock) ?? new Engine(options, restore),
      onEnded: (reason) => world.problem(`the rollup ended: ${reason}`),
    });
    if (!started.ok) throw new Error(started.failure.message);
    this.#rollup = started.value;
  }

  async stop(): Promise<void> {
    await this.#rollup!.stop();
  }

  assign(partitions: readonly number[]): void {
    if (!this.#process.isAlive) return;
    for (const lease of this.#leases) lease.controller.abort();
    this.#leases = [];
    const generation = ++this.#generation;
    // One assignment after the other, as a consumer makes them; one that was overtaken is not made at all.
    this.#assigning = this.#assigning.then(async () => {
      if (generation === this.#generation) await this.#assigned(partitions, generation);
    });
  }

  async #assigned(partitions: readonly number[], generation: number): Promise<void> {
    for (const partition of partitions) {
      // The log lost it a while ago; that it is needed, and how much was known by then, shows only now.
      const needed = this.log.committed[partition]?.offset ?? 0;
      if (needed < this.log.firstOffset[partition]!) this.#world.missed(partition);
    }
    const assignments: Assignment[] = partitions.map((partition) => ({
      partition,
      checkpoint: this.log.committed[partition]!,
      firstOffset: this.log.firstOffset[partition]!,
      endOffset: this.log.endOffset(partition),
    }));
    const starts = await this.#handlers!.assigned(assignments);
    if (generation !== this.#generation) return;
    this.#leases = partitions.map((partition) => {
      const start = starts.get(partition)!;
      const lease = { partition, controller: new AbortController(), start, position: start, busy: settled };
      lease.busy = this.#feed(lease);
      return lease;
    });
  }

  hasFinished(partition: number, lastOffset: number): boolean {
    const lease = this.#leases.find((candidate) => candidate.partition === partition);
    const status = this.#rollup!.status().find((candidate) => candidate.partition === partition);
    if (lease === undefined || status === undefined) return false;
    const { durableToMs, engine } = status;
    const { position, pendingRows, pendingLate, frontierMs } = engine;
    if (position <= lastOffset || pendingRows > 0 || pendingLate > 0) return false;
    // Records that close nothing move the frontier, which the next stage waits for.
    return position === lease.start || (durableToMs ?? Number.NEGATIVE_INFINITY) === frontierMs;
  }

  async #feed(lease: Lease): Promise<void> {
    const world = this.#world;
    const { log } = this;
    const { partition } = lease;
    const { signal } = lease.controller;
    while (!signal.aborted) {
      const fetch = (): LogBatch => {
        const records = log.partitions[partition]!;
        const from = Math.max(lease.position, log.firstOffset[partition]!);
        if (from > lease.position && from > (records[0]?.offset ?? 0)) world.missed(partition);
        const first = records.findIndex((record) => record.offset >= from);
        const end = Math.min(first + world.random.integer(1, 40), log.visible[partition]!);
        const taken = first < 0 ? [] : records.slice(first, end);
        const nextOffset = taken.length === 0 ? from : taken.at(-1)!.offset + 1;
        return { partition, records: taken, nextOffset, endOffset: log.endOffset(partition) };
      };
      const ready = () => lease.position < log.endOffset(partition);
      // A zombie's signal tells it nothing: it goes on with what it has.
      const batch = await world.event(this.#process, 'fetch', fetch, { ready, signal });
      if (batch === null) return;
      await this.#handlers!.batch(batch, signal);
      lease.position = batch.nextOffset;
    }
  }

  #reader(): LogReader {
    const world = this.#world;
    const { log } = this;
    return {
      partitions: log.partitions.length,
      consume: async (_group, handlers) => {
        this.#handlers = handlers;
        return this.#consumer(handlers);
      },
      offsets: async (partition) =>
        (await world.event(this.#process, 'offsets', () =>
          succeed({ firstOffset: log.firstOffset[partition]!, endOffset: log.endOffset(partition) }),
        ))!,
      offsetAtTime: async (partition, receivedMs) =>
        (await world.event(this.#process, 'offsets', () => succeed(log.offsetAtTime(partition, receivedMs))))!,
      range: () => {
        throw new Error('not used');
      },
      checkpoint: async (_group, partition) => succeed(log.committed[partition]!),
      close: async () => {},
    };
  }

  #consumer(handlers: ConsumerHandlers): LogConsumer {
    const world = this.#world;
    return {
      trouble: () => null,
      commit: async (partition, checkpoint) => {
        const outcome = await world.event(this.#process, 'commit', () => {
          if (this.#fault() === 'before') return unreachable();
          this.log.committed[partition] = checkpoint;
          return this.#fault() === 'before' ? unreachable() : done;
        });
        for (const action of this.#deferred.splice(0)) await world.event(this.#process, 'write', action);
        return outcome!;
      },
      stop: async () => {
        const busy = this.#leases.map(({ busy }) => busy);
        const leases = this.#leases;
        // Reading ends after the batch under way; the lease is still ours.
        for (const lease of leases) lease.position = Number.POSITIVE_INFINITY;
        await Promise.race([Promise.all(busy), world.event(this.#process, 'join', () => null)]);
        await handlers.stopping();
        for (const lease of leases) lease.controller.abort();
      },
    };
  }

  async #write(rows: readonly Row[], signal: AbortSignal): Promise<Outcome<{ refused: [] }>> {
    const world = this.#world;
    if (world.options.mutant?.commitBeforeWrite) {
      this.#deferred.push(() => world.write(rows, this.#process));
      return succeed({ refused: [] });
    }
    // In parts, as a real store takes them: a failure may leave some of them behind.
    const cut = world.random.integer(0, rows.length);
    for (const part of [rows.slice(0, cut), rows.slice(cut)]) {
      if (signal.aborted) return fail('STOPPED', 'asked to stop');
      const outcome = await this.#change('write', () => world.write(part, this.#process));
      if (!outcome.ok) return outcome;
    }
    return succeed({ refused: [] });
  }

  /** In parts too: a produce request for each piece, and each may fail or be carried out unheard. */
  async #appendPanes(partition: number, records: readonly LogRecord[]): Promise<Outcome> {
    const world = this.#world;
    const append = (part: readonly LogRecord[]) => world.logs.panes.append(partition, part);
    if (world.options.mutant?.commitBeforePanes) {
      this.#deferred.push(() => append(records));
      return done;
    }
    const cut = world.random.integer(0, records.length);
    for (const part of [records.slice(0, cut), records.slice(cut)]) {
      if (part.length === 0) continue;
      const outcome = await this.#change('append', () => append(part));
      if (!outcome.ok) return outcome;
    }
    return done;
  }

  #appendLate(records: readonly LogRecord[]): Promise<Outcome> {
    const world = this.#world;
    return this.#change('append', () => {
      for (const record of records) {
        const late = decodeLate(record.value);
        if (late === null) world.problem('a record of the late log cannot be read');
        else world.late[late.partition]!.add(late.offset);
      }
    });
  }

  /** Something that may fail before it is carried out, or after. */
  async #change(kind: Kind, action: () => void): Promise<Outcome> {
    const outcome = await this.#world.event(this.#process, kind, () => {
      const fault = this.#fault();
      if (fault !== 'before') action();
      return fault === 'none' ? done : unreachable();
    });
    return outcome!;
  }

  /** before: not carried out. after: carried out, but the answer is lost. */
  #fault(): 'none' | 'before' | 'after' {
    const { random, quiet } = this.#world;
    if (quiet || !random.chance(0.12)) return 'none';
    return random.pick(['before', 'after'] as const);
  }
}

const settled = Promise.resolve();

function unreachable() {
  return fail('STORE_UNREACHABLE', 'simulated', { retryable: true });
}

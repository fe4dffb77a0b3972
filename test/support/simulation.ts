/**
 * A whole installation in one seeded run: a log with partitions, a consumer group, a store, and processes that run the real
 * rollup. Every wait of every process (a fetch, a write, a commit, a pause) is an event; the scheduler lets one at a time
 * happen, chosen at random, and between any two of them a process may crash, lose its partitions, go on as a zombie that
 * does not know it, or stop in order. A crash leaves requests behind that were or were not carried out.
 *
 * Every write is compared with the truth when it is made. In the end faults cease, one process finishes the log, and the
 * store must hold exactly the true rows. The same seed repeats the same run.
 */
import { type Clock, ManualClock } from '../../src/clock.ts';
import { done, fail, type Outcome, succeed } from '../../src/errors.ts';
import type {
  Assignment,
  Checkpoint,
  ConsumerHandlers,
  LogBatch,
  LogConsumer,
  LogReader,
  LogRecord,
  StoredRecord,
} from '../../src/log.ts';
import { decodeCheckpoint } from '../../src/rollup/checkpoint.ts';
import { Engine, type EngineOptions } from '../../src/rollup/engine.ts';
import { decodeLate } from '../../src/rollup/late.ts';
import type { Restore } from '../../src/rollup/restore.ts';
import { type Rollup, startRollup } from '../../src/rollup/run.ts';
import type { Row } from '../../src/row.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { Random } from './random.ts';
import { differences, rowKey, type Truth, truthOf } from './simulation-oracle.ts';
import { reconfigured, type Workload } from './simulation-workload.ts';

/** A planted mistake, made of the parts that a process is made of. */
export interface Mutant {
  createEngine?(options: EngineOptions, restore: Restore, clock: Clock): Engine;
  /** Writes are acknowledged at once and carried out after the commit. */
  readonly commitBeforeWrite?: boolean;
}

export interface SimulationOptions {
  readonly seed: number;
  readonly workload: Workload;
  /** By workload and configuration: working out the truth takes longer than a run. */
  readonly truths: Map<string, Truth[]>;
  readonly truthKey: string;
  readonly mutant?: Mutant;
  /** The log loses its beginning now and then. */
  readonly truncate?: boolean;
  /** From some moment on all processes run another configuration. */
  readonly reconfigure?: 'grace' | 'windows' | 'metrics';
}

export interface SimulationResult {
  /** What was wrong, a sentence each; empty = all as it must be. */
  readonly problems: readonly string[];
  readonly rows: number;
  readonly crashes: number;
  readonly takeovers: number;
  readonly zombies: number;
  readonly repeatedWrites: number;
  readonly truncations: number;
  readonly missing: number;
}

const PROBLEMS_KEPT = 5;
const CHAOS_STEPS = 260;
const QUIET_STEPS = 20_000;
const GROUP = 'rollup';
const telemetry = silentTelemetry();

type Kind = 'fetch' | 'write' | 'commit' | 'append' | 'pause' | 'offsets' | 'join';

interface Pending {
  readonly process: Process;
  readonly kind: Kind;
  ready(): boolean;
  /** Carries it out; `answered`: the process lives to see the answer. */
  happen(answered: boolean): void;
}

interface Lease {
  readonly partition: number;
  readonly controller: AbortController;
  position: number;
  busy: Promise<void>;
}

export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const world = new World(options);
  await world.run();
  return world.result();
}

class World {
  readonly random: Random;
  readonly options: SimulationOptions;
  readonly clock = new ManualClock();
  readonly log: readonly (readonly StoredRecord[])[];
  readonly committed: (Checkpoint | null)[];
  readonly firstOffset: number[];
  readonly visible: number[];
  readonly rows = new Map<string, Row>();
  readonly late: Set<number>[];
  pending: Pending[] = [];
  processes: Process[] = [];
  workload: Workload;
  truth: readonly Truth[];
  quiet = false;
  /** Windows that start after it must not be missing: what lies below was lost, or came under other rules. */
  readonly knownAfterMs: number[];
  /** Windows that end at or before it were durable at that time. */
  readonly durableToMs: number[];
  readonly problems: string[] = [];
  readonly counts = { crashes: 0, takeovers: 0, zombies: 0, repeatedWrites: 0, truncations: 0, missing: 0 };
  #owners: (Process | null)[];

  constructor(options: SimulationOptions) {
    this.options = options;
    this.random = new Random(options.seed);
    this.workload = options.workload;
    this.log = options.workload.partitions;
    this.committed = this.log.map(() => null);
    this.firstOffset = this.log.map(() => 0);
    this.visible = this.log.map((records) => this.random.integer(0, Math.floor(records.length / 2)));
    this.late = this.log.map(() => new Set());
    this.knownAfterMs = this.log.map(() => Number.NEGATIVE_INFINITY);
    this.durableToMs = this.log.map(() => Number.NEGATIVE_INFINITY);
    this.#owners = this.log.map(() => null);
    this.truth = this.#truth('');
  }

  result(): SimulationResult {
    return { problems: this.problems, rows: this.rows.size, ...this.counts };
  }

  async run(): Promise<void> {
    for (let i = 0; i < 2; i++) await this.#start();
    await this.#rebalance();
    const changeAt = this.options.reconfigure ? this.random.integer(60, CHAOS_STEPS) : -1;
    for (let step = 0; step < CHAOS_STEPS; step++) {
      await this.#chaos();
      if (step === changeAt) await this.#reconfigure(this.options.reconfigure!);
      await this.step();
    }
    this.quiet = true;
    for (const process of this.processes) if (process.isZombie) process.crash();
    for (let p = 0; p < this.log.length; p++) this.visible[p] = this.log[p]!.length;
    if (!this.processes.some((process) => process.isAlive && !process.isStopping)) await this.#start();
    await this.#rebalance();
    for (let step = 0; step % 8 !== 0 || !this.#isFinished(); step++) {
      if (step === QUIET_STEPS) return this.problem('the log was not finished after the faults ceased');
      await this.step();
    }
    for (const process of this.processes) process.crash();
    this.#compare();
  }

  problem(text: string): void {
    if (this.problems.length < PROBLEMS_KEPT) this.problems.push(text);
  }

  /** Something that a process waits for. Never answered when the process has crashed by then. */
  event<T>(process: Process, kind: Kind, action: () => T, options: { signal?: AbortSignal; ready?(): boolean } = {}) {
    return new Promise<T | null>((resolve) => {
      const abandon = () => {
        if (this.drop(pending)) resolve(null);
      };
      const pending: Pending = {
        process,
        kind,
        ready: options.ready ?? (() => true),
        happen: (answered) => {
          options.signal?.removeEventListener('abort', abandon);
          const answer = action();
          if (answered) resolve(answer);
        },
      };
      this.pending.push(pending);
      options.signal?.addEventListener('abort', abandon, { once: true });
    });
  }

  drop(pending: Pending): boolean {
    const index = this.pending.indexOf(pending);
    if (index >= 0) this.pending.splice(index, 1);
    return index >= 0;
  }

  /** Lets one event happen, and then everything that follows from it without another wait. */
  async step(): Promise<void> {
    this.clock.advance(this.random.integer(0, 800));
    const ready = this.pending.filter((pending) => pending.ready());
    if (ready.length > 0) {
      const chosen = this.random.pick(ready);
      this.drop(chosen);
      chosen.happen(true);
    }
    await settle();
  }

  write(rows: readonly Row[], by: Process): void {
    for (const row of rows) {
      const key = rowKey(row);
      const index = by.truth.findIndex((truth) => truth.rows.has(key));
      const partition = index < 0 ? null : index;
      const expected = partition === null ? undefined : by.truth[partition]!.rows.get(key);
      if (expected === undefined) this.problem(`a row that must not exist was written: ${key}`);
      else {
        const fields = differences(row, expected);
        if (fields.length > 0) {
          const values = fields.map((name) => `${name} ${show(row, name)} instead of ${show(expected, name)}`);
          this.problem(`a wrong row was written: ${key}: ${values.join(', ')}`);
        }
      }
      const before = this.rows.get(key);
      if (before !== undefined) {
        this.counts.repeatedWrites++;
        if (differences(before, row).length > 0) {
          // Written under the old configuration, but the process ended before it could commit that.
          const isOpenStill = partition !== null && row.endMs > this.durableToMs[partition]!;
          if (!(this.options.reconfigure && isOpenStill)) this.problem(`a row was changed by a later write: ${key}`);
        }
      }
      this.rows.set(key, row);
    }
  }

  commit(partition: number, checkpoint: Checkpoint): void {
    this.committed[partition] = checkpoint;
  }

  async #start(): Promise<void> {
    const process = new Process(this, this.workload, this.truth);
    this.processes.push(process);
    await process.start();
    await settle();
  }

  async #chaos(): Promise<void> {
    const { random } = this;
    const alive = this.processes.filter((process) => process.isAlive);
    const members = alive.filter((process) => !process.isZombie);
    for (let p = 0; p < this.log.length; p++) {
      if (random.chance(0.3)) {
        this.visible[p] = Math.min(this.visible[p]! + random.integer(1, 12), this.log[p]!.length);
      }
    }
    if (alive.length > 0 && random.chance(0.025)) {
      const victim = random.pick(alive);
      victim.crash();
      this.counts.crashes++;
      if (!victim.isZombie) await this.#rebalance();
    }
    if (members.length > 0 && random.chance(0.02)) {
      const zombie = random.pick(members);
      zombie.isZombie = true;
      this.counts.zombies++;
      await this.#rebalance();
    }
    if (random.chance(0.02)) await this.#rebalance();
    if (members.length > 0 && random.chance(0.008)) {
      random.pick(members).stopInOrder();
      await settle();
      await this.#rebalance();
    }
    if (this.processes.filter((process) => process.isAlive && !process.isZombie).length < 2 && random.chance(0.15)) {
      await this.#start();
      await this.#rebalance();
    }
    if (this.options.truncate && random.chance(0.01)) this.#truncate();
  }

  async #rebalance(): Promise<void> {
    const members = this.processes.filter((process) => process.isAlive && !process.isZombie && !process.isStopping);
    const shares = new Map<Process, number[]>(members.map((process) => [process, []]));
    if (members.length > 0) {
      for (let p = 0; p < this.log.length; p++) {
        const owner = this.random.pick(members);
        if (owner !== this.#owners[p]) this.counts.takeovers++;
        this.#owners[p] = owner;
        shares.get(owner)!.push(p);
      }
    }
    for (const [process, partitions] of shares) process.assign(partitions);
    await settle();
  }

  #truncate(): void {
    const p = this.random.integer(0, this.log.length - 1);
    const records = this.log[p]!;
    const index = this.random.integer(0, Math.max(0, this.visible[p]! - 1));
    const first = records[index]!.offset;
    if (first <= this.firstOffset[p]!) return;
    this.firstOffset[p] = first;
    this.counts.truncations++;
    // Whatever the engine does not know any more lies below; only windows wholly after it must be there.
    const receivedMs = Math.max(...records.slice(0, this.visible[p]!).map((record) => record.receivedMs));
    this.#lostSight(p, receivedMs + 2 * this.workload.skewMs);
  }

  #lostSight(p: number, knownAfterMs: number): void {
    const { committed } = this;
    const durable = committed[p] ? (decodeCheckpoint(committed[p])?.frontierMs ?? -Infinity) : -Infinity;
    if (this.knownAfterMs[p] === -Infinity) this.durableToMs[p] = durable;
    this.knownAfterMs[p] = Math.max(this.knownAfterMs[p]!, knownAfterMs);
  }

  async #reconfigure(change: 'grace' | 'windows' | 'metrics'): Promise<void> {
    // Two configurations at the same time are no part of the promise: all processes end before the first new one starts.
    for (const process of this.processes) process.crash();
    for (let p = 0; p < this.log.length; p++) {
      const receivedMs = Math.max(0, ...this.log[p]!.slice(0, this.visible[p]!).map((record) => record.receivedMs));
      this.#lostSight(p, receivedMs + this.workload.skewMs);
    }
    this.workload = reconfigured(this.workload, change);
    this.truth = this.#truth(change);
    await this.#start();
    await this.#rebalance();
  }

  #truth(configuration: string): readonly Truth[] {
    const key = `${this.options.truthKey} ${configuration}`;
    let truth = this.options.truths.get(key);
    if (truth === undefined) {
      truth = this.workload.partitions.map((records) => truthOf(records, this.workload));
      this.options.truths.set(key, truth);
    }
    return truth;
  }

  /** Everything was read, and nothing is pending or under way. (A zombie's last commit may lie over the newest one.) */
  #isFinished(): boolean {
    if (this.pending.some((pending) => pending.kind !== 'pause' && pending.ready())) return false;
    return this.log.every((records, p) => this.#owners[p]!.hasFinished(p, records.at(-1)!.offset));
  }

  #compare(): void {
    for (const [p, truth] of this.truth.entries()) {
      for (const [key, expected] of truth.rows) {
        if (this.rows.has(key)) continue;
        this.counts.missing++;
        const mustBeThere = expected.startMs > this.knownAfterMs[p]!;
        if (mustBeThere) this.problem(`a row is missing: ${key}`);
      }
      if (this.options.truncate || this.options.reconfigure) continue;
      for (const { offset, reason } of truth.late) {
        if (!this.late[p]!.has(offset)) this.problem(`the ${reason} reading at ${p}/${offset} is not in the late log`);
      }
      const expected = new Set(truth.late.map(({ offset }) => offset));
      for (const offset of this.late[p]!) {
        if (!expected.has(offset)) this.problem(`the reading at ${p}/${offset} is in the late log, but was on time`);
      }
    }
  }
}

class Process {
  readonly #world: World;
  readonly #workload: Workload;
  readonly truth: readonly Truth[];
  isAlive = true;
  isZombie = false;
  isStopping = false;
  #handlers: ConsumerHandlers | null = null;
  #rollup: Rollup | null = null;
  #leases: Lease[] = [];
  /** Rows acknowledged but not written: only with the mutant that commits first. */
  #deferred: Row[] = [];

  constructor(world: World, workload: Workload, truth: readonly Truth[]) {
    this.#world = world;
    this.#workload = workload;
    this.truth = truth;
  }

  async start(): Promise<void> {
    const world = this.#world;
    const { mutant = {} } = world.options;
    const { graceMs, disorderMs, skewMs, streams } = this.#workload;
    const started = await startRollup({
      reader: this.#reader(),
      group: GROUP,
      streams,
      config: {
        graceMs,
        disorderMs,
        skewMs,
        tickMs: 5_000,
        stages: 1,
        repair: 'off',
        repairDelayMs: 60_000,
        maxSeries: 1_000,
        flushMs: 1_000,
        liveMs: 2_000,
      },
      store: { write: (rows, signal) => this.#write(rows, signal) },
      appendLate: (records) => this.#appendLate(records),
      deadLetter: async () => done,
      telemetry,
      clock: world.clock,
      pause: async (_ms, signal) => (await world.event(this, 'pause', () => true, { signal })) ?? false,
      createEngine: (options, restore) =>
        mutant.createEngine?.(options, restore, world.clock) ?? new Engine(options, restore),
      onEnded: (reason) => world.problem(`the rollup ended: ${reason}`),
    });
    if (!started.ok) throw new Error(started.failure.message);
    this.#rollup = started.value;
  }

  assign(partitions: readonly number[]): void {
    if (!this.isAlive) return;
    const world = this.#world;
    for (const lease of this.#leases) lease.controller.abort();
    this.#leases = [];
    const assignments: Assignment[] = partitions.map((partition) => ({
      partition,
      checkpoint: world.committed[partition]!,
      firstOffset: world.firstOffset[partition]!,
      endOffset: this.#endOffset(partition),
    }));
    this.#handlers!.assigned(assignments).then((starts) => {
      this.#leases = partitions.map((partition) => {
        const lease = { partition, controller: new AbortController(), position: starts.get(partition)!, busy: settled };
        lease.busy = this.#feed(lease);
        return lease;
      });
    });
  }

  /** kill -9: what is under way may or may not be carried out, and nobody hears of it. */
  crash(): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    const world = this.#world;
    for (const pending of world.pending.filter(({ process }) => process === this)) {
      world.drop(pending);
      if (
        (pending.kind === 'write' || pending.kind === 'commit' || pending.kind === 'append') &&
        world.random.chance(0.5)
      ) {
        pending.happen(false);
      }
    }
  }

  hasFinished(partition: number, lastOffset: number): boolean {
    const status = this.#rollup!.status().find((candidate) => candidate.partition === partition);
    if (status === undefined) return false;
    const { position, pendingRows, pendingLate } = status.engine;
    return position > lastOffset && pendingRows === 0 && pendingLate === 0;
  }

  stopInOrder(): void {
    this.isStopping = true;
    this.#rollup!.stop().then(() => {
      this.isAlive = false;
    });
  }

  #endOffset(partition: number): number {
    const last = this.#world.log[partition]![this.#world.visible[partition]! - 1];
    return last === undefined ? 0 : last.offset + 1;
  }

  async #feed(lease: Lease): Promise<void> {
    const world = this.#world;
    const records = world.log[lease.partition]!;
    const { signal } = lease.controller;
    while (!signal.aborted) {
      const fetch = (): LogBatch => {
        const from = Math.max(lease.position, world.firstOffset[lease.partition]!);
        const first = records.findIndex((record) => record.offset >= from);
        const end = Math.min(first + world.random.integer(1, 40), world.visible[lease.partition]!);
        const taken = first < 0 ? [] : records.slice(first, end);
        const nextOffset = taken.length === 0 ? from : taken.at(-1)!.offset + 1;
        return { partition: lease.partition, records: taken, nextOffset, endOffset: this.#endOffset(lease.partition) };
      };
      const ready = () => lease.position < this.#endOffset(lease.partition);
      // A zombie's signal tells it nothing: it goes on with what it has.
      const batch = await world.event(this, 'fetch', fetch, { ready, signal });
      if (batch === null) return;
      await this.#handlers!.batch(batch, signal);
      lease.position = batch.nextOffset;
    }
  }

  #reader(): LogReader {
    const world = this.#world;
    return {
      partitions: world.log.length,
      consume: async (_group, handlers) => {
        this.#handlers = handlers;
        return this.#consumer(handlers);
      },
      offsets: async (partition) =>
        (await world.event(this, 'offsets', () =>
          succeed({ firstOffset: world.firstOffset[partition]!, endOffset: this.#endOffset(partition) }),
        ))!,
      offsetAtTime: () => Promise.reject(new Error('not used')),
      range: () => {
        throw new Error('not used');
      },
      checkpoint: async (_group, partition) => succeed(world.committed[partition]!),
      close: async () => {},
    };
  }

  #consumer(handlers: ConsumerHandlers): LogConsumer {
    const world = this.#world;
    return {
      commit: async (partition, checkpoint) => {
        const outcome = await world.event(this, 'commit', () => {
          if (this.#fault() === 'before') return unreachable();
          world.commit(partition, checkpoint);
          return this.#fault() === 'before' ? unreachable() : done;
        });
        if (this.#deferred.length > 0) await this.#carryOut();
        return outcome!;
      },
      stop: async () => {
        const busy = this.#leases.map(({ busy }) => busy);
        const leases = this.#leases;
        // Reading ends after the batch under way; the lease is still ours.
        for (const lease of leases) lease.position = Number.POSITIVE_INFINITY;
        await Promise.race([Promise.all(busy), world.event(this, 'join', () => null)]);
        await handlers.stopping();
        for (const lease of leases) lease.controller.abort();
      },
    };
  }

  async #write(rows: readonly Row[], signal: AbortSignal): Promise<Outcome<{ refused: [] }>> {
    const world = this.#world;
    if (world.options.mutant?.commitBeforeWrite) {
      this.#deferred.push(...rows);
      return succeed({ refused: [] });
    }
    // In parts, as a real store takes them: a failure may leave some of them behind.
    const cut = world.random.integer(0, rows.length);
    for (const part of [rows.slice(0, cut), rows.slice(cut)]) {
      if (signal.aborted) return fail('STOPPED', 'asked to stop');
      const outcome = await world.event(this, 'write', () => {
        const fault = this.#fault();
        if (fault !== 'before') world.write(part, this);
        return fault === 'none' ? done : unreachable();
      });
      if (!outcome!.ok) return outcome!;
    }
    return succeed({ refused: [] });
  }

  async #carryOut(): Promise<void> {
    const rows = this.#deferred;
    this.#deferred = [];
    await this.#world.event(this, 'write', () => this.#world.write(rows, this));
  }

  async #appendLate(records: readonly LogRecord[]): Promise<Outcome> {
    const world = this.#world;
    return (await world.event(this, 'append', () => {
      const fault = this.#fault();
      if (fault !== 'before') {
        for (const record of records) {
          const late = decodeLate(record.value);
          if (late === null) world.problem('a record of the late log cannot be read');
          else world.late[late.partition]!.add(late.offset);
        }
      }
      return fault === 'none' ? done : unreachable();
    }))!;
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

function show(row: Row, name: string): string {
  return JSON.stringify(row[name as keyof Row]);
}

/** All promises that can go on without another event have gone on. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

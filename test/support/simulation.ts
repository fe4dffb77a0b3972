/**
 * A whole installation in one seeded run: a log with partitions, a consumer group, a store, and processes that run the real
 * rollup, as one stage or as two. Every wait of every process (a fetch, a write, a commit, a pause) is an event; the scheduler lets one at a time
 * happen, chosen at random, and between any two of them a process may crash, lose its partitions, go on as a zombie that
 * does not know it, or stop in order. A crash leaves requests behind that were or were not carried out.
 *
 * Every write is compared with the truth when it is made. In the end faults cease, one process finishes the log, and the
 * store must hold exactly the true rows. The same seed repeats the same run.
 */
import { ManualClock } from '../../src/clock.ts';
import type { Checkpoint, LogRecord, StoredRecord } from '../../src/log.ts';
import { decodeCheckpoint } from '../../src/rollup/checkpoint.ts';
import { windowsOf } from '../../src/rollup/window.ts';
import type { Row } from '../../src/row.ts';
import { Random } from './random.ts';
import { differences, rowKey, type Truth, truthOf } from './simulation-oracle.ts';
import { type Kind, type Member, type Mutant, Process } from './simulation-process.ts';
import { reconfigured, type Workload } from './simulation-workload.ts';

/** `stages`: from one stage to two, or from two to one, and back again later. */
export type Change = 'grace' | 'windows' | 'metrics' | 'stages';

export interface SimulationOptions {
  readonly seed: number;
  readonly workload: Workload;
  /** By workload and configuration: working out the truth takes longer than a run. */
  readonly truths: Map<string, Truth[]>;
  readonly truthKey: string;
  readonly mutant?: Mutant;
  /** Default: 1. */
  readonly stages?: 1 | 2;
  /** The log loses its beginning now and then. */
  readonly truncate?: boolean;
  /** From some moment on all processes run another configuration. */
  readonly reconfigure?: Change;
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
  readonly panes: number;
  readonly repeatedPanes: number;
  readonly missing: number;
}

const PROBLEMS_KEPT = 5;
const CHAOS_STEPS = 260;
const QUIET_STEPS = 20_000;

interface Pending {
  readonly process: Process;
  readonly kind: Kind;
  ready(): boolean;
  /** Carries it out; `answered`: the process lives to see the answer. */
  happen(answered: boolean): void;
}

/** A topic, and what the one group that reads it has committed. */
export class SimulatedLog {
  readonly partitions: StoredRecord[][];
  readonly committed: (Checkpoint | null)[];
  readonly firstOffset: number[];
  /** How many records of a partition were appended by now. */
  readonly visible: number[];
  readonly owners: (Member | null)[];

  constructor(partitions: readonly (readonly StoredRecord[])[], visible: (records: readonly StoredRecord[]) => number) {
    this.partitions = partitions.map((records) => [...records]);
    this.committed = partitions.map(() => null);
    this.firstOffset = partitions.map(() => 0);
    this.visible = partitions.map(visible);
    this.owners = partitions.map(() => null);
  }

  append(partition: number, records: readonly LogRecord[]): void {
    const list = this.partitions[partition]!;
    for (const record of records) list.push({ ...record, offset: list.length });
    this.visible[partition] = list.length;
  }

  endOffset(partition: number): number {
    const last = this.partitions[partition]![this.visible[partition]! - 1];
    return last === undefined ? 0 : last.offset + 1;
  }

  offsetAtTime(partition: number, receivedMs: number): number {
    const firstOffset = this.firstOffset[partition]!;
    const records = this.partitions[partition]!.slice(0, this.visible[partition]!);
    const found = records.find((record) => record.offset >= firstOffset && record.receivedMs >= receivedMs);
    return found?.offset ?? this.endOffset(partition);
  }

  durableToMs(partition: number): number {
    const committed = this.committed[partition];
    return (committed && decodeCheckpoint(committed)?.frontierMs) ?? Number.NEGATIVE_INFINITY;
  }
}

export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const world = new World(options);
  await world.run();
  return world.result();
}

export class World {
  readonly random: Random;
  readonly options: SimulationOptions;
  readonly clock = new ManualClock();
  readonly logs: { readonly readings: SimulatedLog; readonly panes: SimulatedLog };
  stages: 1 | 2;
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
  /** By the commit of who reads the readings, when the configuration changed last. */
  readonly changedAtMs: number[];
  readonly problems: string[] = [];
  readonly counts = {
    crashes: 0,
    takeovers: 0,
    zombies: 0,
    repeatedWrites: 0,
    truncations: 0,
    missing: 0,
    stageChanges: 0,
  };

  constructor(options: SimulationOptions) {
    this.options = options;
    this.random = new Random(options.seed);
    this.workload = options.workload;
    this.stages = options.stages ?? 1;
    const { partitions } = options.workload;
    this.logs = {
      readings: new SimulatedLog(partitions, ({ length }) => this.random.integer(0, Math.floor(length / 2))),
      panes: new SimulatedLog(
        partitions.map(() => []),
        () => 0,
      ),
    };
    this.late = partitions.map(() => new Set());
    this.knownAfterMs = partitions.map(() => Number.NEGATIVE_INFINITY);
    this.durableToMs = partitions.map(() => Number.NEGATIVE_INFINITY);
    this.changedAtMs = partitions.map(() => Number.NEGATIVE_INFINITY);
    this.truth = this.#truth('');
  }

  result(): SimulationResult {
    const texts = this.logs.panes.partitions.flatMap((records) =>
      records.filter(({ kind }) => kind === 'pane').map(({ value }) => Buffer.from(value).toString()),
    );
    const panes = new Set(texts).size;
    return {
      problems: this.problems,
      rows: this.rows.size,
      panes,
      repeatedPanes: texts.length - panes,
      ...this.counts,
    };
  }

  async run(): Promise<void> {
    for (let i = 0; i < 2; i++) await this.#start();
    await this.#rebalance();
    const { reconfigure } = this.options;
    const changes = reconfigure === 'stages' ? this.random.integer(1, 3) : reconfigure ? 1 : 0;
    const changeAt = new Set(Array.from({ length: changes }, () => this.random.integer(60, CHAOS_STEPS)));
    for (let step = 0; step < CHAOS_STEPS; step++) {
      await this.#chaos();
      if (changeAt.has(step)) await this.#reconfigure(reconfigure!);
      await this.step();
    }
    this.quiet = true;
    for (const process of this.processes) if (process.isZombie) process.crash();
    for (const log of this.#logs()) {
      for (const [p, records] of log.partitions.entries()) log.visible[p] = records.length;
    }
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

  #logs(): SimulatedLog[] {
    return this.stages === 1 ? [this.logs.readings] : [this.logs.readings, this.logs.panes];
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
    const { partitions, visible } = this.logs.readings;
    for (const [p, { length }] of partitions.entries()) {
      if (random.chance(0.3)) visible[p] = Math.min(visible[p]! + random.integer(1, 12), length);
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
    if (this.options.truncate && random.chance(0.01)) this.#truncate(random.pick(this.#logs()));
  }

  async #rebalance(): Promise<void> {
    const processes = this.processes.filter((process) => process.isAlive && !process.isZombie && !process.isStopping);
    for (const log of this.#logs()) {
      const members = processes.flatMap((process) => process.members.filter((member) => member.log === log));
      const shares = new Map<Member, number[]>(members.map((member) => [member, []]));
      for (let p = 0; p < log.partitions.length && members.length > 0; p++) {
        const owner = this.random.pick(members);
        if (owner !== log.owners[p]) this.counts.takeovers++;
        log.owners[p] = owner;
        shares.get(owner)!.push(p);
      }
      for (const [member, partitions] of shares) member.assign(partitions);
    }
    await settle();
  }

  #truncate(log: SimulatedLog): void {
    const p = this.random.integer(0, log.partitions.length - 1);
    const records = log.partitions[p]!;
    const index = this.random.integer(0, Math.max(0, log.visible[p]! - 1));
    const first = records[index]?.offset ?? 0;
    if (first <= log.firstOffset[p]!) return;
    log.firstOffset[p] = first;
    this.counts.truncations++;
    this.missed(p);
  }

  /** Whatever the engine does not know any more lies below; only windows wholly after it must be there. */
  missed(p: number): void {
    this.#lostSight(p, this.#receivedMs(p) + 2 * this.workload.skewMs);
  }

  #receivedMs(p: number): number {
    const { partitions, visible } = this.logs.readings;
    return Math.max(0, ...partitions[p]!.slice(0, visible[p]!).map((record) => record.receivedMs));
  }

  #lostSight(p: number, knownAfterMs: number): void {
    if (this.knownAfterMs[p] === -Infinity) {
      this.durableToMs[p] = Math.min(...this.#logs().map((log) => log.durableToMs(p)));
    }
    this.knownAfterMs[p] = Math.max(this.knownAfterMs[p]!, knownAfterMs);
  }

  async #reconfigure(change: Change): Promise<void> {
    // Two configurations at the same time are no part of the promise: all processes end before the first new one starts.
    for (const process of this.processes) process.crash();
    const { skewMs, graceMs, disorderMs } = this.workload;
    for (let p = 0; p < this.truth.length; p++) {
      const marginMs = this.stages === 2 || change === 'stages' ? graceMs + disorderMs : 0;
      this.#lostSight(p, this.#receivedMs(p) + skewMs + marginMs);
      this.changedAtMs[p] = this.logs.readings.durableToMs(p);
    }
    if (change === 'stages') {
      this.stages = this.stages === 1 ? 2 : 1;
      this.counts.stageChanges++;
    } else {
      this.workload = reconfigured(this.workload, change);
      this.truth = this.#truth(change);
    }
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
    return this.#logs().every((log) =>
      log.partitions.every((records, p) => log.owners[p]!.hasFinished(p, records.at(-1)?.offset ?? -1)),
    );
  }

  #compare(): void {
    for (const [p, truth] of this.truth.entries()) {
      for (const [key, expected] of truth.rows) {
        if (this.rows.has(key)) continue;
        this.counts.missing++;
        const mustBeThere = expected.startMs > this.knownAfterMs[p]! || this.#isKept(expected, p);
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

  /**
   * What no change may leave out. One stage reads the readings of open windows again when the rules of a stream change, which
   * they do from two stages to one. From one to two the windows of the first go on.
   */
  #isKept({ stream, window, endMs }: Row, p: number): boolean {
    const { reconfigure, stages: before, truncate } = this.options;
    if (!reconfigure || truncate || this.counts.stageChanges > 1) return false;
    if (this.stages === 1) return endMs > this.changedAtMs[p]!;
    const { windows } = this.workload.streams[stream]!;
    return before !== 2 && windowsOf(windows, 'first').some(({ label }) => label === window);
  }
}

function show(row: Row, name: string): string {
  return JSON.stringify(row[name as keyof Row]);
}

/** All promises that can go on without another event have gone on. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

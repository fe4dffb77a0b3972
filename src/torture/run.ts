/**
 * One torture run: devices publish, faults strike one after the other, then everything comes to rest and each claim of
 * the promise is checked from the devices' ledgers, which no process under test can reach. The log is read, and the rows
 * recomputed, by functions that are passed in; the judgement is made here.
 */
import { messageOf } from '../errors.ts';
import { pause } from '../retry.ts';
import { type Claim, ClaimSheet } from './claim.ts';
import { Devices, SOAK_CLIENTS, type StartSimulator } from './devices.ts';
import { FAULTS, type Fault } from './faults.ts';
import { judge } from './ledger-oracle.ts';
import { lengths, type Rules } from './ledger-readings.ts';
import { type Entry, LogClaims } from './log-claims.ts';
import { Random } from './random.ts';
import { type HappenedFault, type TortureReport, verdictOf } from './report.ts';
import { SoakWatch } from './soak.ts';
import { World, type WorldOptions } from './world.ts';

export interface TortureOptions extends WorldOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly against: string;
  readonly mutant: string | null;
  readonly rules: Rules & { readonly disorderMs: number };
  readonly partitions: number;
  readonly startSimulator: StartSimulator;
  /** Processes are not killed but watched; the file of the probe in them. Null: a torture. */
  readonly soak: { readonly probeFile: string } | null;
  /** All records, in the order of each partition. Called when every process has ended. */
  readLog(which: 'readings' | 'late' | 'deadletters'): AsyncIterable<Entry>;
  /** Every row recomputed from the log by the product itself. Called when every process has ended. */
  verify(): Promise<{ readonly rows: number; readonly differences: number }>;
  /** Several times a second. */
  onProgress(progress: TortureProgress): void;
  /** Ends the run early. */
  readonly signal: AbortSignal;
}

export interface TortureProgress {
  readonly elapsedMs: number;
  readonly durationMs: number;
  readonly now: string;
  readonly faults: number;
}

const RECOVERED_MS = 90_000;
const QUIET_MS = 120_000;
const PAUSE_MS = [300, 1_500] as const;
/** Long enough that much more is steady load than trouble. */
const SOAK_PAUSE_MS = [4_000, 8_000] as const;
const FLOWING = 5;

export async function torture(options: TortureOptions): Promise<TortureReport> {
  const world = await World.start(options);
  const devices = new Devices(options.folder, world.devices.port, options.seed, options.startSimulator);
  try {
    return await new Run(options, world, devices).report();
  } finally {
    devices.kill();
    await world.kill();
  }
}

class Run {
  readonly #options: TortureOptions;
  readonly #world: World;
  readonly #devices: Devices;
  readonly #random: Random;
  readonly #happened = new Map<string, { count: number; evidence: string }>();
  readonly #missing: string[] = [];
  readonly #heals = new ClaimSheet(
    'heals',
    'After each fault devices are acknowledged again, without a hand',
    'faults',
  );
  #startedMs = 0;
  #longestRecoveryMs = 0;
  #strikes = 0;

  constructor(options: TortureOptions, world: World, devices: Devices) {
    this.#options = options;
    this.#world = world;
    this.#devices = devices;
    this.#random = new Random(options.seed);
  }

  async report(): Promise<TortureReport> {
    const { clock, seed, against, mutant, signal, folder, soak, durationMs } = this.#options;
    this.#startedMs = clock.monotonicMs();
    this.#devices.start(soak !== null);
    const watch =
      soak === null ? null : new SoakWatch(this.#world, folder, { ...soak, durationMs, clients: SOAK_CLIENTS });
    await this.#strikeAll();
    await watch?.stop();
    this.#say('waiting for quiet');
    await this.#devices.stop();
    const seconds = (clock.monotonicMs() - this.#startedMs) / 1_000;
    const { deliveries, faults } = this.#devices.read();
    const rest = await this.#rest();
    this.#say('checking every claim');
    const claims = [...(watch?.claims() ?? []), ...(await this.#claims(deliveries, rest))];
    const happened: HappenedFault[] = [...this.#ofPipeline(), ...faults.map((fault) => ({ ...fault, ...NO_EVIDENCE }))];
    for (const { text, count, impossible } of happened) {
      if (count === 0 && !impossible) this.#missing.push(`did not happen: ${text}`);
    }
    if (signal.aborted) this.#missing.push('the run was ended early');
    return {
      verdict: verdictOf(claims, this.#missing),
      ...{
        soak: watch !== null,
        seed,
        seconds,
        against,
        mutant,
        faults: happened,
        claims,
        missing: this.#missing,
        folder,
      },
      published: deliveries.filter(({ attempt }) => attempt === 1).length,
      acknowledged: deliveries.filter(({ acknowledgedMs }) => acknowledgedMs !== null).length,
      rows: rest.rows.length,
      longestRecoveryMs: Math.round(this.#longestRecoveryMs),
    };
  }

  /** What this kind of run does. */
  get #faults(): readonly Fault[] {
    return this.#options.soak === null ? FAULTS : FAULTS.filter(({ gentle }) => gentle);
  }

  /** Until the time is over, and each kind has had its turn. */
  async #strikeAll(): Promise<void> {
    const { clock, durationMs, signal, soak } = this.#options;
    const possible = this.#faults.filter((fault) => fault.impossible(this.#world) === null);
    const [leastMs, mostMs] = soak === null ? PAUSE_MS : SOAK_PAUSE_MS;
    let waiting: Fault[] = [];
    const isOver = () => clock.monotonicMs() - this.#startedMs >= durationMs;
    const everyKind = () => possible.every(({ name }) => this.#happened.has(name));
    for (let rounds = 0; !signal.aborted && !(isOver() && (everyKind() || rounds > 2)); ) {
      if (waiting.length === 0) {
        waiting = this.#random.shuffled(possible);
        rounds++;
      }
      await pause(this.#random.between(leastMs, mostMs), signal);
      await this.#strike(waiting.shift()!);
    }
  }

  async #strike(fault: Fault): Promise<void> {
    const { clock } = this.#options;
    this.#say(fault.text);
    let evidence: string | null = null;
    try {
      evidence = await fault.strike(this.#world, this.#random, () => this.#devices.flood());
    } catch (thrown) {
      this.#heals.contradicted(`${fault.text}: ${messageOf(thrown)}`);
    }
    if (evidence !== null) {
      this.#strikes++;
      const count = (this.#happened.get(fault.name)?.count ?? 0) + 1;
      this.#happened.set(fault.name, { count, evidence });
    }
    const overMs = clock.monotonicMs();
    this.#heals.checked++;
    const base = (await this.#world.gateway.metric('millrace_acknowledged_total')) ?? 0;
    const flows = await this.#world.until(RECOVERED_MS, async () => {
      const now = await this.#world.gateway.metric('millrace_acknowledged_total');
      return now !== null && now >= base + FLOWING;
    });
    this.#longestRecoveryMs = Math.max(this.#longestRecoveryMs, clock.monotonicMs() - overMs);
    if (!flows) this.#heals.contradicted(`${fault.text}: not within ${RECOVERED_MS / 1_000} s`);
  }

  /** Waits until all is forwarded and every window is durable; then ends every process in order. */
  async #rest(): Promise<Rest> {
    const { rules, partitions, clock } = this.#options;
    const world = this.#world;
    const nowMs = clock.nowMs();
    const ends = rules.streams.flatMap(({ windows }) =>
      windows.map((window) => {
        const { sizeMs, everyMs } = lengths(window);
        return Math.floor(nowMs / everyMs) * everyMs + sizeMs;
      }),
    );
    const lastMs = Math.max(...ends) + rules.skewMs;
    let closedToMs = 0;
    const isQuiet = await world.until(QUIET_MS + rules.skewMs, async () => {
      closedToMs = (await world.durableToMs(partitions)) ?? closedToMs;
      return closedToMs >= lastMs;
    });
    if (!isQuiet) {
      this.#heals.contradicted(
        `not every window was durable ${(QUIET_MS + rules.skewMs) / 1_000} s after the last fault: up to ${new Date(closedToMs).toISOString()}`,
      );
    }
    const rows = await this.#rows();
    const imbalance = await world.gateway.metric('millrace_ledger_imbalance_readings');
    for (const program of world.programs) {
      const ended = await program.end('SIGTERM');
      if (ended !== 0) program.crashes.push(`${program.name} ended with ${ended} after SIGTERM, not with 0`);
    }
    return { rows, closedToMs, imbalance };
  }

  async #rows(): Promise<unknown[]> {
    const rows: unknown[] = [];
    for (const { name, windows } of this.#options.rules.streams) {
      for (const window of windows) {
        const answer = await this.#world.rollups[0]!.get(`/api/v1/rows?stream=${name}&window=${window}&from=0`);
        if (!answer.ok) throw new Error(`the rows of ${window} could not be read: ${await answer.text()}`);
        for (const line of (await answer.text()).split('\n')) if (line !== '') rows.push(JSON.parse(line));
      }
    }
    return rows;
  }

  async #claims(deliveries: ReturnType<Devices['read']>['deliveries'], rest: Rest): Promise<Claim[]> {
    const { rules, isApart } = this.#options;
    const log = new LogClaims(rules, deliveries, isApart);
    for await (const entry of this.#options.readLog('readings')) log.logged(entry);
    for await (const entry of this.#options.readLog('deadletters')) log.refused(entry);
    for await (const entry of this.#options.readLog('late')) log.late(entry);

    const exact = new ClaimSheet('rows-exact', 'Every row is what the devices measured, to the last bit', 'rows');
    const verdict = judge(rules, { deliveries, ...rest, logRepeats: isApart });
    exact.checked = verdict.exact;
    for (const finding of verdict.findings) exact.contradicted(finding);
    if (verdict.open > 0) {
      exact.note = `of ${verdict.open} more only bounds are known from outside: when a reading arrived is not certain to the millisecond`;
    }

    const again = new ClaimSheet(
      'recomputed',
      'Every row equals its recomputation from the log (millrace verify)',
      'rows',
    );
    const { rows, differences } = await this.#options.verify();
    again.checked = rows;
    for (let i = 0; i < differences; i++) again.contradicted('run millrace verify on the data to see them');

    const books = new ClaimSheet('books', "The gateway's own books balance at the end", 'gateways');
    books.checked = 1;
    if (rest.imbalance !== 0) books.contradicted(`${rest.imbalance} readings unexplained`);

    const alive = new ClaimSheet('alive', 'No process ends by itself, and each ends in order when asked', 'processes');
    alive.checked = this.#world.programs.length;
    for (const { crashes } of this.#world.programs) for (const crash of crashes) alive.contradicted(crash);
    return [...log.claims(), ...[exact, again, books, alive, this.#heals].map((sheet) => sheet.claim())];
  }

  #ofPipeline(): HappenedFault[] {
    return this.#faults.map(({ name, text, impossible }) => {
      const reason = impossible(this.#world);
      const { count = 0, evidence = '' } = this.#happened.get(name) ?? {};
      return { name, text, count, evidence: reason ?? evidence, impossible: reason !== null };
    });
  }

  #say(now: string): void {
    const { clock, durationMs, onProgress } = this.#options;
    onProgress({ elapsedMs: clock.monotonicMs() - this.#startedMs, durationMs, now, faults: this.#strikes });
  }
}

interface Rest {
  readonly rows: readonly unknown[];
  readonly closedToMs: number;
  readonly imbalance: number | null;
}

const NO_EVIDENCE = { evidence: '', impossible: false };

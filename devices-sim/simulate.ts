/**
 * Runs devices against a broker: takes each report when it is measured, holds late ones back, spreads devices over
 * connections, and ends when everything is acknowledged, or when waiting for that has taken too long. Reports carry the
 * time at which they were taken, however late a slow broker lets them out; a device whose queue is full measures on
 * paper only and catches up later, nothing is dropped.
 */
import { type ClientOptions, type Outgoing, SimulatedClient } from './client.ts';
import { type DeviceOptions, deviceReports, type Fault, type Report } from './device.ts';
import type { Ledger } from './ledger.ts';
import { Random } from './random.ts';

export interface SimulationOptions {
  readonly device: DeviceOptions;
  readonly devices: number;
  readonly devicesPerClient: number;
  readonly clientPrefix: string;
  readonly client: Omit<ClientOptions, 'clientId'>;
  readonly durationMs: number;
  /** How long to wait, after the last message was due, for what is not yet acknowledged. */
  readonly drainMs: number;
}

export interface Summary {
  /** Messages sent at least once; the second copy of a duplicate is a message of its own. */
  readonly published: number;
  readonly acknowledged: number;
  /** Given up for good: oversized ones for which the broker closed the connection. */
  readonly abandoned: number;
  /** Sent, not acknowledged and not given up (QoS 0: not written). */
  readonly unacknowledged: number;
  /** Ready to be sent, but no connection took them before the run ended. */
  readonly unsent: number;
  /** Late ones still held back when the run was stopped. */
  readonly withheld: number;
  /** Publishes, every re-send counted. */
  readonly attempts: number;
  /** Distinct device and counter pairs sent: what a perfect pipeline holds, before refusals. */
  readonly reports: number;
  /** Messages by what was wrong with them; `gap` = counters skipped. */
  readonly byFault: Readonly<Record<Fault, number>>;
  readonly acknowledgedByFault: Readonly<Record<Fault, number>>;
  readonly connections: number;
  readonly disconnections: number;
  readonly devices: number;
  readonly seconds: number;
  readonly seed: number;
}

const MAX_QUEUED = 1_000;
const RECHECK_MS = 20;

export async function simulate(options: SimulationOptions, ledger: Ledger, signal: AbortSignal): Promise<Summary> {
  return new Simulation(options, ledger, signal).run();
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #ledger: Ledger;
  readonly #signal: AbortSignal;
  readonly #clients: SimulatedClient[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #held = new Set<Report>();
  #measuring = 0;
  #attempts = 0;
  #published = 0;
  #reports = 0;
  #acknowledged = 0;
  #abandoned = 0;
  #connections = 0;
  #disconnections = 0;
  readonly #byFault = noFaults();
  readonly #acknowledgedByFault = noFaults();

  constructor(options: SimulationOptions, ledger: Ledger, signal: AbortSignal) {
    this.#options = options;
    this.#ledger = ledger;
    this.#signal = signal;
  }

  async run(): Promise<Summary> {
    const startedMs = performance.now();
    const { devices, devicesPerClient } = this.#options;
    for (let first = 0; first < devices; first += devicesPerClient) {
      const client = this.#makeClient(first / devicesPerClient);
      this.#clients.push(client);
      for (let index = first; index < Math.min(devices, first + devicesPerClient); index++)
        this.#measure(index, client);
    }
    for (const client of this.#clients) client.start();
    await this.#finished();
    for (const timer of this.#timers) clearTimeout(timer);
    for (const report of this.#held) this.#ledger.note('withheld', { ...report, copy: 0, attempt: 0 });
    const left = (await Promise.all(this.#clients.map((client) => client.stop()))).flat();
    const unsent = left.filter((message) => message.attempt === 0);
    for (const message of unsent) this.#ledger.note('withheld', message);
    return {
      published: this.#published,
      acknowledged: this.#acknowledged,
      abandoned: this.#abandoned,
      unacknowledged: this.#published - this.#acknowledged - this.#abandoned,
      unsent: unsent.length,
      withheld: this.#held.size,
      attempts: this.#attempts,
      reports: this.#reports,
      byFault: this.#byFault,
      acknowledgedByFault: this.#acknowledgedByFault,
      connections: this.#connections,
      disconnections: this.#disconnections,
      devices,
      seconds: Math.round(performance.now() - startedMs) / 1_000,
      seed: this.#options.device.seed,
    };
  }

  #makeClient(index: number): SimulatedClient {
    const { clientPrefix, client, device } = this.#options;
    const clientId = `${clientPrefix}${index + 1}`;
    return new SimulatedClient({ ...client, clientId }, this.#ledger, new Random(device.seed, 'backoff', clientId), {
      sent: (message) => {
        this.#attempts++;
        if (message.attempt > 1) return;
        this.#published++;
        this.#byFault[message.fault]++;
        if (message.copy === 0) this.#reports++;
      },
      settled: (message) => {
        this.#acknowledged++;
        this.#acknowledgedByFault[message.fault]++;
      },
      abandoned: () => this.#abandoned++,
      connected: () => this.#connections++,
      disconnected: () => this.#disconnections++,
    });
  }

  /** One device, from its first report to the end of the run. */
  #measure(index: number, client: SimulatedClient): void {
    const { device, durationMs } = this.#options;
    const reports = deviceReports(index, device);
    const endMs = device.startMs + durationMs;
    let report = reports.next().value;
    this.#measuring++;
    const step = () => {
      while (!this.#signal.aborted && report.takenMs < endMs) {
        if (client.pending >= MAX_QUEUED) {
          this.#after(RECHECK_MS, step);
          return;
        }
        const waitMs = report.takenMs - Date.now();
        if (waitMs > 0) {
          this.#after(waitMs, step);
          return;
        }
        this.#take(report, client);
        report = reports.next().value;
      }
      this.#measuring--;
    };
    step();
  }

  #take(report: Report, client: SimulatedClient): void {
    const { payload } = report;
    if (payload === null) {
      this.#byFault.gap++;
      this.#ledger.note('gap', { ...report, copy: 0, attempt: 0 });
      return;
    }
    const waitMs = report.dueMs - Date.now();
    if (waitMs <= 0) {
      this.#send(report, payload, client);
      return;
    }
    this.#held.add(report);
    this.#after(waitMs, () => {
      this.#held.delete(report);
      this.#send(report, payload, client);
    });
  }

  #send(report: Report, payload: Uint8Array, client: SimulatedClient): void {
    const { device, topic, seq, ts, fault, flaps } = report;
    for (let copy = 0; copy < report.copies; copy++) {
      const message: Outgoing = {
        device,
        topic,
        seq,
        ts,
        fault,
        copy,
        payload,
        attempt: 0,
        flaps: flaps && copy === 0,
      };
      client.enqueue(message);
    }
  }

  /** Everything was taken and settled; or the time for that is over. */
  async #finished(): Promise<void> {
    let deadlineMs = Number.POSITIVE_INFINITY;
    for (;;) {
      const stopping = this.#signal.aborted;
      const measured = stopping || this.#measuring === 0;
      const taken = measured && (stopping || this.#held.size === 0);
      if (taken && this.#clients.every((client) => client.pending === 0)) return;
      if (taken && deadlineMs === Number.POSITIVE_INFINITY) deadlineMs = performance.now() + this.#options.drainMs;
      if (performance.now() > deadlineMs) return;
      await new Promise((resolve) => setTimeout(resolve, RECHECK_MS));
    }
  }

  #after(ms: number, then: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      then();
    }, ms);
    this.#timers.add(timer);
  }
}

function noFaults(): Record<Fault, number> {
  return { none: 0, gap: 0, duplicate: 0, late: 0, future: 0, malformed: 0, oversized: 0 };
}

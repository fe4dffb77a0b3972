/**
 * A fleet of devices in fast motion. The gateways' clock stands still while a step of event time, ten seconds, is
 * published and acknowledged, and then moves on by as much. So a minute of readings takes a second, windows of all sizes
 * close again and again, and however slow the machine is, nothing is late that is not meant to be.
 *
 * Several gateways can be fed with the same messages. A gateway may be killed and started again meanwhile: its devices
 * connect again and send again what was not acknowledged.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../compose/stack/launch.ts';
import { type Outgoing, SimulatedClient } from '../../devices-sim/client.ts';
import { type DeviceOptions, deviceReports, type Fault, type Report } from '../../devices-sim/device.ts';
import type { Ledger, LedgerEvent } from '../../devices-sim/ledger.ts';
import { Random } from '../../devices-sim/random.ts';
import type { Delivery } from '../../src/torture/deliveries.ts';
import { type GatewayOptions, type GatewayProcess, startGateway } from './gateway-process.ts';

/** A module for `preload`. */
export const STEP_CLOCK = fileURLToPath(new URL('step-clock.mjs', import.meta.url));
const STEP_MS = 10_000;
const DEADLINE_MS = 90_000;
const POLL_MS = 10;

export interface Message {
  readonly device: string;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly fault: Fault;
  /** How often it is published. */
  readonly copies: number;
  /** The connection breaks right after it. */
  readonly flaps: boolean;
}

/** What is published from then on until before then, by the gateways' clock. Called with growing times. */
export type Source = (fromMs: number, toMs: number) => Message[];

/** The devices of the simulator, with their values and their faults; `late` has no meaning here. */
export function devices(count: number, options: Omit<DeviceOptions, 'lateByMs' | 'oversizedBytes'>): Source {
  const fleet = Array.from({ length: count }, (_, index) => {
    const reports = deviceReports(index, { ...options, lateByMs: 0, oversizedBytes: 0 });
    return { reports, next: reports.next().value as Report };
  });
  return (_, toMs) => {
    const due: Report[] = [];
    for (const device of fleet) {
      for (; device.next.takenMs < toMs; device.next = device.reports.next().value) due.push(device.next);
    }
    due.sort((a, b) => a.takenMs - b.takenMs);
    return due.flatMap(({ payload, ...report }) => (payload === null ? [] : [{ ...report, payload }]));
  };
}

/** One message of a device of the test's own making. */
export function message(device: string, topic: string, payload: string, copies = 1): Message {
  return { device, topic, payload: Buffer.from(payload), fault: 'none', copies, flaps: false };
}

/** A message a second from each of these devices; `make` says what is in it, and how often it is sent. */
export function everySecond(
  names: readonly string[],
  make: (device: string, atMs: number) => { readonly payload: string; readonly copies?: number },
): Source {
  return (fromMs, toMs) => {
    const messages: Message[] = [];
    for (let atMs = fromMs; atMs < toMs; atMs += 1_000) {
      for (const device of names) {
        const { payload, copies } = make(device, atMs);
        messages.push(message(device, `sensors/attic/${device}/environment`, payload, copies));
      }
    }
    return messages;
  };
}

export const NO_FAULTS = { gap: 0, duplicate: 0, late: 0, future: 0, malformed: 0, oversized: 0 } as const;

export interface FeedOptions {
  readonly folder: string;
  readonly startMs: number;
  readonly sources: readonly Source[];
  /** Of each gateway; devices are spread over them. */
  readonly connections?: number;
}

export class Feed {
  readonly #options: FeedOptions;
  readonly #clockFile: string;
  readonly #fed: FedGateway[] = [];
  #nowMs: number;
  #running = false;
  #ended = false;
  #pumping: Promise<void> = Promise.resolve();
  #failure: unknown = null;

  constructor(options: FeedOptions) {
    this.#options = options;
    this.#nowMs = options.startMs;
    this.#clockFile = join(options.folder, 'clock');
    writeFileSync(this.#clockFile, String(this.#nowMs));
  }

  /** The gateways' clock. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Starts a gateway that has this feed's clock, and feeds it from now on with the messages that it is to have. */
  async add(options: GatewayOptions, wanted: (message: Message) => boolean = () => true): Promise<FedGateway> {
    const ports = {
      mqttPort: options.mqttPort ?? (await freePort()),
      httpPort: options.httpPort ?? (await freePort()),
    };
    const env = { ...options.env, MILLRACE_TEST_CLOCK: this.#clockFile };
    const fed = new FedGateway({ preload: STEP_CLOCK, ...options, ...ports, env }, wanted, () => this.#nowMs);
    await fed.start();
    fed.connect(this.#options.connections ?? 3);
    this.#fed.push(fed);
    return fed;
  }

  /** Publishes the next ten seconds, waits for all acknowledgements, and moves the clock on. */
  async step(): Promise<void> {
    const toMs = this.#nowMs + STEP_MS;
    const messages = this.#options.sources.flatMap((source) => source(this.#nowMs, toMs));
    for (const fed of this.#fed) fed.publish(messages);
    await Promise.all(this.#fed.map((fed) => fed.settled()));
    await this.moveClock(toMs);
  }

  /** Resolves when every gateway knows. */
  async moveClock(toMs: number): Promise<void> {
    this.#nowMs = toMs;
    writeFileSync(this.#clockFile, String(toMs));
    await Promise.all(this.#fed.map((fed) => fed.clockIs(toMs)));
  }

  /** Steps again and again, `paceMs` apart at least, until `pause`. */
  run(paceMs: number): void {
    this.#running = true;
    this.#pumping = (async () => {
      while (this.#running) {
        const [pace] = await Promise.all([sleep(paceMs), this.step()]);
        void pace;
      }
    })().catch((error) => {
      this.#failure = error;
    });
  }

  /** Resolves when the step under way is over; throws what went wrong meanwhile. */
  async pause(): Promise<void> {
    this.#running = false;
    await this.#pumping;
    this.check();
  }

  /** Throws what went wrong meanwhile. */
  check(): void {
    if (this.#failure) throw this.#failure;
    if (this.#ended) throw new Error('the feed has ended');
  }

  async end(): Promise<void> {
    this.#ended = true;
    this.#running = false;
    await Promise.all(this.#fed.map((fed) => fed.end()));
    await this.#pumping;
  }
}

/** One gateway, in its present life, and what it was sent over all of them. */
export class FedGateway {
  readonly #options: GatewayOptions;
  readonly #wanted: (message: Message) => boolean;
  readonly #now: () => number;
  readonly #deliveries = new Map<Outgoing, { -readonly [K in keyof Delivery]: Delivery[K] }>();
  readonly #all: Delivery[] = [];
  readonly #connectionOf = new Map<string, SimulatedClient>();
  #clients: SimulatedClient[] = [];
  #process: GatewayProcess | null = null;
  #ended = false;
  /** Connections that broke. */
  disconnections = 0;

  constructor(options: GatewayOptions, wanted: (message: Message) => boolean, now: () => number) {
    this.#options = options;
    this.#wanted = wanted;
    this.#now = now;
  }

  get process(): GatewayProcess {
    return this.#process!;
  }

  get deliveries(): readonly Delivery[] {
    return this.#all;
  }

  async start(): Promise<void> {
    this.#process = await startGateway(this.#options);
    // A test that was given up may still be starting one.
    if (this.#ended) await this.#process.end('SIGKILL');
  }

  /** SIGKILL, and at once a new life. */
  async killAndRestart(): Promise<void> {
    assertKilled(await this.process.end('SIGKILL'));
    await this.start();
  }

  connect(count: number): void {
    const ledger: Ledger = { note: (event, message) => this.#note(event, message as Outgoing), close: () => {} };
    const url = `mqtt://127.0.0.1:${this.#options.mqttPort}`;
    for (let i = 0; i < count; i++) {
      const clientId = `feed-${i}`;
      const settings = { url, clientId, qos: 1, maxInFlight: 100, reconnectEveryMs: 0 } as const;
      const client = new SimulatedClient(settings, ledger, new Random('backoff', i), {
        settled: () => {},
        abandoned: () => {},
        sent: () => {},
        connected: () => {},
        disconnected: () => this.disconnections++,
      });
      client.start();
      this.#clients.push(client);
    }
  }

  publish(messages: readonly Message[]): void {
    for (const { device, topic, payload, fault, copies, flaps } of messages.filter(this.#wanted)) {
      let client = this.#connectionOf.get(device);
      if (!client) {
        client = this.#clients[this.#connectionOf.size % this.#clients.length]!;
        this.#connectionOf.set(device, client);
      }
      for (let copy = 0; copy < copies; copy++) {
        const subject = { device, topic, fault, seq: 0, ts: 0, copy, attempt: 0 };
        client.enqueue({ ...subject, payload, flaps: flaps && copy === 0 });
      }
    }
  }

  async settled(): Promise<void> {
    await this.#until('every message is acknowledged', () => this.#clients.every((client) => client.pending === 0));
  }

  /** Its main thread reads this clock; one that is being started will read it then. */
  async clockIs(nowMs: number): Promise<void> {
    this.process.child.kill('SIGUSR2');
    await this.#until('the gateway has the new time', async () => {
      const known = await this.process.get('/api/v1/status').then(
        async (answer) => ((await answer.json()) as { nowMs: number }).nowMs,
        () => 0,
      );
      if (known < nowMs) this.process.child.kill('SIGUSR2');
      return known >= nowMs;
    });
  }

  async end(): Promise<void> {
    this.#ended = true;
    await Promise.all(this.#clients.map((client) => client.stop()));
    this.#clients = [];
    await this.#process?.end('SIGTERM');
  }

  async #until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const endMs = performance.now() + DEADLINE_MS;
    while (!(await condition()) && !this.#ended) {
      if (performance.now() > endMs) throw new Error(`not in time: ${what}\n${this.process.log().slice(-2_000)}`);
      await sleep(POLL_MS);
    }
  }

  #note(event: LedgerEvent, message: Outgoing): void {
    if (event === 'sent') {
      const { topic, payload, fault } = message;
      const text = fault === 'malformed' ? null : Buffer.from(payload).toString();
      const delivery = { topic, payload: text, sentMs: this.#now(), acknowledgedMs: null };
      this.#deliveries.set(message, delivery);
      this.#all.push(delivery);
    } else if (event === 'acknowledged') {
      this.#deliveries.get(message)!.acknowledgedMs = this.#now();
      this.#deliveries.delete(message);
    }
  }
}

function assertKilled(code: unknown): void {
  if (code !== 'SIGKILL') throw new Error(`the gateway ended with ${code}, before it was killed`);
}

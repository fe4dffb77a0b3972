/**
 * Commands to devices: joins the log of commands (command-log.ts) to the gateway's broker. On the main thread, where the devices
 * are; what is read is paced (`commands.rate`), so that a flood of commands cannot take the time of acknowledgements.
 *
 * At least once: a command is `delivered` only after the device's PUBACK, and until that stands in the log it is queued, and
 * is sent again after a crash or when the device comes back. A device gets its commands in the order of the log, one
 * at a time. It is known by its client id, and must have subscribed to the topic at QoS 1.
 *
 * Several gateways on one Kafka each read all commands, and the one that has the device delivers; what it writes tells the others. A
 * device that is nowhere waits at all of them. A gateway sends nothing before it has read the log to where its end was at the start:
 * an outcome may stand there.
 *
 * The commit is the place of the oldest command that is queued or waits for its answer: a start reads from there, and knows again
 * all that waits.
 */
import { systemClock } from '../clock.ts';
import {
  type Command,
  type CommandOutcome,
  type CommandsConfig,
  commandRecord,
  decodeCommand,
  decodeOutcome,
  deviceOfClient,
  MAX_TTL_MS,
  outcomeRecord,
} from '../command.ts';
import type { Config } from '../config.ts';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import { untilTopicsReady } from '../journal/kafka-topics.ts';
import type { LogBatch, LogConsumer, LogReader, LogRecord } from '../log.ts';
import type { Message } from '../reading.ts';
import { backoff, pause } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import { CommandBook, type CommandEntry, MAX_DONE } from './command-book.ts';
import { type CommandWriter, commandsGroup, openCommandReader, openCommandWriter } from './command-log.ts';

const CLOCK_EVERY_MS = 500;
const COMMIT_EVERY_MS = 1_000;
/** A device that has not acknowledged by then is sent the command again. */
const RESEND_MS = 20_000;

export interface CommandNeeds {
  readonly config: Config;
  /** See ingress/deliver.ts. */
  send(clientId: string, topic: string, payload: Uint8Array, settled: (acknowledged: boolean) => void): boolean;
  readonly received: () => number;
  readonly telemetry: Telemetry;
}

export interface Commands {
  /** Durable in the log of commands when it answers with its id. */
  submit(body: Record<string, unknown>): Promise<Outcome<{ readonly id: string }>>;
  list(): readonly CommandEntry[];
  /** A client may have become reachable. */
  reachable(clientId: string): void;
  /** Null: no command waits for an answer there. Otherwise resolves when it is durable that the command was answered. */
  answer(message: Message): Promise<Outcome> | null;
  stop(): Promise<void>;
}

interface InFlight {
  readonly id: string;
  readonly sentMs: number;
}

export async function startCommands(needs: CommandNeeds): Promise<Outcome<Commands>> {
  const { config, telemetry } = needs;
  const writer = await openCommandWriter(config, telemetry);
  if (!writer.ok) return writer;
  const running = new Running(needs, config.commands!, writer.value);
  running.start();
  return succeed(running);
}

class Running implements Commands {
  readonly #needs: CommandNeeds;
  readonly #plan: CommandsConfig;
  readonly #writer: CommandWriter;
  readonly #reader: LogReader;
  readonly #stopped = new AbortController();
  #book: CommandBook;
  #consumer: LogConsumer | null = null;
  /** Null: not read up to where the end was at the start. */
  #liveFrom: number | null = null;
  #isLive = false;
  readonly #inFlight = new Map<string, InFlight>();
  /** Outcomes that are not in the log yet, by command: nothing is sent or said of it again. */
  readonly #settled = new Map<string, CommandOutcome['state']>();
  /** Response topic -> commands that were sent and not answered. */
  readonly #awaiting = new Map<string, Map<string, Command>>();
  #nextOffset = 0;
  #committed = -1;
  #starting: Promise<void> = Promise.resolve();
  #loop: Promise<void> = Promise.resolve();
  readonly #writes = new Set<Promise<unknown>>();

  constructor(needs: CommandNeeds, plan: CommandsConfig, writer: CommandWriter) {
    this.#needs = needs;
    this.#plan = plan;
    this.#writer = writer;
    this.#reader = openCommandReader(needs.config, needs.telemetry);
    this.#book = this.#newBook();
  }

  start(): void {
    this.#starting = this.#join();
    this.#loop = this.#clock();
  }

  async submit(body: Record<string, unknown>): Promise<Outcome<{ readonly id: string }>> {
    const { received, telemetry } = this.#needs;
    const id = body.id ?? `${received().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
    const whole = { ...body, id };
    const device = typeof body.device === 'string' ? body.device : '';
    const record = commandRecord(device, whole, received());
    const command = decodeCommand({ ...record, offset: 0 }, this.#plan);
    if ('reason' in command) return fail('USAGE', command.reason);
    const outcome = await this.#writer.append([record]);
    if (!outcome.ok) {
      telemetry.limited('warn', 'commands-append', { code: outcome.failure.code }, outcome.failure.message);
      return outcome;
    }
    return succeed({ id: command.id });
  }

  list(): readonly CommandEntry[] {
    return this.#book.list(systemClock.nowMs());
  }

  reachable(clientId: string): void {
    const device = deviceOfClient(this.#plan.client, clientId);
    if (device !== null) this.#attempt(device);
  }

  answer({ topic, payload, client }: Message): Promise<Outcome> | null {
    const waiting = this.#awaiting.get(topic);
    if (!waiting) return null;
    const own = [...waiting.values()].filter(({ device }) => deviceOfClient(this.#plan.client, client) === device);
    const text = Buffer.from(payload).toString();
    const named = idIn(text);
    const command = own.find(({ id }) => id === named) ?? own[0];
    if (!command) return null;
    this.#forgetAwaited(command);
    return this.#write(command, 'answered', text);
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#starting;
    await this.#consumer?.stop();
    await this.#loop;
    await Promise.all(this.#writes);
    await this.#reader.close();
    await this.#writer.close();
  }

  // ---- the log

  #newBook(): CommandBook {
    return new CommandBook(this.#plan, (limit) => this.#needs.telemetry.limitReached.inc({ limit }));
  }

  async #join(): Promise<void> {
    const { config, telemetry } = this.#needs;
    if (config.kafka) {
      const ready = await untilTopicsReady(config.kafka, telemetry, this.#stopped.signal);
      if (!ready.ok) {
        if (ready.failure.code !== 'STOPPED')
          telemetry.log.error({ code: ready.failure.code }, `no commands are delivered: ${ready.failure.message}`);
        return;
      }
    }
    this.#consumer = await this.#reader.consume(commandsGroup(config), {
      assigned: async (assignments) => {
        // Begun anew: what stands behind the start is read again.
        this.#book = this.#newBook();
        this.#isLive = false;
        const starts = new Map<number, number>();
        for (const { partition, checkpoint, firstOffset, endOffset } of assignments) {
          const start = Math.max(checkpoint?.offset ?? (await this.#firstStart(firstOffset)), firstOffset);
          this.#liveFrom = endOffset;
          this.#nextOffset = start;
          if (start >= endOffset) this.#goLive();
          starts.set(partition, start);
        }
        return starts;
      },
      batch: (batch) => this.#batch(batch),
      stopping: () => this.#commit(),
      ended: (reason) => telemetry.log.error({ reason: messageOf(reason) }, 'commands are not delivered any more'),
    });
  }

  /** Without a commit: no command is older than the longest time to live. */
  async #firstStart(firstOffset: number): Promise<number> {
    const found = await this.#reader.offsetAtTime(0, systemClock.nowMs() - MAX_TTL_MS);
    return found.ok ? found.value : firstOffset;
  }

  async #batch({ records, nextOffset, endOffset }: LogBatch): Promise<void> {
    const { telemetry } = this.#needs;
    const perTurn = Math.max(1, Math.floor(this.#plan.rate / 10));
    for (let from = 0; from < records.length; from += perTurn) {
      const touched = new Set<string>();
      for (const record of records.slice(from, from + perTurn)) {
        const entry = this.#book.take(record);
        // In the log now, whether it changed anything or another gateway had said it before.
        const outcome = record.kind === 'outcome' ? decodeOutcome(record) : null;
        if (outcome) this.#settled.delete(outcome.id);
        if (!entry) continue;
        touched.add(entry.device);
        if (this.#isLive || record.offset >= (this.#liveFrom ?? 0)) telemetry.commands.inc({ state: entry.state });
        if (entry.state !== 'queued') this.#done(entry);
      }
      if (this.#isLive) for (const device of touched) this.#attempt(device);
      if (from + perTurn < records.length) {
        telemetry.limitReached.inc({ limit: 'commands_rate' });
        await pause(100, this.#stopped.signal);
      }
    }
    this.#nextOffset = nextOffset;
    if (!this.#isLive && nextOffset >= Math.min(this.#liveFrom ?? 0, endOffset)) this.#goLive();
  }

  #goLive(): void {
    this.#isLive = true;
    for (const device of this.#book.devices()) this.#attempt(device);
  }

  async #commit(): Promise<void> {
    const offset = this.#book.firstNeeded(systemClock.nowMs()) ?? this.#nextOffset;
    if (!this.#consumer || !this.#isLive || offset <= this.#committed) return;
    const outcome = await this.#consumer.commit(0, { offset, metadata: '' });
    if (outcome.ok) this.#committed = offset;
  }

  #done({ id, state, command }: CommandEntry): void {
    if (command === null) return;
    if (state !== 'delivered') this.#forgetAwaited(command);
    // Also where another gateway delivered it, or this one before it was started again: the device may answer here.
    else if (!this.#settled.has(id)) this.#await(command);
  }

  // ---- devices

  /** The oldest command of the device that is not done, unless one is on its way. */
  #attempt(device: string): void {
    if (!this.#isLive || this.#inFlight.has(device)) return;
    const nowMs = systemClock.nowMs();
    for (const command of this.#book.queuedFor(device)) {
      const { id, expiresMs, topic, payload } = command;
      if (expiresMs <= nowMs || this.#settled.has(id)) continue;
      const inFlight = { id, sentMs: systemClock.monotonicMs() };
      const client = this.#plan.client.replaceAll('{device}', device);
      this.#inFlight.set(device, inFlight);
      this.#await(command);
      const wasSent = this.#needs.send(client, topic, payload, (acknowledged) => {
        if (acknowledged && !this.#settled.has(id)) void this.#write(command, 'delivered');
        if (this.#inFlight.get(device) !== inFlight) return;
        this.#inFlight.delete(device);
        if (acknowledged) this.#attempt(device);
      });
      if (wasSent) return;
      this.#inFlight.delete(device);
      this.#forgetAwaited(command);
      return;
    }
  }

  #await(command: Command): void {
    const { responseTopic, id } = command;
    if (responseTopic === null || command.expiresMs <= systemClock.nowMs()) return;
    if (this.#awaiting.size >= MAX_DONE)
      return void this.#needs.telemetry.limitReached.inc({ limit: 'command_answers' });
    const waiting = this.#awaiting.get(responseTopic);
    if (waiting) waiting.set(id, command);
    else this.#awaiting.set(responseTopic, new Map([[id, command]]));
  }

  #forgetAwaited({ responseTopic, id }: Command): void {
    const waiting = responseTopic === null ? undefined : this.#awaiting.get(responseTopic);
    waiting?.delete(id);
    if (waiting?.size === 0) this.#awaiting.delete(responseTopic!);
  }

  async #clock(): Promise<void> {
    let committedMs = systemClock.monotonicMs();
    while (await pause(CLOCK_EVERY_MS, this.#stopped.signal)) {
      const monotonicMs = systemClock.monotonicMs();
      for (const [device, { sentMs }] of this.#inFlight) {
        if (monotonicMs - sentMs < RESEND_MS) continue;
        this.#inFlight.delete(device);
        this.#attempt(device);
      }
      const nowMs = systemClock.nowMs();
      if (this.#isLive) {
        for (const command of this.#book.expiredBy(nowMs)) {
          // One that is on its way may have arrived: its PUBACK, or the end of the connection, says so.
          const isOnItsWay = this.#inFlight.get(command.device)?.id === command.id;
          if (!isOnItsWay && !this.#settled.has(command.id)) void this.#write(command, 'expired');
        }
      }
      for (const waiting of this.#awaiting.values()) {
        for (const command of waiting.values()) if (command.expiresMs <= nowMs) this.#forgetAwaited(command);
      }
      this.#needs.telemetry.commandsQueued.set(this.#book.queued);
      if (monotonicMs - committedMs < COMMIT_EVERY_MS) continue;
      committedMs = monotonicMs;
      await this.#commit();
    }
  }

  /** Tries until the log has it, or this is stopped: then the next start finds the command still queued. */
  #write(command: Command, state: CommandOutcome['state'], response?: string): Promise<Outcome> {
    const { config, received } = this.#needs;
    this.#settled.set(command.id, state);
    const said = response === undefined ? undefined : { response };
    const outcome = { id: command.id, state, atMs: received(), gateway: config.gateway, ...said };
    const written = this.#untilWritten(outcomeRecord(outcome, command.device));
    this.#writes.add(written);
    return written.finally(() => this.#writes.delete(written));
  }

  async #untilWritten(record: LogRecord): Promise<Outcome> {
    const { telemetry } = this.#needs;
    const pauses = backoff({ firstMs: 100, maxMs: 10_000 });
    for (let failures = 1; ; failures++) {
      const outcome = await this.#writer.append([record]);
      if (outcome.ok) return outcome;
      const { code, message } = outcome.failure;
      telemetry.limited('warn', 'commands-append', { code }, `an outcome of a command waits for the log: ${message}`);
      if (!(await pause(pauses.delayMs(failures), this.#stopped.signal))) return outcome;
    }
  }
}

/** The `id` of a response that is a JSON object and has one. */
function idIn(text: string): string | null {
  try {
    const { id } = JSON.parse(text) ?? {};
    return typeof id === 'string' ? id : null;
  } catch {
    return null;
  }
}

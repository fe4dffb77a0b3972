/**
 * What is known of commands: a fold over the log of commands, the same for everyone who reads it. Pure.
 *
 * - A command is queued until its first outcome. `delivered` can still become `answered`, and either can follow `expired`: another
 *   gateway may not have known that it was on its way. Nothing else changes any more.
 * - A second command with an id that is known is the same command.
 * - Bounded: a command beyond `pending` in all or `pendingPerDevice` is refused, here and by every other reader alike, because
 *   what counts is what stands before it in the log; commands whose time is over by then do not count.
 * - Of commands that are done, the newest MAX_DONE are remembered.
 */
import {
  type Command,
  type CommandOutcome,
  type CommandState,
  type CommandsConfig,
  decodeCommand,
  decodeOutcome,
} from '../command.ts';
import type { StoredRecord } from '../log.ts';

export const MAX_DONE = 10_000;

export interface CommandEntry {
  readonly id: string;
  readonly device: string;
  /** Null: it was refused as it stands. */
  readonly command: Command | null;
  readonly offset: number;
  readonly createdMs: number;
  readonly state: CommandState;
  /** Of the last change. */
  readonly atMs: number;
  readonly gateway?: string;
  readonly reason?: string;
  readonly response?: string;
}

export type Limit = 'commands' | 'commands_per_device';

export class CommandBook {
  readonly #config: CommandsConfig;
  /** In the order of the log. */
  readonly #queued = new Map<string, CommandEntry & { readonly command: Command }>();
  readonly #byDevice = new Map<string, Set<string>>();
  readonly #done = new Map<string, CommandEntry>();
  /** Delivered and still to be answered, in the order of delivery; at most MAX_DONE. */
  readonly #awaited = new Map<string, CommandEntry & { readonly command: Command }>();
  readonly #onLimit: (limit: Limit) => void;

  constructor(config: CommandsConfig, onLimit: (limit: Limit) => void = () => {}) {
    this.#config = config;
    this.#onLimit = onLimit;
  }

  /** Answers the entry that changed, or null. */
  take(record: StoredRecord): CommandEntry | null {
    if (record.kind === 'outcome') {
      const outcome = decodeOutcome(record);
      return outcome && this.#settle(outcome);
    }
    return record.kind === 'command' ? this.#add(record) : null;
  }

  get queued(): number {
    return this.#queued.size;
  }

  /** Where a reader must begin to know all that is queued or waits for an answer; null: nothing does. */
  firstNeeded(nowMs: number): number | null {
    let first: number | null = this.#queued.values().next().value?.offset ?? null;
    for (const [id, { command, offset }] of this.#awaited) {
      if (command.expiresMs <= nowMs) this.#awaited.delete(id);
      else first = Math.min(first ?? offset, offset);
    }
    return first;
  }

  at(id: string): CommandEntry | undefined {
    return this.#queued.get(id) ?? this.#done.get(id);
  }

  /** Oldest first. */
  queuedFor(device: string): Command[] {
    return [...(this.#byDevice.get(device) ?? [])].map((id) => this.#queued.get(id)!.command);
  }

  devices(): string[] {
    return [...this.#byDevice.keys()];
  }

  expiredBy(nowMs: number): Command[] {
    return [...this.#queued.values()].flatMap(({ command }) => (command.expiresMs <= nowMs ? [command] : []));
  }

  /** Newest first; a command whose time is over is listed so, whether a gateway has said it or not. */
  list(nowMs: number): CommandEntry[] {
    const all = [...this.#done.values(), ...this.#queued.values()];
    return all
      .map((entry) =>
        entry.state === 'queued' && entry.command!.expiresMs <= nowMs
          ? { ...entry, state: 'expired' as const, atMs: entry.command!.expiresMs }
          : entry,
      )
      .sort((a, b) => b.offset - a.offset);
  }

  #add(record: StoredRecord): CommandEntry | null {
    const command = decodeCommand(record, this.#config);
    const { id, device } = command;
    if (this.at(id)) return null;
    const { offset, receivedMs } = record;
    const entry = { id, device, offset, createdMs: receivedMs, atMs: receivedMs };
    if ('reason' in command) {
      return this.#finish({ ...entry, command: null, state: 'refused', reason: command.reason });
    }
    const { pending, pendingPerDevice } = this.#config;
    if (this.#queued.size >= pending || this.#waiting(device) >= pendingPerDevice) this.#dropExpired(receivedMs);
    const full =
      this.#queued.size >= pending ? pending : this.#waiting(device) >= pendingPerDevice ? pendingPerDevice : null;
    if (full !== null) {
      const isAll = this.#queued.size >= pending;
      this.#onLimit(isAll ? 'commands' : 'commands_per_device');
      const reason = `${full} commands wait already${isAll ? '' : ` for ${device}`}`;
      return this.#finish({ ...entry, command, state: 'refused', reason });
    }
    const queued = { ...entry, command, state: 'queued' as const };
    this.#queued.set(id, queued);
    const ids = this.#byDevice.get(device);
    if (ids) ids.add(id);
    else this.#byDevice.set(device, new Set([id]));
    return queued;
  }

  #waiting(device: string): number {
    return this.#byDevice.get(device)?.size ?? 0;
  }

  #settle({ id, state, atMs, gateway, response }: CommandOutcome): CommandEntry | null {
    const entry = this.at(id);
    if (!entry) return null;
    const isTaken = state === 'answered' || state === 'delivered';
    const mayChange =
      entry.state === 'queued' ||
      (entry.state === 'delivered' && state === 'answered') ||
      (entry.state === 'expired' && isTaken);
    if (!mayChange) return null;
    return this.#finish({ ...entry, state, atMs, gateway, ...(response === undefined ? undefined : { response }) });
  }

  #dropExpired(nowMs: number): void {
    for (const { id } of this.expiredBy(nowMs)) {
      const entry = this.#queued.get(id)!;
      this.#finish({ ...entry, state: 'expired', atMs: entry.command.expiresMs });
    }
  }

  #finish(entry: CommandEntry): CommandEntry {
    const { id, device } = entry;
    this.#queued.delete(id);
    const ids = this.#byDevice.get(device);
    ids?.delete(id);
    if (ids?.size === 0) this.#byDevice.delete(device);
    const { command, state } = entry;
    this.#awaited.delete(id);
    if (state === 'delivered' && command && command.responseTopic !== null)
      this.#awaited.set(id, { ...entry, command });
    if (this.#awaited.size > MAX_DONE) this.#awaited.delete(this.#awaited.keys().next().value!);
    this.#done.delete(id);
    this.#done.set(id, entry);
    if (this.#done.size > MAX_DONE) this.#done.delete(this.#done.keys().next().value!);
    return entry;
  }
}

export function showCommand({ id, device, state, createdMs, atMs, command, gateway, reason, response }: CommandEntry) {
  const known = { gateway: gateway ?? null, reason: reason ?? null, response: response ?? null };
  return { id, device, state, createdMs, atMs, expiresMs: command?.expiresMs ?? null, ...known };
}

/**
 * The board: what each device did last, in memory, bounded, for people to look at.
 *
 * Called by the pipeline for every accepted reading and every refusal, on the thread that acknowledges devices: so one
 * map look-up and a few assignments a reading, and no allocation once a device is known. It keeps the last reading's
 * `tags` as they are: callers must not change them afterwards.
 * Nothing here is a promise: the exact numbers are in the rows. Memory: at most `maxDevices` entries of about 1 KiB;
 * the readings of further devices are counted, not listed.
 */
import type { Reading, Refusal, RefusalCode } from '../reading.ts';
import { matchTopic, type Stream } from '../stream.ts';
import { Device, type DeviceView } from './device.ts';

export const MAX_DEVICES = 50_000;
/** Share of the entries that devices may take which never sent an accepted reading. */
const MAX_REFUSED_ONLY_SHARE = 0.1;
/** When the board is full, devices not seen for this long make room. */
const FORGET_AFTER_MS = 3_600_000;
const FORGET_EVERY_MS = 10_000;
/** The clock of a device whose stamps differ by more than this is called wrong. */
export const SKEW_LIMIT_MS = 30_000;
const REORDER_AT_MOST_EVERY_MS = 1_000;
const SMALL_LIST = 2_000;
/** Of the names in a refused payload's topic: inspection lets no reading through with longer ones. */
const NAME_LENGTH = 256;

export const DEVICE_ORDERS = ['name', 'seen', 'refusals', 'missing', 'skew'] as const;
export type DeviceOrder = (typeof DEVICE_ORDERS)[number];

export interface DeviceQuery {
  /** Case-insensitive part of the key or of a tag's value. */
  readonly search?: string;
  readonly stream?: string;
  /** Exactly this key. */
  readonly key?: string;
  readonly order?: DeviceOrder;
  readonly limit: number;
  readonly offset: number;
}

export interface StreamView {
  readonly name: string;
  readonly devices: number;
  readonly accepted: number;
  readonly refused: number;
  readonly refusedBy: Readonly<Partial<Record<RefusalCode, number>>>;
  readonly lastReceivedMs: number | null;
  /** Readings of devices that the board had no room for. */
  readonly unlisted: number;
}

export interface BoardSummary {
  readonly devices: number;
  readonly silent: number;
  readonly skewed: number;
  /** Of any device whose readings are accepted. */
  readonly largestSkewMs: number;
  readonly gapped: number;
  readonly refusing: number;
  readonly unlisted: number;
  /** One example of each, for sentences. */
  readonly examples: { readonly skewed?: string; readonly silent?: string; readonly gapped?: string };
}

const NO_TAGS: Readonly<Record<string, string>> = Object.freeze({});

class StreamEntry {
  readonly stream: Stream;
  readonly devices = new Map<string, Device>();
  accepted = 0;
  refused = 0;
  unlisted = 0;
  lastReceivedMs = 0;
  readonly refusedBy = new Map<RefusalCode, number>();
  constructor(stream: Stream) {
    this.stream = stream;
  }
}

export class Board {
  readonly #maxDevices: number;
  readonly #streams = new Map<string, StreamEntry>();
  #devices = 0;
  #refusedOnly = 0;
  /** Refusals that belong to no stream, by reason: topics that nothing matches. */
  readonly #strays = new Map<RefusalCode, number>();
  #forgotAtMs = Number.NEGATIVE_INFINITY;
  #membership = 0;
  #ordered: { membership: number; atMs: number; devices: Device[] } = { membership: -1, atMs: 0, devices: [] };

  constructor(streams: Readonly<Record<string, Stream>>, options: { maxDevices?: number } = {}) {
    this.#maxDevices = options.maxDevices ?? MAX_DEVICES;
    for (const stream of Object.values(streams)) this.#streams.set(stream.name, new StreamEntry(stream));
  }

  /** A stream that was not there at the start. */
  add(stream: Stream): void {
    if (!this.#streams.has(stream.name)) this.#streams.set(stream.name, new StreamEntry(stream));
  }

  /** The hot one: after the reading was accepted. */
  accepted(reading: Reading, receivedMs: number): void {
    const entry = this.#streams.get(reading.stream);
    if (entry === undefined) return;
    entry.accepted++;
    entry.lastReceivedMs = receivedMs;
    let device = entry.devices.get(reading.key);
    if (device === undefined) {
      const admitted = this.#admit(entry, reading.key, reading.tags, receivedMs, false);
      if (admitted === null) {
        entry.unlisted++;
        return;
      }
      device = admitted;
    }
    if (device.readings === 0 && device.refusals > 0) this.#refusedOnly--;
    device.accept(reading, receivedMs);
  }

  /** After a payload was refused. */
  refused(refusal: Refusal, receivedMs: number): void {
    const entry = this.#streams.get(refusal.stream);
    if (entry === undefined) {
      this.#strays.set(refusal.code, (this.#strays.get(refusal.code) ?? 0) + 1);
      return;
    }
    entry.refused++;
    entry.refusedBy.set(refusal.code, (entry.refusedBy.get(refusal.code) ?? 0) + 1);
    const captured = matchTopic(entry.stream.topic, refusal.topic);
    const named = captured !== null && Object.hasOwn(captured, entry.stream.key);
    const key = (named ? captured[entry.stream.key]! : refusal.client).slice(0, NAME_LENGTH);
    if (key === '') return;
    const device = entry.devices.get(key) ?? this.#admit(entry, key, shortTags(captured), receivedMs, true);
    if (device === null) return;
    device.refuse(refusal, receivedMs);
  }

  /** A page of devices and how many there are in all that match. */
  list(query: DeviceQuery, nowMs: number): { total: number; devices: DeviceView[] } {
    if (query.key !== undefined) return this.#named(query.key, query.stream, nowMs);
    let devices = this.#inOrder(nowMs);
    const search = query.search?.trim().toLowerCase() ?? '';
    if (query.stream !== undefined) devices = devices.filter((device) => device.stream === query.stream);
    if (search !== '') devices = devices.filter((device) => device.haystack.includes(search));
    const by = query.order ?? 'name';
    if (by !== 'name') devices = [...devices].sort(ORDERS[by]);
    const page = devices.slice(query.offset, query.offset + query.limit);
    return { total: devices.length, devices: page.map((device) => device.show(nowMs)) };
  }

  /** The devices that changed since they were last in here; none where there are more than `most`. */
  changes(most: number, nowMs: number): DeviceView[] {
    if (this.#devices > most) return [];
    const changed: DeviceView[] = [];
    for (const device of this.#inOrder(nowMs)) {
      if (!device.changed) continue;
      device.changed = false;
      changed.push(device.show(nowMs));
    }
    return changed;
  }

  #named(key: string, stream: string | undefined, nowMs: number): { total: number; devices: DeviceView[] } {
    const devices: DeviceView[] = [];
    for (const entry of this.#streams.values()) {
      const device = stream === undefined || entry.stream.name === stream ? entry.devices.get(key) : undefined;
      if (device) devices.push(device.show(nowMs));
    }
    return { total: devices.length, devices };
  }

  streams(): StreamView[] {
    return Array.from(this.#streams.values(), (entry) => ({
      name: entry.stream.name,
      devices: entry.devices.size,
      accepted: entry.accepted,
      refused: entry.refused,
      refusedBy: Object.fromEntries(entry.refusedBy),
      lastReceivedMs: entry.lastReceivedMs || null,
      unlisted: entry.unlisted,
    }));
  }

  /** Refusals whose topic belongs to no stream. */
  strays(): number {
    let sum = 0;
    for (const count of this.#strays.values()) sum += count;
    return sum;
  }

  summary(nowMs: number): BoardSummary {
    let [silent, skewed, gapped, refusing, unlisted, largestSkewMs] = [0, 0, 0, 0, 0, 0];
    const examples: { skewed?: string; silent?: string; gapped?: string } = {};
    for (const entry of this.#streams.values()) {
      unlisted += entry.unlisted;
      for (const device of entry.devices.values()) {
        if (device.silent(nowMs)) {
          silent++;
          examples.silent ??= device.key;
        } else if (device.hasWrongClock(SKEW_LIMIT_MS)) {
          skewed++;
          examples.skewed ??= device.key;
        }
        largestSkewMs = Math.max(largestSkewMs, Math.abs(device.skewMs));
        if (device.missing > 0) {
          gapped++;
          examples.gapped ??= device.key;
        }
        if (device.refusals > 0) refusing++;
      }
    }
    return { devices: this.#devices, silent, skewed, gapped, refusing, unlisted, largestSkewMs, examples };
  }

  #admit(
    entry: StreamEntry,
    key: string,
    tags: Readonly<Record<string, string>>,
    nowMs: number,
    refusedOnly: boolean,
  ): Device | null {
    if (refusedOnly && this.#refusedOnly >= this.#maxDevices * MAX_REFUSED_ONLY_SHARE) return null;
    if (this.#devices >= this.#maxDevices && !this.#forget(nowMs)) return null;
    const device = new Device(entry.stream.name, key, tags);
    entry.devices.set(key, device);
    this.#devices++;
    this.#membership++;
    if (refusedOnly) this.#refusedOnly++;
    return device;
  }

  /** True when it made room. Looks at most every FORGET_EVERY_MS: a flood of new names must not cost a scan each. */
  #forget(nowMs: number): boolean {
    if (nowMs - this.#forgotAtMs < FORGET_EVERY_MS) return false;
    this.#forgotAtMs = nowMs;
    for (const entry of this.#streams.values()) {
      for (const device of entry.devices.values()) {
        if (nowMs - device.lastSeenMs() < FORGET_AFTER_MS) continue;
        entry.devices.delete(device.key);
        this.#devices--;
        this.#membership++;
        if (device.readings === 0) this.#refusedOnly--;
      }
    }
    return this.#devices < this.#maxDevices;
  }

  /** By name; sorted again only when devices came or went, and then not more than once a second for long lists. */
  #inOrder(nowMs: number): Device[] {
    const cached = this.#ordered;
    const tooSoon = cached.devices.length > SMALL_LIST && Math.abs(nowMs - cached.atMs) < REORDER_AT_MOST_EVERY_MS;
    if (cached.membership === this.#membership || tooSoon) return cached.devices;
    const devices: Device[] = [];
    for (const entry of this.#streams.values()) for (const device of entry.devices.values()) devices.push(device);
    devices.sort((a, b) => (a.sortKey < b.sortKey ? -1 : a.sortKey > b.sortKey ? 1 : 0));
    this.#ordered = { membership: this.#membership, atMs: nowMs, devices };
    return devices;
  }
}

function shortTags(captured: Readonly<Record<string, string>> | null): Readonly<Record<string, string>> {
  if (captured === null) return NO_TAGS;
  return Object.fromEntries(Object.entries(captured).map(([name, value]) => [name, value.slice(0, NAME_LENGTH)]));
}

const ORDERS: Readonly<Record<Exclude<DeviceOrder, 'name'>, (a: Device, b: Device) => number>> = {
  seen: (a, b) => a.lastSeenMs() - b.lastSeenMs(),
  refusals: (a, b) => b.refusals - a.refusals,
  missing: (a, b) => b.missing - a.missing,
  skew: (a, b) => Math.abs(b.skewMs) - Math.abs(a.skewMs),
};

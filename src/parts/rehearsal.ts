/**
 * What another schema would make of a stream's history: every payload of it, as the log keeps them, goes through the whole
 * inspection again as it would with that schema, each at the time at which it was received. Readings that would be refused,
 * and dead letters that would pass, by device and reason. Reads only; nothing is written anywhere.
 *
 * The unit is the message: a batch with one bad reading is one dead letter, and all its readings are lost. The readings of a
 * batch stand in the log with their place in it, so the batch is known again by its place in its spool; with Kafka a second
 * copy of a record is left out in the same way.
 *
 * A payload of a format other than JSON is in the log as what was understood of it, and a schema sees no more than that. A
 * dead letter is there byte for byte. What Sparkplug B births said before a dead letter is not known any more: it stays one.
 */
import type { Config } from '../config.ts';
import { type Outcome, succeed } from '../errors.ts';
import { loadAssets } from '../inspect/assets.ts';
import { createInspector, DEFAULT_LIMITS, type Inspector } from '../inspect/inspect.ts';
import type { LogReader, Origin, StoredRecord } from '../log.ts';
import { decodeReading, decodeRefusal, payloadOf, type Refusal } from '../reading.ts';
import type { Stream } from '../stream.ts';
import { deviceOf, OTHERS } from './account.ts';

/** Devices, and reasons of each, that are told apart. */
const MAX_DEVICES = 10_000;
const MAX_REASONS = 20;
/** Batches of which a reading was refused and others may follow. */
const MAX_OPEN_BATCHES = 100_000;

export interface RehearsalOptions {
  readonly config: Config;
  readonly stream: Stream;
  /** The new schema's file. */
  readonly schema: string;
  readonly log: LogReader;
  readonly deadLetters: LogReader;
  /** Of records received at or after it, and before the other. */
  readonly fromMs: number;
  readonly toMs: number;
  onProgress?(recordsRead: number, recordsInAll: number): void;
}

export interface Reason {
  readonly code: Refusal['code'];
  /** JSON pointer within the reading. */
  readonly field: string;
  /** Messages. */
  messages: number;
  /** The first sentence of them. */
  readonly example: string;
}

export interface DeviceForecast {
  /** Readings in the log. */
  readings: number;
  /** Messages that were accepted and would be refused, and how many readings they hold. */
  refused: number;
  readingsLost: number;
  /** Dead letters of the stream, and how many of them would pass. */
  letters: number;
  lettersPass: number;
  /** Of all that would be refused: what was accepted, and dead letters that stay such. */
  readonly reasons: Reason[];
}

export interface Rehearsal {
  readonly stream: string;
  readonly version: string;
  /** Of the schema in use; null: none. */
  readonly versionNow: string | null;
  readonly totals: Omit<DeviceForecast, 'reasons'>;
  readonly devices: ReadonlyMap<string, DeviceForecast>;
  /** Readings that were kept without a payload: not tried. */
  readonly untried: number;
}

export async function rehearse(options: RehearsalOptions): Promise<Outcome<Rehearsal>> {
  const { config, stream } = options;
  const { skewMs, maxSeries } = config.rollup;
  const limits = { ...DEFAULT_LIMITS, skewMs, maxSeries, payloadBytes: config.mqtt.limits.packetBytes };
  const changed = { ...stream, schema: options.schema };
  const now = await loadAssets([stream], limits);
  if (!now.ok) return now;
  const assets = await loadAssets([changed], limits);
  if (!assets.ok) return assets;
  const { compression: _, ...plain } = changed;
  const tried = new Tried(options, {
    ofReading: createInspector([{ ...plain, format: 'json' }], assets.value, limits),
    ofLetter: createInspector([changed], assets.value, limits),
  });
  const read = await tried.readAll();
  if (!read.ok) return read;
  return succeed({
    stream: stream.name,
    version: assets.value.schemas.get(stream.name)!.version,
    versionNow: now.value.schemas.get(stream.name)?.version ?? null,
    ...tried.finish(),
  });
}

interface OpenBatch {
  readonly device: string;
  readonly readings: number;
  place: number;
  refusal: Refusal;
}

class Tried {
  readonly #options: RehearsalOptions;
  readonly #inspectors: { readonly ofReading: Inspector; readonly ofLetter: Inspector };
  readonly #devices = new Map<string, DeviceForecast>();
  readonly #totals = { readings: 0, refused: 0, readingsLost: 0, letters: 0, lettersPass: 0 };
  readonly #batches = new Map<string, OpenBatch>();
  #untried = 0;
  #read = 0;
  #inAll = 0;

  constructor(options: RehearsalOptions, inspectors: { ofReading: Inspector; ofLetter: Inspector }) {
    this.#options = options;
    this.#inspectors = inspectors;
  }

  async readAll(): Promise<Outcome> {
    const { log, deadLetters, fromMs, config } = this.#options;
    // Without Kafka the dead letters are in the log, and the second partition of their reader has rows only.
    const readers = config.kafka ? [log, deadLetters] : [log];
    const ranges: { reader: LogReader; partition: number; from: number; to: number }[] = [];
    for (const reader of readers) {
      for (let partition = 0; partition < reader.partitions; partition++) {
        const offsets = await reader.offsets(partition);
        if (!offsets.ok) return offsets;
        const from = await reader.offsetAtTime(partition, fromMs);
        if (!from.ok) return from;
        const to = offsets.value.endOffset;
        ranges.push({ reader, partition, from: from.value, to });
        this.#inAll += Math.max(0, to - from.value);
      }
    }
    for (const { reader, partition, from, to } of ranges) await this.#readRange(reader, partition, from, to);
    return succeed(undefined);
  }

  async #readRange(reader: LogReader, partition: number, from: number, to: number): Promise<void> {
    const { fromMs, toMs, onProgress } = this.#options;
    const reached = new Map<string, number>();
    let next = from;
    for await (const batch of reader.range(partition, from, to)) {
      for (const record of batch.records) {
        const { origin, receivedMs } = record;
        if (origin !== undefined) {
          if (origin.offset <= (reached.get(origin.spool) ?? -1)) continue;
          reached.set(origin.spool, origin.offset);
        }
        if (receivedMs < fromMs || receivedMs >= toMs) continue;
        if (record.kind === 'reading') this.#tryReading(record);
        else if (record.kind === 'refusal') this.#tryLetter(record);
      }
      this.#read += batch.nextOffset - next;
      next = batch.nextOffset;
      onProgress?.(this.#read, this.#inAll);
    }
  }

  #tryReading(record: StoredRecord): void {
    const { stream, config } = this.#options;
    if (record.stream !== stream.name) return;
    const device = record.key;
    this.#add(device, 'readings');
    const text = Buffer.from(record.value).toString();
    const payload = payloadOf(text);
    if (payload === null) {
      this.#untried++;
      return;
    }
    const { topic, receivedMs } = record;
    const message = { topic, payload: Buffer.from(payload), client: '', receivedMs };
    const inspection = this.#inspectors.ofReading.inspect(message);
    if (inspection.kind === 'readings') return;
    const place = decodeReading(text)?.batch;
    const at: Origin | null = config.kafka ? (record.origin ?? null) : { spool: '', offset: record.offset };
    if (place === undefined || at === null) {
      this.#refuse(device, inspection.refusal, 1);
      return;
    }
    this.#refuseBatch(device, inspection.refusal, place, at);
  }

  #refuseBatch(device: string, refusal: Refusal, [place, readings]: readonly [number, number], at: Origin): void {
    const id = `${at.spool}-${at.offset - place}`;
    const known = this.#batches.get(id);
    if (known === undefined) {
      if (this.#batches.size >= MAX_OPEN_BATCHES) this.#settleOldest();
      this.#batches.set(id, { device, readings, place, refusal });
    } else if (place < known.place) {
      // The first that is refused is the reason of the whole message.
      known.place = place;
      known.refusal = refusal;
    }
  }

  #settleOldest(): void {
    for (const [id, { device, refusal, readings }] of this.#batches) {
      this.#batches.delete(id);
      this.#refuse(device, refusal, readings);
      return;
    }
  }

  #tryLetter(record: StoredRecord): void {
    const { stream, config } = this.#options;
    if (record.stream !== stream.name) return;
    const refusal = decodeRefusal(Buffer.from(record.value).toString());
    // These passed inspection once: they are not about the payload.
    if (refusal === null || refusal.code === 'log-refused' || refusal.code === 'store-refused') return;
    const device = deviceOf(record, config.streams);
    this.#add(device, 'letters');
    const { topic, payload, client } = refusal;
    const inspection = this.#inspectors.ofLetter.inspect({ topic, payload, client, receivedMs: record.receivedMs });
    if (inspection.kind === 'readings') this.#add(device, 'lettersPass');
    else this.#because(device, inspection.refusal);
  }

  #refuse(device: string, refusal: Refusal, readings: number): void {
    this.#add(device, 'refused');
    this.#add(device, 'readingsLost', readings);
    this.#because(device, refusal);
  }

  #because(device: string, { code, reason, field: whole }: Refusal): void {
    const { reasons } = this.#device(device);
    const field = fieldWithin(whole, reason);
    const known = reasons.find((each) => each.code === code && each.field === field);
    if (known) known.messages++;
    else if (reasons.length < MAX_REASONS) reasons.push({ code, field, messages: 1, example: reason });
    else reasons.at(-1)!.messages++;
  }

  #add(device: string, term: keyof Omit<DeviceForecast, 'reasons'>, count = 1): void {
    this.#device(device)[term] += count;
    this.#totals[term] += count;
  }

  #device(device: string): DeviceForecast {
    const known = this.#devices.get(device);
    if (known) return known;
    if (this.#devices.size >= MAX_DEVICES && device !== OTHERS) return this.#device(OTHERS);
    const none = { readings: 0, refused: 0, readingsLost: 0, letters: 0, lettersPass: 0, reasons: [] };
    this.#devices.set(device, none);
    return none;
  }

  finish(): Pick<Rehearsal, 'totals' | 'devices' | 'untried'> {
    while (this.#batches.size > 0) this.#settleOldest();
    return { totals: this.#totals, devices: this.#devices, untried: this.#untried };
  }
}

/** The field within its reading: without the place in a batch, which the reason names. */
export function fieldWithin(field: string, reason: string): string {
  return reason.startsWith('reading ') && / of the batch: /.test(reason) ? field.replace(/^\/\d+/, '') : field;
}

/**
 * What the load generator says that it sent and got acknowledged, held against what a log has: nothing acknowledged may
 * be missing, nothing may be there that was never sent, every payload must be what the device sent, and the first
 * occurrences of one device's readings must be in the order in which it sent them.
 */
import { readFileSync } from 'node:fs';
import type { LogBatch } from '../../src/log.ts';

export interface Comparison {
  readonly sent: number;
  readonly acknowledged: number;
  /** Readings in the log, repetitions included. */
  readonly stored: number;
  /** Acknowledged, and not in the log: how many, and the first of them. */
  readonly lost: { readonly count: number; readonly example: string };
  readonly neverSent: number;
  readonly altered: number;
  /** Stored more than once: a re-send after a lost acknowledgement, or a batch sent to Kafka twice; counted once by the rollup. */
  readonly repeated: number;
  /** First occurrences that come behind a later one of the same device. */
  readonly disordered: number;
}

export class Ledger {
  /** By device: counters 0 to this - 1 were sent. */
  readonly sent = new Map<string, number>();
  readonly acknowledged = new Map<string, Set<number>>();

  /** Adds what a run of the load generator wrote with `--ledger`. */
  read(file: string): void {
    for (const line of readFileSync(file, 'utf8').trim().split('\n')) {
      const entry = JSON.parse(line) as { device: string; sent: number; acknowledged: string };
      this.sent.set(entry.device, entry.sent);
      this.acknowledged.set(entry.device, numbersOf(entry.acknowledged));
    }
  }

  add(device: string, seq: number, acknowledged: boolean): void {
    this.sent.set(device, Math.max(seq + 1, this.sent.get(device) ?? 0));
    const numbers = this.acknowledged.get(device) ?? new Set();
    this.acknowledged.set(device, acknowledged ? numbers.add(seq) : numbers);
  }
}

/** What a log has of the devices of the load generator. */
export class StoredReadings {
  readonly byDevice = new Map<string, Set<number>>();
  readonly #last = new Map<string, number>();
  #count = 0;
  #altered = 0;
  #repeated = 0;
  #disordered = 0;

  async addAll(batches: AsyncIterable<LogBatch>): Promise<void> {
    for await (const batch of batches) {
      for (const record of batch.records) if (record.kind === 'reading') this.#add(record.key, record.value);
    }
  }

  #add(device: string, value: Uint8Array): void {
    const payload = /,"payload":(\{.*\})\}$/.exec(Buffer.from(value).toString())?.[1] ?? '{}';
    const { ts, seq } = JSON.parse(payload) as { ts: number; seq: number };
    this.#count++;
    if (payload !== payloadOf(ts, seq)) this.#altered++;
    const numbers = this.byDevice.get(device) ?? new Set();
    if (numbers.has(seq)) this.#repeated++;
    else {
      if (seq < (this.#last.get(device) ?? -1)) this.#disordered++;
      this.#last.set(device, Math.max(seq, this.#last.get(device) ?? -1));
    }
    this.byDevice.set(device, numbers.add(seq));
  }

  /** The counters of this device that were acknowledged and are not in the log. */
  lost(ledger: Ledger, device: string): number[] {
    const stored = this.byDevice.get(device);
    return [...(ledger.acknowledged.get(device) ?? [])].filter((number) => !stored?.has(number));
  }

  compare(ledger: Ledger): Comparison {
    let [sent, acknowledged, count, neverSent, example] = [0, 0, 0, 0, ''];
    for (const many of ledger.sent.values()) sent += many;
    for (const [device, numbers] of ledger.acknowledged) {
      acknowledged += numbers.size;
      const lost = this.lost(ledger, device);
      if (count === 0 && lost.length > 0) example = `${device} ${lost[0]}`;
      count += lost.length;
    }
    for (const [device, numbers] of this.byDevice) {
      const many = ledger.sent.get(device) ?? 0;
      for (const number of numbers) if (number >= many) neverSent++;
    }
    return {
      sent,
      acknowledged,
      stored: this.#count,
      lost: { count, example },
      neverSent,
      altered: this.#altered,
      repeated: this.#repeated,
      disordered: this.#disordered,
    };
  }
}

/** `0-3,7` -> 0 1 2 3 7 */
function numbersOf(ranges: string): Set<number> {
  const numbers = new Set<number>();
  for (const range of ranges === '' ? [] : ranges.split(',')) {
    const [from, to] = range.split('-').map(Number);
    for (let number = from!; number <= (to ?? from!); number++) numbers.add(number);
  }
  return numbers;
}

/** The payload that the load generator makes of a counter: written here again, because an oracle shares no code. */
export function payloadOf(ts: number, seq: number): string {
  const temperature = 15 + (seq % 150) / 10;
  return `{"ts":${ts},"seq":${seq},"temperature":${temperature},"humidity":${40 + (seq % 40)},"pressure":1013.25}`;
}

/**
 * What devices published and what they were told, one delivery for each publish: from the simulator's ledger, or from
 * the replayer. The input of `ledger-oracle.ts`.
 */
import { readFileSync } from 'node:fs';

export interface Delivery {
  readonly topic: string;
  /** Null: nothing that could be a reading. */
  readonly payload: string | null;
  /** Epoch milliseconds by this machine's clock. */
  readonly sentMs: number;
  /** Null: no answer came, it may have arrived or not. */
  readonly acknowledgedMs: number | null;
}

/** The deliveries of a simulator so far; it writes its ledger at most 50 ms late, whole lines at once. */
export function readLedger(file: string): Delivery[] {
  const deliveries = new Map<string, { -readonly [K in keyof Delivery]: Delivery[K] }>();
  const payloads = new Map<string, string | null>();
  const text = readFileSync(file, 'utf8');
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    if (line === '') continue;
    const { event, at, device, topic, seq, copy, attempt, fault, payload } = JSON.parse(line);
    const message = `${device} ${seq} ${copy}`;
    if (event === 'sent') {
      if (attempt === 1) payloads.set(message, fault === 'malformed' || fault === 'oversized' ? null : payload);
      const delivery = { topic, payload: payloads.get(message) ?? null, sentMs: at, acknowledgedMs: null };
      deliveries.set(`${message} ${attempt}`, delivery);
    } else if (event === 'acknowledged') {
      deliveries.get(`${message} ${attempt}`)!.acknowledgedMs = at;
    }
  }
  return [...deliveries.values()];
}

/**
 * What devices published and what they were told, one delivery for each publish: from the simulator's ledger, or from a
 * replayer of tests. The input of the judges in this folder, and all that they believe.
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

/** With what only the simulator knows of it. */
export interface SimulatedDelivery extends Delivery {
  readonly device: string;
  readonly seq: number;
  /** 1: the second publish of a duplicate. */
  readonly copy: number;
  /** From 1; more after a connection broke before the acknowledgement. */
  readonly attempt: number;
  readonly fault: string;
  /** The time in the payload. */
  readonly ts: number;
  /** Of the payload, in hexadecimal. */
  readonly sha256: string;
}

export interface SimulatorLedger {
  readonly deliveries: SimulatedDelivery[];
  /** Reports that a device lost: its counter moved on. */
  readonly gaps: number;
  /** Publishes whose connection ended before the acknowledgement. */
  readonly broken: number;
}

/** The deliveries of a simulator so far; it writes its ledger at most 50 ms late, whole lines at once. */
export function readLedger(file: string): SimulatedDelivery[] {
  return readSimulatorLedger(file).deliveries;
}

export function readSimulatorLedger(file: string): SimulatorLedger {
  const deliveries = new Map<string, { -readonly [K in keyof SimulatedDelivery]: SimulatedDelivery[K] }>();
  const payloads = new Map<string, string | null>();
  let [gaps, broken] = [0, 0];
  const text = readFileSync(file, 'utf8');
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    if (line === '') continue;
    const { event, at, device, topic, seq, copy, ts, attempt, fault, sha256, payload } = JSON.parse(line);
    const message = `${device} ${seq} ${copy}`;
    if (event === 'sent') {
      if (attempt === 1) payloads.set(message, fault === 'malformed' || fault === 'oversized' ? null : payload);
      deliveries.set(`${message} ${attempt}`, {
        ...{ topic, payload: payloads.get(message) ?? null, sentMs: at, acknowledgedMs: null },
        ...{ device, seq, copy, attempt, fault, ts, sha256 },
      });
    } else if (event === 'acknowledged') {
      deliveries.get(`${message} ${attempt}`)!.acknowledgedMs = at;
    } else if (event === 'failed') broken++;
    else if (event === 'gap') gaps++;
  }
  return { deliveries: [...deliveries.values()], gaps, broken };
}

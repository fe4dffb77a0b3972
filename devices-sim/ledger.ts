/**
 * What the simulator did and what it was told, one JSON object a line, so that anyone can compare it with what the
 * gateway stored. Lines are written in order, at most `FLUSH_MS` after they happened, and all of them at the end.
 *
 *   {"event":"sent","at":…,"device":"d0001","topic":"…","seq":7,"copy":0,"ts":…,"fault":"none","attempt":1,
 *    "bytes":98,"sha256":"…","payload":"…"}      handed to a connection; a re-send has the next attempt, same seq and ts
 *   {"event":"acknowledged", … }                 the broker's PUBACK (QoS 1), PUBCOMP (QoS 2)
 *   {"event":"written", … }                      QoS 0: left this process, nothing more is known
 *   {"event":"failed", …, "reason":"…"}          the connection broke before the acknowledgement; re-sent if it may be
 *   {"event":"gap", … }                          the device lost it: the counter moved on, nothing was sent
 *   {"event":"withheld", … }                     ready or held back, but the run ended before it was sent
 *
 * `payload` stands on the first attempt of a payload that is UTF-8 and not large; size and hash always do. `seq`, `copy`
 * and `device` together name a message; copy 1 is the second publish of a duplicate.
 */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Fault } from './device.ts';

export type LedgerEvent = 'sent' | 'acknowledged' | 'written' | 'failed' | 'gap' | 'withheld';

export interface LedgerSubject {
  readonly device: string;
  readonly topic: string;
  readonly seq: number;
  readonly copy: number;
  readonly ts: number;
  readonly fault: Fault;
  readonly attempt: number;
}

export interface Ledger {
  note(event: LedgerEvent, subject: LedgerSubject, more?: Readonly<Record<string, unknown>>): void;
  close(): void;
}

const FLUSH_MS = 50;
const FLUSH_CHARACTERS = 64 * 1024;
const SHOWN_BYTES = 4_096;

export const noLedger: Ledger = { note: () => {}, close: () => {} };

export function openLedger(file: string): Ledger {
  const descriptor = openSync(file, 'w');
  let waiting = '';
  const flush = () => {
    const bytes = Buffer.from(waiting);
    waiting = '';
    for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written);
  };
  const timer = setInterval(flush, FLUSH_MS);
  timer.unref();
  return {
    note: (event, { device, topic, seq, copy, ts, fault, attempt }, more) => {
      const entry = { event, at: Date.now(), device, topic, seq, copy, ts, fault, attempt, ...more };
      waiting += `${JSON.stringify(entry)}\n`;
      if (waiting.length > FLUSH_CHARACTERS) flush();
    },
    close: () => {
      clearInterval(timer);
      flush();
      closeSync(descriptor);
    },
  };
}

/** What a `sent` line says of the payload. */
export function payloadFields(payload: Uint8Array, first: boolean): Record<string, unknown> {
  const sha256 = createHash('sha256').update(payload).digest('hex');
  const bytes = payload.length;
  if (!first || bytes > SHOWN_BYTES || !isUtf8(payload)) return { bytes, sha256 };
  return { bytes, sha256, payload: Buffer.from(payload).toString('utf8') };
}

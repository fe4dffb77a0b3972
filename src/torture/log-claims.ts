/**
 * What the log must be, from the devices' ledgers: nothing acknowledged is missing, nothing is there that was not sent,
 * each payload is what the device sent, one device's readings are in the order in which it sent them, and what was not
 * counted is listed with a reason. Shares no code with the stages, and reads the values of records by their published
 * form: the JSON that src/reading.ts and src/rollup/late.ts describe.
 */
import { createHash } from 'node:crypto';
import { type Claim, ClaimSheet } from './claim.ts';
import type { SimulatedDelivery } from './deliveries.ts';
import { admission, type Rules, streamOf } from './ledger-readings.ts';

/** A record of the log, the late log, or the dead letters. */
export interface Entry {
  readonly kind: string;
  readonly topic: string;
  readonly value: Uint8Array;
}

/** One report of a device, however often it was published. */
interface Message {
  readonly first: SimulatedDelivery;
  /** Place among those that the device sent, by the first publish. */
  readonly order: number;
  /** As JSON writes it; null when it is no reading. */
  readonly content: string | null;
  acknowledged: boolean;
  /** Some delivery of it came in time for certain; all did; some may have. */
  certain: boolean;
  always: boolean;
  possible: boolean;
  stored: number;
  late: boolean;
  refused: boolean;
}

export class LogClaims {
  readonly #logRepeats: boolean;
  readonly #messages = new Map<string, Message>();
  /** By topic and hash: payloads that may be dead letters. */
  readonly #payloads = new Map<string, Message[]>();
  readonly #lastOrder = new Map<string, number>();
  readonly #lost = new ClaimSheet(
    'nothing-lost',
    'Everything acknowledged is in the log, or kept as a dead letter',
    'acknowledged messages',
  );
  readonly #sent = new ClaimSheet('nothing-invented', 'Everything in the log was sent, byte for byte', 'records');
  readonly #ordered = new ClaimSheet(
    'in-order',
    'Readings of a device are in the order in which it sent them',
    'readings',
  );
  readonly #listed = new ClaimSheet(
    'listed',
    'What was too late for its window is listed, and nothing else is',
    'late or refused readings',
  );

  /** `logRepeats`: Kafka may hold a record twice, and the second one may come behind the end of its window. */
  constructor(rules: Rules, deliveries: readonly SimulatedDelivery[], logRepeats: boolean) {
    this.#logRepeats = logRepeats;
    const orders = new Map<string, number>();
    for (const delivery of [...deliveries].sort((a, b) => a.sentMs - b.sentMs)) {
      const key = messageKey(delivery.topic, delivery.seq);
      let message = this.#messages.get(key);
      if (message === undefined) {
        const order = orders.get(delivery.topic) ?? 0;
        orders.set(delivery.topic, order + 1);
        message = {
          ...{ first: delivery, order, content: contentOf(delivery.payload), acknowledged: false },
          ...{ certain: false, always: true, possible: false, stored: 0, late: false, refused: false },
        };
        this.#messages.set(key, message);
        const hash = `${delivery.topic} ${delivery.sha256}`;
        const same = this.#payloads.get(hash);
        if (same) same.push(message);
        else this.#payloads.set(hash, [message]);
      }
      if (delivery.acknowledgedMs !== null) message.acknowledged = true;
      const stream = streamOf(rules, delivery.topic);
      if (message.content === null || stream === undefined) continue;
      const admitted = admission(rules, stream, delivery, delivery.ts);
      if (admitted === 'certain') message.certain = true;
      else message.always = false;
      if (admitted !== 'no') message.possible = true;
    }
  }

  /** A record of the log, in the order of its partition. */
  logged(entry: Entry): void {
    if (entry.kind !== 'reading') return;
    this.#sent.checked++;
    const payload = parse(entry.value)?.payload;
    const seq = (payload as { seq?: unknown } | undefined)?.seq;
    const message = typeof seq === 'number' ? this.#messages.get(messageKey(entry.topic, seq)) : undefined;
    if (message === undefined) {
      this.#sent.contradicted(`a reading of ${entry.topic} that nobody sent: ${textOf(entry.value).slice(0, 200)}`);
      return;
    }
    const content = JSON.stringify(payload);
    if (content !== message.content) {
      this.#sent.contradicted(`${entry.topic} ${seq} was sent as ${message.content}, the log has ${content}`);
    }
    if (message.stored++ > 0) return;
    this.#ordered.checked++;
    const last = this.#lastOrder.get(entry.topic) ?? -1;
    if (message.order < last) this.#ordered.contradicted(`${entry.topic} ${seq} comes behind a later one`);
    this.#lastOrder.set(entry.topic, Math.max(last, message.order));
  }

  refused(entry: Entry): void {
    if (entry.kind !== 'refusal') return;
    this.#sent.checked++;
    const refusal = parse(entry.value);
    const payload = Buffer.from(String(refusal?.payload ?? ''), 'base64');
    const hash = createHash('sha256').update(payload).digest('hex');
    const messages = this.#payloads.get(`${entry.topic} ${hash}`);
    if (messages === undefined) {
      this.#sent.contradicted(`a dead letter of ${entry.topic} that nobody sent (${refusal?.code})`);
      return;
    }
    for (const message of messages) message.refused = true;
  }

  late(entry: Entry): void {
    if (entry.kind !== 'late') return;
    const late = parse(entry.value);
    const payload = (late?.reading as { payload?: { seq?: number } } | undefined)?.payload;
    const message = this.#messages.get(messageKey(entry.topic, payload?.seq ?? -1));
    if (message === undefined) {
      this.#listed.contradicted(`a late reading of ${entry.topic} that nobody sent`);
      return;
    }
    if (late?.reason === 'straggler') {
      if (this.#logRepeats && message.stored > 1) return;
      this.#listed.contradicted(`${entry.topic} ${payload?.seq} is called a straggler, and stands in the log in order`);
    }
    message.late = true;
  }

  /** After all records were given. */
  claims(): Claim[] {
    let open = 0;
    for (const message of this.#messages.values()) {
      const { first, content, acknowledged, certain, always, possible, stored, late, refused } = message;
      const name = `${first.topic} ${first.seq}`;
      if (acknowledged) {
        this.#lost.checked++;
        if (stored === 0 && !refused) this.#lost.contradicted(`${name}, sent ${timeText(first.sentMs)}, is nowhere`);
      }
      if (content === null) continue;
      if (acknowledged && !possible) {
        this.#listed.checked++;
        if (!late && !refused) this.#listed.contradicted(`${name} came too late for its window and is not listed`);
      } else if (late && always && !(this.#logRepeats && stored > 1)) {
        this.#listed.contradicted(`${name} is listed as late, and came in time`);
      } else if (!certain && possible) open++;
    }
    this.#listed.note = open > 0 ? `of ${open} readings more nobody outside can tell whether they came in time` : '';
    return [this.#lost, this.#sent, this.#ordered, this.#listed].map((sheet) => sheet.claim());
  }
}

function messageKey(topic: string, seq: number): string {
  return `${topic} ${seq}`;
}

function contentOf(payload: string | null): string | null {
  const parsed = payload === null ? null : parse(Buffer.from(payload));
  return parsed === null ? null : JSON.stringify(parsed);
}

function textOf(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString();
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}

function parse(value: Uint8Array): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(textOf(value));
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

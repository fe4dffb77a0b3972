/** Publishes between their arrival and their acknowledgement: read from their bytes, those of one connection in order. */
import type { TopicName, TopicTable } from './topic-table.ts';
import type { Verdict } from './verdict.ts';

export type Outcome =
  | Verdict
  /** Must not be made: ends the connection. */
  | { readonly kind: 'denied'; readonly reason: string }
  /** A repetition of an open QoS 2 exchange: acknowledged like the first one. */
  | { readonly kind: 'repeated' }
  /** Clears a retained message: not a reading. */
  | { readonly kind: 'clears' };

export type QoS = 0 | 1 | 2;

export class Publish {
  readonly topic: TopicName;
  readonly payload: Uint8Array;
  readonly qos: QoS;
  readonly retain: boolean;
  /** 0 where there is none. */
  readonly messageId: number;
  readonly arrivedMs: number;
  /** Null: not settled. */
  outcome: Outcome | null = null;
  next: Publish | null = null;

  constructor(topic: TopicName, payload: Uint8Array, qos: QoS, retain: boolean, messageId: number, arrivedMs: number) {
    this.topic = topic;
    this.payload = payload;
    this.qos = qos;
    this.retain = retain;
    this.messageId = messageId;
    this.arrivedMs = arrivedMs;
  }
}

/**
 * A PUBLISH from its first byte and the bytes behind its fixed header (MQTT 3.1.1 section 3.3), or the sentence in which
 * it breaks the standard. The QoS has been looked at. The bytes are lent: what stays of them is copied.
 */
export function readPublish(
  header: number,
  bytes: Buffer,
  from: number,
  to: number,
  topics: TopicTable,
  arrivedMs: number,
): Publish | string {
  const qos = ((header >> 1) & 3) as QoS;
  const topicStart = from + 2;
  const topicEnd = topicStart + ((bytes[from]! << 8) | bytes[from + 1]!);
  const payloadStart = qos === 0 ? topicEnd : topicEnd + 2;
  if (payloadStart > to) return 'the publish is shorter than its fields [MQTT-4.8.0-1]';
  const messageId = qos === 0 ? 0 : (bytes[topicEnd]! << 8) | bytes[topicEnd + 1]!;
  if (qos > 0 && messageId === 0) return 'packet identifier 0 with QoS 1 or 2 [MQTT-2.3.1-1]';
  const topic = topics.read(bytes, topicStart, topicEnd);
  const payload = Buffer.allocUnsafe(to - payloadStart);
  bytes.copy(payload, 0, payloadStart, to);
  return new Publish(topic, payload, qos, (header & 1) === 1, messageId, arrivedMs);
}

/** A queue without an array: one pointer for each publish, nothing to grow or shift. */
export class PublishQueue {
  head: Publish | null = null;
  #tail: Publish | null = null;

  append(publish: Publish): void {
    if (this.#tail === null) this.head = publish;
    else this.#tail.next = publish;
    this.#tail = publish;
  }

  dropHead(): void {
    this.head = this.head!.next;
    if (this.head === null) this.#tail = null;
  }

  /** Empties the queue; answers what was in it. */
  takeAll(): Publish[] {
    const all: Publish[] = [];
    for (let publish = this.head; publish !== null; publish = publish.next) all.push(publish);
    this.head = null;
    this.#tail = null;
    return all;
  }

  /** The QoS 2 publishes in it before this one: how many there are, and whether one has its packet identifier. */
  before(publish: Publish): { readonly count: number; readonly repeats: boolean } {
    let count = 0;
    for (let other = this.head; other !== publish && other !== null; other = other.next) {
      if (other.qos !== 2) continue;
      count++;
      if (other.messageId === publish.messageId) return { count, repeats: true };
    }
    return { count, repeats: false };
  }
}

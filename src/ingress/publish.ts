/** Publishes between their arrival and their acknowledgement, those of one connection in order of arrival. */
import type { PublishPacket } from 'aedes';
import type { Verdict } from './verdict.ts';

export type Outcome =
  | Verdict
  /** Must not be made: ends the connection. */
  | { readonly kind: 'denied'; readonly reason: string }
  /** A repetition of an open QoS 2 exchange: acknowledged like the first one. */
  | { readonly kind: 'repeated' }
  /** Clears a retained message: not a reading. */
  | { readonly kind: 'clears' };

export type Callback = (error?: Error | null) => void;

export class Publish {
  readonly packet: PublishPacket;
  /** aedes waits for it. */
  readonly callback: Callback;
  readonly bytes: number;
  readonly arrivedMs: number;
  /** Null: not settled. */
  outcome: Outcome | null = null;
  next: Publish | null = null;

  constructor(packet: PublishPacket, callback: Callback, arrivedMs: number) {
    this.packet = packet;
    this.callback = callback;
    this.bytes = packet.payload.length;
    this.arrivedMs = arrivedMs;
  }
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

  /** Whether a QoS 2 publish with the packet identifier of this one is before it. */
  repeats(publish: Publish): boolean {
    const { messageId } = publish.packet;
    for (let other = this.head; other !== publish && other !== null; other = other.next) {
      if (other.packet.qos === 2 && other.packet.messageId === messageId) return true;
    }
    return false;
  }
}

/**
 * Writes acknowledgements. One commit of the log settles many publishes at once: those of one connection leave together,
 * as one write, when the turn is over.
 */
import type { Duplex } from 'node:stream';

const PUBACK = 0x40;
const PUBREC = 0x50;
const ACK_BYTES = 4;

export class Acks {
  readonly #stream: Duplex;
  /**
   * Packet identifiers with the packet's first byte above them, in the order in which they leave; `#count` of them wait. It is
   * not emptied in between: V8 makes room for seventeen each time an empty array gets its first.
   */
  readonly #waiting: number[] = [];
  #count = 0;
  #planned = false;

  constructor(stream: Duplex) {
    this.#stream = stream;
  }

  /** For QoS 1. */
  puback(messageId: number): void {
    this.#add((PUBACK << 16) | messageId);
  }

  /** For QoS 2. */
  pubrec(messageId: number): void {
    this.#add((PUBREC << 16) | messageId);
  }

  /** At once: the connection is about to end. */
  flush(): void {
    this.#planned = false;
    const waiting = this.#waiting;
    const count = this.#count;
    if (count === 0) return;
    const bytes = Buffer.allocUnsafe(count * ACK_BYTES);
    for (let i = 0, at = 0; i < count; i++, at += ACK_BYTES) {
      const ack = waiting[i]!;
      bytes[at] = ack >> 16;
      bytes[at + 1] = 2;
      bytes[at + 2] = (ack >> 8) & 0xff;
      bytes[at + 3] = ack & 0xff;
    }
    this.#count = 0;
    if (this.#stream.writable) this.#stream.write(bytes);
  }

  #add(ack: number): void {
    this.#waiting[this.#count++] = ack;
    if (this.#planned) return;
    this.#planned = true;
    if (due.push(this) === 1) process.nextTick(flushDue);
  }
}

/** Those of all connections that have something to write when the turn is over: a commit settles hundreds at once. */
let due: Acks[] = [];

function flushDue(): void {
  const turn = due;
  due = [];
  for (const acks of turn) acks.flush();
}

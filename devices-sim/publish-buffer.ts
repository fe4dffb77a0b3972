/**
 * QoS 1 PUBLISH packets of MQTT 3.1.1, one behind the other in one buffer, so that a connection writes what it has to
 * send in one call. By hand, because this and reading the acknowledgements is where a load generator spends its time;
 * mqtt-packet does everything else.
 */

/** Type PUBLISH, QoS 1, no DUP, no RETAIN. */
const FIXED_HEADER = 0x32;

export class PublishBuffer {
  #bytes = Buffer.allocUnsafe(4_096);
  #length = 0;

  add(topic: Buffer, messageId: number, payload: string): void {
    const payloadLength = Buffer.byteLength(payload);
    const remaining = 2 + topic.length + 2 + payloadLength;
    this.#reserve(remaining + 5);
    const bytes = this.#bytes;
    let at = this.#length;
    bytes[at++] = FIXED_HEADER;
    let rest = remaining;
    while (rest > 127) {
      bytes[at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    bytes[at++] = rest;
    at = bytes.writeUInt16BE(topic.length, at);
    at += topic.copy(bytes, at);
    at = bytes.writeUInt16BE(messageId, at);
    this.#length = at + bytes.write(payload, at);
  }

  /** All packets since the last call; empty when there are none. */
  take(): Buffer {
    const taken = Buffer.from(this.#bytes.subarray(0, this.#length));
    this.#length = 0;
    return taken;
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + more));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

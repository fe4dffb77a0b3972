/**
 * The bytes of one connection, packet by packet. `Framing` reads the fixed header of each packet (type, flags, remaining
 * length) and the first bytes of a few before the broker's decoder gets them. PUBLISH packets never get there: they are
 * taken here whole, as many as the budget allows, because on their way nothing may stand between the socket and the log.
 *  - A packet longer than the limit is refused from its header, before it is buffered.
 *  - Nothing but one CONNECT passes before the connection is accepted, and nothing behind a DISCONNECT.
 *  - Lengths, flags and packet identifiers that MQTT 3.1.1 forbids end the connection [MQTT-4.8.0-1].
 * Bytes in, decisions out.
 */
import { textProblem, topicNameProblem } from './topic.ts';

/** A reason to close the connection. */
export interface Violation {
  readonly reason: string;
  /** The limit that was exceeded, where it was one. */
  readonly limit?: 'packet';
  /** CONNACK return code to send first. */
  readonly connack?: number;
}

/** What may pass now. The walker counts down. */
export interface Budget {
  /** PUBLISH packets. */
  publishes: number;
  /** Bytes of PUBLISH packets; the one that crosses zero still passes. */
  bytes: number;
  /** SUBSCRIBE and UNSUBSCRIBE packets. */
  subscribes: number;
}

const CONNECT = 1;
export const PUBLISH = 3;
const SUBSCRIBE = 8;
const UNSUBSCRIBE = 10;
const DISCONNECT = 14;

const ANY = Number.MAX_SAFE_INTEGER;
/** Remaining length by packet type: the least and the most that a client's packet may have; null = not a client's packet. */
const LENGTHS: readonly (readonly [number, number] | null)[] = [
  null,
  [12, ANY], // CONNECT: name, level, flags, keep-alive, client id
  null,
  [3, ANY], // PUBLISH: a topic of one byte
  [2, 2], // PUBACK
  [2, 2], // PUBREC
  [2, 2], // PUBREL
  [2, 2], // PUBCOMP
  [6, ANY], // SUBSCRIBE: one filter [MQTT-3.8.3-3]
  null,
  [5, ANY], // UNSUBSCRIBE: one filter [MQTT-3.10.3-2]
  null,
  [0, 0], // PINGREQ
  null,
  [0, 0], // DISCONNECT
  null,
];

/** Body bytes that are looked at: the packet identifier; for CONNECT the protocol name and level. */
const PEEK: readonly number[] = [0, 9, 0, 0, 2, 2, 2, 2, 2, 0, 2, 0, 0, 0, 0, 0];

const HEADER = 0;
const LENGTH = 1;
const BODY = 2;
/** Behind a DISCONNECT: nothing counts any more. */
const ENDED = 3;

const NOTHING = Buffer.alloc(0);
/** What the first bytes of a PUBLISH in pieces get; it grows with what has arrived, not with what was announced. */
const FIRST_PIECE_BYTES = 512;

/** Who takes the PUBLISH packets of one connection. */
export interface PublishTaker {
  /**
   * A whole PUBLISH: its first byte, and where the bytes behind its fixed header are, lent until this returns. False: the
   * connection is about to end, nothing behind this packet is looked at.
   */
  take(header: number, bytes: Buffer, from: number, to: number): boolean;
}

export class Framing {
  violation: Violation | null = null;
  /** A CONNECT has passed whole. */
  connectSeen = false;
  /** What of the last chunk goes on to the broker's decoder: its packets without the publishes. */
  rest: Buffer = NOTHING;

  readonly #maxBytes: number;
  readonly #taker: PublishTaker;
  #phase = HEADER;
  #header = 0;
  #type = 0;
  #length = 0;
  #shift = 0;
  #remaining = 0;
  #peekLeft = 0;
  readonly #peeked = Buffer.alloc(9);
  #peekedBytes = 0;
  /** The PUBLISH that has begun in an earlier chunk. */
  #pieces: Buffer = NOTHING;
  #piecesBytes = 0;
  #restStart = 0;

  /** @param maxBytes of a whole packet, header included */
  constructor(maxBytes: number, taker: PublishTaker) {
    this.#maxBytes = maxBytes;
    this.#taker = taker;
  }

  /** A PUBLISH has begun and has not passed whole: it is not yet among those that were taken. */
  get insidePublish(): boolean {
    return this.#phase !== HEADER && this.#type === PUBLISH;
  }

  /**
   * How many bytes at the front of `chunk` have passed: publishes were given to the taker, `rest` holds the others. Fewer
   * than all: what is behind begins with the first packet that must wait; give it again, before anything newer. -1:
   * `violation` says why the connection must end. `open`: packets after CONNECT may pass.
   */
  admit(chunk: Buffer, budget: Budget, open: boolean): number {
    this.rest = NOTHING;
    this.#restStart = 0;
    const end = this.#walk(chunk, budget, open);
    if (end > this.#restStart) this.#passOn(chunk, end);
    return end;
  }

  #passOn(chunk: Buffer, to: number): void {
    const part = this.#restStart === 0 && to === chunk.length ? chunk : chunk.subarray(this.#restStart, to);
    this.rest = this.rest === NOTHING ? part : Buffer.concat([this.rest, part]);
  }

  #walk(chunk: Buffer, budget: Budget, open: boolean): number {
    const end = chunk.length;
    let i = 0;
    while (i < end) {
      if (this.#phase === BODY) {
        const taken = Math.min(this.#remaining, end - i);
        if (this.#type === PUBLISH) {
          this.#remaining -= taken;
          const goesOn = this.#gather(chunk, i, i + taken);
          i += taken;
          this.#restStart = i;
          if (!goesOn) return i;
          continue;
        }
        if (this.#peekLeft > 0) {
          this.#peek(chunk, i, i + taken);
          if (this.violation !== null) return -1;
        }
        i += taken;
        this.#remaining -= taken;
        if (this.#remaining > 0) break;
        this.#phase = HEADER;
        if (this.#type === CONNECT) this.connectSeen = true;
      } else if (this.#phase === HEADER) {
        const byte = chunk[i]!;
        const type = byte >> 4;
        if (type === PUBLISH && open) {
          if (budget.publishes <= 0 || budget.bytes <= 0) return i;
          if ((byte & 0x08) !== 0 && (byte & 0x06) === 0)
            return this.#end('DUP is set in a QoS 0 publish [MQTT-3.3.1-2]');
          if ((byte & 0x06) === 0x06) return this.#end('the QoS of a publish is 3 [MQTT-3.3.1-4]');
          budget.publishes--;
          if (i > this.#restStart) this.#passOn(chunk, i);
        } else if (open && (type === SUBSCRIBE || type === UNSUBSCRIBE)) {
          if (budget.subscribes <= 0) return i;
          budget.subscribes--;
        } else if (!open) {
          if (this.connectSeen) return i;
          if (type !== CONNECT) return this.#end('the first packet is not CONNECT [MQTT-3.1.0-1]');
        } else if (type === CONNECT) {
          return this.#end('a second CONNECT [MQTT-3.1.0-2]');
        }
        this.#header = byte;
        this.#type = type;
        this.#length = 0;
        this.#shift = 0;
        this.#phase = LENGTH;
        i++;
      } else if (this.#phase === LENGTH) {
        const byte = chunk[i]!;
        this.#length += (byte & 0x7f) << this.#shift;
        this.#shift += 7;
        i++;
        if ((byte & 0x80) !== 0) {
          if (this.#shift > 21) return this.#end('the remaining length has more than four bytes [MQTT-2.2.3]');
          continue;
        }
        this.#begin(budget);
        if (this.violation !== null) return -1;
        if (this.#type === DISCONNECT) {
          this.#passOn(chunk, i);
          this.#restStart = i;
          this.#phase = ENDED;
        }
      } else {
        i = end;
        this.#restStart = end;
      }
    }
    if (this.insidePublish) this.#restStart = end;
    return i;
  }

  /** A part of a PUBLISH, mostly the whole. */
  #gather(chunk: Buffer, from: number, to: number): boolean {
    if (this.#piecesBytes === 0 && this.#remaining === 0) {
      this.#phase = HEADER;
      return this.#taker.take(this.#header, chunk, from, to);
    }
    const bytes = this.#piecesBytes + to - from;
    if (bytes > this.#pieces.length) {
      const room = Math.max(FIRST_PIECE_BYTES, this.#pieces.length * 2, bytes);
      const grown = Buffer.allocUnsafeSlow(Math.min(this.#length, room));
      this.#pieces.copy(grown, 0, 0, this.#piecesBytes);
      this.#pieces = grown;
    }
    chunk.copy(this.#pieces, this.#piecesBytes, from, to);
    this.#piecesBytes = bytes;
    if (this.#remaining > 0) return true;
    const whole = this.#pieces;
    this.#pieces = NOTHING;
    this.#piecesBytes = 0;
    this.#phase = HEADER;
    return this.#taker.take(this.#header, whole, 0, bytes);
  }

  /** The remaining length is known. */
  #begin(budget: Budget): void {
    const type = this.#type;
    const length = this.#length;
    const bounds = LENGTHS[type];
    if (!bounds) {
      this.#violate(`packet type ${type} is not one that a client sends [MQTT-4.8.0-1]`);
      return;
    }
    if (1 + this.#shift / 7 + length > this.#maxBytes) {
      this.violation = { reason: `a packet of ${length} bytes is longer than ${this.#maxBytes}`, limit: 'packet' };
      return;
    }
    if (length < bounds[0] || length > bounds[1]) {
      this.#violate(`packet type ${type} has an impossible length of ${length} bytes [MQTT-4.8.0-1]`);
      return;
    }
    if (type === PUBLISH) budget.bytes -= length;
    this.#remaining = length;
    this.#peekLeft = PEEK[type]!;
    this.#peekedBytes = 0;
    this.#phase = length === 0 ? HEADER : BODY;
  }

  /** Collects the first bytes of a body over chunk borders and judges them when they are together. */
  #peek(chunk: Uint8Array, from: number, to: number): void {
    const taken = Math.min(this.#peekLeft, to - from);
    this.#peeked.set(chunk.subarray(from, from + taken), this.#peekedBytes);
    this.#peekedBytes += taken;
    this.#peekLeft -= taken;
    if (this.#peekLeft > 0) return;
    if (this.#type === CONNECT) {
      this.#judgeConnect();
      return;
    }
    if (this.#peeked[0] !== 0 || this.#peeked[1] !== 0) return;
    const clause = this.#type === SUBSCRIBE || this.#type === UNSUBSCRIBE ? ' [MQTT-2.3.1-1]' : ' [MQTT-4.8.0-1]';
    this.#violate(`packet identifier 0${clause}`);
  }

  #judgeConnect(): void {
    const bytes = this.#peeked;
    const nameLength = bytes.readUInt16BE(0);
    const name = bytes.toString('latin1', 2, 2 + nameLength);
    // the top bit of the level is how Mosquitto marks a bridge
    const level = (bytes[2 + nameLength] ?? 0) & 0x7f;
    if (nameLength === 4 && name === 'MQTT') {
      if (level === 4) return;
    } else if (nameLength === 6 && name === 'MQIsdp') {
      if (level === 3) return;
    } else {
      this.#violate('the protocol name is not MQTT [MQTT-3.1.2-1]');
      return;
    }
    const known =
      level === 5 ? 'MQTT 5 is not spoken here: set the client to MQTT 3.1.1' : `there is no protocol level ${level}`;
    this.violation = { reason: `${known} [MQTT-3.1.2-2]`, connack: 1 };
  }

  #violate(reason: string): void {
    this.violation = { reason };
  }

  #end(reason: string): -1 {
    this.#violate(reason);
    return -1;
  }
}

/** A decoded CONNECT, as far as it is judged here. */
export interface DecodedConnect {
  readonly clientId: string;
  readonly clean?: boolean;
  readonly username?: string;
  readonly password?: Uint8Array;
  readonly will?: { readonly topic: string; readonly qos?: number; readonly payload?: string | Uint8Array };
  readonly protocolId?: string;
  /** Its remaining length, which the decoder leaves there. */
  readonly length?: number;
}

/** Why a decoded CONNECT breaks the standard so that it gets no answer, or null. */
export function connectProblem(packet: DecodedConnect, maxLevels: number): string | null {
  const id = textProblem(packet.clientId);
  if (id !== null) return `the client id ${id}`;
  const username = packet.username === undefined ? null : textProblem(packet.username);
  if (username !== null) return `the user name ${username}`;
  if (packet.password !== undefined && packet.username === undefined) {
    return 'a password without a user name [MQTT-3.1.2-22]';
  }
  if (packet.will) {
    if ((packet.will.qos ?? 0) > 2) return 'the QoS of the will is 3 [MQTT-3.1.2-14]';
    const topic = topicNameProblem(packet.will.topic, maxLevels);
    if (topic !== null) return `the will: ${topic}`;
  }
  if (packet.length !== undefined && packet.length !== connectLength(packet)) {
    return 'the connect has more than its flags say [MQTT-3.1.4-1]';
  }
  return null;
}

/** Protocol name, level, flags, keep-alive, and each field behind its length. */
function connectLength({ protocolId = 'MQTT', clientId, will, username, password }: DecodedConnect): number {
  const fields = [protocolId, clientId, ...(will ? [will.topic, will.payload ?? ''] : []), username, password];
  let length = 4;
  for (const field of fields) if (field !== undefined) length += 2 + Buffer.byteLength(field);
  return length;
}

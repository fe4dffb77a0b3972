/**
 * One MQTT 3.1.1 connection of the load: up to `inFlight` QoS 1 publishes at a time, over a raw socket, in turn for each of
 * its devices. It knows which counters of which device were acknowledged. With `reconnect` it comes back when it breaks, and
 * sends what was not acknowledged again, same counter and time, in the order in which it was first sent.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import mqttPacket, { type Parser } from 'mqtt-packet';
import { IdSet } from './id-set.ts';
import { PublishBuffer } from './publish-buffer.ts';

export interface ConnectionOptions {
  readonly url: string;
  /** Unacknowledged messages, at most 65,535. */
  readonly inFlight: number;
  /** `{device}` is filled in. */
  readonly topic: string;
  readonly devicesPerConnection: number;
  readonly clientPrefix: string;
  readonly username?: string;
  readonly password?: string;
  readonly reconnect: boolean;
}

/** Who has the connection: it decides what is sent when, and counts. */
export interface LoadOwner {
  /** After each acknowledgement, and when the connection is open. */
  hasRoom(connection: LoadConnection): void;
  /** A message that was due then, by `performance.now()`. */
  acknowledged(dueMs: number): void;
  resent(): void;
  /** Refused, or gone without our doing. */
  broke(): void;
}

/** What is known of one device's messages: counters 0 to sent - 1 were sent. */
export interface DeviceRecord {
  readonly device: string;
  readonly topic: string;
  readonly sent: number;
  readonly acknowledged: IdSet;
}

interface LoadDevice {
  readonly device: string;
  readonly topic: string;
  readonly topicBytes: Buffer;
  sent: number;
  lastTs: number;
  readonly acknowledged: IdSet;
}

interface Flying {
  readonly device: LoadDevice;
  readonly seq: number;
  readonly payload: string;
  readonly dueMs: number;
  /** Grows from one first sending of the connection to the next. */
  readonly order: number;
}

/** PUBACK: its first byte, the length that follows, and the whole. */
const PUBACK = 0x40;
const PUBACK_REST = 2;
const PUBACK_BYTES = 4;

/** All sockets are read into it: each read is dealt with before the next. */
const SHARED = Buffer.allocUnsafeSlow(64 * 1024);

const RECONNECT_MS = 100;
const KEEPALIVE_S = 60;
/** Often enough for the keep-alive. */
export const PING_EVERY_MS = 20_000;
const CONNECT_TIMEOUT_MS = 10_000;

export class LoadConnection {
  readonly devices: LoadDevice[];
  readonly #owner: LoadOwner;
  readonly #options: ConnectionOptions;
  readonly #clientId: string;
  /** By message id - 1. */
  readonly #flying: (Flying | null)[];
  readonly #freeIds: number[];
  readonly #unsent = new PublishBuffer();
  /** Of the present socket. */
  #parser!: Parser;
  /** Bytes of a packet in pieces that the parser keeps. */
  #parsing = 0;
  #socket: Socket | null = null;
  #open = false;
  /** Something since the last look for a sign of life. */
  #wrote = false;
  #gone = false;
  #closing = false;
  #next = 0;
  #order = 0;
  #retryTimer: NodeJS.Timeout | undefined;

  constructor(owner: LoadOwner, options: ConnectionOptions, index: number) {
    const { inFlight, devicesPerConnection, topic, clientPrefix } = options;
    this.#owner = owner;
    this.#options = options;
    this.#clientId = `${clientPrefix}${index + 1}`;
    this.#flying = Array.from({ length: inFlight }, () => null);
    this.#freeIds = Array.from({ length: inFlight }, (_, i) => inFlight - i);
    this.devices = Array.from({ length: devicesPerConnection }, (_, i) => {
      const device = `${this.#clientId}-${i + 1}`;
      const text = topic.replaceAll('{device}', device);
      const topicBytes = Buffer.from(text);
      return { device, topic: text, topicBytes, sent: 0, lastTs: 0, acknowledged: new IdSet() };
    });
  }

  get hasRoom(): boolean {
    return this.#open && this.#freeIds.length > 0;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** Nothing can come any more: all acknowledged, or gone. */
  get idle(): boolean {
    return this.#gone || this.#freeIds.length === this.#flying.length;
  }

  /** It will not come back. */
  get gone(): boolean {
    return this.#gone;
  }

  open(): void {
    const socket = this.#connect();
    this.#socket = socket;
    socket.setNoDelay(true);
    this.#parser = mqttPacket.parser({ protocolVersion: 4 });
    this.#parsing = 0;
    const connectTimer = setTimeout(() => socket.destroy(), CONNECT_TIMEOUT_MS);
    this.#parser.on('packet', (packet) => {
      if (packet.cmd === 'puback') return this.#acknowledged(packet.messageId!);
      if (packet.cmd !== 'connack') return;
      clearTimeout(connectTimer);
      if (packet.returnCode !== 0) socket.destroy();
      else this.#opened();
    });
    this.#parser.on('error', () => socket.destroy());
    socket.on('data', (chunk) => this.#read(chunk as Buffer));
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(connectTimer);
      this.#closed();
    });
    this.#greet(socket);
  }

  publishNext(dueMs: number): void {
    const device = this.devices[this.#next]!;
    this.#next = (this.#next + 1) % this.devices.length;
    const seq = device.sent++;
    const ts = Math.max(Date.now(), device.lastTs + 1);
    device.lastTs = ts;
    const id = this.#freeIds.pop()!;
    const temperature = 15 + (seq % 150) / 10;
    const payload = `{"ts":${ts},"seq":${seq},"temperature":${temperature},"humidity":${40 + (seq % 40)},"pressure":1013.25}`;
    const flying = { device, seq, payload, dueMs, order: this.#order++ };
    this.#flying[id - 1] = flying;
    this.#write(id, flying);
  }

  /** Hands everything published since the last call to the socket. */
  flush(): void {
    const bytes = this.#unsent.take();
    if (bytes.length === 0 || !this.#open) return;
    this.#socket!.write(bytes);
    this.#wrote = true;
  }

  /** A sign of life, if there was no other since the last call: a thousand pings at once are a load that nobody asked for. */
  ping(): void {
    if (this.#open && !this.#wrote) this.#socket!.write(mqttPacket.generate({ cmd: 'pingreq' }));
    this.#wrote = false;
  }

  close(): void {
    this.#closing = true;
    clearTimeout(this.#retryTimer);
    if (this.#open) this.#socket?.end(mqttPacket.generate({ cmd: 'disconnect' }));
    else this.#socket?.destroy();
  }

  /** Acknowledgements by hand, as long as they come whole; the parser gets what is behind. The bytes may be lent. */
  #read(bytes: Buffer): void {
    const { length } = bytes;
    let at = 0;
    if (this.#parsing === 0) {
      while (at + PUBACK_BYTES <= length && bytes[at] === PUBACK && bytes[at + 1] === PUBACK_REST) {
        this.#acknowledged((bytes[at + 2]! << 8) | bytes[at + 3]!);
        at += PUBACK_BYTES;
      }
    }
    if (at < length) this.#parsing = this.#parser.parse(Buffer.from(bytes.subarray(at)));
    if (this.#open) this.#owner.hasRoom(this);
  }

  #connect(): Socket {
    const { protocol, hostname, port } = new URL(this.#options.url);
    const tls = protocol === 'mqtts:';
    const target = { host: hostname, port: Number(port || (tls ? 8883 : 1883)) };
    if (tls) return connectTls({ ...target, servername: hostname });
    const callback = (bytes: number, buffer: Uint8Array) => {
      this.#read((buffer as Buffer).subarray(0, bytes));
      return true;
    };
    return connectTcp({ ...target, onread: { buffer: SHARED, callback } });
  }

  #greet(socket: Socket): void {
    const { username, password } = this.#options;
    const credentials = {
      ...(username === undefined ? undefined : { username }),
      ...(password === undefined ? undefined : { password: Buffer.from(password) }),
    };
    socket.write(
      mqttPacket.generate({
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: 4,
        clean: true,
        clientId: this.#clientId,
        keepalive: KEEPALIVE_S,
        ...credentials,
      }),
    );
  }

  #closed(): void {
    this.#open = false;
    if (this.#closing) return;
    this.#owner.broke();
    if (this.#options.reconnect) this.#retryTimer = setTimeout(() => this.open(), RECONNECT_MS);
    else this.#gone = true;
  }

  #opened(): void {
    this.#open = true;
    // In the order in which they were first sent, as MQTT asks: ids are used again in any order.
    const unanswered = this.#flying.flatMap((flying, index) => (flying === null ? [] : [{ flying, id: index + 1 }]));
    unanswered.sort((a, b) => a.flying.order - b.flying.order);
    for (const { flying, id } of unanswered) {
      this.#owner.resent();
      this.#write(id, flying);
    }
    this.flush();
    this.#owner.hasRoom(this);
  }

  #acknowledged(id: number): void {
    const flying = this.#flying[id - 1];
    if (!flying) return;
    this.#flying[id - 1] = null;
    this.#freeIds.push(id);
    flying.device.acknowledged.add(flying.seq);
    this.#owner.acknowledged(flying.dueMs);
  }

  #write(messageId: number, { device, payload }: Flying): void {
    this.#unsent.add(device.topicBytes, messageId, payload);
  }
}

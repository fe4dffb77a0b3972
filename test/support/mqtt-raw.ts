/**
 * An MQTT client that does exactly what it is told: packets and bytes out, packets in, in order. For tests that must send
 * what a well-behaved library cannot, and see what arrives and when.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { generate, type IConnectPacket, type Packet, type Parser, parser } from 'mqtt-packet';

const DEADLINE_MS = 15_000;

export class RawClient {
  readonly stream: Duplex;
  /** All that came, oldest first. */
  readonly packets: Packet[] = [];
  closed = false;
  error: Error | null = null;
  readonly #parser: Parser = parser({ protocolVersion: 4 });
  readonly #watchers = new Set<() => void>();
  readonly #byCommand = new Map<string, Packet[]>();

  constructor(stream: Duplex) {
    this.stream = stream;
    this.#parser.on('packet', (packet: Packet) => {
      this.packets.push(packet);
      const same = this.#byCommand.get(packet.cmd);
      if (same) same.push(packet);
      else this.#byCommand.set(packet.cmd, [packet]);
      this.#changed();
    });
    stream.on('data', (chunk: Buffer) => this.#parser.parse(chunk));
    stream.on('error', (error) => {
      this.error = error;
    });
    for (const event of ['end', 'close']) {
      stream.on(event, () => {
        this.closed = true;
        this.#changed();
      });
    }
  }

  static async open(port: number, host = '127.0.0.1'): Promise<RawClient> {
    const socket: Socket = connectTcp({ port, host, noDelay: true });
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new RawClient(socket);
  }

  /** Opens and connects; the CONNACK is the first packet. */
  static async connected(port: number, packet: Partial<IConnectPacket> = {}): Promise<RawClient> {
    const client = await RawClient.open(port);
    client.connect(packet);
    await client.until('connack');
    return client;
  }

  connect(packet: Partial<IConnectPacket> = {}): void {
    this.send(connectPacket(packet));
  }

  send(...packets: readonly Packet[]): void {
    this.stream.write(Buffer.concat(packets.map((packet) => generate(packet))));
  }

  write(bytes: Uint8Array): void {
    this.stream.write(bytes);
  }

  publish(topic: string, payload: string | Buffer, qos: 0 | 1 | 2 = 1, messageId = 1, more: object = {}): void {
    this.send({ cmd: 'publish', topic, payload, qos, messageId, dup: false, retain: false, ...more });
  }

  /** Answers the code of the SUBACK: the granted QoS, or 128. */
  async subscribe(topic: string, qos: 0 | 1 | 2 = 0, messageId = 9): Promise<number> {
    const count = this.of('suback').length;
    this.send({ cmd: 'subscribe', messageId, subscriptions: [{ topic, qos }] });
    const { granted } = await this.until('suback', count + 1);
    return granted[0] as number;
  }

  of<C extends Packet['cmd']>(cmd: C): Extract<Packet, { cmd: C }>[] {
    return (this.#byCommand.get(cmd) ?? []) as Extract<Packet, { cmd: C }>[];
  }

  /** Packet identifiers of the acknowledgements so far, in order. */
  acknowledged(cmd: 'puback' | 'pubrec' | 'pubcomp' = 'puback'): number[] {
    return this.of(cmd).map(({ messageId }) => messageId!);
  }

  /** The n-th packet of this kind, when it has come. */
  async until<C extends Packet['cmd']>(cmd: C, count = 1): Promise<Extract<Packet, { cmd: C }>> {
    await this.when(() => this.of(cmd).length >= count || this.closed, `${count} x ${cmd}`);
    const found = this.of(cmd)[count - 1];
    if (!found) throw new Error(`closed before ${count} x ${cmd}; got ${this.#summary()}`);
    return found;
  }

  async untilClosed(): Promise<void> {
    await this.when(() => this.closed, 'the connection to close');
  }

  async when(condition: () => boolean, what: string): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#watchers.delete(check);
        reject(new Error(`waited ${DEADLINE_MS} ms for ${what}; got ${this.#summary()}`));
      }, DEADLINE_MS);
      const check = () => {
        if (!condition()) return;
        clearTimeout(timer);
        this.#watchers.delete(check);
        resolve();
      };
      this.#watchers.add(check);
    });
  }

  /** A round trip: all that was sent before has been read by the other side. */
  async ping(): Promise<void> {
    const count = this.of('pingresp').length;
    this.send({ cmd: 'pingreq' });
    await this.until('pingresp', count + 1);
  }

  end(): void {
    this.stream.destroy();
  }

  #summary(): string {
    return [...this.#byCommand].map(([cmd, packets]) => `${packets.length} x ${cmd}`).join(', ') || 'nothing';
  }

  #changed(): void {
    for (const check of this.#watchers) check();
  }
}

export function connectPacket(packet: Partial<IConnectPacket> = {}): IConnectPacket {
  return {
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: 4,
    clean: true,
    clientId: `raw-${Math.random().toString(36).slice(2)}`,
    keepalive: 60,
    ...packet,
  };
}

/** Waits for a condition that no event announces. */
export async function eventually(condition: () => boolean, what: string, withinMs = DEADLINE_MS): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited ${withinMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

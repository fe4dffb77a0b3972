/** The load of ingress-hook.ts, in a process of its own: each connection keeps `inFlight` publishes unacknowledged. */
import { connect, type Socket } from 'node:net';
import { generate } from 'mqtt-packet';
import { connectPacket } from '../support/mqtt-raw.ts';

interface Order {
  readonly port: number;
  readonly connections: number;
  readonly inFlight: number;
  readonly seconds: number;
  /** Subscribers of everything. */
  readonly watchers: number;
}

const PAYLOAD = Buffer.from(
  JSON.stringify({ ts: 1_700_000_000_000, temperature: 21.5, humidity: 48.2, pressure: 1013.2, seq: 123_456 }),
);
const WARM_MS = 1_000;

let acknowledged = 0;
let counting = false;
const latenciesMs: number[] = [];

function publisher(order: Order, name: number): Socket {
  const socket = connect({ port: order.port, host: '127.0.0.1', noDelay: true });
  const packet = generate({
    cmd: 'publish',
    topic: `sensors/site/device-${name}/environment`,
    payload: PAYLOAD,
    qos: 1,
    messageId: 1,
    dup: false,
    retain: false,
  });
  const idAt = packet.length - PAYLOAD.length - 2;
  const sentMs = new Float64Array(65_536);
  let nextId = 1;
  const send = (count: number): void => {
    const bytes = Buffer.allocUnsafe(packet.length * count);
    const nowMs = performance.now();
    for (let i = 0; i < count; i++) {
      packet.copy(bytes, i * packet.length);
      bytes.writeUInt16BE(nextId, i * packet.length + idAt);
      sentMs[nextId] = nowMs;
      nextId = nextId === 65_535 ? 1 : nextId + 1;
    }
    socket.write(bytes);
  };
  let rest: Buffer = Buffer.alloc(0);
  let connected = false;
  socket.on('data', (chunk: Buffer) => {
    let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let count = 0;
    // every reply is four bytes: CONNACK, PUBACK
    while (bytes.length >= 4) {
      if (!connected) connected = true;
      else if (counting && (acknowledged + count) % 16 === 0) {
        latenciesMs.push(performance.now() - sentMs[bytes.readUInt16BE(2)]!);
      }
      bytes = bytes.subarray(4);
      count++;
    }
    rest = bytes;
    if (counting) acknowledged += count;
    if (nextId === 1 && count === 1) send(order.inFlight);
    else if (count > 0) send(count);
  });
  socket.on('error', (error) => {
    throw error;
  });
  socket.write(generate(connectPacket({ clientId: `load-${name}` })));
  return socket;
}

function watcher(port: number, name: number): void {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.write(generate(connectPacket({ clientId: `watcher-${name}` })));
  socket.write(generate({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '#', qos: 0 }] }));
  socket.resume();
}

process.once('message', async (order: Order) => {
  for (let i = 0; i < order.watchers; i++) watcher(order.port, i);
  for (let i = 0; i < order.connections; i++) publisher(order, i);
  await new Promise((resolve) => setTimeout(resolve, WARM_MS));
  process.send!('warm');
  counting = true;
  const startMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, order.seconds * 1_000));
  counting = false;
  latenciesMs.sort((a, b) => a - b);
  const at = (share: number): number => latenciesMs[Math.floor(latenciesMs.length * share)] ?? 0;
  const result = { acknowledged, seconds: (performance.now() - startMs) / 1_000, p50Ms: at(0.5), p99Ms: at(0.99) };
  process.send!(result, () => process.exit(0));
});

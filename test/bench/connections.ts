/**
 * What connected devices cost the gateway in memory: resident bytes at rest, at 1,000, 2,000, 5,000 and 10,000 idle
 * connections, after each of them has published one reading, and after all have gone.
 *
 *   ulimit -n 24000 && npm run bench -- connections [N]
 *
 * Each connection takes a file descriptor on both sides, in the gateway and here: the limit must be above N in both, and
 * N must fit into the ports that the system gives to outgoing connections (28,000 on Linux).
 */
import { readFileSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { generate } from 'mqtt-packet';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';

const STEPS = [1_000, 2_000, 5_000, 10_000];
/** Opened at once; more would only test the listen queue. */
const AT_ONCE = 200;
const SETTLE_MS = 5_000;
const YAML = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    metrics: [temperature]
`;
const PUBACK = 4;
const CONNACK = 2;

interface Sample {
  readonly connections: number;
  readonly residentMiB: number;
  readonly heapMiB: number;
  /** Resident bytes above those at rest, for each connection. */
  readonly bytesEach: number;
}

export async function run(args: readonly string[] = []): Promise<object> {
  const most = Number(args[0] ?? STEPS.at(-1));
  const steps = [...STEPS.filter((step) => step < most), most];
  const allowed = openFileLimit();
  if (allowed < most + 500) {
    throw new Error(`${allowed} open files are allowed here, ${most} connections need more: ulimit -n ${most + 1_000}`);
  }
  const folder = await mkdtemp(join(tmpdir(), 'millrace-connections-'));
  const gateway = await startGateway({ folder, yaml: YAML, mqtt: `limits: { connections: ${most} }` });
  const sockets: Socket[] = [];
  try {
    const atRest = await sample(gateway, 0, 0);
    const idle: Sample[] = [];
    let connectMs = 0;
    for (const step of steps) {
      const startMs = performance.now();
      while (sockets.length < step) {
        const count = Math.min(AT_ONCE, step - sockets.length);
        const first = sockets.length;
        sockets.push(
          ...(await Promise.all(Array.from({ length: count }, (_, i) => open(gateway.mqttPort, first + i)))),
        );
      }
      connectMs += performance.now() - startMs;
      idle.push(await sample(gateway, step, atRest.residentMiB));
    }
    const connected = await gateway.metric('millrace_connections');
    if (connected !== most) throw new Error(`the gateway has ${connected} connections, not ${most}`);
    await publishAll(sockets);
    const published = await sample(gateway, most, atRest.residentMiB);
    for (const socket of sockets) socket.destroy();
    const gone = await sample(gateway, 0, 0);
    const { residentMiB, heapMiB } = atRest;
    return {
      atRest: { residentMiB, heapMiB },
      idle,
      eachPublishedOnce: published,
      afterAllLeft: { residentMiB: gone.residentMiB, heapMiB: gone.heapMiB },
      connectsPerSecond: Math.round((most * 1_000) / connectMs),
    };
  } finally {
    for (const socket of sockets) socket.destroy();
    await gateway.end('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  }
}

function open(port: number, number: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('error', reject);
    const clientId = `idle-${number}`;
    const packet = { cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId } as const;
    socket.write(generate({ ...packet, keepalive: 600 }));
    socket.once('data', (answer) => {
      if (answer[0]! >> 4 === CONNACK && answer[3] === 0) resolve(socket);
      else reject(new Error(`connection ${number} was refused: ${answer.toString('hex')}`));
    });
  });
}

async function publishAll(sockets: readonly Socket[]): Promise<void> {
  await Promise.all(
    sockets.map(
      (socket, number) =>
        new Promise<void>((resolve, reject) => {
          socket.once('data', (answer) => (answer[0]! >> 4 === PUBACK ? resolve() : reject(new Error('no PUBACK'))));
          const topic = `sensors/bench/idle-${number}/environment`;
          const more = { qos: 1, messageId: 1, dup: false, retain: false } as const;
          socket.write(generate({ cmd: 'publish', topic, payload: '{"temperature":20}', ...more }));
        }),
    ),
  );
}

async function sample(gateway: GatewayProcess, connections: number, restMiB: number): Promise<Sample> {
  await sleep(SETTLE_MS);
  const heap = await gateway.metric('nodejs_heap_size_used_bytes');
  const pages = readFileSync(`/proc/${gateway.child.pid}/statm`, 'utf8').split(' ')[1];
  const resident = (Number(pages) * 4_096) / 2 ** 20;
  return {
    connections,
    residentMiB: round(resident),
    heapMiB: round(heap / 2 ** 20),
    bytesEach: connections === 0 ? 0 : Math.round(((resident - restMiB) * 2 ** 20) / connections),
  };
}

function openFileLimit(): number {
  const line = /^Max open files +(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return line === 'unlimited' ? Number.POSITIVE_INFINITY : Number(line ?? 0);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

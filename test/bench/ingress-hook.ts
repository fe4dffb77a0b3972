/**
 * What holding the acknowledgement costs: messages per second and CPU of this process, bare aedes against the gateway's
 * MQTT side with an `accept` that settles at once, and with one that settles all that came every 5 ms as a group commit
 * does. QoS 1, 85-byte payloads, 100 connections with 20 in flight; the load comes from a process of its own.
 * Then the same with ten subscribers of everything.
 *   npx tsx test/bench/ingress-hook.ts [seconds per run]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { Aedes } from 'aedes';
import { systemClock } from '../../src/clock.ts';
import { startBroker, type Verdict } from '../../src/ingress/broker.ts';
import { silentTelemetry } from '../../src/telemetry.ts';

const SECONDS = Number(process.argv[2] ?? 5);
const ACCEPTED: Verdict = { kind: 'accepted' };

interface Target {
  readonly port: number;
  close(): Promise<void>;
}

async function bare(): Promise<Target> {
  const aedes = await Aedes.createBroker();
  const server = createServer({ noDelay: true }, aedes.handle);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      server.close();
      await new Promise<void>((resolve) => aedes.close(resolve));
    },
  };
}

async function gateway(settleEveryMs: number): Promise<Target> {
  let waiting: ((verdict: Verdict) => void)[] = [];
  const timer = setInterval(
    () => {
      const settled = waiting;
      waiting = [];
      for (const settle of settled) settle(ACCEPTED);
    },
    Math.max(settleEveryMs, 1),
  );
  const broker = await startBroker({
    mqtt: {
      listeners: [{ host: '127.0.0.1', port: 0, tls: null, websocket: false }],
      auth: { anonymous: true, users: null },
      limits: {
        connections: 10_000,
        packetBytes: 256 * 1024,
        pendingPerClient: 64,
        pendingBytes: 64 * 2 ** 20,
        ratePerClient: 0,
        connectTimeoutMs: 5_000,
        keepaliveMaxMs: 3_600_000,
        clientIdLength: 128,
        topicLevels: 16,
        retainedMessages: 10_000,
        offlineSessions: 1_000,
        offlineQueue: 1_000,
        subscriptionsPerClient: 100,
        drainTimeoutMs: 5_000,
      },
      sources: [],
    },
    accept: (_message, settled) => {
      if (settleEveryMs === 0) settled(ACCEPTED);
      else waiting.push(settled);
    },
    telemetry: silentTelemetry(),
    clock: systemClock,
    received: () => Date.now(),
  });
  if (!broker.ok) throw new Error(broker.failure.message);
  return {
    port: broker.value.addresses[0]!.port,
    close: async () => {
      clearInterval(timer);
      await broker.value.close(0);
    },
  };
}

async function run(name: string, target: Target, connections: number, inFlight: number, watchers = 0): Promise<void> {
  const load: ChildProcess = fork(new URL('./ingress-load.ts', import.meta.url), {
    execArgv: process.execArgv,
  });
  load.send({ port: target.port, connections, inFlight, seconds: SECONDS, watchers });
  await once(load, 'message'); // warm
  const before = process.cpuUsage();
  const [result] = (await once(load, 'message')) as [
    { acknowledged: number; seconds: number; p50Ms: number; p99Ms: number },
  ];
  const { user, system } = process.cpuUsage(before);
  await once(load, 'exit');
  await target.close();
  const rate = result.acknowledged / result.seconds;
  const cpu = (user + system) / result.acknowledged;
  console.log(
    `${name.padEnd(30)} ${connections} x ${inFlight}  ${Math.round(rate / 100) / 10} k/s  ${cpu.toFixed(1)} CPU-s per million  p50 ${result.p50Ms.toFixed(1)} ms  p99 ${result.p99Ms.toFixed(1)} ms`,
  );
}

for (const [connections, inFlight] of [
  [100, 20],
  [1_000, 1],
] as const) {
  await run('bare aedes', await bare(), connections, inFlight);
  await run('gateway, settled at once', await gateway(0), connections, inFlight);
  await run('gateway, settled every 5 ms', await gateway(5), connections, inFlight);
}
await run('bare aedes, ten # subscribers', await bare(), 100, 20, 10);
await run('gateway, ten # subscribers', await gateway(5), 100, 20, 10);
process.exit(0);

/** What the ingress bench measures: something that takes MQTT publishes, in processes of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Kafka, logLevel } from 'kafkajs';
import { type GatewayProcess, startGateway } from '../../support/gateway-process.ts';

export interface Target {
  readonly port: number;
  /** Of the processes that do the work. */
  pids(): number[];
  /** Messages that are in Kafka; null: it is not where they go. */
  stored(): Promise<number | null>;
  /** The Kafka topic that they go to; null: none. */
  readonly topic: string | null;
  /** `kill -9` of all its processes, then a start on the same data. */
  killAndRestart(): Promise<void>;
  close(): Promise<void>;
}

export const PARTITIONS = 12;
/** Kafka is away: what is measured is the gateway up to its spool. */
export const NOBODY = '127.0.0.1:1';

const STREAM = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    time: ts
    sequence: seq
    metrics: [temperature, humidity, pressure]
`;

export async function startAedes(): Promise<Target> {
  const file = fileURLToPath(new URL('./bare-aedes.mjs', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout!, 'data')) as [Buffer];
  return {
    port: Number(line.toString()),
    topic: null,
    pids: () => [child.pid!],
    stored: async () => null,
    killAndRestart: () => Promise.reject(new Error('bare Aedes keeps nothing')),
    async close() {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

/** A gateway without a rollup. */
export async function startMillrace(brokers: string): Promise<Target> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
  const prefix = `bench-${randomUUID().slice(0, 8)}`;
  const kafka = `kafka: { brokers: ["${brokers}"], prefix: ${prefix}, partitions: ${PARTITIONS} }\n`;
  const options = { folder, yaml: `${kafka}${STREAM}`, role: 'gateway' } as const;
  let gateway: GatewayProcess = await startGateway(options);
  const { mqttPort, httpPort } = gateway;
  const side = brokers === NOBODY ? null : await kafkaSide(brokers);
  const topic = `${prefix}.readings`;
  return {
    port: mqttPort,
    topic: side ? topic : null,
    pids: () => [gateway.child.pid!],
    stored: async () => (await side?.count(topic)) ?? null,
    async killAndRestart() {
      await gateway.end('SIGKILL');
      gateway = await startGateway({ ...options, mqttPort, httpPort });
    },
    async close() {
      await gateway.end('SIGTERM');
      await side?.close((name) => name.startsWith(`${prefix}.`));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What is in Kafka, asked beside those who write to it. */
export async function kafkaSide(brokers: string) {
  const admin = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  return {
    admin,
    async count(topic: string): Promise<number> {
      const offsets = await admin.fetchTopicOffsets(topic).catch(() => []);
      return offsets.reduce((sum, { high }) => sum + Number(high), 0);
    },
    async close(ours: (topic: string) => boolean): Promise<void> {
      await admin.deleteTopics({ topics: (await admin.listTopics()).filter(ours) });
      await admin.disconnect();
    },
  };
}

/**
 * A peer on the same work: Mosquitto takes the messages, an agent behind it subscribes, parses the JSON, takes site and device
 * from the topic and writes each reading to Kafka, keyed by its device. Settings in their favour: Mosquitto's queue without a
 * bound, a persistent session (what ties the agent's acknowledgement to Kafka), large batches ten times a second.
 * Mosquitto is the system's.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findMosquitto, Mosquitto } from '../../support/mosquitto.ts';
import { until } from '../../support/until.ts';
import { kafkaSide, PARTITIONS, type Target } from '../ingress/target.ts';

const START_MS = 20_000;

export interface Agent {
  readonly name: string;
  readonly binary: string;
  /** Of a configuration file. */
  args(file: string): string[];
  /** The text of that file. */
  configuration(places: AgentPlaces): string;
  /** What its log says when it is connected to Mosquitto. */
  readonly connected: RegExp;
}

export interface AgentPlaces {
  readonly mqttPort: number;
  readonly brokers: readonly string[];
  readonly topic: string;
}

export async function startMosquittoWith(agent: Agent, brokers: string): Promise<Target> {
  const program = findMosquitto();
  if (!program) throw new Error('mosquitto is not installed');
  const broker = await Mosquitto.start(program, ['max_inflight_messages 0', 'log_type error']);
  const side = await kafkaSide(brokers).catch(async (failure) => {
    await broker.remove();
    throw failure;
  });
  const folder = mkdtempSync(join(tmpdir(), 'millrace-peer-'));
  const topic = `peer-${randomUUID().slice(0, 8)}`;
  const file = join(folder, 'agent.conf');
  const { port } = broker;
  let behind: ChildProcess | null = null;
  const start = async (): Promise<void> => {
    behind = spawn(agent.binary, agent.args(file), { stdio: ['ignore', 'pipe', 'pipe'] });
    let log = '';
    for (const stream of [behind.stdout!, behind.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        log = (log + text).slice(-20_000);
      });
    }
    await until(() => agent.connected.test(log), START_MS, `${agent.name} is connected`).catch((failure: Error) => {
      throw new Error(`${failure.message}: ${log}`);
    });
    // its subscription is on its way
    await sleep(500);
  };
  const end = async (): Promise<void> => {
    await broker.end('SIGKILL');
    if (!behind || behind.exitCode !== null || behind.signalCode !== null) return;
    const gone = once(behind, 'exit');
    behind.kill('SIGKILL');
    await gone;
  };
  const close = async (): Promise<void> => {
    await end();
    await broker.remove();
    await side.close((name) => name === topic);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    writeFileSync(file, agent.configuration({ mqttPort: port, brokers: brokers.split(','), topic }));
    await side.admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }] });
    await start();
  } catch (failure) {
    await close();
    throw failure;
  }
  return {
    port,
    topic,
    pids: () => [broker.pid, behind!.pid!],
    stored: () => side.count(topic),
    async killAndRestart() {
      await end();
      await broker.run();
      await start();
    },
    close,
  };
}

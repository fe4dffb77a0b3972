/**
 * A peer on the same work: Mosquitto takes the messages, Telegraf subscribes, parses the JSON, takes site and device from
 * the topic and writes each reading to Kafka, keyed by its device. Settings in its favour: Mosquitto's queue without a bound,
 * Telegraf's persistent session (what ties its acknowledgement to Kafka), large batches, a flush ten times a second.
 * Mosquitto is the system's.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../support/mosquitto.ts';
import { until } from '../../support/until.ts';
import { kafkaSide, PARTITIONS, type Target } from '../ingress/target.ts';
import { provisionTelegraf } from './telegraf.ts';

const START_MS = 20_000;

export async function startMosquittoTelegraf(brokers: string): Promise<Target> {
  const telegraf = provisionTelegraf();
  const folder = mkdtempSync(join(tmpdir(), 'millrace-peer-'));
  const topic = `peer-${randomUUID().slice(0, 8)}`;
  const port = await freePort();
  writeFileSync(join(folder, 'mosquitto.conf'), mosquittoConf(port, folder));
  writeFileSync(join(folder, 'telegraf.conf'), telegrafConf(port, brokers, topic));
  const side = await kafkaSide(brokers);
  await side.admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }] });
  let processes: ChildProcess[] = [];
  const start = async (): Promise<void> => {
    const mosquitto = spawn('mosquitto', ['-c', join(folder, 'mosquitto.conf')], { stdio: 'ignore' });
    const agent = spawn(telegraf, ['--config', join(folder, 'telegraf.conf')], { stdio: ['ignore', 'ignore', 'pipe'] });
    processes = [mosquitto, agent];
    let log = '';
    agent.stderr.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-20_000);
    });
    await until(() => log.includes('Connected [tcp://'), START_MS, `Telegraf is connected: ${log}`);
    // its subscription is on its way
    await sleep(500);
  };
  const end = async (): Promise<void> => {
    await Promise.all(
      processes.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, 'exit');
        child.kill('SIGKILL');
        await gone;
      }),
    );
  };
  await start();
  return {
    port,
    topic,
    pids: () => processes.map(({ pid }) => pid!),
    stored: () => side.count(topic),
    async killAndRestart() {
      await end();
      await start();
    },
    async close() {
      await end();
      await side.close((name) => name === topic);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function mosquittoConf(port: number, folder: string): string {
  return `listener ${port} 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location ${folder}/
max_queued_messages 0
max_inflight_messages 0
log_type error
`;
}

function telegrafConf(port: number, brokers: string, topic: string): string {
  const list = brokers
    .split(',')
    .map((broker) => `"${broker}"`)
    .join(', ');
  return `[agent]
  interval = "1s"
  flush_interval = "100ms"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:${port}"]
  topics = ["sensors/+/+/environment"]
  qos = 1
  persistent_session = true
  client_id = "telegraf"
  max_undelivered_messages = 20000
  data_format = "json_v2"
  [[inputs.mqtt_consumer.topic_parsing]]
    topic = "sensors/+/+/environment"
    tags = "_/site/device/_"
  [[inputs.mqtt_consumer.json_v2]]
    measurement_name = "environment"
    timestamp_path = "ts"
    timestamp_format = "unix_ms"
    [[inputs.mqtt_consumer.json_v2.field]]
      path = "seq"
      type = "int"
    [[inputs.mqtt_consumer.json_v2.field]]
      path = "temperature"
      type = "float"
    [[inputs.mqtt_consumer.json_v2.field]]
      path = "humidity"
      type = "float"
    [[inputs.mqtt_consumer.json_v2.field]]
      path = "pressure"
      type = "float"

[[outputs.kafka]]
  brokers = [${list}]
  topic = "${topic}"
  routing_tag = "device"
  required_acks = -1
  data_format = "json"
`;
}

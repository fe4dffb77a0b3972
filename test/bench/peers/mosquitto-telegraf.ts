/** Telegraf behind Mosquitto (mosquitto.ts), with a flush ten times a second. */
import type { Target } from '../ingress/target.ts';
import { type AgentPlaces, startMosquittoWith } from './mosquitto.ts';
import { provisionTelegraf } from './telegraf.ts';

export async function startMosquittoTelegraf(brokers: string): Promise<Target> {
  const agent = {
    name: 'Telegraf',
    binary: provisionTelegraf(),
    args: (file: string) => ['--config', file],
    configuration,
    connected: /Connected \[tcp:\/\//,
  };
  return startMosquittoWith(agent, brokers);
}

function configuration({ mqttPort, brokers, topic }: AgentPlaces): string {
  return `[agent]
  interval = "1s"
  flush_interval = "100ms"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:${mqttPort}"]
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
  brokers = ${JSON.stringify(brokers)}
  topic = "${topic}"
  routing_tag = "device"
  required_acks = -1
  data_format = "json"
`;
}

/**
 * Benthos behind Mosquitto (mosquitto.ts): what Redpanda Connect was called until 2024, and the last of its releases with all of
 * this under an open licence in one Go module. It writes the same JSON as Telegraf. Its defaults of threads and requests in
 * flight, which are quicker and do not keep the order of a device; not its compression, snappy, which the reader that
 * looks for what was lost does not know.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder } from '../../../compose/stack/provision.ts';
import type { Target } from '../ingress/target.ts';
import { type AgentPlaces, startMosquittoWith } from './mosquitto.ts';

const VERSION = 'v4.27.0';

export async function startMosquittoBenthos(brokers: string): Promise<Target> {
  const agent = {
    name: 'Benthos',
    binary: provision(),
    args: (file: string) => ['--config', file],
    configuration,
    connected: /Input type mqtt is now active/,
  };
  return startMosquittoWith(agent, brokers);
}

/** Built once from its Go module into the cache folder. */
function provision(): string {
  const folder = join(cacheFolder(), 'benthos');
  const script = fileURLToPath(new URL('build-benthos.sh', import.meta.url));
  const built = spawnSync('bash', [script, folder, VERSION], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (built.status !== 0) throw new Error('Benthos could not be built; what is missing is said above');
  return join(folder, `benthos-${VERSION}`);
}

function configuration({ mqttPort, brokers, topic }: AgentPlaces): string {
  return `http: { enabled: false }
input:
  mqtt:
    urls: ["tcp://127.0.0.1:${mqttPort}"]
    topics: ["sensors/+/+/environment"]
    qos: 1
    clean_session: false
    client_id: benthos
pipeline:
  processors:
    - mapping: |
        let levels = @mqtt_topic.split("/")
        root.name = "environment"
        root.tags = { "site": $levels.index(1), "device": $levels.index(2) }
        root.fields = this.without("ts")
        root.timestamp = this.ts / 1000
        meta device = $levels.index(2)
output:
  kafka_franz:
    seed_brokers: ${JSON.stringify(brokers)}
    topic: "${topic}"
    key: \${! @device }
    compression: none
    batching: { count: 5000, period: 100ms }
logger: { level: INFO }
`;
}

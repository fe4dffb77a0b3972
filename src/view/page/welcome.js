// Before the first reading: how to send one, as a command that can be copied.
import { byId, setText } from './dom.js';

/** `listeners`: MQTT addresses; `streams` as `/api/v1/streams` describes them. */
export function showWelcome(listeners, streams) {
  const stream = streams.find(({ format }) => format === 'json') ?? streams[0];
  const address = listeners.find((url) => url.startsWith('mqtt:')) ?? listeners[0];
  if (!stream || !address) return;
  byId('welcome').hidden = stream.format !== 'json' || !address.startsWith('mqtt:');
  setText(byId('welcome-command'), command(new URL(address), stream));
}

function command({ hostname, port }, { topic, metrics, time, sequence, key }) {
  const payload = {};
  if (time) payload[time] = Date.now();
  if (sequence) payload[sequence] = 1;
  for (const metric of metrics) payload[metric] = 20;
  if (!topic.includes(`{${key}}`)) payload[key] = 'first';
  const where = topic
    .replace(/\{(\w+)\}/g, 'my-$1')
    .replaceAll('+', 'x')
    .replaceAll('#', 'x');
  return `mosquitto_pub -h ${hostname} -p ${port} -q 1 \\\n  -t ${where} \\\n  -m '${JSON.stringify(payload)}'`;
}

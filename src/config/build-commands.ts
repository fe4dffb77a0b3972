/** The `commands:` section: from what the user wrote to `CommandsConfig`, with everything that cannot work reported. */
import type { CommandsConfig } from '../command.ts';
import { type Report, show } from './report.ts';
import type { Settings } from './schema.ts';

export function buildCommands({ commands, mqtt }: Settings, report: Report): CommandsConfig | null {
  if (commands === null) return null;
  const { topic, client, responses, ttl, pending, pending_per_device: pendingPerDevice, rate } = commands;
  const mustName = (key: string, text: string | null, names: readonly string[]) => {
    const at = `/commands/${key}`;
    if (text === null || report.isBroken(at)) return;
    const found = [...text.matchAll(/\{([^{}]*)\}/g)].map((match) => match[1]!);
    const unknown = found.find((name) => !names.includes(name));
    if (unknown !== undefined) {
      report.mistake(at, {
        message: `${show(text)} has {${unknown}}`,
        value: text,
        expected: `{${names.join('}, {')}} only`,
      });
    } else if (key !== 'responses' && found.filter((name) => name === 'device').length !== 1) {
      report.mistake(at, { message: `${show(text)} must name {device} once`, value: text });
    }
  };
  mustName('topic', topic, ['device']);
  mustName('client', client, ['device']);
  mustName('responses', responses, ['device', 'id']);
  for (const [key, text] of [
    ['topic', topic],
    ['responses', responses],
  ] as const) {
    if (text === null || report.isBroken(`/commands/${key}`) || !/[+#\0]|^\$/.test(text)) continue;
    report.mistake(`/commands/${key}`, { message: `${show(text)} is not a topic to publish on`, value: text });
  }
  return {
    topic,
    client,
    responses,
    ttlMs: ttl,
    pending,
    pendingPerDevice,
    rate,
    payloadBytes: mqtt.limits.packet - PACKET_BYTES,
  };
}

/** What a packet has beside its payload: header, topic, identifier. */
const PACKET_BYTES = 512;

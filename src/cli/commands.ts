/**
 * `millrace commands send` and `list`: commands to devices. With Kafka both use the topic of commands, without it the log in the
 * data folder, which a running gateway writes (so `send` asks it), and else this command.
 */
import { systemClock } from '../clock.ts';
import { commandRecord, decodeCommand, MAX_TTL_MS } from '../command.ts';
import type { Config } from '../config.ts';
import type { Outcome } from '../errors.ts';
import { CommandBook, showCommand } from '../parts/command-book.ts';
import { openCommandReader, openCommandWriter } from '../parts/command-log.ts';
import { silentTelemetry } from '../telemetry.ts';
import { parseDurationMs } from '../units.ts';
import { findGateway } from './gateway-api.ts';
import { type ConfigOptions, readConfig } from './open.ts';
import { EXIT, report, type Terminal } from './terminal.ts';

export async function list(
  options: ConfigOptions & { device?: string; limit: string; json?: boolean },
  terminal: Terminal,
): Promise<number> {
  const limit = Number(options.limit);
  if (!Number.isSafeInteger(limit) || limit < 1) {
    terminal.err(`millrace: --limit ${options.limit} is not a number from 1 on`);
    return EXIT.usage;
  }
  const config = await configured(options, terminal);
  if (typeof config === 'number') return config;
  const reader = openCommandReader(config, silentTelemetry());
  const book = new CommandBook(config.commands!);
  const nowMs = systemClock.nowMs();
  try {
    const known = await reader.offsets(0);
    if (!known.ok) {
      if (config.kafka) return report(known.failure, terminal);
      // The gateway makes the log when it first starts.
      if (!options.json) terminal.out('No commands.');
      return EXIT.ok;
    }
    const start = await reader.offsetAtTime(0, nowMs - MAX_TTL_MS);
    if (!start.ok) return report(start.failure, terminal);
    const { firstOffset, endOffset } = known.value;
    for await (const { records } of reader.range(0, Math.max(start.value, firstOffset), endOffset)) {
      for (const record of records) book.take(record);
    }
  } finally {
    await reader.close();
  }
  const found = book
    .list(nowMs)
    .filter(({ device }) => options.device === undefined || device === options.device)
    .slice(0, limit)
    .map(showCommand);
  for (const command of found) {
    if (options.json) terminal.out(JSON.stringify(command));
    else {
      const { id, device, state, createdMs, atMs, gateway, reason, response } = command;
      const more = reason ?? (response === null ? '' : `answer: ${response.slice(0, 100)}`);
      const times = `${new Date(createdMs).toISOString()}  ${state.padEnd(9)} ${new Date(atMs).toISOString()}`;
      terminal.out(`${id.padEnd(18)} ${device.padEnd(12)} ${times}  ${gateway ?? ''}  ${more}`.trimEnd());
    }
  }
  if (found.length === 0 && !options.json) terminal.out('No commands.');
  return EXIT.ok;
}

export interface SendOptions extends ConfigOptions {
  readonly device: string;
  readonly payload: string;
  readonly id?: string;
  readonly ttl?: string;
  readonly responseTopic?: string;
  readonly json?: boolean;
}

export async function send(options: SendOptions, terminal: Terminal): Promise<number> {
  const config = await configured(options, terminal);
  if (typeof config === 'number') return config;
  const ttlMs = options.ttl === undefined ? null : parseDurationMs(options.ttl);
  if (options.ttl !== undefined && !ttlMs) {
    terminal.err(`millrace: --ttl ${options.ttl} is not a duration such as 10m or 1h`);
    return EXIT.usage;
  }
  const nowMs = systemClock.nowMs();
  const body = {
    id: options.id ?? `${nowMs.toString(36)}-${Math.random().toString(36).slice(2, 10)}`,
    device: options.device,
    payload: jsonOrText(options.payload),
    ...(ttlMs === null ? undefined : { ttl_s: ttlMs / 1_000 }),
    ...(options.responseTopic === undefined ? undefined : { response_topic: options.responseTopic }),
  };
  const checked = decodeCommand({ ...commandRecord(options.device, body, nowMs), offset: 0 }, config.commands!);
  if ('reason' in checked) {
    terminal.err(`millrace: ${checked.reason}`);
    return EXIT.usage;
  }
  const sent = await append(config, options.device, body, nowMs);
  if (!sent.ok) return report(sent.failure, terminal);
  if (options.json) terminal.out(JSON.stringify({ id: body.id }));
  else terminal.out(`${body.id} is queued for ${options.device}.`);
  return EXIT.ok;
}

async function append(config: Config, device: string, body: object, nowMs: number): Promise<Outcome> {
  if (!config.kafka) {
    const gateway = await findGateway(config.http);
    if (!gateway.ok) return gateway;
    if (gateway.value) return gateway.value.command(body);
  }
  const writer = await openCommandWriter(config, silentTelemetry());
  if (!writer.ok) return writer;
  try {
    return await writer.value.append([commandRecord(device, body, nowMs)]);
  } finally {
    await writer.value.close();
  }
}

async function configured(options: ConfigOptions, terminal: Terminal): Promise<Config | number> {
  const config = await readConfig(options, terminal);
  if (typeof config === 'number' || config.commands) return config;
  terminal.err(`millrace: ${options.config} has no commands: section, so there are no commands`);
  return EXIT.usage;
}

/** What looks like JSON is JSON, anything else the text itself. */
function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

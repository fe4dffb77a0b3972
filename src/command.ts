/**
 * Commands to devices: what stands in the log of commands, which is all that is known of them. Two kinds of records, both JSON:
 *
 * A command, written by whoever wants something of a device, with the device as its key:
 *   {"device":"d1","payload":{"fan":"on"},"id":"c-17","ttl_s":3600,"expires_at":1700000000000,"response_topic":"..."}
 *   Only `payload` is needed: `device` may be the key; a payload that is text is sent as it is, anything else as JSON,
 *   `payload_base64` as bytes; `id` is else the place in the log; `ttl_s` (from the record's stamp) or `expires_at` (epoch ms)
 *   are else the configured time to live; `response_topic` is else the configured one, with {device} and {id} filled in.
 * An outcome, written by gateways: {"id":"c-17","state":"delivered","at":1700000000000,"gateway":"plant-7"}.
 */
import type { LogRecord, StoredRecord } from './log.ts';

export interface CommandsConfig {
  /** Where the device listens: a topic with `{device}`. */
  readonly topic: string;
  /** Its client id, with `{device}`. */
  readonly client: string;
  /** Null: no response is expected, unless the command names a topic. */
  readonly responses: string | null;
  readonly ttlMs: number;
  /** Commands that wait, in all and for one device; further ones are refused. */
  readonly pending: number;
  readonly pendingPerDevice: number;
  /** Commands and outcomes read per second. */
  readonly rate: number;
  readonly payloadBytes: number;
}

export const MAX_TTL_MS = 30 * 86_400_000;
const NAME = /^[^\p{Cc}\p{Cs}/+#]{1,128}$/u;
const MAX_RESPONSE_BYTES = 4_096;

export interface Command {
  readonly id: string;
  readonly device: string;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly createdMs: number;
  readonly expiresMs: number;
  readonly responseTopic: string | null;
}

/** `queued` is not written: it is what a command is until something else is. */
export type CommandState = 'queued' | 'delivered' | 'answered' | 'expired' | 'refused';

export interface CommandOutcome {
  readonly id: string;
  readonly state: Exclude<CommandState, 'queued'>;
  readonly atMs: number;
  readonly gateway: string;
  /** What the device said; its beginning, where it is long. */
  readonly response?: string;
}

/** A command that cannot be one, with the name under which it is listed. */
export interface BadCommand {
  readonly id: string;
  readonly device: string;
  readonly reason: string;
}

export function decodeCommand(record: StoredRecord, config: CommandsConfig): Command | BadCommand {
  const place = `0-${record.offset}`;
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(Buffer.from(record.value).toString());
  } catch {
    return { id: place, device: record.key, reason: 'is not JSON' };
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    return { id: place, device: record.key, reason: 'is not a JSON object' };
  }
  const { id = place, device = record.key } = parsed;
  const named = { id: String(id).slice(0, 128), device: String(device).slice(0, 128) };
  const bad = (reason: string): BadCommand => ({ ...named, reason });
  if (typeof id !== 'string' || !NAME.test(id))
    return bad(`id: ${show(id)} is not text of 1 to 128 characters without / + #`);
  if (typeof device !== 'string' || !NAME.test(device)) {
    return bad(`device: ${show(device)} is not the name of a device; give it as "device" or as the record's key`);
  }
  const payload = payloadOf(parsed);
  if (typeof payload === 'string') return bad(payload);
  if (payload.length > config.payloadBytes) {
    return bad(`payload: ${payload.length} bytes are more than a packet of ${config.payloadBytes} takes`);
  }
  const expiresMs = expiryOf(parsed, record.receivedMs, config);
  if (typeof expiresMs === 'string') return bad(expiresMs);
  const { response_topic: written = null } = parsed;
  if (written !== null && (typeof written !== 'string' || written === '' || /[+#\0]|^\$/.test(written))) {
    return bad(`response_topic: ${show(written)} is not a topic to publish on`);
  }
  const filled = (template: string) => template.replaceAll('{device}', device).replaceAll('{id}', id);
  const template = (written as string | null) ?? config.responses;
  return {
    id,
    device,
    topic: filled(config.topic),
    payload,
    createdMs: record.receivedMs,
    expiresMs,
    responseTopic: template === null ? null : filled(template),
  };
}

function payloadOf(parsed: Record<string, unknown>): Buffer | string {
  const { payload, payload_base64: base64 } = parsed;
  if (base64 !== undefined) {
    if (payload !== undefined) return 'payload: there is a payload_base64 too';
    if (typeof base64 !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(base64)) return 'payload_base64: is not base64';
    return Buffer.from(base64, 'base64');
  }
  if (payload === undefined) return 'payload: is missing';
  return Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload));
}

function expiryOf({ ttl_s: ttl, expires_at: at }: Record<string, unknown>, fromMs: number, config: CommandsConfig) {
  if (ttl !== undefined && at !== undefined) return 'ttl_s: there is an expires_at too';
  if (ttl !== undefined && !(typeof ttl === 'number' && ttl > 0 && ttl * 1_000 <= MAX_TTL_MS)) {
    return `ttl_s: ${show(ttl)} is not a number of seconds up to ${MAX_TTL_MS / 1_000}`;
  }
  if (at === undefined) return fromMs + (ttl === undefined ? config.ttlMs : Number(ttl) * 1_000);
  if (typeof at !== 'number' || !Number.isSafeInteger(at) || at > fromMs + MAX_TTL_MS) {
    return `expires_at: ${show(at)} is not epoch milliseconds within ${MAX_TTL_MS / 86_400_000} days`;
  }
  return at;
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').slice(0, 100);
}

/** A command as the log keeps it; what is wrong with it is found where it is read. */
export function commandRecord(device: string, body: object, receivedMs: number): LogRecord {
  const value = Buffer.from(JSON.stringify(body));
  return { kind: 'command', key: device, receivedMs, stream: '', topic: '', value };
}

export function outcomeRecord({ id, state, atMs, gateway, response }: CommandOutcome, device: string): LogRecord {
  const said = response === undefined ? undefined : { response: response.slice(0, MAX_RESPONSE_BYTES) };
  const value = Buffer.from(JSON.stringify({ id, state, at: atMs, gateway, ...said }));
  return { kind: 'outcome', key: device, receivedMs: atMs, stream: '', topic: '', value };
}

/** Null when the value is not one of ours. */
export function decodeOutcome({ value }: StoredRecord): CommandOutcome | null {
  try {
    const { id, state, at, gateway, response } = JSON.parse(Buffer.from(value).toString());
    if (typeof id !== 'string' || !['delivered', 'answered', 'expired', 'refused'].includes(state)) return null;
    return { id, state, atMs: at, gateway, ...(typeof response === 'string' ? { response } : undefined) };
  } catch {
    return null;
  }
}

/** The device whose client id this is, or null. */
export function deviceOfClient(template: string, clientId: string): string | null {
  const [before, after = ''] = template.split('{device}') as [string, string?];
  if (clientId.length <= before.length + after.length) return null;
  if (!clientId.startsWith(before) || !clientId.endsWith(after)) return null;
  return clientId.slice(before.length, clientId.length - after.length);
}

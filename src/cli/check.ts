/**
 * `millrace check`: every mistake in a configuration, one line each with its place; or, with a topic and a payload, what
 * would become of that message. Exit 0 = valid (and the message accepted), 1 = the message would be refused, 2 = the
 * configuration or the command line is wrong. With a schema: what it would refuse of a stream's history (rehearse.ts).
 * The answer goes to stdout; with `json` it is one object, which of a valid configuration has the rules that its windows follow, for
 * programs that make windows of the same log (compose/spark).
 */
import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { systemClock } from '../clock.ts';
import { formatMistake, formatPlace, type Mistake } from '../config/report.ts';
import { type Config, type Loaded, loadConfig, type RollupConfig } from '../config.ts';
import { messageOf } from '../errors.ts';
import { readUsers } from '../ingress/users.ts';
import { loadAssets } from '../inspect/assets.ts';
import { DEFAULT_LIMITS } from '../inspect/inspect.ts';
import { kafkaTopics } from '../journal/kafka-topics.ts';
import { readExamples } from '../parts/understand.ts';
import type { Stream } from '../stream.ts';
import { rehearse } from './rehearse.ts';
import { EXIT, progress } from './terminal.ts';
import { describeTrace, loadInspector, type Trace, trace } from './trace.ts';

export interface CheckOptions {
  readonly config: string;
  readonly topic?: string;
  /** A file, or `-` for `input`. */
  readonly payload?: string;
  /** Another schema for a stream, to be tried on its history. */
  readonly schema?: string;
  readonly last?: string;
  readonly stream?: string;
  readonly data?: string;
  readonly json?: boolean;
  /** stderr is a terminal: progress may be drawn. */
  readonly interactive?: boolean;
  readonly colour: boolean;
  /** Prints one line. */
  readonly out: (line: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly input?: AsyncIterable<Uint8Array | string>;
  readonly nowMs?: number;
}

const MAX_PAYLOAD_BYTES = 256 * 1024 * 1024;

export async function check(options: CheckOptions): Promise<number> {
  const { config: file, topic, payload: payloadFile, json = false } = options;
  if ((topic === undefined) !== (payloadFile === undefined)) {
    return usage(options, '--topic and --payload go together: a message has both');
  }
  const needsSchema = (['last', 'stream', 'data'] as const).find((name) => options[name] !== undefined);
  if (options.schema === undefined && needsSchema) return usage(options, `--${needsSchema} goes with --schema`);
  if (options.schema !== undefined && topic !== undefined) {
    return usage(options, '--schema is tried on what was received, --topic and --payload are one message: not both');
  }
  const loaded = await loadConfig(file, options.env);
  const mistakes = loaded.ok ? await assetMistakes(loaded) : loaded.mistakes;
  if (!loaded.ok || mistakes.length > 0) {
    answer(options, { valid: false, file, mistakes, warnings: loaded.warnings });
    return EXIT.usage;
  }
  const { config, warnings } = loaded;
  if (options.schema !== undefined) {
    const { schema, last, stream, data, out, interactive = false } = options;
    const progressed = progress({ interactive }, () => systemClock.monotonicMs());
    const of = data === undefined ? config : { ...config, data: resolve(data) };
    const nowMs = options.nowMs ?? systemClock.nowMs();
    const code = await rehearse(of, { schema, last, stream, json, nowMs, out, progress: progressed });
    return typeof code === 'string' ? usage(options, code) : code;
  }
  if (topic === undefined || payloadFile === undefined) {
    answer(options, { valid: true, file, mistakes, warnings, rules: rulesOf(config) });
    if (!json) options.out(summary(config));
    return EXIT.ok;
  }
  const payload = await readPayload(payloadFile, options.input ?? process.stdin);
  if (typeof payload === 'string') return usage(options, payload);
  const inspect = await loadInspector(config);
  if (!inspect.ok) return usage(options, inspect.failure.message);
  const traced = trace(config, inspect.value, topic, payload, options.nowMs ?? systemClock.nowMs());
  if (json) answer(options, { valid: true, file, mistakes, warnings, message: traced });
  else for (const line of describeTrace(traced, config)) options.out(paintTrace(line, options.colour));
  return traced.accepted ? EXIT.ok : EXIT.no;
}

/** Files that are there but cannot be used: schemas, registries, labelled messages, users; one mistake for each. */
async function assetMistakes({ config, mistakeAt }: Extract<Loaded, { ok: true }>): Promise<Mistake[]> {
  const mistakes: Mistake[] = [];
  for (const stream of Object.values(config.streams)) {
    const at = `/streams/${stream.name}`;
    const parts = [
      { pointer: `${at}/schema`, part: { ...stream, enrich: null } },
      { pointer: `${at}/enrich/registry`, part: { ...stream, schema: null } },
    ];
    for (const { pointer, part } of parts) {
      const loaded = await loadAssets([part], DEFAULT_LIMITS);
      if (!loaded.ok) mistakes.push(mistakeAt(pointer, loaded.failure.message.replace(/\.$/, '')));
    }
    if (stream.understand) {
      const examples = await readExamples(stream.understand.intents);
      if (!examples.ok) mistakes.push(mistakeAt(`${at}/understand/intents`, examples.failure.message));
    }
  }
  const users = readUsers(config.mqtt.auth.users);
  if (!users.ok) mistakes.push(mistakeAt('/mqtt/auth/users', users.failure.message.replace(/\.$/, '')));
  return mistakes.sort((a, b) => a.line - b.line || a.column - b.column);
}

interface Answer {
  readonly valid: boolean;
  readonly file: string;
  readonly mistakes: readonly Mistake[];
  readonly warnings: readonly Mistake[];
  readonly message?: Trace;
  readonly rules?: Rules;
}

/** With every default filled in. */
interface Rules extends Pick<RollupConfig, 'graceMs' | 'disorderMs' | 'skewMs' | 'continues'> {
  /** Null: the spool is the log. `registry`: values are in the frame of a schema registry. */
  readonly kafka: { readonly brokers: readonly string[]; readonly topic: string; readonly registry: boolean } | null;
  readonly streams: Readonly<
    Record<string, Pick<Stream, 'metrics' | 'windows'> & { readonly distinct: readonly string[] }>
  >;
}

function rulesOf({ rollup, streams, kafka }: Config): Rules {
  const { graceMs, disorderMs, skewMs, continues } = rollup;
  const ofStream = ({ name, metrics, windows, distinct = [] }: Stream) =>
    [name, { metrics, windows, distinct }] as const;
  return {
    ...{ graceMs, disorderMs, skewMs, continues },
    kafka: kafka && {
      brokers: kafka.brokers,
      topic: kafkaTopics(kafka).readings.name,
      registry: kafka.schemaRegistry !== null,
    },
    streams: Object.fromEntries(Object.values(streams).map(ofStream)),
  };
}

function answer({ json = false, colour, out }: CheckOptions, result: Answer): void {
  if (json) {
    out(JSON.stringify(result));
    return;
  }
  const { mistakes, warnings, file } = result;
  for (const mistake of mistakes) out(paint(mistake, '', RED, colour));
  for (const warning of warnings) out(paint(warning, 'warning: ', YELLOW, colour));
  if (mistakes.length > 0) out(`${file}: ${mistakes.length} ${mistakes.length === 1 ? 'mistake' : 'mistakes'}`);
}

function usage({ json = false, out }: CheckOptions, error: string): number {
  out(json ? JSON.stringify({ error }) : `millrace: ${error}`);
  return EXIT.usage;
}

function summary({ file, streams, mqtt, kafka, influx }: Config): string {
  const names = Object.keys(streams);
  const ports = mqtt.listeners.map(({ host, port }) => `${host}:${port}`).join(', ') || 'no port';
  const log = kafka ? `Kafka at ${kafka.brokers.join(', ')}` : 'the spool is the log';
  const store = influx ? `InfluxDB at ${influx.url}` : 'the embedded store';
  return `${file} is valid: ${names.length === 1 ? 'stream' : 'streams'} ${names.join(', ')}; MQTT on ${ports}; ${log}; ${store}.`;
}

async function readPayload(file: string, input: AsyncIterable<Uint8Array | string>): Promise<Uint8Array | string> {
  const tooLarge = `the payload has more than ${MAX_PAYLOAD_BYTES} bytes, which no MQTT packet can carry`;
  if (file !== '-') {
    try {
      if ((await stat(file)).size > MAX_PAYLOAD_BYTES) return tooLarge;
      return await readFile(file);
    } catch (error) {
      return `the payload cannot be read: ${messageOf(error)}`;
    }
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of input) {
    const part = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    bytes += part.length;
    if (bytes > MAX_PAYLOAD_BYTES) return tooLarge;
    chunks.push(part);
  }
  return Buffer.concat(chunks);
}

const RED = '31';
const YELLOW = '33';
const GREEN = '32';

function paint(mistake: Mistake, label: string, code: string, colour: boolean): string {
  const place = formatPlace(mistake);
  const rest = formatMistake(mistake).slice(place.length + 2);
  return colour ? `\x1b[1m${place}:\x1b[0m \x1b[${code}m${label}\x1b[0m${rest}` : `${place}: ${label}${rest}`;
}

function paintTrace(line: string, colour: boolean): string {
  if (!colour) return line;
  return line.replace(/^(REFUSED|ACCEPTED)/, (word) => `\x1b[${word === 'REFUSED' ? RED : GREEN}m${word}\x1b[0m`);
}

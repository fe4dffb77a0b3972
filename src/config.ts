/**
 * What the user's YAML file says, checked and with every default filled in. Sizes are bytes, durations milliseconds.
 * `loadConfig` finds every mistake at once, before any socket opens: in the YAML (config/document.ts), against the
 * declaration (config/schema.ts, config/shape.ts), between settings (config/check.ts, config/build-*.ts),
 * and in the files that it names (config/files.ts). Paths in the file are relative to the file.
 */
import { readFile, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import type { CommandsConfig } from './command.ts';
import { buildInflux, buildIngest, buildMqtt, buildRollup, buildSpool } from './config/build.ts';
import { type AlertsConfig, buildAlerts } from './config/build-alerts.ts';
import { buildCommands } from './config/build-commands.ts';
import { buildKafka } from './config/build-kafka.ts';
import { buildStreams } from './config/build-streams.ts';
import { checkSettings } from './config/check.ts';
import { type Environment, readDocument } from './config/document.ts';
import { checkFiles, type NamedFile } from './config/files.ts';
import type { KafkaSasl, SchemaRegistryConfig } from './config/kafka.ts';
import { type Mistake, Report } from './config/report.ts';
import { SETTINGS, type Settings } from './config/schema.ts';
import { checkShape } from './config/shape.ts';
import { messageOf } from './errors.ts';
import type { Stream } from './stream.ts';
import { formatBytes } from './units.ts';

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | null;
  readonly clientCertificate: 'none' | 'optional' | 'required';
}

export interface Listener {
  readonly host: string;
  /** 0 = any free port (tests). */
  readonly port: number;
  readonly tls: TlsFiles | null;
  readonly websocket: boolean;
}

/** Every limit of the MQTT side. A reached limit refuses or stops reading; it never drops what was acknowledged. */
export interface MqttLimits {
  readonly connections: number;
  /** Bytes of one MQTT packet, checked before it is buffered. */
  readonly packetBytes: number;
  /** Publishes of one client that wait for their acknowledgement. */
  readonly pendingPerClient: number;
  /** Payload bytes of all clients that wait for their acknowledgement. */
  readonly pendingBytes: number;
  /** Publishes per second of one user; 0 = unlimited. */
  readonly ratePerClient: number;
  readonly connectTimeoutMs: number;
  readonly keepaliveMaxMs: number;
  readonly clientIdLength: number;
  readonly topicLevels: number;
  readonly retainedMessages: number;
  readonly offlineSessions: number;
  /** Messages queued for one offline session. */
  readonly offlineQueue: number;
  readonly subscriptionsPerClient: number;
  /** A subscriber that does not read for this long is disconnected. */
  readonly drainTimeoutMs: number;
  /** Replies that wait in memory for a client that does not read them; above this it is not read from either. */
  readonly unsentBytes: number;
  /** SUBSCRIBE and UNSUBSCRIBE packets of one client per second: each may bring thousands of retained messages. */
  readonly subscribeRate: number;
  readonly qos2Window: number;
  /** Passwords that wait to be checked. */
  readonly logins: number;
  /** Live copies per second for local subscribers, all together. */
  readonly forwards: number;
}

export interface BridgeSource {
  readonly url: string;
  readonly topics: readonly string[];
  readonly clientId: string;
  readonly username: string | null;
  readonly password: string | null;
  readonly tls: { readonly ca: string | null; readonly cert: string | null; readonly key: string | null } | null;
}

export interface MqttConfig {
  readonly listeners: readonly Listener[];
  readonly auth: { readonly anonymous: boolean; readonly users: string | null };
  readonly limits: MqttLimits;
  readonly sources: readonly BridgeSource[];
}

export interface SpoolConfig {
  /** All segments together; at this the gateway stops acknowledging. */
  readonly maxBytes: number;
  readonly segmentBytes: number;
  /** Segments that every reader has passed are kept up to this much, for `verify`, `recompute` and `audit`. */
  readonly historyBytes: number;
  /** Least time between the starts of two group commits while busy. */
  readonly commitIntervalMs: number;
  /** Entries by device and minute in one of the gateway's accounts; devices beyond are counted together. */
  readonly accountDevices: number;
}

export interface KafkaConfig {
  readonly brokers: readonly string[];
  readonly prefix: string;
  readonly partitions: number;
  readonly replicationFactor: number;
  readonly compression: 'none' | 'gzip';
  /** How long `forward` waits for more records to fill a request. */
  readonly lingerMs: number;
  /** Records of one partition in one produce request, before they are packed. */
  readonly batchBytes: number;
  /** Records of all partitions in one produce request. */
  readonly requestBytes: number;
  readonly requestTimeoutMs: number;
  readonly sessionTimeoutMs: number;
  readonly group: string;
  /** Of one partition in one answer, packed. */
  readonly fetchBytes: number;
  /** How long a broker waits for records before it answers with none. */
  readonly fetchWaitMs: number;
  /** Missing topics are created at the start. */
  readonly createTopics: boolean;
  /** There is a topic of commands. Absent: none. */
  readonly commands?: boolean;
  readonly tls: { readonly ca: string | null; readonly cert: string | null; readonly key: string | null } | null;
  readonly sasl: KafkaSasl | null;
  /** Null: readings are JSON without a frame. */
  readonly schemaRegistry: SchemaRegistryConfig | null;
}

export interface InfluxConfig {
  readonly url: string;
  readonly org: string;
  /** Prefix: window size W is kept in bucket `<bucket>_W`, running values in `<bucket>_live`. */
  readonly bucket: string;
  readonly token: string;
  readonly timeoutMs: number;
  /** Missing buckets are created at the start; the token must be allowed to. */
  readonly createBuckets: boolean;
  /** Window label -> how long its rows are kept; absent = for ever. */
  readonly retentionMs: Readonly<Record<string, number>>;
}

export interface HttpConfig {
  readonly host: string;
  readonly port: number;
  /** Needed for what changes anything (requeue); null = such calls are refused. */
  readonly token: string | null;
}

/** Readings by HTTP POST. */
export interface IngestConfig {
  readonly host: string;
  readonly port: number;
  readonly tls: { readonly cert: string; readonly key: string } | null;
  /** Origins whose web pages may send; `*` = any. */
  readonly cors: readonly string[];
  readonly connections: number;
  readonly bodyBytes: number;
  /** In one request. */
  readonly messages: number;
}

export interface RollupConfig {
  readonly graceMs: number;
  readonly disorderMs: number;
  readonly tickMs: number;
  /** 2: windows above a minute are merged by a second stage, from closed minutes. Needs Kafka. */
  readonly stages: 1 | 2;
  /** The log goes on where another one ended: kafka.continues. */
  readonly continues?: boolean;
  /** Where a rollup without a commit begins in Kafka: kafka.start; a time in milliseconds. Absent: earliest. */
  readonly begin?: 'latest' | number;
  readonly skewMs: number;
  readonly repair: 'auto' | 'off';
  /** How long a window with late readings waits for more of them before it is repaired. */
  readonly repairDelayMs: number;
  readonly maxSeries: number;
  readonly flushMs: number;
  readonly liveMs: number;
}

export interface Config {
  /** Where it was read from; '' for the built-in demo configuration. */
  readonly file: string;
  /** Absolute path of the data folder. */
  readonly data: string;
  readonly gateway: string;
  readonly ack: 'spool' | 'kafka';
  readonly mqtt: MqttConfig;
  readonly spool: SpoolConfig;
  /** Of the embedded store: all rows together. */
  readonly store: { readonly maxBytes: number };
  /** Null: the spool is the log. */
  readonly kafka: KafkaConfig | null;
  /** Null: the embedded store. */
  readonly influx: InfluxConfig | null;
  readonly http: HttpConfig;
  /** Of each thread. */
  readonly log: { readonly linesPerSecond: number };
  /** Null: none. */
  readonly ingest: IngestConfig | null;
  readonly rollup: RollupConfig;
  readonly score: {
    readonly maxSeries: number;
    readonly model: { readonly batch: number; readonly queue: number; readonly timeoutMs: number };
  };
  /** Null: nobody is to be told anything. */
  readonly alerts: AlertsConfig | null;
  /** Null: nobody may send commands. */
  readonly commands: CommandsConfig | null;
  readonly streams: Readonly<Record<string, Stream>>;
}

export type Loaded =
  | {
      readonly ok: true;
      readonly config: Config;
      /** What the file says, in its own keys, with the defaults. */
      readonly settings: Settings;
      readonly warnings: readonly Mistake[];
      /** A mistake that shows only later, such as a schema that cannot be compiled, at its place: `/streams/a/schema`. */
      readonly mistakeAt: (pointer: string, message: string) => Mistake;
    }
  /** In the order of the file. */
  | { readonly ok: false; readonly mistakes: readonly Mistake[]; readonly warnings: readonly Mistake[] };

/** A configuration file is not larger. */
const MAX_FILE_BYTES = 1024 * 1024;

/** `hostName` is the gateway's name where the file gives none. */
export async function loadConfig(file: string, env: Environment, hostName: string = hostname()): Promise<Loaded> {
  let text: string;
  try {
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) {
      return unreadable(
        file,
        `has ${formatBytes(size)}, more than a configuration of ${formatBytes(MAX_FILE_BYTES)} can`,
      );
    }
    text = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(file));
  } catch (error) {
    return unreadable(file, `cannot be read: ${messageOf(error)}`);
  }
  const { report, config, settings, files } = examine(text, {
    file,
    env,
    baseFolder: dirname(resolve(file)),
    hostName,
  });
  await checkFiles(files, report);
  return conclude(report, config, settings);
}

/** All of `loadConfig` but the files: pure. */
export function parseConfig(
  text: string,
  options: { file: string; env: Environment; baseFolder: string; hostName: string },
): Loaded {
  const { report, config, settings } = examine(text, options);
  return conclude(report, config, settings);
}

function unreadable(file: string, message: string): Loaded {
  const place = { file, line: 0, column: 0, path: '' };
  const wayOut = 'name another file with --config';
  return {
    ok: false,
    mistakes: [{ ...place, message, value: null, expected: null, nearest: null, wayOut }],
    warnings: [],
  };
}

function conclude(report: Report, config: Config | null, settings: Settings | null): Loaded {
  const warnings = inFileOrder(report.warnings);
  if (config === null || settings === null || report.mistakes.length > 0)
    return { ok: false, mistakes: inFileOrder(report.mistakes), warnings };
  return { ok: true, config, settings, warnings, mistakeAt: (pointer, message) => report.make(pointer, { message }) };
}

function inFileOrder(mistakes: readonly Mistake[]): Mistake[] {
  return [...mistakes].sort((a, b) => a.line - b.line || a.column - b.column);
}

/** The config holds placeholders where there are mistakes: of use only when there are none. */
function examine(
  text: string,
  options: { file: string; env: Environment; baseFolder: string; hostName: string },
): { report: Report; config: Config | null; settings: Settings | null; files: readonly NamedFile[] } {
  const { file, env, baseFolder, hostName } = options;
  const document = readDocument(text, env);
  const report = new Report(file, document);
  if (document.value === undefined) return { report, config: null, settings: null, files: [] };
  if (typeof document.value !== 'object' || document.value === null || Array.isArray(document.value)) {
    const wayOut = 'it has settings such as streams:, one below the other';
    report.mistake('', { message: 'this is not a configuration', wayOut });
    return { report, config: null, settings: null, files: [] };
  }
  const settings = SETTINGS.read(checkShape(document, report));
  const files: NamedFile[] = [];
  const fileAt = (pointer: string, path: string): string => {
    const resolved = resolve(baseFolder, path);
    if (path !== '') files.push({ pointer, path, resolved });
    return resolved;
  };
  const { topic_levels: topicLevels } = settings.mqtt.limits;
  const streams = buildStreams(settings.streams, { report, topicLevels, fileAt });
  checkSettings(settings, streams, report);
  const gateway = settings.gateway ?? hostName;
  const config: Config = {
    file,
    data: resolve(baseFolder, settings.data),
    gateway,
    ack: settings.ack,
    mqtt: buildMqtt(settings, gateway, fileAt),
    spool: buildSpool(settings),
    store: { maxBytes: settings.store.max },
    kafka: buildKafka(settings, fileAt, report),
    influx: buildInflux(settings),
    http: settings.http,
    log: { linesPerSecond: settings.log.lines_per_second },
    ingest: buildIngest(settings, fileAt),
    rollup: buildRollup(settings),
    score: {
      maxSeries: settings.score.max_series,
      model: {
        batch: settings.score.model_batch,
        queue: settings.score.model_queue,
        timeoutMs: settings.score.model_timeout,
      },
    },
    alerts: buildAlerts(settings, streams, report),
    commands: buildCommands(settings, report),
    streams,
  };
  return { report, config, settings, files };
}

/**
 * What the user's YAML file says, checked and with every default filled in. Sizes are bytes, durations milliseconds.
 */
import type { Stream } from './stream.ts';

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
}

export interface KafkaConfig {
  readonly brokers: readonly string[];
  readonly prefix: string;
  readonly partitions: number;
  readonly replicationFactor: number;
  readonly compression: 'none' | 'gzip';
  /** How long `forward` waits for more records to fill a request. */
  readonly lingerMs: number;
  readonly batchBytes: number;
  readonly requestTimeoutMs: number;
  readonly sessionTimeoutMs: number;
  readonly group: string;
  /** Missing topics are created at the start. */
  readonly createTopics: boolean;
  readonly tls: { readonly ca: string | null; readonly cert: string | null; readonly key: string | null } | null;
  readonly sasl: {
    readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: string;
  } | null;
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

export interface RollupConfig {
  readonly graceMs: number;
  readonly disorderMs: number;
  readonly tickMs: number;
  readonly skewMs: number;
  readonly repair: 'auto' | 'off';
  /** Two engines joined by the panes topic instead of one; Kafka only. */
  readonly stages: 1 | 2;
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
  /** Null: the spool is the log. */
  readonly kafka: KafkaConfig | null;
  /** Null: the embedded store. */
  readonly influx: InfluxConfig | null;
  readonly http: HttpConfig;
  readonly rollup: RollupConfig;
  readonly streams: Readonly<Record<string, Stream>>;
}

/**
 * From the user's settings, in the user's words and already checked, to the parts of `Config` (config.ts), which has the
 * types: these functions are inferred, so that neither file needs the other.
 */
import { parseWindow } from '../stream.ts';
import type { Settings } from './schema.ts';

const DEFAULT_HISTORY_BYTES = 2 ** 30;

/** Resolves a path in the file at `pointer`, and has it looked for. */
export type FileAt = (pointer: string, path: string) => string;

export function buildMqtt({ mqtt }: Settings, gateway: string, fileAt: FileAt) {
  const { auth, limits } = mqtt;
  return {
    listeners: mqtt.listeners.map(({ host, port, tls, websocket }, i) => ({
      host,
      port,
      websocket,
      tls: tls && { ...buildTls(tls, `/mqtt/listeners/${i}/tls`, fileAt), clientCertificate: tls.clientCertificate },
    })),
    auth: {
      anonymous: auth.anonymous ?? auth.users === null,
      users: auth.users === null ? null : fileAt('/mqtt/auth/users', auth.users),
    },
    limits: {
      connections: limits.connections,
      packetBytes: limits.packet,
      pendingPerClient: limits.pending_per_client,
      pendingBytes: limits.pending,
      ratePerClient: limits.rate_per_client,
      connectTimeoutMs: limits.connect_timeout,
      keepaliveMaxMs: limits.keepalive_max,
      clientIdLength: limits.client_id_length,
      topicLevels: limits.topic_levels,
      retainedMessages: limits.retained_messages,
      offlineSessions: limits.offline_sessions,
      offlineQueue: limits.offline_queue,
      subscriptionsPerClient: limits.subscriptions_per_client,
      drainTimeoutMs: limits.drain_timeout,
      unsentBytes: limits.unsent,
      subscribeRate: limits.subscribe_rate,
      qos2Window: limits.qos2_window,
      logins: limits.logins,
      forwards: limits.forwards,
    },
    sources: mqtt.sources.map(({ url, topics, client_id, username, password, tls }, i) => ({
      url,
      topics,
      clientId: client_id ?? `millrace-${gateway}`,
      username,
      password,
      tls: tls && buildTls(tls, `/mqtt/sources/${i}/tls`, fileAt),
    })),
  };
}

export function buildIngest({ ingest }: Settings, fileAt: FileAt) {
  if (ingest === null) return null;
  const { tls, body, ...rest } = ingest;
  const at = (name: 'cert' | 'key', path: string) => fileAt(`/ingest/tls/${name}`, path);
  return { ...rest, bodyBytes: body, tls: tls && { cert: at('cert', tls.cert), key: at('key', tls.key) } };
}

type TlsPaths = { readonly ca: string | null; readonly cert: string | null; readonly key: string | null };

export function buildTls<T extends TlsPaths>(tls: T, pointer: string, fileAt: FileAt): Pick<T, keyof TlsPaths> {
  const at = <N extends string | null>(name: keyof TlsPaths, path: N): N =>
    (path === null ? null : fileAt(`${pointer}/${name}`, path)) as N;
  return { ca: at('ca', tls.ca), cert: at('cert', tls.cert), key: at('key', tls.key) };
}

export function buildInflux({ influx }: Settings) {
  if (influx === null) return null;
  const retentionMs: Record<string, number> = {};
  for (const [name, ms] of Object.entries(influx.retention)) retentionMs[parseWindow(name)?.label ?? name] = ms;
  return {
    url: influx.url,
    org: influx.org,
    bucket: influx.bucket,
    token: influx.token,
    timeoutMs: influx.timeout,
    createBuckets: influx.create_buckets,
    retentionMs,
  };
}

export function buildSpool({ spool }: Settings) {
  return {
    maxBytes: spool.max,
    segmentBytes: spool.segment,
    historyBytes: spool.history ?? Math.min(DEFAULT_HISTORY_BYTES, Math.floor(spool.max / 2)),
    commitIntervalMs: spool.commit_interval,
    accountDevices: spool.account_devices,
  };
}

export function buildRollup({ rollup, kafka }: Settings) {
  return {
    graceMs: rollup.grace,
    disorderMs: rollup.disorder,
    tickMs: rollup.tick,
    stages: rollup.stages === 2 ? (2 as const) : (1 as const),
    skewMs: rollup.skew,
    repair: rollup.repair,
    repairDelayMs: rollup.repair_delay,
    maxSeries: rollup.max_series,
    flushMs: rollup.flush,
    liveMs: rollup.live,
    ...(kafka?.continues ? { continues: true } : undefined),
    ...beginOf(kafka?.start ?? 'earliest'),
  };
}

function beginOf(start: string): { begin?: 'latest' | number } {
  if (start === 'earliest') return {};
  return { begin: start === 'latest' ? start : Date.parse(start) };
}

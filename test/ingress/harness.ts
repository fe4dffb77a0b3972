/** A broker under test with a pipeline that the test plays: it sees each message and settles it when it likes. */
import { type Clock, systemClock } from '../../src/clock.ts';
import type { Listener, MqttConfig, MqttLimits } from '../../src/config.ts';
import { type Broker, type BrokerOptions, startBroker, type Verdict } from '../../src/ingress/broker.ts';
import type { Message } from '../../src/reading.ts';
import { silentTelemetry, type Telemetry } from '../../src/telemetry.ts';
import { RawClient } from '../support/mqtt-raw.ts';

export const LIMITS: MqttLimits = {
  connections: 1_000,
  packetBytes: 256 * 1024,
  pendingPerClient: 64,
  pendingBytes: 64 * 2 ** 20,
  ratePerClient: 0,
  connectTimeoutMs: 5_000,
  keepaliveMaxMs: 3_600_000,
  clientIdLength: 128,
  topicLevels: 16,
  retainedMessages: 1_000,
  offlineSessions: 100,
  offlineQueue: 100,
  subscriptionsPerClient: 50,
  drainTimeoutMs: 5_000,
  unsentBytes: 256 * 1024,
  subscribeRate: 50,
  qos2Window: 1_000,
  logins: 1_000,
  forwards: 10_000,
};

export const ACCEPTED: Verdict = { kind: 'accepted' };
export const REFUSED: Verdict = { kind: 'refused', code: 'schema', reason: 'temperature: not a number' };
export const FAILED: Verdict = {
  kind: 'failed',
  failure: { code: 'SPOOL_NO_SPACE', message: 'the disk is full', retryable: true },
};

export interface Arrived extends Message {
  readonly text: string;
  settle(verdict: Verdict): void;
}

export interface Harness {
  readonly broker: Broker;
  readonly telemetry: Telemetry;
  readonly port: number;
  /** What `accept` was given, in order. */
  readonly arrived: Arrived[];
  /** Null: the test settles. */
  answer: ((message: Message) => Verdict) | null;
  connected(packet?: Parameters<typeof RawClient.connected>[1]): Promise<RawClient>;
  open(): Promise<RawClient>;
  limitReached(limit: string): Promise<number>;
  counter(name: string, labels?: Record<string, string>): Promise<number>;
  close(): Promise<void>;
}

export interface HarnessOptions {
  readonly limits?: Partial<MqttLimits>;
  readonly listeners?: readonly Listener[];
  readonly auth?: MqttConfig['auth'];
  readonly retain?: (topic: string) => boolean;
  readonly clock?: Clock;
  readonly broker?: Partial<BrokerOptions>;
  readonly answer?: ((message: Message) => Verdict) | null;
}

export const TCP: Listener = { host: '127.0.0.1', port: 0, tls: null, websocket: false };

export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const telemetry = silentTelemetry();
  const arrived: Arrived[] = [];
  const clients: RawClient[] = [];
  const outcome = await startBroker({
    mqtt: {
      listeners: options.listeners ?? [TCP],
      auth: options.auth ?? { anonymous: true, users: null },
      limits: { ...LIMITS, ...options.limits },
      sources: [],
    },
    accept: (message, settle) => {
      arrived.push({ ...message, text: Buffer.from(message.payload).toString(), settle });
      if (harness.answer) settle(harness.answer(message));
    },
    telemetry,
    clock: options.clock ?? systemClock,
    received: () => Date.now(),
    failureHoldMs: 20,
    slowDownMs: 20,
    ...(options.retain ? { retain: options.retain } : {}),
    ...options.broker,
  });
  if (!outcome.ok) throw new Error(outcome.failure.message);
  const broker = outcome.value;
  const port = broker.addresses[0]!.port;
  const track = (client: RawClient): RawClient => {
    clients.push(client);
    return client;
  };
  const harness: Harness = {
    broker,
    telemetry,
    port,
    arrived,
    answer: options.answer === undefined ? () => ACCEPTED : options.answer,
    connected: async (packet) => track(await RawClient.connected(port, packet)),
    open: async () => track(await RawClient.open(port)),
    limitReached: (limit) => harness.counter('millrace_limit_reached_total', { limit }),
    counter: async (name, labels = {}) => {
      // counts of the hot path are handed over a few times a second
      await new Promise((resolve) => setTimeout(resolve, 120));
      const metric = await telemetry.registry.getSingleMetric(name)!.get();
      return metric.values
        .filter(({ labels: of }) => Object.entries(labels).every(([key, value]) => of[key] === value))
        .reduce((sum, { value }) => sum + value, 0);
    },
    close: async () => {
      for (const client of clients) client.end();
      await broker.close(0);
    },
  };
  return harness;
}

/** Splits bytes into chunks whose sizes cycle through the cuts. */
export function chop(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length]!;
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
}

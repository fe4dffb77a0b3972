/**
 * A kafkajs client as the configuration wants it. How often kafkajs itself tries again is each caller's choice, because
 * most of our retrying happens outside of it. Its log goes to our debug level: it reports passing trouble as errors,
 * and what matters of it comes back to us as failures.
 */
import { readFileSync } from 'node:fs';
import { Kafka, type KafkaConfig as KafkaJsConfig, type logCreator, logLevel } from 'kafkajs';
import type { KafkaConfig } from '../config.ts';
import type { Telemetry } from '../telemetry.ts';
import { REAUTHENTICATE_MS } from './kafka-credentials.ts';
import { calmQueues } from './kafka-internals.ts';
import { kafkaLogin } from './kafka-login.ts';

const CONNECT_TIMEOUT_MS = 5_000;
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 1_000;
/** `disconnect()` of kafkajs may never return while the broker is away. */
const DISCONNECT_TIMEOUT_MS = 3_000;

/** Throws when a TLS file cannot be read; call it where a failure to connect is expected. */
export function kafkaClient(
  config: KafkaConfig,
  retries: number,
  telemetry: Telemetry,
  loginFailed: (error: unknown) => void = () => {},
): Kafka {
  const settings: KafkaJsConfig = {
    clientId: 'millrace',
    brokers: [...config.brokers],
    connectionTimeout: Math.min(CONNECT_TIMEOUT_MS, config.requestTimeoutMs),
    requestTimeout: config.requestTimeoutMs,
    reauthenticationThreshold: REAUTHENTICATE_MS,
    retry: {
      retries,
      initialRetryTime: FIRST_RETRY_MS,
      maxRetryTime: MAX_RETRY_MS,
      // A crashed consumer is replaced by us, not restarted in place.
      restartOnFailure: async () => false,
    },
    logLevel: logLevel.WARN,
    logCreator: debugLog(telemetry),
  };
  if (config.tls) {
    const { ca, cert, key } = config.tls;
    settings.ssl = {
      ...(ca ? { ca: readFileSync(ca) } : undefined),
      ...(cert ? { cert: readFileSync(cert) } : undefined),
      ...(key ? { key: readFileSync(key) } : undefined),
    };
  }
  calmQueues();
  if (config.sasl) settings.sasl = kafkaLogin(config.sasl, loginFailed);
  return new Kafka(settings);
}

function debugLog(telemetry: Telemetry): logCreator {
  return () => (entry) => {
    telemetry.log.debug({ kafkajs: entry.namespace, error: entry.log.error }, entry.log.message);
  };
}

/** Waits for a disconnect, but not for ever. Never throws. */
export async function disconnected(disconnect: () => Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, DISCONNECT_TIMEOUT_MS);
  });
  try {
    await Promise.race([disconnect(), timeout]);
  } catch {
    // The connection is gone either way.
  } finally {
    clearTimeout(timer);
  }
}

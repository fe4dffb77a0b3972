/**
 * What becomes of alerts once they are in their log; on the main thread.
 *
 * - The webhook: a consumer of the log. Each alert is posted as JSON, in order, until the receiver takes it (2xx), and then
 *   the position is committed: at least once, with the alert's id as `idempotency-key`, so that a receiver can drop
 *   repeats. Refused for good (another 4xx): said, counted, passed over. While the receiver is away, alerts wait in the log.
 *   In every process that runs a rollup; with Kafka they share the work.
 * - MQTT: to whoever is connected to this gateway's own broker and subscribed, at QoS 0: who is away misses it.
 * - The page: what is active, and the newest, read from the log a few times a second.
 */
import { type Alert, decodeAlert, subjectOf } from '../alert.ts';
import type { AlertsConfig } from '../config/build-alerts.ts';
import type { Config } from '../config.ts';
import { done, fail, messageOf, type Outcome } from '../errors.ts';
import type { LogConsumer, LogReader } from '../log.ts';
import { backoff, pause } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import type { AlertsShown } from '../view/feed.ts';
import { openAlertReader, readAlerts, WEBHOOK_GROUP } from './alert-log.ts';

export interface DeliveryOptions {
  readonly config: Config;
  /** This process runs a rollup: it posts to the webhook. */
  readonly webhook: boolean;
  /** The gateway's own broker; null where there is none. */
  readonly publish: ((topic: string, payload: Uint8Array) => void) | null;
  readonly telemetry: Telemetry;
}

export interface Delivery {
  shown(): AlertsShown;
  stop(): Promise<void>;
}

/** A subscriber hears within a second of what happened. */
const LOOK_EVERY_MS = 250;
/** With Kafka a look is a request. */
const LOOK_KAFKA_EVERY_MS = 500;
const MAX_RECENT = 200;

export async function startDelivery(options: DeliveryOptions): Promise<Delivery> {
  const { config, telemetry } = options;
  const reader = openAlertReader(config, telemetry);
  const stopped = new AbortController();
  const webhook = options.webhook ? (config.alerts?.webhook ?? null) : null;
  const consumer = webhook && (await post(webhook, reader, config, telemetry, stopped.signal));
  const look = new Look(options, reader);
  const looking = look.run(stopped.signal);
  return {
    shown: () => look.shown(),
    async stop() {
      stopped.abort();
      await consumer?.stop();
      await looking;
      await reader.close();
    },
  };
}

/** Follows the log for the page and for MQTT subscribers. */
class Look {
  readonly #options: DeliveryOptions;
  readonly #reader: LogReader;
  readonly #active = new Map<string, Alert>();
  #recent: Alert[] = [];
  #nextOffset: number | null = null;

  constructor(options: DeliveryOptions, reader: LogReader) {
    this.#options = options;
    this.#reader = reader;
  }

  shown(): AlertsShown {
    return { active: [...this.#active.values()], recent: this.#recent };
  }

  async run(signal: AbortSignal): Promise<void> {
    const everyMs = this.#options.config.kafka ? LOOK_KAFKA_EVERY_MS : LOOK_EVERY_MS;
    do {
      try {
        await this.#look();
      } catch (thrown) {
        // The rollup makes the log when it starts; Kafka may be away.
        this.#options.telemetry.log.debug({ reason: messageOf(thrown) }, 'the log of alerts cannot be read yet');
      }
    } while (await pause(everyMs, signal));
  }

  async #look(): Promise<void> {
    const isFirst = this.#nextOffset === null;
    const read = await readAlerts(this.#reader, this.#nextOffset);
    if (!read.ok) return;
    this.#nextOffset = read.value.nextOffset;
    const { alerts } = read.value;
    for (const alert of alerts) {
      const subject = subjectOf(alert);
      this.#active.delete(subject);
      if (alert.state === 'raised') this.#active.set(subject, alert);
      // What was there before this process began to look was published by another.
      if (!isFirst) this.#publish(alert);
    }
    if (alerts.length > 0) this.#recent = [...alerts.toReversed(), ...this.#recent].slice(0, MAX_RECENT);
  }

  #publish(alert: Alert): void {
    const { config, publish, telemetry } = this.#options;
    const topic = config.alerts?.mqttTopic;
    if (!topic || !publish) return;
    publish(topic.replaceAll('{rule}', alert.rule), Buffer.from(JSON.stringify(alert)));
    telemetry.alertDeliveries.inc({ to: 'mqtt', outcome: 'taken' });
  }
}

type Webhook = NonNullable<AlertsConfig['webhook']>;

async function post(
  webhook: Webhook,
  reader: LogReader,
  config: Config,
  telemetry: Telemetry,
  stopped: AbortSignal,
): Promise<LogConsumer> {
  const group = config.kafka ? `${config.kafka.group}.${WEBHOOK_GROUP}` : WEBHOOK_GROUP;
  const consumer: LogConsumer = await reader.consume(group, {
    assigned: async (assignments) =>
      new Map(
        assignments.map(({ partition, checkpoint, firstOffset }) => [
          partition,
          Math.max(checkpoint?.offset ?? firstOffset, firstOffset),
        ]),
      ),
    async batch({ partition, records, nextOffset }, signal) {
      const ended = AbortSignal.any([stopped, signal]);
      for (const { value, offset } of records) {
        const alert = decodeAlert(value);
        if (alert && !(await untilTaken(webhook, alert, telemetry, ended))) return;
        await consumer.commit(partition, { offset: offset + 1, metadata: '' });
      }
      if (records.length === 0) await consumer.commit(partition, { offset: nextOffset, metadata: '' });
    },
    stopping: async () => {},
    ended: (reason) =>
      telemetry.log.error({ reason: messageOf(reason) }, 'alerts are not posted any more: a restart is needed'),
  });
  return consumer;
}

/** False: it was not taken, because this process stops or the partition is another's. */
async function untilTaken(webhook: Webhook, alert: Alert, telemetry: Telemetry, ended: AbortSignal): Promise<boolean> {
  const pauses = backoff({ firstMs: 500, maxMs: 60_000 });
  for (let failures = 1; !ended.aborted; failures++) {
    const outcome = await postOnce(webhook, alert);
    if (outcome.ok) {
      telemetry.alertDeliveries.inc({ to: 'webhook', outcome: 'taken' });
      return true;
    }
    const { failure } = outcome;
    const fields = { rule: alert.rule, id: alert.id, reason: failure.message };
    if (!failure.retryable) {
      telemetry.alertDeliveries.inc({ to: 'webhook', outcome: 'refused' });
      telemetry.limited('error', 'webhook-refused', fields, 'the webhook refuses an alert for good: it is passed over');
      return true;
    }
    telemetry.alertDeliveries.inc({ to: 'webhook', outcome: 'failed' });
    telemetry.limited('warn', 'webhook', fields, 'the webhook does not take alerts: they wait in their log', 60_000);
    await pause(Math.max(failure.retryAfterMs ?? 0, pauses.delayMs(failures)), ended);
  }
  return false;
}

async function postOnce({ url, token, timeoutMs }: Webhook, alert: Alert): Promise<Outcome> {
  const headers: Record<string, string> = { 'content-type': 'application/json', 'idempotency-key': alert.id };
  if (token !== null) headers.authorization = `Bearer ${token}`;
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const answer = await fetch(url, {
      method: 'POST',
      headers,
      body: JSON.stringify(alert),
      signal,
      redirect: 'error',
    });
    await answer.body?.cancel();
    if (answer.ok) return done;
    const { status } = answer;
    const retryable = status === 408 || status === 425 || status === 429 || status >= 500;
    const retryAfterS = Number(answer.headers.get('retry-after'));
    const retryAfterMs = retryAfterS > 0 ? Math.min(retryAfterS, 3_600) * 1_000 : 0;
    return fail('WEBHOOK', `it answers ${status}`, { retryable, retryAfterMs });
  } catch (thrown) {
    const cause = (thrown as { cause?: { code?: string } }).cause?.code;
    return fail('WEBHOOK', cause ? `${messageOf(thrown)}: ${cause}` : messageOf(thrown), { retryable: true });
  }
}

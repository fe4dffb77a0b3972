/**
 * The log of alerts: with Kafka the topic `<prefix>.alerts`, without it a log of its own in the data folder, which the
 * rollup writes. It is what remembers which alerts are active, over restarts and between processes.
 */
import { type Alert, decodeAlert, encodeAlert } from '../alert.ts';
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { type Outcome, succeed } from '../errors.ts';
import { kafkaReader } from '../journal/kafka-reader.ts';
import { kafkaTopics } from '../journal/kafka-topics.ts';
import { kafkaWriter } from '../journal/kafka-writer.ts';
import { openSpool } from '../journal/spool.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import type { LogReader, LogRecord } from '../log.ts';
import { Telemetry } from '../telemetry.ts';
import { alertsFolder } from './folders.ts';

/** The consumer group of the webhook, in its own log. */
export const WEBHOOK_GROUP = 'webhook';
const SEGMENT_BYTES = 2 ** 20;
const HISTORY_BYTES = 16 * 2 ** 20;
/** A look back goes no further; an alert that was raised before that is not remembered as active. */
const MAX_LOOKED_AT = 100_000;

export interface AlertWriter {
  append(alerts: readonly Alert[]): Promise<Outcome>;
  close(): Promise<void>;
}

export async function openAlertWriter(config: Config, telemetry: Telemetry): Promise<Outcome<AlertWriter>> {
  if (config.kafka) {
    const { alerts } = kafkaTopics(config.kafka);
    const writer = kafkaWriter(config.kafka, alerts, { gateway: config.gateway, telemetry });
    return succeed({ append: (list) => writer.append(list.map(recordOf)), close: () => writer.close() });
  }
  const spool = await openSpool({
    folder: alertsFolder(config),
    ...config.spool,
    segmentBytes: Math.min(config.spool.segmentBytes, SEGMENT_BYTES),
    historyBytes: HISTORY_BYTES,
    readers: config.alerts?.webhook ? [WEBHOOK_GROUP] : [],
    clock: systemClock,
    // Its numbers are not the spool's: they are not exported.
    telemetry: new Telemetry(telemetry.log),
  });
  if (!spool.ok) return spool;
  return succeed({ append: (list) => spool.value.appendAll(list.map(recordOf)), close: () => spool.value.close() });
}

export function openAlertReader(config: Config, telemetry: Telemetry): LogReader {
  if (config.kafka) return kafkaReader(config.kafka, kafkaTopics(config.kafka).alerts, telemetry);
  return openSpoolReader({ folder: alertsFolder(config), clock: systemClock, telemetry });
}

/** From `fromOffset` (null: as far back as is looked) to the end, oldest first. Throws when the log cannot be read. */
export async function readAlerts(
  reader: LogReader,
  fromOffset: number | null,
): Promise<Outcome<{ readonly alerts: readonly Alert[]; readonly nextOffset: number }>> {
  const known = await reader.offsets(0);
  if (!known.ok) return known;
  const { firstOffset, endOffset } = known.value;
  const from = Math.max(fromOffset ?? endOffset - MAX_LOOKED_AT, firstOffset);
  const alerts: Alert[] = [];
  if (from < endOffset) {
    for await (const { records } of reader.range(0, from, endOffset)) {
      for (const { value } of records) {
        const alert = decodeAlert(value);
        if (alert) alerts.push(alert);
      }
    }
  }
  return succeed({ alerts, nextOffset: Math.max(from, endOffset) });
}

function recordOf(alert: Alert): LogRecord {
  const { rule, atMs, stream } = alert;
  return { kind: 'alert', key: rule, receivedMs: atMs, stream, topic: '', value: encodeAlert(alert) };
}

/**
 * `LogWriter` on one Kafka topic: for the stages that write their own records (late readings, panes, alerts). Readings
 * come from `forward.ts`, which writes ahead into the spool; here an append that fails is the caller's to repeat.
 */
import type { KafkaConfig } from '../config.ts';
import { done, type Outcome } from '../errors.ts';
import type { LogRecord, LogWriter } from '../log.ts';
import type { Telemetry } from '../telemetry.ts';
import { partitionOf } from './kafka-partition.ts';
import { messageBytes } from './kafka-record.ts';
import { kafkaSender, MAX_BATCH_RECORDS, type Part, type Sender } from './kafka-sender.ts';
import type { KafkaTopic } from './kafka-topics.ts';

export interface KafkaWriter extends LogWriter {
  /** As `append`, but the partition is given, and not a matter of keys. */
  appendTo(partition: number, records: readonly LogRecord[]): Promise<Outcome>;
}

export function kafkaWriter(
  config: KafkaConfig,
  topic: KafkaTopic,
  options: { gateway: string; telemetry: Telemetry; sender?: Sender },
): KafkaWriter {
  const sender = options.sender ?? kafkaSender(config, options.gateway, options.telemetry);

  /** Request after request, each with the next piece of every partition, so that no partition has two under way. */
  const send = async (queues: Map<number, LogRecord[]>): Promise<Outcome> => {
    while (queues.size > 0) {
      const parts: Part[] = [];
      let bytes = 0;
      for (const [partition, queue] of queues) {
        const length = pieceLength(queue, config.batchBytes);
        for (const record of queue.slice(0, length)) bytes += messageBytes(record);
        if (parts.length > 0 && bytes > config.requestBytes) break;
        const piece = queue.splice(0, length);
        parts.push({ topic, partition, records: piece });
        if (queue.length === 0) queues.delete(partition);
      }
      const outcome = await sender.send(parts);
      if (!outcome.ok) return outcome;
      options.telemetry.forwarded.inc(
        { topic: topic.name },
        parts.reduce((sum, part) => sum + part.records.length, 0),
      );
    }
    return done;
  };

  return {
    partitions: topic.partitions,
    async append(records) {
      const queues = new Map<number, LogRecord[]>();
      for (const record of records) {
        const partition = partitionOf(record.key, topic.partitions);
        const queue = queues.get(partition);
        if (queue) queue.push(record);
        else queues.set(partition, [record]);
      }
      return send(queues);
    },
    appendTo: async (partition, records) => (records.length === 0 ? done : send(new Map([[partition, [...records]]]))),
    close: () => sender.close(),
  };
}

/** How many records from the front fit into one batch; at least one, however large. */
function pieceLength(queue: readonly LogRecord[], maxBytes: number): number {
  let bytes = 0;
  for (let count = 0; count < queue.length; count++) {
    bytes += messageBytes(queue[count]!);
    if (count > 0 && bytes > maxBytes) return count;
    if (count === MAX_BATCH_RECORDS) return count;
  }
  return queue.length;
}

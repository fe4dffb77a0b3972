/**
 * Where a topic's partitions begin and end, and what groups have committed: the questions that kafkajs' consumer cannot
 * answer (it drops the metadata of a commit), asked through its admin client. One connection, replaced after a failure.
 */
import type { Admin } from 'kafkajs';
import type { KafkaConfig } from '../config.ts';
import { type Outcome, succeed } from '../errors.ts';
import type { Checkpoint } from '../log.ts';
import type { Telemetry } from '../telemetry.ts';
import { disconnected, kafkaClient } from './kafka-client.ts';
import { classify } from './kafka-errors.ts';
import type { KafkaTopic } from './kafka-topics.ts';

export interface Marks {
  readonly firstOffset: number;
  readonly endOffset: number;
}

export interface KafkaOffsets {
  marks(): Promise<Outcome<ReadonlyMap<number, Marks>>>;
  /** Partitions where the group never committed are absent. */
  committed(group: string): Promise<Outcome<ReadonlyMap<number, Checkpoint>>>;
  /** Per partition the first offset with that timestamp or a later one; its end when there is none. */
  atTime(receivedMs: number): Promise<Outcome<ReadonlyMap<number, number>>>;
  /** Makes Kafka forget a group without members, which it would otherwise keep for a while. */
  forget(group: string): Promise<Outcome>;
  close(): Promise<void>;
}

const RETRIES = 1;

export function kafkaOffsets(config: KafkaConfig, topic: KafkaTopic, telemetry: Telemetry): KafkaOffsets {
  let link: { admin: Admin; connected: Promise<void> } | null = null;

  async function ask<T>(doing: string, question: (admin: Admin) => Promise<T>): Promise<Outcome<T>> {
    let asked = link;
    try {
      if (!asked) {
        const admin = kafkaClient(config, RETRIES, telemetry).admin();
        const connected = admin.connect();
        connected.catch(() => {});
        link = asked = { admin, connected };
      }
      await asked.connected;
      return succeed(await question(asked.admin));
    } catch (thrown) {
      if (asked && link === asked) link = null;
      if (asked) void disconnected(asked.admin.disconnect);
      return { ok: false, failure: classify(thrown, doing) };
    }
  }

  return {
    marks: () =>
      ask(`asking for the offsets of ${topic.name}`, async (admin) => {
        const answers = await admin.fetchTopicOffsets(topic.name);
        return new Map(
          answers.map(({ partition, low, high }) => [partition, { firstOffset: Number(low), endOffset: Number(high) }]),
        );
      }),
    committed: (group) =>
      ask(`asking for the checkpoints of group ${group}`, async (admin) => {
        const answers = await admin.fetchOffsets({ groupId: group, topics: [topic.name] });
        const checkpoints = new Map<number, Checkpoint>();
        for (const { partition, offset, metadata } of answers[0]?.partitions ?? []) {
          // Negative: never committed, or kafkajs' own "earliest" and "latest" after an offset out of range.
          if (Number(offset) >= 0) checkpoints.set(partition, { offset: Number(offset), metadata: metadata ?? '' });
        }
        return checkpoints;
      }),
    atTime: (receivedMs) =>
      ask(`asking ${topic.name} for the offsets of a time`, async (admin) => {
        // Below zero the protocol has special meanings, such as "latest"; no record was received then.
        const answers = await admin.fetchTopicOffsetsByTimestamp(topic.name, Math.max(0, receivedMs));
        return new Map(answers.map(({ partition, offset }) => [partition, Number(offset)]));
      }),
    forget: (group) =>
      ask(`deleting the group ${group}`, async (admin) => {
        await admin.deleteGroups([group]);
      }),
    close: async () => {
      const closing = link;
      link = null;
      if (closing) await disconnected(closing.admin.disconnect);
    },
  };
}

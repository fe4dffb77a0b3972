/**
 * All lanes, and which of them a record takes: a reading that of its key or its tags (spread.ts), a tick every one of the
 * readings, refusals and what became of them, late readings, panes and accounts those of the topics of these names.
 */
import type { LogRecord } from '../log.ts';
import { Lane } from './forward-lane.ts';
import { partitionOf } from './kafka-partition.ts';
import type { KafkaTopic, TopicRole } from './kafka-topics.ts';
import { type Spread, spreadTextOf } from './spread.ts';

export class Lanes {
  readonly readings: readonly Lane[];
  readonly all: readonly Lane[];
  readonly #byKind: Readonly<Record<Exclude<LogRecord['kind'], 'tick'>, readonly Lane[]>>;
  readonly #spread: Spread;

  constructor(topics: Readonly<Record<TopicRole, KafkaTopic>>, spread: Spread) {
    this.#spread = spread;
    const deadLetters = lanesOf(topics.deadletters);
    const commands = lanesOf(topics.commands);
    this.#byKind = {
      reading: lanesOf(topics.readings),
      refusal: deadLetters,
      requeued: deadLetters,
      late: lanesOf(topics.late),
      pane: lanesOf(topics.panes),
      alert: lanesOf(topics.alerts),
      command: commands,
      outcome: commands,
      account: lanesOf(topics.accounts),
    };
    this.readings = this.#byKind.reading;
    this.all = [...new Set(Object.values(this.#byKind).flat())];
  }

  of(record: LogRecord): readonly Lane[] {
    if (record.kind === 'tick') return this.readings;
    const among = this.#byKind[record.kind];
    const text = record.kind === 'reading' ? spreadTextOf(record, this.#spread) : record.key;
    return [among[partitionOf(text, among.length)]!];
  }

  bytes(): number {
    let bytes = 0;
    for (const lane of this.all) bytes += lane.bytes;
    return bytes;
  }

  /** The smallest spool offset that Kafka may not have, given that everything below `position` was handed out. */
  floor(position: number): number {
    let floor = position;
    for (const lane of this.all) floor = Math.min(floor, lane.floor());
    return floor;
  }

  /** Some partition of the readings takes records, or has not been tried: reading on can be of use. */
  someWork(): boolean {
    return this.readings.some((lane) => !lane.failing);
  }
}

function lanesOf(topic: KafkaTopic): Lane[] {
  return Array.from({ length: topic.partitions }, (_, partition) => new Lane(topic, partition));
}

/**
 * The rules of `alerts:` beside the rollup (rollup/alert-engine.ts), in its thread: fed with final rows and their scores, with the
 * clock of the log, and with dead letters; what they find goes to the log of alerts, from where it is delivered (alert-delivery.ts).
 *
 * - Rows are judged when they are durable and before their position is committed, and the commit waits until the alerts
 *   are durable: a crash repeats both, with the same ids. The clock moves after the commit.
 * - Scores are judged before they are written, and their writing waits until the alerts are durable: what is not written is scored
 *   again (score/scoring.ts). Exact rows do not wait for that.
 * - At a start, and whenever partitions change hands, the rules begin anew: what is active is read from the log of alerts,
 *   which devices were there from the rows of the store, as far back as a device may be silent.
 * - Dead letters: without Kafka as they come by in the spool; with it from their topic, whose one partition belongs to one
 *   process at a time, so that the refusals of all gateways count together.
 */
import type { Alert, ScoreRule, SilentRule } from '../alert.ts';
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { done, fail, messageOf, type Outcome } from '../errors.ts';
import { partitionOf } from '../journal/kafka-partition.ts';
import { kafkaReader } from '../journal/kafka-reader.ts';
import { kafkaTopics } from '../journal/kafka-topics.ts';
import type { LogConsumer, LogReader, StoredRecord } from '../log.ts';
import { decodeReading, decodeRefusal } from '../reading.ts';
import { backoff, pause } from '../retry.ts';
import { AlertEngine } from '../rollup/alert-engine.ts';
import type { Row } from '../row.ts';
import type { Score } from '../scored.ts';
import type { Store } from '../store/store.ts';
import type { Telemetry } from '../telemetry.ts';
import { type AlertWriter, openAlertReader, readAlerts } from './alert-log.ts';

export interface AlertNeeds {
  readonly config: Config;
  readonly store: Pick<Store, 'read'>;
  readonly writer: AlertWriter;
  readonly telemetry: Telemetry;
  /** Every window that ends at or before it was given to `closed` and committed; null while unknown. */
  frontierMs(): number | null;
  /** Whether all rows that were closed are scored, as far as they will be. */
  isScored(): boolean;
}

const CLOCK_EVERY_MS = 1_000;
const DAY_MS = 86_400_000;
/** Rows that are looked at for a rule to see which devices were there. */
const MAX_RESTORED_ROWS = 200_000;
/** Alerts that wait for their log; at this the clock of the rules stands still. */
const MAX_UNSENT = 10_000;
/** Alerts of one append: far below what a log takes in one request. */
const APPEND_AT_MOST = 500;

export class Alerts {
  readonly #needs: AlertNeeds;
  readonly #reader: LogReader;
  #engine: AlertEngine;
  #unsent: Alert[] = [];
  /** Lists of rows that were judged, though what they raise may not be durable yet. */
  readonly #judged = new WeakSet<readonly Row[]>();
  #sending: Promise<Outcome> | null = null;
  /** Partition -> its durable frontier at the assignment. Null without Kafka and before the first one. */
  #owned: ReadonlyMap<number, number> = new Map();
  #restoring: Promise<void> = Promise.resolve();
  #restores = 0;
  #overflowed = 0;
  #deadLetters: { consumer: LogConsumer; reader: LogReader } | null = null;
  readonly #stopped = new AbortController();
  #running: Promise<void>;

  constructor(needs: AlertNeeds) {
    this.#needs = needs;
    this.#reader = openAlertReader(needs.config, needs.telemetry);
    this.#engine = this.#newEngine();
    this.#running = this.#clock();
  }

  /** Reads the topic of dead letters, where there is one. */
  async start(): Promise<void> {
    const { config, telemetry } = this.#needs;
    const rules = config.alerts?.rules ?? [];
    if (!config.kafka || !rules.some(({ kind }) => kind === 'dead-letters')) return;
    const reader = kafkaReader(config.kafka, kafkaTopics(config.kafka).deadletters, telemetry);
    const consumer: LogConsumer = await reader.consume(`${config.kafka.group}.alerts`, {
      assigned: async (assignments) =>
        new Map(
          assignments.map(({ partition, checkpoint, endOffset }) => [partition, checkpoint?.offset ?? endOffset]),
        ),
      batch: async ({ partition, records, nextOffset }) => {
        await this.#restoring;
        for (const record of records) this.refused(record);
        const sent = await this.#send();
        if (sent.ok) await consumer.commit(partition, { offset: nextOffset, metadata: '' });
      },
      stopping: async () => {},
      ended: (reason) => telemetry.log.error({ reason: messageOf(reason) }, 'dead letters are not watched any more'),
    });
    this.#deadLetters = { consumer, reader };
  }

  /** Partitions changed hands; absent: those of the second of two stages did. */
  assigned(partitions?: ReadonlyMap<number, number>): void {
    if (partitions) this.#owned = partitions;
    const turn = ++this.#restores;
    this.#restoring = this.#restoring.then(() => (turn === this.#restores ? this.#restore(turn) : undefined));
  }

  /** Ok: all that these rows raise or clear is durable. To be called again with the same rows otherwise. */
  async closed(rows: readonly Row[]): Promise<Outcome> {
    await this.#restoring;
    if (!this.#judged.has(rows)) this.#unsent.push(...this.#engine.closed(rows));
    this.#judged.add(rows);
    return this.#send();
  }

  /** Ok: all that these scores raise or clear is durable. The same scores may come again. */
  async scored(scores: readonly Score[]): Promise<Outcome> {
    await this.#restoring;
    if (this.#stopped.signal.aborted) return fail('STOPPED', 'stopped before alarms were told');
    this.#unsent.push(...this.#engine.scored(scores));
    return this.#send();
  }

  /** A record of the log, whatever it is. */
  refused({ kind, receivedMs, stream, value }: StoredRecord): void {
    if (kind !== 'refusal' || this.#unsent.length >= MAX_UNSENT) return;
    // Without Kafka the stream stands on the record; a topic of another version may lack it.
    const of = stream || (decodeRefusal(Buffer.from(value).toString())?.stream ?? '');
    this.#unsent.push(...this.#engine.refused(of, receivedMs));
  }

  /** Streams of which single readings are judged. */
  get watched(): ReadonlySet<string> {
    const rules = this.#needs.config.alerts?.rules ?? [];
    return new Set(rules.flatMap((rule) => (rule.kind === 'each' ? [rule.stream] : [])));
  }

  /** Readings as they come by in the log, some of them again after a start. What they raise is told at once. */
  async read(records: readonly StoredRecord[]): Promise<void> {
    await this.#restoring;
    const before = this.#unsent.length;
    for (const { key, receivedMs, value } of records) {
      const reading = decodeReading(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString());
      if (reading) this.#unsent.push(...this.#engine.read({ ...reading, key }, receivedMs));
    }
    if (this.#unsent.length === before) return;
    const sent = this.#send();
    // Told without holding up what is counted, as long as there is room for what waits.
    if (this.#unsent.length >= MAX_UNSENT) await sent;
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#deadLetters?.consumer.stop();
    await this.#running;
    await this.#restoring;
    await this.#sending;
    await this.#deadLetters?.reader.close();
    await this.#reader.close();
  }

  #newEngine(): AlertEngine {
    return new AlertEngine(this.#needs.config.alerts?.rules ?? []);
  }

  async #clock(): Promise<void> {
    const { telemetry } = this.#needs;
    while (await pause(CLOCK_EVERY_MS, this.#stopped.signal)) {
      await this.#restoring;
      if (this.#unsent.length < MAX_UNSENT) {
        const frontierMs = this.#needs.frontierMs();
        if (frontierMs !== null) {
          this.#unsent.push(...this.#engine.clock(frontierMs));
          // Asked for after the frontier: rows are handed over to be scored before it moves.
          if (this.#needs.isScored()) this.#unsent.push(...this.#engine.scoredTo(frontierMs));
        }
        this.#unsent.push(...this.#engine.quiet(systemClock.nowMs()));
      }
      await this.#send();
      telemetry.alertsActive.set(this.#engine.active.length);
      if (this.#engine.overflowed > this.#overflowed) {
        telemetry.limitReached.inc({ limit: 'alerts' }, this.#engine.overflowed - this.#overflowed);
        telemetry.limited(
          'warn',
          'alerts-full',
          {},
          'there are more devices, series or alerts than the rules can follow',
        );
      }
      this.#overflowed = this.#engine.overflowed;
    }
  }

  /** One append at a time, oldest first. Whatever fails stays and is tried again by the next call. */
  #send(): Promise<Outcome> {
    const before = this.#sending ?? Promise.resolve(done);
    const sending = before.then(() => this.#sendAll());
    this.#sending = sending;
    return sending;
  }

  async #sendAll(): Promise<Outcome> {
    const { writer, telemetry } = this.#needs;
    while (this.#unsent.length > 0) {
      const alerts = this.#unsent.slice(0, APPEND_AT_MOST);
      const outcome = await writer.append(alerts);
      if (!outcome.ok) {
        const fields = { code: outcome.failure.code, waiting: this.#unsent.length };
        telemetry.limited('warn', 'alerts-append', fields, `alerts wait for their log: ${outcome.failure.message}`);
        return outcome;
      }
      this.#unsent.splice(0, alerts.length);
      for (const { rule, state } of alerts) telemetry.alerts.inc({ rule, state });
    }
    return done;
  }

  /** Tries until it works: alerts from half of what is known would be wrong. Rows wait meanwhile. */
  async #restore(turn: number): Promise<void> {
    const pauses = backoff({ firstMs: 250, maxMs: 10_000 });
    for (let failures = 1; turn === this.#restores && !this.#stopped.signal.aborted; failures++) {
      try {
        const engine = this.#newEngine();
        const read = await readAlerts(this.#reader, null);
        if (!read.ok) throw new Error(read.failure.message);
        const frontierMs = Math.min(...this.#owned.values());
        engine.restore([...read.value.alerts, ...this.#unsent], frontierMs, (rule, tags) =>
          this.#scoresHere(rule, tags),
        );
        if (Number.isFinite(frontierMs)) await this.#recall(engine, frontierMs);
        this.#engine = engine;
        this.#overflowed = 0;
        return;
      } catch (thrown) {
        const { telemetry } = this.#needs;
        telemetry.limited(
          'warn',
          'alerts-restore',
          { reason: messageOf(thrown) },
          'alerts wait: what was active cannot be read',
        );
        await pause(pauses.delayMs(failures), this.#stopped.signal);
      }
    }
  }

  /** Which devices of our partitions were there. */
  async #recall(engine: AlertEngine, frontierMs: number): Promise<void> {
    const { config, store } = this.#needs;
    for (const rule of config.alerts?.rules ?? []) {
      if (rule.kind !== 'silent') continue;
      const [window] = config.streams[rule.stream]!.windows;
      const fromMs = Math.max(0, frontierMs - rule.silentMs - window!.sizeMs);
      const query = { stream: rule.stream, window: window!.label, fromMs, toMs: systemClock.nowMs() + DAY_MS };
      for await (const row of store.read({ ...query, limit: MAX_RESTORED_ROWS })) {
        if (this.#isOurs(rule, row.tags)) engine.seen(row);
      }
    }
  }

  /** The second of two stages has partitions of its own, which are not known here. */
  #scoresHere({ by }: ScoreRule, tags: Alert['tags']): boolean {
    const { kafka, rollup } = this.#needs.config;
    return kafka === null || (rollup.stages === 1 && by !== null && this.#isOurs({ by }, tags));
  }

  #isOurs({ by }: Pick<SilentRule, 'by'>, tags: Alert['tags']): boolean {
    const { kafka } = this.#needs.config;
    return kafka === null || this.#owned.has(partitionOf(tags[by] ?? '', kafka.partitions));
  }
}

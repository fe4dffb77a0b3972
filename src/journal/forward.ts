/**
 * Drains the spool into Kafka, in the spool's order. A reader of the spool like any other (group `forward`), in a worker
 * thread of its own: between the devices and this there is only the log on disk.
 *
 * Where a record goes (forward-route.ts): a reading to the partition of its key or its tags, a tick to *every* partition of
 * the readings, in its place among them; refusals, late readings and panes to the topics of those names.
 *
 * What is promised
 * - At least once. Committed is the smallest spool offset that Kafka may not have yet (`floor`), about once a second
 *   and at a stop; a crash repeats what came after it, and readers of the log count a reading once.
 * - Order within a partition, in the sense that matters with repetitions: first occurrences are in spool order. A lane has one
 *   request under way, and a failed one is repeated from its first record before anything behind it.
 * - `onProgress(offset)`: Kafka has everything below. With `ack: kafka` the gateway answers devices by it. It is one
 *   number for one ordered spool, so one partition that takes nothing holds it back for all devices.
 * - Nothing is given up. A record that Kafka refuses for good becomes a dead letter (`log-refused`) with the reason and
 *   its value whole; when Kafka refuses that for its size too, with the length and hash of the value in its place.
 *
 * When all that the spool has was read, it is sent at once, and then nothing is read for `lingerMs`: a look at the spool
 * costs what many records cost, and so does a request. What comes alone is in Kafka without delay, what comes often goes
 * together. While there is more to read, a partition lingers as long before it is sent what is less than a batch.
 *
 * A backlog: records are read in the order in which they arrived, so after an outage live readings wait behind the
 * backlog of the same spool, which is drained at full speed and not beside live traffic. What must not happen is that
 * one partition's trouble keeps the others waiting, and memory is finite, so:
 * - `queuedBytes` in all and `laneBytes` for a lane: at either the spool is not read on, until requests make room;
 * - a lane that has failed for `parkAfterMs`, and not only because all do, must not hold up the others: it is *parked*.
 *   What it has in memory beyond one batch is dropped, its records are passed over, and when it works again they are
 *   read from the spool a second time (`range`). The floor stays below them, so the spool keeps them.
 * When all fail no lane is parked: there is nobody to hold up, and the spool need not be read twice.
 */
import { type Clock, type Schedule, systemSchedule } from '../clock.ts';
import type { KafkaConfig } from '../config.ts';
import type { Failure } from '../errors.ts';
import type { ConsumerHandlers, LogBatch, LogConsumer, LogReader, StoredRecord } from '../log.ts';
import { type Backoff, backoff } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import { asDeadLetter } from './forward-dead-letter.ts';
import { type Entry, entryOf, type Lane } from './forward-lane.ts';
import { forwardRequests, type RequestLimits } from './forward-requests.ts';
import { Lanes } from './forward-route.ts';
import { MAX_BATCH_RECORDS, type Sender } from './kafka-sender.ts';
import type { KafkaTopic, TopicRole } from './kafka-topics.ts';
import { BY_KEY, type Spread } from './spread.ts';

export interface ForwardLimits extends RequestLimits {
  readonly queuedBytes: number;
  readonly laneBytes: number;
  /** Both may be exceeded by this much: to look at them for every record would cost more than routing it. */
  readonly uncheckedBytes: number;
  readonly parkAfterMs: number;
  readonly commitMs: number;
  /** How long a stop waits for what is queued. */
  readonly drainMs: number;
}

export function forwardLimits(kafka: Pick<KafkaConfig, 'lingerMs' | 'batchBytes' | 'requestBytes'>): ForwardLimits {
  return {
    lingerMs: kafka.lingerMs,
    batchBytes: kafka.batchBytes,
    batchRecords: MAX_BATCH_RECORDS,
    requestBytes: kafka.requestBytes,
    requests: 4,
    aloneRequests: 2,
    queuedBytes: 32 * 1024 * 1024,
    laneBytes: Math.max(4 * 1024 * 1024, 2 * kafka.batchBytes),
    uncheckedBytes: 64 * 1024,
    parkAfterMs: 5_000,
    commitMs: 1_000,
    drainMs: 5_000,
  };
}

export interface ForwardOptions {
  /** The spool. */
  readonly reader: LogReader;
  readonly topics: Readonly<Record<TopicRole, KafkaTopic>>;
  /** Default: every reading by its key. */
  readonly spread?: Spread;
  readonly sender: Sender;
  readonly limits: ForwardLimits;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** Kafka has every record below this spool offset. Never goes back. */
  readonly onProgress: (offset: number) => void;
  /** Forwarding has ended for good: the spool is lost, or a bug. The process should end. */
  readonly onEnded: (reason: unknown) => void;
  /** Records from this spool offset on are counted in `tally`; default: none. */
  readonly tallyFrom?: number;
  readonly group?: string;
  readonly schedule?: Schedule;
  readonly backoff?: Backoff;
}

/**
 * What became of the records of the spool since `tallyFrom`: numbers of one moment, for the gateway's ledger. A record is
 * counted in `read` when it comes from the spool for the first time, a reading in `confirmed` when Kafka has it, or in
 * `refused` when Kafka refused it for good and a dead letter was made of it.
 */
export interface ForwardTally {
  /** The spool offset to be read next. */
  readonly position: number;
  /** Kafka has everything below `position`. */
  readonly idle: boolean;
  readonly readReadings: number;
  readonly readOthers: number;
  readonly confirmed: number;
  readonly refused: number;
}

export interface Forward {
  tally(): ForwardTally;
  /** Kafka has everything below. */
  progress(): number;
  /** Bytes in memory on their way to Kafka. */
  queuedBytes(): number;
  /** Why some records wait, while Kafka does not take them; null when it takes everything. */
  failure(): Failure | null;
  /** Sends what the spool has as far as Kafka takes it, commits, ends. Bounded in time. The sender stays open. */
  stop(): Promise<void>;
}

const GROUP = 'forward';
/** The spool has one partition. */
const SPOOL = 0;

export async function startForward(options: ForwardOptions): Promise<Forward> {
  const { reader, limits, telemetry, clock, schedule = systemSchedule } = options;
  const lanes = new Lanes(options.topics, options.spread ?? BY_KEY);

  /** The spool offset to be read next: every record below went to its lanes, or was passed over for a parked one. */
  let position = 0;
  let progress = 0;
  let committed = -1;
  /** Queued since the limits were last looked at. */
  let uncheckedBytes = 0;
  let assigned = false;
  /** To be ended: no more rests. */
  let hurried = false;
  /** No record is taken any more. */
  let stopping = false;
  let endRest = () => {};
  /** Some partition of the readings takes records, or has not been tried; and since when that is so. */
  let working = true;
  let workingSinceMs = Number.NEGATIVE_INFINITY;
  let waiters: (() => void)[] = [];
  const catchingUp = new Map<Lane, Promise<void>>();
  const { tallyFrom = Number.POSITIVE_INFINITY } = options;
  const tally = { readReadings: 0, readOthers: 0, confirmed: 0, refused: 0 };
  const isTallied = ({ offset, record, made }: Entry) => offset >= tallyFrom && record.kind === 'reading' && !made;

  const overfull = (lane: Lane) => lane.parkedFrom === null && lane.bytes >= limits.laneBytes;
  const full = () => lanes.bytes() >= limits.queuedBytes || lanes.all.some(overfull);

  const requests = forwardRequests({
    lanes: lanes.all,
    sender: options.sender,
    limits,
    clock,
    schedule,
    backoff: options.backoff ?? backoff({ firstMs: 100, maxMs: 5_000 }),
    telemetry,
    settled,
    confirmed(entries) {
      for (const entry of entries) if (isTallied(entry)) tally.confirmed++;
    },
    refused(entry, lane, failure) {
      const letter = asDeadLetter(entry.record, failure.message);
      if (!letter) return false;
      const [to] = lanes.of(letter) as [Lane];
      if (to !== lane && to.bytes >= limits.laneBytes) return false;
      telemetry.deadLetters.inc({ reason: 'log-refused' });
      if (isTallied(entry)) tally.refused++;
      telemetry.limited(
        'warn',
        'forward-refused',
        { partition: lane.name },
        `${failure.message}: kept as a dead letter`,
      );
      to.add(entryOf(entry.offset, letter, true), clock.monotonicMs());
      return true;
    },
  });

  /** After every answer: report progress, let those go on who waited for room, read again for lanes that work again. */
  function settled(): void {
    const worked = working;
    working = lanes.someWork();
    if (working && !worked) workingSinceMs = clock.monotonicMs();
    advance();
    wake();
    for (const lane of lanes.all) {
      if (lane.parkedFrom === null || lane.failing || catchingUp.has(lane) || stopping) continue;
      const work = catchUp(lane)
        .catch((error) => {
          if (!stopping) options.onEnded(error);
        })
        .finally(() => catchingUp.delete(lane));
      catchingUp.set(lane, work);
    }
  }

  function wake(): void {
    const woken = waiters;
    waiters = [];
    for (const wakeOne of woken) wakeOne();
  }

  function advance(): void {
    const floor = lanes.floor(position);
    if (floor <= progress) return;
    progress = floor;
    options.onProgress(floor);
  }

  /** Resolves at the next answer, after the next batch, at a stop, or after `ms`. */
  const change = (ms: number) =>
    new Promise<void>((resolve) => {
      const cancel = schedule(ms, resolve);
      waiters.push(() => {
        cancel();
        resolve();
      });
    });

  /** Waits until there is room for the next record; parks the lanes that are to blame when others can go on. */
  async function room(): Promise<void> {
    while (!stopping && full()) {
      requests.pump();
      const nowMs = clock.monotonicMs();
      const isBlocked = (lane: Lane) =>
        lane.failing && nowMs - Math.max(lane.failingSinceMs, workingSinceMs) >= limits.parkAfterMs;
      const blocked = working ? lanes.all.filter(isBlocked) : [];
      if (!blocked.map(park).includes(true)) await change(limits.parkAfterMs);
    }
  }

  /** True: this helped. A lane may be parked again while it catches up. */
  function park(lane: Lane): boolean {
    const before = lane.bytes;
    const first = lane.parkedFrom === null;
    lane.park(limits.batchRecords, limits.batchBytes, position);
    if (!first) return lane.bytes < before;
    telemetry.limitReached.inc({ limit: 'forward.laneBytes' });
    telemetry.log.warn({ partition: lane.name }, 'this partition takes no records: the others go on without it');
    return true;
  }

  /** Reads again, for this lane alone, what was passed over. */
  async function catchUp(lane: Lane): Promise<void> {
    const parking = lane.parkings;
    const valid = () => !stopping && lane.parkings === parking;
    while (valid() && lane.parkedFrom !== null) {
      // Between this comparison and what follows from it nothing else runs, so no record falls in between.
      if (lane.parkedFrom >= position) {
        lane.parkedFrom = null;
        telemetry.log.info({ partition: lane.name }, 'this partition has caught up with the others');
        advance();
        return;
      }
      const to = position;
      for await (const batch of reader.range(SPOOL, lane.parkedFrom, to)) {
        for (const record of batch.records) {
          while (valid() && (lane.bytes >= limits.laneBytes || lanes.bytes() >= limits.queuedBytes)) {
            await change(limits.parkAfterMs);
          }
          if (!valid()) return;
          if (lanes.of(record).includes(lane)) lane.add(entryOf(record.offset, record), clock.monotonicMs());
          lane.parkedFrom = record.offset + 1;
        }
        requests.pump();
      }
      if (valid()) lane.parkedFrom = Math.max(lane.parkedFrom, to);
    }
  }

  function enqueue(record: StoredRecord): void {
    const nowMs = clock.monotonicMs();
    const entry = entryOf(record.offset, record);
    for (const lane of lanes.of(record)) {
      if (lane.parkedFrom !== null) continue;
      lane.add(entry, nowMs);
      uncheckedBytes += entry.bytes;
    }
    position = record.offset + 1;
    if (record.offset < tallyFrom) return;
    if (record.kind === 'reading') tally.readReadings++;
    else tally.readOthers++;
  }

  const handlers: ConsumerHandlers = {
    async assigned(assignments) {
      if (assigned) throw new Error('the spool was assigned to forward a second time');
      assigned = true;
      const { checkpoint, firstOffset } = assignments.find(({ partition }) => partition === SPOOL)!;
      position = Math.max(checkpoint?.offset ?? firstOffset, firstOffset);
      committed = checkpoint?.offset ?? -1;
      progress = position;
      options.onProgress(progress);
      return new Map([[SPOOL, position]]);
    },
    async batch(batch: LogBatch) {
      for (const record of batch.records) {
        if (uncheckedBytes >= limits.uncheckedBytes) {
          uncheckedBytes = 0;
          if (full()) await room();
        }
        if (stopping) return;
        enqueue(record);
      }
      position = Math.max(position, batch.nextOffset);
      advance();
      wake();
      if (batch.nextOffset < batch.endOffset) requests.pump();
      else {
        requests.flush();
        await rest();
      }
    },
    async stopping() {
      await commit();
    },
    ended: options.onEnded,
  };

  function rest(): Promise<void> {
    if (hurried || limits.lingerMs === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = schedule(limits.lingerMs, resolve);
      endRest = () => {
        cancel();
        resolve();
      };
    });
  }

  async function commit(): Promise<void> {
    const offset = progress;
    if (!assigned || offset === committed) return;
    const outcome = await consumer.commit(SPOOL, { offset, metadata: '' });
    if (outcome.ok) committed = offset;
    else telemetry.limited('warn', 'forward-commit', { code: outcome.failure.code }, outcome.failure.message);
  }

  let cancelCommits = () => {};
  const commitRegularly = () => {
    cancelCommits = schedule(limits.commitMs, () => void commit().finally(() => stopping || commitRegularly()));
  };

  /** Until all that the spool has by now was read, while Kafka takes records. */
  async function readOn(untilMs: number): Promise<void> {
    const offsets = await reader.offsets(SPOOL);
    const end = offsets.ok ? offsets.value.endOffset : position;
    while (position < end && working && clock.monotonicMs() < untilMs) await change(untilMs - clock.monotonicMs());
  }

  /** Until nothing can be sent: all is in Kafka, or what is left belongs to lanes that fail. */
  async function drain(untilMs: number): Promise<void> {
    const open = () => requests.underWay > 0 || lanes.all.some((lane) => lane.entries.length > 0 && !lane.failing);
    while (open() && clock.monotonicMs() < untilMs) await change(untilMs - clock.monotonicMs());
    requests.stop();
  }

  const consumer: LogConsumer = await reader.consume(options.group ?? GROUP, handlers);
  commitRegularly();

  return {
    tally: () => ({ ...tally, position, idle: lanes.floor(position) === position }),
    progress: () => progress,
    queuedBytes: () => lanes.bytes(),
    failure: () => requests.failure,
    async stop() {
      if (hurried) return;
      hurried = true;
      const untilMs = clock.monotonicMs() + limits.drainMs;
      requests.hurry();
      endRest();
      await readOn(untilMs);
      stopping = true;
      cancelCommits();
      settled();
      await drain(untilMs);
      await Promise.all(catchingUp.values());
      await consumer.stop();
    },
  };
}

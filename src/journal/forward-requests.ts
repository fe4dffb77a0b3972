/**
 * Which lanes go into which produce request, and what its outcome does to them. The rules:
 * - one request under way for a lane, so a retry cannot overtake what follows it; `requests` under way in all
 * - a request is made when some lane has waited `lingerMs` or has a full batch, or when `flush` says that there is nothing
 *   more to read, and takes along every lane of its topic that has something, since a request costs more than the records
 *   in it. Of its topic, because a request may fail in one partition and succeed in the others: a repeated reading is
 *   counted once, but a dead letter would be listed twice
 * - a request that fails says nothing about which of its partitions is to blame, so each of its lanes is then sent
 *   alone until it succeeds; such lanes get `aloneRequests` of the slots, so that hanging ones do not take them all
 * - a failed lane waits by the backoff, and is tried at once when another one that had failed succeeds
 * - a record refused for good is found by halving, taken out and handed to `refused`; the others go on
 */
import type { Clock, Schedule } from '../clock.ts';
import type { Failure } from '../errors.ts';
import type { Backoff } from '../retry.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Entry, Lane } from './forward-lane.ts';
import type { Sender } from './kafka-sender.ts';

export interface RequestLimits {
  readonly lingerMs: number;
  /** Of one lane in one request. */
  readonly batchBytes: number;
  readonly batchRecords: number;
  readonly requestBytes: number;
  readonly requests: number;
  readonly aloneRequests: number;
}

export interface RequestOptions {
  readonly lanes: readonly Lane[];
  readonly sender: Sender;
  readonly limits: RequestLimits;
  readonly clock: Clock;
  readonly schedule: Schedule;
  readonly backoff: Backoff;
  readonly telemetry: Telemetry;
  /** Called after every answer, when the lanes have changed. */
  settled(): void;
  /** Kafka has these. */
  confirmed(entries: readonly Entry[]): void;
  /** Kafka refuses this record for good. True: it is taken care of. False: the lane keeps it and tries again later. */
  refused(entry: Entry, lane: Lane, failure: Failure): boolean;
}

export interface Requests {
  /** To be called whenever something was added to a lane. */
  pump(): void;
  /** The same, and nothing that is there lingers any longer. */
  flush(): void;
  /** No more linger: what is there is sent. */
  hurry(): void;
  /** Requests under way. */
  readonly underWay: number;
  /** Why some lanes wait; null when none does. */
  readonly failure: Failure | null;
  stop(): void;
}

export function forwardRequests(options: RequestOptions): Requests {
  const { lanes, limits, clock, telemetry } = options;
  let underWay = 0;
  let aloneUnderWay = 0;
  let hurried = false;
  let stopped = false;
  let cancelTimer = () => {};
  let timerAtMs = Number.POSITIVE_INFINITY;
  const outage = outageLog(telemetry, clock);

  /** When the lane may be sent; Infinity: not before something else happens. */
  const dueMs = (lane: Lane): number => {
    if (!lane.ready) return Number.POSITIVE_INFINITY;
    if (lane.failing) return lane.notBeforeMs;
    if (hurried || lane.alone || lane.entries.length >= limits.batchRecords) return Number.NEGATIVE_INFINITY;
    return lane.bytes >= limits.batchBytes ? Number.NEGATIVE_INFINITY : lane.waitingSinceMs + limits.lingerMs;
  };
  const pump = (): void => {
    if (stopped) return;
    const nowMs = clock.monotonicMs();
    let nextMs = Number.POSITIVE_INFINITY;
    let ripe = false;
    for (const lane of lanes) {
      const at = dueMs(lane);
      if (at > nowMs) nextMs = Math.min(nextMs, at);
      else if (!lane.alone) ripe = true;
      else if (aloneUnderWay < limits.aloneRequests && underWay < limits.requests) void send([lane]);
    }
    while (ripe && underWay < limits.requests) {
      const group: Lane[] = [];
      let bytes = 0;
      for (const lane of lanes) {
        if (!lane.ready || lane.alone || (group.length > 0 && lane.topic !== group[0]!.topic)) continue;
        bytes += Math.min(lane.bytes, limits.batchBytes);
        if (group.length > 0 && bytes > limits.requestBytes) break;
        group.push(lane);
      }
      if (group.length === 0) break;
      void send(group);
    }
    arm(nextMs, nowMs);
  };

  const arm = (atMs: number, nowMs: number): void => {
    if (atMs === timerAtMs) return;
    cancelTimer();
    timerAtMs = atMs;
    if (atMs === Number.POSITIVE_INFINITY) {
      cancelTimer = () => {};
      return;
    }
    cancelTimer = options.schedule(Math.max(0, atMs - nowMs), () => {
      timerAtMs = Number.POSITIVE_INFINITY;
      pump();
    });
  };

  const send = async (group: readonly Lane[]): Promise<void> => {
    const wasAlone = group[0]!.alone;
    underWay++;
    if (wasAlone) aloneUnderWay++;
    for (const lane of group) lane.inFlight = lane.batchLength(limits.batchRecords, limits.batchBytes);
    const outcome = await options.sender.send(
      group.map((lane) => ({
        topic: lane.topic,
        partition: lane.partition,
        records: lane.entries.slice(0, lane.inFlight).map((entry) => entry.record),
      })),
    );
    underWay--;
    if (wasAlone) aloneUnderWay--;
    if (outcome.ok) succeeded(group);
    else failed(group, outcome.failure);
    options.settled();
    pump();
  };

  const succeeded = (group: readonly Lane[]): void => {
    const nowMs = clock.monotonicMs();
    for (const lane of group) {
      const sent = lane.removeFirst(lane.inFlight);
      lane.inFlight = 0;
      lane.alone = lane.suspects > 0;
      telemetry.forwarded.inc({ topic: lane.topic.name }, sent.length);
      options.confirmed(sent);
      // The oldest stands for the batch: one observation a record would cost more than sending it.
      telemetry.forwardSeconds.observe(Math.max(0, clock.nowMs() - sent[0]!.record.receivedMs) / 1_000);
      if (lane.failing) for (const other of lanes) other.notBeforeMs = nowMs;
      lane.failures = 0;
    }
    if (!lanes.some((lane) => lane.failing)) outage.over();
  };

  const failed = (group: readonly Lane[], failure: Failure): void => {
    telemetry.forwardFailures.inc({ code: failure.code });
    const nowMs = clock.monotonicMs();
    for (const lane of group) {
      const sent = lane.inFlight;
      lane.alone = true;
      const blamed = failure.code === 'KAFKA_RECORD_REFUSED';
      if (blamed && group.length === 1 && sent === 1 && options.refused(lane.entries[0]!, lane, failure)) {
        lane.removeFirst(1);
        lane.inFlight = 0;
        continue;
      }
      lane.takeBack();
      if (!blamed || (group.length === 1 && sent === 1)) postpone(lane, failure, nowMs);
      else if (group.length === 1) lane.suspects = sent;
    }
  };

  const postpone = (lane: Lane, failure: Failure, nowMs: number): void => {
    lane.fail(nowMs);
    lane.notBeforeMs = nowMs + (failure.retryAfterMs ?? options.backoff.delayMs(lane.failures));
    outage.began(failure, lane);
  };

  return {
    pump,
    flush() {
      const lingeredMs = clock.monotonicMs() - limits.lingerMs;
      for (const lane of lanes) lane.waitingSinceMs = Math.min(lane.waitingSinceMs, lingeredMs);
      pump();
    },
    hurry() {
      hurried = true;
      pump();
    },
    get underWay() {
      return underWay;
    },
    get failure() {
      return outage.failure;
    },
    stop() {
      stopped = true;
      cancelTimer();
    },
  };
}

/** Says once that records wait, once more for each other reason, and once that it is over. */
function outageLog(telemetry: Telemetry, clock: Clock) {
  let sinceMs: number | null = null;
  let latest: Failure | null = null;
  const said = new Set<string>();
  return {
    get failure() {
      return latest;
    },
    began(failure: Failure, lane: Lane): void {
      sinceMs ??= clock.monotonicMs();
      latest = failure;
      if (said.has(failure.code)) return;
      said.add(failure.code);
      // Without a pause of its own it may heal by itself.
      const level = failure.retryAfterMs === undefined && failure.retryable ? 'warn' : 'error';
      telemetry.log[level](
        { code: failure.code, partition: lane.name },
        `Kafka does not take records, which stay in the spool: ${failure.message}`,
      );
    },
    over(): void {
      if (sinceMs === null) return;
      telemetry.log.info({ seconds: Math.round((clock.monotonicMs() - sinceMs) / 1_000) }, 'Kafka takes records again');
      sinceMs = null;
      latest = null;
      said.clear();
    },
  };
}

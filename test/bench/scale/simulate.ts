/**
 * What many gateways and rollups on one Kafka have to expect: queues and latencies, from what a message was measured to cost. Pure, and
 * the same for the same seed.
 *
 * The way of a message: the main thread of its gateway (one server), the group commit of the spool, after which it is acknowledged, the
 * forwarding thread (one server), a produce request after the linger, Kafka, and the rollup that has its partition (one server, batches of
 * the records that one request brought to one partition). Gateways are alike and meet only in the rollups.
 *
 * Left out: Kafka's own load (its answer takes `requestMs` however many ask), the network, limits of a request's size, and garbage collection.
 * A thread that waits for a core is one with a longer service time.
 */
import { Random } from '../../support/random.ts';
import { commitInGroups, sendInRequests, serve } from './stations.ts';

/** Milliseconds of one message, or of one commit, request and fetch. */
export interface Service {
  readonly mainMs: number;
  /** As often in here as it takes so long: each commit takes one of them, drawn at random. */
  readonly commitsMs: readonly number[];
  readonly forwardMs: number;
  /** From the sending of a produce request to its answer. */
  readonly requestMs: number;
  /** From when Kafka has a record until its rollup has it. */
  readonly fetchMs: number;
  readonly rollupMs: number;
}

export interface Setup {
  readonly gateways: number;
  readonly rollups: number;
  readonly partitions: number;
  /** Messages of each gateway. */
  readonly perSecond: number;
  /** paced: evenly, in steps of a millisecond, as devices-sim sends; poisson: at random, as many devices that know nothing of each other. */
  readonly arrivals: 'paced' | 'poisson';
  readonly warmupSeconds: number;
  readonly seconds: number;
  readonly commitIntervalMs: number;
  readonly lingerMs: number;
  readonly seed: number;
}

export interface Latency {
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface Predicted {
  readonly messages: number;
  /** From when a message was due until it is acknowledged, and until it is counted. */
  readonly acknowledged: Latency;
  readonly counted: Latency;
  /**
   * What `millrace_forward_seconds` and `millrace_rollup_seconds` say, from the stamp that the main thread gives: of the oldest of a
   * partition in a request, and of the newest in a batch.
   */
  readonly forwardMeanMs: number;
  readonly rollupMeanMs: number;
  /** The most messages that waited at once for the main thread of one gateway, and for one rollup. */
  readonly longestQueue: { readonly main: number; readonly rollup: number };
  /** Part of the time that a thread works; beyond 1 its queue has no end. */
  readonly busy: { readonly main: number; readonly forward: number; readonly rollup: number };
  readonly requestsPerSecond: number;
}

const TICK_MS = 1;
/** A timer comes late by up to this part, and so falls in no step with the commits. */
const TICK_DRIFT = 0.2;

/** What one request brought to one partition. */
interface Batch {
  readonly storedMs: number;
  newestMs: number;
  readonly dueMs: number[];
}

export function simulate(service: Service, setup: Setup): Predicted {
  const { gateways, rollups, partitions, perSecond, warmupSeconds, seconds } = setup;
  const random = new Random(setup.seed);
  const commitMs = () => service.commitsMs[random.integer(0, service.commitsMs.length - 1)]!;
  const fromMs = warmupSeconds * 1_000;
  const acknowledged: number[] = [];
  const forwarded = new Mean();
  const batches: Batch[][] = Array.from({ length: rollups }, () => []);
  let [longestMain, requests] = [0, 0];
  for (let gateway = 0; gateway < gateways; gateway++) {
    const { dueMs, cameMs } = arrivals(setup, random);
    const handledMs = serve(cameMs, () => service.mainMs);
    longestMain = Math.max(longestMain, longestQueue(cameMs, handledMs));
    const durableMs = commitInGroups(handledMs, setup.commitIntervalMs, commitMs);
    const { doneMs, request, count } = sendInRequests(
      serve(durableMs, () => service.forwardMs),
      setup.lingerMs,
      service.requestMs,
    );
    requests += count;
    /** Of the request under way. */
    const open = new Map<number, Batch>();
    for (let i = 0; i < dueMs.length; i++) {
      if (dueMs[i]! >= fromMs) acknowledged.push(durableMs[i]! - dueMs[i]!);
      if (i > 0 && request[i] !== request[i - 1]) open.clear();
      const partition = random.integer(0, partitions - 1);
      let batch = open.get(partition);
      if (batch === undefined) {
        batch = { storedMs: doneMs[i]!, newestMs: handledMs[i]!, dueMs: [] };
        open.set(partition, batch);
        batches[partition % rollups]!.push(batch);
        if (dueMs[i]! >= fromMs) forwarded.add(doneMs[i]! - handledMs[i]!);
      }
      batch.newestMs = handledMs[i]!;
      batch.dueMs.push(dueMs[i]!);
    }
  }
  const counted: number[] = [];
  const read = new Mean();
  let longestRollup = 0;
  for (const of of batches) {
    of.sort((a, b) => a.storedMs - b.storedMs);
    const cameMs = Float64Array.from(of, ({ storedMs }) => storedMs + service.fetchMs);
    const doneMs = serve(cameMs, (i) => of[i]!.dueMs.length * service.rollupMs);
    longestRollup = Math.max(
      longestRollup,
      longestQueue(cameMs, doneMs, (i) => of[i]!.dueMs.length),
    );
    for (const [i, { newestMs, dueMs }] of of.entries()) {
      if (newestMs >= fromMs) read.add(doneMs[i]! - dueMs.length * service.rollupMs - newestMs);
      for (const due of dueMs) if (due >= fromMs) counted.push(doneMs[i]! - due);
    }
  }
  return {
    messages: acknowledged.length,
    acknowledged: latencyOf(acknowledged),
    counted: latencyOf(counted),
    forwardMeanMs: forwarded.value,
    rollupMeanMs: read.value,
    longestQueue: { main: longestMain, rollup: longestRollup },
    busy: {
      main: (perSecond * service.mainMs) / 1_000,
      forward: (perSecond * service.forwardMs) / 1_000,
      rollup: (perSecond * gateways * service.rollupMs) / rollups / 1_000,
    },
    requestsPerSecond: requests / (warmupSeconds + seconds),
  };
}

/** When messages are due, and when they are sent. */
function arrivals(setup: Setup, random: Random): { dueMs: Float64Array; cameMs: Float64Array } {
  const { perSecond, arrivals: kind, warmupSeconds, seconds } = setup;
  const endMs = (warmupSeconds + seconds) * 1_000;
  const dueMs: number[] = [];
  const everyMs = 1_000 / perSecond;
  const stepMs = kind === 'paced' ? () => everyMs : () => -Math.log(1 - random.next()) * everyMs;
  for (let atMs = random.next() * everyMs; atMs < endMs; atMs += stepMs()) dueMs.push(atMs);
  const due = Float64Array.from(dueMs);
  let tickMs = random.next() * TICK_MS;
  const ticked = (atMs: number) => {
    while (tickMs < atMs) tickMs += TICK_MS * (1 + TICK_DRIFT * random.next());
    return tickMs;
  };
  return { dueMs: due, cameMs: kind === 'paced' ? due.map(ticked) : due };
}

/** The most that had come and were not done. */
function longestQueue(cameMs: Float64Array, doneMs: Float64Array, weight: (i: number) => number = () => 1): number {
  let [longest, waiting, next] = [0, 0, 0];
  for (let i = 0; i < cameMs.length; i++) {
    for (; doneMs[next]! <= cameMs[i]!; next++) waiting -= weight(next);
    waiting += weight(i);
    longest = Math.max(longest, waiting);
  }
  return longest;
}

class Mean {
  #sum = 0;
  #count = 0;

  add(value: number): void {
    this.#sum += value;
    this.#count++;
  }

  get value(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }
}

function latencyOf(values: readonly number[]): Latency {
  const ascending = Float64Array.from(values).sort();
  const mean = new Mean();
  for (const value of ascending) mean.add(value);
  const quantile = (q: number) => ascending[Math.max(0, Math.ceil(q * ascending.length) - 1)] ?? 0;
  return { meanMs: mean.value, p50Ms: quantile(0.5), p99Ms: quantile(0.99) };
}

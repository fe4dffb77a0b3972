/**
 * `millrace deadletters requeue`: sends dead letters through inspection and the log again, oldest first, each once
 * (parts/requeue.ts says how that is kept). Where a gateway of this configuration runs, it does the work, asked over its
 * HTTP API, because it has the spool locked; where none runs, the command works on the log itself: on the spool, or with
 * Kafka on the topics. Running it again, or after a crash in the middle, goes on with what is left.
 *
 * With `--schema` it first says how many would pass with that schema. A running gateway inspects with the schema that it
 * has; without one the given schema counts. Exit 0: all were accepted, now or before; 1: some were not.
 */

import { resolve } from 'node:path';
import { monotoneStamp, systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { fail, type Outcome, succeed } from '../errors.ts';
import { kafkaTopics } from '../journal/kafka-topics.ts';
import { kafkaWriter } from '../journal/kafka-writer.ts';
import { openSpool } from '../journal/spool.ts';
import { type NewRecord, withBytes } from '../log.ts';
import { ACCOUNTS_GROUP } from '../parts/accounts.ts';
import { placeOf, walkDeadLetters } from '../parts/dead-letters.ts';
import { spoolFolder } from '../parts/folders.ts';
import { createRequeue, type RequeueNeeds, readingsOf } from '../parts/requeue.ts';
import { ROLLUP_GROUP } from '../parts/rollup.ts';
import { showRequeued } from '../view/api.ts';
import type { RequeueWish } from '../view/feed.ts';
import { parseSince } from './deadletters.ts';
import { findGateway, type GatewayApi, type Result } from './gateway-api.ts';
import { type OpenedLog, openForReading } from './open.ts';
import { EXIT, report, type Terminal } from './terminal.ts';
import { type Inspect, loadInspector } from './trace.ts';

interface RequeueOptions {
  readonly config: string;
  readonly data?: string;
  readonly id?: string;
  readonly stream?: string;
  readonly since?: string;
  readonly schema?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** Letters of one call; also a limit of the API. */
const CHUNK = 200;
/** Refused letters that are printed for a person; `--json` has them all. */
const SHOWN = 20;

export async function requeue(options: RequeueOptions, terminal: Terminal): Promise<number> {
  const mistake = mistakeIn(options);
  if (mistake) {
    terminal.err(`millrace: ${mistake}`);
    return EXIT.usage;
  }
  const sinceMs = parseSince(options.since, terminal);
  if (sinceMs === null) return EXIT.usage;
  const opened = await openForReading(options, terminal);
  if (typeof opened === 'number') return opened;
  try {
    return await requeueFrom(opened, options, sinceMs, terminal);
  } finally {
    await opened.close();
  }
}

async function requeueFrom(
  opened: OpenedLog,
  options: RequeueOptions,
  sinceMs: number,
  terminal: Terminal,
): Promise<number> {
  const config = options.schema ? withSchema(opened.config, options) : opened.config;
  if (!config) {
    terminal.err(`millrace: ${options.config} has no stream ${options.stream}`);
    return EXIT.usage;
  }
  const inspector = await loadInspector(config);
  if (!inspector.ok) return report(inspector.failure, terminal);
  const selected = await select(opened, options, sinceMs, inspector.value);
  if (!selected.ok) return report(selected.failure, terminal);
  const { wishes, already, wouldPass } = selected.value;
  const tell = (text: string) => (options.json ? undefined : terminal.out(text));
  const before = already === 0 ? '' : `, and ${already} that ${already === 1 ? 'was' : 'were'} requeued before`;
  tell(wishes.length === 0 ? `No dead letters to requeue${before}.` : `${lettersOf(wishes.length)}${before}.`);
  if (wishes.length > 0 && (options.schema || options.dryRun)) {
    tell(`${wouldPass} of them would pass${options.schema ? ` with ${options.schema}` : ''}.`);
  }
  const summary = {
    letters: wishes.length,
    already,
    wouldPass,
    requeued: 0,
    refused: 0,
    through: null as string | null,
  };
  if (options.dryRun || wishes.length === 0) {
    if (options.json) terminal.out(JSON.stringify(summary));
    return wouldPass === wishes.length ? EXIT.ok : EXIT.no;
  }

  const worker = await openWorker(opened, config, inspector.value);
  if (!worker.ok) return report(worker.failure, terminal);
  summary.through = worker.value.through;
  tell(`Through ${worker.value.through}:`);
  try {
    for (let at = 0; at < wishes.length; at += CHUNK) {
      const results = await worker.value.requeue(wishes.slice(at, at + CHUNK));
      if (!results.ok) return report(results.failure, terminal);
      for (const one of results.value) {
        if (one.result === 'accepted') summary.requeued++;
        else if (one.result === 'already') summary.already++;
        else summary.refused++;
        if (options.json) terminal.out(JSON.stringify(one));
        else if (one.result === 'refused' && summary.refused <= SHOWN) {
          terminal.out(`  ${one.id.padEnd(12)} ${one.code?.padEnd(19)} ${one.reason}`);
        } else if (one.result === 'missing') terminal.out(`  ${one.id.padEnd(12)} is not in the log of that gateway`);
      }
    }
  } finally {
    await worker.value.close();
  }
  if (options.json) terminal.out(JSON.stringify(summary));
  tell(`${summary.requeued} requeued, ${summary.refused} refused again.`);
  if (options.schema && worker.value.running && summary.refused > wishes.length - wouldPass) {
    tell(`The gateway inspects with its own schema: put ${options.schema} in its place, and run this again.`);
  }
  return summary.refused === 0 ? EXIT.ok : EXIT.no;
}

function mistakeIn({ id, stream, since, schema }: RequeueOptions): string | null {
  if (id === undefined && stream === undefined && since === undefined) {
    return 'say which: --id, --stream, --since, or several of them';
  }
  if (id !== undefined && !placeOf(id)) return `${id} is not an id; \`millrace deadletters list\` shows them`;
  if (schema !== undefined && stream === undefined)
    return '--schema needs --stream: the stream whose schema it is to be';
  return null;
}

function lettersOf(count: number): string {
  return count === 1 ? '1 dead letter' : `${count} dead letters`;
}

function withSchema(config: Config, { stream: name, schema }: RequeueOptions): Config | null {
  const stream = config.streams[name!];
  if (!stream) return null;
  return { ...config, streams: { ...config.streams, [name!]: { ...stream, schema: resolve(schema!) } } };
}

interface Selected {
  readonly wishes: readonly RequeueWish[];
  readonly already: number;
  /** Of the wishes. */
  readonly wouldPass: number;
}

/** Goes through the log once, from the first letter asked for to the end, where the last marks are. */
async function select(
  { config, deadLetters }: OpenedLog,
  { id, stream }: RequeueOptions,
  sinceMs: number,
  inspect: Inspect,
): Promise<Outcome<Selected>> {
  const place = id === undefined ? null : placeOf(id);
  const found: { id: string; receivedMs: number; passes: boolean }[] = [];
  const marks = new Map<string, number>();
  const received = monotoneStamp(systemClock);
  for (let partition = 0; partition < deadLetters.partitions; partition++) {
    if (place && place.partition !== partition) continue;
    const known = await deadLetters.offsets(partition);
    if (!known.ok) return known;
    const start = sinceMs > 0 ? await deadLetters.offsetAtTime(partition, sinceMs) : succeed(known.value.firstOffset);
    if (!start.ok) return start;
    const from = Math.max(start.value, place?.offset ?? 0);
    for await (const letter of walkDeadLetters(deadLetters, partition, from, known.value.endOffset, marks)) {
      if (letter.receivedMs < sinceMs || (id !== undefined && letter.id !== id)) continue;
      if (stream !== undefined && letter.refusal.stream !== stream) continue;
      const read = readingsOf({ inspect, streams: config.streams }, letter, received());
      const passes = typeof read === 'object' && 'readings' in read;
      found.push({ id: letter.id, receivedMs: letter.receivedMs, passes });
    }
  }
  const left = found.filter((letter) => !marks.has(letter.id));
  return succeed({
    wishes: left.map((letter) => ({ id: letter.id, receivedMs: letter.receivedMs })),
    already: found.length - left.length,
    wouldPass: left.filter(({ passes }) => passes).length,
  });
}

interface Worker {
  /** For a person. */
  readonly through: string;
  /** A gateway does it. */
  readonly running: boolean;
  requeue(wishes: readonly RequeueWish[]): Promise<Outcome<Result[]>>;
  close(): Promise<void>;
}

async function openWorker(opened: OpenedLog, config: Config, inspect: Inspect): Promise<Outcome<Worker>> {
  const gateway = await findGateway(config.http);
  if (!gateway.ok) return gateway;
  if (gateway.value) return succeed(askGateway(gateway.value));
  const target = config.kafka ? openTopics(opened, config) : await openOwnSpool(opened, config);
  if (!target.ok) return target;
  const { through, received, append, close } = target.value;
  const send = createRequeue({
    deadLetters: opened.deadLetters,
    streams: config.streams,
    inspect,
    append,
    received,
    onlyWriter: config.kafka === null,
    telemetry: opened.telemetry,
    onReceived: () => {},
    onAccepted: () => {},
  });
  return succeed({
    through,
    running: false,
    close,
    async requeue(wishes) {
      const done = await send(wishes);
      if (!done.ok) return done;
      return succeed(done.value.map((one, index) => ({ id: wishes[index]!.id, ...showRequeued(one) }) as Result));
    },
  });
}

function askGateway(gateway: GatewayApi): Worker {
  return {
    through: `the gateway ${gateway.name} at ${gateway.address}`,
    running: true,
    requeue: (wishes) => gateway.requeue(wishes),
    close: async () => {},
  };
}

interface Target extends Pick<RequeueNeeds, 'append' | 'received'> {
  readonly through: string;
  close(): Promise<void>;
}

/** Locks it, so that no gateway can start meanwhile. */
async function openOwnSpool({ telemetry }: OpenedLog, config: Config): Promise<Outcome<Target>> {
  const folder = spoolFolder(config);
  const [readers, holders] = [[ROLLUP_GROUP], [ACCOUNTS_GROUP]];
  const spool = await openSpool({ folder, ...config.spool, readers, holders, clock: systemClock, telemetry });
  if (!spool.ok) {
    const { code, message } = spool.failure;
    const { host, port } = config.http;
    return code === 'DATA_LOCKED' ? fail(code, `${message}; no gateway answers at ${host}:${port}`) : spool;
  }
  return succeed({
    through: `the spool in ${folder}`,
    received: monotoneStamp(systemClock, spool.value.lastReceivedMs),
    append: (record, onDurable) => spool.value.append(record, onDurable),
    close: () => spool.value.close(),
  });
}

function openTopics({ telemetry }: OpenedLog, config: Config): Outcome<Target> {
  const topics = kafkaTopics(config.kafka!);
  const options = { gateway: config.gateway, telemetry };
  const readings = kafkaWriter(config.kafka!, topics.readings, options);
  const deadLetters = kafkaWriter(config.kafka!, topics.deadletters, options);
  let last: Promise<unknown> = Promise.resolve();
  return succeed({
    through: `the topics ${config.kafka!.prefix}.* of Kafka at ${config.kafka!.brokers.join(', ')}`,
    received: monotoneStamp(systemClock),
    append(record: NewRecord, onDurable: (outcome: Outcome) => void) {
      const writer = record.kind === 'reading' ? readings : deadLetters;
      // One append at a time keeps the order.
      last = last.then(() => writer.append([withBytes(record)])).then(onDurable);
    },
    async close() {
      await readings.close();
      await deadLetters.close();
    },
  });
}

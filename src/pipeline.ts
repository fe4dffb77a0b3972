/**
 * The diagram as code: which stages run in this process, joined by functions, and the order of start and stop.
 *
 *   ingress -> inspect -> journal (spool)            this thread; the device is acknowledged here
 *                            | the log on disk
 *                            +-> forward -> Kafka     a thread, with `kafka:`
 *                            +-> understand           a thread, where there are messages; it writes the log too
 *                            +-> rollup -> store      a thread; it reads Kafka where there is Kafka, else the spool
 *   view                                              this thread, read-only
 *
 * Start: what is needed to acknowledge, then what moves readings on, then the listeners, so that nothing is accepted
 * before it can be kept. Kafka and InfluxDB may be absent at any time, also at the start.
 * Stop: the other way round. Listeners close, what is pending is acknowledged, ticks end, forward and rollup drain and
 * commit, the spool closes last of what is durable.
 */
import { collectDefaultMetrics } from 'prom-client';
import { monotoneStamp, systemClock } from './clock.ts';
import type { Settings } from './config/schema.ts';
import type { Config, Loaded } from './config.ts';
import { done, type Outcome, succeed } from './errors.ts';
import { openSpool, type Spool } from './journal/spool.ts';
import { spreadOf } from './journal/spread.ts';
import { startTelemetry } from './logger.ts';
import { readingRecord } from './parts/accept.ts';
import { ACCOUNTS_GROUP, openAccounts } from './parts/accounts.ts';
import { startDelivery } from './parts/alert-delivery.ts';
import { auditRequests } from './parts/audit-request.ts';
import { openDeadLetters } from './parts/dead-letter-log.ts';
import { createFeed } from './parts/feed.ts';
import { spoolFolder } from './parts/folders.ts';
import { startGateway } from './parts/gateway.ts';
import { KafkaHold } from './parts/hold.ts';
import { Ledger } from './parts/ledger.ts';
import { watchConfig } from './parts/live-config.ts';
import { backlogOf, createStatus, urlOf } from './parts/pipeline-status.ts';
import { createRequeue } from './parts/requeue.ts';
import { openStore, ROLLUP_GROUP } from './parts/rollup.ts';
import { startThread, type Thread, type ThreadData } from './parts/threads.ts';
import { hasMessages, UNDERSTAND_GROUP } from './parts/understanding.ts';
import type { Reading } from './reading.ts';
import type { Stream } from './stream.ts';
import type { Telemetry } from './telemetry.ts';
import { Board } from './view/board.ts';
import type { PipelineStatus } from './view/feed.ts';
import { startView, type View } from './view/server.ts';

export type Role = 'all' | 'gateway' | 'rollup';

export interface PipelineOptions {
  readonly config: Config;
  readonly role: Role;
  readonly version: string;
  readonly logLevel: string;
  readonly pretty: boolean;
  /** The file that the configuration came from is watched, and streams that are added to it are taken in. */
  readonly live?: { readonly settings: Settings; load(): Promise<Loaded> };
}

export interface Pipeline {
  /** `mqtt://127.0.0.1:1883`, … */
  readonly listeners: readonly string[];
  /** `http://127.0.0.1:8080` */
  readonly page: string;
  status(): PipelineStatus;
  /** The sum of a metric over its labels and over all threads. */
  total(metric: string): Promise<number>;
  /** Records of the log that the rollup has not read; null while unknown. */
  backlog(): number | null;
  stop(): Promise<void>;
}

/** Of prom-client: gauges that are called totals. The same numbers come by type under better names. */
const BADLY_NAMED = ['handles', 'requests', 'resources'].map((what) => `nodejs_active_${what}_total`);

/** Undone in reverse order, at a stop and when a later step of the start fails. */
type Undo = () => Promise<void>;

export async function startPipeline(options: PipelineOptions): Promise<Outcome<Pipeline>> {
  const undo: Undo[] = [];
  const outcome = await start(options, undo);
  if (!outcome.ok) for (const step of undo.reverse()) await step();
  return outcome;
}

async function start(options: PipelineOptions, undo: Undo[]): Promise<Outcome<Pipeline>> {
  const { config, role, version, live } = options;
  const clock = systemClock;
  const telemetry = openTelemetry(options, undo);
  /** Streams may be added to it; none is changed or removed. */
  const streams: Record<string, Stream> = { ...config.streams };
  const board = new Board(config.streams);
  const hold = config.ack === 'kafka' ? new KafkaHold() : null;
  const startedMs = clock.nowMs();
  let stopping = false;
  const understands = role !== 'gateway' && hasMessages(config);

  // journal: the spool
  const journal = role === 'rollup' ? null : await openJournal(config, understands, telemetry, undo);
  if (journal && !journal.ok) return journal;
  const spool = journal?.value ?? null;
  const received = monotoneStamp(clock, spool?.lastReceivedMs);

  // forward and rollup
  const threads: Thread[] = [];
  const ledger = spool && new Ledger(spool, config.kafka ? () => threads[0]?.status().tally : null);
  const opened = spool && ledger && (await openAccounts({ config, spool, ledger, telemetry }));
  if (opened && !opened.ok) return opened;
  const accounts = opened?.value;
  if (accounts) undo.push(() => accounts.close());
  const startPart = partStarter({
    ...{ options, streams, spool, ledger, hold, received, telemetry, threads, undo },
    spoolId: accounts?.spoolId,
  });
  const forward = role !== 'rollup' && config.kafka ? startPart('forward') : null;
  const rollup = role === 'gateway' ? null : startPart('rollup');
  // After the rollup, so that it is stopped before it, and what it wrote last is counted.
  const understanding = understands ? startPart('understand') : null;

  // ingress and inspect
  const gateway =
    spool &&
    (await startGateway({
      ...{ config, spool, ledger: ledger!, accounts: accounts!, hold, received, board, telemetry, undo },
    }));
  if (gateway && !gateway.ok) return gateway;
  const prepare = gateway?.value.prepare;

  // view
  const store = await openStore(config, telemetry, true);
  if (!store.ok) return store;
  undo.push(() => store.value.close());
  const deadLetters = openDeadLetters(config, telemetry, spool?.progress);
  undo.push(() => deadLetters.close());
  const publish = gateway?.value.broker.publish ?? null;
  const http = gateway?.value.http;
  const listeners = [...(gateway?.value.broker.addresses.map(urlOf) ?? []), ...(http ? [http.url] : [])];
  const status = createStatus({
    ...{ config, role, version, clock, startedMs, listeners, spool, threads },
    bridges: gateway?.value.bridges ?? [],
    isStopping: () => stopping,
  });
  const delivery = config.alerts && (await startDelivery({ config, webhook: rollup !== null, publish, telemetry }));
  if (delivery) undo.push(() => delivery.stop());
  telemetry.beforeSnapshot(() => exportNumbers(telemetry, ledger, board, clock.nowMs()));
  const audits = auditRequests();
  undo.push(() => audits.stop());
  const feed = createFeed({
    streams,
    board,
    telemetry,
    threadMetrics: () => threads.flatMap((thread) => thread.metrics()),
    status,
    rows: (query) => store.value.read(query),
    running: async (query) => rollup?.running(query) ?? [],
    scores: (query) => store.value.readScores(query),
    forecasts: async (query) => rollup?.forecasts(query) ?? [],
    alerts: () => delivery?.shown() ?? null,
    commands: gateway?.value.commands ?? null,
    audit: (query) => audits.ask({ ...config, streams }, query),
    deadLetters,
    requeue: gateway
      ? createRequeue({
          deadLetters,
          streams,
          inspect: gateway.value.inspect,
          append: gateway.value.append,
          received,
          onlyWriter: config.kafka === null,
          telemetry,
          onReceived: (readings) => ledger?.received(readings),
          onAccepted: (reading, receivedMs) => board.accepted(reading, receivedMs),
        })
      : null,
  });
  const view = await startView({ http: config.http, feed, telemetry, clock });
  if (!view.ok) return view;
  undo.push(() => view.value.close());
  telemetry.log.info(
    { listeners, page: view.value.address, role, streams: Object.keys(streams).length, data: config.data },
    'started',
  );
  if (live) {
    const watch = await watchConfig({ file: config.file, ...live, add: addStreams, telemetry });
    undo.push(() => watch.stop());
  }

  return succeed(describe(view.value));

  /**
   * The rollup begins anew from its checkpoint, which knows a new stream from one that it has read all along, before the
   * first reading of a new stream can be in the log: none is taken for a stranger. So does what forwards, where it has to
   * know by what the readings are spread.
   */
  async function addStreams(added: readonly Stream[]): Promise<Outcome> {
    const accept = await prepare?.(added);
    if (accept && !accept.ok) return accept;
    for (const stream of added) {
      streams[stream.name] = stream;
      board.add(stream);
    }
    await rollup?.restart();
    if (added.some(({ name }) => spreadOf(streams).has(name))) await forward?.restart();
    await accept?.value();
    return done;
  }

  function describe({ address }: View): Pipeline {
    let stopped: Promise<void> | null = null;
    return {
      listeners,
      page: address,
      status,
      backlog: () =>
        backlogOf(
          [rollup, understanding].filter((thread) => thread !== null),
          spool,
        ),
      async total(metric) {
        let sum = 0;
        for (const sample of await feed.samples()) {
          if (sample.name === metric) for (const { value } of sample.values) sum += value;
        }
        return sum;
      },
      stop() {
        stopping = true;
        stopped ??= (async () => {
          for (const step of undo.reverse()) await step();
          telemetry.finishLog();
          telemetry.log.info('stopped');
        })();
        return stopped;
      },
    };
  }
}

/** The log, the numbers of this process, and a last line when it dies of a bug. */
function openTelemetry({ config, logLevel, pretty }: PipelineOptions, undo: Undo[]): Telemetry {
  const { linesPerSecond } = config.log;
  const telemetry = startTelemetry({ level: logLevel, pretty, name: 'main', linesPerSecond });
  const dying = (error: Error) => telemetry.log.fatal({ err: error }, 'the process ends: this should not happen');
  process.on('uncaughtExceptionMonitor', dying);
  undo.push(async () => void process.off('uncaughtExceptionMonitor', dying));
  collectDefaultMetrics({ register: telemetry.process });
  for (const name of BADLY_NAMED) telemetry.process.removeSingleMetric(name);
  telemetry.watchEventLoop('main');
  return telemetry;
}

/** The cursor of `forward` in the spool. */
const FORWARD_GROUP = 'forward';

/** The spool, which keeps what its readers have not passed. */
async function openJournal(
  config: Config,
  understands: boolean,
  telemetry: Telemetry,
  undo: Undo[],
): Promise<Outcome<Spool>> {
  const reader = config.kafka ? FORWARD_GROUP : ROLLUP_GROUP;
  const opened = await openSpool({
    folder: spoolFolder(config),
    ...config.spool,
    readers: understands && !config.kafka ? [reader, UNDERSTAND_GROUP] : [reader],
    holders: [ACCOUNTS_GROUP],
    clock: systemClock,
    telemetry,
  });
  if (opened.ok) undo.push(() => opened.value.close());
  return opened;
}

interface PartNeeds {
  readonly options: PipelineOptions;
  /** As they are when the thread starts, or starts again. */
  readonly streams: Readonly<Record<string, Stream>>;
  readonly spool: Spool | null;
  readonly spoolId: string | undefined;
  readonly ledger: Ledger | null;
  readonly hold: KafkaHold | null;
  readonly received: () => number;
  readonly telemetry: Telemetry;
  /** Where the thread is added. */
  readonly threads: Thread[];
  readonly undo: Undo[];
}

/** Starts parts in threads of their own, and does what they ask for: acknowledgements let go, readings appended. */
function partStarter(needs: PartNeeds): (part: ThreadData['part']) => Thread {
  const { options, streams, spool, spoolId, ledger, hold, received, telemetry, threads, undo } = needs;
  const { config, logLevel, pretty } = options;
  /** Readings that a thread made of others: counted by `millrace_understood_total`, and not as accepted from a device. */
  const appendMade = (readings: readonly Reading[], onDurable: (outcome: Outcome) => void) => {
    ledger?.received(readings.length);
    const receivedMs = received();
    const records = readings.map((reading) => readingRecord(reading, receivedMs, ''));
    ledger?.appendBatch(records, onDurable);
  };
  return (part) => {
    const data = (): ThreadData => ({
      part,
      config: { ...config, streams },
      progress: spool?.progress ?? null,
      ...(spoolId === undefined ? undefined : { spoolId }),
      ...(part === 'forward' && ledger ? { tallyFrom: ledger.beginAnew() } : undefined),
      logLevel,
      pretty,
    });
    const thread = startThread(
      part,
      data,
      (message) => {
        if (message.type === 'forwarded') hold?.forwarded(message.offset);
        if (message.type === 'append')
          appendMade(message.readings, (outcome) => thread.appended(message.request, outcome));
      },
      telemetry,
    );
    threads.push(thread);
    undo.push(() => thread.stop());
    return thread;
  };
}

/** Numbers that are made when somebody asks. */
function exportNumbers(telemetry: Telemetry, ledger: Ledger | null, board: Board, nowMs: number): void {
  if (!ledger) return;
  const { terms, imbalance } = ledger.books();
  for (const [term, readings] of Object.entries(terms)) telemetry.ledgerReadings.set({ term }, readings);
  telemetry.ledgerImbalance.set(imbalance);
  const { devices, silent, skewed, gapped, refusing, largestSkewMs } = board.summary(nowMs);
  telemetry.largestSkewSeconds.set(largestSkewMs / 1_000);
  for (const [state, count] of Object.entries({ seen: devices, silent, skewed, gapped, refused: refusing })) {
    telemetry.devices.set({ state }, count);
  }
}

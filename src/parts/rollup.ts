/**
 * The thread that folds the log into rows: reads Kafka's readings topic, or the spool where there is no Kafka, and writes
 * InfluxDB, or the embedded store where there is none. What could not be counted goes to the late log. With two stages
 * (rollup/panes.ts) both are in this thread, each with a consumer group of its own.
 */
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import type { Outcome } from '../errors.ts';
import { nodeFiles } from '../journal/files.ts';
import { kafkaReader } from '../journal/kafka-reader.ts';
import { kafkaTopics, untilTopicsReady } from '../journal/kafka-topics.ts';
import { kafkaWriter } from '../journal/kafka-writer.ts';
import { openSpool } from '../journal/spool.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import type { LogReader, LogRecord } from '../log.ts';
import { backoff, pause } from '../retry.ts';
import type { RefusedRow } from '../rollup/partition.ts';
import { type Repair, repairGroup, startRepair } from '../rollup/repair.ts';
import { type Rollup, startRollup } from '../rollup/run.ts';
import { ModelScoring } from '../score/model-scoring.ts';
import { Scoring } from '../score/scoring.ts';
import { openEmbeddedStore } from '../store/embedded.ts';
import { openInfluxStore } from '../store/influx.ts';
import type { Store } from '../store/store.ts';
import { Telemetry } from '../telemetry.ts';
import { refusalRecord } from './accept.ts';
import { type AlertWriter, openAlertWriter } from './alert-log.ts';
import { Alerts } from './alerts.ts';
import { lateFolder, rowsFolder, spoolFolder } from './folders.ts';
import { PartStates } from './states.ts';
import type { Part, ThreadData } from './threads.ts';

/** Few readings are late. */
const LATE_SEGMENT_BYTES = 4 * 2 ** 20;
/** Between two looks into the spool of one that has read everything. */
const REST_MS = 20;

/** What joins two stages. */
interface Panes {
  readonly reader: LogReader;
  append(partition: number, records: readonly LogRecord[]): Promise<Outcome>;
}

/** Where the rollup puts what is not a row. */
interface SideLog {
  /** What was appended as late, for repairs. */
  readonly late: LogReader;
  /** Where the late log has several partitions: to the one that has the same number. */
  appendLate(partition: number, records: readonly LogRecord[]): Promise<Outcome>;
  /** With two stages. */
  readonly panes?: Panes | undefined;
  deadLetter(refused: readonly RefusedRow[]): Promise<Outcome>;
  close(): Promise<void>;
}

export async function startRollupPart(data: ThreadData, telemetry: Telemetry): Promise<Part> {
  const { config } = data;
  const stopping = new AbortController();
  const parts = new PartStates(systemClock);
  parts.set('store', config.influx ? 'influx' : 'rows', 'store', 'starting');
  parts.set('rollup', 'rollup', 'rollup', 'starting');
  const group = rollupGroup(config);
  const rollups: Rollup[] = [];
  let repair: Repair | null = null;
  let store: Store | null = null;
  let side: SideLog | null = null;
  let scoring: Scoring | null = null;
  let models: ModelScoring | null = null;
  let alertLog: AlertWriter | null = null;
  let alerts: Alerts | null = null;
  let reader: LogReader | null = null;

  /** The thread dies, and threads.ts starts it again from its checkpoint. */
  const onEnded = (reason: unknown) => {
    throw reason;
  };

  /** Tries until it works, the failure is final, or the part is stopped; says why meanwhile. */
  const insist = async <T>(
    kind: 'store' | 'rollup',
    what: string,
    attempt: () => Promise<Outcome<T>>,
  ): Promise<T | null> => {
    const pauses = backoff({ firstMs: 250, maxMs: 10_000 });
    for (let failures = 1; !stopping.signal.aborted; failures++) {
      const outcome = await attempt();
      if (outcome.ok) {
        if (failures > 1) telemetry.log.info(`${what}: works now`);
        return outcome.value;
      }
      const { failure } = outcome;
      if (failure.code === 'STOPPED') return null;
      parts.failed(kind, failure);
      telemetry.limited(
        failure.retryable ? 'warn' : 'error',
        what,
        { code: failure.code },
        `${what}: ${failure.message}`,
        60_000,
      );
      await pause(Math.max(failure.retryAfterMs ?? 0, pauses.delayMs(failures)), stopping.signal);
    }
    return null;
  };

  /** Of the stage that reads the readings: up to there, all partitions are final and committed. */
  const frontierMs = (): number | null => {
    const frontiers = rollups[0]?.status().map(({ durableToMs }) => durableToMs) ?? [];
    return frontiers.length === 0 || frontiers.includes(null) ? null : Math.min(...(frontiers as number[]));
  };

  const starting = (async () => {
    store = await insist('store', 'opening the store', () => openStore(config, telemetry, false));
    if (!store) return;
    const ready = store;
    const windows = Object.values(config.streams).flatMap((stream) =>
      stream.windows.map((window) => ({ stream: stream.name, window })),
    );
    if ((await insist('store', 'preparing the store', async () => asValue(await ready.prepare(windows)))) === null)
      return;
    if (config.kafka) {
      const topics = await untilTopicsReady(config.kafka, telemetry, stopping.signal, undefined, (failure) =>
        parts.failed('rollup', failure),
      );
      if (!topics.ok) {
        if (topics.failure.code === 'STOPPED') return;
        parts.set('rollup', 'rollup', 'rollup', 'stopped', topics.failure);
        telemetry.log.error({ code: topics.failure.code }, `nothing is counted: ${topics.failure.message}`);
        return;
      }
      reader = kafkaReader(config.kafka, kafkaTopics(config.kafka).readings, telemetry);
    } else {
      reader = openSpoolReader({
        folder: spoolFolder(config),
        ...(data.progress ? { progress: data.progress } : undefined),
        clock: systemClock,
        telemetry,
        restMs: REST_MS,
      });
    }
    side = await insist('rollup', 'opening the late log', () => openSideLog(config, telemetry));
    if (!side) return;
    if (config.alerts) {
      alertLog = await insist('rollup', 'opening the log of alerts', () => openAlertWriter(config, telemetry));
      if (!alertLog) return;
      const isScored = () => scoring?.isSettled ?? false;
      alerts = new Alerts({ config, store: ready, writer: alertLog, telemetry, frontierMs, isScored });
      await alerts.start();
    }
    const watching = alerts;
    const tellsScores = config.alerts?.rules.some(({ kind }) => kind === 'score');
    scoring = new Scoring({
      streams: config.streams,
      maxSeries: config.score.maxSeries,
      store: ready,
      ...(watching && tellsScores ? { alert: (scores) => watching.scored(scores) } : undefined),
      telemetry,
    });
    models = new ModelScoring({
      streams: config.streams,
      maxSeries: config.score.maxSeries,
      limits: config.score.model,
      store: ready,
      telemetry,
      clock: systemClock,
    });
    const { appendLate, deadLetter, panes } = side;
    const stages = panes
      ? ([
          ['first', reader],
          ['second', panes.reader],
        ] as const)
      : ([['only', reader]] as const);
    for (const [stage, from] of stages) {
      const started = await startRollup({
        reader: from,
        group,
        stage,
        streams: config.streams,
        config: config.rollup,
        store: ready,
        appendLate,
        deadLetter,
        ...(panes ? { appendPanes: panes.append } : undefined),
        telemetry,
        clock: systemClock,
        onClosed: (rows) => {
          scoring?.closed(rows);
          models?.closed(rows);
        },
        ...(watching ? { alert: (rows) => watching.closed(rows) } : undefined),
        ...(watching && !config.kafka ? { onRefusal: (record) => watching.refused(record) } : undefined),
        ...(watching && watching.watched.size > 0 && stage !== 'second'
          ? { watched: watching.watched, onReadings: (records) => watching.read(records) }
          : undefined),
        onAssigned: (partitions) => {
          scoring?.reassigned();
          models?.reassigned();
          watching?.assigned(stage === 'second' ? undefined : partitions);
        },
        onEnded,
      });
      if (!started.ok) {
        parts.set('rollup', 'rollup', 'rollup', 'stopped', started.failure);
        return;
      }
      rollups.push(started.value);
    }
    if (config.rollup.repair === 'off') return;
    repair = await startRepair({
      log: reader,
      late: side.late,
      panes: panes?.reader,
      group,
      streams: config.streams,
      config: config.rollup,
      store: ready,
      telemetry,
      clock: systemClock,
      delayMs: config.rollup.repairDelayMs,
      onEnded,
    });
  })();

  return {
    status: () => {
      const partitions = rollups.flatMap((rollup) => rollup.status());
      if (rollups.length > 0) {
        const held = partitions.find((partition) => partition.waiting?.failure)?.waiting?.failure;
        const waiting = held ?? rollups.map((rollup) => rollup.trouble()).find((failure) => failure !== null);
        if (waiting) parts.failed(waiting.code.startsWith('STORE') ? 'store' : 'rollup', waiting);
        else parts.works();
      }
      const backlog = partitions.reduce(
        (sum, { endOffset, engine }) => sum + Math.max(0, endOffset - engine.position),
        0,
      );
      const [only] = partitions;
      const position = config.kafka === null && only ? { position: only.engine.position } : undefined;
      return { parts: parts.all(), backlog: only ? backlog : null, ...position };
    },
    running: (query) => rollups.flatMap((rollup) => rollup.running(query)).slice(0, query.limit),
    forecasts: (query) => scoring?.forecasts(query) ?? [],
    async stop() {
      stopping.abort();
      await starting;
      await repair?.stop();
      await Promise.all(rollups.map((rollup) => rollup.stop()));
      // Together: what is being scored may wait for its alerts, which end that wait when they stop.
      await Promise.all([alerts?.stop(), scoring?.stop(), models?.stop()]);
      await alertLog?.close();
      await side?.close();
      await store?.close();
      await reader?.close();
    },
  };
}

/** The reader of the spool whose cursor holds its segments back; with Kafka the configured consumer group. */
export const ROLLUP_GROUP = 'rollup';

/** The consumer group whose commits say which windows are closed and durable. */
export function rollupGroup(config: Config): string {
  return config.kafka?.group ?? ROLLUP_GROUP;
}

function asValue(outcome: Outcome): Outcome<true> {
  return outcome.ok ? { ok: true, value: true } : outcome;
}

export async function openStore(config: Config, telemetry: Telemetry, readOnly: boolean): Promise<Outcome<Store>> {
  if (config.influx)
    return { ok: true, value: openInfluxStore({ config: config.influx, telemetry, clock: systemClock }) };
  const folder = rowsFolder(config);
  const { maxBytes } = config.store;
  if (!readOnly) {
    // One writer: with Kafka nothing else in the data folder is locked by a rollup.
    await nodeFiles.makeFolder(folder);
    const locked = await nodeFiles.lock(folder);
    if (!locked.ok) return locked;
    const store = openEmbeddedStore({ folder, maxBytes, telemetry, clock: systemClock });
    const close = store.close.bind(store);
    store.close = () => close().finally(() => locked.value.release());
    return { ok: true, value: store };
  }
  return { ok: true, value: openEmbeddedStore({ folder, maxBytes, telemetry, clock: systemClock, readOnly }) };
}

async function openSideLog(config: Config, telemetry: Telemetry): Promise<Outcome<SideLog>> {
  if (config.kafka) {
    const options = { gateway: config.gateway, telemetry };
    const topics = kafkaTopics(config.kafka);
    const late = kafkaWriter(config.kafka, topics.late, options);
    const deadLetters = kafkaWriter(config.kafka, topics.deadletters, options);
    const lateReader = kafkaReader(config.kafka, topics.late, telemetry);
    const panesWriter = kafkaWriter(config.kafka, topics.panes, options);
    const panesReader = kafkaReader(config.kafka, topics.panes, telemetry);
    const append = panesWriter.appendTo;
    return {
      ok: true,
      value: {
        appendLate: late.appendTo,
        deadLetter: (refused) => deadLetters.append(refused.map((each) => refusedRow(each, systemClock.nowMs()))),
        late: lateReader,
        panes: config.rollup.stages === 2 ? { reader: panesReader, append } : undefined,
        async close() {
          await lateReader.close();
          await panesReader.close();
          await panesWriter.close();
          await late.close();
          await deadLetters.close();
        },
      },
    };
  }
  const spool = await openSpool({
    folder: lateFolder(config),
    ...config.spool,
    segmentBytes: Math.min(config.spool.segmentBytes, LATE_SEGMENT_BYTES),
    historyBytes: config.spool.maxBytes,
    readers: config.rollup.repair === 'auto' ? [repairGroup(ROLLUP_GROUP)] : [],
    clock: systemClock,
    // Its numbers are not the spool's: they are not exported.
    telemetry: new Telemetry(telemetry.log),
  });
  if (!spool.ok) return spool;
  const log = spool.value;
  const { progress } = log;
  const late = openSpoolReader({ folder: lateFolder(config), progress, clock: systemClock, telemetry });
  return {
    ok: true,
    value: {
      late,
      appendLate: (_partition, records) => log.appendAll(records),
      deadLetter: (refused) => log.appendAll(refused.map((each) => refusedRow(each, log.lastReceivedMs))),
      async close() {
        await late.close();
        await log.close();
      },
    },
  };
}

/** A row that the store will never take, as a dead letter: the row is the payload. */
function refusedRow({ row, reason }: RefusedRow, receivedMs: number): LogRecord {
  const payload = Buffer.from(JSON.stringify(row));
  const refusal = {
    code: 'store-refused',
    reason,
    field: '',
    stream: row.stream,
    topic: '',
    client: '',
    payload,
  } as const;
  return refusalRecord(refusal, receivedMs);
}

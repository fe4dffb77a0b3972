/**
 * The gateway half of the pipeline, joined: the ways in (MQTT, other brokers, HTTP), inspection, and the spool behind the
 * ledger. Everything is ready to keep what it accepts before a listener opens; schemas, registries, users and certificates are
 * loaded again while it runs.
 */
import { setFlagsFromString } from 'node:v8';
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { type Outcome, succeed } from '../errors.ts';
import { type Bridge, startBridge } from '../ingress/bridge.ts';
import { type Broker, startBroker } from '../ingress/broker.ts';
import { type HttpIngest, startHttpIngest } from '../ingress/http.ts';
import { loadAssets } from '../inspect/assets.ts';
import { BirthMemory } from '../inspect/births.ts';
import { rebirthPayload, rebirthTopic } from '../inspect/decode/sparkplug-wire.ts';
import { createInspector, DEFAULT_LIMITS, type InspectLimits } from '../inspect/inspect.ts';
import { createRouter } from '../inspect/route.ts';
import { SeriesMemory } from '../inspect/series.ts';
import { type AssetWatch, watchAssets } from '../inspect/watch.ts';
import { Progress } from '../journal/progress.ts';
import type { Spool } from '../journal/spool.ts';
import type { NewRecord } from '../log.ts';
import type { Inspection, Message } from '../reading.ts';
import { matchTopic, type Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Board } from '../view/board.ts';
import { createAccept, tickRecord } from './accept.ts';
import type { OpenedAccounts } from './accounts.ts';
import { type Commands, startCommands } from './commands.ts';
import type { KafkaHold } from './hold.ts';
import type { Ledger } from './ledger.ts';
import { createTraceSource } from './trace-source.ts';

/**
 * V8 makes objects old at birth where it has seen most of a kind survive. A reading waits some milliseconds for the disk;
 * seen at an unlucky moment, such as a thousand devices connecting, all later ones are made old for good, with all that
 * they hold, and only rare full collections free them: 1 MiB of garbage for each collection of the young. The setting is
 * the process's. What a rollup makes does live long: one that has a process to itself does without, and is a twentieth quicker.
 */
const HEAP_FLAGS = '--no-allocation-site-pretenuring';

export interface GatewayNeeds {
  readonly config: Config;
  readonly spool: Spool;
  readonly ledger: Ledger;
  readonly accounts: OpenedAccounts;
  readonly hold: KafkaHold | null;
  readonly received: () => number;
  readonly board: Board;
  readonly telemetry: Telemetry;
  /** Steps to be undone, in reverse order, at a stop and when a later step of the start fails. */
  readonly undo: (() => Promise<void>)[];
}

export interface Gateway {
  readonly broker: Broker;
  readonly http: HttpIngest | null;
  readonly bridges: readonly Bridge[];
  inspect(message: Message): Inspection;
  /**
   * Reads what these streams need. Ok: the answer makes them part of what is accepted, at once and as a whole: a message is
   * inspected by the streams before or by those after.
   */
  prepare(added: readonly Stream[]): Promise<Outcome<() => Promise<void>>>;
  readonly append: (record: NewRecord, onDurable: (outcome: Outcome) => void) => void;
  /** Null: the configuration has none. */
  readonly commands: Commands | null;
}

export async function startGateway(needs: GatewayNeeds): Promise<Outcome<Gateway>> {
  const { config, spool, ledger, accounts, hold, received, board, telemetry, undo } = needs;
  setFlagsFromString(HEAP_FLAGS);
  let streams: readonly Stream[] = Object.values(config.streams);
  const limits: InspectLimits = {
    ...DEFAULT_LIMITS,
    payloadBytes: config.mqtt.limits.packetBytes,
    skewMs: config.rollup.skewMs,
    maxSeries: config.rollup.maxSeries,
    wellFormed: config.kafka?.schemaRegistry?.format === 'avro',
  };
  const assets = await loadAssets(streams, limits);
  if (!assets.ok) return assets;
  const memory = new SeriesMemory(limits);
  let publish: Broker['publish'] = () => {};
  const bridges: Bridge[] = [];
  const births = new BirthMemory((group, node) => {
    const [topic, payload] = [rebirthTopic(group, node), rebirthPayload(systemClock.nowMs())];
    publish(topic, payload);
    // The node may be behind one of them.
    for (const bridge of bridges) bridge.publish(topic, payload);
  });
  const traces = createTraceSource(telemetry);
  let inspector = createInspector(streams, assets.value, limits, memory, births, traces);
  const watchFiles = (of: readonly Stream[]) =>
    watchAssets({
      streams: of,
      limits,
      loaded: (changed) => {
        inspector = createInspector(of, changed, limits, memory, births, traces);
        telemetry.log.info('schemas and registries were loaded again');
      },
      failed: (failure) =>
        telemetry.log.error({ code: failure.code }, `the old schemas and registries stay: ${failure.message}`),
    });
  let watch: AssetWatch = await watchFiles(streams);
  undo.push(() => watch.stop());

  const progress = new Progress(spool.progress);
  const append = hold
    ? (record: NewRecord, onDurable: (outcome: Outcome) => void) =>
        ledger.append(record, (outcome) => hold.add(progress.durableEnd(), outcome, onDurable))
    : (record: NewRecord, onDurable: (outcome: Outcome) => void) => ledger.append(record, onDurable);
  const appendBatch = hold
    ? (records: readonly NewRecord[], onDurable: (outcome: Outcome) => void) =>
        ledger.appendBatch(records, (outcome) => hold.add(progress.durableEnd(), outcome, onDurable))
    : (records: readonly NewRecord[], onDurable: (outcome: Outcome) => void) => ledger.appendBatch(records, onDurable);
  let commands: Commands | null = null;
  const accept = createAccept({
    inspect: (message) => inspector.inspect(message),
    append,
    appendBatch,
    received: (readings) => ledger.received(readings),
    telemetry,
    onAccepted: (reading, receivedMs) => board.accepted(reading, receivedMs),
    onRefused: (refusal, receivedMs) => board.refused(refusal, receivedMs),
  });

  const route = createRouter(streams);
  /**
   * An answer to a command is durable as such; one whose topic is of a stream is also a reading, which alone decides on the
   * acknowledgement.
   */
  const acceptAll: typeof accept = (message, settled) => {
    const answered = commands?.answer(message) ?? null;
    if (answered === null || route(message.topic) !== null) return accept(message, settled);
    void answered.then((outcome) =>
      settled(outcome.ok ? { kind: 'accepted' } : { kind: 'failed', failure: outcome.failure }),
    );
  };

  // A tick that cannot be written is not missed: the next one says more.
  const ticks = setInterval(() => {
    const receivedMs = received();
    ledger.append(tickRecord(receivedMs), () => {});
    accounts.tick(receivedMs);
  }, config.rollup.tickMs);
  undo.push(async () => {
    clearInterval(ticks);
    // What cannot be written now is counted from the spool at the next start.
    await accounts.write(received());
  });

  let retained = streams.filter((stream) => stream.retain);
  // asked for every publish, and most gateways retain nothing
  const retain = (topic: string) =>
    retained.length > 0 && retained.some((stream) => matchTopic(stream.topic, topic) !== null);
  const broker = await startBroker({
    mqtt: config.mqtt,
    accept: acceptAll,
    retain,
    telemetry,
    clock: systemClock,
    received,
  });
  if (!broker.ok) return broker;
  if (config.commands) {
    const started = await startCommands({ config, send: broker.value.send, received, telemetry });
    if (!started.ok) return started;
    commands = started.value;
    broker.value.onReachable((clientId) => started.value.reachable(clientId));
    undo.push(() => started.value.stop());
  }
  undo.push(() => broker.value.close());
  publish = broker.value.publish;
  let http: HttpIngest | null = null;
  if (config.ingest) {
    const started = await startHttpIngest({
      ingest: config.ingest,
      limits: config.mqtt.limits,
      shared: broker.value.shared,
      accept,
      deliver: (topic, payload) => publish(topic, payload, retain(topic)),
      telemetry,
      received,
    });
    if (!started.ok) return started;
    http = started.value;
    undo.push(() => started.value.close());
  }
  const reload = () => {
    const changed = broker.value.reload();
    const outcome = changed.ok && http ? http.reload() : changed;
    if (outcome.ok) telemetry.log.info('users and certificates were loaded again');
    else
      telemetry.log.error(
        { code: outcome.failure.code },
        `the old users and certificates stay: ${outcome.failure.message}`,
      );
  };
  process.on('SIGHUP', reload);
  undo.push(async () => void process.off('SIGHUP', reload));

  for (const source of config.mqtt.sources) {
    const { limits } = config.mqtt;
    const bridge = startBridge({ source, limits, accept, telemetry, clock: systemClock, received });
    if (!bridge.ok) return bridge;
    bridges.push(bridge.value);
    undo.push(() => bridge.value.close());
  }
  return succeed({
    broker: broker.value,
    http,
    bridges,
    inspect: (message) => inspector.inspect(message),
    append,
    async prepare(added) {
      const next = [...streams, ...added];
      const loaded = await loadAssets(next, limits);
      if (!loaded.ok) return loaded;
      return succeed(async () => {
        await watch.stop();
        streams = next;
        retained = next.filter((stream) => stream.retain);
        inspector = createInspector(next, loaded.value, limits, memory, births, traces);
        watch = await watchFiles(next);
        // What changed between the look above and the watch would be missed.
        await watch.reload();
      });
    },
    commands,
  });
}

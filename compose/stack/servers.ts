/**
 * One real Apache Kafka broker (KRaft, no ZooKeeper) or one real InfluxDB 2 on the loopback interface, data in a
 * folder of its own. stack.ts keeps a pair of them running; fault tests start private ones, because they kill them.
 * Settings are for tests: quick rebalances, nothing ever expires, no topic is created by mistake. Not for production.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { alive, end, free, freePort, launch, waitReady } from './launch.ts';
import { provisionInflux, provisionKafka, type Say, StackError } from './provision.ts';

const READY_MS = 120_000;
/** Kafka writes its class archive when it ends for the first time. */
const KAFKA_GRACE_MS = 30_000;
const INFLUX_GRACE_MS = 15_000;
const OWN_ARCHIVE = 'classes.jsa';
const CLUSTER_ID = 'bWlsbHJhY2Utc3RhY2stMQ';

/** A server that was started. Every method resolves when what it says is done. */
export interface Server {
  readonly port: number;
  readonly log: string;
  pid(): number;
  running(): boolean;
  /** kill -9. */
  kill(): Promise<void>;
  /** In order; kill -9 when it takes too long. */
  stop(): Promise<void>;
  /** On the same port and data; after kill() or stop(), or instead of stop() first. Ready when it resolves. */
  restart(): Promise<void>;
  /** SIGSTOP: connections stay open and nothing answers. */
  freeze(): void;
  thaw(): void;
}

export interface KafkaServer extends Server {
  readonly brokers: string[];
}

export interface InfluxServer extends Server {
  readonly url: string;
  readonly org: string;
  readonly token: string;
}

export interface StartOptions {
  /** Data and log of this one server; made when missing. */
  readonly dir: string;
  /** Default: any free one. */
  readonly port?: number;
  /** Lives on when this process ends. Default: it is killed then. */
  readonly detached?: boolean;
  readonly readyMs?: number;
  /** Progress for a person; fetching and building happen only where the cache lacks something. */
  readonly say?: Say;
}

export async function startKafka(
  options: StartOptions & {
    /** Given our lines of server.properties, those that add to them or replace them. */
    readonly settings?: (ours: Readonly<Record<string, string>>) => Readonly<Record<string, string>>;
    /** Users of SCRAM, which are kept in the data: `SCRAM-SHA-256=[name=alice,password=right]`. */
    readonly scram?: readonly string[];
  },
): Promise<KafkaServer> {
  const parts = await provisionKafka(options.say ?? (() => {}));
  const { dir } = options;
  const port = options.port || (await freePort());
  const file = join(dir, 'server.properties');
  const ownArchive = join(dir, OWN_ARCHIVE);
  mkdirSync(dir, { recursive: true });

  const server = await serve('Kafka', options, port, 'SIGTERM', KAFKA_GRACE_MS, {
    prepare: async () => {
      const ours = kafkaSettings(dir, port, await freePort());
      const settings = { ...ours, ...options.settings?.(ours) };
      const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
      writeFileSync(file, lines.join(''));
      if (existsSync(join(dir, 'data', 'meta.properties'))) return;
      const users = (options.scram ?? []).flatMap((user) => ['--add-scram', user]);
      const format = [
        'kafka.tools.StorageTool',
        'format',
        '--ignore-formatted',
        '-t',
        CLUSTER_ID,
        '-c',
        file,
        ...users,
      ];
      const made = spawnSync('java', ['-Xmx128m', '-XX:TieredStopAtLevel=1', '-cp', parts.classpath, ...format], {
        encoding: 'utf8',
      });
      if (made.status !== 0)
        throw new StackError(`Kafka's storage could not be formatted:\n${made.stdout}${made.stderr}`);
    },
    command: () => {
      const archived = existsSync(parts.archive);
      const sharing = archived ? `-XX:SharedArchiveFile=${parts.archive}` : `-XX:ArchiveClassesAtExit=${ownArchive}`;
      const flags = ['-Xms64m', '-Xmx256m', '-XX:+IgnoreUnrecognizedVMOptions', sharing];
      const logging = ['-Dorg.slf4j.simpleLogger.showDateTime=true', '-Dorg.slf4j.simpleLogger.defaultLogLevel=info'];
      return { command: 'java', args: [...flags, ...logging, '-cp', parts.classpath, 'kafka.Kafka', file] };
    },
    ready: (output) => output.includes('Kafka Server started'),
    stopped: () => keepArchive(ownArchive, parts.archive),
  });
  return { ...server, brokers: [`127.0.0.1:${port}`] };
}

function kafkaSettings(dir: string, port: number, controllerPort: number): Record<string, string> {
  return {
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
    'listener.security.protocol.map':
      'CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL',
    'log.dirs': join(dir, 'data'),
    'auto.create.topics.enable': 'false',
    // Tests write records with old stamps, which any retention time would remove within minutes.
    'log.retention.ms': '-1',
    'log.segment.bytes': '104857600',
    'log.cleaner.dedupe.buffer.size': '4194304',
    'offsets.topic.num.partitions': '1',
    'offsets.topic.replication.factor': '1',
    'transaction.state.log.num.partitions': '1',
    'transaction.state.log.replication.factor': '1',
    'transaction.state.log.min.isr': '1',
    'group.initial.rebalance.delay.ms': '0',
    'group.min.session.timeout.ms': '1000',
    // After kill -9 the controller refuses the same broker until its old session is over.
    'broker.session.timeout.ms': '3000',
    'broker.heartbeat.interval.ms': '500',
  };
}

export async function startInflux(
  options: StartOptions & {
    /** More flags for influxd, e.g. `--storage-wal-flush-on-shutdown`. */
    readonly flags?: readonly string[];
    /** Operator token of organisation `millrace`; default: a random one, kept in the folder. */
    readonly token?: string;
  },
): Promise<InfluxServer> {
  const influxd = await provisionInflux(options.say ?? (() => {}));
  const { dir } = options;
  const port = options.port || (await freePort());
  const url = `http://127.0.0.1:${port}`;
  mkdirSync(dir, { recursive: true });
  const tokenFile = join(dir, 'token');
  if (!existsSync(tokenFile))
    writeFileSync(tokenFile, options.token ?? randomBytes(24).toString('hex'), { mode: 0o600 });
  const token = readFileSync(tokenFile, 'utf8');
  const org = 'millrace';

  const places = ['--engine-path', join(dir, 'engine'), '--bolt-path', join(dir, 'influxd.bolt')];
  places.push('--sqlite-path', join(dir, 'influxd.sqlite'), '--http-bind-address', `127.0.0.1:${port}`);
  const args = [...places, '--reporting-disabled', '--log-level', 'warn', ...(options.flags ?? [])];
  // Only SIGINT ends influxd in order.
  const server = await serve('InfluxDB', options, port, 'SIGINT', INFLUX_GRACE_MS, {
    prepare: async () => {},
    command: () => ({ command: influxd, args }),
    ready: () =>
      fetch(`${url}/health`).then(
        (answer) => answer.body?.cancel().then(() => answer.ok) ?? answer.ok,
        () => false,
      ),
    stopped: () => {},
  });
  try {
    await setUp(url, org, token);
  } catch (error) {
    await server.kill();
    throw error;
  }
  return { ...server, url, org, token };
}

/** The first start makes the organisation, its token and one bucket; 422 says that this was done before. */
async function setUp(url: string, org: string, token: string): Promise<void> {
  const body = { username: 'millrace', password: token.padEnd(8, '-').slice(0, 72), org, bucket: 'telemetry', token };
  const answer = await fetch(`${url}/api/v2/setup`, { method: 'POST', body: JSON.stringify(body) });
  const text = await answer.text();
  if (answer.status === 201) return;
  if (answer.status !== 422) throw new StackError(`InfluxDB could not be set up: ${answer.status} ${text}`);
  const check = await fetch(`${url}/api/v2/buckets?limit=1`, { headers: { authorization: `Token ${token}` } });
  await check.text();
  if (!check.ok) throw new StackError(`InfluxDB at ${url} was set up with another token: use an empty folder.`);
}

interface Program {
  prepare(): Promise<void>;
  command(): { command: string; args: readonly string[] };
  ready(output: string): boolean | Promise<boolean>;
  stopped(): void;
}

async function serve(
  name: string,
  options: StartOptions,
  port: number,
  signal: NodeJS.Signals,
  graceMs: number,
  program: Program,
): Promise<Server> {
  const { dir, detached = false, readyMs = READY_MS } = options;
  const log = join(dir, 'server.log');
  let pid = 0;
  const start = async () => {
    if (!(await free(port))) throw new StackError(`${name} cannot start: port ${port} is in use.`);
    await program.prepare();
    const started = launch({ ...program.command(), log, detached });
    pid = started.child.pid ?? 0;
    await waitReady(name, started, log, readyMs, (output) => program.ready(output));
  };
  await start();
  const server: Server = {
    port,
    log,
    pid: () => pid,
    running: () => alive(pid, dir),
    kill: async () => {
      await end(pid, dir, 'SIGKILL', graceMs);
    },
    stop: async () => {
      if (await end(pid, dir, signal, graceMs)) program.stopped();
    },
    restart: async () => {
      await server.stop();
      // The kernel frees the port a moment after the process is gone.
      for (let attempt = 0; attempt < 100 && !(await free(port)); attempt++) await sleep(50);
      await start();
    },
    freeze: () => void process.kill(pid, 'SIGSTOP'),
    thaw: () => void process.kill(pid, 'SIGCONT'),
  };
  return server;
}

/** What stack.ts keeps about a detached server, enough to end it from another process. */
export interface ServerState {
  readonly pid: number;
  readonly port: number;
}

/** False: it had to be killed. */
export async function endDetached(kind: 'kafka' | 'influx', state: ServerState, dir: string): Promise<boolean> {
  if (kind === 'influx') return end(state.pid, dir, 'SIGINT', INFLUX_GRACE_MS);
  const inOrder = await end(state.pid, dir, 'SIGTERM', KAFKA_GRACE_MS);
  if (inOrder) keepArchive(join(dir, OWN_ARCHIVE), (await provisionKafka(() => {})).archive);
  return inOrder;
}

/** Only from a process that ended in order: another one's archive may be half written. */
function keepArchive(own: string, shared: string): void {
  if (existsSync(own) && !existsSync(shared)) renameSync(own, shared);
}

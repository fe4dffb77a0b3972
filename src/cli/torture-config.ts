/**
 * The configuration of a torture run: one stream with short windows and small limits, and of the user's own file nothing
 * but how to reach Kafka and InfluxDB. Topics, buckets and consumer group are the run's own.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import type { Config } from '../config.ts';
import type { Rules } from '../torture/ledger-readings.ts';
import type { Link, ProcessPlan } from '../torture/world.ts';

export const TORTURE_PARTITIONS = 4;

export const TORTURE_RULES: Rules & { readonly disorderMs: number } = {
  graceMs: 4_000,
  disorderMs: 500,
  skewMs: 3_000,
  streams: [
    {
      name: 'environment',
      topic: 'torture/{group}/{device}/environment',
      time: 'ts',
      sequence: 'seq',
      metrics: ['temperature', 'humidity', 'pressure'],
      windows: ['2s', '10s', '10s_2s'],
    },
  ],
};

/** Publishes per second of one client: what the flood runs into. */
const RATE_PER_CLIENT = 200;
const FILES = new Set(['ca', 'cert', 'key']);
/** The log is kept whole, so that all of it can be checked. */
const LOG_BYTES = '8GiB';

type Section = Record<string, unknown>;

export class TortureSettings {
  readonly name: string;
  readonly isApart: boolean;
  readonly store: Link | null;
  readonly against: string;
  readonly #folder: string;
  /** The user's. */
  readonly own: Config | null;
  readonly #document: { readonly kafka?: Section; readonly influx?: Section };
  readonly #files: { readonly role: string; readonly file: string }[] = [];

  constructor(folder: string, name: string, own: Config | null) {
    this.name = name;
    this.#folder = folder;
    this.own = own;
    this.#document = own === null ? {} : parse(readFileSync(own.file, 'utf8'));
    this.isApart = own?.kafka !== null && own !== null;
    const url = own?.influx ? new URL(own.influx.url) : null;
    const port = url === null ? 0 : Number(url.port || (url.protocol === 'https:' ? 443 : 80));
    // Behind TLS a proxy would have another name than the certificate.
    this.store = url === null || url.protocol === 'https:' ? null : { name: 'InfluxDB', host: url.hostname, port };
    const servers = [
      own?.kafka ? `Kafka at ${own.kafka.brokers.join(', ')}` : 'the embedded log',
      own?.influx ? `InfluxDB at ${own.influx.url}` : 'the embedded store',
    ];
    this.against = servers.join(' and ');
  }

  /** The configuration under which the log and the rows can be read. */
  get mainFile(): string {
    return (this.#files.find(({ role }) => role !== 'gateway') ?? this.#files[0]!).file;
  }

  write({ name, role, data, mqttPort, httpPort, storePort }: ProcessPlan): string {
    const { graceMs, disorderMs, skewMs, streams } = TORTURE_RULES;
    const [stream] = streams;
    const { topic, time, sequence, metrics, windows } = stream!;
    const { kafka, influx } = this.#document;
    const base = this.own === null ? '' : dirname(this.own.file);
    const document: Section = {
      data,
      gateway: 'torture',
      mqtt: {
        listeners: [{ port: mqttPort, host: '127.0.0.1' }],
        limits: { rate_per_client: RATE_PER_CLIENT, pending_per_client: 1_000 },
      },
      http: { port: httpPort, host: '127.0.0.1' },
      spool: { segment: '4MiB', max: LOG_BYTES, history: LOG_BYTES },
      rollup: {
        ...{ grace: `${graceMs}ms`, disorder: `${disorderMs}ms`, skew: `${skewMs}ms` },
        ...{ tick: '500ms', flush: '250ms', repair: 'off' },
      },
      streams: {
        environment: { topic, time, sequence, metrics, windows: windows.map(windowSetting) },
      },
    };
    if (kafka) {
      const own = { prefix: this.name, group: this.name, partitions: TORTURE_PARTITIONS, session_timeout: '6s' };
      document.kafka = { ...absolute(kafka, base), ...own, create_topics: true, continues: false, start: 'earliest' };
    }
    if (influx) {
      const address = storePort === undefined ? {} : { url: this.#through(storePort) };
      document.influx = { ...influx, ...address, bucket: this.name, create_buckets: true, retention: {} };
    }
    const file = join(this.#folder, `${name}.yaml`);
    writeFileSync(file, stringify(document), { mode: 0o600 });
    this.#files.push({ role, file });
    return file;
  }

  #through(port: number): string {
    const url = new URL(this.own!.influx!.url);
    return `${url.protocol}//127.0.0.1:${port}${url.pathname === '/' ? '' : url.pathname}`;
  }
}

/** Paths in the user's file are meant from where it stands. */
function absolute(section: Section, base: string): Section {
  const entries = Object.entries(section).map(([key, value]): [string, unknown] => {
    if (FILES.has(key) && typeof value === 'string' && !value.includes('${')) return [key, resolve(base, value)];
    const isSection = typeof value === 'object' && value !== null && !Array.isArray(value);
    return [key, isSection ? absolute(value as Section, base) : value];
  });
  return Object.fromEntries(entries);
}

function windowSetting(label: string): unknown {
  const [size, every] = label.split('_');
  return every === undefined ? size : { size, every };
}

/** The `kafka:` section: from what the user wrote, and the preset, to the cluster; with everything that cannot work reported. */
import { formatBytes } from '../units.ts';
import { buildTls, type FileAt } from './build.ts';
import { checkKeyPair, checkUrl, isLoopback } from './check.ts';
import { join } from './document.ts';
import {
  GOOGLE_TOKEN_URL,
  type KafkaSasl,
  type Mechanism,
  PRESETS,
  type Preset,
  type Secret,
  type TokenSource,
} from './kafka.ts';
import { type Report, show } from './report.ts';
import type { Settings } from './schema.ts';

type KafkaSettings = NonNullable<Settings['kafka']>;
type SaslSettings = NonNullable<KafkaSettings['sasl']>;
type SaslKey = keyof SaslSettings;

/** What belongs to which way of logging in; a key in none of a mechanism's is one without effect. */
const KEYS: Readonly<Record<'password' | 'token', readonly SaslKey[]>> = {
  password: ['username', 'password', 'password_file', 'key_file'],
  token: [
    'token_file',
    'token_command',
    'token_url',
    'client_id',
    'client_secret',
    'client_secret_file',
    'scope',
    'region',
    'extensions',
  ],
};
const TOKEN_SOURCES = ['token_file', 'token_command', 'token_url'] as const;

export function buildKafka({ kafka, commands }: Settings, fileAt: FileAt, report: Report) {
  if (kafka === null) return null;
  checkBrokers(kafka, report);
  if (!['earliest', 'latest'].includes(kafka.start) && Number.isNaN(Date.parse(kafka.start))) {
    const expected = 'earliest, latest, or a time such as 2026-01-31T12:00:00Z';
    report.mistake('/kafka/start', { message: `${show(kafka.start)} is not a time`, value: kafka.start, expected });
  }
  const preset = kafka.preset === null ? null : PRESETS[kafka.preset];
  const otherwise = <T>(key: string, value: T, presets: T | undefined): T =>
    presets === undefined || report.isWritten(join('/kafka', key)) ? value : presets;
  const tls = otherwise('tls', kafka.tls, preset ? NO_FILES : undefined);
  checkKeyPair(kafka.tls, '/kafka/tls', report);
  checkPreset(kafka, preset, report);
  const requestBytes = otherwise('request', kafka.request, preset?.requestBytes);
  checkSizes(kafka, requestBytes, report);
  const sasl = buildSasl(kafka, preset, fileAt, report);
  if (sasl?.mechanism === 'plain' && tls === null) {
    const wayOut = 'add tls: true, or use scram-sha-512';
    const message = 'plain without tls sends the password readable';
    const at = '/kafka/sasl/mechanism';
    report.warn(report.isWritten(at) ? at : '/kafka/sasl', { message, wayOut });
  }
  return {
    brokers: kafka.brokers.flatMap((broker) => broker.split(',').map((one) => one.trim())),
    prefix: kafka.prefix,
    partitions: kafka.partitions,
    replicationFactor: otherwise('replication_factor', kafka.replication_factor, preset?.replicationFactor),
    compression: otherwise('compression', kafka.compression, preset?.compression),
    lingerMs: kafka.linger,
    batchBytes: kafka.batch,
    requestBytes,
    requestTimeoutMs: kafka.request_timeout,
    sessionTimeoutMs: otherwise('session_timeout', kafka.session_timeout, preset?.sessionTimeoutMs),
    group: kafka.group,
    fetchBytes: kafka.fetch,
    fetchWaitMs: kafka.fetch_wait,
    createTopics: otherwise<boolean>('create_topics', kafka.create_topics, preset?.createTopics),
    ...(commands ? { commands: true } : undefined),
    tls: tls && buildTls(tls, '/kafka/tls', fileAt),
    sasl,
    schemaRegistry: buildRegistry(kafka, fileAt, report),
  };
}

function buildRegistry({ schema_registry: registry }: KafkaSettings, fileAt: FileAt, report: Report) {
  if (registry === null) return null;
  const at = '/kafka/schema_registry';
  const { format, register, username, timeout: timeoutMs } = registry;
  const url = checkUrl(registry.url, `${at}/url`, ['https:', 'http:'], report);
  const hasPassword = registry.password !== null || registry.password_file !== null;
  if (username === null && hasPassword) {
    const key = registry.password === null ? 'password_file' : 'password';
    report.mistake(join(at, key), { message: 'a password without a user name', atKey: true });
  }
  const password = username === null ? null : buildSecret(registry, at, 'password', fileAt, report);
  if (password !== null && url?.protocol === 'http:' && !isLoopback(url.hostname)) {
    report.warn(`${at}/url`, { message: 'http: sends the password readable', wayOut: 'write https:' });
  }
  return { url: registry.url, format, register, username, password, timeoutMs };
}

const NO_FILES = { ca: null, cert: null, key: null };

function checkBrokers(kafka: KafkaSettings, report: Report): void {
  if (kafka.replication_factor === 0) {
    report.mistake('/kafka/replication_factor', {
      message: '0 copies keep nothing',
      value: '0',
      expected: "-1 (the brokers' default) or 1 to 32",
    });
  }
  kafka.brokers.forEach((broker, i) => {
    for (const one of broker.split(',')) {
      const port = Number(one.slice(one.lastIndexOf(':') + 1));
      if (port >= 1 && port <= 65_535) continue;
      const message = `${show(broker)} has no port from 1 to 65535`;
      report.mistake(join('/kafka/brokers', i), { message, value: broker, expected: 'host:port' });
    }
  });
}

/** One batch at least must fit. */
function checkSizes({ batch, request }: KafkaSettings, requestBytes: number, report: Report): void {
  if (batch <= requestBytes) return;
  const message = `${formatBytes(batch)} is more than one request, ${formatBytes(requestBytes)}`;
  const at = request === requestBytes && !report.isWritten('/kafka/batch') ? '/kafka/request' : '/kafka/batch';
  report.mistake(at, { message, involved: ['/kafka/request', '/kafka/batch'] });
}

function checkPreset({ preset: name, tls, batch, sasl }: KafkaSettings, preset: Preset | null, report: Report): void {
  if (preset === null) return;
  if (preset.needsTls && tls === null && report.isWritten('/kafka/tls')) {
    report.mistake('/kafka/tls', { message: `${name} answers over TLS only`, wayOut: 'leave it out' });
  }
  if (batch > preset.messageBytes) {
    const message = `${formatBytes(batch)} is more than the ${formatBytes(preset.messageBytes)} that ${name} takes`;
    report.warn('/kafka/batch', { message, wayOut: 'make it smaller, unless the limit of your topics was raised' });
  }
  if (sasl === null && preset.ownToken === undefined && preset.needsTls) {
    const wayOut = `add sasl: { ${preset.username ? '' : 'username: ..., '}password: ... }`;
    report.mistake('/kafka/preset', { message: `${name} needs a login`, wayOut, involved: ['/kafka/sasl'] });
  }
}

function buildSasl(kafka: KafkaSettings, preset: Preset | null, fileAt: FileAt, report: Report): KafkaSasl | null {
  const isWritten = (key: SaslKey) => report.isWritten(join('/kafka/sasl', key));
  const { sasl } = kafka;
  if (sasl === null) return preset?.ownToken ? ownToken(kafka, preset, report) : null;
  const keys = Object.keys(sasl) as SaslKey[];
  if (preset === null && !keys.some(isWritten)) {
    report.warn('/kafka/sasl', { message: 'is empty: no user name is sent to Kafka', atKey: true });
    return null;
  }
  const mechanism = mechanismOf(sasl, preset, isWritten);
  if (preset && !preset.mechanisms.includes(mechanism)) {
    const expected = preset.mechanisms.length === 1 ? preset.mechanisms[0]! : `one of ${preset.mechanisms.join(', ')}`;
    const message = `${mechanism} is not offered by ${kafka.preset}`;
    report.mistake('/kafka/sasl/mechanism', { message, value: mechanism, expected });
    return null;
  }
  const kind = mechanism === 'oauthbearer' ? 'token' : 'password';
  for (const key of keys) {
    if (key === 'mechanism' || KEYS[kind].includes(key) || !isWritten(key)) continue;
    const message = `has no effect with ${mechanism}`;
    report.mistake(join('/kafka/sasl', key), { message, atKey: true, wayOut: 'leave it out' });
  }
  if (mechanism === 'oauthbearer') return buildToken(kafka, sasl, preset, fileAt, report);
  return buildPassword(kafka, sasl, mechanism, preset, fileAt, report);
}

function mechanismOf(sasl: SaslSettings, preset: Preset | null, isWritten: (key: SaslKey) => boolean): Mechanism {
  if (sasl.mechanism !== null) return sasl.mechanism;
  if (sasl.key_file !== null) return 'plain';
  if (TOKEN_SOURCES.some(isWritten)) return 'oauthbearer';
  return preset?.mechanism ?? 'scram-sha-512';
}

function buildPassword(
  { preset: presetName }: KafkaSettings,
  sasl: SaslSettings,
  mechanism: Exclude<Mechanism, 'oauthbearer'>,
  preset: Preset | null,
  fileAt: FileAt,
  report: Report,
): KafkaSasl | null {
  if (sasl.key_file !== null) {
    const at = '/kafka/sasl/key_file';
    if (presetName !== 'google-managed' || mechanism !== 'plain') {
      report.mistake(at, { message: 'is for preset: google-managed, with mechanism plain', atKey: true });
    }
    for (const key of ['username', 'password', 'password_file'] as const) {
      if (sasl[key] === null) continue;
      report.mistake(join('/kafka/sasl', key), { message: 'stands in key_file already', atKey: true });
    }
    return { mechanism: 'plain', keyFile: fileAt(at, sasl.key_file) };
  }
  const username = sasl.username ?? preset?.username ?? null;
  if (username === null) report.mistake('/kafka/sasl/username', { message: 'is missing', expected: 'text' });
  const password = buildSecret(sasl, '/kafka/sasl', 'password', fileAt, report);
  return username === null || password === null ? null : { mechanism, username, password };
}

/** One of the setting itself and the file of it. */
function buildSecret<K extends string>(
  settings: Readonly<Record<K | `${K}_file`, string | null>>,
  section: string,
  key: K,
  fileAt: FileAt,
  report: Report,
): Secret | null {
  const file: string | null = settings[`${key}_file`];
  const text: string | null = settings[key];
  const at = join(section, key);
  if (text !== null && file !== null) {
    report.mistake(`${at}_file`, { message: `there is ${key} too`, atKey: true, wayOut: 'keep one of them' });
  }
  if (text === null && file === null) report.mistake(at, { message: 'is missing', expected: 'text' });
  return file === null ? text : { file: fileAt(`${at}_file`, file) };
}

function buildToken(
  kafka: KafkaSettings,
  sasl: SaslSettings,
  preset: Preset | null,
  fileAt: FileAt,
  report: Report,
): KafkaSasl | null {
  const extensions = { ...sasl.extensions };
  const sources = TOKEN_SOURCES.filter((key) => report.isWritten(join('/kafka/sasl', key)));
  const [source, second] = sources;
  if (second !== undefined) {
    const message = `there is ${source} too`;
    report.mistake(join('/kafka/sasl', second), { message, atKey: true, wayOut: 'keep one of them' });
  }
  if (source !== 'token_url' || preset?.ownToken === 'google') {
    for (const key of ['client_id', 'client_secret', 'client_secret_file', 'scope'] as const) {
      if (sasl[key] === null) continue;
      report.mistake(join('/kafka/sasl', key), { message: 'belongs to token_url', atKey: true });
    }
  }
  if (preset?.ownToken !== 'aws' && sasl.region !== null) {
    report.mistake('/kafka/sasl/region', { message: 'is for preset: msk-iam', atKey: true });
  }
  const token = (from: TokenSource): KafkaSasl => ({ mechanism: 'oauthbearer', token: from, extensions });
  if (source === 'token_file') {
    return token({ from: 'file', file: fileAt('/kafka/sasl/token_file', sasl.token_file!) });
  }
  if (source === 'token_command') {
    if (sasl.token_command.length === 0) {
      report.mistake('/kafka/sasl/token_command', { message: 'is empty', expected: 'a program' });
    }
    return token({ from: 'command', command: sasl.token_command });
  }
  if (source === 'token_url') {
    checkUrl(sasl.token_url!, '/kafka/sasl/token_url', ['https:', 'http:'], report);
    if (preset?.ownToken === 'google') return token({ from: 'google', url: sasl.token_url! });
    if (sasl.client_id === null) report.mistake('/kafka/sasl/client_id', { message: 'is missing', expected: 'text' });
    const clientSecret = buildSecret(sasl, '/kafka/sasl', 'client_secret', fileAt, report) ?? '';
    const { scope } = sasl;
    return token({ from: 'url', url: sasl.token_url!, clientId: sasl.client_id ?? '', clientSecret, scope });
  }
  if (preset?.ownToken) return { ...ownToken(kafka, preset, report), extensions };
  report.mistake('/kafka/sasl', {
    message: 'oauthbearer needs a token',
    expected: 'token_file, token_command or token_url',
    atKey: true,
  });
  return null;
}

/** b-1.plant.abc123.c2.kafka.eu-west-1.amazonaws.com:9098 */
const MSK_BROKER = /\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com/;

type TokenLogin = Extract<KafkaSasl, { mechanism: 'oauthbearer' }>;

function ownToken({ brokers, sasl }: KafkaSettings, preset: Preset, report: Report): TokenLogin {
  const token = (from: TokenSource): TokenLogin => ({ mechanism: 'oauthbearer', token: from, extensions: {} });
  if (preset.ownToken === 'google') return token({ from: 'google', url: GOOGLE_TOKEN_URL });
  const region = sasl?.region ?? MSK_BROKER.exec(brokers[0] ?? '')?.[1];
  if (region === undefined) {
    const message = 'the name of the broker does not say the AWS region';
    report.mistake('/kafka/brokers', {
      message,
      wayOut: 'add sasl: { region: eu-west-1 }',
      involved: ['/kafka/brokers/0', '/kafka/sasl'],
    });
  }
  return token({ from: 'aws', region: region ?? '' });
}

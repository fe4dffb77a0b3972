/**
 * What no single value shows: settings that contradict each other or cannot work together. Kafka, streams, alerts and
 * commands are checked where they are built, in build-*.ts.
 */
import { parseWindow, type Stream } from '../stream.ts';
import { formatBytes, formatDuration } from '../units.ts';
import { join } from './document.ts';
import { nearestName, type Report, show } from './report.ts';
import type { Settings } from './schema.ts';

type Listener = Settings['mqtt']['listeners'][number];
type Source = Settings['mqtt']['sources'][number];

export function checkSettings(settings: Settings, streams: Readonly<Record<string, Stream>>, report: Report): void {
  checkAnonymous(settings, report);
  checkEntrance(settings, report);
  checkPending(settings, report);
  checkPorts(settings, report);
  checkSources(settings, report);
  checkSpool(settings, report);
  checkAck(settings, report);
  checkInflux(settings, streams, report);
  checkRollup(settings, streams, report);
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Without a word about anonymous clients they are let in, but only from this machine. */
function checkAnonymous({ mqtt, ingest }: Settings, report: Report): void {
  const { anonymous, users } = mqtt.auth;
  if (anonymous !== null || users !== null) return;
  const wayOut = 'set mqtt.auth.users, or host: 127.0.0.1, or say mqtt.auth.anonymous: true';
  const involved = ['/mqtt/auth/users', '/mqtt/auth/anonymous'];
  if (ingest && !isLoopback(ingest.host)) {
    const message = `${show(ingest.host)} is reached from the network, and anyone may send`;
    report.mistake('/ingest/host', { message, value: ingest.host, wayOut, involved, goOn: true });
  }
  mqtt.listeners.forEach((listener, i) => {
    if (isLoopback(listener.host) || certificatesOf(listener) === 'required') return;
    const at = join('/mqtt/listeners', i);
    const hostAt = join(at, 'host');
    report.mistake(report.isWritten(hostAt) ? hostAt : at, {
      message: `${show(listener.host)} is reached from the network, and anyone may connect`,
      value: listener.host,
      wayOut,
      involved: [...involved, join(at, 'tls')],
      goOn: true,
    });
  });
}

/** Clients must be able to show who they are, and we to tell. */
function checkEntrance({ mqtt }: Settings, report: Report): void {
  const { anonymous, users } = mqtt.auth;
  mqtt.listeners.forEach((listener, i) => {
    if (certificatesOf(listener) === 'none' || listener.tls?.ca !== null) return;
    const at = join(join('/mqtt/listeners', i), 'tls');
    const message = 'needs ca: the authorities that sign client certificates';
    report.mistake(join(at, 'clientCertificate'), { message, involved: [join(at, 'ca')] });
  });
  const shut = mqtt.listeners.length > 0 && mqtt.listeners.every((listener) => certificatesOf(listener) === 'none');
  if (anonymous === false && users === null && shut) {
    const message = 'nobody can connect: there is no users file, and no listener asks for client certificates';
    report.mistake('/mqtt/auth/anonymous', { message, wayOut: 'set mqtt.auth.users', involved: ['/mqtt/auth/users'] });
  }
}

function certificatesOf(listener: Listener): 'none' | 'optional' | 'required' {
  return listener.tls?.clientCertificate ?? 'none';
}

function checkPending({ mqtt }: Settings, report: Report): void {
  const { packet, pending } = mqtt.limits;
  if (pending >= packet) return;
  const message = `${formatBytes(pending)} is less than one packet of mqtt.limits.packet, ${formatBytes(packet)}`;
  report.mistake(written('/mqtt/limits/pending', '/mqtt/limits/packet', report), { message });
}

/** The first of two settings that the user wrote. */
function written(preferred: string, otherwise: string, report: Report): string {
  return report.isWritten(preferred) ? preferred : otherwise;
}

function checkPorts({ mqtt, http, ingest }: Settings, report: Report): void {
  const open: { host: string; port: number; path: string }[] = [];
  const add = (host: string, port: number, at: string, path: string) => {
    const other = port === 0 ? undefined : open.find((one) => one.port === port && meet(one.host, host));
    if (other) {
      const portAt = join(at, 'port');
      const message = `the port ${port} is already that of ${other.path}`;
      report.mistake(report.isWritten(portAt) ? portAt : at, { message, value: String(port) });
    }
    open.push({ host, port, path });
  };
  mqtt.listeners.forEach(({ host, port }, i) => {
    if (!report.isBroken(join('/mqtt/listeners', i)))
      add(host, port, join('/mqtt/listeners', i), `mqtt.listeners[${i}]`);
  });
  add(http.host, http.port, '/http', 'http');
  if (ingest) add(ingest.host, ingest.port, '/ingest', 'ingest');
}

const EVERY_ADDRESS = ['0.0.0.0', '::'];

function meet(a: string, b: string): boolean {
  return a === b || EVERY_ADDRESS.includes(a) || EVERY_ADDRESS.includes(b) || (isLocal(a) && isLocal(b));
}

function isLocal(host: string): boolean {
  return host === 'localhost' || host === '127.0.0.1';
}

const BROKER_PROTOCOLS = ['mqtt:', 'mqtts:', 'ws:', 'wss:'];

function checkSources({ mqtt }: Settings, report: Report): void {
  mqtt.sources.forEach((source, i) => {
    const at = join('/mqtt/sources', i);
    const url = checkUrl(source.url, join(at, 'url'), BROKER_PROTOCOLS, report);
    if (url && source.tls && !['mqtts:', 'wss:'].includes(url.protocol)) {
      const wayOut = `write ${url.protocol === 'ws:' ? 'wss' : 'mqtts'}://${url.host}`;
      report.mistake(join(at, 'tls'), { message: `has no effect on ${url.protocol} addresses`, wayOut, atKey: true });
    }
    if (source.password !== null && source.username === null) {
      const message = 'a password without a user name';
      report.mistake(join(at, 'password'), { message, atKey: true, involved: [join(at, 'username')] });
    }
    checkKeyPair(source.tls, join(at, 'tls'), report);
    source.topics.forEach((topic, j) => {
      const fault = filterFault(topic);
      const topicAt = join(join(at, 'topics'), j);
      if (fault !== null) report.mistake(topicAt, { message: `${show(topic)}: ${fault}`, value: topic });
    });
    const same = mqtt.sources.slice(0, i).findIndex((other) => other.url === source.url && sameClient(other, source));
    if (same >= 0) {
      const message = `the same client id at the same broker as mqtt.sources[${same}]: each would disconnect the other`;
      report.mistake(at, { message, wayOut: 'give one another client_id', goOn: true, involved: [join(at, 'url')] });
    }
  });
}

function sameClient(a: Source, b: Source): boolean {
  return a.client_id === b.client_id;
}

/** What is wrong with a topic filter by MQTT 3.1.1 section 4.7, or null. */
function filterFault(filter: string): string | null {
  const levels = filter.split('/');
  if (levels.some((level, i) => level.includes('#') && (level !== '#' || i < levels.length - 1))) {
    return '# stands alone, as the last level';
  }
  if (levels.some((level) => level.includes('+') && level !== '+')) return '+ stands alone in its level';
  return filter.includes('\0') ? 'a topic filter has no NUL character' : null;
}

export function checkUrl(text: string, at: string, protocols: readonly string[], report: Report): URL | null {
  if (report.isBroken(at)) return null;
  const expected = `an address that starts with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`;
  if (!URL.canParse(text)) {
    report.mistake(at, { message: `${show(text)} is not an address`, value: text, expected });
    return null;
  }
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    report.mistake(at, {
      message: 'an address with a password in it is shown in logs',
      wayOut: 'use the settings for it',
    });
    return null;
  }
  if (!protocols.includes(url.protocol) || url.hostname === '') {
    report.mistake(at, { message: `${show(text)} is not of the right kind`, value: text, expected });
    return null;
  }
  return url;
}

type ClientTls = { readonly cert: string | null; readonly key: string | null } | null;

export function checkKeyPair(tls: ClientTls, at: string, report: Report): void {
  if (tls === null || (tls.cert === null) === (tls.key === null)) return;
  const [has, lacks] = tls.cert === null ? ['key', 'cert'] : ['cert', 'key'];
  report.mistake(join(at, has!), { message: `needs ${lacks} too`, atKey: true, involved: [join(at, lacks!)] });
}

function checkSpool({ spool, mqtt }: Settings, report: Report): void {
  const { max, segment, history } = spool;
  if (segment * 2 > max) {
    const message = `${formatBytes(segment)} is more than half of spool.max, ${formatBytes(max)}`;
    report.mistake(written('/spool/segment', '/spool/max', report), {
      message,
      involved: ['/spool/max', '/spool/segment'],
    });
  }
  if (history !== null && history > max) {
    const message = `${formatBytes(history)} is more than spool.max, ${formatBytes(max)}`;
    report.mistake('/spool/history', { message, involved: ['/spool/max'] });
  }
  if (mqtt.limits.packet * 2 > segment) {
    const message = `${formatBytes(segment)} is less than two packets of mqtt.limits.packet, ${formatBytes(mqtt.limits.packet)}`;
    const involved = ['/mqtt/limits/packet', '/spool/segment'];
    report.mistake(written('/spool/segment', '/mqtt/limits/packet', report), { message, involved });
  }
}

function checkAck({ kafka, ack }: Settings, report: Report): void {
  if (kafka !== null || ack !== 'kafka') return;
  report.mistake('/ack', {
    message: 'kafka needs Kafka, and there is no kafka section',
    value: ack,
    wayOut: 'add kafka: { brokers: [host:9092] }',
    involved: ['/kafka'],
  });
}

function checkInflux({ influx }: Settings, streams: Readonly<Record<string, Stream>>, report: Report): void {
  if (influx === null) return;
  checkUrl(influx.url, '/influx/url', ['http:', 'https:'], report);
  const labels = [...new Set(Object.values(streams).flatMap(({ windows }) => windows.map(({ label }) => label)))];
  for (const [name, keptMs] of Object.entries(influx.retention)) {
    const at = join('/influx/retention', name);
    const window = parseWindow(name);
    if (window === null || !labels.includes(window.label)) {
      const message = `${show(name)} is not a window of any stream`;
      const expected = labels.length > 0 ? `one of ${labels.join(', ')}` : null;
      report.mistake(at, {
        message,
        value: name,
        expected,
        nearest: nearestName(name, labels),
        atKey: true,
        involved: ['/streams'],
      });
    } else if (keptMs < window.sizeMs) {
      report.mistake(at, {
        message: `${formatDuration(keptMs)} is less than the window itself`,
        value: formatDuration(keptMs),
      });
    }
  }
}

/** A series holds this many panes open at most. */
const MAX_OPEN_PANES = 1_000;

function checkRollup({ rollup, kafka }: Settings, streams: Readonly<Record<string, Stream>>, report: Report): void {
  const { grace, disorder, skew, tick } = rollup;
  if (rollup.stages === 2 && kafka === null) {
    report.mistake('/rollup/stages', {
      message: 'two stages are joined by a topic of Kafka, and there is no kafka: section',
      value: '2',
      wayOut: 'add kafka:, or leave stages at 1',
      involved: ['/kafka'],
    });
  }
  const bases = Object.values(streams).flatMap(({ name, windows }) =>
    windows[0] ? [{ name, sizeMs: windows[0].sizeMs }] : [],
  );
  const smallest = bases.reduce<(typeof bases)[number] | null>(
    (least, base) => (least === null || base.sizeMs < least.sizeMs ? base : least),
    null,
  );
  if (smallest === null) return;
  const involved = [
    join(join('/streams', smallest.name), 'windows'),
    '/rollup/grace',
    '/rollup/disorder',
    '/rollup/skew',
  ];
  const size = formatDuration(smallest.sizeMs);
  const open = Math.ceil((grace + disorder + skew) / smallest.sizeMs);
  if (open > MAX_OPEN_PANES) {
    const largest = [...(['grace', 'disorder', 'skew'] as const)].sort((a, b) => rollup[b] - rollup[a])[0]!;
    const at = written(`/rollup/${largest}`, involved[0]!, report);
    report.mistake(at, {
      message: `grace, disorder and skew together keep ${open} windows of ${size} open for each series, above ${MAX_OPEN_PANES}`,
      wayOut: `make rollup.${largest} shorter, or the smallest window of ${smallest.name} larger`,
      involved,
      goOn: true,
    });
  }
  if (tick > smallest.sizeMs) {
    const message = `${formatDuration(tick)} is longer than ${size}, the smallest window of ${smallest.name}: in silence it closes late`;
    report.warn(written('/rollup/tick', involved[0]!, report), { message, involved: ['/rollup/tick', involved[0]!] });
  }
}

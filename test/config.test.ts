// biome-ignore-all lint/suspicious/noTemplateCurlyInString: configurations name environment variables like that
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { editorSchema } from '../src/config/editor.ts';
import { formatMistake } from '../src/config/report.ts';
import { mqttLimits } from '../src/config/sections/mqtt-limits.ts';
import { type Config, type Loaded, loadConfig, parseConfig } from '../src/config.ts';

const ENV = {
  KAFKA: 'k1:9092,k2:9092',
  INFLUX_TOKEN: 'secret-token',
  PORT: '4711',
  YES: 'true',
  EMPTY: '',
  WORD: 'abc',
};

function parse(text: string, env: Record<string, string | undefined> = ENV): Loaded {
  return parseConfig(text, { file: 'm.yaml', env, baseFolder: '/etc/millrace', hostName: 'host-1' });
}

function valid(text: string, env?: Record<string, string | undefined>): Config {
  const loaded = parse(text, env);
  assert.ok(loaded.ok, loaded.ok ? '' : loaded.mistakes.map(formatMistake).join('\n'));
  return loaded.config;
}

/** The lines that a user sees, without the file's name. */
function mistakes(text: string): string[] {
  const loaded = parse(text);
  assert.ok(!loaded.ok, 'the configuration is valid');
  return loaded.mistakes.map((mistake) => formatMistake(mistake).replace('m.yaml:', ''));
}

function warnings(text: string): string[] {
  return parse(text).warnings.map((warning) => formatMistake(warning).replace('m.yaml:', ''));
}

/** A stream with nothing to complain about; tests put what they test above it. */
const STREAM = `
streams:
  s: { topic: "t/{device}", time: ts, metrics: [x] }
`;

const under = (text: string) => `${text}${STREAM}`;

const stream = (settings: string) => `streams:\n  s: { topic: "t/{device}", time: ts, metrics: [x], ${settings} }\n`;

/** What the user wrote -> every line that is expected, complete. */
const BROKEN: Record<string, { text: string; lines: string[] }> = {
  'an unknown key, with the nearest known one': {
    text: under('rollup: { grase: 15s }'),
    lines: ['1:11: rollup.grase: unknown key; did you mean "grace"?'],
  },
  'trace contexts from nowhere': {
    text: stream('trace: { make: false }'),
    lines: [
      '2:53: streams.s.trace: neither takes trace contexts from a field nor makes them; name the field that brings them, or leave trace: out',
    ],
  },
  'alert rules that cannot work': {
    text: under(`alerts:
  rules:
    none: { stream: s }
    both: { stream: s, silent: 5m, above: 3 }
    lost: { stream: z, silent: 5m }
    homeless: { silent: 5m }
    unknown: { stream: s, metric: y, above: 1 }
    window: { stream: s, metric: x, above: 1, window: 7s }
    limitless: { stream: s, metric: x }
    two: { stream: s, metric: x, above: 1, below: 0 }
    reversed: { stream: s, metric: x, above: 1, clear: 2 }
    single: { stream: s, metric: x, above: 1, each: true, window: 10s }
    unscored: { stream: s, alarm: true }
    mixed: { stream: s, alarm: true, windows: 3 }
    mute: { stream: s, metric: x, alarm: false }
  webhook: { url: "ftp://x" }
  mqtt: { topic: "a/#" }`),
    lines: [
      '3:5: alerts.rules.none: does not say when to alert; give it metric: and above: or below:, or silent:, or dead_letters:, or alarm:',
      '4:5: alerts.rules.both: is two rules in one: threshold and silent; give it metric: and above: or below:, or silent:, or dead_letters:, or alarm:',
      '5:21: alerts.rules.lost.stream: there is no stream "z"; expected one of s; did you mean "s"?',
      '6:5: alerts.rules.homeless: needs a stream; expected one of s',
      '7:35: alerts.rules.unknown.metric: the stream s has no metric "y"; expected one of x; did you mean "x"?',
      '8:55: alerts.rules.window.window: the stream s has no window "7s"; expected one of 10s, 1m, 15m, 1h',
      '9:5: alerts.rules.limitless: needs above: or below:',
      '10:41: alerts.rules.two.above: has above: and below:, which are two rules',
      '11:56: alerts.rules.reversed.clear: 2 is above 1, so the alert would be cleared while it is raised',
      '12:59: alerts.rules.single.window: is of windows, and each: true judges single readings',
      '13:28: alerts.rules.unscored.alarm: the stream s is not scored; give the stream score: true',
      '14:5: alerts.rules.mixed: is two rules in one: threshold and score; give it metric: and above: or below:, or silent:, or dead_letters:, or alarm:',
      '15:35: alerts.rules.mute.alarm: says no to its own rule; give it alarm: true, or leave the rule out',
      '16:19: alerts.webhook.url: "ftp://x" is not an http address',
      '17:18: alerts.mqtt.topic: "a/#" is not a topic to publish on',
    ],
  },
  'alert rules for scores that cannot work': {
    text: `alerts:
  rules:
    metric: { stream: s, metric: y, alarm: true }
    clear: { stream: s, alarm: true, clear: 1.5 }
    calm: { stream: s, alarm: true, calm: 0 }
streams: { s: { topic: "t/{device}", time: ts, metrics: [x, y], score: { metrics: [x] } } }
`,
    lines: [
      '3:26: alerts.rules.metric.metric: the stream s has no scores of "y"; did you mean "x"?',
      '4:38: alerts.rules.clear.clear: 1.5 is above 1.02, from where on scores are alarms, so the alert would be cleared while it is raised',
      '5:43: alerts.rules.calm.calm: 0 is too small; expected a whole number from 1 to 1000',
    ],
  },
  'commands that no device could get': {
    text: under('commands: { topic: "d/{devise}/+", client: pump, responses: "r/#" }'),
    lines: [
      '1:20: commands.topic: "d/{devise}/+" has {devise}; expected {device} only',
      '1:44: commands.client: "pump" must name {device} once',
      '1:61: commands.responses: "r/#" is not a topic to publish on',
    ],
  },
  'a stream with the name of what is understood of another': {
    text: 'streams:\n  a: { topic: "a/{device}", time: ts, metrics: [x], understand: { intents: package.json } }\n  a.understood: { topic: "b/{device}", time: ts, metrics: [x] }\n',
    lines: ['3:3: streams.a.understood: is the name of what is understood of the stream a'],
  },
  'a rule for silent devices where rows do not name them': {
    text: 'alerts: { rules: { gone: { stream: s, silent: 5m } } }\nstreams: { s: { topic: "t/{site}", key: serial, time: ts, metrics: [x] } }\n',
    lines: [
      '1:47: alerts.rules.gone.silent: the key of the stream s, "serial", is a payload field; rows name devices by tags only; list it in tags: of the stream',
    ],
  },
  'an unknown key at the top': {
    text: under('dta: ./x'),
    lines: ['1:1: dta: unknown key; did you mean "data"?'],
  },
  'a key in the style of programmers': {
    text: under('mqtt: { limits: { pendingPerClient: 5 } }'),
    lines: ['1:19: mqtt.limits.pendingPerClient: unknown key; did you mean "pending_per_client"?'],
  },
  'letters that changed places': {
    text: under('http: { hots: 127.0.0.1 }'),
    lines: ['1:9: http.hots: unknown key; did you mean "host"?'],
  },
  'a key that belongs elsewhere': {
    text: under('spool: { partitions: 4 }'),
    lines: ['1:10: spool.partitions: unknown key; there is kafka.partitions'],
  },
  'a key that resembles none': {
    text: under('http: { zzzzzzzz: 1 }'),
    lines: ['1:9: http.zzzzzzzz: unknown key; expected one of host, port, token'],
  },
  'text for a number': {
    text: under('mqtt: { limits: { connections: many } }'),
    lines: ['1:32: mqtt.limits.connections: "many" is text; expected a whole number from 1 to 1000000'],
  },
  'a number for text': {
    text: under('gateway: 7'),
    lines: [
      '1:10: gateway: 7 is a number; expected a name of letters, digits, dot, dash and underscore; put it in quotes: "7"',
    ],
  },
  'yes for true': {
    text: under('kafka: { brokers: ["k:1"], create_topics: yes }'),
    lines: ['1:43: kafka.create_topics: "yes" is text; expected true or false; write true'],
  },
  'a value for a list': {
    text: 'streams:\n  s:\n    topic: t/{device}\n    time: ts\n    metrics: x\n',
    lines: ['5:14: streams.s.metrics: "x" is text; expected a list of field names; write a list: [x]'],
  },
  'a list for a section': {
    text: under('http: [1]'),
    lines: ['1:7: http: a list is not one value; expected a section with keys such as host, port, token'],
  },
  'a key without a value': {
    text: under('rollup:\n  tick:\n'),
    lines: [
      '2:3: rollup.tick: has no value; expected a duration from 100ms to 1m, such as 5s; give it one, or remove the line',
    ],
  },
  'a duration without a unit': {
    text: under('rollup: { grace: 15 }'),
    lines: ['1:18: rollup.grace: 15 is a number; expected a duration from 0ms to 1d, such as 15s; give a unit: 15s'],
  },
  'a duration in an unknown unit': {
    text: under('rollup: { grace: 15 seconds }'),
    lines: ['1:18: rollup.grace: "15 seconds" is not a duration; expected a duration from 0ms to 1d, such as 15s'],
  },
  'a duration out of range': {
    text: under('rollup: { tick: 2m }'),
    lines: ['1:17: rollup.tick: "2m" is more than 1m; expected a duration from 100ms to 1m, such as 5s'],
  },
  'two stages without the topic that joins them': {
    text: under('rollup: { stages: 2 }'),
    lines: [
      '1:19: rollup.stages: two stages are joined by a topic of Kafka, and there is no kafka: section; add kafka:, or leave stages at 1',
    ],
  },
  'more stages than there are': {
    text: under('kafka: { brokers: ["k:9092"] }\nrollup: { stages: 3 }'),
    lines: ['2:19: rollup.stages: 3 is too large; expected a whole number from 1 to 2'],
  },
  'a size that is none': {
    text: under('spool: { max: 10Gb }'),
    lines: ['1:15: spool.max: "10Gb" is not a size; expected a size from 4MiB to 64TiB, such as 10GiB'],
  },
  'a size out of range': {
    text: under('mqtt: { limits: { packet: 100 } }'),
    lines: ['1:27: mqtt.limits.packet: 100 is less than 1.0 KiB; expected a size from 1KiB to 256MiB, such as 256KiB'],
  },
  'a word that is not among the choices': {
    text: under('rollup: { repair: autoo }'),
    lines: ['1:19: rollup.repair: "autoo" is not known; expected one of auto, off; did you mean "auto"?'],
  },
  'partitions out of range': {
    text: under('kafka: { brokers: ["k:9092"], partitions: 0 }'),
    lines: ['1:43: kafka.partitions: 0 is too small; expected a whole number from 1 to 1000'],
  },
  'a port out of range': {
    text: under('http: { port: 70000 }'),
    lines: ['1:15: http.port: 70000 is too large; expected a whole number from 0 to 65535'],
  },
  'an environment variable that is not set': {
    text: under('kafka: { brokers: ["${NOPE}"] }'),
    lines: [
      '1:20: kafka.brokers[0]: the environment variable NOPE is not set; set it, or give a default: ${NOPE:-...}',
    ],
  },
  'two unset variables in one value': {
    text: under('data: /x/${ONE}/${TWO}'),
    lines: [
      '1:7: data: the environment variable ONE is not set; set it, or give a default: ${ONE:-...}',
      '1:7: data: the environment variable TWO is not set; set it, or give a default: ${TWO:-...}',
    ],
  },
  'a variable without an end': {
    text: under('data: /x/${ONE'),
    lines: [
      '1:7: data: "${ONE" does not name an environment variable; write ${NAME}, ${NAME:-default}, or $${ for a plain ${',
    ],
  },
  'a number from the environment that is none': {
    text: under('http: { port: "${WORD}" }'),
    lines: ['1:15: http.port: "abc", from ${WORD}, is text; expected a whole number from 0 to 65535'],
  },
  'an empty value from the environment where one is needed': {
    text: under('influx: { url: "http://i:8086", org: "${EMPTY}", token: x }'),
    lines: ['1:38: influx.org: is empty; expected text'],
  },
  'a missing InfluxDB token': {
    text: under('influx: { url: "http://i:8086", org: o }'),
    lines: ['1:1: influx.token: is missing; expected text; write token: "${INFLUX_TOKEN}" and set that variable'],
  },
  'an InfluxDB address without a scheme': {
    text: under('influx: { url: "127.0.0.1:8086", org: o, token: t }'),
    lines: [
      '1:16: influx.url: "127.0.0.1:8086" is not an address; expected an address that starts with http:// or https://',
    ],
  },
  'an address of the wrong kind': {
    text: under('influx: { url: "mqtt://i", org: o, token: t }'),
    lines: [
      '1:16: influx.url: "mqtt://i" is not of the right kind; expected an address that starts with http:// or https://',
    ],
  },
  'a password in an address': {
    text: under('mqtt: { sources: [{ url: "mqtt://u:hunter2@b", topics: [a] }] }'),
    lines: ['1:26: mqtt.sources[0].url: an address with a password in it is shown in logs; use the settings for it'],
  },
  'a retention for a window that no stream has': {
    text: under('influx: { url: "http://i", org: o, token: t, retention: { 2m: 7d, 60s: 7d } }'),
    lines: [
      '1:59: influx.retention.2m: "2m" is not a window of any stream; expected one of 10s, 1m, 15m, 1h; did you mean "1m"?',
    ],
  },
  'no streams': { text: 'data: x\n', lines: ['1:1: streams: is missing; expected at least one stream, by name'] },
  'an empty file': { text: '', lines: ['1:1: streams: is missing; expected at least one stream, by name'] },
  'an empty section of streams': {
    text: 'streams: {}\n',
    lines: ['1:10: streams: is empty; expected at least one stream, by name'],
  },
  'something that is no configuration': {
    text: '- 1\n- 2\n',
    lines: ['1:1: this is not a configuration; it has settings such as streams:, one below the other'],
  },
  'a stream without a topic': {
    text: 'streams:\n  s:\n    time: ts\n    metrics: [x]\n',
    lines: ['2:3: streams.s.topic: is missing; expected a topic template such as sensors/{site}/{device}/environment'],
  },
  'wildcards in a topic template': {
    text: 'streams:\n  s: { topic: "t/+/{device}/#", time: ts, metrics: [x] }\n',
    lines: [
      '2:15: streams.s.topic: "t/+/{device}/#": the level "#" is neither plain text nor one capture such as {device} nor + alone; # is not used here',
    ],
  },
  'a topic with more levels than allowed': {
    text: `mqtt: { limits: { topic_levels: 2 } }\nstreams:\n  s: { topic: "a/b/{device}", time: ts, metrics: [x] }\n`,
    lines: ['3:15: streams.s.topic: has 3 levels, but mqtt.limits.topic_levels is 2'],
  },
  'a stream that needs a key': {
    text: 'streams:\n  clicks:\n    topic: web/{app}/clicks\n    time: ts\n    metrics: []\n',
    lines: [
      '2:3: streams.clicks: needs a key: its topic has no {device}, by which readings are partitioned and ordered otherwise; add for example key: app',
    ],
  },
  'a stream name that is no measurement': {
    text: 'streams:\n  9lives: { topic: "t/{device}", time: ts, metrics: [x] }\n',
    lines: [
      '2:3: streams.9lives: "9lives" cannot be a name here; expected up to 64 letters, digits, dots, dashes and underscores, the first one a letter',
    ],
  },
  'a stream name kept for running values': {
    text: 'streams:\n  s_live: { topic: "t/{device}", time: ts, metrics: [x] }\n',
    lines: ['2:3: streams.s_live: a name that ends in _live is kept for running values'],
  },
  'a stream with a dangerous name and a mistake in it': {
    text: 'streams:\n  __proto__: { topic: "t/{device}", time: ts, metrics: [x], retainn: true }\n',
    lines: [
      '2:3: streams.__proto__: "__proto__" cannot be a name here; expected up to 64 letters, digits, dots, dashes and underscores, the first one a letter',
      '2:61: streams.__proto__.retainn: unknown key; did you mean "retain"?',
    ],
  },
  'two streams with the same topics': {
    text: 'streams:\n  a: { topic: "t/{device}", time: ts, metrics: [x] }\n  b: { topic: "t/{other}", key: other, time: ts, metrics: [x] }\n',
    lines: [
      '3:15: streams.b.topic: "t/{other}" matches the same topics as that of the stream a; a message belongs to one stream',
    ],
  },
  'windows that are no multiples of the smallest': {
    text: stream('windows: [10s, 15s, 1m]'),
    lines: ['2:68: streams.s.windows[1]: 15s is not a multiple of 10s, the smallest window, from which it is merged'],
  },
  'a hopping window whose length is no multiple of its distance': {
    text: stream('windows: [10s, { size: 1m, every: 40s }]'),
    lines: ['2:68: streams.s.windows[1]: 1m is not a multiple of 40s, the distance between starts'],
  },
  'a hopping window whose distance is no multiple of the smallest': {
    text: stream('windows: [20s, { size: 1m, every: 10s }]'),
    lines: [
      '2:68: streams.s.windows[1]: the distance 10s is not a multiple of 20s, the smallest window, from which it is merged',
    ],
  },
  'a smallest window that hops': {
    text: stream('windows: [{ size: 5m, every: 1m }]'),
    lines: [
      '2:63: streams.s.windows[0]: the smallest window must be a plain one: all others are merged from it; list 1m too',
    ],
  },
  'a window twice, in two spellings': {
    text: stream('windows: [10s, 1m, 60s]'),
    lines: ['2:72: streams.s.windows[2]: the window 1m is listed twice'],
  },
  'a window that is no duration': {
    text: stream('windows: [10s, soon]'),
    lines: [
      '2:68: streams.s.windows[1]: "soon" is not a duration; expected a duration such as 10s, or { size: 5m, every: 1m }',
    ],
  },
  'no windows': {
    text: stream('windows: []'),
    lines: ['2:62: streams.s.windows: is empty; expected a list of window sizes such as [10s, 1m], at least 1'],
  },
  'a tag with two sources': {
    text: stream('tags: [device, room, room]'),
    lines: [
      '2:60: streams.s.tags[0]: "device" is already a capture of the topic',
      '2:74: streams.s.tags[2]: "room" is already one of the tags',
    ],
  },
  'tag names that the store needs itself': {
    text: stream('tags: [window, _field]'),
    lines: [
      '2:60: streams.s.tags[0]: "window": is a tag name that rows use themselves; give it another name',
      '2:68: streams.s.tags[1]: "_field": a tag name must not start with _; give it another name',
    ],
  },
  'a metric twice': {
    text: 'streams:\n  s: { topic: "t/{device}", time: ts, metrics: [x, y, x] }\n',
    lines: ['2:55: streams.s.metrics[2]: the metric "x" is listed twice'],
  },
  'a field name with an empty part': {
    text: 'streams:\n  s: { topic: "t/{device}", time: ts, metrics: [a..b] }\n',
    lines: [
      '2:49: streams.s.metrics[0]: "a..b" is not of the right form; expected the name of a field, such as temperature or env.temperature',
    ],
  },
  'an enrichment by something that the reading does not have': {
    text: stream('enrich: { registry: d.csv, by: devise, scale: { y: f } }'),
    lines: [
      '2:84: streams.s.enrich.by: "devise" is neither captured from the topic nor one of the tags; expected one of device; did you mean "device"?',
      '2:101: streams.s.enrich.scale.y: "y" is not one of the metrics; did you mean "x"?',
    ],
  },
  'derived values and ranges that cannot be': {
    text: stream('derive: { y: x * z, w: "x +", x: "1" }, range: { q: { min: 1 }, x: {}, y: { min: 2, max: 1 } }'),
    lines: [
      '2:66: streams.s.derive.y: "z" is not one of the metrics; expected one of x; did you mean "x"?',
      '2:76: streams.s.derive.w: "x +": it ends where a number, a metric or ( is expected',
      '2:83: streams.s.derive.x: "x" is already one of the metrics',
      '2:102: streams.s.range.q: "q" is not one of the metrics; did you mean "x"?',
      '2:120: streams.s.range.x: has neither min nor max; add min: or max:',
      '2:134: streams.s.range.y.min: 2 is above max, 1',
    ],
  },
  'a precision without line protocol, and a Sparkplug topic that is none': {
    text:
      stream('precision: ms').replace('\n', '\n') +
      '  t: { topic: "a/{device}", format: sparkplug-b, time: timestamp, metrics: [x] }\n',
    lines: [
      '2:53: streams.s.precision: is the unit of the timestamps of line-protocol, and the format is json',
      '3:15: streams.t.topic: "a/{device}" is not a topic of Sparkplug B; write spBv1.0/{group}/+/{node}/{device} for devices, spBv1.0/{group}/+/{node} for nodes',
    ],
  },
  'an ingest port open to the network, and the port of another': {
    text: `ingest: { port: 1883, host: 0.0.0.0 }\n${stream('')}`,
    lines: [
      '1:17: ingest.port: the port 1883 is already that of mqtt.listeners[0]',
      '1:29: ingest.host: "0.0.0.0" is reached from the network, and anyone may send; set mqtt.auth.users, or host: 127.0.0.1, or say mqtt.auth.anonymous: true',
    ],
  },
  'a payload format that there is not': {
    text: stream('format: xml'),
    lines: [
      '2:61: streams.s.format: "xml" is not known; expected one of json, senml, sparkplug-b, cbor, msgpack, line-protocol, lorawan',
    ],
  },
  'an acknowledgement by a Kafka that is not configured': {
    text: under('ack: kafka'),
    lines: ['1:6: ack: kafka needs Kafka, and there is no kafka section; add kafka: { brokers: [host:9092] }'],
  },
  'brokers without ports': {
    text: under('kafka: { brokers: [kafka, "k:0"] }'),
    lines: [
      '1:20: kafka.brokers[0]: "kafka" is not of the right form; expected host:port',
      '1:27: kafka.brokers[1]: "k:0" has no port from 1 to 65535; expected host:port',
    ],
  },
  'half of a login for Kafka': {
    text: under('kafka: { brokers: ["k:9092"], sasl: { username: u } }'),
    lines: ['1:31: kafka.sasl.password: is missing; expected text'],
  },
  'a certificate without its key': {
    text: under('kafka: { brokers: ["k:9092"], tls: { cert: c.pem } }'),
    lines: ['1:38: kafka.tls.cert: needs key too'],
  },
  'no copies of a partition': {
    text: under('kafka: { brokers: ["k:9092"], replication_factor: 0 }'),
    lines: ["1:51: kafka.replication_factor: 0 copies keep nothing; expected -1 (the brokers' default) or 1 to 32"],
  },
  'anonymous access from the network': {
    text: under(
      'mqtt:\n  listeners:\n    - { port: 1883 }\n    - { port: 1884, host: 10.0.0.1 }\n    - { port: 1885, host: 127.0.0.1 }\n',
    ),
    lines: [
      '3:7: mqtt.listeners[0]: "0.0.0.0" is reached from the network, and anyone may connect; set mqtt.auth.users, or host: 127.0.0.1, or say mqtt.auth.anonymous: true',
      '4:27: mqtt.listeners[1].host: "10.0.0.1" is reached from the network, and anyone may connect; set mqtt.auth.users, or host: 127.0.0.1, or say mqtt.auth.anonymous: true',
    ],
  },
  'a gateway that nobody can enter': {
    text: under('mqtt: { auth: { anonymous: false } }'),
    lines: [
      '1:28: mqtt.auth.anonymous: nobody can connect: there is no users file, and no listener asks for client certificates; set mqtt.auth.users',
    ],
  },
  'client certificates without their authorities': {
    text: under('mqtt: { listeners: [{ port: 1, tls: { cert: c, key: k, clientCertificate: required } }] }'),
    lines: ['1:75: mqtt.listeners[0].tls.clientCertificate: needs ca: the authorities that sign client certificates'],
  },
  'two listeners on one port, and the page on it too': {
    text: under(
      'mqtt: { auth: { anonymous: true }, listeners: [{ port: 1883 }, { port: 1883, host: 127.0.0.1 }] }\nhttp: { port: 1883 }',
    ),
    lines: [
      '1:72: mqtt.listeners[1].port: the port 1883 is already that of mqtt.listeners[0]',
      '2:15: http.port: the port 1883 is already that of mqtt.listeners[0]',
    ],
  },
  'a source that cannot work': {
    text: under(
      'mqtt:\n  sources:\n    - { url: "mqtt://b", topics: ["a/#/b", "a/b+"], password: p, tls: {} }\n    - { url: "mqtt://b", topics: [] }\n',
    ),
    lines: [
      '3:35: mqtt.sources[0].topics[0]: "a/#/b": # stands alone, as the last level',
      '3:44: mqtt.sources[0].topics[1]: "a/b+": + stands alone in its level',
      '3:53: mqtt.sources[0].password: a password without a user name',
      '3:66: mqtt.sources[0].tls: has no effect on mqtt: addresses; write mqtts://b',
      '4:7: mqtt.sources[1]: the same client id at the same broker as mqtt.sources[0]: each would disconnect the other; give one another client_id',
      '4:34: mqtt.sources[1].topics: is empty; expected a list of topic filters, at least 1',
    ],
  },
  'a spool too small for its parts': {
    text: under('spool: { max: 64MiB, segment: 64MiB, history: 1GiB }'),
    lines: [
      '1:31: spool.segment: 64.0 MiB is more than half of spool.max, 64.0 MiB',
      '1:47: spool.history: 1.0 GiB is more than spool.max, 64.0 MiB',
    ],
  },
  'packets that fit into nothing': {
    text: under('mqtt: { limits: { packet: 100MiB } }'),
    lines: ['1:27: mqtt.limits.packet: 64.0 MiB is less than one packet of mqtt.limits.packet, 100.0 MiB'],
  },
  'a grace that keeps a thousand windows open': {
    text: under('rollup: { grace: 5h }'),
    lines: [
      '1:18: rollup.grace: grace, disorder and skew together keep 1807 windows of 10s open for each series, above 1000; make rollup.grace shorter, or the smallest window of s larger',
    ],
  },
  'a key twice, and what else is wrong': {
    text: under('data: a\ndata: b\nhttp: { prt: 1 }'),
    lines: ['2:1: the key "data" appears twice', '3:9: http.prt: unknown key; did you mean "port"?'],
  },
  'a secret of the wrong kind, which is not shown': {
    text: under('influx: { url: "http://i", org: o, token: 12345 }'),
    lines: ['1:43: influx.token: the value (not shown) is a number; expected text; put it in quotes'],
  },
  'a tab for indentation': {
    text: 'streams:\n\ts: 1\n',
    lines: ['2:1: the line is indented with a tab, YAML wants spaces'],
  },
  'a bracket that is never closed': {
    text: 'streams:\n  s: { topic: a\n',
    lines: ['3:1: flow map in block collection must be sufficiently indented and end with a }'],
  },
  'a variable between braces without quotes': {
    text: 'http: { port: ${PORT} }\nstreams: {}\n',
    lines: ['1:16: this does not belong here; between braces or brackets put "${NAME}" in quotes'],
  },
  'an alias to itself': {
    text: 'streams: &a\n  s: *a\n',
    lines: ['2:3: the file has more than 32 levels'],
  },
};

/** The mistakes of all kinds in one file, each with its line. */
const MANY = `
data: \${NOPE}
ack: kafka
mqtt:
  listeners: [{ port: 1883, hots: x, host: 127.0.0.1 }, { port: 1883, host: 127.0.0.1 }]
  limits: { packet: 1 }
influx: { org: o }
rollup: { grace: 15 }
streams:
  a: { topic: "x/{dev}", metrics: [t, t], windows: [10s, 15s] }
  b: { topic: "x/{dev}", key: dev, time: ts, metrics: [t] }
`;

describe('The configuration', () => {
  it('has each limit of MQTT in the table of the README, with its default', () => {
    const rows = [...readFileSync('README.md', 'utf8').matchAll(/^\| `(\w+)`(?: \(label `\w+`\))? \| (\S+)/gm)];
    const told = Object.fromEntries(rows.map(([, key, fallback]) => [key, fallback]));
    const declared = Object.entries(mqttLimits.schema.properties as Record<string, { default?: unknown }>).map(
      ([key, setting]) => [key, String(setting.default)] as const,
    );
    assert.ok(declared.length > 10);
    for (const [key, fallback] of declared) assert.equal(told[key], fallback, key);
  });

  describe('as the user writes it', () => {
    it('needs only a stream: everything else has a default', () => {
      const config = valid(STREAM);
      assert.deepEqual(JSON.parse(JSON.stringify({ ...config, streams: null })), {
        file: 'm.yaml',
        data: '/etc/millrace/data',
        gateway: 'host-1',
        ack: 'spool',
        alerts: null,
        commands: null,
        mqtt: {
          listeners: [{ host: '127.0.0.1', port: 1883, websocket: false, tls: null }],
          auth: { anonymous: true, users: null },
          limits: {
            connections: 10_000,
            packetBytes: 256 * 1024,
            pendingPerClient: 64,
            pendingBytes: 64 * 2 ** 20,
            ratePerClient: 0,
            connectTimeoutMs: 5_000,
            keepaliveMaxMs: 3_600_000,
            clientIdLength: 128,
            topicLevels: 16,
            retainedMessages: 10_000,
            offlineSessions: 1_000,
            offlineQueue: 100,
            subscriptionsPerClient: 50,
            drainTimeoutMs: 10_000,
            unsentBytes: 256 * 1024,
            subscribeRate: 50,
            qos2Window: 1_000,
            logins: 1_000,
            forwards: 10_000,
          },
          sources: [],
        },
        spool: {
          maxBytes: 10 * 2 ** 30,
          segmentBytes: 64 * 2 ** 20,
          historyBytes: 2 ** 30,
          commitIntervalMs: 5,
          accountDevices: 10_000,
        },
        store: { maxBytes: 10 * 2 ** 30 },
        kafka: null,
        influx: null,
        ingest: null,
        log: { linesPerSecond: 100 },
        http: { host: '127.0.0.1', port: 8080, token: null },
        rollup: {
          graceMs: 15_000,
          disorderMs: 2_000,
          tickMs: 5_000,
          stages: 1,
          skewMs: 60_000,
          repair: 'auto',
          repairDelayMs: 60_000,
          maxSeries: 100_000,
          flushMs: 1_000,
          liveMs: 5_000,
        },
        score: { maxSeries: 10_000, model: { batch: 256, queue: 10_000, timeoutMs: 10_000 } },
        streams: null,
      });
      const { topic, ...rest } = config.streams.s!;
      assert.equal(topic.filter, 't/+');
      assert.deepEqual(rest, {
        name: 's',
        format: 'json',
        schema: null,
        key: 'device',
        identity: [],
        time: 'ts',
        sequence: null,
        tags: [],
        metrics: ['x'],
        enrich: null,
        windows: [
          { label: '10s', sizeMs: 10_000, everyMs: 10_000 },
          { label: '1m', sizeMs: 60_000, everyMs: 60_000 },
          { label: '15m', sizeMs: 900_000, everyMs: 900_000 },
          { label: '1h', sizeMs: 3_600_000, everyMs: 3_600_000 },
        ],
        score: null,
        retain: false,
      });
    });

    it('has its paths beside the file', () => {
      const config = valid(
        'data: ../d\nstreams:\n  s: { topic: "t/{device}", time: ts, metrics: [x], schema: s/x.json, enrich: { registry: /r.csv } }\n',
      );
      assert.equal(config.data, '/etc/d');
      assert.equal(config.streams.s!.schema, '/etc/millrace/s/x.json');
      assert.equal(config.streams.s!.enrich!.registry, '/r.csv');
    });

    it('has its windows in ascending order, hopping ones with both lengths in the label', () => {
      const config = valid(stream('windows: [1h, { size: 5m, every: 1m }, 10s, { size: 30s }]'));
      assert.deepEqual(
        config.streams.s!.windows.map(({ label }) => label),
        ['10s', '30s', '5m_1m', '1h'],
      );
    });

    it('takes sizes with a unit or as plain bytes', () => {
      const { spool } = valid(under('spool: { max: 1GB, segment: 2097152, history: "0" }'));
      assert.deepEqual([spool.maxBytes, spool.segmentBytes, spool.historyBytes], [1e9, 2 ** 21, 0]);
    });

    it('keeps at most half of a small spool as history unless told otherwise', () => {
      assert.equal(valid(under('spool: { max: 256MiB }')).spool.historyBytes, 128 * 2 ** 20);
    });

    it('takes values from the environment, with defaults, numbers and flags included', () => {
      const config = valid(
        under(
          'http: { port: "${PORT}", token: "${EMPTY}" }\nkafka: { brokers: ["${KAFKA}"], prefix: "p-${UNSET:-q}", create_topics: "${YES}", partitions: "${UNSET:-3}" }\nrollup: { max_series: "${UNSET:-20}" }\ndata: "$${PORT}"',
        ),
      );
      assert.deepEqual([config.http.port, config.http.token], [4711, null]);
      assert.deepEqual(config.kafka!.brokers, ['k1:9092', 'k2:9092']);
      assert.deepEqual([config.kafka!.prefix, config.kafka!.createTopics, config.kafka!.partitions], ['p-q', true, 3]);
      assert.equal(config.rollup.maxSeries, 20);
      assert.equal(config.data, '/etc/millrace/${PORT}');
    });

    it('uses the default of an empty variable, as shells do', () => {
      assert.equal(valid(under('gateway: "${EMPTY:-g}"')).gateway, 'g');
    });

    it('is anonymous only without users, unless it says so', () => {
      const auth = (text: string) => valid(under(`mqtt: { auth: { ${text} } }`)).mqtt.auth;
      assert.equal(auth('users: u.yaml').anonymous, false);
      assert.equal(auth('users: u.yaml, anonymous: true').anonymous, true);
    });

    it('listens on the network where clients show certificates', () => {
      const [listener] = valid(
        under('mqtt: { listeners: [{ port: 8883, tls: { cert: c, key: k, ca: a, clientCertificate: required } }] }'),
      ).mqtt.listeners;
      assert.deepEqual(listener, {
        host: '0.0.0.0',
        port: 8883,
        websocket: false,
        tls: {
          cert: '/etc/millrace/c',
          key: '/etc/millrace/k',
          ca: '/etc/millrace/a',
          clientCertificate: 'required',
        },
      });
    });

    it('turns TLS for Kafka on with true or {}, and off with false or nothing', () => {
      const tls = (text: string) => valid(under(`kafka: { brokers: ["k:9092"]${text} }`)).kafka!.tls;
      const on = { ca: null, cert: null, key: null };
      assert.deepEqual([tls(', tls: true'), tls(', tls: {}'), tls(', tls: false'), tls('')], [on, on, null, null]);
    });

    it('gives sources the client id of the gateway', () => {
      const { sources } = valid(
        under('gateway: g1\nmqtt: { sources: [{ url: "mqtts://b:8883", topics: ["a/#"], tls: { ca: ca.pem } }] }'),
      ).mqtt;
      assert.deepEqual(sources[0], {
        url: 'mqtts://b:8883',
        topics: ['a/#'],
        clientId: 'millrace-g1',
        username: null,
        password: null,
        tls: { ca: '/etc/millrace/ca.pem', cert: null, key: null },
      });
    });

    it('may repeat itself by YAML anchors', () => {
      const config = valid(
        'streams:\n  a: { topic: "a/{device}", time: ts, metrics: [x], windows: &w [10s, 1m] }\n  b: { topic: "b/{device}", time: ts, metrics: [x], windows: *w }\n',
      );
      assert.deepEqual(config.streams.a!.windows, config.streams.b!.windows);
    });

    it('names retentions by window, however it is spelt', () => {
      const { influx } = valid(under('influx: { url: "http://i", org: o, token: t, retention: { 60s: 7d } }'));
      assert.deepEqual(influx!.retentionMs, { '1m': 7 * 86_400_000 });
    });
  });

  describe('refuses, with the exact place,', () => {
    for (const [what, { text, lines }] of Object.entries(BROKEN)) {
      it(what, () => assert.deepEqual(mistakes(text), lines));
    }

    it('all mistakes of one file at once, in the order of the file', () => {
      assert.deepEqual(
        mistakes(MANY).map((line) => line.split(': ').slice(0, 2).join(' ')),
        [
          '2:7 data',
          '3:6 ack',
          '5:29 mqtt.listeners[0].hots',
          '5:65 mqtt.listeners[1].port',
          '6:21 mqtt.limits.packet',
          '7:1 influx.url',
          '7:1 influx.token',
          '8:18 rollup.grace',
          '10:3 streams.a',
          '10:39 streams.a.metrics[1]',
          '10:58 streams.a.windows[1]',
          '11:15 streams.b.topic',
        ],
      );
    });

    it('and never shows a secret', () => {
      const loaded = parse(
        under(
          'influx: { url: "x", org: o, token: "${INFLUX_TOKEN}" }\nkafka: { brokers: [k], sasl: { password: [hunter2] } }',
        ),
      );
      assert.ok(!loaded.ok);
      assert.ok(loaded.mistakes.length >= 3);
      assert.doesNotMatch(JSON.stringify(loaded.mistakes), /secret-token|hunter2/);
    });
  });

  describe('warns of', () => {
    const cases: Record<string, { text: string; lines: string[] }> = {
      'topics in common, and says who gets them': {
        text: 'streams:\n  a: { topic: "t/{device}", time: ts, metrics: [x] }\n  b: { topic: t/main, key: x, time: ts, metrics: [x] }\n',
        lines: ['3:15: streams.b.topic: "t/main" has topics in common with that of the stream a; they go to b'],
      },
      'a key that is nearly a capture': {
        text: 'streams:\n  s: { topic: "t/{device}", key: devise, time: ts, metrics: [x] }\n',
        lines: [
          '2:34: streams.s.key: "devise" is no capture or tag, so it is read from the payload; did you mean "device"?',
        ],
      },
      'readings that count twice when they are sent twice': {
        text: 'streams:\n  s: { topic: "t/{device}", metrics: [x] }\n',
        lines: ['2:3: streams.s: has neither time nor identity, so a message that a device sends twice counts twice'],
      },
      'a stream that only counts without saying so': {
        text: 'streams:\n  s: { topic: "t/{device}", time: ts }\n',
        lines: [
          '2:3: streams.s: has no metrics, so its windows only count events; list them, or write metrics: [] if that is meant',
        ],
      },
      'a password that travels readable': {
        text: under('kafka: { brokers: ["k:9092"], sasl: { mechanism: plain, username: u, password: p } }'),
        lines: [
          '1:50: kafka.sasl.mechanism: plain without tls sends the password readable; add tls: true, or use scram-sha-512',
        ],
      },
      'an empty login': {
        text: under('kafka: { brokers: ["k:9092"], sasl: {} }'),
        lines: ['1:31: kafka.sasl: is empty: no user name is sent to Kafka'],
      },
      'a tick that is longer than the smallest window': {
        text: stream('windows: [1s, 1m]'),
        lines: ['2:62: streams.s.windows: 5s is longer than 1s, the smallest window of s: in silence it closes late'],
      },
    };
    for (const [what, { text, lines }] of Object.entries(cases)) {
      it(what, () => {
        valid(text);
        assert.deepEqual(warnings(text), lines);
      });
    }

    it('nothing in a plain configuration', () => assert.deepEqual(warnings(STREAM), []));
  });

  describe('never throws', () => {
    const FRAGMENTS = [
      'streams', 'topic', 'mqtt', 'listeners', 'windows', 'kafka', 'brokers', 'a/{device}', '10s', '${KAFKA}', '${', '1KiB',
      ':', ': ', '- ', '{ ', ' }', '[', ']', ',', '\n', '\n  ', '\n    ', '&a ', '*a', '!!binary ', '!x ', '"', "'", '#', '|\n',
      '? ', '---\n', '...\n', '\t', '<<', 'null', '~', 'true', '-1', '1e400', '.nan', '__proto__', 'constructor', '\0', '\ud800',
    ]; // biome-ignore format: a table of fragments

    const text = fc.oneof(
      { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 60 }) },
      {
        weight: 4,
        arbitrary: fc.array(fc.constantFrom(...FRAGMENTS), { maxLength: 40 }).map((parts) => parts.join('')),
      },
      {
        weight: 4,
        arbitrary: fc
          .tuple(fc.nat({ max: MANY.length }), fc.nat({ max: 20 }), fc.constantFrom(...FRAGMENTS))
          .map(([at, cut, put]) => MANY.slice(0, at) + put + MANY.slice(at + cut)),
      },
    );

    function check(written: string): void {
      const loaded = parse(written);
      const lines = written.split(/\r\n|\r|\n/).length;
      if (loaded.ok) return;
      assert.ok(loaded.mistakes.length > 0);
      for (const mistake of loaded.mistakes) {
        assert.ok(mistake.line >= 1 && mistake.line <= lines && mistake.column >= 1, formatMistake(mistake));
        assert.doesNotMatch(formatMistake(mistake), /\p{Cc}/u);
      }
    }

    it('whatever the text', () => {
      fc.assert(fc.property(text, check), { numRuns: 500 });
    });

    it('whatever stands in place of a setting', () => {
      const places = ['data', 'mqtt', 'spool', 'kafka', 'influx', 'http', 'rollup', 'streams'];
      const inner = [
        'listeners',
        'auth',
        'limits',
        'sources',
        'brokers',
        'tls',
        'sasl',
        'url',
        'retention',
        's',
        'topic',
      ];
      const value = fc.oneof(
        fc.jsonValue({ maxDepth: 2 }),
        fc.dictionary(fc.constantFrom(...inner), fc.jsonValue({ maxDepth: 3 })),
      );
      fc.assert(
        fc.property(fc.dictionary(fc.constantFrom(...places), value), (settings) => check(stringify(settings))),
        { numRuns: 150 },
      );
      const keys = ['topic', 'key', 'identity', 'time', 'tags', 'metrics', 'enrich', 'windows', 'schema', 'retain'];
      fc.assert(
        fc.property(fc.dictionary(fc.constantFrom(...keys), fc.jsonValue({ maxDepth: 2 })), (settings) =>
          check(stringify({ streams: { s: { topic: 'a/{device}', ...settings } } })),
        ),
        { numRuns: 150 },
      );
    });

    it('on aliases that multiply', () => {
      const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]'];
      for (let i = 1; i < 12; i++) {
        const name = String.fromCharCode(97 + i);
        const before = `*${String.fromCharCode(96 + i)}`;
        bomb.push(`${name}: &${name} [${new Array(9).fill(before).join(',')}]`);
      }
      const lines = mistakes(bomb.join('\n'));
      assert.ok(lines.some((line) => /more than 100000 values/.test(line)));
    });

    it('on nesting without end', () => {
      assert.ok(mistakes(`a: ${'['.repeat(300)}`).length > 0);
      assert.ok(mistakes(`${'{a: '.repeat(200)}1${'}'.repeat(200)}`).length > 0);
    });
  });

  describe('on disk', () => {
    let folder: string;
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'millrace-config-'));
    });
    afterEach(() => {
      chmodSync(folder, 0o700);
      rmSync(folder, { recursive: true });
    });

    const put = (name: string, text: string) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };

    async function load(text: string): Promise<string[]> {
      const loaded = await loadConfig(put('m.yaml', text), ENV, 'host-1');
      return loaded.ok ? [] : loaded.mistakes.map((mistake) => formatMistake(mistake).replaceAll(`${folder}/`, ''));
    }

    /** A key and a certificate that it signed itself. */
    function certificate(name: string): void {
      const made = spawnSync('openssl', [
        'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', `/CN=${name}`,
        '-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.pem`),
      ]); // biome-ignore format: a command line
      assert.equal(made.status, 0, String(made.stderr ?? made.error));
    }

    /** The example of the design, with every kind of setting. */
    const FULL = readFileSync(new URL('support/full-configuration.yaml', import.meta.url), 'utf8');

    it('loads with every setting there is in the example, and every file in its place', async () => {
      certificate('c');
      mkdirSync(join(folder, 'schemas'));
      for (const name of ['users.yaml', 'schemas/environment.schema.json', 'devices.csv']) put(name, '');
      const loaded = await loadConfig(put('m.yaml', FULL), ENV, 'host-1');
      assert.ok(loaded.ok, loaded.ok ? '' : loaded.mistakes.map(formatMistake).join('\n'));
      const { config } = loaded;
      assert.equal(config.gateway, 'plant-7');
      assert.equal(config.mqtt.listeners[1]!.tls!.cert, join(folder, 'c.pem'));
      assert.deepEqual(config.mqtt.sources[0]!.topics, ['sensors/#']);
      assert.equal(config.kafka!.partitions, 12);
      assert.equal(config.influx!.token, 'secret-token');
      assert.deepEqual(Object.keys(config.streams), ['environment', 'clicks']);
      assert.equal(config.streams.clicks!.key, 'page');
      assert.deepEqual(config.streams.clicks!.identity, ['userid', 'page', 'timestamp']);
      assert.deepEqual({ ...config.streams.environment!.enrich!.scale }, { temperature: 'temperature_factor' });
    });

    it('says of each file that is missing where it was looked for', async () => {
      put('device.csv', '');
      assert.deepEqual(
        await load(
          'mqtt: { auth: { users: people.yaml } }\nstreams:\n  s: { topic: "t/{device}", time: ts, metrics: [x], schema: no/x.json, enrich: { registry: devices.csv } }\n',
        ),
        [
          `1:24: mqtt.auth.users: the file "people.yaml" does not exist; looked for people.yaml`,
          `3:61: streams.s.schema: the file "no/x.json" does not exist; there is no folder no`,
          `3:92: streams.s.enrich.registry: the file "devices.csv" does not exist; did you mean "device.csv"?; looked for devices.csv`,
        ].map((line) => `m.yaml:${line}`),
      );
    });

    it('refuses a folder in place of a file', async () => {
      const lines = await load(`mqtt: { auth: { users: . } }${STREAM}`);
      assert.equal(lines.length, 1);
      assert.match(lines[0]!, /^m\.yaml:1:24: mqtt\.auth\.users: "\." is not a file/);
    });

    it('finds certificates that are none, and keys that do not fit', async () => {
      certificate('one');
      certificate('two');
      put('text.pem', 'hello');
      const listener = (port: number, cert: string, key: string) =>
        `    - { port: ${port}, host: 127.0.0.1, tls: { cert: ${cert}, key: ${key} } }\n`;
      const text = `mqtt:\n  listeners:\n${listener(1, 'one.pem', 'one.key')}${listener(2, 'one.pem', 'two.key')}${listener(3, 'text.pem', 'one.key')}`;
      const lines = await load(under(text));
      assert.equal(lines.length, 2);
      assert.match(lines[0]!, /^m\.yaml:4:62: mqtt\.listeners\[1\]\.tls\.key: does not fit the certificate: /);
      assert.match(lines[1]!, /^m\.yaml:5:48: mqtt\.listeners\[2\]\.tls\.cert: not a certificate: /);
    });

    it('reports missing files together with all other mistakes', async () => {
      const lines = await load(
        'dta: x\nstreams:\n  s: { topic: "t/{device}", time: ts, metrics: [x], schema: x.json }\n',
      );
      assert.deepEqual(
        lines.map((line) => line.split(': ')[1]),
        ['dta', 'streams.s.schema'],
      );
    });

    it('says so when it is not there, not text, or far too large', async () => {
      const lineOf = async (file: string) => {
        const loaded = await loadConfig(file, ENV, 'h');
        assert.ok(!loaded.ok);
        return loaded.mistakes.map(formatMistake).join('\n');
      };
      assert.match(await lineOf(join(folder, 'nothing.yaml')), /nothing\.yaml: cannot be read: ENOENT.*--config/);
      writeFileSync(join(folder, 'bytes.yaml'), Buffer.from([0x61, 0xff, 0xfe]));
      assert.match(await lineOf(join(folder, 'bytes.yaml')), /bytes\.yaml: cannot be read/);
      put('large.yaml', '#'.repeat(2 ** 20 + 1));
      assert.match(await lineOf(join(folder, 'large.yaml')), /has 1\.0 MiB, more than/);
    });
  });

  describe('that is shipped', () => {
    const root = fileURLToPath(new URL('..', import.meta.url));
    const sample = Object.fromEntries(
      readFileSync(join(root, 'compose/.env.example'), 'utf8')
        .split('\n')
        .filter((line) => /^[A-Z]/.test(line))
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );

    for (const name of ['compose/millrace.yaml', 'compose/demo/millrace.yaml']) {
      it(`is valid and gives no warning: ${name}`, async () => {
        const loaded = await loadConfig(join(root, name), sample, 'host-1');
        const complaints = [...(loaded.ok ? [] : loaded.mistakes), ...loaded.warnings];
        assert.deepEqual(complaints.map(formatMistake), []);
      });
    }

    it('has an editor schema that is not stale (npx tsx compose/schema.ts writes it)', () => {
      const committed = readFileSync(join(root, 'compose/millrace.schema.json'), 'utf8');
      assert.equal(committed, `${JSON.stringify(editorSchema(), null, 2)}\n`);
    });
  });
});

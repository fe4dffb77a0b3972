/**
 * The configuration file, declared once: every setting with its kind, default, limits and one sentence. From here come
 * the schema that a file is checked with, the meaning of each value (`SETTINGS.read`), and the schema for editors
 * (editor.ts).
 * The keys are the product's surface: adding one is free, renaming one needs a reason.
 */

import { STATISTICS } from '../row.ts';
import { DEFAULT_THRESHOLD, MAX_AHEAD } from '../scored.ts';
import { PAYLOAD_FORMATS, PRECISIONS, SCORE_STATISTICS } from '../stream.ts';
import { kafkaSasl, PRESET_NAMES, schemaRegistry } from './kafka.ts';
import { mqttLimits as limits } from './sections/mqtt-limits.ts';
import {
  choice,
  decimal,
  duration,
  entry,
  FILE,
  flag,
  integer,
  list,
  map,
  optionalChoice,
  optionalDuration,
  optionalFlag,
  optionalInteger,
  optionalNumber,
  optionalSection,
  optionalSize,
  optionalText,
  required,
  requiredInteger,
  section,
  shortened,
  size,
  switchable,
  text,
  type ValueOf,
} from './setting.ts';

const PORT = { min: 0, max: 65_535 };
const IDENTIFIER = '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$';
const HOST = { expected: 'a host name or an address, without a port', pattern: '^[A-Za-z0-9._:-]+$' };
/** A payload field or tag: dots reach into objects, and no part is empty. */
const FIELD = {
  expected: 'the name of a field, such as temperature or env.temperature',
  pattern: '^[^.\\u0000-\\u001f\\u007f]+(\\.[^.\\u0000-\\u001f\\u007f]+)*$',
  maxLength: 128,
};
const PLAIN_FIELD = { expected: 'the name of a field', pattern: '^[^.\\u0000-\\u001f\\u007f]+$', maxLength: 128 };
const MAX_LIST = 256;
const DERIVED_NAME = '^[A-Za-z_][A-Za-z0-9_]{0,63}$';

const fields = (sentence: string, fallback: readonly string[] = []) =>
  list(sentence, entry('A field.', FIELD), fallback, { max: MAX_LIST, expected: 'a list of field names' });

const clientTls = {
  ca: optionalText('Certificates of the authorities to trust; default: those of the system.', FILE),
  cert: optionalText("Millrace's own certificate, where the server asks for one.", FILE),
  key: optionalText('Private key of `cert`.', FILE),
};

const listener = section('A port on which devices connect.', {
  port: requiredInteger('TCP port; 0 = any free one.', PORT),
  host: text('Address to listen on; 127.0.0.1 = this machine only, 0.0.0.0 = every interface.', '0.0.0.0', HOST),
  websocket: flag('MQTT over WebSocket instead of plain TCP.', false),
  tls: optionalSection('Encrypts the connections.', {
    cert: entry('Certificate chain, PEM.', FILE),
    key: entry('Private key of the certificate, PEM.', FILE),
    ca: optionalText('Certificates of the authorities that sign client certificates, PEM.', FILE),
    clientCertificate: choice(
      'Whether a client must, may, or need not show a certificate.',
      ['none', 'optional', 'required'],
      'none',
    ),
  }),
});

const source = section('Another MQTT broker whose messages are taken in like those of devices.', {
  url: entry('Address of the broker.', { expected: 'an address such as mqtts://broker.example:8883' }),
  topics: required(
    list(
      'Topic filters to subscribe to.',
      entry('A topic filter.', { expected: 'a topic filter such as sensors/#' }),
      [],
      {
        min: 1,
        max: MAX_LIST,
        expected: 'a list of topic filters',
      },
    ),
    [],
  ),
  client_id: optionalText('MQTT client id; default: millrace-<gateway>.', { expected: 'a client id', maxLength: 128 }),
  username: optionalText('User name, where the broker asks for one.'),
  password: optionalText('Password, best taken from the environment.', { secret: true }),
  tls: optionalSection('Certificates for mqtts: and wss: addresses.', clientTls),
});

const mqtt = section('Where devices connect, who may, and how much.', {
  listeners: list('Ports on which devices connect.', listener, [{ port: 1883, host: '127.0.0.1' }], {
    min: 0,
    max: 32,
    expected: 'a list of listeners such as { port: 1883, host: 127.0.0.1 }',
  }),
  auth: section('Who may connect.', {
    anonymous: optionalFlag(
      'Whether clients may connect without a name; default: yes when there is no `users` file, and then on loopback listeners only.',
    ),
    users: optionalText('File with users, password hashes and what each may publish.', FILE),
  }),
  limits,
  sources: list('Other MQTT brokers to take messages from.', source, [], { max: 64, expected: 'a list of sources' }),
});

const store = section('The embedded store, where the rows are kept without InfluxDB.', {
  max: size('All rows together; at this the oldest are deleted.', '10GiB', '1MiB', '64TiB'),
});

const spool = section('The log on disk: the write-ahead buffer in front of Kafka, or the log itself.', {
  max: size('All segments together; at this the gateway stops acknowledging.', '10GiB', '4MiB', '64TiB'),
  segment: size('One segment file.', '64MiB', '1MiB', '1GiB'),
  history: optionalSize(
    'Segments that every reader has passed are kept up to this much, for verify and recompute; default: 1GiB, at most half of `max`.',
    '1GiB',
    '0',
    '64TiB',
  ),
  commit_interval: duration('Least time between two group commits while busy.', '5ms', '0ms', '1s'),
  account_devices: integer(
    'Devices that an account of one minute names, for `millrace audit`; the rest is counted together.',
    10_000,
    {
      min: 1,
      max: 1_000_000,
    },
  ),
});

const kafka = optionalSection('The Kafka cluster; absent: the spool is the log.', {
  preset: optionalChoice('A managed service, whose needs become the defaults of this section.', PRESET_NAMES),
  brokers: required(
    list(
      'Where to find the cluster.',
      entry('A broker, or several with commas.', {
        expected: 'host:port',
        pattern: '^\\s*[^\\s,:/]+:\\d{1,5}\\s*(,\\s*[^\\s,:/]+:\\d{1,5}\\s*)*$',
      }),
      [],
      { min: 1, max: 64, expected: 'a list of host:port' },
    ),
    [],
  ),
  prefix: text('Topics are named <prefix>.readings, <prefix>.deadletters, ...', 'telemetry', {
    expected: 'letters, digits, dot, dash and underscore',
    pattern: '^[A-Za-z0-9._-]{1,200}$',
  }),
  partitions: integer('Partitions of the topics; never changed in place.', 12, { min: 1, max: 1_000 }),
  replication_factor: integer("Copies of each partition, where topics are created; -1 = the brokers' default.", -1, {
    min: -1,
    max: 32,
  }),
  compression: choice('Of records on the wire and in Kafka.', ['gzip', 'none'], 'gzip'),
  linger: duration('How long forwarding waits for more records to fill a request.', '50ms', '0ms', '10s'),
  batch: size('Records of one produce request; below message.max.bytes of the brokers.', '512KiB', '1KiB', '64MiB'),
  request: size(
    'One produce request, over all partitions; some services close the connection above theirs.',
    '8MiB',
    '16KiB',
    '64MiB',
  ),
  request_timeout: duration('After this a request counts as failed.', '30s', '1s', '10m'),
  session_timeout: duration('A rollup process that is silent for this long loses its partitions.', '10s', '6s', '5m'),
  group: text('Consumer group of the rollup.', 'millrace-rollup', { expected: 'a group name', pattern: IDENTIFIER }),
  start: text(
    'Where a rollup whose group has never committed begins: earliest, latest, or a time; the windows that were open there are left out.',
    'earliest',
    {
      expected: 'earliest, latest, or a time such as 2026-01-31T12:00:00Z',
      pattern: '^(earliest|latest|\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d(:\\d\\d(\\.\\d+)?)?(Z|[+-]\\d\\d:\\d\\d))$',
    },
  ),
  fetch: size(
    'Records of one partition in one answer of Kafka, packed; in memory they are about ten times as large.',
    '128KiB',
    '4KiB',
    '64MiB',
  ),
  fetch_wait: duration('How long Kafka waits for records before it answers a rollup with none.', '250ms', '5ms', '10s'),
  create_topics: flag('Missing topics are created at the start.', true),
  continues: flag(
    'These topics go on where those of another prefix ended: windows that were open at the change are left out, not written in part.',
    false,
  ),
  tls: switchable(
    optionalSection('Encrypts the connections; `true` or `{}` = with the authorities of the system.', clientTls),
  ),
  sasl: kafkaSasl,
  schema_registry: schemaRegistry,
});

const influx = optionalSection('InfluxDB 2; absent: the embedded store.', {
  url: entry('Address of the server.', { expected: 'an address such as http://127.0.0.1:8086' }),
  org: entry('Organisation.'),
  bucket: text('Buckets are named <bucket>_<window>, such as telemetry_10s.', 'telemetry', {
    expected: 'a name that does not start with an underscore',
    pattern: '^[^_\\s"][^"]*$',
    maxLength: 100,
  }),
  token: entry('API token, best taken from the environment.', { secret: true }),
  timeout: duration('After this a write counts as failed.', '30s', '1s', '10m'),
  create_buckets: flag('Missing buckets are created at the start; the token must be allowed to.', true),
  retention: map(
    'How long the rows of a window size are kept, such as { 10s: 7d, 1m: 90d }; not listed = for ever.',
    duration('How long.', '30d', '1h', '36500d'),
    { keyPattern: '^.+$', max: 64, expected: 'durations by window, such as { 10s: 7d }' },
  ),
});

const http = section('The live page, the API, health and metrics.', {
  host: text('Address to listen on.', '127.0.0.1', HOST),
  port: integer('TCP port; 0 = any free one.', 8080, PORT),
  token: optionalText('Needed for calls that change anything; absent: such calls are refused.', { secret: true }),
});

const ingest = optionalSection('Readings by HTTP POST; users and limits are those of mqtt.', {
  port: requiredInteger('TCP port; 0 = any free one.', PORT),
  host: text('Address to listen on; 127.0.0.1 = this machine only.', '127.0.0.1', HOST),
  tls: optionalSection('Encrypts the connections.', {
    cert: entry('Certificate chain, PEM.', FILE),
    key: entry('Private key of the certificate, PEM.', FILE),
  }),
  cors: list(
    'Origins whose web pages may send, beside the own one; * = any.',
    entry('An origin.', {
      expected: 'an origin such as https://shop.example, or *',
      pattern: '^(\\*|https?://[A-Za-z0-9._:\\[\\]-]+)$',
    }),
    [],
    { max: MAX_LIST, expected: 'a list of origins such as https://shop.example' },
  ),
  connections: integer('Open connections.', 1_000, { min: 1, max: 1_000_000 }),
  body: size('Body of one request.', '1MiB', '1KiB', '64MiB'),
  messages: integer('Messages in one request.', 10_000, { min: 1, max: 1_000_000 }),
});

const rollup = section('How readings become windows.', {
  grace: duration('How long after its end a window still accepts readings.', '15s', '0ms', '1d'),
  disorder: duration('How much older than its predecessors a record in the log may be.', '2s', '0ms', '1h'),
  tick: duration(
    'How often the clock is written to the log, so that windows close without readings.',
    '5s',
    '100ms',
    '1m',
  ),
  stages: integer(
    '2: windows above a minute are merged by a second stage, from closed minutes in Kafka; a restart then reads about a minute of readings again, and not an hour.',
    1,
    { min: 1, max: 2 },
  ),
  skew: duration("How far ahead of the gateway's clock an event time may be.", '60s', '0ms', '1d'),
  repair: choice('Whether rows are written again by themselves after late readings.', ['auto', 'off'], 'auto'),
  repair_delay: duration(
    'How long a window with late readings waits for more of them before it is repaired.',
    '1m',
    '0s',
    '1d',
  ),
  max_series: integer('Series that may exist; readings of further ones are refused.', 100_000, {
    min: 1,
    max: 100_000_000,
  }),
  flush: duration('How often closed windows are written and the position is committed.', '1s', '50ms', '1m'),
  live: duration('How often the running value of open windows is written.', '5s', '250ms', '10m'),
});

const window = shortened(
  section('A window size.', {
    size: required(duration('Length of the window.', '5m', '100ms', '366d'), 0),
    every: optionalDuration('Distance between starts; default: the length.', '1m', '100ms', '366d'),
  }),
  {
    schema: { duration: { min: 100, max: 366 * 86_400_000 } },
    expected: 'a duration such as 10s, or { size: 5m, every: 1m }',
    expand: (length) => ({ size: length, every: length }),
  },
);

const score = section('Anomaly scores of closed windows, for streams with `score`.', {
  max_series: integer('Series whose past is kept in memory, about 30 KB each; the longest unused makes room.', 10_000, {
    min: 1,
    max: 1_000_000,
  }),
  model_batch: integer('Windows that a model from `score.model` is given at once.', 256, { min: 1, max: 10_000 }),
  model_queue: integer('Windows that wait for such a model; beyond that the oldest are passed over.', 10_000, {
    min: 1,
    max: 1_000_000,
  }),
  model_timeout: duration(
    'A batch that takes longer, the loading of the model included, is given up.',
    '10s',
    '10ms',
    '10m',
  ),
});

const stream = section('A named kind of reading.', {
  topic: entry('Which topics; words in braces match one level and become tags.', {
    expected: 'a topic template such as sensors/{site}/{device}/environment',
  }),
  format: choice('Of the payload.', [...PAYLOAD_FORMATS], 'json'),
  compression: choice('gzip: payloads may be packed; what is packed says so itself.', ['none', 'gzip'], 'none'),
  precision: choice('Unit of the timestamps, of line-protocol only.', [...PRECISIONS], 'ns'),
  schema: optionalText('JSON Schema file that payloads must match.', FILE),
  key: optionalText(
    'Topic capture or payload field that readings are partitioned and ordered by; default: device.',
    FIELD,
  ),
  identity: fields('Fields that together make two messages the same event; default: series and time.'),
  time: optionalText("Payload field with the event time (ms, s or RFC 3339); absent: the gateway's clock.", FIELD),
  sequence: optionalText(
    "Payload field with the device's own counter, so that missing readings can be counted.",
    FIELD,
  ),
  trace: switchable(
    optionalSection(
      'W3C trace contexts, carried beside the readings and in Kafka as the header traceparent; `true` = made for each message.',
      {
        field: optionalText('Payload field with the traceparent of the sender.', FIELD),
        make: flag('A message that brings no valid one is given one.', true),
      },
    ),
  ),
  tags: fields('Payload fields that become tags, beside the captures of the topic.'),
  metrics: fields('Payload fields that are aggregated; [] = the windows count events.'),
  distinct: fields('Fields or tags whose different values are counted in every window, such as [userid].'),
  enrich: optionalSection('Tags and factors from a device registry.', {
    registry: entry('CSV file with a header line.', FILE),
    by: text('Tag of the reading, and column of the registry, that are compared.', 'device', FIELD),
    tags: fields('Columns that become tags.'),
    scale: map(
      'Metrics and the columns whose number they are multiplied by, such as { temperature: temperature_factor }.',
      entry('A column.', { expected: 'the name of a column' }),
      { keyPattern: '^.+$', max: MAX_LIST, expected: 'columns by metric' },
    ),
    unknown: choice('What becomes of a device that the registry does not list.', ['accept', 'refuse'], 'accept'),
  }),
  derive: map(
    'Metrics computed from others after scaling, such as { power: voltage * current }.',
    entry('An expression.', { expected: 'an expression such as (inlet + outlet) / 2', maxLength: 500 }),
    { keyPattern: DERIVED_NAME, max: 64, expected: 'expressions by the name of a new metric' },
  ),
  range: map(
    'Values that metrics may have, after scaling and deriving.',
    section('A range; at least one of min and max.', {
      min: optionalNumber('Least value.'),
      max: optionalNumber('Largest value.'),
      outside: choice(
        'What becomes of a value outside: the reading is refused, or goes on without it.',
        ['refuse', 'drop'],
        'refuse',
      ),
    }),
    { keyPattern: '^.+$', max: MAX_LIST, expected: 'ranges by metric, such as { temperature: { min: -40, max: 85 } }' },
  ),
  rate: map(
    'How fast metrics may change, by event time, in each series by itself.',
    section('A rate.', {
      max: required(optionalNumber('Largest change, either way.'), 0),
      per: duration('In this time.', '1m', '1ms', '366d'),
      beyond: choice(
        'What becomes of a value that changed faster: the reading is refused, or goes on without it.',
        ['refuse', 'drop'],
        'refuse',
      ),
    }),
    { keyPattern: '^.+$', max: MAX_LIST, expected: 'rates by metric, such as { temperature: { max: 5, per: 1m } }' },
  ),
  windows: list('Sizes of the windows.', window, ['10s', '1m', '15m', '1h'], {
    min: 1,
    max: 16,
    expected: 'a list of window sizes such as [10s, 1m]',
  }),
  score: switchable(
    optionalSection(
      'Anomaly scores and forecasts of closed windows, kept apart from the rows; `true` = as by default.',
      {
        window: optionalText('Which windows; default: the smallest.', {
          expected: 'one of the windows of the stream, such as 1m',
          pattern: '^.+$',
        }),
        metrics: fields('Metrics that are scored; default: all.'),
        statistic: choice('What of them is watched.', SCORE_STATISTICS, 'mean'),
        threshold: decimal(
          'Scores from here on are alarms; 1 = as unusual as anything remembered.',
          DEFAULT_THRESHOLD,
          {
            min: 0.1,
            max: 1_000,
          },
        ),
        ahead: integer('How many windows are forecast.', 6, { min: 1, max: MAX_AHEAD }),
        model: optionalSection(
          'A model of your own, whose scores are kept beside these; needs the package onnxruntime-web.',
          {
            file: entry('ONNX file: float32[count, windows] in, float32[count] out.', FILE),
            windows: integer('How many of the newest windows it is given, oldest first.', 16, { min: 1, max: 1_000 }),
            name: optionalText('Stands in its scores as `_model`; default: the name of the file.', {
              expected: 'a name of up to 64 letters, digits, dots, dashes and underscores',
              pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$',
            }),
          },
        ),
      },
    ),
  ),
  understand: optionalSection(
    'Sentiment and intent of each message of a support chat, as readings of a stream <name>.understood; key: must be the conversation.',
    {
      intents: entry('Labelled file: an intent, a tab, a message, one a line.', FILE),
      text: text('Payload field with the message.', 'text', PLAIN_FIELD),
      agent: text('Payload field that names the agent.', 'agent', PLAIN_FIELD),
      from: text('Payload field that says who wrote it: agent; anything else is the customer.', 'from', PLAIN_FIELD),
      urgent_intents: list('Intents that are urgent.', entry('An intent.', { expected: 'the name of an intent' }), [], {
        max: MAX_LIST,
        expected: 'a list of intents',
      }),
      urgent_words: list(
        'Words that make a message urgent.',
        entry('A word.', { expected: 'a word without spaces', pattern: '^\\S+$' }),
        ['urgent', 'urgently', 'immediately', 'asap', 'emergency', 'dangerous', 'lawyer', 'police', 'fraud', 'hacked'],
        { max: MAX_LIST, expected: 'a list of words' },
      ),
      forget: duration('A conversation in which nothing new was said for this long is over.', '1h', '1s', '7d'),
      conversations: integer('Conversations remembered for each partition; the longest untouched makes room.', 10_000, {
        min: 1,
        max: 1_000_000,
      }),
      agents: integer('Agents with rows of their own in each partition; further ones share `other`.', 1_000, {
        min: 1,
        max: 100_000,
      }),
    },
  ),
  retain: flag('Accepted readings are also retained for local MQTT subscribers.', false),
});

const rule = section(
  'What to be told about: a value beyond a limit, an unusual one, a device gone silent, or many dead letters.',
  {
    stream: optionalText('The stream; for dead letters absent = any.', { expected: 'the name of a stream' }),
    metric: optionalText('Metric whose windows are looked at.', FIELD),
    window: optionalText('Window size; default: the smallest of the stream.', { expected: 'a window such as 1m' }),
    statistic: choice('Which number of the window.', ['count', ...STATISTICS], 'mean'),
    above: optionalNumber('Raised when the statistic is above this.'),
    below: optionalNumber('Raised when it is below this.'),
    clear: optionalNumber('Cleared only at or within this again (scores: below it); default: the limit itself.'),
    windows: integer('So many windows of a series in a row.', 1, { min: 1, max: 1_000 }),
    each: flag('Judges every reading of a key at once, and not closed windows.', false),
    forget: duration('With `each`: an alert that no reading cleared is cleared after this long.', '1h', '1s', '30d'),
    alarm: flag('Raised by the alarms of the scores of a stream with `score`; metric: absent = any.', false),
    calm: integer('With `alarm`: cleared after so many windows without a score at or above `clear`.', 6, {
      min: 1,
      max: 1_000,
    }),
    silent: optionalDuration('Raised when a device that was seen has had no reading for this long.', '5m', '1s', '30d'),
    dead_letters: optionalInteger('Raised when so many payloads are refused `within` some time.', {
      min: 1,
      max: 100_000,
    }),
    within: duration('For dead letters: within how long.', '1m', '1s', '1d'),
  },
);

const alerts = optionalSection(
  'What to be told about, and where; kept in the topic <prefix>.alerts, without Kafka in the data folder.',
  {
    rules: map('Rules, by name.', rule, {
      keyPattern: '^[A-Za-z][A-Za-z0-9_.-]{0,63}$',
      max: MAX_LIST,
      expected: 'rules by name',
    }),
    webhook: optionalSection('Each alert is posted there as JSON, in order, until it is taken.', {
      url: entry('Address.', { expected: 'an address such as https://alerts.example/millrace' }),
      token: optionalText('Sent as `Authorization: Bearer`, best taken from the environment.', { secret: true }),
      timeout: duration('After this a try counts as failed.', '10s', '100ms', '2m'),
    }),
    mqtt: optionalSection("Each alert is published to subscribers of this gateway's own broker.", {
      topic: text('Topic; {rule} stands for the name of the rule.', 'millrace/alerts/{rule}', {
        expected: 'a topic without wildcards',
        maxLength: 512,
      }),
    }),
  },
);

const log = section('The lines that the program writes to stderr; their level is the variable LOG_LEVEL.', {
  lines_per_second: integer('Lines of each thread; what is beyond is left out and counted.', 100, {
    min: 1,
    max: 100_000,
  }),
});

const commands = optionalSection(
  'Commands to devices, from the topic <prefix>.commands or by HTTP; absent: there are none.',
  {
    topic: entry('Where a device listens for them, such as devices/{device}/commands.', {
      expected: 'a topic with {device}, such as devices/{device}/commands',
      maxLength: 400,
    }),
    client: text('Client id of a device.', '{device}', { expected: 'a client id with {device}', maxLength: 128 }),
    responses: optionalText('Where it answers, unless the command says so; {device} and {id} are filled in.', {
      expected: 'a topic such as devices/{device}/responses',
      maxLength: 400,
    }),
    ttl: duration('How long a command waits that says nothing else; then it has expired.', '1h', '1s', '30d'),
    pending: integer('Commands that wait for their devices, in all; further ones are refused.', 10_000, {
      min: 1,
      max: 1_000_000,
    }),
    pending_per_device: integer('Commands that wait for one device; further ones are refused.', 100, {
      min: 1,
      max: 100_000,
    }),
    rate: integer('Commands and outcomes read per second; the others wait in their log.', 1_000, {
      min: 10,
      max: 100_000,
    }),
  },
);

export const STREAM_NAME = '^[A-Za-z][A-Za-z0-9_.-]{0,63}$';

export const SETTINGS = section('The configuration of a Millrace gateway.', {
  data: text('Folder of the spool and the embedded store; one folder, one gateway.', './data', {
    expected: 'the path of a folder',
  }),
  gateway: optionalText("This gateway's name; default: the host name.", {
    expected: 'a name of letters, digits, dot, dash and underscore',
    pattern: IDENTIFIER,
  }),
  ack: choice('What an acknowledgement means: stored in the spool, or stored by Kafka.', ['spool', 'kafka'], 'spool'),
  mqtt,
  spool,
  store,
  kafka,
  influx,
  http,
  log,
  ingest,
  rollup,
  score,
  alerts,
  commands,
  streams: map('What is measured, by name.', stream, {
    keyPattern: STREAM_NAME,
    min: 1,
    max: 1_000,
    expected: 'at least one stream, by name',
  }),
});

export type Settings = ValueOf<typeof SETTINGS>;
export type StreamSettings = Settings['streams'][string];
export type RuleSettings = NonNullable<Settings['alerts']>['rules'][string];
export type WindowSettings = StreamSettings['windows'][number];

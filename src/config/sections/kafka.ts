/** `kafka:`, declared: the cluster, its topics and requests. How to log in is in kafka-login.ts. */
import { PRESET_NAMES } from '../kafka.ts';
import {
  choice,
  duration,
  entry,
  flag,
  integer,
  list,
  optionalChoice,
  optionalSection,
  required,
  size,
  switchable,
  text,
} from '../setting.ts';
import { clientTls, IDENTIFIER } from './common.ts';
import { kafkaSasl, schemaRegistry } from './kafka-login.ts';

export const kafka = optionalSection('The Kafka cluster; absent: the spool is the log.', {
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
  linger: duration(
    'How long forwarding, having sent all there is, waits before it looks for more to send.',
    '50ms',
    '0ms',
    '10s',
  ),
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

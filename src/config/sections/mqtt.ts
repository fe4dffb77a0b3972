/** `mqtt:`, declared: listeners, who may connect, and other brokers. Its limits are in mqtt-limits.ts. */
import {
  choice,
  entry,
  FILE,
  flag,
  list,
  optionalFlag,
  optionalSection,
  optionalText,
  required,
  requiredInteger,
  section,
  text,
} from '../setting.ts';
import { clientTls, HOST, MAX_LIST, PORT } from './common.ts';
import { mqttLimits } from './mqtt-limits.ts';

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

export const mqtt = section('Where devices connect, who may, and how much.', {
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
  limits: mqttLimits,
  sources: list('Other MQTT brokers to take messages from.', source, [], { max: 64, expected: 'a list of sources' }),
});

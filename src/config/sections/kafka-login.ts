/** `kafka.sasl` and `kafka.schema_registry`, declared: who we are to the cluster, and to the registry beside it. */
import { MECHANISMS } from '../kafka.ts';
import {
  choice,
  duration,
  entry,
  FILE,
  flag,
  list,
  map,
  optionalChoice,
  optionalSection,
  optionalText,
} from '../setting.ts';

export const kafkaSasl = optionalSection('How to log in to Kafka.', {
  mechanism: optionalChoice(
    'How it is proven who we are; default: that of the preset, oauthbearer where a token is named, else scram-sha-512.',
    MECHANISMS,
  ),
  username: optionalText('User name.'),
  password: optionalText('Password, best taken from the environment.', { secret: true }),
  password_file: optionalText('File with the password, read at every login.', FILE),
  key_file: optionalText(
    'Key file (JSON) of a Google service account, read at every login; of google-managed only.',
    FILE,
  ),
  token_file: optionalText('For oauthbearer: file with a token, read at every login.', FILE),
  token_command: list(
    'For oauthbearer: program, and its arguments, that prints a token.',
    entry('The program, or an argument.'),
    [],
    { max: 32, expected: 'a list such as [/usr/local/bin/token, --audience, kafka]' },
  ),
  token_url: optionalText('For oauthbearer: address that gives tokens for client_id and client_secret (OAuth 2).', {
    expected: 'an address such as https://login.example/oauth2/token',
  }),
  client_id: optionalText('Name at `token_url`.'),
  client_secret: optionalText('Secret at `token_url`, best taken from the environment.', { secret: true }),
  client_secret_file: optionalText('File with the secret, read whenever a token is asked for.', FILE),
  scope: optionalText('Scope that is asked for at `token_url`.'),
  region: optionalText('AWS region, of msk-iam only; default: from the name of the broker.', {
    expected: 'a region such as eu-west-1',
    pattern: '^[a-z]{2}(-[a-z]+)+-\\d+$',
  }),
  extensions: map(
    'Sent beside the token, such as { logicalCluster: lkc-1, identityPoolId: pool-1 } for Confluent Cloud.',
    entry('The value.', { expected: 'text', pattern: '^[\\x20-\\x7e]+$' }),
    { keyPattern: '^[A-Za-z]{1,64}$', max: 16, expected: 'texts by name' },
  ),
});

export const schemaRegistry = optionalSection(
  'A schema registry (Confluent API): readings are framed with the id of their schema; absent: they are plain JSON.',
  {
    url: entry('Address.', { expected: 'an address such as https://registry.example:8081' }),
    format: choice('Of readings in Kafka.', ['avro', 'json'], 'avro'),
    register: flag('Our schema is registered where it is missing; false: it must be there, and no other.', true),
    username: optionalText('User name, or API key.'),
    password: optionalText('Password, or API secret, best taken from the environment.', { secret: true }),
    password_file: optionalText('File with the password, read again whenever the registry is asked.', FILE),
    timeout: duration('After this a question counts as failed.', '10s', '100ms', '2m'),
  },
);

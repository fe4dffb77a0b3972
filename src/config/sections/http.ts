/** `http:` and `ingest:`, declared: what is read from the gateway over HTTP, and what is sent to it. */
import {
  entry,
  FILE,
  integer,
  list,
  optionalSection,
  optionalText,
  requiredInteger,
  section,
  size,
  text,
} from '../setting.ts';
import { HOST, MAX_LIST, PORT } from './common.ts';

export const http = section('The live page, the API, health and metrics.', {
  host: text('Address to listen on.', '127.0.0.1', HOST),
  port: integer('TCP port; 0 = any free one.', 8080, PORT),
  token: optionalText('Needed for calls that change anything; absent: such calls are refused.', { secret: true }),
});

export const ingest = optionalSection('Readings by HTTP POST; users and limits are those of mqtt.', {
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

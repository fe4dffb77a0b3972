/** `influx:`, declared. */
import { duration, entry, flag, map, optionalSection, text } from '../setting.ts';

export const influx = optionalSection('InfluxDB 2; absent: the embedded store.', {
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

/** `rollup:`, declared. */
import { choice, duration, integer, section } from '../setting.ts';

export const rollup = section('How readings become windows.', {
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

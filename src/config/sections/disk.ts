/** `spool:` and `store:`, declared: what is kept in the data folder. */
import { duration, integer, optionalSize, section, size } from '../setting.ts';

export const store = section('The embedded store, where the rows are kept without InfluxDB.', {
  max: size('All rows together; at this the oldest are deleted.', '10GiB', '1MiB', '64TiB'),
});

export const spool = section('The log on disk: the write-ahead buffer in front of Kafka, or the log itself.', {
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

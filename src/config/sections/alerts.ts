/** `alerts:`, declared: the rules, and where alerts go. */
import { STATISTICS } from '../../row.ts';
import {
  choice,
  duration,
  entry,
  flag,
  integer,
  map,
  optionalDuration,
  optionalInteger,
  optionalNumber,
  optionalSection,
  optionalText,
  section,
  text,
} from '../setting.ts';
import { FIELD, MAX_LIST } from './common.ts';

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

export const alerts = optionalSection(
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

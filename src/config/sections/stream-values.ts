/** What a stream says of its values, declared: `enrich`, `derive`, `range` and `rate`. */
import {
  choice,
  duration,
  entry,
  FILE,
  map,
  optionalNumber,
  optionalSection,
  required,
  section,
  text,
} from '../setting.ts';
import { FIELD, fields, MAX_LIST } from './common.ts';

const DERIVED_NAME = '^[A-Za-z_][A-Za-z0-9_]{0,63}$';

export const enrich = optionalSection('Tags and factors from a device registry.', {
  registry: entry('CSV file with a header line.', FILE),
  by: text('Tag of the reading, and column of the registry, that are compared.', 'device', FIELD),
  tags: fields('Columns that become tags.'),
  scale: map(
    'Metrics and the columns whose number they are multiplied by, such as { temperature: temperature_factor }.',
    entry('A column.', { expected: 'the name of a column' }),
    { keyPattern: '^.+$', max: MAX_LIST, expected: 'columns by metric' },
  ),
  unknown: choice('What becomes of a device that the registry does not list.', ['accept', 'refuse'], 'accept'),
});

export const derive = map(
  'Metrics computed from others after scaling, such as { power: voltage * current }.',
  entry('An expression.', { expected: 'an expression such as (inlet + outlet) / 2', maxLength: 500 }),
  { keyPattern: DERIVED_NAME, max: 64, expected: 'expressions by the name of a new metric' },
);

export const range = map(
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
);

export const rate = map(
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
);

/** `score:`, declared: of a stream, what is scored and how; and what all scored streams share. */
import { DEFAULT_THRESHOLD, MAX_AHEAD } from '../../scored.ts';
import { SCORE_STATISTICS } from '../../stream.ts';
import {
  choice,
  decimal,
  duration,
  entry,
  FILE,
  integer,
  optionalSection,
  optionalText,
  section,
  switchable,
} from '../setting.ts';
import { fields } from './common.ts';

export const score = section('Anomaly scores of closed windows, for streams with `score`.', {
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

export const streamScore = switchable(
  optionalSection('Anomaly scores and forecasts of closed windows, kept apart from the rows; `true` = as by default.', {
    window: optionalText('Which windows; default: the smallest.', {
      expected: 'one of the windows of the stream, such as 1m',
      pattern: '^.+$',
    }),
    metrics: fields('Metrics that are scored; default: all.'),
    statistic: choice('What of them is watched.', SCORE_STATISTICS, 'mean'),
    threshold: decimal('Scores from here on are alarms; 1 = as unusual as anything remembered.', DEFAULT_THRESHOLD, {
      min: 0.1,
      max: 1_000,
    }),
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
  }),
);

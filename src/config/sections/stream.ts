/** A stream of `streams:`, declared: its topics, its payloads, and what becomes of their fields. */
import { PAYLOAD_FORMATS, PRECISIONS } from '../../stream.ts';
import {
  choice,
  duration,
  entry,
  FILE,
  flag,
  list,
  optionalDuration,
  optionalSection,
  optionalText,
  required,
  section,
  shortened,
  switchable,
} from '../setting.ts';
import { FIELD, fields } from './common.ts';
import { streamScore } from './score.ts';
import { derive, enrich, range, rate } from './stream-values.ts';
import { understand } from './understand.ts';

const window = shortened(
  section('A window size.', {
    size: required(duration('Length of the window.', '5m', '100ms', '366d'), 0),
    every: optionalDuration('Distance between starts; default: the length.', '1m', '100ms', '366d'),
  }),
  {
    schema: { duration: { min: 100, max: 366 * 86_400_000 } },
    expected: 'a duration such as 10s, or { size: 5m, every: 1m }',
    expand: (length) => ({ size: length, every: length }),
  },
);

export const stream = section('A named kind of reading.', {
  topic: entry('Which topics; words in braces match one level and become tags.', {
    expected: 'a topic template such as sensors/{site}/{device}/environment',
  }),
  format: choice('Of the payload.', [...PAYLOAD_FORMATS], 'json'),
  compression: choice('gzip: payloads may be packed; what is packed says so itself.', ['none', 'gzip'], 'none'),
  precision: choice('Unit of the timestamps, of line-protocol only.', [...PRECISIONS], 'ns'),
  schema: optionalText('JSON Schema file that payloads must match.', FILE),
  key: optionalText(
    'Topic capture or payload field that readings are ordered by, and partitioned by if it is a tag; default: device.',
    FIELD,
  ),
  identity: fields('Fields that together make two messages the same event; default: series and time.'),
  time: optionalText("Payload field with the event time (ms, s or RFC 3339); absent: the gateway's clock.", FIELD),
  sequence: optionalText(
    "Payload field with the device's own counter, so that missing readings can be counted.",
    FIELD,
  ),
  trace: switchable(
    optionalSection(
      'W3C trace contexts, carried beside the readings and in Kafka as the header traceparent; `true` = made for each message.',
      {
        field: optionalText('Payload field with the traceparent of the sender.', FIELD),
        make: flag('A message that brings no valid one is given one.', true),
      },
    ),
  ),
  tags: fields('Payload fields that become tags, beside the captures of the topic.'),
  metrics: fields('Payload fields that are aggregated; [] = the windows count events.'),
  distinct: fields('Fields or tags whose different values are counted in every window, such as [userid].'),
  enrich,
  derive,
  range,
  rate,
  windows: list('Sizes of the windows.', window, ['10s', '1m', '15m', '1h'], {
    min: 1,
    max: 16,
    expected: 'a list of window sizes such as [10s, 1m]',
  }),
  score: streamScore,
  understand,
  retain: flag('Accepted readings are also retained for local MQTT subscribers.', false),
});

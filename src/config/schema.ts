/**
 * The configuration file, declared once: every setting with its kind, default, limits and one sentence, in sections/ one
 * file a section. From here come the schema that a file is checked with, the meaning of each value (`SETTINGS.read`), and
 * the schema for editors (editor.ts).
 * The keys are the product's surface: adding one is free, renaming one needs a reason.
 */
import { alerts } from './sections/alerts.ts';
import { commands } from './sections/commands.ts';
import { IDENTIFIER } from './sections/common.ts';
import { spool, store } from './sections/disk.ts';
import { http, ingest } from './sections/http.ts';
import { influx } from './sections/influx.ts';
import { kafka } from './sections/kafka.ts';
import { mqtt } from './sections/mqtt.ts';
import { rollup } from './sections/rollup.ts';
import { score } from './sections/score.ts';
import { stream } from './sections/stream.ts';
import { choice, integer, map, optionalText, section, text, type ValueOf } from './setting.ts';

const log = section('The lines that the program writes to stderr; their level is the variable LOG_LEVEL.', {
  lines_per_second: integer('Lines of each thread; what is beyond is left out and counted.', 100, {
    min: 1,
    max: 100_000,
  }),
});

const STREAM_NAME = '^[A-Za-z][A-Za-z0-9_.-]{0,63}$';

export const SETTINGS = section('The configuration of a Millrace gateway.', {
  data: text('Folder of the spool and the embedded store; one folder, one gateway.', './data', {
    expected: 'the path of a folder',
  }),
  gateway: optionalText("This gateway's name; default: the host name.", {
    expected: 'a name of letters, digits, dot, dash and underscore',
    pattern: IDENTIFIER,
  }),
  ack: choice('What an acknowledgement means: stored in the spool, or stored by Kafka.', ['spool', 'kafka'], 'spool'),
  mqtt,
  spool,
  store,
  kafka,
  influx,
  http,
  log,
  ingest,
  rollup,
  score,
  alerts,
  commands,
  streams: map('What is measured, by name.', stream, {
    keyPattern: STREAM_NAME,
    min: 1,
    max: 1_000,
    expected: 'at least one stream, by name',
  }),
});

export type Settings = ValueOf<typeof SETTINGS>;
export type StreamSettings = Settings['streams'][string];
export type RuleSettings = NonNullable<Settings['alerts']>['rules'][string];

/**
 * Grafana dashboards as code: `npx tsx compose/grafana/generate.ts` writes dashboards/*.json, which are committed and
 * provisioned; a test fails when the committed copy is stale, and runs every query against a real InfluxDB.
 *
 * Rows are read by InfluxQL, one source per window size: InfluxDB 2.7's Flux can return a row twice while an older one
 * of its series is still in the cache, InfluxQL does not. The window is chosen by choosing the source (`$source`); with several,
 * the row of panels repeats, because the same reading is in a row of every window size. Streams, sites and devices may be several
 * too: Grafana puts them into the regular expressions. Open windows are read from the one live source, by `$window`.
 * Means over several rows are sum(sum) / sum(count): the exact mean of the readings, not a mean of means.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Builder, Dataquery } from '@grafana/grafana-foundation-sdk/cog';
import {
  type Dashboard,
  DashboardBuilder,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder as PrometheusQuery } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatPanel } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TablePanel } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeSeriesPanel } from '@grafana/grafana-foundation-sdk/timeseries';

const ROWS = { type: 'influxdb', uid: `\${source}` };
const LIVE = { type: 'influxdb', uid: 'millrace-live' };
const PROMETHEUS = { type: 'prometheus', uid: 'millrace-prometheus' };

const STREAM = 'FROM /^$stream$/';
/** What the panels of one dashboard filter by. */
const SERIES = `"metric" =~ /^$metric$/ AND "site" =~ /^$site$/ AND "device" =~ /^$device$/ AND $timeFilter`;
const LIVE_STREAM = `FROM /^\${stream}_live$/`;
const LIVE_SERIES = `"window" =~ /^$window$/ AND ${SERIES}`;

class InfluxQl implements Builder<Dataquery> {
  readonly #model: object;
  constructor(query: string, options: { refId?: string; alias?: string; source?: object; table?: boolean } = {}) {
    const { refId = 'A', alias, source, table } = options;
    this.#model = {
      refId,
      query,
      rawQuery: true,
      resultFormat: table ? 'table' : 'time_series',
      ...(alias ? { alias } : undefined),
      ...(source ? { datasource: source } : undefined),
    };
  }
  build(): Dataquery {
    return { ...this.#model, _implementsDataqueryVariant() {} };
  }
}

function sourceVariable() {
  return new DatasourceVariableBuilder('source')
    .label('Closed windows')
    .type('influxdb')
    .regex('/^Millrace (10s|1m|15m|1h|5m_1m)$/')
    .multi(true)
    .includeAll(true)
    .current({ text: ['Millrace 10s'], value: ['millrace-10s'] });
}

function queryVariable(name: string, label: string, query: string, source = ROWS) {
  return new QueryVariableBuilder(name)
    .label(label)
    .query(query)
    .datasource(source)
    .refresh(VariableRefresh.OnTimeRangeChanged);
}

/** Several, or all at once: as one short expression, however many devices there are. */
function severalVariable(name: string, label: string, query: string, source = ROWS) {
  return queryVariable(name, label, query, source)
    .multi(true)
    .includeAll(true)
    .allValue('.*')
    .current({ text: ['All'], value: ['$__all'] });
}

function windowVariable() {
  const query = 'SHOW TAG VALUES FROM /_live$/ WITH KEY = "window"';
  return severalVariable('window', 'Open windows', query, LIVE);
}

const VARIABLES = [
  sourceVariable(),
  windowVariable(),
  // What a model says of a stream is a measurement beside it. All streams: their names, so that these stay out.
  queryVariable('stream', 'Stream', 'SHOW MEASUREMENTS').regex('/^(?!.*_scores$).*$/').multi(true).includeAll(true),
  queryVariable('metric', 'Metric', `SHOW TAG VALUES ${STREAM} WITH KEY = "metric"`),
  severalVariable('site', 'Site', `SHOW TAG VALUES ${STREAM} WITH KEY = "site"`),
  severalVariable('device', 'Device', `SHOW TAG VALUES ${STREAM} WITH KEY = "device" WHERE "site" =~ /^$site$/`),
];

/** What follows is read from one source, once for each that is chosen. */
function closedRow() {
  return new RowBuilder('Closed windows: $source').repeat('source');
}

function openRow() {
  return new RowBuilder('Now: what the open windows hold so far, provisional');
}

function liveSeries(title: string, query: string, alias: string, description: string) {
  return series(title, query, alias, description).datasource(LIVE);
}

function dashboard(uid: string, title: string, description: string): DashboardBuilder {
  return new DashboardBuilder(title)
    .uid(`millrace-${uid}`)
    .description(description)
    .tags(['millrace'])
    .time({ from: 'now-1h', to: 'now' })
    .refresh('10s')
    .timezone('browser')
    .readonly();
}

function series(title: string, query: string, alias: string, description: string) {
  return new TimeSeriesPanel()
    .title(title)
    .description(description)
    .datasource(ROWS)
    .withTarget(new InfluxQl(query, { alias }))
    .span(12)
    .height(8);
}

function stat(title: string, query: string, description: string) {
  return new StatPanel()
    .title(title)
    .description(description)
    .datasource(ROWS)
    .withTarget(new InfluxQl(query))
    .span(6)
    .height(4);
}

function fleet(): Dashboard {
  return dashboard('fleet', 'Millrace: fleet overview', 'Every device of a stream at once.')
    .variables(VARIABLES)
    .withRow(openRow())
    .withPanel(
      liveSeries(
        'Mean of the fleet, open windows',
        `SELECT sum("sum") / sum("count") AS "mean" ${LIVE_STREAM} WHERE ${LIVE_SERIES} GROUP BY time($__interval), "window" fill(none)`,
        '$m $tag_window',
        'By the start of the window, until its final row is in the panels below.',
      ),
    )
    .withPanel(
      liveSeries(
        'Readings, open windows',
        `SELECT sum("count") AS "readings" ${LIVE_STREAM} WHERE ${LIVE_SERIES} GROUP BY time($__interval), "window", "site" fill(none)`,
        '$m $tag_window $tag_site',
        'What has come so far: a site that goes silent shows before its window closes.',
      ),
    )
    .withRow(closedRow())
    .withPanel(
      stat(
        'Devices reporting',
        `SELECT count("n") FROM (SELECT sum("count") AS "n" ${STREAM} WHERE ${SERIES} GROUP BY "device")`,
        'Devices with at least one closed window in the time range.',
      ),
    )
    .withPanel(stat('Readings', `SELECT sum("count") ${STREAM} WHERE ${SERIES}`, 'Readings counted in closed windows.'))
    .withPanel(
      stat(
        'Missing',
        `SELECT sum("missing") ${STREAM} WHERE ${SERIES}`,
        'Sequence numbers that did not arrive.',
      ).noValue('0'),
    )
    .withPanel(
      stat('Duplicates', `SELECT sum("duplicates") ${STREAM} WHERE ${SERIES}`, 'Redelivered, counted once.').noValue(
        '0',
      ),
    )
    .withPanel(
      series(
        'Mean of the fleet',
        `SELECT sum("sum") / sum("count") AS "mean" ${STREAM} WHERE ${SERIES} GROUP BY time($__interval) fill(none)`,
        '$m',
        'The exact mean of the readings: sum of sums over sum of counts.',
      ),
    )
    .withPanel(
      series(
        'Range of the fleet',
        `SELECT min("min") AS "min", max("max") AS "max" ${STREAM} WHERE ${SERIES} GROUP BY time($__interval) fill(none)`,
        '$m $col',
        'Smallest and largest reading of any device.',
      ),
    )
    .withPanel(
      series(
        'Mean by site',
        `SELECT sum("sum") / sum("count") AS "mean" ${STREAM} WHERE ${SERIES} GROUP BY time($__interval), "site" fill(none)`,
        '$m $tag_site',
        'One line per site.',
      ),
    )
    .withPanel(
      new TablePanel()
        .title('Devices, last closed window')
        .description('The newest closed window of each device, and how many readings its mean is of.')
        .datasource(ROWS)
        .withTarget(
          new InfluxQl(
            `SELECT last("mean") AS "mean", "min", "max", "count", "missing" ${STREAM} WHERE ${SERIES} GROUP BY "site", "device"`,
            { table: true },
          ),
        )
        .span(12)
        .height(8),
    )
    .build();
}

function device(): Dashboard {
  return dashboard('device', 'Millrace: one device', 'The rows of one device, and what its open window holds so far.')
    .variables(VARIABLES)
    .withRow(openRow())
    .withPanel(
      liveSeries(
        'Running value of the open windows',
        `SELECT "mean" ${LIVE_STREAM} WHERE ${LIVE_SERIES} GROUP BY "device", "window"`,
        '$m $tag_device $tag_window',
        'Provisional: what the open windows hold so far. Final values are in the panels below.',
      ),
    )
    .withPanel(
      liveSeries(
        'Readings in the open windows',
        `SELECT "count" ${LIVE_STREAM} WHERE ${LIVE_SERIES} GROUP BY "device", "window"`,
        '$m $tag_device $tag_window',
        'Provisional: how many readings that value is of.',
      ),
    )
    .withRow(closedRow())
    .withPanel(
      series(
        'Mean, with the range of each window',
        `SELECT "mean", "min", "max" ${STREAM} WHERE ${SERIES} GROUP BY "device"`,
        '$m $tag_device $col',
        'One point per closed window: final values.',
      )
        .span(24)
        .overrideByRegexp('.*(min|max)$', [
          { id: 'custom.lineWidth', value: 0 },
          { id: 'custom.fillOpacity', value: 10 },
        ]),
    )
    .withPanel(
      series(
        'Percentiles',
        `SELECT "p50", "p95", "p99" ${STREAM} WHERE ${SERIES} GROUP BY "device"`,
        '$m $tag_device $col',
        'Within 0.78 % of the true value.',
      ),
    )
    .withPanel(
      series(
        'Readings per window, and how many were expected',
        `SELECT "count" AS "arrived", "count" + "missing" AS "expected", "duplicates" ${STREAM} WHERE ${SERIES} GROUP BY "device"`,
        '$m $tag_device $col',
        'What each window was computed from. Expected: those that arrived, and the sequence numbers between them that did not; without a sequence number the two are one.',
      ),
    )
    .withPanel(
      series(
        'Spread',
        `SELECT "stddev" ${STREAM} WHERE ${SERIES} GROUP BY "device"`,
        '$m $tag_device',
        'Population standard deviation within the window.',
      ),
    )
    .build();
}

function quality(): Dashboard {
  return dashboard(
    'quality',
    'Millrace: data quality',
    'How complete the rows are, and what was late, repeated or repaired.',
  )
    .variables(VARIABLES)
    .withRow(new RowBuilder('On the way in'))
    .withPanel(
      metric(
        'Late readings',
        'sum by (stream, kind) (rate(millrace_late_total[5m]))',
        '{{stream}} {{kind}}',
        'Per second. Kept, listed and repaired.',
      ),
    )
    .withPanel(
      metric(
        'Dead letters',
        'sum by (reason) (rate(millrace_dead_letters_total[5m]))',
        '{{reason}}',
        'Refused payloads per second, by reason.',
      ),
    )
    .withPanel(
      metric(
        'Clock skew, the worst device',
        'millrace_largest_skew_seconds',
        '{{instance}}',
        'How far the most wrong clock is off, of devices whose readings are accepted. The live page lists them, the worst first.',
      ).unit('s'),
    )
    .withPanel(
      metric(
        'Devices with a wrong clock, with gaps, silent or refused',
        'sum by (state) (millrace_devices{state!="seen"})',
        '{{state}}',
        'Of the devices seen since the start of each gateway.',
      ),
    )
    .withPanel(
      metric(
        'Delay of readings',
        'histogram_quantile(0.99, sum by (le, instance) (rate(millrace_event_delay_seconds_bucket[5m])))',
        '{{instance}} p99',
        'From a reading’s own time to its arrival: clocks that are behind, and devices that send later.',
      )
        .unit('s')
        .span(24),
    )
    .withRow(closedRow())
    .withPanel(
      series(
        'Completeness',
        `SELECT sum("count") / (sum("count") + sum("missing")) AS "share" ${STREAM} WHERE ${SERIES} GROUP BY time($__interval) fill(none)`,
        '$m',
        'Readings that arrived, of those that the sequence numbers say were sent.',
      )
        .unit('percentunit')
        .max(1),
    )
    .withPanel(
      series(
        'Missing by device',
        `SELECT sum("missing") AS "missing" ${STREAM} WHERE ${SERIES} GROUP BY time($__interval), "device" fill(none)`,
        '$m $tag_device',
        'Gaps in the sequence numbers.',
      ),
    )
    .withPanel(
      series(
        'Duplicates by device',
        `SELECT sum("duplicates") AS "duplicates" ${STREAM} WHERE ${SERIES} GROUP BY time($__interval), "device" fill(none)`,
        '$m $tag_device',
        'Redelivered readings, counted once.',
      ),
    )
    .withPanel(
      new TablePanel()
        .title('Windows that lack readings')
        .description(
          'What the mean of a window is of: how many arrived, of how many that the sequence numbers say were sent.',
        )
        .datasource(ROWS)
        .withTarget(
          new InfluxQl(
            `SELECT "count" AS "arrived", "count" + "missing" AS "expected", "mean" ${STREAM} WHERE "missing" > 0 AND ${SERIES} GROUP BY "site", "device"`,
            { table: true },
          ),
        )
        .span(12)
        .height(8),
    )
    .withPanel(
      new TablePanel()
        .title('Readings in a window: the fewest and the most')
        .description(
          'By device, also without sequence numbers: a device that sends 60 a minute and once sent 3 stands out.',
        )
        .datasource(ROWS)
        .withTarget(
          new InfluxQl(
            `SELECT min("count") AS "fewest", max("count") AS "most" ${STREAM} WHERE ${SERIES} GROUP BY "site", "device"`,
            { table: true },
          ),
        )
        .span(12)
        .height(8),
    )
    .withPanel(
      new TablePanel()
        .title('Repaired rows')
        .description('Rows written again because late readings fell into them.')
        .datasource(ROWS)
        .withTarget(
          new InfluxQl(`SELECT "rev", "count" ${STREAM} WHERE "rev" > 0 AND ${SERIES} GROUP BY "device"`, {
            table: true,
          }),
        )
        .span(12)
        .height(8),
    )
    .build();
}

function metric(title: string, expression: string, legend: string, description: string) {
  return new TimeSeriesPanel()
    .title(title)
    .description(description)
    .datasource(PROMETHEUS)
    .withTarget(new PrometheusQuery().expr(expression).legendFormat(legend).refId('A'))
    .span(12)
    .height(8);
}

function pipeline(): Dashboard {
  const quantile = (name: string) => `histogram_quantile(0.99, sum by (le) (rate(${name}_bucket[5m])))`;
  return dashboard(
    'pipeline',
    'Millrace: pipeline health',
    'The way of a reading, hop by hop. Needs Prometheus scraping /metrics.',
  )
    .withPanel(
      metric('Received', 'sum(rate(millrace_received_total[1m]))', 'received', 'Publishes per second.').unit('cps'),
    )
    .withPanel(
      metric(
        'Acknowledged',
        'sum by (qos) (rate(millrace_acknowledged_total[1m]))',
        'QoS {{qos}}',
        'Durable, per second.',
      ).unit('cps'),
    )
    .withPanel(
      metric(
        'Not acknowledged',
        'sum by (reason) (rate(millrace_turned_away_total[1m]))',
        '{{reason}}',
        'No promise was made for these.',
      ).unit('cps'),
    )
    .withPanel(
      metric(
        'Acknowledgement, p99',
        quantile('millrace_acknowledge_seconds'),
        'p99',
        'From a publish to its acknowledgement.',
      ).unit('s'),
    )
    .withPanel(metric('Inspection, p99', quantile('millrace_inspect_seconds'), 'p99', 'Of one payload.').unit('s'))
    .withPanel(
      metric(
        'Spool',
        'millrace_spool_bytes / millrace_spool_limit_bytes',
        '{{instance}}',
        'Share of the limit at which the gateway stops acknowledging.',
      ).unit('percentunit'),
    )
    .withPanel(
      metric(
        'Forwarded',
        'sum by (topic) (rate(millrace_forwarded_total[1m]))',
        '{{topic}}',
        'Records that Kafka has on all in-sync replicas.',
      ).unit('cps'),
    )
    .withPanel(
      metric(
        'Lag by position',
        'sum by (partition) (millrace_lag_records)',
        'partition {{partition}}',
        'Records between the reading position and the end of the log. The committed offset is held back by open windows, so ordinary lag monitors show one window for ever.',
      ),
    )
    .withPanel(
      metric(
        'Received until read by the rollup, p99',
        quantile('millrace_rollup_seconds'),
        'p99',
        'Of the newest reading of each batch.',
      ).unit('s'),
    )
    .withPanel(
      metric(
        'Rows waiting for the store',
        'sum by (instance) (millrace_waiting_rows) / sum by (instance) (millrace_waiting_rows_limit)',
        '{{instance}}',
        'Share of the limit at which reading the log waits too. Short peaks at the end of windows are normal.',
      ).unit('percentunit'),
    )
    .withPanel(
      metric(
        'Rows written',
        'sum by (window) (rate(millrace_rows_written_total[1m]))',
        '{{window}}',
        'Rows durable in the store, per second.',
      ).unit('cps'),
    )
    .withPanel(
      metric('Store write, p99', quantile('millrace_store_write_seconds'), 'p99', 'One write to the store.').unit('s'),
    )
    .withPanel(
      metric('Event loop', 'nodejs_eventloop_lag_p99_seconds', '{{instance}}', 'Delay of the main thread.').unit('s'),
    )
    .build();
}

/** Of the sample in compose/samples/clickstream: a stream without metrics, whose rows are counts by page and action. */
function clickstream(): Dashboard {
  // Rows that count events have no metric.
  const clicks = `"metric" = '' AND "app" =~ /^$app$/ AND "page" =~ /^$page$/ AND $timeFilter`;
  return dashboard('clickstream', 'Millrace: user activity', 'Clicks by page and action, of the clickstream sample.')
    .variables([
      sourceVariable(),
      windowVariable(),
      severalVariable('app', 'App', 'SHOW TAG VALUES FROM "clicks" WITH KEY = "app"'),
      severalVariable('page', 'Page', 'SHOW TAG VALUES FROM "clicks" WITH KEY = "page" WHERE "app" =~ /^$app$/'),
    ])
    .withRow(openRow())
    .withPanel(
      liveSeries(
        'Events, open windows',
        `SELECT sum("count") AS "events" FROM "clicks_live" WHERE "window" =~ /^$window$/ AND ${clicks} GROUP BY time($__interval), "window", "page" fill(none)`,
        '$tag_page $tag_window',
        'By the start of the window, until its final row is in the panels below.',
      ).span(24),
    )
    .withRow(closedRow())
    .withPanel(stat('Events', `SELECT sum("count") FROM "clicks" WHERE ${clicks}`, 'Each counted once.'))
    .withPanel(
      stat(
        'Views',
        `SELECT sum("count") FROM "clicks" WHERE "action" = 'view' AND ${clicks}`,
        'Events with the action view.',
      ),
    )
    .withPanel(
      stat(
        'Purchases',
        `SELECT sum("count") FROM "clicks" WHERE "action" = 'purchase' AND ${clicks}`,
        'Events with the action purchase.',
      ).noValue('0'),
    )
    .withPanel(
      stat(
        'Sent twice',
        `SELECT sum("duplicates") FROM "clicks" WHERE ${clicks}`,
        'The same user, page, action and time again: not counted.',
      ).noValue('0'),
    )
    .withPanel(
      series(
        'Events by page',
        `SELECT sum("count") AS "events" FROM "clicks" WHERE ${clicks} GROUP BY time($__interval), "page" fill(none)`,
        '$tag_page',
        'One line per page; a rolling window shows the trend without steps.',
      ),
    )
    .withPanel(
      series(
        'Events by action',
        `SELECT sum("count") AS "events" FROM "clicks" WHERE ${clicks} GROUP BY time($__interval), "action" fill(none)`,
        '$tag_action',
        'One line per action.',
      ),
    )
    .withPanel(
      series(
        'Users by page and action',
        `SELECT "count" FROM "clicks" WHERE "metric" = 'distinct_userid' AND "app" =~ /^$app$/ AND "page" =~ /^$page$/ AND $timeFilter GROUP BY "page", "action"`,
        '$tag_page $tag_action',
        'Different users in each window: exact up to 1,000, above within 1.6 % (standard error).',
      ).span(24),
    )
    .withPanel(
      new TablePanel()
        .title('Top pages')
        .description('The ten pages with the most events in the time range.')
        .datasource(ROWS)
        .withTarget(
          new InfluxQl(
            `SELECT top("events", "page", 10) AS "events" FROM (SELECT sum("count") AS "events" FROM "clicks" WHERE ${clicks} GROUP BY "page")`,
            { table: true },
          ),
        )
        .span(24)
        .height(8),
    )
    .build();
}

/** Of the sample in compose/samples/sensors: a plant's climate by room and model, and what was wrong with it. */
function sensors(): Dashboard {
  const of = (metric: string) =>
    `"metric" = '${metric}' AND "site" =~ /^$site$/ AND "room" =~ /^$room$/ AND $timeFilter`;
  // The mean of means, each weighed by its count.
  const mean = (metric: string, by: string) =>
    `SELECT sum("sum") / sum("count") AS "mean" FROM "climate" WHERE ${of(metric)} GROUP BY time($__interval), "${by}" fill(none)`;
  return dashboard('sensors', 'Millrace: climate', 'Temperature, humidity and how it feels, of the sensors sample.')
    .variables([
      sourceVariable(),
      windowVariable(),
      severalVariable('site', 'Site', 'SHOW TAG VALUES FROM "climate" WITH KEY = "site"'),
      severalVariable('room', 'Room', 'SHOW TAG VALUES FROM "climate" WITH KEY = "room" WHERE "site" =~ /^$site$/'),
    ])
    .withRow(openRow())
    .withPanel(
      liveSeries(
        'Temperature, open windows',
        `SELECT sum("sum") / sum("count") AS "mean" FROM "climate_live" WHERE "window" =~ /^$window$/ AND ${of('temperature')} GROUP BY time($__interval), "window", "room" fill(none)`,
        '$tag_room $tag_window',
        'Degrees Celsius by the start of the window, until its final row is in the panels below.',
      ).span(24),
    )
    .withRow(closedRow())
    .withPanel(
      stat('Climate readings', `SELECT sum("count") FROM "climate" WHERE ${of('temperature')}`, 'Each counted once.'),
    )
    .withPanel(
      stat(
        'Sent twice',
        `SELECT sum("duplicates") FROM "climate" WHERE ${of('temperature')}`,
        'The same reading again: not counted.',
      ).noValue('0'),
    )
    .withPanel(
      stat(
        'Warmest',
        `SELECT max("max") FROM "climate" WHERE ${of('temperature')}`,
        'Degrees Celsius, the highest single reading.',
      ),
    )
    .withPanel(series('Temperature by room', mean('temperature', 'room'), '$tag_room', 'Degrees Celsius.'))
    .withPanel(
      series('How warm it feels', mean('discomfort', 'room'), '$tag_room', 'Discomfort index, degrees Celsius.'),
    )
    .withPanel(
      series('Pressure by model', mean('pressure', 'model'), '$tag_model', 'Pascal: the registry has the factor.'),
    )
    .build();
}

/** Of the sample in compose/samples/chat: what is understood of messages, by agent and intent. */
function chat(): Dashboard {
  const of = (metric: string) => `"metric" = '${metric}' AND "team" =~ /^$team$/ AND $timeFilter`;
  // The mean of means, each weighed by its count.
  const mean = (metric: string, by: string) =>
    `SELECT sum("sum") / sum("count") AS "mean" FROM "chat.understood" WHERE ${of(metric)} GROUP BY time($__interval), "${by}" fill(none)`;
  return dashboard('chat', 'Millrace: support chat', 'Sentiment, intents and answers of the chat sample.')
    .variables([
      sourceVariable(),
      severalVariable('team', 'Team', 'SHOW TAG VALUES FROM "chat.understood" WITH KEY = "team"'),
    ])
    .withRow(closedRow())
    .withPanel(
      stat(
        'Messages of customers',
        `SELECT sum("count") FROM "chat.understood" WHERE ${of('sentiment')}`,
        'Each counted once.',
      ),
    )
    .withPanel(
      stat(
        'Sentiment',
        `SELECT sum("sum") / sum("count") FROM "chat.understood" WHERE ${of('sentiment')}`,
        'From -1 to 1, the mean of all messages.',
      ),
    )
    .withPanel(
      stat(
        'First answers',
        `SELECT sum("count") FROM "chat.understood" WHERE ${of('first_response')}`,
        'Conversations in which an agent has answered.',
      ).noValue('0'),
    )
    .withPanel(
      stat(
        'Time to the first answer',
        `SELECT sum("sum") / sum("count") FROM "chat.understood" WHERE ${of('first_response')}`,
        'Mean, in seconds.',
      ).noValue('-'),
    )
    .withPanel(
      series(
        'Messages by intent',
        `SELECT sum("count") AS "messages" FROM "chat.understood" WHERE ${of('sentiment')} GROUP BY time($__interval), "intent" fill(none)`,
        '$tag_intent',
        'One line per intent.',
      ),
    )
    .withPanel(series('Sentiment by agent', mean('sentiment', 'agent'), '$tag_agent', 'From -1 to 1.'))
    .withPanel(series('Sentiment by intent', mean('sentiment', 'intent'), '$tag_intent', 'From -1 to 1.'))
    .withPanel(
      series('Time to the first answer', mean('first_response', 'agent'), '$tag_agent', 'Mean by agent, in seconds.'),
    )
    .build();
}

/** File name -> dashboard, as Grafana reads it. */
export function dashboards(): Record<string, Dashboard> {
  return {
    'fleet.json': fleet(),
    'device.json': device(),
    'quality.json': quality(),
    'pipeline.json': pipeline(),
  };
}

/** The same for the samples, by path in compose/; each belongs to the streams of its sample and is imported by hand. */
export function sampleDashboards(): Record<string, Dashboard> {
  return {
    'samples/sensors/dashboard.json': sensors(),
    'samples/clickstream/dashboard.json': clickstream(),
    'samples/chat/dashboard.json': chat(),
  };
}

export function render(board: Dashboard): string {
  return `${JSON.stringify(board, null, 2)}\n`;
}

const folder = fileURLToPath(new URL('./dashboards/', import.meta.url));
const compose = fileURLToPath(new URL('../', import.meta.url));
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(folder, { recursive: true });
  for (const [name, board] of Object.entries(dashboards())) writeFileSync(`${folder}${name}`, render(board));
  for (const [path, board] of Object.entries(sampleDashboards())) writeFileSync(`${compose}${path}`, render(board));
}

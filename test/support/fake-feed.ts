/**
 * A feed with believable moving data and no pipeline behind it, for the view's tests and for working on the page.
 * Every number is a function of the device's name and the time, so two looks at the same window agree. `step` lets time
 * pass up to the clock's now: devices publish, counters grow, windows close. States are set through the public fields.
 */
import type { Clock } from '../../src/clock.ts';
import { fail, type Outcome, succeed } from '../../src/errors.ts';
import type { Reading, Refusal, RefusalCode } from '../../src/reading.ts';
import type { Row, RowQuery, RunningQuery } from '../../src/row.ts';
import type { Forecast, ForecastQuery, Score } from '../../src/scored.ts';
import { makeWindow, parseTemplate, type Stream, type TopicTemplate, type WindowSize } from '../../src/stream.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { Board } from '../../src/view/board.ts';
import type {
  AlertsShown,
  AuditQuery,
  DeadLetter,
  DeadLetterQuery,
  Feed,
  MetricSample,
  PartStatus,
  PipelineStatus,
  Requeued,
  RequeueWish,
} from '../../src/view/feed.ts';

const CLOSES_AFTER_MS = 17_000;
const HISTORY_MS = 30 * 86_400_000;

const METRICS: Readonly<Record<string, { base: number; swing: number; noise: number }>> = {
  temperature: { base: 21.5, swing: 4, noise: 0.6 },
  humidity: { base: 48, swing: 12, noise: 1.8 },
  pressure: { base: 1_013, swing: 6, noise: 0.5 },
};

interface Series {
  readonly stream: string;
  readonly key: string;
  readonly tags: Readonly<Record<string, string>>;
  sequence: number;
}

export class FakeFeed implements Feed {
  readonly streams: Readonly<Record<string, Stream>>;
  readonly board: Board;
  readonly telemetry = silentTelemetry();
  readonly parts = new Map<string, PartStatus>();
  readonly letters: DeadLetter[] = [];
  shownAlerts: AlertsShown | null = null;
  /** What was asked for, and what is answered. */
  readonly audits: AuditQuery[] = [];
  auditAnswer: Outcome<object> | Promise<Outcome<object>> = succeed({ balanced: true });
  facts: Omit<PipelineStatus, 'parts'>;
  /** What `rows` throws before (0) or after that many rows; null = it works. */
  rowsFailAfter: number | null = null;
  /** Iterators of `rows` that were started and have ended. */
  rowsStarted = 0;
  rowsEnded = 0;
  readonly #clock: Clock;
  readonly #series: Series[] = [];
  #lastMs: number;

  constructor(clock: Clock, options: { devices?: number; names?: readonly string[] } = {}) {
    const { devices = 12, names = [] } = options;
    this.#clock = clock;
    this.#lastMs = clock.nowMs();
    this.streams = {
      environment: stream('environment', 'sensors/{site}/{device}/environment', {
        metrics: Object.keys(METRICS),
        windows: [
          makeWindow(10_000),
          makeWindow(60_000),
          makeWindow(900_000),
          makeWindow(3_600_000),
          makeWindow(300_000, 60_000),
        ],
        sequence: 'seq',
      }),
      clicks: stream('clicks', 'web/{app}/clicks', {
        key: 'page',
        metrics: [],
        windows: [makeWindow(10_000), makeWindow(60_000), makeWindow(3_600_000)],
        tags: ['page'],
      }),
    };
    this.board = new Board(this.streams);
    const sites = ['berlin', 'lyon', 'porto'];
    const all = [...names, ...Array.from({ length: devices }, (_, i) => `sensor-${i + 1}`)];
    for (const [i, key] of all.entries()) {
      this.#series.push({ stream: 'environment', key, tags: { device: key, site: sites[i % 3]! }, sequence: 0 });
    }
    for (const page of ['/home', '/pricing', '/docs']) {
      this.#series.push({ stream: 'clicks', key: page, tags: { app: 'shop', page }, sequence: 0 });
    }
    this.facts = {
      gateway: 'plant-7',
      version: '0.1.0',
      role: 'all',
      ack: 'spool',
      log: 'kafka',
      store: 'influx',
      startedMs: clock.nowMs() - 3 * 3_600_000,
      stopping: false,
      listeners: ['mqtt://127.0.0.1:1883'],
      limits: { pendingBytes: 64 * 2 ** 20, series: 100_000 },
    };
    this.setPart({ kind: 'listener', name: 'mqtt 127.0.0.1:1883', stage: 'ingress' });
    this.setPart({ kind: 'spool', name: 'spool', stage: 'journal' });
    this.setPart({ kind: 'kafka', name: 'kafka', stage: 'journal' });
    this.setPart({ kind: 'rollup', name: 'rollup', stage: 'rollup' });
    this.setPart({ kind: 'store', name: 'influx', stage: 'store' });
    this.telemetry.spoolLimitBytes.set(10 * 2 ** 30);
    this.telemetry.spoolBytes.set(180 * 2 ** 20);
    this.telemetry.connections.set(this.#series.length);
  }

  setPart(part: Pick<PartStatus, 'kind' | 'name' | 'stage'> & Partial<PartStatus>): void {
    this.parts.set(part.name, { state: 'ok', sinceMs: this.#clock.nowMs(), ...part });
  }

  /** One reading a second and device, at most 60 s at once. */
  step(): void {
    const nowMs = this.#clock.nowMs();
    const fromMs = Math.max(this.#lastMs, nowMs - 60_000);
    const telemetry = this.telemetry;
    for (let t = Math.floor(fromMs / 1_000) * 1_000 + 1_000; t <= nowMs; t += 1_000) {
      for (const series of this.#series) this.#publish(series, t);
      if (t % 10_000 === 0) {
        const rows = this.#series.length * 3;
        telemetry.windowsClosed.inc({ window: '10s' }, rows);
        telemetry.rowsWritten.inc({ window: '10s' }, rows);
        telemetry.storeSeconds.observe(0.018 + 0.02 * unit(`store ${t}`));
      }
      telemetry.spoolCommitSeconds.observe(0.0012 + 0.003 * unit(`commit ${t}`));
      telemetry.frontierSeconds.set({ partition: '0' }, (Math.floor((t - CLOSES_AFTER_MS) / 10_000) * 10_000) / 1_000);
      this.#lastMs = t;
    }
    telemetry.lagRecords.set({ partition: '0' }, Math.round(40 + 30 * Math.sin(nowMs / 7_000)));
    telemetry.pendingBytes.set(Math.round(20_000 + 12_000 * Math.sin(nowMs / 3_000)));
    telemetry.openAccumulators.set({ partition: '0' }, this.#series.length * 12);
    telemetry.openSeries.set({ partition: '0' }, this.#series.length * 3);
    telemetry.waitingRows.set({ stage: 'only', partition: '0' }, Math.round(120 + 100 * Math.sin(nowMs / 4_000)));
    telemetry.waitingRowsLimit.set({ stage: 'only', partition: '0' }, 40_000);
    telemetry.inspectSeconds.observe(0.00002 + 0.00002 * unit(`inspect ${nowMs}`));
    telemetry.forwardSeconds.observe(0.012 + 0.02 * unit(`forward ${nowMs}`));
    telemetry.rollupSeconds.observe(0.004 + 0.02 * unit(`rollup ${nowMs}`));
  }

  #publish(series: Series, timeMs: number): void {
    const { stream, key, tags } = series;
    const telemetry = this.telemetry;
    const luck = unit(`${key} ${timeMs}`);
    telemetry.received.inc({ source: 'mqtt' });
    if (stream === 'environment' && luck < 0.0015) {
      this.refuse(
        'schema',
        `temperature is "n/a", expected a number`,
        `sensors/${tags.site}/${key}/environment`,
        key,
        '{"ts":1,"temperature":"n/a"}',
        timeMs,
      );
      telemetry.acknowledged.inc({ qos: '1' });
      return;
    }
    series.sequence += stream === 'environment' && luck > 0.9995 ? 3 : 1;
    const values: Record<string, number> = {};
    if (stream === 'environment') for (const metric in METRICS) values[metric] = round(valueAt(key, metric, timeMs));
    const reading: Reading = { stream, key, timeMs: timeMs - 40, tags, values, sequence: series.sequence };
    this.board.accepted(reading, timeMs);
    telemetry.accepted.inc({ stream });
    telemetry.acknowledged.inc({ qos: '1' });
    telemetry.acknowledgeSeconds.observe(0.004 + 0.006 * luck ** 4);
    telemetry.forwarded.inc({ topic: 'telemetry.readings' });
    telemetry.counted.inc({ stream });
  }

  refuse(
    code: RefusalCode,
    reason: string,
    topic: string,
    client: string,
    payload: string | Uint8Array,
    receivedMs: number,
  ): void {
    const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
    const known = topic.endsWith('/environment') ? 'environment' : topic.endsWith('/clicks') ? 'clicks' : '';
    const refusal: Refusal = {
      code,
      reason,
      field: code === 'schema' ? '/temperature' : '',
      stream: known,
      topic,
      client,
      payload: bytes,
    };
    this.board.refused(refusal, receivedMs);
    this.telemetry.deadLetters.inc({ reason: code });
    this.letters.push({ id: `0-${this.letters.length + 1}`, receivedMs, refusal });
  }

  status(): PipelineStatus {
    return { ...this.facts, parts: [...this.parts.values()] };
  }

  async samples(): Promise<readonly MetricSample[]> {
    return (await this.telemetry.registry.getMetricsAsJSON()) as unknown as readonly MetricSample[];
  }

  metrics(): Promise<string> {
    return this.telemetry.registry.metrics();
  }

  async *rows(query: RowQuery): AsyncIterable<Row> {
    this.rowsStarted++;
    try {
      if (this.rowsFailAfter === 0) throw new Error('connection refused');
      let given = 0;
      for (const row of this.#closedRows(query)) {
        if (given++ === this.rowsFailAfter) throw new Error('connection lost');
        yield row;
      }
    } finally {
      this.rowsEnded++;
    }
  }

  *#closedRows(query: RowQuery): Iterable<Row> {
    const window = this.streams[query.stream]!.windows.find(({ label }) => label === query.window)!;
    const nowMs = this.#clock.nowMs();
    const series = this.#matching(query.stream, query.tags);
    const metrics = this.#metrics(query.stream, query.metric);
    const perStart = Math.max(1, series.length * metrics.length);
    const endMs = Math.min(query.toMs, nowMs - CLOSES_AFTER_MS - window.sizeMs + 1);
    let startMs = Math.max(query.fromMs, nowMs - HISTORY_MS);
    if (query.limit) startMs = Math.max(startMs, endMs - Math.ceil(query.limit / perStart) * window.everyMs);
    for (let t = Math.ceil(startMs / window.everyMs) * window.everyMs; t < endMs; t += window.everyMs) {
      for (const { key, tags } of series) {
        for (const metric of metrics) yield makeRow(query.stream, metric, window, t, key, tags, t + window.sizeMs);
      }
    }
  }

  /** Every row is a little unusual, the last one very. */
  async *scores(query: RowQuery): AsyncGenerator<Score> {
    for await (const { stream, metric, window, startMs, tags, mean } of this.rows(query)) {
      const value = mean ?? 0;
      const opinion = { expected: value, low: value - 1, high: value + 1, distance: 0.5, score: 0.5, alarm: false };
      yield { stream, metric, window, startMs, tags, value, ...opinion };
    }
  }

  commands() {
    return null;
  }

  async audit(query: AuditQuery): Promise<Outcome<object>> {
    this.audits.push(query);
    return this.auditAnswer;
  }

  async command() {
    return fail('USAGE', 'There are no commands here.');
  }

  alerts(): AlertsShown | null {
    return this.shownAlerts;
  }

  async forecasts({ limit, ...query }: ForecastQuery): Promise<readonly Forecast[]> {
    const rows = await this.running({ ...query, limit });
    return rows.map(({ stream, metric, window, endMs, tags, mean }) => {
      const expected = mean ?? 0;
      return { stream, metric, window, startMs: endMs, tags, expected, low: expected - 1, high: expected + 1 };
    });
  }

  async running(query: RunningQuery): Promise<readonly Row[]> {
    const nowMs = this.#clock.nowMs();
    const rows: Row[] = [];
    for (const window of this.streams[query.stream]!.windows) {
      if (query.window !== undefined && window.label !== query.window) continue;
      for (const { key, tags } of this.#matching(query.stream, query.tags)) {
        for (const metric of this.#metrics(query.stream, query.metric)) {
          const firstOpen = Math.floor((nowMs - CLOSES_AFTER_MS) / window.everyMs) * window.everyMs;
          for (let t = firstOpen; t < nowMs; t += window.everyMs) {
            if (rows.length >= query.limit) return rows;
            rows.push(makeRow(query.stream, metric, window, t, key, tags, Math.min(nowMs, t + window.sizeMs)));
          }
        }
      }
    }
    return rows;
  }

  async deadLetters({ limit, sinceMs }: DeadLetterQuery): Promise<Outcome<readonly DeadLetter[]>> {
    return succeed(
      this.letters
        .filter((letter) => letter.receivedMs >= sinceMs)
        .slice(-limit)
        .reverse(),
    );
  }

  async deadLetter(id: string): Promise<Outcome<DeadLetter | null>> {
    if (id === 'log-away')
      return fail('KAFKA_UNREACHABLE', 'Kafka at 127.0.0.1:9092 does not answer', { retryable: true });
    return succeed(this.letters.find((letter) => letter.id === id) ?? null);
  }

  /** Each letter with a refusal other than `schema` is accepted, once. */
  async requeue(wishes: readonly RequeueWish[]): Promise<Outcome<readonly Requeued[]>> {
    return succeed(wishes.map(({ id }) => this.#requeue(id)));
  }

  #requeue(id: string): Requeued {
    const index = this.letters.findIndex((one) => one.id === id);
    const letter = this.letters[index];
    if (!letter) return { kind: 'missing' };
    if (letter.requeuedMs !== undefined) return { kind: 'already', requeuedMs: letter.requeuedMs };
    if (letter.refusal.code === 'schema') return { kind: 'refused', refusal: letter.refusal };
    this.letters[index] = { ...letter, requeuedMs: letter.receivedMs + 1 };
    return { kind: 'accepted', readings: 1 };
  }

  #matching(stream: string, tags: Readonly<Record<string, string>> = {}): Series[] {
    return this.#series.filter(
      (series) =>
        series.stream === stream && Object.entries(tags).every(([name, value]) => series.tags[name] === value),
    );
  }

  #metrics(stream: string, metric: string | undefined): readonly string[] {
    if (metric !== undefined) return [metric];
    const { metrics } = this.streams[stream]!;
    return metrics.length > 0 ? metrics : [''];
  }
}

function stream(name: string, topic: string, more: Pick<Stream, 'metrics' | 'windows'> & Partial<Stream>): Stream {
  return {
    name,
    topic: parseTemplate(topic) as TopicTemplate,
    format: 'json',
    schema: null,
    key: 'device',
    identity: [],
    time: 'ts',
    sequence: null,
    tags: [],
    enrich: null,
    score: null,
    retain: false,
    ...more,
  };
}

function makeRow(
  stream: string,
  metric: string,
  window: WindowSize,
  startMs: number,
  key: string,
  tags: Readonly<Record<string, string>>,
  untilMs: number,
): Row {
  const luck = unit(`${key} ${window.label} ${startMs}`);
  const missing = luck < 0.03 ? 1 + Math.floor(luck * 100) : 0;
  const count = Math.max(0, Math.round((untilMs - startMs) / 1_000) - missing);
  const counts = metric === '' || metric.startsWith('distinct_');
  const base: Row = {
    stream,
    metric,
    window: window.label,
    startMs,
    endMs: startMs + window.sizeMs,
    tags,
    count: counts ? Math.round(count * (0.5 + luck)) : count,
    sum: null,
    mean: null,
    min: null,
    max: null,
    stddev: null,
    first: null,
    last: null,
    p50: null,
    p95: null,
    p99: null,
    duplicates: luck > 0.98 ? 1 : 0,
    missing: counts ? 0 : missing,
    rev: luck > 0.5 && luck < 0.52 ? 1 : 0,
  };
  if (counts) return base;
  const points = Math.min(24, Math.max(1, count));
  const values: number[] = [];
  for (let i = 0; i < points; i++) values.push(valueAt(key, metric, startMs + (i * (untilMs - startMs)) / points));
  const sorted = [...values].sort((a, b) => a - b);
  const mean = values.reduce((a, b) => a + b, 0) / points;
  const at = (q: number) => sorted[Math.min(points - 1, Math.floor(q * points))]!;
  return {
    ...base,
    sum: mean * count,
    mean,
    min: sorted[0]!,
    max: sorted.at(-1)!,
    stddev: Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / points),
    first: values[0]!,
    last: values.at(-1)!,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
  };
}

function valueAt(key: string, metric: string, timeMs: number): number {
  const { base, swing, noise } = METRICS[metric]!;
  const phase = unit(`${key} ${metric}`) * 2 * Math.PI;
  const day = Math.sin((2 * Math.PI * timeMs) / 86_400_000 + phase);
  const hour = 0.35 * Math.sin((2 * Math.PI * timeMs) / 3_100_000 + 2 * phase);
  const minute = 0.12 * Math.sin((2 * Math.PI * timeMs) / 210_000 + 3 * phase);
  return base + swing * (day + hour + minute) + noise * (unit(`${key} ${metric} ${Math.floor(timeMs / 1_000)}`) - 0.5);
}

/** A number in [0, 1) from a text, the same every time (FNV-1a, then mixed). */
function unit(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39);
  return ((hash ^ (hash >>> 15)) >>> 0) / 2 ** 32;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/**
 * Logs and metrics, in one grammar. One `Telemetry` per thread; the main thread merges the worker threads' numbers
 * before it shows them. What the levels of the log mean: logger.ts.
 * Metrics: Prometheus conventions (base units, `_total`), names in this file only, labels from closed sets or from the
 * configuration, never from a payload.
 */
import { type Logger, pino } from 'pino';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

const LATENCY_BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export class Telemetry {
  readonly registry = new Registry();
  /** Node's own numbers: some take milliseconds to find, so they are looked up only for who asks for all metrics. */
  readonly process = new Registry();
  readonly log: Logger;

  // ingress
  readonly received = this.#counter('millrace_received_total', 'Publishes that arrived, whatever became of them.', [
    'source',
  ]);
  readonly turnedAway = this.#counter(
    'millrace_turned_away_total',
    'Publishes not acknowledged: no promise was made for them.',
    ['reason'],
  );
  readonly acknowledged = this.#counter(
    'millrace_acknowledged_total',
    'Publishes whose content is durable, by MQTT quality of service, or http.',
    ['qos'],
  );
  readonly connections = this.#gauge('millrace_connections', 'Connected MQTT clients.');
  readonly limitReached = this.#counter(
    'millrace_limit_reached_total',
    'How often a configured limit refused or slowed something.',
    ['limit'],
  );
  readonly pendingBytes = this.#gauge('millrace_pending_bytes', 'Payload bytes waiting to become durable.');
  readonly pendingPublishes = this.#gauge(
    'millrace_pending_publishes',
    'Publishes of MQTT clients that wait for their acknowledgement.',
  );
  readonly acknowledgeSeconds = this.#histogram(
    'millrace_acknowledge_seconds',
    'From a publish to its acknowledgement.',
  );
  // inspect
  readonly inspectSeconds = this.#histogram(
    'millrace_inspect_seconds',
    'Inspection of one payload; of at most one in a millisecond.',
    [],
    [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1],
  );
  readonly eventDelaySeconds = this.#histogram(
    'millrace_event_delay_seconds',
    "From a reading's event time to its arrival, 0 where it is ahead; of at most one reading in a millisecond.",
    [],
    [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 3_600, 86_400],
  );
  readonly devices = this.#gauge(
    'millrace_devices',
    'Devices seen since the start, and of them those that are silent, have a wrong clock, miss readings or were refused.',
    ['state'],
  );
  readonly largestSkewSeconds = this.#gauge(
    'millrace_largest_skew_seconds',
    'How far the clock of the device that is most wrong is off; of devices whose readings are accepted.',
  );
  readonly accepted = this.#counter('millrace_accepted_total', 'Readings that passed inspection.', ['stream']);
  readonly deadLetters = this.#counter(
    'millrace_dead_letters_total',
    'Payloads kept whole as dead letters, by reason.',
    ['reason'],
  );
  readonly withoutReading = this.#counter(
    'millrace_without_reading_total',
    "Messages that hold no reading of their stream, such as Sparkplug's commands and deaths.",
  );
  readonly traceContexts = this.#counter(
    'millrace_trace_contexts_total',
    'Trace contexts of streams that carry them: from the payload, made for it, or invalid in it.',
    ['source'],
  );
  // journal
  readonly spoolBytes = this.#gauge('millrace_spool_bytes', 'Bytes of all spool segments.');
  readonly spoolLimitBytes = this.#gauge(
    'millrace_spool_limit_bytes',
    'Bytes at which the gateway stops acknowledging.',
  );
  readonly spoolBacklog = this.#gauge(
    'millrace_spool_backlog_records',
    'Records in the spool that its slowest reader has not passed.',
  );
  readonly spoolCommitSeconds = this.#histogram(
    'millrace_spool_commit_seconds',
    'One group commit: write and fdatasync.',
  );
  readonly ledgerReadings = this.#gauge(
    'millrace_ledger_readings',
    'What became of the readings since the start: received = pending + refused + dead_lettered + spooled + forwarded.',
    ['term'],
  );
  readonly ledgerImbalance = this.#gauge(
    'millrace_ledger_imbalance_readings',
    'Received readings that no other term of the ledger explains; anything but 0 is a bug.',
  );
  readonly spoolFailures = this.#counter('millrace_spool_failures_total', 'Group commits that failed, by code.', [
    'code',
  ]);
  readonly forwarded = this.#counter('millrace_forwarded_total', 'Records that Kafka has on all in-sync replicas.', [
    'topic',
  ]);
  readonly forwardFailures = this.#counter(
    'millrace_forward_failures_total',
    'Produce requests that failed, by code.',
    ['code'],
  );
  readonly forwardSeconds = this.#histogram('millrace_forward_seconds', 'From the received stamp until Kafka has it.');
  // rollup
  readonly lagRecords = this.#gauge(
    'millrace_lag_records',
    'Records between the reading position and the end of the log.',
    ['partition'],
  );
  readonly counted = this.#counter('millrace_counted_total', 'Readings counted in a window.', ['stream']);
  readonly duplicates = this.#counter('millrace_duplicates_total', 'Redelivered readings, not counted again.', [
    'stream',
  ]);
  readonly late = this.#counter('millrace_late_total', 'Readings too late for their window, by kind.', [
    'stream',
    'kind',
  ]);
  readonly outOfReach = this.#counter(
    'millrace_out_of_reach_total',
    'Readings on time, but of windows that are durable already or that the log does not have whole.',
    ['stream'],
  );
  readonly unexplained = this.#counter(
    'millrace_unexplained_total',
    'Records of the log that were not counted, because they are no readings or of no configured stream.',
    ['reason'],
  );
  readonly rollupSeconds = this.#histogram(
    'millrace_rollup_seconds',
    'From the received stamp of a reading until the rollup reads it; of the newest of each batch.',
  );
  readonly windowSeconds = this.#histogram(
    'millrace_window_durable_seconds',
    'From the end of a window until its rows are durable in the store.',
    ['window'],
    [0.5, 1, 2.5, 5, 10, 15, 20, 30, 60, 300, 3_600],
  );
  readonly windowsClosed = this.#counter('millrace_windows_closed_total', 'Windows closed.', ['window']);
  readonly openAccumulators = this.#gauge('millrace_open_accumulators', 'Accumulators of open windows in memory.', [
    'partition',
  ]);
  readonly openSeries = this.#gauge(
    'millrace_open_series',
    'Series (stream, tags, metric) with an open window; at rollup.max_series reading waits.',
    ['partition'],
  );
  readonly frontierSeconds = this.#gauge(
    'millrace_frontier_seconds',
    'Every window that ends at or before this time is closed and durable (epoch).',
    ['partition'],
  );
  // rollup: the second of two stages
  readonly panesLagRecords = this.#gauge(
    'millrace_panes_lag_records',
    'Records between the position of the second stage and the end of the panes topic.',
    ['partition'],
  );
  readonly panesOpenAccumulators = this.#gauge(
    'millrace_panes_open_accumulators',
    'Accumulators of open windows of the second stage.',
    ['partition'],
  );
  readonly panesFrontierSeconds = this.#gauge(
    'millrace_panes_frontier_seconds',
    'Every window of the second stage that ends at or before this time is durable (epoch).',
    ['partition'],
  );
  readonly panes = this.#counter('millrace_panes_total', 'Panes read by the second stage, by what became of them.', [
    'kind',
  ]);
  // score
  readonly scored = this.#counter('millrace_scored_total', 'Windows that a score was stored for.', ['stream']);
  readonly alarms = this.#counter('millrace_alarms_total', 'Scores that reached the threshold of their stream.', [
    'stream',
  ]);
  readonly modelSeconds = this.#histogram(
    'millrace_model_seconds',
    'One batch of windows, given to a model from score.model.',
  );
  readonly modelFailures = this.#counter(
    'millrace_model_failures_total',
    'Batches that a model from score.model did not score, by why; not-finite: windows.',
    ['stream', 'reason'],
  );
  // understand
  readonly understood = this.#counter(
    'millrace_understood_total',
    'Messages of support chats of which a reading was made and written to the log.',
    ['stream'],
  );
  readonly notUnderstood = this.#counter(
    'millrace_not_understood_total',
    "Messages of which no reading is made: they have no text, or are an agent's and not the first answer.",
    ['stream', 'reason'],
  );
  // store
  readonly rowsWritten = this.#counter('millrace_rows_written_total', 'Rows durable in the store.', ['window']);
  readonly waitingRows = this.#gauge('millrace_waiting_rows', 'Rows of closed windows that are not durable yet.', [
    'stage',
    'partition',
  ]);
  readonly waitingRowsLimit = this.#gauge(
    'millrace_waiting_rows_limit',
    'Rows that may wait for the store before reading the log waits too.',
    ['stage', 'partition'],
  );
  readonly storeFailures = this.#counter('millrace_store_failures_total', 'Writes to the store that failed, by code.', [
    'code',
  ]);
  readonly storeSeconds = this.#histogram('millrace_store_write_seconds', 'One write to the store.');
  // alerts
  readonly alerts = this.#counter('millrace_alerts_total', 'Alerts raised and cleared, by rule.', ['rule', 'state']);
  readonly alertsActive = this.#gauge('millrace_alerts_active', 'Alerts that are raised and not cleared.');
  readonly alertDeliveries = this.#counter(
    'millrace_alert_deliveries_total',
    'Alerts that were taken, tries that failed, and alerts that the receiver will never take.',
    ['to', 'outcome'],
  );
  // commands
  readonly commands = this.#counter('millrace_commands_total', 'Commands to devices, by what they became.', ['state']);
  readonly commandsQueued = this.#gauge('millrace_commands_queued', 'Commands that wait for their devices.');
  // each thread
  readonly eventLoopSeconds = this.#histogram(
    'millrace_event_loop_delay_seconds',
    'How much later than asked a timer of 20 ms fires, by thread.',
    ['thread'],
  );
  readonly logSuppressed = this.#counter('millrace_log_lines_suppressed_total', 'Log lines left out, by their level.', [
    'level',
  ]);
  readonly repairs = this.#counter('millrace_repairs_total', 'Rows written again after late readings.', ['window']);

  readonly #beforeSnapshot: (() => void)[] = [];
  readonly #lastLogged = new Map<string, { atMs: number; suppressed: number }>();

  readonly #suppressed = new Map<string, number>();
  readonly #beforeLastLine: () => void;

  constructor(log: Logger, beforeLastLine = () => {}) {
    this.log = log;
    this.#beforeLastLine = beforeLastLine;
  }

  /** For numbers that are made when they are asked for. */
  beforeSnapshot(update: () => void): void {
    this.#beforeSnapshot.push(update);
  }

  /** Millrace's metrics as prom-client's JSON. */
  snapshot() {
    for (const update of this.#beforeSnapshot) update();
    return this.registry.getMetricsAsJSON();
  }

  /** Observes the delay of this thread's event loop until the process ends. */
  watchEventLoop(thread: string): void {
    const delay = this.eventLoopSeconds.labels(thread);
    let expectedMs = performance.now() + EVENT_LOOP_TIMER_MS;
    const tick = () => {
      const nowMs = performance.now();
      delay.observe(Math.max(0, nowMs - expectedMs) / 1_000);
      expectedMs = nowMs + EVENT_LOOP_TIMER_MS;
      setTimeout(tick, EVENT_LOOP_TIMER_MS).unref();
    };
    setTimeout(tick, EVENT_LOOP_TIMER_MS).unref();
  }

  /** Logs at most once per `everyMs` for one key, and says how many were left out. */
  limited(level: 'warn' | 'error' | 'info', key: string, fields: object, message: string, everyMs = 10_000): void {
    const nowMs = performance.now();
    const last = this.#lastLogged.get(key);
    if (last && nowMs - last.atMs < everyMs) {
      last.suppressed++;
      this.suppressed(level, 'log');
      return;
    }
    if (this.#lastLogged.size >= MAX_LOG_KEYS) this.#lastLogged.clear();
    this.log[level](last?.suppressed ? { ...fields, suppressed: last.suppressed } : fields, message);
    this.#lastLogged.set(key, { atMs: nowMs, suppressed: 0 });
  }

  /** A line was left out; `limit` names the reason: too many of one kind, or too many in all. */
  suppressed(level: string, limit: 'log' | 'log_lines'): void {
    this.limitReached.inc({ limit });
    this.logSuppressed.inc({ level });
    this.#suppressed.set(level, (this.#suppressed.get(level) ?? 0) + 1);
  }

  /** Says how many lines were left out since the start, if any: what no later line can say any more. */
  finishLog(): void {
    this.#beforeLastLine();
    const lines = [...this.#suppressed.values()].reduce((sum, count) => sum + count, 0);
    if (lines === 0) return;
    this.log.warn({ suppressed: lines, levels: Object.fromEntries(this.#suppressed) }, `${lines} log lines suppressed`);
    this.#suppressed.clear();
  }

  #counter<L extends string = never>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #gauge<L extends string = never>(name: string, help: string, labelNames: readonly L[] = []): Gauge<L> {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram<L extends string = never>(
    name: string,
    help: string,
    labelNames: readonly L[] = [],
    buckets = LATENCY_BUCKETS_S,
  ): Histogram<L> {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.registry] });
  }
}

const MAX_LOG_KEYS = 1_000;
const EVENT_LOOP_TIMER_MS = 20;

/** For tests and one-shot commands: counts, says nothing. */
export function silentTelemetry(): Telemetry {
  return new Telemetry(pino({ level: 'silent' }));
}

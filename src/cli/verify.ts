/**
 * `millrace verify`: every row of a range worked out again from the log, by the rules under which it was written, and
 * compared with the store bit by bit. Reads only, while gateway and rollup run or not. With `against`, compared with rows
 * that somebody else made of the same log (against.ts), in the fields that they have; every window that is closed by the end of
 * the log must be among them, whatever the rollup has committed.
 * Exit 0: no difference. 1: at least one, each named. 2: the command line or the configuration is wrong.
 */
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { messageOf } from '../errors.ts';
import { openLogs } from '../parts/open-logs.ts';
import { openStore, rollupGroup } from '../parts/rollup.ts';
import { seriesName } from '../reading.ts';
import { type Difference, type VerifyOptions, type VerifyReport, verify as verifyRows } from '../rollup/verify.ts';
import type { Row, RowQuery } from '../row.ts';
import { silentTelemetry } from '../telemetry.ts';
import { AgainstMistake, type AgainstRows, parseTolerances, readAgainst } from './against.ts';
import { type OpenedLog, openForReading } from './open.ts';
import { EXIT, parseRange, progress, report, type Terminal } from './terminal.ts';

export interface VerifyCommand {
  readonly config: string;
  readonly data?: string;
  readonly from?: string;
  readonly to?: string;
  readonly stream?: string;
  /** A file or folder of rows that are compared in place of the store's. */
  readonly against?: string;
  /** `sum=1e-12,mean=1e-12`: with `against`, how far these may be off, as a share of the larger value. */
  readonly tolerance?: string;
  readonly json?: boolean;
}

/** Differences that are printed; all are counted. */
const SHOWN = 100;

export async function verify(options: VerifyCommand, terminal: Terminal): Promise<number> {
  const range = parseRange(options, systemClock.nowMs());
  if (typeof range === 'string') {
    terminal.err(`millrace: ${range}`);
    return EXIT.usage;
  }
  const opened = await openForReading(options, terminal);
  if (typeof opened === 'number') return opened;
  try {
    const { config } = opened;
    if (options.stream !== undefined && !(options.stream in config.streams)) {
      const known = Object.keys(config.streams).join(', ');
      terminal.err(`millrace: there is no stream ${options.stream}; the configuration has ${known}`);
      return EXIT.usage;
    }
    const compared = await openCompared(options, range, opened, terminal);
    if (typeof compared === 'number') return compared;
    const draw = progress(terminal, () => systemClock.monotonicMs());
    let shown = 0;
    const outcome = await verifyRows({
      reader: opened.log,
      lateReader: opened.late,
      panes: opened.panes,
      streams: config.streams,
      config: config.rollup,
      ...compared.options,
      ...range,
      ...(options.stream === undefined ? undefined : { stream: options.stream }),
      onProgress: ({ recordsRead, recordsInAll }) => draw(recordsRead, recordsInAll, 'records'),
      onDifference: (difference) => {
        if (shown++ < SHOWN && !options.json) terminal.out(describeDifference(difference));
      },
    });
    await compared.close();
    if (!outcome.ok) return report(outcome.failure, terminal);
    const { rows } = compared;
    const result = rows === null ? outcome.value : withAgainst(outcome.value, rows);
    if (rows !== null && !options.json) {
      for (const twice of rows.repeated.slice(0, SHOWN)) terminal.out(`twice      ${twice}`);
    }
    if (options.json) terminal.out(JSON.stringify(result));
    else for (const line of [...describeReport(result), ...describeAgainst(rows)]) terminal.out(line);
    return result.differences === 0 ? EXIT.ok : EXIT.no;
  } finally {
    await opened.close();
  }
}

interface Compared {
  readonly options: Pick<VerifyOptions, 'group' | 'readRows' | 'isEqual'>;
  /** Null: those of the store. */
  readonly rows: AgainstRows | null;
  close(): Promise<void>;
}

/** The rows to be compared, or the exit code after it was said why there are none. */
async function openCompared(
  options: VerifyCommand,
  range: { fromMs: number; toMs: number },
  { config, telemetry }: OpenedLog,
  terminal: Terminal,
): Promise<Compared | number> {
  if (options.against === undefined) {
    if (options.tolerance !== undefined) {
      terminal.err('millrace: --tolerance goes with --against; rows of the store are exact');
      return EXIT.usage;
    }
    const store = await openStore(config, telemetry, true);
    if (!store.ok) return report(store.failure, terminal);
    const { value } = store;
    const readRows = (query: RowQuery) => value.read(query);
    return { options: { group: rollupGroup(config), readRows }, rows: null, close: () => value.close() };
  }
  try {
    const tolerances = parseTolerances(options.tolerance ?? '');
    const rows = await readAgainst(options.against, { streams: config.streams, ...range, stream: options.stream });
    const isEqual = rows.isEqual(tolerances);
    return { options: { group: null, readRows: (query) => rows.read(query), isEqual }, rows, close: async () => {} };
  } catch (thrown) {
    if (!(thrown instanceof AgainstMistake)) throw thrown;
    terminal.err(`millrace: ${messageOf(thrown)}`);
    return EXIT.usage;
  }
}

function withAgainst(result: VerifyReport, rows: AgainstRows) {
  const { repeated, absent } = rows;
  const differences = result.differences + repeated.length;
  return { ...result, differences, repeated: repeated.length, tooEarly: rows.unread(), notCompared: absent };
}

function describeAgainst(rows: AgainstRows | null): string[] {
  const lines: string[] = [];
  if (rows === null) return lines;
  if (rows.repeated.length > 0) lines.push(`${rows.repeated.length.toLocaleString('en')} of them are there twice.`);
  const tooEarly = rows.unread();
  if (tooEarly > 0) {
    const are = tooEarly === 1 ? 'is of a window' : 'are of windows';
    lines.push(
      `${tooEarly.toLocaleString('en')} ${are} that the log has not closed in all partitions, and not compared.`,
    );
  }
  if (rows.absent.length > 0) lines.push(`Not in the rows, so not compared: ${rows.absent.join(', ')}.`);
  return lines;
}

/** Everything that a configuration's log and store have; for programs. Throws when the log cannot be read. */
export async function verifyAll(config: Config): Promise<{ rows: number; differences: number }> {
  const logs = openLogs(config);
  const store = await openStore(config, silentTelemetry(), true);
  if (!store.ok) throw new Error(store.failure.message);
  try {
    const outcome = await verifyRows({
      reader: logs.log,
      lateReader: logs.late,
      panes: logs.panes,
      group: rollupGroup(config),
      streams: config.streams,
      config: config.rollup,
      readRows: (query: RowQuery): AsyncIterable<Row> => store.value.read(query),
      fromMs: 0,
      toMs: systemClock.nowMs(),
    });
    if (!outcome.ok) throw new Error(outcome.failure.message);
    return { rows: outcome.value.rowsCompared, differences: outcome.value.differences };
  } finally {
    await store.value.close();
    await logs.close();
  }
}

export function describeDifference({ kind, expected, stored, fields }: Difference): string {
  const row = (expected ?? stored)!;
  const place = `${row.stream} ${row.metric || '(count)'} ${row.window} ${new Date(row.startMs).toISOString()} ${seriesName(row.tags)}`;
  if (kind === 'missing') return `missing    ${place}: the log has ${expected!.count} readings for it`;
  if (kind === 'extra') return `extra      ${place}: the log has no reading for it`;
  const values = fields.map((field) => {
    const name = field as keyof Row;
    return `${field} is ${stored![name]}, the log says ${expected![name]}`;
  });
  return `different  ${place}: ${values.join('; ')}`;
}

function describeReport(result: VerifyReport): string[] {
  const number = (value: number) => value.toLocaleString('en');
  const lines = [
    `${number(result.rowsCompared)} rows compared with ${number(result.recordsRead)} records of the log, ${number(result.differences)} differences.`,
  ];
  if (result.repaired > 0) lines.push(`${number(result.repaired)} of them were repaired after late readings.`);
  if (result.pending > 0) lines.push(`${number(result.pending)} are closed but not committed yet.`);
  if (result.awaitingRepair > 0) {
    lines.push(`${number(result.awaitingRepair)} wait to be repaired for late readings, and could not be judged.`);
  }
  if (result.open > 0) lines.push(`${number(result.open)} are still open.`);
  if (result.outOfReach > 0) {
    lines.push(`${number(result.outOfReach)} could not be checked: the log does not go back far enough.`);
  }
  return lines;
}

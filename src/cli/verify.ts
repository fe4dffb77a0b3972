/**
 * `millrace verify`: every row of a range worked out again from the log, by the rules under which it was written, and
 * compared with the store bit by bit. Reads only, while gateway and rollup run or not.
 * Exit 0: no difference. 1: at least one, each named. 2: the command line or the configuration is wrong.
 */
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { openStore, rollupGroup } from '../parts/rollup.ts';
import { seriesName } from '../reading.ts';
import { type Difference, type VerifyReport, verify as verifyRows } from '../rollup/verify.ts';
import type { Row, RowQuery } from '../row.ts';
import { silentTelemetry } from '../telemetry.ts';
import { openForReading, openLogs } from './open.ts';
import { EXIT, parseRange, progress, report, type Terminal } from './terminal.ts';

export interface VerifyCommand {
  readonly config: string;
  readonly data?: string;
  readonly from?: string;
  readonly to?: string;
  readonly stream?: string;
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
    const store = await openStore(config, opened.telemetry, true);
    if (!store.ok) return report(store.failure, terminal);
    const draw = progress(terminal, () => systemClock.monotonicMs());
    let shown = 0;
    const outcome = await verifyRows({
      reader: opened.log,
      lateReader: opened.late,
      panes: opened.panes,
      group: rollupGroup(config),
      streams: config.streams,
      config: config.rollup,
      readRows: (query) => store.value.read(query),
      ...range,
      ...(options.stream === undefined ? undefined : { stream: options.stream }),
      onProgress: ({ recordsRead, recordsInAll }) => draw(recordsRead, recordsInAll, 'records'),
      onDifference: (difference) => {
        if (shown++ < SHOWN && !options.json) terminal.out(describeDifference(difference));
      },
    });
    await store.value.close();
    if (!outcome.ok) return report(outcome.failure, terminal);
    if (options.json) terminal.out(JSON.stringify(outcome.value));
    else for (const line of describeReport(outcome.value)) terminal.out(line);
    return outcome.value.differences === 0 ? EXIT.ok : EXIT.no;
  } finally {
    await opened.close();
  }
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
  if (result.open > 0) lines.push(`${number(result.open)} are still open.`);
  if (result.outOfReach > 0) {
    lines.push(`${number(result.outOfReach)} could not be checked: the log does not go back far enough.`);
  }
  return lines;
}

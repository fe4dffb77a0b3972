/**
 * `millrace recompute --from --to`: rows of closed windows worked out again from the log with every reading in them, late
 * ones too; those that differ are written again with `rev` + 1. What `repair: auto` does by itself, by hand: for rows that
 * were lost or changed, or after a time with `repair: off`. Repeating it changes nothing more. A row that no reading belongs
 * to is named with the statement that deletes it, and stays: it may be all that is left of another configuration. Exit 1 then.
 * With the embedded store the gateway has to be stopped, because it is the one that writes there.
 */
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { done, type Outcome } from '../errors.ts';
import { openStore, rollupGroup } from '../parts/rollup.ts';
import { seriesName } from '../reading.ts';
import { committedFrontiers, type Frontiers } from '../rollup/frontiers.ts';
import { recompute as recomputeRows, type Wanted } from '../rollup/recompute.ts';
import { rowAt, sameContent } from '../rollup/repair.ts';
import type { Row } from '../row.ts';
import { bucketName } from '../store/buckets.ts';
import { deleteRun } from '../store/influxql.ts';
import { storedTags } from '../store/point.ts';
import type { Store } from '../store/store.ts';
import { type OpenedLog, openForReading } from './open.ts';
import { EXIT, parseRange, progress, report, type Terminal } from './terminal.ts';
import { describeDifference, type VerifyCommand } from './verify.ts';

/** Windows that start within this time are worked out together: their readings are held in memory. */
const STEP_MS = 600_000;
const ROWS_A_WRITE = 1_000;
/** Rows left that are printed; all are counted. */
const SHOWN = 100;

interface Totals {
  rows: number;
  written: number;
  refused: number;
  /** Stored rows that no reading belongs to. */
  left: number;
}

export async function recompute(options: VerifyCommand, terminal: Terminal): Promise<number> {
  if (options.from === undefined || options.to === undefined) {
    terminal.err('millrace: recompute needs --from and --to; verify says which rows differ');
    return EXIT.usage;
  }
  const range = parseRange(options, systemClock.nowMs());
  if (typeof range === 'string') {
    terminal.err(`millrace: ${range}`);
    return EXIT.usage;
  }
  const opened = await openForReading(options, terminal);
  if (typeof opened === 'number') return opened;
  try {
    const store = await openStore(opened.config, opened.telemetry, false);
    if (!store.ok) return report(store.failure, terminal);
    try {
      return await recomputeRange(opened, store.value, range, options, terminal);
    } finally {
      await store.value.close();
    }
  } finally {
    await opened.close();
  }
}

async function recomputeRange(
  opened: OpenedLog,
  store: Store,
  { fromMs, toMs }: { fromMs: number; toMs: number },
  options: VerifyCommand,
  terminal: Terminal,
): Promise<number> {
  const { config, log, panes } = opened;
  const draw = progress(terminal, () => systemClock.monotonicMs());
  const totals: Totals = { rows: 0, written: 0, refused: 0, left: 0 };
  const committed: Frontiers[] = [];
  for (let partition = 0; partition < log.partitions; partition++) {
    const known = await committedFrontiers({ log, panes, group: rollupGroup(config) }, partition);
    if (!known.ok) return report(known.failure, terminal);
    committed.push(known.value);
  }
  const startMs = Math.floor(fromMs / STEP_MS) * STEP_MS;
  const steps = Math.max(1, Math.ceil((toMs - startMs) / STEP_MS)) * log.partitions;
  const only = options.stream === undefined ? undefined : { stream: options.stream };
  let step = 0;
  for (let at = startMs; at < toMs; at += STEP_MS) {
    const range = { fromMs: Math.max(at, fromMs), toMs: Math.min(at + STEP_MS, toMs), ...only };
    // Read before the log is, which therefore has every reading of these rows.
    const stored = await closedRows(store, config, range, committed);
    const places = new Set<string>();
    for (let partition = 0; partition < log.partitions; partition++, draw(++step, steps, 'steps')) {
      const from = { ...opened, partition, streams: config.streams, ...config.rollup };
      const rows = await recomputeRows(from, range);
      if (!rows.ok) return report(rows.failure, terminal);
      for (const row of rows.value) places.add(placeOf(row));
      const isClosed = (row: Row) => row.endMs <= committed[partition]!(config.streams[row.stream]!, row.window);
      const written = await writeWrong(rows.value.filter(isClosed), store, totals);
      if (!written.ok) return report(written.failure, terminal);
    }
    const left = stored.filter((row) => !places.has(placeOf(row)));
    for (const row of options.json ? [] : left.slice(0, Math.max(0, SHOWN - totals.left))) {
      terminal.out(describeLeft(row, stored, config));
    }
    totals.left += left.length;
  }
  if (options.json) terminal.out(JSON.stringify(totals));
  else {
    const refused = totals.refused > 0 ? `, ${totals.refused} refused by the store` : '';
    const left = totals.left > 0 ? `, ${totals.left} left that no reading belongs to` : '';
    terminal.out(`${totals.rows} rows worked out again, ${totals.written} written${refused}${left}.`);
  }
  return totals.refused + totals.left === 0 ? EXIT.ok : EXIT.no;
}

async function writeWrong(rows: readonly Row[], store: Store, totals: Totals): Promise<Outcome> {
  const wrong: Row[] = [];
  for (const row of rows) {
    totals.rows++;
    const before = await rowAt(store, row);
    if (!before || !sameContent(before, row)) wrong.push({ ...row, rev: before ? before.rev + 1 : 1 });
  }
  for (let from = 0; from < wrong.length; from += ROWS_A_WRITE) {
    const batch = wrong.slice(from, from + ROWS_A_WRITE);
    const written = await store.replace(batch);
    if (!written.ok) return written;
    totals.refused += written.value.refused.length;
    totals.written += batch.length - written.value.refused.length;
  }
  return done;
}

/** Stored rows of windows that are closed in all partitions. */
async function closedRows(
  store: Store,
  { streams }: Config,
  { stream: only, ...range }: Wanted,
  committed: readonly Frontiers[],
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const stream of Object.values(streams)) {
    if (only !== undefined && only !== stream.name) continue;
    for (const { label } of stream.windows) {
      const closedToMs = Math.min(...committed.map((frontier) => frontier(stream, label)));
      for await (const row of store.read({ stream: stream.name, window: label, ...range })) {
        if (row.endMs <= closedToMs) rows.push(row);
      }
    }
  }
  return rows;
}

function placeOf({ stream, metric, window, startMs, tags }: Row): string {
  return `${stream} ${metric} ${window} ${startMs} ${seriesName(tags)}`;
}

/** A row that no reading belongs to: by hand, or from a time with another configuration. It is not ours to delete. */
function describeLeft(row: Row, stored: readonly Row[], { influx }: Config): string {
  const what = describeDifference({ kind: 'extra', expected: null, stored: row, fields: [] });
  if (influx === null) return `${what}; it stays until the store makes room`;
  const same = stored.filter(({ stream }) => stream === row.stream);
  const tagKeys = new Set(same.flatMap((each) => storedTags(each).map(([key]) => key)));
  const statement = deleteRun(row, row.startMs, row.startMs + 1, tagKeys);
  return `${what}; to delete it in the database ${bucketName(influx.bucket, row.window)}: ${statement}`;
}

/**
 * `millrace recompute --from --to`: rows of closed windows worked out again from the log with every reading in them, late
 * ones too; those that differ are written again with `rev` + 1. What `repair: auto` does by itself, by hand: for rows that
 * were lost or changed, or after a time with `repair: off`. Repeating it changes nothing more.
 * With the embedded store the gateway has to be stopped, because it is the one that writes there.
 */
import { systemClock } from '../clock.ts';
import { openStore, rollupGroup } from '../parts/rollup.ts';
import { committedFrontiers } from '../rollup/frontiers.ts';
import { recompute as recomputeRows } from '../rollup/recompute.ts';
import { rowAt, sameContent } from '../rollup/repair.ts';
import type { Row } from '../row.ts';
import type { Store } from '../store/store.ts';
import { type OpenedLog, openForReading } from './open.ts';
import { EXIT, parseRange, progress, report, type Terminal } from './terminal.ts';
import type { VerifyCommand } from './verify.ts';

/** Windows that start within this time are worked out together: their readings are held in memory. */
const STEP_MS = 600_000;
const ROWS_A_WRITE = 1_000;

interface Totals {
  rows: number;
  written: number;
  refused: number;
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
  { config, log, late, panes }: OpenedLog,
  store: Store,
  { fromMs, toMs }: { fromMs: number; toMs: number },
  options: VerifyCommand,
  terminal: Terminal,
): Promise<number> {
  const draw = progress(terminal, () => systemClock.monotonicMs());
  const totals: Totals = { rows: 0, written: 0, refused: 0 };
  const startMs = Math.floor(fromMs / STEP_MS) * STEP_MS;
  const steps = Math.max(1, Math.ceil((toMs - startMs) / STEP_MS)) * log.partitions;
  let step = 0;
  for (let partition = 0; partition < log.partitions; partition++) {
    const committed = await committedFrontiers({ log, panes, group: rollupGroup(config) }, partition);
    if (!committed.ok) return report(committed.failure, terminal);
    for (let at = startMs; at < toMs; at += STEP_MS, draw(++step, steps, 'steps')) {
      const rows = await recomputeRows(
        { log, late, partition, streams: config.streams, ...config.rollup },
        {
          fromMs: Math.max(at, fromMs),
          toMs: Math.min(at + STEP_MS, toMs),
          ...(options.stream === undefined ? undefined : { stream: options.stream }),
        },
      );
      if (!rows.ok) return report(rows.failure, terminal);
      const wrong: Row[] = [];
      for (const row of rows.value) {
        if (row.endMs > committed.value(config.streams[row.stream]!, row.window)) continue;
        totals.rows++;
        const before = await rowAt(store, row);
        if (!before || !sameContent(before, row)) wrong.push({ ...row, rev: before ? before.rev + 1 : 1 });
      }
      for (let from = 0; from < wrong.length; from += ROWS_A_WRITE) {
        const batch = wrong.slice(from, from + ROWS_A_WRITE);
        const written = await store.replace(batch);
        if (!written.ok) return report(written.failure, terminal);
        totals.refused += written.value.refused.length;
        totals.written += batch.length - written.value.refused.length;
      }
    }
  }
  if (options.json) terminal.out(JSON.stringify(totals));
  else {
    const refused = totals.refused > 0 ? `, ${totals.refused} refused by the store` : '';
    terminal.out(`${totals.rows} rows worked out again, ${totals.written} written${refused}.`);
  }
  return totals.refused === 0 ? EXIT.ok : EXIT.no;
}

/**
 * The audit of a configuration (audit.ts), with its logs and its store opened and closed: what `millrace audit` runs, and what
 * a gateway runs in a thread for `GET /api/v1/audit`. Both answer programs in the form of `auditAnswer`.
 */
import type { Config } from '../config.ts';
import { fail, messageOf, type Outcome } from '../errors.ts';
import { readSpoolId } from '../journal/spool-id.ts';
import { MINUTE_MS, OTHERS } from './account.ts';
import { type AuditReport, audit } from './audit.ts';
import type { Totals } from './audit-books.ts';
import { spoolFolder } from './folders.ts';
import { openLogs } from './open-logs.ts';
import { openStore, rollupGroup } from './rollup.ts';

export interface AuditWish {
  /** Times of receipt; rounded outwards to whole minutes, because an account knows no smaller ones. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly device?: string;
  /** The event time of readings of the device whose way is wanted. */
  readonly readingMs?: number;
}

export interface Audited {
  /** The minutes that were audited. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly report: AuditReport;
}

export async function runAudit(
  config: Config,
  wish: AuditWish,
  onProgress: (recordsRead: number, recordsInAll: number) => void,
): Promise<Outcome<Audited>> {
  const { device, readingMs } = wish;
  const fromMs = Math.floor(wish.fromMs / MINUTE_MS) * MINUTE_MS;
  const toMs = Math.ceil(wish.toMs / MINUTE_MS) * MINUTE_MS;
  let spoolId: string | null = null;
  try {
    spoolId = config.kafka ? null : await readSpoolId(spoolFolder(config));
  } catch (error) {
    return fail('SPOOL_IO', `the spool in ${spoolFolder(config)} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const logs = openLogs(config);
  const store = await openStore(config, logs.telemetry, true);
  if (!store.ok) {
    await logs.close();
    return store;
  }
  const { log, late, panes, deadLetters, accounts } = logs;
  const outcome = await audit({
    verify: {
      reader: log,
      lateReader: late,
      panes,
      group: rollupGroup(config),
      readRows: (query) => store.value.read(query),
      onProgress: ({ recordsRead, recordsInAll }) => onProgress(recordsRead, recordsInAll),
    },
    config: config.rollup,
    streams: config.streams,
    beside: accounts === null ? null : { deadLetters, accounts },
    spoolId,
    range: { fromMs, toMs, ...(device === undefined ? undefined : { device }) },
    ...(readingMs === undefined ? undefined : { readingMs }),
  });
  await store.value.close();
  await logs.close();
  return outcome.ok ? { ok: true, value: { fromMs, toMs, report: outcome.value } } : outcome;
}

/** As JSON: devices by name, each with its terms. */
export interface AuditAnswer extends Omit<AuditReport, 'devices'> {
  readonly fromMs: number;
  readonly toMs: number;
  readonly devices: Readonly<Record<string, Readonly<Totals>>>;
}

export function auditAnswer({ fromMs, toMs, report }: Audited): AuditAnswer {
  const devices = [...report.devices].map(([device, totals]) => [deviceName(device), totals] as const);
  const imbalances = report.imbalances.map((each) => ({ ...each, device: deviceName(each.device) }));
  return { fromMs, toMs, ...report, imbalances, devices: Object.fromEntries(devices) };
}

/** The devices beyond the limit are together one. */
function deviceName(device: string): string {
  return device === OTHERS ? '(others)' : device;
}

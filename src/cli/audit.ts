/**
 * `millrace audit`: does everything balance, by device and minute, from the devices to the store; and with `--reading`, where is
 * this reading. Reads only, while gateway and rollup run or not; the log once, in bounded memory.
 * Exit 0: it balances, or the reading is in the log. 1: it does not, and each place is named; or the reading is not in the log.
 * 2: the command line or the configuration is wrong.
 */
import { systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import type { Found } from '../parts/audit.ts';
import type { Imbalance, Totals } from '../parts/audit-books.ts';
import { type AuditAnswer, auditAnswer, runAudit } from '../parts/audit-run.ts';
import { formatDuration } from '../units.ts';
import { auditOf } from './gateway-api.ts';
import { readConfigOfLog } from './open.ts';
import { EXIT, parseRange, parseTimeMs, progress, report, type Terminal } from './terminal.ts';
import { describeDifference } from './verify.ts';

export interface AuditCommand {
  readonly config: string;
  readonly data?: string;
  readonly from?: string;
  readonly to?: string;
  readonly device?: string;
  readonly reading?: string;
  /** Of a running gateway, which is asked instead. */
  readonly url?: string;
  readonly json?: boolean;
}

/** Imbalances that are printed; all are counted. */
const SHOWN = 100;

export async function audit(options: AuditCommand, terminal: Terminal): Promise<number> {
  const asked = wish(options);
  if (typeof asked === 'string') {
    terminal.err(`millrace: ${asked}`);
    return EXIT.usage;
  }
  if (options.url !== undefined) return askGateway(options.url, options, terminal);
  const config = await readConfigOfLog(options, terminal);
  return typeof config === 'number' ? config : run(options, asked, config, terminal);
}

interface Wish {
  readonly fromMs: number;
  readonly toMs: number;
  readonly readingMs: number | undefined;
}

/** A sentence that says what is wrong with the command line otherwise. */
function wish(options: AuditCommand): Wish | string {
  const { device, reading, url } = options;
  if (url !== undefined && reading !== undefined) return '--reading needs the log itself: leave out --url';
  if (reading !== undefined && device === undefined) return '--reading needs --device: whose reading is it?';
  const readingMs = reading === undefined ? undefined : parseTimeMs(reading);
  if (readingMs === null)
    return `--reading ${reading} is not a time such as 2026-01-31T12:00:00Z or milliseconds since 1970`;
  const range = parseRange(options, systemClock.nowMs());
  if (typeof range === 'string') return range;
  return { ...range, readingMs };
}

/** The same from a gateway elsewhere, whose log cannot be read from here; without --from, of its last hour. */
async function askGateway(url: string, options: AuditCommand, terminal: Terminal): Promise<number> {
  const { from, to, device } = options;
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries({ from, to, device }))
    if (value !== undefined) parameters.set(name, value);
  const outcome = await auditOf(url, parameters);
  if (!outcome.ok) return report(outcome.failure, terminal);
  if (options.json) terminal.out(JSON.stringify(outcome.value));
  else for (const line of describeReport(outcome.value, device)) terminal.out(line);
  return codeOf(outcome.value);
}

async function run(options: AuditCommand, asked: Wish, config: Config, terminal: Terminal): Promise<number> {
  const { readingMs, toMs } = asked;
  const draw = progress(terminal, () => systemClock.monotonicMs());
  // Nothing is accepted that is further ahead of its receipt than the skew.
  const earliestMs = readingMs === undefined || options.from !== undefined ? 0 : readingMs - config.rollup.skewMs;
  const wish = {
    ...{ fromMs: Math.max(asked.fromMs, earliestMs), toMs },
    ...(options.device === undefined ? undefined : { device: options.device }),
    ...(readingMs === undefined ? undefined : { readingMs }),
  };
  const outcome = await runAudit(config, wish, (read, inAll) => draw(read, inAll, 'records'));
  if (!outcome.ok) return report(outcome.failure, terminal);
  const answer = auditAnswer(outcome.value);
  if (options.json) terminal.out(JSON.stringify(answer));
  else if (answer.found !== null) for (const line of describeWay(answer.found, options, config)) terminal.out(line);
  else for (const line of describeReport(answer, options.device)) terminal.out(line);
  return codeOf(answer);
}

function codeOf({ found, balanced }: AuditAnswer): number {
  return (found === null ? balanced : found.length > 0) ? EXIT.ok : EXIT.no;
}

function describeReport(result: AuditAnswer, device: string | undefined): string[] {
  const {
    fromMs,
    toMs,
    totals,
    verified,
    imbalances,
    moreImbalances,
    rows,
    gaps,
    notAccountedYet,
    withoutBooks,
    accounts,
  } = result;
  const from = fromMs === 0 ? 'The beginning of the log' : iso(fromMs);
  const lines = [
    `${from} to ${iso(toMs)}${device === undefined ? '' : `, device ${device}`}`,
    `gateways  ${equation(totals, 'received', ['forwarded', 'deadLettered', 'refused', 'spooled', 'missing'])}`,
    `rollup    ${equation(totals, 'logRecords', ['counted', 'open', 'late', 'duplicate', 'outOfReach', 'unreadable'])}`,
    `store     ${number(verified.rowsCompared)} rows compared, ${number(verified.differences)} differences`,
  ];
  if (accounts === 0)
    lines.push('No account of a gateway is in the log: what was received cannot be compared with it yet.');
  if (notAccountedYet > 0) lines.push(`${number(notAccountedYet)} are newer than the last account of their gateway.`);
  if (withoutBooks > 0)
    lines.push(`${number(withoutBooks)} are in no gateway's books: older than them, or requeued without one.`);
  for (const each of imbalances.slice(0, SHOWN)) lines.push(`NOT BALANCED  ${describeImbalance(each)}`);
  for (const { device: name, difference } of rows.slice(0, SHOWN)) {
    lines.push(`NOT BALANCED  ${name}  ${describeDifference(difference)}`);
  }
  for (const { spool, from, to } of gaps.slice(0, SHOWN)) {
    lines.push(`NOT BALANCED  the account of the offsets ${from} to ${to - 1} of the spool ${spool} is not in the log`);
  }
  const count = imbalances.length + moreImbalances + rows.length + gaps.length;
  if (!result.balanced) lines.push(`${number(count)} ${count === 1 ? 'place does' : 'places do'} not balance.`);
  else lines.push(accounts === 0 ? 'Nothing is out of balance, as far as it can be compared.' : 'Everything balances.');
  return lines;
}

const WORDS: Readonly<Partial<Record<keyof Totals, string>>> = {
  deadLettered: 'dead-lettered',
  missing: 'MISSING',
  logRecords: 'log records',
  outOfReach: 'out of reach',
};
/** Said only when there are some. */
const RARE: readonly (keyof Totals)[] = ['missing', 'outOfReach', 'unreadable'];

function equation(totals: Readonly<Totals>, left: keyof Totals, right: readonly (keyof Totals)[]): string {
  const term = (name: keyof Totals) => `${WORDS[name] ?? name} ${number(totals[name])}`;
  const shown = right.filter((name) => totals[name] > 0 || !RARE.includes(name));
  return `${term(left)} = ${shown.map(term).join(' + ')}`;
}

function describeImbalance({ device, minuteMs, kind, readings }: Imbalance): string {
  const place = `${device}  ${iso(minuteMs).slice(0, 16)}`;
  const what = readings === 1 ? '1 reading was' : `${number(readings)} readings were`;
  if (kind === 'missing')
    return `${place}  ${what} taken in by a gateway and ${readings === 1 ? 'is' : 'are'} not in the log`;
  return `${place}  ${what} not taken in by a gateway and ${readings === 1 ? 'is' : 'are'} in the log`;
}

/** The way of each copy of the reading, a line for each place. */
function describeWay(found: readonly Found[], { device, reading }: AuditCommand, config: Config): string[] {
  if (found.length === 0) {
    return [
      `No reading of ${device} with the event time ${reading} is in the log: it was never acknowledged as a reading, or the log no`,
      'longer goes back that far. If it was refused, `millrace deadletters list` has it.',
    ];
  }
  return found.flatMap((copy, index) => [
    ...(found.length > 1 ? [`copy ${index + 1} of ${found.length}`] : []),
    ...wayOf(copy, config),
  ]);
}

function wayOf(copy: Found, config: Config): string[] {
  const { stream, topic, timeMs, receivedMs, partition, offset, origin, again, fate, windows } = copy;
  const tookMs = receivedMs - timeMs;
  const took = tookMs >= 0 ? `${span(tookMs)} later` : `${span(-tookMs)} earlier: the device's clock is ahead`;
  const spool = origin === null ? 'not through a spool' : `offset ${origin.offset} of the spool ${origin.spool}`;
  const log = config.kafka ? `${config.kafka.prefix}.readings, partition ${partition}, offset ${offset}` : 'the spool';
  const lines = [
    `device    ${iso(timeMs)}  event time, stream ${stream}`,
    `gateway   ${iso(receivedMs)}  received, ${took}, topic ${topic}`,
    `spool     ${spool}, synced to disk before it was acknowledged`,
    `log       ${log}${again ? ', a second copy' : ''}`,
    `rollup    ${FATES[fate]}`,
  ];
  for (const { window, startMs, endMs, closed, rows } of fate === 'counted' || fate === 'late' ? windows : []) {
    const stored = rows.map(
      ({ metric, count, rev }) => `${metric || 'events'} ${count}${rev > 0 ? ` (rev ${rev})` : ''}`,
    );
    const state = rows.length > 0 ? `stored: ${stored.join(', ')}` : closed ? 'closed, no row in the store' : 'open';
    lines.push(`window    ${window.padEnd(7)} ${iso(startMs)} to ${iso(endMs)}  ${state}`);
  }
  return lines;
}

const FATES: Readonly<Record<Found['fate'], string>> = {
  counted: 'counted in its windows',
  duplicate: 'not counted: the same reading was there already',
  late: 'late: its window was closed when it came; a repair counts it where `rollup.repair` is auto',
  outOfReach: 'its window began before what could be read of the log',
  unreadable: 'not counted: it is not a reading of a configured stream',
};

function span(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : ms < 60_000 ? `${(ms / 1_000).toFixed(3)} s` : formatDuration(ms);
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

function number(value: number): string {
  return value.toLocaleString('en');
}

/**
 * The README's tables of figures, made from the results in test/bench/results: `npm run generate` writes them between their
 * marks, and a test fails while the README says something else.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Compared } from './scale/compare.ts';
import type { Costs, Plan } from './scale/plan.ts';

const README = fileURLToPath(new URL('../../README.md', import.meta.url));

/** Of the disk alone only the milliseconds. */
interface IngressFigures {
  readonly messagesPerSecond: number;
  readonly cpuSecondsPerMillion: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly peakMiB: number;
}

interface PeerFigures {
  readonly kills: number;
  readonly acknowledged: number;
  readonly lost: number;
}

interface RollupFigures {
  /** Older results know only one. */
  readonly system?: 'millrace' | 'telegraf';
  readonly log: 'kafka' | 'spool';
  readonly store: 'influx' | 'embedded';
  readonly devices: number;
  readonly readingsPerSecond: number;
  readonly cpuSecondsPerMillion: number;
  readonly peakMiB: number;
  readonly lost?: number;
  readonly readings: number;
}

interface SettingFigures {
  readonly kind: keyof typeof KINDS;
  readonly setting: string;
  readonly cpuSecondsPerMillion?: number;
  readonly cpuMsPerSecond?: number;
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  readonly bytesPerReading?: number;
  readonly peakMiB?: number;
}

interface ScaleFigures {
  readonly perSecond: number;
  readonly costs: Costs;
  readonly plan: Plan;
  readonly simulated: { readonly compared: readonly Compared[] };
}

const SYSTEMS: readonly (readonly [system: string, title: string, peer: string | null])[] = [
  ['aedes', 'bare Aedes, which keeps nothing', null],
  ['spool', 'Millrace, acknowledged from the spool', null],
  ['kafka', 'Millrace, and into Kafka', 'millrace'],
  ['mosquitto + telegraf', 'Mosquitto + Telegraf, into Kafka', 'mosquitto + telegraf'],
  ['mosquitto + benthos', 'Mosquitto + Benthos (now Redpanda Connect), into Kafka', 'mosquitto + benthos'],
];
const DISK = 'the disk alone';
const FLAT_OUT = '100 x 20 flat out';
const STEADY = '1,000 x 1 at 10,000/s';
const ROLLUP_DEVICES = 1_000;
const ROLLUP_SYSTEMS = { millrace: 'Millrace', telegraf: 'Telegraf' } as const;
const KINDS = {
  drain: 'a spool is drained',
  pace: '2,000 readings a second come in',
  read: 'a consumer takes all',
  idle: 'nothing comes',
} as const;
const LOGS = { spool: 'spool', kafka: 'Kafka' } as const;
const STORES = { influx: 'InfluxDB', embedded: 'embedded store' } as const;

/** The README with its tables as the results have them; what was never measured here stays as it is. */
export function withTables(readme: string): string {
  const tables = {
    ingress: ingressTable,
    rollup: rollupTable,
    'kafka-settings': kafkaSettingsTable,
    scale: scaleTable,
  };
  let text = readme;
  for (const [name, table] of Object.entries(tables)) {
    const marked = new RegExp(`(<!-- figures: ${name} -->\\n)[\\s\\S]*?(<!-- end of figures -->)`);
    if (isMeasured(name)) text = text.replace(marked, (_, begin: string, end: string) => `${begin}${table()}${end}`);
  }
  return text;
}

function kafkaSettingsTable(): string {
  const { figures } = result<{ readonly figures: readonly SettingFigures[] }>('kafka-settings');
  const rows = figures.map(({ kind, setting, ...found }) => {
    const cells = [
      `\`${setting}\``,
      KINDS[kind],
      found.cpuSecondsPerMillion?.toFixed(1) ?? `${found.cpuMsPerSecond} ms a second`,
      found.p50Ms === undefined ? '' : `${found.p50Ms} / ${found.p99Ms}`,
      `${found.bytesPerReading ?? ''}`,
      `${found.peakMiB ?? ''}`,
    ];
    return `| ${cells.join(' | ')} |\n`;
  });
  const head = [
    'setting',
    'while',
    'CPU-s per million',
    'p50 / p99 ms until Kafka has one',
    'bytes a reading',
    'peak MiB',
  ];
  return `| ${head.join(' | ')} |\n|${'---|'.repeat(head.length)}\n${rows.join('')}`;
}

function scaleTable(): string {
  const { costs, plan, perSecond, simulated } = result<ScaleFigures>('scale');
  const costRow = (kind: 'gateway' | 'rollup', title: string) => {
    const steady = costs.steady.map((one) => `${one[kind].process.toFixed(0)}, ${one[kind].busiestThread.toFixed(0)}`);
    const growth = costs.steady.at(-1)![kind].process / costs.steady[0]![kind].process - 1;
    const flatOut = `${costs.flatOut[kind].process.toFixed(1)}, ${costs.flatOut[kind].busiestThread.toFixed(1)}`;
    const cells = [title, ...steady, signed(100 * growth), flatOut, `${plan[`${kind}s`]} processes`];
    return `| ${cells.join(' | ')} |\n`;
  };
  const counts = costs.steady.map(({ processes }) => `${processes} at ${number(perSecond)}/s each`);
  const head = ['CPU-s per million, and of the busiest thread', ...counts, 'growth', 'flat out', 'for 1,000,000/s'];
  const told = simulated.compared.map(({ processes, what, measuredMs, predictedMs, errorPercent, isFitted }) => {
    const cells = [
      processes,
      what,
      measuredMs.toFixed(1),
      predictedMs.toFixed(1),
      isFitted ? 'fitted' : signed(errorPercent),
    ];
    return `| ${cells.join(' | ')} |\n`;
  });
  const toldHead = ['of each', 'latency', 'measured ms', 'simulated ms', 'error'];
  return [
    `| ${head.join(' | ')} |\n|${'---|'.repeat(head.length)}\n`,
    costRow('gateway', 'gateways, into Kafka'),
    costRow('rollup', 'rollups, from Kafka into the embedded store'),
    `\n| ${toldHead.join(' | ')} |\n|${'---|'.repeat(toldHead.length)}\n`,
    ...told,
  ].join('');
}

function rollupTable(): string {
  const { runs } = result<{ readonly runs: readonly RollupFigures[] }>('rollup');
  const shown = runs.filter(({ devices }) => devices === ROLLUP_DEVICES);
  const isKilled = shown.some(({ lost }) => lost !== undefined);
  const rows = shown.map((figures) => {
    const {
      system = 'millrace',
      log,
      store,
      readingsPerSecond,
      cpuSecondsPerMillion,
      peakMiB,
      lost,
      readings,
    } = figures;
    const killed = lost === undefined ? '' : `${number(lost)} of ${number(readings)}`;
    const cells = [
      ...[ROLLUP_SYSTEMS[system], LOGS[log], STORES[store], number(readingsPerSecond)],
      ...[cpuSecondsPerMillion.toFixed(1), peakMiB.toFixed(0), ...(isKilled ? [killed] : [])],
    ];
    return `| ${cells.join(' | ')} |\n`;
  });
  const head = ['', 'from', 'into', 'readings/s', 'CPU-s per million', 'peak MiB'];
  if (isKilled) head.push('lost of those in the log');
  return `| ${head.join(' | ')} |\n|${'---|'.repeat(head.length)}\n${rows.join('')}`;
}

function ingressTable(): string {
  const ingress = result<Record<string, Record<string, IngressFigures>>>('ingress');
  const peers = result<Record<string, PeerFigures>>('peers');
  const measured = SYSTEMS.filter(([system]) => ingress[FLAT_OUT]![system] !== undefined);
  const rows = measured.map(([system, title, peer]) => {
    const [flatOut, steady] = [ingress[FLAT_OUT]![system]!, ingress[STEADY]![system]!];
    const killed = peer === null ? null : peers[peer]!;
    const cells = [
      title,
      number(flatOut.messagesPerSecond),
      flatOut.cpuSecondsPerMillion.toFixed(1),
      `${steady.cpuSecondsPerMillion.toFixed(0)}`,
      `${steady.p50Ms.toFixed(1)} / ${steady.p99Ms.toFixed(1)}`,
      `${Math.max(flatOut.peakMiB, steady.peakMiB).toFixed(0)}`,
      killed === null ? '' : `${number(killed.lost)} of ${number(killed.acknowledged)}`,
    ];
    return `| ${cells.join(' | ')} |\n`;
  });
  const disk = ingress[STEADY]![DISK];
  if (disk) {
    const cells = [DISK, '', '', '', `${disk.p50Ms.toFixed(1)} / ${disk.p99Ms.toFixed(1)}`, '', ''];
    rows.unshift(`| ${cells.join(' | ')} |\n`);
  }
  const head = [
    '',
    'messages/s',
    'CPU-s per million',
    'the same at 1,000 x 1',
    'PUBACK p50 / p99 ms there',
    'peak MiB',
    'lost of acknowledged',
  ];
  return `| ${head.join(' | ')} |\n|${'---|'.repeat(head.length)}\n${rows.join('')}`;
}

function signed(percent: number): string {
  return `${percent > 0 ? '+' : ''}${Math.round(percent)} %`;
}

/** Three significant digits. */
function number(value: number): string {
  return Number(value.toPrecision(3)).toLocaleString('en-US');
}

function isMeasured(bench: string): boolean {
  return existsSync(new URL(`results/${bench}.json`, import.meta.url));
}

function result<F>(bench: string): F {
  return JSON.parse(readFileSync(new URL(`results/${bench}.json`, import.meta.url), 'utf8')).figures;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(README, withTables(readFileSync(README, 'utf8')));
}

/** What tests of the whole rollup share: processes on one set of rules, what they have made durable, and the judgement. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Delivery } from '../../src/torture/deliveries.ts';
import { judge, type Verdict } from '../../src/torture/ledger-oracle.ts';
import { lengths, type Rules } from '../../src/torture/ledger-readings.ts';
import type { GatewayProcess } from './gateway-process.ts';

export interface RunRules extends Rules {
  readonly disorderMs: number;
}

/** The configuration that says what the rules say. */
export function yamlOf(rules: RunRules, more = ''): string {
  const window = (label: string) => {
    const [size, every] = label.split('_');
    return every ? `{ size: ${size}, every: ${every} }` : size;
  };
  const streams = rules.streams.map((stream) => {
    const { name, topic, time, sequence, identity, tags, metrics, windows } = stream;
    return [
      `  ${name}:`,
      `    topic: ${topic}`,
      `    time: ${time}`,
      ...(sequence ? [`    sequence: ${sequence}`] : []),
      ...(identity ? [`    identity: [${identity}]`] : []),
      ...(tags ? [`    tags: [${tags}]`] : []),
      ...(topic.includes('{device}') ? [] : [`    key: ${tags?.[0] ?? identity?.[0]}`]),
      `    metrics: [${metrics}]`,
      `    windows: [${windows.map(window).join(', ')}]`,
    ].join('\n');
  });
  const { graceMs, disorderMs, skewMs } = rules;
  return [
    `rollup: { grace: ${graceMs}ms, disorder: ${disorderMs}ms, tick: 500ms, skew: ${skewMs}ms, flush: 250ms, repair: 'off' }`,
    more,
    `streams:\n${streams.join('\n')}\n`,
  ].join('\n');
}

/** The clock at which every window that holds something of before `lastMs` is closed: their last end, and that clock. */
export function allClosed(rules: RunRules, lastMs: number): { readonly endMs: number; readonly clockMs: number } {
  const ends = rules.streams.flatMap((stream) =>
    stream.windows.map((window) => {
      const { sizeMs, everyMs } = lengths(window);
      return Math.floor(lastMs / everyMs) * everyMs + sizeMs;
    }),
  );
  const endMs = Math.max(...ends);
  return { endMs, clockMs: endMs + rules.graceMs + rules.disorderMs };
}

/** Every row of every window of these rules that ends after `sinceMs`, as the process's HTTP API gives them. */
export async function rowsOf(gateway: GatewayProcess, rules: Rules, sinceMs = 0): Promise<unknown[]> {
  const rows: unknown[] = [];
  for (const stream of rules.streams) {
    for (const window of stream.windows) {
      const text = await rowText(gateway, stream.name, window, Math.max(0, sinceMs - lengths(window).sizeMs));
      for (const line of text.split('\n')) if (line !== '') rows.push(JSON.parse(line));
    }
  }
  return rows;
}

export async function rowText(gateway: GatewayProcess, stream: string, window: string, fromMs = 0): Promise<string> {
  const answer = await gateway.get(`/api/v1/rows?stream=${stream}&window=${window}&from=${fromMs}`);
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return text;
}

/** A gauge with the label `partition`, of one process; empty when it does not answer. */
export async function byPartition(gateway: GatewayProcess, name: string): Promise<Map<number, number>> {
  const text = await gateway.get('/metrics').then(
    (answer) => answer.text(),
    () => '',
  );
  const values = new Map<number, number>();
  for (const [, partition, value] of text.matchAll(new RegExp(`^${name}\\{.*partition="(\\d+)".*\\} (\\S+)$`, 'gm'))) {
    values.set(Number(partition), Number(value));
  }
  return values;
}

/** Partitions that the process owns and reads. */
export async function ownedBy(rollup: GatewayProcess): Promise<number[]> {
  return [...(await byPartition(rollup, 'millrace_lag_records')).keys()].sort((a, b) => a - b);
}

/** Every window of every partition that ends at or before it is durable; minus infinity while some partition has no owner. */
export async function durableToMs(rollups: readonly GatewayProcess[], partitions: number): Promise<number> {
  const frontiers = new Map<number, number>();
  for (const rollup of rollups) {
    for (const [partition, seconds] of await byPartition(rollup, 'millrace_frontier_seconds')) {
      frontiers.set(partition, Math.max(frontiers.get(partition) ?? 0, Math.round(seconds * 1_000)));
    }
  }
  return frontiers.size < partitions ? Number.NEGATIVE_INFINITY : Math.min(...frontiers.values());
}

/** Waits until the condition holds; asks ten times a second. */
export async function eventually(
  what: string,
  deadlineMs: number,
  condition: () => Promise<boolean> | boolean,
  describe: () => string | Promise<string> = () => '',
): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > endMs) assert.fail(`not within ${deadlineMs / 1_000} s: ${what} ${await describe()}`);
    await sleep(100);
  }
}

export interface AgreeOptions {
  readonly rules: RunRules;
  /** Whose HTTP API gives the rows. */
  readonly gateway: GatewayProcess;
  readonly rollups: readonly GatewayProcess[];
  readonly partitions: number;
  /** Windows that end by then must be durable. */
  readonly toMs: number;
  readonly deliveries: () => readonly Delivery[];
  /** Windows that end at or before it are not looked at. */
  readonly sinceMs?: number;
  readonly logRepeats?: boolean;
  readonly deadlineMs?: number;
}

/** Waits until all windows up to `toMs` are durable, and demands that the oracle agrees with every row. */
export async function agree(context: string, options: AgreeOptions): Promise<Verdict> {
  const verdict = await judged(options, context);
  const shown = verdict.findings.slice(0, 5).join('\n  ');
  assert.equal(verdict.findings.length, 0, `${context}: ${verdict.findings.length} rows are wrong:\n  ${shown}`);
  return verdict;
}

export async function judged(options: AgreeOptions, context = ''): Promise<Verdict> {
  const { rules, gateway, rollups, partitions, toMs, deliveries, sinceMs = 0, deadlineMs = 60_000 } = options;
  const { logRepeats = false } = options;
  let closedToMs = Number.NEGATIVE_INFINITY;
  await eventually(
    `${context}: all windows up to ${new Date(toMs).toISOString()} are durable`,
    deadlineMs,
    async () => {
      closedToMs = await durableToMs(rollups, partitions);
      return closedToMs >= toMs;
    },
    async () => {
      const owned = await Promise.all(rollups.map((rollup) => byPartition(rollup, 'millrace_frontier_seconds')));
      const shown = owned.map((frontiers) => JSON.stringify([...frontiers]));
      return `(owned: ${shown.join(' ')}) ${rollups.map((rollup) => rollup.log().slice(-1_500)).join('\n')}`;
    },
  );
  const rows = await rowsOf(gateway, rules, sinceMs);
  return judge(rules, { deliveries: deliveries(), rows, closedToMs, sinceMs, logRepeats });
}

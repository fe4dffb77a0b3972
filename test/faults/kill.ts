/**
 * Kills a loaded gateway at random instants and asks its log afterwards what it kept, against the ledger of the load
 * generator, a process of its own: nothing acknowledged may be missing, nothing may be there that was never sent, every
 * payload must be what the device sent, and a fresh message must pass after each restart.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/clock.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { type GatewayProcess, startGateway, startSimulator } from '../support/gateway-process.ts';
import { Random } from '../support/random.ts';

export const STREAM = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    time: ts
    sequence: seq
    metrics: [temperature, humidity, pressure]
`;

export interface KillOptions {
  readonly seed: number;
  readonly rounds: number;
  /** Messages per second asked of the generator; 0 = flat out. */
  readonly rate: number;
  readonly preload?: string;
  readonly yaml?: string;
  /** What is done to the gateway in each round; default: SIGKILL. Resolves when the gateway is gone. */
  readonly strike?: (gateway: GatewayProcess, random: Random) => Promise<void>;
}

export interface KillReport {
  readonly rounds: number;
  readonly sent: number;
  readonly acknowledged: number;
  readonly stored: number;
  /** Acknowledged, and not in the log: the first of them, and how many. */
  readonly lost: { readonly count: number; readonly example: string };
  readonly neverSent: number;
  readonly altered: number;
  /** Stored more than once: a re-send after a lost acknowledgement; harmless, counted once by the rollup. */
  readonly repeated: number;
  readonly freshPassed: number;
  /** Messages per second while the gateway ran, smallest of all rounds. */
  readonly slowestPerSecond: number;
}

interface LedgerLine {
  readonly device: string;
  readonly sent: number;
  readonly acknowledged: string;
}

export async function killRounds(options: KillOptions): Promise<KillReport> {
  const random = new Random(options.seed);
  const folder = mkdtempSync(join(tmpdir(), 'millrace-kill-'));
  const { preload, yaml = STREAM } = options;
  const sent = new Map<string, number>();
  const acknowledged = new Map<string, Set<number>>();
  let freshPassed = 0;
  let slowestPerSecond = Number.POSITIVE_INFINITY;
  const strike = options.strike ?? ((gateway) => gateway.end('SIGKILL').then(() => undefined));
  try {
    for (let round = 0; round < options.rounds; round++) {
      const gateway = await startGateway({ folder, yaml, ...(preload ? { preload } : undefined) });
      const ledger = join(folder, `ledger-${round}.ndjson`);
      const url = `mqtt://127.0.0.1:${gateway.mqttPort}`;
      const load = startSimulator('load', [
        ...['--url', url, '--connections', '20', '--in-flight', '50', '--rate', `${options.rate}/s`],
        ...['--duration', '60s', '--drain', '1s', '--client', `r${round}-`, '--ledger', ledger],
      ]);
      await sleep(800 + random.integer(0, 1_200));
      await strike(gateway, random);
      const { summary } = await load.ended;
      assert.notEqual(gateway.child.signalCode ?? gateway.child.exitCode, null, 'the gateway is gone');
      slowestPerSecond = Math.min(slowestPerSecond, summary.acknowledgedPerSecond ?? 0);
      for (const line of readFileSync(ledger, 'utf8').trim().split('\n')) {
        const entry = JSON.parse(line) as LedgerLine;
        sent.set(entry.device, entry.sent);
        acknowledged.set(entry.device, numbersOf(entry.acknowledged));
      }
      const again = await startGateway({ folder, yaml, ...(preload ? { preload } : undefined) });
      const fresh = startSimulator('load', [
        ...['--url', `mqtt://127.0.0.1:${again.mqttPort}`, '--connections', '1', '--messages', '1'],
        ...['--client', `fresh${round}-`, '--devices-per-connection', '1'],
      ]);
      if ((await fresh.ended).code === 0) freshPassed++;
      await again.end('SIGTERM');
    }
    return { ...(await compare(folder, sent, acknowledged)), rounds: options.rounds, freshPassed, slowestPerSecond };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function compare(folder: string, sent: Map<string, number>, acknowledged: Map<string, Set<number>>) {
  const reader = openSpoolReader({
    folder: join(folder, 'data/spool'),
    clock: systemClock,
    telemetry: silentTelemetry(),
  });
  const stored = new Map<string, Set<number>>();
  let [count, neverSent, altered, repeated] = [0, 0, 0, 0];
  const known = await reader.offsets(0);
  assert.ok(known.ok);
  for await (const batch of reader.range(0, known.value.firstOffset, known.value.endOffset)) {
    for (const record of batch.records) {
      if (record.kind !== 'reading' || record.key.startsWith('fresh')) continue;
      const text = Buffer.from(record.value).toString();
      const payload = /,"payload":(\{.*\})\}$/.exec(text)?.[1] ?? '';
      const { ts, seq } = JSON.parse(payload) as { ts: number; seq: number };
      count++;
      if (seq >= (sent.get(record.key) ?? 0)) neverSent++;
      if (payload !== payloadOf(ts, seq)) altered++;
      const numbers = stored.get(record.key) ?? new Set();
      if (numbers.has(seq)) repeated++;
      stored.set(record.key, numbers.add(seq));
    }
  }
  await reader.close();
  let [total, lost, example] = [0, 0, ''];
  for (const [device, numbers] of acknowledged) {
    for (const number of numbers) {
      total++;
      if (stored.get(device)?.has(number)) continue;
      if (lost++ === 0) example = `${device} ${number}`;
    }
  }
  const allSent = [...sent.values()].reduce((sum, each) => sum + each, 0);
  return {
    sent: allSent,
    acknowledged: total,
    stored: count,
    lost: { count: lost, example },
    neverSent,
    altered,
    repeated,
  };
}

/** `0-3,7` -> 0 1 2 3 7 */
function numbersOf(ranges: string): Set<number> {
  const numbers = new Set<number>();
  for (const range of ranges === '' ? [] : ranges.split(',')) {
    const [from, to] = range.split('-').map(Number);
    for (let number = from!; number <= (to ?? from!); number++) numbers.add(number);
  }
  return numbers;
}

/** The payload that the load generator makes of a counter: written here again, because an oracle shares no code. */
function payloadOf(ts: number, seq: number): string {
  const temperature = 15 + (seq % 150) / 10;
  return `{"ts":${ts},"seq":${seq},"temperature":${temperature},"humidity":${40 + (seq % 40)},"pressure":1013.25}`;
}

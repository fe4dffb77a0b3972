/**
 * What open live pages cost a gateway: throughput and CPU of one that runs every stage on the embedded default, flat out, with
 * none and with ten pages open. The load and the pages come from processes of their own; the pages ask for what the page in a
 * browser asks for (its files, the stream of events, the lists it looks at again), and read it.
 *
 *   npm run bench -- pages [--pages 10] [--seconds 6] [--rounds 8]
 *
 * The rounds alternate on the same gateway (without, with, with, without, ...), so that a noisy machine hits both alike. CPU is
 * that of the gateway alone, from /proc, until the rollup has read what the round published. The medians count.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type GatewayProcess, startGateway, startSimulator } from '../support/gateway-process.ts';
import { until } from '../support/until.ts';
import { median } from './median.ts';
import { cpuSeconds } from './rollup/process.ts';

const YAML = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    time: ts
    sequence: seq
    metrics: [temperature, humidity, pressure]
    windows: [10s, 1m, 15m, 1h]
`;
const VIEWER = fileURLToPath(new URL('./pages/viewer.mjs', import.meta.url));
const LOAD = ['--connections', '100', '--in-flight', '20', '--rate', '0/s'];
const WARM_SECONDS = 6;
const READ_MS = 60_000;

interface Round {
  readonly messagesPerSecond: number;
  readonly cpuSecondsPerMillion: number;
  readonly p99Ms: number;
}

interface Seen {
  readonly pages: number;
  readonly events: number;
  readonly bytes: number;
  readonly answers: number;
}

export async function run(args: string[]): Promise<object> {
  const { values } = parseArgs({
    args,
    options: {
      pages: { type: 'string', default: '10' },
      seconds: { type: 'string', default: '6' },
      rounds: { type: 'string', default: '8' },
    },
  });
  const [pages, seconds, pairs] = [values.pages, values.seconds, values.rounds].map(Number) as [number, number, number];
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-pages-'));
  const gateway = await startGateway({ folder, yaml: YAML });
  try {
    await round(gateway, WARM_SECONDS);
    const unwatched: Round[] = [];
    const watched: Round[] = [];
    const seen: Seen[] = [];
    for (let pair = 0; pair < pairs; pair++) {
      const first = pair % 2 === 0;
      if (first) unwatched.push(await round(gateway, seconds));
      const viewer = await openPages(gateway, pages);
      watched.push(await round(gateway, seconds));
      seen.push(await closePages(viewer));
      if (!first) unwatched.push(await round(gateway, seconds));
    }
    const [none, some] = [medians(unwatched), medians(watched)];
    return {
      pages,
      rounds: pairs,
      'no page': none,
      'pages open': some,
      cost: {
        throughput: percent(1 - some.messagesPerSecond / none.messagesPerSecond),
        cpu: percent(some.cpuSecondsPerMillion / none.cpuSecondsPerMillion - 1),
        throughputByPair: watched.map(({ messagesPerSecond }, i) =>
          percent(1 - messagesPerSecond / unwatched[i]!.messagesPerSecond),
        ),
        cpuByPair: watched.map(({ cpuSecondsPerMillion }, i) =>
          percent(cpuSecondsPerMillion / unwatched[i]!.cpuSecondsPerMillion - 1),
        ),
      },
      seen: seen.at(-1),
    };
  } finally {
    await gateway.end('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  }
}

async function round(gateway: GatewayProcess, seconds: number): Promise<Round> {
  const pid = gateway.child.pid!;
  const before = cpuSeconds(pid);
  const url = `mqtt://127.0.0.1:${gateway.mqttPort}`;
  const { code, summary } = await startSimulator('load', ['--url', url, ...LOAD, '--duration', `${seconds}s`]).ended;
  if (code !== 0) throw new Error(`the load ended with ${code}: ${JSON.stringify(summary)}`);
  const { acknowledged, seconds: spent, latencyMs } = summary as unknown as Load;
  await until(async () => (await gateway.metric('millrace_lag_records')) === 0, READ_MS, 'the rollup has read it');
  return {
    messagesPerSecond: acknowledged / spent,
    cpuSecondsPerMillion: ((cpuSeconds(pid) - before) * 1e6) / acknowledged,
    p99Ms: latencyMs.p99,
  };
}

interface Load {
  readonly acknowledged: number;
  readonly seconds: number;
  readonly latencyMs: { readonly p99: number };
}

async function openPages(gateway: GatewayProcess, pages: number): Promise<ChildProcess> {
  const url = `http://127.0.0.1:${gateway.httpPort}`;
  const viewer = spawn(process.execPath, [VIEWER, url, String(pages)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(viewer, 'exit').then(([code]) => [`the pages ended with ${code}`]);
  const [line] = (await Promise.race([once(viewer.stdout!, 'data'), ended])) as [Buffer | string];
  if (line.toString().trim() !== 'open') throw new Error(`the pages were not opened: ${line}`);
  return viewer;
}

/** Fails when they were closed before: then nothing was measured. */
async function closePages(viewer: ChildProcess): Promise<Seen> {
  if (viewer.exitCode !== null) throw new Error(`the pages ended with ${viewer.exitCode} while they should be open`);
  const said = once(viewer.stdout!, 'data') as Promise<[Buffer]>;
  viewer.kill('SIGTERM');
  const [line] = await said;
  return JSON.parse(line.toString()) as Seen;
}

function medians(rounds: readonly Round[]): Round {
  const middle = (key: keyof Round) => Number(median(rounds.map((one) => one[key])).toPrecision(4));
  return {
    messagesPerSecond: middle('messagesPerSecond'),
    cpuSecondsPerMillion: middle('cpuSecondsPerMillion'),
    p99Ms: middle('p99Ms'),
  };
}

function percent(share: number): number {
  return Number((share * 100).toFixed(1));
}

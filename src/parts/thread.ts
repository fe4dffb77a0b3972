/**
 * Entry of a worker thread: runs one part of the pipeline until it is told to stop. Messages: see threads.ts.
 * The part's numbers go to the main thread once a second and at the end; its logs go to stderr themselves.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { startTelemetry } from '../logger.ts';
import type { FromThread, Part, ThreadData, ToThread } from './threads.ts';

/** Each loads what it needs and no more: a language and its model alone are tens of megabytes. */
const STARTS = {
  forward: async () => (await import('./forward.ts')).startForwardPart,
  rollup: async () => (await import('./rollup.ts')).startRollupPart,
  understand: async () => (await import('./understand.ts')).startUnderstandPart,
} as const;
const METRICS_EVERY_MS = 1_000;

const data = workerData as ThreadData;
const port = parentPort!;
const say = (message: FromThread) => port.postMessage(message);
const { logLevel: level, pretty, config } = data;
const telemetry = startTelemetry({ level, pretty, name: data.part, linesPerSecond: config.log.linesPerSecond });

telemetry.watchEventLoop(data.part);

const startPart = await STARTS[data.part]();
const part: Part = await startPart(data, telemetry, say);

async function report(): Promise<void> {
  say({ type: 'metrics', metrics: await telemetry.snapshot(), status: part.status() });
}

const reports = setInterval(() => void report(), METRICS_EVERY_MS);
port.on('message', async (message: ToThread) => {
  if (message.type === 'question') {
    const found = message.about === 'running' ? part.running?.(message.query) : part.forecasts?.(message.query);
    say({ type: 'answer', question: message.question, found: found ?? [] });
    return;
  }
  if (message.type === 'appended') {
    part.appended?.(message.request, message.outcome);
    return;
  }
  clearInterval(reports);
  await part.stop();
  telemetry.finishLog();
  await report();
  say({ type: 'stopped' });
  port.close();
});
say({ type: 'ready' });

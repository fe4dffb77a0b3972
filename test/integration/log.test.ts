/** What the running program writes to stderr: next to nothing while all is well, and no more than its limit when nothing is. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { freePort } from '../../src/torture/program.ts';
import { type GatewayProcess, runMillrace, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { until } from '../support/until.ts';

const STREAMS = `rollup: { grace: 1s, disorder: 100ms, tick: 200ms, flush: 200ms }
streams: { s: { topic: "s/{device}", time: ts, metrics: [v], windows: [1s] } }
`;

describe('What the program logs', function () {
  this.timeout(60_000);
  let folder: string;
  let gateway: GatewayProcess | null;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-log-'));
    gateway = null;
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.log(gateway?.log());
    await gateway?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  const lines = () =>
    gateway!
      .log()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { msg: string; level: number; part: string });

  it('is its start and its stop, and nothing between while a thousand readings, a refusal and a disconnect pass', async () => {
    gateway = await startGateway({ folder, yaml: STREAMS });
    const client = await RawClient.connected(gateway.mqttPort);
    for (let id = 1; id <= 1_000; id++) {
      client.publish(`s/d${id}`, `{"ts":${systemClock.nowMs()},"v":${id}}`, 1, id);
      if (id % 50 === 0) await client.until('puback', id);
    }
    client.publish('s/d1', 'not JSON', 1, 1_001);
    await client.until('puback', 1_001);
    client.end();
    await until(async () => (await gateway!.metric('millrace_counted_total')) === 1_000, 20_000, 'all are counted');
    await until(async () => (await gateway!.metric('millrace_rows_written_total')) > 0, 20_000, 'rows are written');
    assert.equal(await gateway.end('SIGTERM'), 0);
    assert.deepEqual(
      lines().map(({ msg, level }) => [msg, level]),
      [
        ['started', 30],
        ['stopped', 30],
      ],
    );
  });

  it('stays below log.lines_per_second at its most talkative, and says at the end how much it left out', async () => {
    const kafka = `kafka: { brokers: ["127.0.0.1:${await freePort()}"] }\n`;
    const yaml = `log: { lines_per_second: 1 }\n${kafka}${STREAMS}`;
    gateway = await startGateway({ folder, yaml, env: { LOG_LEVEL: 'debug' } });
    const suppressed = () => gateway!.metric('millrace_log_lines_suppressed_total');
    await until(async () => (await suppressed()) > 5, 30_000, 'lines are left out');
    assert.equal(await gateway.end('SIGTERM'), 0);
    const ends = lines().filter(({ msg }) => /^\d+ log lines suppressed$/.test(msg));
    assert.ok(
      ends.length > 0 && new Set(ends.map(({ part }) => part)).size === ends.length,
      'one at the end of a thread',
    );
    assert.equal(lines().at(-1)?.msg, 'stopped');
  });

  it('has a fatal line as its last when the process ends of a bug, with what was thrown', async () => {
    const preload = 'data:text/javascript,process.on("SIGUSR2",()=>{throw new Error("planted")})';
    gateway = await startGateway({ folder, yaml: STREAMS, preload });
    assert.notEqual(await gateway.end('SIGUSR2'), 0);
    const fatal = gateway
      .log()
      .split('\n')
      .find((line) => line.startsWith('{"level":60'));
    assert.equal(JSON.parse(fatal ?? '{}').err?.message, 'planted');
  });

  it('has a level of LOG_LEVEL, and a wrong one is said with those there are before anything starts', async () => {
    gateway = await startGateway({ folder, yaml: STREAMS, env: { LOG_LEVEL: 'warn' } });
    assert.equal(await gateway.end('SIGTERM'), 0);
    assert.equal(gateway.log(), '');
    const run = ['run', '--config', join(folder, 'all.yaml')];
    const { code, err } = await runMillrace(run, { env: { LOG_LEVEL: 'loud' } });
    assert.equal(code, 2);
    assert.match(err, /LOG_LEVEL=loud is not a level; it is one of fatal, error, warn, info/);
  });
});

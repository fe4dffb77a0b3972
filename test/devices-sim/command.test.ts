import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startBroker, type TestBroker } from './broker.ts';

const MAIN = fileURLToPath(new URL('../../devices-sim/main.ts', import.meta.url));
const LOAD = fileURLToPath(new URL('../../devices-sim/load.ts', import.meta.url));

let broker: TestBroker;
let folder: string;
/** A broker and a folder for each test of the suite that calls this. */
function withBrokerAndFolder(): void {
  beforeEach(async () => {
    broker = await startBroker();
    folder = await mkdtemp(join(tmpdir(), 'sim-'));
  });
  afterEach(async () => {
    await broker.close();
    await rm(folder, { recursive: true });
  });
}

function start(file: string, ...args: string[]) {
  const child = spawn(process.execPath, ['--import=tsx', file, ...args]);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { child, ended };
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, 'waited too long');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('The simulator’s command line', () => {
  withBrokerAndFolder();
  it('runs, keeps a ledger, ends with one JSON object and exit code 0', async () => {
    const ledger = join(folder, 'ledger.ndjson');
    const flags = ['--devices', '3', '--rate', '50/s', '--duration', '300ms', '--duplicates', '0.5', '--json'];
    const { code, stdout, stderr } = await start(MAIN, '--url', broker.url, ...flags, '--ledger', ledger).ended;
    assert.equal(code, 0, stderr);
    const summary = JSON.parse(stdout);
    assert.equal(summary.acknowledged, summary.published);
    assert.ok(summary.byFault.duplicate > 0);
    const entries = (await readFile(ledger, 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.equal(entries.filter((entry) => entry.event === 'sent').length, broker.received.length);
    assert.equal(entries.filter((entry) => entry.event === 'acknowledged').length, summary.acknowledged);
  });

  it('drains on SIGINT and exits with 0', async () => {
    const { child, ended } = start(MAIN, '--url', broker.url, '--rate', '50/s', '--duration', '10m', '--json');
    await until(() => broker.received.length > 50);
    child.kill('SIGINT');
    const { code, stdout } = await ended;
    assert.equal(code, 0);
    const summary = JSON.parse(stdout);
    assert.ok(summary.published > 50);
    assert.equal(summary.unacknowledged, 0);
  });

  it('exits with 1 when something was not acknowledged, and 2 for a wrong command line', async () => {
    broker.answer = () => false;
    const flags = ['--devices', '1', '--rate', '50', '--duration', '200ms', '--drain', '100ms'];
    const unanswered = await start(MAIN, '--url', broker.url, ...flags).ended;
    const tooMuch = await start(MAIN, '--late', '0.7', '--gaps', '0.7').ended;
    assert.equal(unanswered.code, 1);
    assert.match(unanswered.stdout, /0 acknowledged/);
    assert.equal(tooMuch.code, 2);
    assert.match(tooMuch.stderr, /must not add up to more than 1/);
  });
});

describe('The load generator’s command line', () => {
  withBrokerAndFolder();
  it('prints its result and writes its ledger, also when the server dies', async () => {
    broker.answer = () => {
      if (broker.received.length === 300) setImmediate(() => broker.cut());
      return true;
    };
    const ledger = join(folder, 'load.ndjson');
    const flags = ['--connections', '2', '--in-flight', '5', '--duration', '20s', '--ledger', ledger];
    const { code, stdout, stderr } = await start(LOAD, '--url', broker.url, ...flags).ended;
    assert.equal(code, 1, stderr);
    const result = JSON.parse(stdout);
    assert.equal(result.ended, 'disconnected');
    const lines = (await readFile(ledger, 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.equal(lines.length, 20);
    assert.equal(
      lines.reduce((sum, { sent }) => sum + sent, 0),
      result.sent,
    );
    assert.match(lines[0].acknowledged, /^0-\d+/);
  });
});

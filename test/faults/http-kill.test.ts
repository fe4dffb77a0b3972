/**
 * kill -9 under HTTP load: every reading of which a 202 says that it was accepted is in the log afterwards. Struck at a
 * random instant, and at an answer: the gateway dies the instant that a 202 has left it (die-at-ack.mjs knows the answer by
 * the reason of a refused message in the same request), so that what was acknowledged too early is not yet on the disk.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/clock.ts';
import { freePort } from '../../src/torture/program.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { Random } from '../support/random.ts';
import { until } from '../support/until.ts';
import { STREAM, storedIn } from './kill.ts';
import { type Comparison, Ledger, payloadOf } from './ledger.ts';

const ROUNDS = Number(process.env.MILLRACE_KILL_ROUNDS ?? (process.env.CI ? 2 : 1));
const SEED = Number(process.env.MILLRACE_KILL_SEED ?? Date.now() % 1_000_000);
const DIE_AT_ACK = fileURLToPath(new URL('die-at-ack.mjs', import.meta.url));
const EARLY_ACK = fileURLToPath(new URL('early-ack.mjs', import.meta.url));
const SENDERS = 8;
const BATCH = 25;
const FLOWING = 1_000;

interface Answer {
  readonly status: number;
  readonly accepted: number;
  readonly refused: readonly { readonly index: number; readonly reason: string }[];
}

async function post(port: number, device: string, messages: readonly string[]): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}/ingest/sensors/kill/${device}/environment`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: messages.join('\n'),
  });
  return { status: response.status, ...((await response.json()) as Omit<Answer, 'status'>) };
}

/** Sends batch after batch until the gateway is gone, and writes down what was acknowledged. */
async function send(port: number, device: string, ledger: Ledger): Promise<void> {
  for (let seq = 0; ; seq += BATCH) {
    const batch = Array.from({ length: BATCH }, (_, i) => payloadOf(systemClock.nowMs(), seq + i));
    for (let i = 0; i < BATCH; i++) ledger.add(device, seq + i, false);
    let answer: Answer;
    try {
      answer = await post(port, device, batch);
    } catch {
      return;
    }
    assert.deepEqual([answer.status, answer.accepted], [202, BATCH]);
    for (let i = 0; i < BATCH; i++) ledger.add(device, seq + i, true);
  }
}

async function killRounds(strikes: readonly ('random' | 'answer')[], preload: readonly string[] = []) {
  const random = new Random(SEED);
  const folder = mkdtempSync(join(tmpdir(), 'millrace-http-kill-'));
  const ledger = new Ledger();
  let fresh = 0;
  let port = 0;
  const start = async (): Promise<GatewayProcess> => {
    port = await freePort();
    return startGateway({ folder, yaml: `ingest: { port: ${port} }\n${STREAM}`, preload: [DIE_AT_ACK, ...preload] });
  };
  let gateway = await start();
  try {
    for (const [round, strike] of strikes.entries()) {
      const senders = Array.from({ length: SENDERS }, (_, i) => send(port, `r${round}-${i}`, ledger));
      const acknowledged = () => gateway.metric('millrace_acknowledged_total');
      await until(async () => (await acknowledged()) >= FLOWING, 60_000, 'the load flows');
      if (strike === 'random') {
        await sleep(random.integer(0, 500));
        await gateway.end('SIGKILL');
      } else {
        const device = `probe${round}`;
        const marked = `{"ts":${systemClock.nowMs()},"temperature":"die-at-202"}`;
        ledger.add(device, 0, false);
        const answer = await post(port, device, [payloadOf(systemClock.nowMs(), 0), marked]);
        assert.deepEqual([answer.status, answer.accepted, answer.refused.length], [202, 1, 1]);
        ledger.add(device, 0, true);
        await until(() => gateway.child.signalCode === 'SIGKILL', 60_000, 'the gateway has died by itself');
      }
      await Promise.all(senders);
      gateway = await start();
      ledger.add(`fresh${round}`, 0, false);
      const { status } = await post(port, `fresh${round}`, [payloadOf(systemClock.nowMs(), 0)]);
      ledger.add(`fresh${round}`, 0, status === 202);
      if (status === 202) fresh++;
    }
    await gateway.end('SIGTERM');
    const report: Comparison = (await storedIn(folder)).compare(ledger);
    return { report, fresh };
  } finally {
    await gateway.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('A gateway under HTTP load', function () {
  this.timeout(120_000 + ROUNDS * 30_000);

  it(`loses nothing of which a 202 said that it was accepted, over ${2 * ROUNDS} kill -9 (seed ${SEED})`, async () => {
    const strikes = Array.from({ length: ROUNDS }, () => ['random', 'answer'] as const).flat();
    const { report, fresh } = await killRounds(strikes);
    assert.ok(report.acknowledged >= FLOWING * strikes.length);
    assert.equal(report.lost.count, 0, `acknowledged and not stored, such as ${report.lost.example}`);
    assert.deepEqual([report.neverSent, report.altered, report.disordered], [0, 0, 0]);
    assert.equal(fresh, strikes.length, 'a fresh message passes after each restart');
  });

  it('is caught when it answers 50 ms early', async () => {
    const { report } = await killRounds(['answer'], [EARLY_ACK]);
    assert.ok(report.lost.count > 0, 'the planted bug went unnoticed');
  });
});

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type KillReport, killRounds } from './kill.ts';

/** `MILLRACE_KILL_ROUNDS=30 npx mocha test/faults/kill.test.ts` for the long form. */
const ROUNDS = Number(process.env.MILLRACE_KILL_ROUNDS ?? 3);
const SEED = Number(process.env.MILLRACE_KILL_SEED ?? Date.now() % 1_000_000);
const RATE = 12_000;
const EARLY_ACK = fileURLToPath(new URL('early-ack.mjs', import.meta.url));

function holds(report: KillReport, context: string): void {
  assert.ok(report.acknowledged > 100 * report.rounds, `${context}: the generator had acknowledgements`);
  assert.equal(report.lost.count, 0, `${context}: acknowledged and not stored, such as ${report.lost.example}`);
  assert.equal(report.neverSent, 0, `${context}: stored and never sent`);
  assert.equal(report.altered, 0, `${context}: payloads altered`);
  assert.equal(report.freshPassed, report.rounds, `${context}: a fresh message passes after each restart`);
}

describe('A gateway under load', function () {
  this.timeout(60_000 + ROUNDS * 20_000);
  const context = `MILLRACE_KILL_SEED=${SEED}`;

  it(`loses nothing acknowledged over ${ROUNDS} kill -9 at random instants (seed ${SEED})`, async () => {
    const report = await killRounds({ seed: SEED, rounds: ROUNDS, rate: RATE });
    holds(report, context);
    console.log(`      ${JSON.stringify(report)}`);
  });

  it('is caught by the same harness when it acknowledges 50 ms early', async () => {
    const report = await killRounds({ seed: SEED, rounds: 2, rate: RATE, preload: EARLY_ACK });
    assert.ok(report.lost.count > 0, `${context}: the planted bug went unnoticed`);
  });

  it('goes on after SIGSTOP for 3 s as if nothing had happened, and loses nothing at the kill after it', async () => {
    const report = await killRounds({
      seed: SEED,
      rounds: 1,
      rate: RATE,
      strike: async (gateway) => {
        const before = await gateway.metric('millrace_acknowledged_total');
        gateway.child.kill('SIGSTOP');
        await sleep(3_000);
        gateway.child.kill('SIGCONT');
        for (;;) {
          if ((await gateway.metric('millrace_acknowledged_total')) > before + 1_000) break;
          await sleep(20);
        }
        await gateway.end('SIGKILL');
      },
    });
    holds(report, context);
  });

  it('loses and repeats nothing at a SIGTERM under load, and exits with 0', async () => {
    let code: unknown;
    const report = await killRounds({
      seed: SEED,
      rounds: 1,
      rate: RATE,
      strike: async (gateway) => {
        code = await gateway.end('SIGTERM');
      },
    });
    holds(report, context);
    assert.equal(code, 0);
    assert.equal(report.repeated, 0);
    assert.equal(report.stored, report.acknowledged, 'what is stored was acknowledged');
  });
});

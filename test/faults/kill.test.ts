import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { GatewayProcess } from '../support/gateway-process.ts';
import { needTime } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { holds, killRounds } from './kill.ts';

/** `MILLRACE_KILL_ROUNDS=30 npx mocha test/faults/kill.test.ts` for the long form. */
const ROUNDS = Number(process.env.MILLRACE_KILL_ROUNDS ?? (process.env.CI ? 3 : 1));
const LONG = ROUNDS > 3;
const SEED = Number(process.env.MILLRACE_KILL_SEED ?? Date.now() % 1_000_000);
const RATE = 10_000;
const EARLY_ACK = fileURLToPath(new URL('early-ack.mjs', import.meta.url));

describe('A gateway under load', function () {
  this.timeout(120_000 + ROUNDS * 30_000);
  const context = `MILLRACE_KILL_SEED=${SEED}`;

  it(`loses nothing acknowledged over ${ROUNDS} kill -9 at random instants and at acknowledgements (seed ${SEED})`, async () => {
    const report = await killRounds({ seed: SEED, rounds: ROUNDS, rate: RATE });
    if (LONG) console.log(`      ${JSON.stringify(report)}`);
    holds(report, context);
  });

  const twins = LONG ? 10 : 1;
  it(`is caught by the same harness, every time, when it acknowledges 50 ms early${LONG ? `, ${twins} times` : ''}`, async () => {
    const report = await killRounds({ seed: SEED, rounds: twins, rate: RATE, preload: EARLY_ACK, sharp: true });
    if (LONG) console.log(`      ${JSON.stringify(report)}`);
    assert.equal(report.roundsWithLoss, twins, `${context}: the planted bug went unnoticed`);
  });

  for (const seconds of LONG ? [3, 20] : [3]) {
    it(`goes on after SIGSTOP for ${seconds} s as if nothing had happened, and loses nothing at the kill after it`, async function () {
      if (!LONG) needTime(this);
      const acknowledged = (gateway: GatewayProcess) => gateway.metric('millrace_acknowledged_total');
      const report = await killRounds({
        seed: SEED,
        rounds: 1,
        rate: RATE,
        strike: async (gateway) => {
          const before = await acknowledged(gateway);
          gateway.child.kill('SIGSTOP');
          await sleep(seconds * 1_000);
          gateway.child.kill('SIGCONT');
          await until(async () => (await acknowledged(gateway)) > before + 1_000, 60_000, 'it acknowledges again');
          await gateway.end('SIGKILL');
        },
      });
      holds(report, context);
    });
  }

  const stops = LONG ? 10 : 1;
  it(`loses and repeats nothing at a SIGTERM under load, and exits with 0${LONG ? `, ${stops} times` : ''}`, async () => {
    const codes: unknown[] = [];
    const report = await killRounds({
      seed: SEED,
      rounds: stops,
      rate: RATE,
      strike: async (gateway, random) => {
        await sleep(random.integer(0, 300));
        codes.push(await gateway.end('SIGTERM'));
      },
    });
    holds(report, context);
    assert.deepEqual(codes, Array(stops).fill(0));
    assert.equal(report.repeated, 0);
    assert.equal(report.stored, report.acknowledged, 'what is stored was acknowledged');
  });
});

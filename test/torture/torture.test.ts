/**
 * `millrace torture` as its users run it, on the embedded defaults, and two builds with a planted bug, which must be
 * caught. All of them: `CI=true MILLRACE_MUTANTS=all npx mocha test/torture/torture.test.ts`.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { MUTANTS } from '../../src/cli/torture-plant.ts';
import type { TortureReport } from '../../src/torture/report.ts';
import { verdictOf } from '../../src/torture/report.ts';
import { runMillrace } from '../support/gateway-process.ts';
import { needTime } from '../support/servers.ts';

const MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const SEED = Number(process.env.MILLRACE_TORTURE_SEED ?? Date.now() % 1_000_000);

describe('millrace torture', function () {
  this.timeout(300_000);

  async function torture(...args: string[]): Promise<{ code: number | null; report: TortureReport }> {
    const { code, out, err } = await runMillrace(['torture', '--seed', String(SEED), '--json', ...args]);
    assert.ok(out.startsWith('{'), `${out}\n${err}`);
    return { code, report: JSON.parse(out) };
  }

  it(`finds every claim true on a short run in which every fault happened (seed ${SEED})`, async function () {
    needTime(this);
    const { code, report } = await torture('--minutes', '0.5');
    const { verdict, missing, claims } = report;
    const shown = JSON.stringify({ missing, false: claims.filter(({ held }) => !held) });
    assert.equal(verdict, 'held', shown);
    assert.equal(code, 0);
    const names = report.faults.filter(({ count }) => count > 0).map(({ name }) => name);
    for (const name of [
      'kill-gateway',
      'stop-gateway',
      'restart-gateway',
      'cut-devices',
      'flood',
      'duplicates',
      'clocks',
    ]) {
      assert.ok(names.includes(name), `${name} is among ${names}`);
    }
    assert.equal(claims.length, 9);
    assert.ok(report.acknowledged > 1_000 && report.rows > 100);
  });

  // Those that leak: soak.test.ts.
  const all = Object.keys(MUTANTS).filter((name) => !MUTANTS[name]!.needsSoak);
  const mutants = process.env.MILLRACE_MUTANTS === 'all' ? all : ['early-ack', 'no-dedupe'];
  // Two at a time: a torture waits more than it works.
  for (let first = 0; first < mutants.length; first += 2) {
    const pair = mutants.slice(first, first + 2);
    it(`catches the planted bugs ${pair.map((name) => `${name} (${MUTANTS[name]!.text})`).join(' and ')}`, async function () {
      needTime(this);
      const ends = await Promise.all(pair.map((name) => torture('--minutes', '0.2', '--mutant', name)));
      for (const { code, report } of ends) {
        assert.equal(report.verdict, 'broken', JSON.stringify(report));
        assert.equal(code, 0);
      }
    });
  }

  it('is inconclusive, with an exit code of its own, when it is ended before every fault has happened', async () => {
    const child = spawn(process.execPath, [MAIN, 'torture', '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
    let [out, err] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      // It says what it does: devices publish from here on.
      if (err === '') setTimeout(() => child.kill('SIGINT'), 2_000);
      err += text;
    });
    const [code] = await once(child, 'close');
    assert.equal(code, 3, err);
    const report: TortureReport = JSON.parse(out);
    assert.equal(report.verdict, 'inconclusive', out);
    assert.ok(report.missing.includes('the run was ended early'));
  });

  it('never calls a run held in which a fault is missing or a claim was about nothing', () => {
    const claim = { name: 'a', text: 'A', held: true, checked: 1, unit: 'x', findings: 0, examples: [], note: '' };
    assert.equal(verdictOf([claim], []), 'held');
    assert.equal(verdictOf([claim], ['did not happen: kill']), 'inconclusive');
    assert.equal(verdictOf([{ ...claim, held: false, checked: 0 }], []), 'inconclusive');
    assert.equal(verdictOf([{ ...claim, held: false, findings: 1 }], ['did not happen: kill']), 'broken');
  });

  it('says what is wrong with its command line', async () => {
    const wrong: [string[], RegExp][] = [
      [['--minutes', 'x'], /--minutes x is not a number above 0/],
      [['--minutes', '61', '--soak'], /--minutes 61 is not a number above 0 and up to 60/],
      [['--seed', '-1'], /--seed -1 is not an integer from 0/],
      [['--mutant', 'nothing'], /--mutant nothing is not known[\s\S]*early-ack[\s\S]*no-dedupe/],
      [['--config', 'missing.yaml'], /missing\.yaml/],
    ];
    for (const [args, message] of wrong) {
      const { code, err } = await runMillrace(['torture', ...args]);
      assert.equal(code, 2, err);
      assert.match(err, message);
    }
  });
});

/**
 * `millrace torture --soak` as its users run it, for three minutes: against the real servers where there are some, else on
 * the embedded defaults; and two builds that leak, which must be caught.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TortureReport } from '../../src/torture/report.ts';
import { runMillrace } from '../support/gateway-process.ts';
import { needTime } from '../support/servers.ts';

const MINUTES = process.env.MILLRACE_SOAK_MINUTES ?? '3';
const SOAK_CLAIMS = ['memory-flat', 'resident-flat', 'handles-flat', 'keeps-up'];
const { MILLRACE_TEST_KAFKA, MILLRACE_TEST_INFLUX, MILLRACE_TEST_INFLUX_TOKEN } = process.env;

describe('millrace torture --soak', function () {
  this.timeout((Number(MINUTES) + 4) * 60_000);
  let folder: string;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-soak-test-'));
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  async function soak(...args: string[]): Promise<{ code: number | null; report: TortureReport }> {
    const { code, out, err } = await runMillrace(['torture', '--soak', '--json', ...args]);
    assert.ok(out.startsWith('{'), `${out}\n${err}`);
    return { code, report: JSON.parse(out) };
  }

  function servers(): string[] {
    if (!MILLRACE_TEST_KAFKA || !MILLRACE_TEST_INFLUX) return [];
    const file = join(folder, 'servers.yaml');
    const influx = `{ url: "${MILLRACE_TEST_INFLUX}", org: millrace, token: "${MILLRACE_TEST_INFLUX_TOKEN}", bucket: soak }`;
    const stream = '{ topic: "sensors/{device}", metrics: [a], windows: [10s] }';
    writeFileSync(
      file,
      `kafka: { brokers: ["${MILLRACE_TEST_KAFKA}"] }\ninflux: ${influx}\nstreams:\n  environment: ${stream}\n`,
    );
    return ['--config', file];
  }

  it(`finds nothing that grows in ${MINUTES} minutes of steady load and mild faults, and every claim true`, async function () {
    needTime(this);
    const { code, report } = await soak('--minutes', MINUTES, ...servers());
    const notes = report.claims.map(({ name, held, note, examples }) => ({ name, held, note, examples }));
    assert.equal(report.verdict, 'held', JSON.stringify({ missing: report.missing, notes }));
    assert.equal(code, 0);
    for (const { name, held, note } of notes) {
      if (SOAK_CLAIMS.includes(name)) console.log(`      ${name} ${held}: ${note}`);
    }
    assert.deepEqual(
      report.claims.slice(0, 4).map(({ name }) => name),
      SOAK_CLAIMS,
    );
    assert.equal(report.claims.length, 13);
    assert.ok(report.soak && report.acknowledged > 3_000 && report.rows > 100);
    const struck = report.faults.filter(({ count }) => count > 0).map(({ name }) => name);
    for (const name of ['live-pages', 'cut-devices', 'duplicates', 'malformed', 'flapping']) {
      assert.ok(struck.includes(name), `${name} is among ${struck}`);
    }
    assert.ok(!struck.includes('kill-gateway'));
  });

  it('catches what keeps every payload and what leaves files open, in less than a minute', async function () {
    needTime(this);
    const wrongOf = async (mutant: string): Promise<string[]> => {
      const { code, report } = await soak('--minutes', '0.75', '--mutant', mutant);
      assert.equal(code, 0, JSON.stringify(report));
      return report.claims.filter(({ findings }) => findings > 0).map(({ name }) => name);
    };
    const [kept, open] = await Promise.all([wrongOf('keep-payloads'), wrongOf('leak-handles')]);
    assert.ok(kept.includes('memory-flat') && !kept.includes('handles-flat'), kept.join());
    assert.ok(open.includes('handles-flat') && !open.includes('memory-flat'), open.join());
  });

  it('plants a leak only where it looks for leaks', async () => {
    const { code, err } = await runMillrace(['torture', '--mutant', 'leak-handles']);
    assert.equal(code, 2, err);
    assert.match(err, /--mutant leak-handles shows only over time: give --soak/);
  });
});

/** The first five minutes: init, check, run, simulate, and rows appear. Nothing but the ports is changed. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/clock.ts';
import { freePort } from '../../src/torture/program.ts';
import { runMillrace } from '../support/gateway-process.ts';
import { until } from '../support/until.ts';

const MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));

describe('A first configuration', function () {
  this.timeout(90_000);
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-init-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is written by init, is valid, runs at once, and has rows after the simulator has run', async () => {
    const plant = join(folder, 'plant');
    const file = join(plant, 'millrace.yaml');
    const written = await runMillrace(['init', 'plant'], { cwd: folder });
    assert.equal(written.code, 0, written.err);
    assert.match(written.out, /millrace run --config plant\/millrace\.yaml/);
    assert.equal((await runMillrace(['check', '--config', file])).code, 0);

    const [mqtt, http] = [await freePort(), await freePort()];
    writeFileSync(
      file,
      readFileSync(file, 'utf8').replace('port: 1883', `port: ${mqtt}`).replace('port: 8080', `port: ${http}`),
    );
    const gateway = spawn(process.execPath, [MAIN, 'run', '--config', file], { stdio: 'ignore' });
    try {
      const get = async (path: string) => (await fetch(`http://127.0.0.1:${http}${path}`)).text();
      await until(
        () =>
          get('/livez').then(
            () => true,
            () => false,
          ),
        30_000,
        'it listens',
      );
      const args = ['--config', file, '--profile', join(plant, 'simulator.yaml'), '--for', '2s', '--json'];
      const simulated = await runMillrace(['simulate', ...args]);
      assert.equal(simulated.code, 0, simulated.err);
      const { published, acknowledged } = JSON.parse(simulated.out) as { published: number; acknowledged: number };
      assert.ok(published >= 20);
      assert.equal(acknowledged, published);
      const query = `/api/v1/rows?stream=environment&window=10s&metric=temperature&from=0&to=${systemClock.nowMs() + 60_000}`;
      await until(
        async () => {
          const rows = (await get(query))
            .trim()
            .split('\n')
            .filter(Boolean)
            .map((line) => JSON.parse(line) as { count: number; tags: Record<string, string> });
          return (
            rows.reduce((sum, { count }) => sum + count, 0) === published &&
            rows.some(({ tags }) => tags.room === 'cold store')
          );
        },
        45_000,
        'every reading is in a final row, with the tags of the registry',
      );
    } finally {
      gateway.kill('SIGTERM');
      await new Promise((resolve) => gateway.once('exit', resolve));
    }
  });

  it('is not written over files that are there', async () => {
    writeFileSync(join(folder, 'devices.csv'), 'mine');
    const { code, err } = await runMillrace(['init', folder]);
    assert.equal(code, 2);
    assert.match(err, /devices\.csv exists; nothing was written/);
    assert.equal(readFileSync(join(folder, 'devices.csv'), 'utf8'), 'mine');
  });
});

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lockFolder } from '../../src/journal/folder-lock.ts';
import { mustBeOk } from './spool-fixture.ts';

const SOURCE = new URL('../../src/journal/folder-lock.ts', import.meta.url).href;

/** With the program that calls flock(2), and as where there is none. */
for (const [name, flockCommand] of [
  ['flock', 'flock'],
  ['the owner file', 'no-such-program'],
] as const) {
  describe(`the folder lock by ${name}`, () => {
    let folder: string;
    let holder: ChildProcess | null = null;

    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'millrace-lock-'));
    });

    afterEach(async () => {
      holder?.kill('SIGKILL');
      holder = null;
      await rm(folder, { recursive: true });
    });

    /** Another process that takes the lock and keeps it. */
    async function lockedElsewhere(): Promise<number> {
      const script = `
        const { lockFolder } = await import(${JSON.stringify(SOURCE)});
        const outcome = await lockFolder(${JSON.stringify(folder)}, { flockCommand: ${JSON.stringify(flockCommand)} });
        console.log(outcome.ok ? 'locked' : outcome.failure.message);
        setInterval(() => {}, 1000);`;
      const args = ['--import', 'tsx', '--input-type=module', '-e', script];
      holder = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      const [said] = await once(holder.stdout!, 'data');
      assert.equal(String(said).trim(), 'locked');
      return holder.pid!;
    }

    it('lets a second one in this process wait, and lets it in after the release', async () => {
      const first = mustBeOk(await lockFolder(folder, { flockCommand }));
      const second = await lockFolder(folder, { flockCommand });
      assert.ok(!second.ok);
      assert.equal(second.failure.code, 'DATA_LOCKED');
      assert.match(second.failure.message, new RegExp(`process ${process.pid}\\b`));
      await first.release();
      await mustBeOk(await lockFolder(folder, { flockCommand })).release();
    });

    it('names the process that has it', async () => {
      const pid = await lockedElsewhere();
      const outcome = await lockFolder(folder, { flockCommand });
      assert.ok(!outcome.ok);
      assert.equal(outcome.failure.code, 'DATA_LOCKED');
      assert.match(outcome.failure.message, new RegExp(`process ${pid}\\b`));
    });

    it('ends with the process, also by kill -9', async () => {
      await lockedElsewhere();
      assert.ok(!(await lockFolder(folder, { flockCommand })).ok);
      holder!.kill('SIGKILL');
      await once(holder!, 'exit');
      await mustBeOk(await lockFolder(folder, { flockCommand })).release();
    });

    it('lets exactly one of many in', async () => {
      const outcomes = await Promise.all(Array.from({ length: 8 }, () => lockFolder(folder, { flockCommand })));
      const held = outcomes.filter((outcome) => outcome.ok);
      assert.equal(held.length, 1);
      for (const outcome of outcomes) if (!outcome.ok) assert.equal(outcome.failure.code, 'DATA_LOCKED');
      for (const outcome of outcomes) if (outcome.ok) await outcome.value.release();
    });
  });
}

describe('the owner file of the folder lock', () => {
  const flockCommand = 'no-such-program';

  it('is stale when the process id belongs to another process now', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-lock-'));
    const path = join(folder, 'lock.owner');
    const lock = mustBeOk(await lockFolder(folder, { flockCommand }));
    const owner = await readFile(path, 'utf8');
    await lock.release();
    for (const stale of [owner.replace(/\d+$/, (ticks) => String(Number(ticks) - 1)), '', 'rubbish', '999999999 a b']) {
      await writeFile(path, stale);
      await mustBeOk(await lockFolder(folder, { flockCommand })).release();
    }
    await rm(folder, { recursive: true });
  });
});

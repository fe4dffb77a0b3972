/** The spool on a disk that is really full: a small tmpfs of its own, where mounting one is possible. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, statfs, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeFiles } from '../../src/journal/files.ts';
import { leaveOut } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { append, numberOf, opened, readEverything, readerOf, recordsOf } from './spool-fixture.ts';

const DISK_BYTES = 8 * 2 ** 20;
const BALLAST_BYTES = 4 * 2 ** 20;

describe('the spool on a full disk', () => {
  let mount = '';

  before(async function () {
    mount = await mkdtemp(join(tmpdir(), 'millrace-full-'));
    const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', mount]);
    if (status === 0) return;
    await rm(mount, { recursive: true });
    mount = '';
    leaveOut(this, 'tmpfs');
  });

  after(async () => {
    if (mount === '') return;
    spawnSync('umount', [mount]);
    await rm(mount, { recursive: true });
  });

  it('stops acknowledging, says why, and goes on without a restart when there is room; nothing acknowledged is lost', async () => {
    const ballast = join(mount, 'ballast');
    await writeFile(ballast, Buffer.alloc(BALLAST_BYTES));
    const folder = join(mount, 'spool');
    const files = nodeFiles;
    const spool = await opened({ folder, files, segmentBytes: 2 ** 20, probeIntervalMs: 20 });
    const acknowledged: number[] = [];
    let next = 0;
    let code = '';
    while (code === '') {
      assert.ok(next < (2 * DISK_BYTES) / 1_000, 'the disk fills up');
      const batch = recordsOf(50, next, 1_000);
      const outcome = await spool.appendAll(batch);
      if (outcome.ok) acknowledged.push(...batch.map((_, i) => next + i));
      else code = outcome.failure.code;
      next += batch.length;
    }
    assert.equal(code, 'SPOOL_NO_SPACE');
    assert.equal(spool.stats().healthy, false);
    const { bavail, bsize } = await statfs(mount);
    assert.ok(bavail * bsize < 2 ** 20, 'it is the disk that is full');
    assert.ok(acknowledged.length > 1_000);

    await unlink(ballast);
    await until(() => spool.stats().healthy, 5_000, 'it recovers by itself');
    await append(spool, recordsOf(1, next));
    acknowledged.push(next);
    await spool.close();

    const again = await opened({ folder, files, segmentBytes: 2 ** 20 });
    const reader = readerOf({ spool: again, folder, files });
    const stored = new Set((await readEverything(reader)).map(numberOf));
    assert.deepEqual(
      acknowledged.filter((number) => !stored.has(number)),
      [],
    );
    await reader.close();
    await again.close();
  });
});

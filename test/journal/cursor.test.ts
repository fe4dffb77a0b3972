import assert from 'node:assert/strict';
import { CursorWriter, cursorPath, listCursors, MAX_METADATA_LENGTH, readCursor } from '../../src/journal/cursor.ts';
import { MemoryDisk } from './memory-disk.ts';
import { FOLDER, mustBeOk } from './spool-fixture.ts';

const PATH = cursorPath(FOLDER, 'rollup');
const SLOT_BYTES = 16_384;

describe('a stored checkpoint', () => {
  it('is null before the first commit', async () => {
    const files = new MemoryDisk(Math.random).restart();
    assert.deepEqual(await readCursor(files, PATH), { ok: true, value: null });
  });

  it('holds segments by the smaller offset of the last two commits', async () => {
    const files = new MemoryDisk(Math.random).restart();
    const writer = new CursorWriter(files, PATH);
    const heldFrom: (number | null)[] = [];
    for (const offset of [10, 20, 30, 5, 40]) {
      mustBeOk(await writer.write({ offset, metadata: `at ${offset}` }));
      const stored = mustBeOk(await readCursor(files, PATH))!;
      assert.deepEqual(stored.newest, { offset, metadata: `at ${offset}` });
      heldFrom.push(stored.heldFrom);
    }
    assert.deepEqual(heldFrom, [null, 10, 20, 5, 5]);
    await writer.close();
  });

  it('falls back to the commit before when the newest one is torn', async () => {
    const disk = new MemoryDisk(Math.random);
    const files = disk.restart();
    const writer = new CursorWriter(files, PATH);
    mustBeOk(await writer.write({ offset: 1, metadata: 'one' }));
    mustBeOk(await writer.write({ offset: 2, metadata: 'two' }));
    disk.content(PATH)[SLOT_BYTES + 20]! ^= 1;
    assert.deepEqual(mustBeOk(await readCursor(files, PATH))?.newest, { offset: 1, metadata: 'one' });
    const next = new CursorWriter(files, PATH);
    mustBeOk(await next.write({ offset: 3, metadata: 'three' }));
    assert.deepEqual(mustBeOk(await readCursor(files, PATH))?.newest, { offset: 3, metadata: 'three' });
  });

  it('says so when neither commit can be read', async () => {
    const disk = new MemoryDisk(Math.random);
    const files = disk.restart();
    const writer = new CursorWriter(files, PATH);
    for (const offset of [1, 2]) mustBeOk(await writer.write({ offset, metadata: '' }));
    for (const slot of [0, 1]) disk.content(PATH)[slot * SLOT_BYTES + 16]! ^= 4;
    const outcome = await readCursor(files, PATH);
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.code, 'CHECKPOINT_INVALID');
  });

  it('keeps the old commit and goes on after a failed one', async () => {
    for (const operation of ['write', 'datasync', 'open', 'rename', 'syncFolder']) {
      const disk = new MemoryDisk(Math.random);
      const files = disk.restart();
      const writer = new CursorWriter(files, PATH);
      const firstOnly = operation !== 'write' && operation !== 'datasync';
      if (!firstOnly) mustBeOk(await writer.write({ offset: 1, metadata: 'old' }));
      let failures = 0;
      disk.plan = (called) => (called === operation && failures++ === 0 ? { error: 'EIO' } : null);
      const outcome = await writer.write({ offset: 2, metadata: 'new' });
      assert.ok(!outcome.ok && outcome.failure.retryable, `${operation} failed`);
      if (!firstOnly) {
        const { offset } = mustBeOk(await readCursor(files, PATH))!.newest;
        assert.ok(offset === 1 || offset === 2);
      }
      mustBeOk(await writer.write({ offset: 3, metadata: 'newer' }));
      assert.equal(mustBeOk(await readCursor(files, PATH))?.newest.offset, 3);
      await writer.close();
      disk.crash('power');
      assert.equal(mustBeOk(await readCursor(disk.restart(), PATH))?.newest.offset, 3);
    }
  });

  it('takes commits that are made without waiting, in their order', async () => {
    const files = new MemoryDisk(Math.random).restart();
    const writer = new CursorWriter(files, PATH);
    const outcomes = await Promise.all([1, 2, 3].map((offset) => writer.write({ offset, metadata: '' })));
    outcomes.forEach(mustBeOk);
    assert.equal(mustBeOk(await readCursor(files, PATH))?.newest.offset, 3);
  });

  it('refuses metadata over the limit and keeps the longest allowed', async () => {
    const files = new MemoryDisk(Math.random).restart();
    const writer = new CursorWriter(files, PATH);
    const metadata = '水'.repeat(MAX_METADATA_LENGTH);
    mustBeOk(await writer.write({ offset: 1, metadata }));
    assert.equal(mustBeOk(await readCursor(files, PATH))?.newest.metadata, metadata);
    const outcome = await writer.write({ offset: 2, metadata: `${metadata}x` });
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.code, 'CHECKPOINT_INVALID');
  });

  it('has a file of its own for any name of a group', async () => {
    const files = new MemoryDisk(Math.random).restart();
    const groups = ['a', 'a/b', '../a', 'ä 水', 'x'.repeat(1_000), `${'x'.repeat(1_000)}y`];
    for (const [offset, group] of groups.entries()) {
      mustBeOk(await new CursorWriter(files, cursorPath(FOLDER, group)).write({ offset, metadata: group }));
    }
    assert.equal((await listCursors(files, FOLDER)).length, groups.length);
    for (const [offset, group] of groups.entries()) {
      const stored = mustBeOk(await readCursor(files, cursorPath(FOLDER, group)));
      assert.equal(stored?.newest.offset, offset);
    }
  });
});

import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import type { Files } from '../../src/journal/files.ts';
import { checkFrame, FRAME_HEAD_BYTES, frameBuffer } from '../../src/journal/frame.ts';
import { batchSteps, simulateSpool, steps } from './spool-simulation.ts';

const RUNS = 90;
const BATCH_RUNS = 20;
/** A bug that is not found in this many runs counts as not found. */
const BUG_RUNS = 600;

describe('the spool on a failing disk', function () {
  this.timeout(60_000);

  it('keeps every acknowledged record, in order, whatever fails, is cut short or crashes', async () => {
    const faults = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(steps, fc.nat(), async (todo, seed) => {
        for (const [fault, count] of await simulateSpool(todo, seed))
          faults.set(fault, (faults.get(fault) ?? 0) + count);
      }),
      { numRuns: RUNS },
    );
    for (const operation of ['write', 'datasync']) {
      happened(operation, 'EIO', 'ENOSPC');
      happened(operation, 'power');
      happened(operation, 'kill');
    }
    for (const operation of ['open', 'rename', 'syncFolder', 'truncate']) {
      happened(operation, 'EIO', 'ENOSPC', 'power', 'kill');
    }
    happened('write', 'short');

    function happened(operation: string, ...any: string[]): void {
      assert.ok(
        any.some((fault) => faults.has(`${operation} ${fault}`)),
        `no ${operation} met ${any.join(' or ')}`,
      );
    }
  });

  it('keeps batches whole where their commits are cut short', async () => {
    await fc.assert(
      fc.asyncProperty(batchSteps, fc.nat(), async (todo, seed) => {
        await simulateSpool(todo, seed);
      }),
      { numRuns: BATCH_RUNS },
    );
  });

  /** The same property must fail with each of these bugs, or it proves nothing. */
  const bugs: Readonly<Record<string, (files: Files) => Files>> = {
    'acknowledging before fdatasync': (files) => withFile(files, { datasync: async () => undefined }),
    'trying fdatasync again on the same descriptor': (files) =>
      withFile(files, { datasync: (file) => file.datasync().catch(() => file.datasync()) }),
    'taking a short write for a whole one': (files) =>
      withFile(files, {
        write: async (file, buffers, position) => {
          await file.write(buffers, position);
          return buffers.reduce((sum, { length }) => sum + length, 0);
        },
      }),
    'taking the records of a batch for single ones': (files) =>
      withFile(files, {
        write: (file, buffers, position) => file.write(buffers.map(unjoined), position),
      }),
    'not syncing the folder': (files) => ({ ...files, syncFolder: async () => undefined }),
  };
  /** What concerns batches alone shows itself rarely among all that may happen, so it is looked for among batches. */
  const where: Readonly<Record<string, typeof steps>> = { 'taking the records of a batch for single ones': batchSteps };
  for (const [name, bug] of Object.entries(bugs)) {
    it(`is found out when ${name}`, async () => {
      const result = await fc.check(
        fc.asyncProperty(where[name] ?? steps, fc.nat(), async (todo, seed) => {
          await simulateSpool(todo, seed, bug);
        }),
        { numRuns: BUG_RUNS, endOnFailure: true },
      );
      assert.ok(result.failed, 'the property holds although the bug is there');
    });
  }
});

type OpenFile = Awaited<ReturnType<Files['open']>>;

/** The same files with some calls of open files replaced. */
function withFile(
  files: Files,
  calls: {
    readonly datasync?: (file: OpenFile) => Promise<void>;
    readonly write?: (file: OpenFile, buffers: readonly Uint8Array[], position: number) => Promise<number>;
  },
): Files {
  return {
    ...files,
    open: async (path, mode) => {
      const file = await files.open(path, mode);
      const { datasync, write } = calls;
      return {
        ...file,
        ...(datasync ? { datasync: () => datasync(file) } : {}),
        ...(write ? { write: (buffers, position) => write(file, buffers, position) } : {}),
      };
    },
  };
}

/** The frames without the mark that joins them to the next one; what is no frame stays. */
function unjoined(bytes: Uint8Array): Uint8Array {
  const copy = Buffer.from(bytes);
  for (let at = 0; at + FRAME_HEAD_BYTES <= copy.length; ) {
    const length = checkFrame(frameBuffer(copy), at, copy.length);
    if (length <= 0) break;
    copy[at + 29]! &= ~2;
    copy.writeUInt32LE(crc32(copy.subarray(at + 8, at + length)), at + 4);
    at += length;
  }
  return copy;
}

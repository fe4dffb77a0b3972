/** A thread that reads a spool and posts the numbers of what it is given; for spool-reader.test.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { numberOf, readerOf } from './spool-fixture.ts';

const { folder, progress } = workerData as { folder: string; progress: SharedArrayBuffer };
await readerOf({ folder, progress }).consume('thread', {
  assigned: async () => {
    parentPort!.postMessage({ ready: true });
    return new Map([[0, 0]]);
  },
  batch: async ({ records }) => parentPort!.postMessage({ numbers: records.map(numberOf) }),
  stopping: async () => undefined,
  ended: (reason) => {
    throw reason;
  },
});

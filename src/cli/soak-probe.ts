/**
 * What only a process itself can say in a soak: what each of its threads still holds after a collection. Loaded before the
 * program, in each of its threads, by `millrace torture --soak`; where to write and how often stands in this module's own
 * address (`?to=FILE&everyMs=N`). Lines as src/torture/soak.ts reads them.
 */
import { appendFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { threadId } from 'node:worker_threads';
import { systemClock } from '../clock.ts';
import type { ProbeLine } from '../torture/soak.ts';

const { searchParams } = new URL(import.meta.url);
const to = searchParams.get('to');
if (to !== null) watch(to, Number(searchParams.get('everyMs')));

function watch(file: string, everyMs: number): void {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  setInterval(() => {
    collect();
    // What the collection found is given back in a turn of its own.
    setImmediate(() => {
      const { heapUsed, external, rss } = process.memoryUsage();
      const line: ProbeLine = {
        ...{ atMs: systemClock.nowMs(), pid: process.pid, thread: threadId },
        ...{ heldBytes: heapUsed + external, residentBytes: rss },
      };
      appendFileSync(file, `${JSON.stringify(line)}\n`);
    });
  }, everyMs).unref();
}

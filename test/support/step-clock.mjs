// Loaded before the program: its wall clock stands still at the milliseconds that the file MILLRACE_TEST_CLOCK holds, read
// at the start and at every SIGUSR2. Only in the main thread, which stamps what it receives; the threads behind the log
// keep the machine's clock, and must do without any.
import { readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

if (isMainThread) {
  let nowMs = 0;
  const read = () => {
    nowMs = Number(readFileSync(process.env.MILLRACE_TEST_CLOCK, 'utf8'));
  };
  read();
  process.on('SIGUSR2', read);
  Date.now = () => nowMs;
}

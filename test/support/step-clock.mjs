// Loaded before the program: its wall clock is ahead by the milliseconds that the file MILLRACE_TEST_CLOCK holds, read at
// the start and at every SIGUSR2. So a test closes windows of an hour without waiting for one.
import { readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const now = Date.now;
let aheadMs = 0;

function read() {
  aheadMs = Number(readFileSync(process.env.MILLRACE_TEST_CLOCK, 'utf8'));
}

read();
if (isMainThread) process.on('SIGUSR2', read);
Date.now = () => now() + aheadMs;

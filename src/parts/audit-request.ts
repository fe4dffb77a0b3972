/**
 * An audit that is asked for over HTTP, in a thread of its own, so that no acknowledgement waits for it: at most MAX_AUDIT_MS
 * long, then the thread is ended. Whoever asks sees to it that there is one at a time. A stop ends it too.
 */
import { Worker } from 'node:worker_threads';
import type { Config } from '../config.ts';
import { fail, type Outcome } from '../errors.ts';
import type { AuditAnswer, AuditWish } from './audit-run.ts';
import type { AuditThreadData } from './audit-thread.ts';

const MAX_AUDIT_MS = 120_000;
/** Of the thread's heap; the audit keeps open windows and what does not balance. */
const MAX_HEAP_MIB = 1_024;

export interface AuditRequests {
  ask(config: Config, wish: AuditWish): Promise<Outcome<AuditAnswer>>;
  stop(): Promise<void>;
}

export function auditRequests(maxMs = MAX_AUDIT_MS): AuditRequests {
  // The same tree runs from TypeScript (tests, through a loader) and compiled.
  const entry = new URL(import.meta.url.endsWith('.ts') ? './audit-thread.ts' : './audit-thread.js', import.meta.url);
  const running = new Set<Worker>();
  return {
    async ask(config, wish) {
      const workerData: AuditThreadData = { config, wish };
      const worker = new Worker(entry, { workerData, resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB } });
      running.add(worker);
      const answer = await answerOf(worker, maxMs);
      running.delete(worker);
      return answer;
    },
    async stop() {
      await Promise.all([...running].map((worker) => worker.terminate()));
    },
  };
}

function answerOf(worker: Worker, maxMs: number): Promise<Outcome<AuditAnswer>> {
  return new Promise((resolve) => {
    const tooLong = fail(
      'AUDIT_ENDED',
      `The audit took longer than ${maxMs / 1_000} s; ask for a shorter range, or use millrace audit.`,
    );
    const timer = setTimeout(() => {
      resolve(tooLong);
      void worker.terminate();
    }, maxMs);
    worker.once('message', resolve);
    worker.once('error', (error) =>
      resolve(fail('AUDIT_ENDED', `The audit failed: ${error.message}`, { cause: error })),
    );
    worker.once('exit', () => {
      clearTimeout(timer);
      resolve(fail('AUDIT_ENDED', 'The audit was ended before it had an answer.'));
    });
  });
}

/** Entry of the worker thread of one audit (audit-request.ts): runs it, says what came of it, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Config } from '../config.ts';
import { type Outcome, succeed } from '../errors.ts';
import { type AuditAnswer, type AuditWish, auditAnswer, runAudit } from './audit-run.ts';

export interface AuditThreadData {
  readonly config: Config;
  readonly wish: AuditWish;
}

const { config, wish } = workerData as AuditThreadData;
const audited = await runAudit(config, wish, () => {});
const answer: Outcome<AuditAnswer> = audited.ok
  ? succeed(auditAnswer(audited.value))
  : // a cause may hold what cannot be sent to another thread
    { ok: false, failure: { ...audited.failure, cause: undefined } };
parentPort!.postMessage(answer);

/** What a rejected file-system call means for the spool. Both are worth another try: disks are emptied and replaced. */
import { type Failure, fail, messageOf } from '../errors.ts';
import { systemCode } from './files.ts';

const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

export function ioFailure(what: string, cause: unknown): Failure {
  if (NO_SPACE.has(systemCode(cause))) {
    return fail('SPOOL_NO_SPACE', `${what}: the disk is full (${messageOf(cause)})`, { retryable: true, cause })
      .failure;
  }
  return fail('SPOOL_IO', `${what}: ${messageOf(cause)}`, { retryable: true, cause }).failure;
}

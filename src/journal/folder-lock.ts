/**
 * One process, and within it one spool, per folder (which exists). `lockFolder` answers DATA_LOCKED with the holder's
 * process id while another has the folder. The lock ends with the process, also by kill -9: there is no stale lock to
 * clean up.
 *
 * How: flock(2) on the file `lock`. Node has no call for it, but the lock belongs to the *open file*, not to a process:
 * the standard program `flock -n 3` (util-linux, busybox) is given our descriptor as its own number 3, takes the lock
 * and ends, and the kernel keeps the lock until our descriptor is closed. That holds across containers which share the
 * folder, where process ids and abstract sockets of one are invisible in the other.
 * Where there is no such program: the file `lock.owner`, made exclusively, with process id, boot id and start time; the
 * lock is stale when no process matches all three. It cannot see into other containers.
 *
 * The file `lock` stays behind unlocked; it holds the last owner's process id for the message. It is never removed:
 * a removed lock file could be held by one process and made anew by another.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { constants, readFileSync } from 'node:fs';
import { type FileHandle, link, open, readFile, realpath, rm, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import { pause } from '../retry.ts';

export interface LockOptions {
  /** The program that calls flock(2). */
  readonly flockCommand?: string;
}

const PID_BYTES = 20;

export async function lockFolder(
  folder: string,
  { flockCommand = 'flock' }: LockOptions = {},
): Promise<Outcome<{ release(): Promise<void> }>> {
  let handle: FileHandle | null = null;
  try {
    const path = join(await realpath(folder), 'lock');
    handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o640);
    const answer = await flock(flockCommand, handle.fd);
    if (answer === 'locked') {
      // Overwritten in place, padded: a full disk must not keep a gateway from starting.
      await handle.write(`${process.pid}`.padEnd(PID_BYTES), 0).catch(() => undefined);
      const held = handle;
      handle = null;
      return succeed({ release: () => held.close() });
    }
    if (answer === 'held') return heldBy(folder, (await readFile(path, 'utf8')).trim());
    return await lockByOwnerFile(folder, `${path}.owner`);
  } catch (error) {
    return fail('SPOOL_IO', `the folder ${folder} cannot be locked: ${messageOf(error)}`, { cause: error });
  } finally {
    await handle?.close();
  }
}

function heldBy(folder: string, pid: string) {
  return fail(
    'DATA_LOCKED',
    `the folder ${folder} is in use by process ${pid || '(unknown)'}; stop it, or give this one another data folder`,
  );
}

/** `flock -n` answers 1 when another open file has the lock; anything else but 0 means that it cannot tell. */
function flock(command: string, descriptor: number): Promise<'locked' | 'held' | 'unavailable'> {
  return new Promise((resolve) => {
    const child = spawn(command, ['-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', descriptor] });
    child.once('error', () => resolve('unavailable'));
    child.once('exit', (code) => resolve(code === 0 ? 'locked' : code === 1 ? 'held' : 'unavailable'));
  });
}

const TAKEOVER_TRIES = 5;
/** Two processes that take over one stale file at the same instant: the one whose file is still there afterwards won. */
const TAKEOVER_SETTLE_MS = 100;

async function lockByOwnerFile(folder: string, path: string): Promise<Outcome<{ release(): Promise<void> }>> {
  const self = describeProcess(process.pid);
  const draft = `${path}.${randomUUID()}`;
  await writeFile(draft, self, { mode: 0o640 });
  try {
    for (let attempt = 0; attempt < TAKEOVER_TRIES; attempt++) {
      // A link appears whole or not at all, and fails where the name exists.
      const made = await link(draft, path).then(
        () => true,
        () => false,
      );
      if (made) {
        if (attempt > 0) await pause(TAKEOVER_SETTLE_MS);
        const owner = await readFile(path, 'utf8');
        return owner === self ? succeed({ release: () => unlink(path) }) : heldBy(folder, owner.split(' ')[0] ?? '');
      }
      const owner = await readFile(path, 'utf8').catch(() => '');
      const pid = owner.split(' ')[0] ?? '';
      if (pid !== '' && describeProcess(Number(pid)) === owner) return heldBy(folder, pid);
      await rm(path, { force: true });
    }
    return heldBy(folder, '');
  } finally {
    await rm(draft, { force: true });
  }
}

/** Process id, boot and start time: no later process has the same. '' when there is no such process. */
function describeProcess(pid: number): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const status = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may contain spaces; the start time is the 20th field behind it.
    const startTicks = status.slice(status.lastIndexOf(')') + 2).split(' ')[19];
    return `${pid} ${boot} ${startTicks}`;
  } catch {
    return process.platform === 'linux' || !isAlive(pid) ? '' : `${pid} - -`;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

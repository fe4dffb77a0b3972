/** A small disk of its own, where the system allows to mount one, so that it can be really full. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const STEPS_BYTES = [2 ** 20, 2 ** 16, 2 ** 12];

export interface SmallDisk {
  /** Writes until the disk takes nothing more; false: it never said that it was full. */
  fill(): boolean;
  /** Takes away what `fill` wrote. */
  empty(): void;
  release(): void;
}

/** Mounts it at `folder`; null when this system, or this user, cannot. */
export function smallDisk(folder: string, bytes: number): SmallDisk | null {
  mkdirSync(folder, { recursive: true });
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder], { stdio: 'ignore' });
  if (status !== 0) return null;
  const ballast = join(folder, 'ballast');
  return {
    fill() {
      const file = openSync(ballast, 'a');
      try {
        return STEPS_BYTES.map((step) => writeUntilFull(file, step, bytes)).every(Boolean);
      } finally {
        closeSync(file);
      }
    },
    empty: () => rmSync(ballast, { force: true }),
    release: () => {
      spawnSync('umount', ['-l', folder], { stdio: 'ignore' });
    },
  };
}

function writeUntilFull(file: number, step: number, atMost: number): boolean {
  const chunk = Buffer.alloc(step);
  for (let written = 0; written <= atMost; written += step) {
    try {
      if (writeSync(file, chunk) < step) return true;
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOSPC') return true;
      throw thrown;
    }
  }
  return false;
}

/**
 * What the disk alone makes a device wait: groups in the rhythm and of the size of the spool's commits, each written and synced,
 * by nobody but this, into a file made as long as a segment beforehand. A message is acknowledged when the first group that
 * begins after its arrival is on disk; the waits are those of messages that arrive evenly. A disk that stands still for half
 * a second shows here, and in the same figures of whoever acknowledges after it.
 */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface DiskWaits {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
}

/** Of the spool (src/journal/spool.ts). */
const COMMIT_INTERVAL_MS = 5;
const SEGMENT_BYTES = 64 * 2 ** 20;
/** What a reading of the bench takes in the spool. */
const BYTES_PER_MESSAGE = 350;

export async function measureDisk(perSecond: number, seconds: number): Promise<DiskWaits> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const file = await open(join(folder, 'segment'), 'w+');
  const waitsMs: number[] = [];
  try {
    await file.truncate(SEGMENT_BYTES);
    await file.sync();
    const gapMs = 1_000 / perSecond;
    let position = 0;
    let nextArrivalMs = performance.now();
    const endMs = nextArrivalMs + seconds * 1_000;
    for (let beganMs = nextArrivalMs; beganMs < endMs; ) {
      await sleep(Math.max(0, beganMs + COMMIT_INTERVAL_MS - performance.now()));
      beganMs = performance.now();
      const count = Math.floor((beganMs - nextArrivalMs) / gapMs) + 1;
      const group = Buffer.alloc(count * BYTES_PER_MESSAGE, 1);
      if (position + group.length > SEGMENT_BYTES) position = 0;
      await file.write(group, 0, group.length, position);
      await file.datasync();
      position += group.length;
      const syncedMs = performance.now();
      for (let i = 0; i < count; i++, nextArrivalMs += gapMs) waitsMs.push(syncedMs - nextArrivalMs);
    }
  } finally {
    await file.close();
    await rm(folder, { recursive: true });
  }
  waitsMs.sort((a, b) => a - b);
  const at = (share: number) => waitsMs[Math.floor(share * (waitsMs.length - 1))]!;
  return { p50Ms: at(0.5), p99Ms: at(0.99), p999Ms: at(0.999) };
}

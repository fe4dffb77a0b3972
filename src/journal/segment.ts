/**
 * A segment: one file of consecutive frames, named after the offset of its first record (`0000000000001234.seg`).
 *
 *   at  bytes  field of the head (64 bytes; integers little-endian)
 *    0  8      "MILLRACE"
 *    8  4      crc32 of everything behind this field, up to byte 64
 *   12  4      format version, 1
 *   16  8      first offset, as in the name
 *   24  8      first offset of the segment before this one; its own where it is the first of all
 *   32  8      end offset of the segment before: frames there with this offset or a later one are void; where there is
 *              none before, the offset at which the log began
 *   40  8      bytes of the segment before that belong to it
 *   48  8      the latest receivedMs before this segment
 *   56  8      zero
 *   64         frames, then zeros (space made ahead) or the end of the file
 *
 * Within a segment offsets are dense; between two of them there may be a hole, which never held an acknowledged record.
 * The head of the following segment, not the file itself, says where a segment ends. That keeps a group whose commit
 * failed from ever being read, whether its bytes reached the disk or not, and shows when the end of a file is missing.
 *
 * A segment gets its name (rename, folder synced) only once its head is durable. A segment that begins at or after an
 * end offset named by a later head is void as a whole: it was left by a failed attempt.
 */
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Files, type OpenFile, readAll, systemCode, writeAll } from './files.ts';

export const SEGMENT_HEAD_BYTES = 64;
/** Name of a segment that is being made; one found at the start is left over and removed. */
export const DRAFT_NAME = 'segment.draft';
const MAGIC = Buffer.from('MILLRACE');
const VERSION = 1;
const NAME = /^(\d{16})\.seg$/;

export interface SegmentHead {
  readonly first: number;
  readonly previousFirst: number;
  readonly previousEnd: number;
  readonly previousBytes: number;
  readonly floorMs: number;
}

/** A segment that is not void, as found in the folder. */
export interface FoundSegment {
  readonly first: number;
  /** Null: unreadable or damaged. */
  readonly head: SegmentHead | null;
  /** End offset and bytes as the following segment says; null for the newest one, and where that head is damaged. */
  readonly end: number | null;
  readonly bytes: number | null;
}

export function segmentName(first: number): string {
  return `${String(first).padStart(16, '0')}.seg`;
}

export function segmentPath(folder: string, first: number): string {
  return join(folder, segmentName(first));
}

/** First offset by file name, null for other files. */
export function parseSegmentName(name: string): number | null {
  const digits = NAME.exec(name)?.[1];
  return digits === undefined ? null : Number(digits);
}

export function encodeHead(head: SegmentHead): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEAD_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(VERSION, 12);
  const { first, previousFirst, previousEnd, previousBytes, floorMs } = head;
  [first, previousFirst, previousEnd, previousBytes, floorMs].forEach((value, index) => {
    bytes.writeBigUInt64LE(BigInt(value), 16 + 8 * index);
  });
  bytes.writeUInt32LE(crc32(bytes.subarray(12)), 8);
  return bytes;
}

/** Null when damaged; 'newer' when whole but of a version that this program does not know. */
export function decodeHead(bytes: Buffer): SegmentHead | 'newer' | null {
  if (bytes.length < SEGMENT_HEAD_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) return null;
  if (crc32(bytes.subarray(12, SEGMENT_HEAD_BYTES)) !== bytes.readUInt32LE(8)) return null;
  if (bytes.readUInt32LE(12) !== VERSION) return 'newer';
  const field = (index: number) => Number(bytes.readBigUInt64LE(16 + 8 * index));
  return {
    first: field(0),
    previousFirst: field(1),
    previousEnd: field(2),
    previousBytes: field(3),
    floorMs: field(4),
  };
}

/** Thrown by readHead: going on would misread what a later version wrote. */
export class NewerFormat extends Error {}

/** Null when the file is gone, too short or damaged. */
export async function readHead(files: Files, folder: string, first: number): Promise<SegmentHead | null> {
  const bytes = Buffer.alloc(SEGMENT_HEAD_BYTES);
  let file: OpenFile;
  try {
    file = await files.open(segmentPath(folder, first), 'read');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  }
  try {
    await readAll(file, bytes, 0);
  } finally {
    await file.close();
  }
  const head = decodeHead(bytes);
  if (head === 'newer') throw new NewerFormat(`${segmentPath(folder, first)} was written by a newer version`);
  return head?.first === first ? head : null;
}

/** The segments of the folder in order, without void ones. `heads` is a cache: heads never change. */
export async function findSegments(
  files: Files,
  folder: string,
  heads: Map<number, SegmentHead>,
): Promise<{ live: FoundSegment[]; voided: number[] }> {
  const firsts = (await names(files, folder)).map(parseSegmentName).filter((first) => first !== null);
  firsts.sort((a, b) => b - a);
  const present = new Set(firsts);
  for (const known of heads.keys()) if (!present.has(known)) heads.delete(known);

  const live: FoundSegment[] = [];
  const voided: number[] = [];
  let following: SegmentHead | null = null;
  let followingFirst: number | null = null;
  let end = Number.POSITIVE_INFINITY;
  for (const first of firsts) {
    if (first >= end) {
      voided.push(first);
      continue;
    }
    const head = heads.get(first) ?? (await readHead(files, folder, first));
    if (head) heads.set(first, head);
    live.push({
      first,
      head,
      end: following?.previousEnd ?? followingFirst,
      bytes: following?.previousFirst === first ? following.previousBytes : null,
    });
    following = head;
    followingFirst = first;
    end = Math.min(end, head?.previousEnd ?? first);
  }
  return { live: live.reverse(), voided };
}

/** A folder that is not there yet is a log without records. */
async function names(files: Files, folder: string): Promise<string[]> {
  try {
    return await files.list(folder);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/**
 * Makes a segment under its name: whole head, `preallocateBytes` long, its first `probeBytes` really written (zeros), all of it
 * durable. The file is open for writing at SEGMENT_HEAD_BYTES. Rejects with the system error, leaving no draft if it can.
 */
export async function createSegment(
  files: Files,
  folder: string,
  head: SegmentHead,
  preallocateBytes: number,
  probeBytes: number,
): Promise<OpenFile> {
  const draft = join(folder, DRAFT_NAME);
  const file = await files.open(draft, 'create');
  try {
    await file.truncate(preallocateBytes);
    await writeAll(file, [encodeHead(head), Buffer.alloc(probeBytes)], 0);
    await file.datasync();
    await files.rename(draft, segmentPath(folder, head.first));
    await files.syncFolder(folder);
    return file;
  } catch (error) {
    await file.close().catch(() => undefined);
    await files.remove(draft).catch(() => undefined);
    throw error;
  }
}

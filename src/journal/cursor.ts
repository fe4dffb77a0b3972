/**
 * The stored checkpoint of one consumer group: `cursors/<group>.cursor` in the spool's folder.
 *
 * Two slots of SLOT_BYTES, written in turn and in place, each followed by fdatasync; the whole slot with the highest
 * generation counts. In place, because a commit must also work on a full disk: it is what lets segments be deleted.
 *
 *   at  bytes  field of a slot (little-endian)
 *    0  4      length of the metadata
 *    4  4      crc32 of everything behind this field, metadata included
 *    8  8      generation, 1 for the first commit
 *   16  8      offset
 *   24         metadata, UTF-8
 *
 * A slot is only written once the other one is durable. So of two whole slots the older is surely durable, the newer
 * perhaps not yet: readers go on from the newer, deletion goes by the smaller offset of both (`heldFrom`). Whoever opens the file to
 * write, at the start or after a failed commit, first writes the newest slot again and syncs it through that descriptor.
 * One process commits for a group, any may read.
 */
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import type { Checkpoint } from '../log.ts';
import { type Files, type OpenFile, readAll, systemCode, writeAll } from './files.ts';
import { ioFailure } from './io-failure.ts';

export const CURSOR_FOLDER = 'cursors';
/** Characters of metadata, as with Kafka. */
export const MAX_METADATA_LENGTH = 4_096;
const SLOT_BYTES = 16 * 2 ** 10;
const SLOT_HEAD_BYTES = 24;
const SUFFIX = '.cursor';
/** Longer names of groups are replaced by their hash. */
const MAX_FILE_NAME = 200;

interface Slot {
  readonly index: number;
  readonly generation: number;
  readonly checkpoint: Checkpoint;
}

export interface StoredCursor {
  readonly newest: Checkpoint;
  /** Whatever happens, the group will not go on from below this offset; null: not even the first commit is surely durable. */
  readonly heldFrom: number | null;
}

export function cursorPath(folder: string, group: string): string {
  const name = encodeURIComponent(group);
  const short = name.length <= MAX_FILE_NAME ? name : createHash('sha256').update(group).digest('hex');
  return join(folder, CURSOR_FOLDER, short + SUFFIX);
}

/** The cursor files in a spool's folder. */
export async function listCursors(files: Files, folder: string): Promise<string[]> {
  try {
    const names = await files.list(join(folder, CURSOR_FOLDER));
    return names.filter((name) => name.endsWith(SUFFIX)).map((name) => join(folder, CURSOR_FOLDER, name));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Null: never committed. CHECKPOINT_INVALID: there are commits, but neither slot is whole. */
export async function readCursor(files: Files, path: string): Promise<Outcome<StoredCursor | null>> {
  try {
    return await useFile(files, path, async (file) => {
      const { slots, untouched } = await readSlots(file);
      const [newest, older] = slots;
      if (!newest) {
        if (untouched) return succeed(null);
        return fail('CHECKPOINT_INVALID', `the checkpoint ${path} is damaged; remove the file to start without it`);
      }
      const { checkpoint, generation } = newest;
      if (older) {
        const heldFrom = Math.min(checkpoint.offset, older.checkpoint.offset);
        return succeed({ newest: checkpoint, heldFrom });
      }
      // Alone, a later generation is durable: the other slot is just being written.
      return succeed({ newest: checkpoint, heldFrom: generation > 1 ? checkpoint.offset : null });
    });
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return succeed(null);
    return fail('SPOOL_IO', `the checkpoint ${path} cannot be read: ${messageOf(error)}`, {
      retryable: true,
      cause: error,
    });
  }
}

/** Writes the commits of one group, one at a time. */
export class CursorWriter {
  readonly #files: Files;
  readonly #path: string;
  #file: OpenFile | null = null;
  /** The newest commit known to be durable; to begin with none, so that the first one goes to slot 0. */
  #durable: { readonly index: number; readonly generation: number } = { index: 1, generation: 0 };
  #last: Promise<unknown> = Promise.resolve();

  constructor(files: Files, path: string) {
    this.#files = files;
    this.#path = path;
  }

  /** Durable when it resolves with ok; after a failure the stored checkpoint is the old or this one. */
  write(checkpoint: Checkpoint): Promise<Outcome> {
    const { offset, metadata } = checkpoint;
    if (!Number.isSafeInteger(offset) || offset < 0) throw new RangeError(`not an offset: ${offset}`);
    if (metadata.length > MAX_METADATA_LENGTH) {
      const message = `metadata of ${metadata.length} characters is over the limit of ${MAX_METADATA_LENGTH}`;
      return Promise.resolve(fail('CHECKPOINT_INVALID', message));
    }
    const written = this.#last.then(() => this.#write(checkpoint));
    this.#last = written;
    return written;
  }

  async #write(checkpoint: Checkpoint): Promise<Outcome> {
    try {
      this.#file ??= await this.#open();
      const index = 1 - this.#durable.index;
      const generation = this.#durable.generation + 1;
      await writeAll(this.#file, [encodeSlot(generation, checkpoint)], index * SLOT_BYTES);
      await this.#file.datasync();
      this.#durable = { index, generation };
      return { ok: true, value: undefined };
    } catch (error) {
      await this.#file?.close().catch(() => undefined);
      this.#file = null;
      return { ok: false, failure: ioFailure(`the checkpoint ${this.#path} cannot be written`, error) };
    }
  }

  async #open(): Promise<OpenFile> {
    let file: OpenFile;
    try {
      file = await this.#files.open(this.#path, 'update');
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      file = await this.#create();
    }
    try {
      // Of an earlier try only the name may have been left unsynced.
      await this.#files.syncFolder(dirname(this.#path));
      const { slots } = await readSlots(file);
      const newest = slots[0];
      if (newest) {
        // Another process may have written it without living to see it durable; writing it again makes it so.
        await writeAll(file, [encodeSlot(newest.generation, newest.checkpoint)], newest.index * SLOT_BYTES);
        await file.datasync();
        this.#durable = newest;
      }
      return file;
    } catch (error) {
      await file.close().catch(() => undefined);
      throw error;
    }
  }

  async #create(): Promise<OpenFile> {
    const draft = `${this.#path}.draft`;
    const folder = dirname(this.#path);
    await this.#files.makeFolder(folder);
    const file = await this.#files.open(draft, 'create');
    try {
      await writeAll(file, [Buffer.alloc(2 * SLOT_BYTES)], 0);
      await file.datasync();
      await this.#files.rename(draft, this.#path);
      return file;
    } catch (error) {
      await file.close().catch(() => undefined);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#file?.close().catch(() => undefined);
    this.#file = null;
  }
}

async function useFile<T>(files: Files, path: string, use: (file: OpenFile) => Promise<T>): Promise<T> {
  const file = await files.open(path, 'read');
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/** Whole slots, the newest first; `untouched`: at most a first commit was tried, and never became durable. */
async function readSlots(file: OpenFile): Promise<{ slots: Slot[]; untouched: boolean }> {
  const bytes = Buffer.alloc(2 * SLOT_BYTES);
  await readAll(file, bytes, 0);
  const slots: Slot[] = [];
  for (const index of [0, 1]) {
    const slot = decodeSlot(bytes.subarray(index * SLOT_BYTES, (index + 1) * SLOT_BYTES), index);
    if (slot) slots.push(slot);
  }
  slots.sort((a, b) => b.generation - a.generation);
  return { slots, untouched: slots.length === 0 && bytes.subarray(SLOT_BYTES).every((byte) => byte === 0) };
}

/** A whole slot: what stood there before is overwritten to its end. */
function encodeSlot(generation: number, { offset, metadata }: Checkpoint): Buffer {
  const bytes = Buffer.alloc(SLOT_BYTES);
  const length = bytes.write(metadata, SLOT_HEAD_BYTES, 'utf8');
  bytes.writeUInt32LE(length, 0);
  bytes.writeBigUInt64LE(BigInt(generation), 8);
  bytes.writeBigUInt64LE(BigInt(offset), 16);
  bytes.writeUInt32LE(crc32(bytes.subarray(8, SLOT_HEAD_BYTES + length)), 4);
  return bytes;
}

function decodeSlot(bytes: Buffer, index: number): Slot | null {
  const length = bytes.readUInt32LE(0);
  const generation = Number(bytes.readBigUInt64LE(8));
  if (generation === 0 || length > SLOT_BYTES - SLOT_HEAD_BYTES) return null;
  if (crc32(bytes.subarray(8, SLOT_HEAD_BYTES + length)) !== bytes.readUInt32LE(4)) return null;
  const checkpoint = {
    offset: Number(bytes.readBigUInt64LE(16)),
    metadata: bytes.toString('utf8', SLOT_HEAD_BYTES, SLOT_HEAD_BYTES + length),
  };
  return { index, generation, checkpoint };
}

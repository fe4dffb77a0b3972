/**
 * A disk in memory that forgets what was not synced, and fails on demand: the worst that a file system may do.
 *
 * - Data reaches the disk at `datasync`, names at `syncFolder`. Until then a power cut keeps any subset of the writes,
 *   torn at sectors, and any subset of the changes of names; a killed process loses nothing, but nothing is synced either.
 * - A failed `datasync` keeps any subset too, and the rest counts as clean: a second `datasync` succeeds without
 *   writing it, while reads go on showing it (as Linux does).
 * - A failed write may have written a part.
 */
import { basename, dirname } from 'node:path';
import type { Files, FolderLock, OpenFile } from '../../src/journal/files.ts';

export type Operation =
  | 'open'
  | 'read'
  | 'write'
  | 'datasync'
  | 'truncate'
  | 'rename'
  | 'remove'
  | 'syncFolder'
  | 'list';

export type Fault =
  | { readonly error: 'EIO' | 'ENOSPC' }
  | { readonly short: true }
  | { readonly crash: 'power' | 'kill' };

/** Asked before every call: what shall happen instead. */
export type Plan = (operation: Operation, path: string) => Fault | null;

interface Change {
  readonly position: number;
  /** Null: the size became `position`. */
  readonly bytes: Uint8Array | null;
}

interface Inode {
  /** What reads show. */
  seen: Buffer;
  /** What a power cut leaves for certain. */
  durable: Buffer;
  unsynced: Change[];
}

/** One or two names that change at once. */
type NameChange = readonly { readonly path: string; readonly inode: Inode | null }[];

const SECTOR_BYTES = 512;

export class MemoryDisk {
  /** How often each fault happened, by `operation fault`. */
  readonly faults = new Map<string, number>();
  plan: Plan = () => null;
  readonly #random: () => number;
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  #unsyncedNames: NameChange[] = [];
  #locked = false;
  /** Files of an earlier life are dead. */
  #life = 0;
  #crash: 'power' | 'kill' | null = null;

  constructor(random: () => number) {
    this.#random = random;
  }

  get crashed(): boolean {
    return this.#crash !== null;
  }

  /** The process is dead: every call fails from now on, until `restart`. */
  crash(how: 'power' | 'kill'): void {
    this.#crash ??= how;
  }

  /** A new process on what is left. The files of the old one stay dead. */
  restart(): Files {
    if (this.#crash === 'power') this.#losePower();
    this.#crash = null;
    this.#locked = false;
    this.#life++;
    return this.#files(this.#life);
  }

  /** The bytes of a file, to be damaged in place or replaced. */
  content(path: string): Buffer {
    return this.#inode(path).seen;
  }

  /** As a person might: durable at once. */
  replace(path: string, bytes: Buffer): void {
    const inode = this.#inode(path);
    inode.seen = Buffer.from(bytes);
    inode.durable = Buffer.from(bytes);
    inode.unsynced = [];
  }

  paths(): string[] {
    return [...this.#names.keys()].sort();
  }

  /** Everything as it is now, on a disk of its own. */
  copy(): MemoryDisk {
    const disk = new MemoryDisk(this.#random);
    for (const [path, { seen }] of this.#names) {
      const inode = { seen: Buffer.from(seen), durable: Buffer.from(seen), unsynced: [] };
      disk.#names.set(path, inode);
      disk.#durableNames.set(path, inode);
    }
    return disk;
  }

  #losePower(): void {
    for (const change of this.#unsyncedNames) {
      if (this.#coin()) apply(this.#durableNames, change);
    }
    this.#unsyncedNames = [];
    this.#names = new Map(this.#durableNames);
    for (const inode of new Set(this.#names.values())) {
      this.#keepSome(inode);
      inode.seen = Buffer.from(inode.durable);
    }
  }

  /** Any subset of the unsynced changes reaches the disk. */
  #keepSome(inode: Inode): void {
    for (const { position, bytes } of inode.unsynced) {
      if (bytes === null) {
        if (this.#coin()) inode.durable = resized(inode.durable, position);
        continue;
      }
      for (let from = 0; from < bytes.length; ) {
        const sectorEnd = SECTOR_BYTES - ((position + from) % SECTOR_BYTES);
        const to = Math.min(bytes.length, from + sectorEnd);
        if (this.#coin()) inode.durable = written(inode.durable, position + from, bytes.subarray(from, to));
        from = to;
      }
    }
    inode.unsynced = [];
  }

  #coin(): boolean {
    return this.#random() < 0.5;
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path);
    if (!inode) throw systemError('ENOENT', path);
    return inode;
  }

  #change(change: NameChange): void {
    apply(this.#names, change);
    this.#unsyncedNames.push(change);
  }

  /** Every call passes here. */
  async #call(life: number, operation: Operation, path: string): Promise<{ short: boolean }> {
    await Promise.resolve();
    this.#mustLive(life);
    const fault = this.plan(operation, path);
    if (!fault) return { short: false };
    if ('short' in fault) {
      if (operation === 'write') this.#count(operation, 'short');
      return { short: true };
    }
    if ('crash' in fault) {
      this.#count(operation, fault.crash);
      this.crash(fault.crash);
      this.#mustLive(life);
    } else {
      this.#count(operation, fault.error);
      throw systemError(fault.error, path);
    }
    return { short: false };
  }

  #count(operation: Operation, fault: string): void {
    const key = `${operation} ${fault}`;
    this.faults.set(key, (this.faults.get(key) ?? 0) + 1);
  }

  #mustLive(life: number): void {
    if (this.#crash !== null || life !== this.#life) throw systemError('EBADF', 'the process is dead');
  }

  #files(life: number): Files {
    const call = (operation: Operation, path: string) => this.#call(life, operation, path);
    return {
      open: async (path, mode) => {
        await call('open', path);
        if (mode !== 'create') return this.#file(life, path, this.#inode(path));
        const existing = this.#names.get(path);
        if (existing) {
          existing.seen = Buffer.alloc(0);
          existing.unsynced.push({ position: 0, bytes: null });
          return this.#file(life, path, existing);
        }
        const inode: Inode = { seen: Buffer.alloc(0), durable: Buffer.alloc(0), unsynced: [] };
        this.#change([{ path, inode }]);
        return this.#file(life, path, inode);
      },
      list: async (folder) => {
        await call('list', folder);
        return [...this.#names.keys()].filter((path) => dirname(path) === folder).map((path) => basename(path));
      },
      makeFolder: async () => this.#mustLive(life),
      size: async (path) => {
        await call('read', path);
        return this.#inode(path).seen.length;
      },
      rename: async (from, to) => {
        await call('rename', to);
        this.#change([
          { path: to, inode: this.#inode(from) },
          { path: from, inode: null },
        ]);
      },
      remove: async (path) => {
        await call('remove', path);
        this.#inode(path);
        this.#change([{ path, inode: null }]);
      },
      syncFolder: async (folder) => {
        await call('syncFolder', folder);
        const inFolder = (change: NameChange) => change.some(({ path }) => dirname(path) === folder);
        for (const change of this.#unsyncedNames) if (inFolder(change)) apply(this.#durableNames, change);
        this.#unsyncedNames = this.#unsyncedNames.filter((change) => !inFolder(change));
      },
      lock: async () => {
        if (this.#locked) throw new Error('locked twice');
        this.#locked = true;
        const lock: FolderLock = {
          release: async () => {
            if (life === this.#life) this.#locked = false;
          },
        };
        return { ok: true, value: lock };
      },
    };
  }

  #file(life: number, path: string, inode: Inode): OpenFile {
    const call = (operation: Operation) => this.#call(life, operation, path);
    const write = (bytes: Uint8Array, position: number) => {
      inode.seen = written(inode.seen, position, bytes);
      inode.unsynced.push({ position, bytes: Uint8Array.from(bytes) });
    };
    return {
      read: async (into, position) => {
        await call('read');
        const part = inode.seen.subarray(position, position + into.length);
        into.set(part);
        return part.length;
      },
      write: async (buffers, position) => {
        const all = Buffer.concat(buffers);
        const part = all.subarray(0, 1 + Math.floor(this.#random() * (all.length - 1)));
        try {
          const { short } = await call('write');
          write(short ? part : all, position);
          return short ? part.length : all.length;
        } catch (error) {
          if (life === this.#life && this.#coin()) write(part, position);
          throw error;
        }
      },
      datasync: async () => {
        try {
          await call('datasync');
        } catch (error) {
          if (life === this.#life && this.#crash === null) this.#keepSome(inode);
          throw error;
        }
        // Not all that is seen: what an earlier failed datasync left out stays out.
        for (const { position, bytes } of inode.unsynced) {
          inode.durable = bytes ? written(inode.durable, position, bytes) : resized(inode.durable, position);
        }
        inode.unsynced = [];
      },
      truncate: async (bytes) => {
        await call('truncate');
        inode.seen = resized(inode.seen, bytes);
        inode.unsynced.push({ position: bytes, bytes: null });
      },
      size: async () => {
        await call('read');
        return inode.seen.length;
      },
      close: async () => undefined,
    };
  }
}

function apply(names: Map<string, Inode>, change: NameChange): void {
  for (const { path, inode } of change) {
    if (inode) names.set(path, inode);
    else names.delete(path);
  }
}

function resized(bytes: Buffer, length: number): Buffer {
  if (length <= bytes.length) return Buffer.from(bytes.subarray(0, length));
  return Buffer.concat([bytes, Buffer.alloc(length - bytes.length)]);
}

function written(bytes: Buffer, position: number, part: Uint8Array): Buffer {
  const result = bytes.length >= position + part.length ? bytes : resized(bytes, position + part.length);
  result.set(part, position);
  return result;
}

function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

/**
 * The few file-system calls that the spool makes, as an interface: production uses `nodeFiles`, tests a file system
 * that fails or loses what was not synced at any call. Every call rejects with a Node system error (`code`, such as
 * ENOSPC or EIO). No call is retried here, and a write may be short: the caller decides what that means.
 */
import { mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Outcome } from '../errors.ts';
import { lockFolder } from './folder-lock.ts';

export interface OpenFile {
  /** Bytes read; less than asked at the end of the file, 0 beyond it. */
  read(into: Uint8Array, position: number): Promise<number>;
  /** Bytes written, possibly fewer than given. */
  write(buffers: readonly Uint8Array[], position: number): Promise<number>;
  /** After a rejection nothing written through this descriptor since the last success may be counted on. */
  datasync(): Promise<void>;
  truncate(bytes: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

export interface Files {
  /** `read` and `update` need the file to exist; `create` makes it, or empties the one that is there. */
  open(path: string, mode: 'read' | 'update' | 'create'): Promise<OpenFile>;
  /** Names in the folder, in no order. */
  list(folder: string): Promise<string[]>;
  /** The folder and its parents, where missing; durable. */
  makeFolder(folder: string): Promise<void>;
  size(path: string): Promise<number>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in the folder durable. */
  syncFolder(folder: string): Promise<void>;
  /** Exclusive until released or the process ends, however it ends. */
  lock(folder: string): Promise<Outcome<FolderLock>>;
}

export interface FolderLock {
  release(): Promise<void>;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const FLAGS = { read: 'r', update: 'r+', create: 'w+' } as const;

export const nodeFiles: Files = {
  async open(path, mode) {
    const handle = await open(path, FLAGS[mode], 0o640);
    return {
      read: async (into, position) => (await handle.read(into, 0, into.length, position)).bytesRead,
      write: async (buffers, position) => (await handle.writev(buffers, position)).bytesWritten,
      datasync: () => handle.datasync(),
      truncate: (bytes) => handle.truncate(bytes),
      size: async () => (await handle.stat()).size,
      close: () => handle.close(),
    };
  },
  list: (folder) => readdir(folder),
  async makeFolder(folder) {
    // One that is there already may have been made by a process that died before this sync.
    const topmost = (await mkdir(folder, { recursive: true, mode: 0o750 })) ?? resolve(folder);
    for (let path = resolve(folder); path.length >= topmost.length; path = dirname(path))
      await syncFolder(dirname(path));
  },
  size: async (path) => (await stat(path)).size,
  rename,
  remove: unlink,
  syncFolder,
  lock: lockFolder,
};

/** Buffers of one writev call; the kernel's own limit is 1,024. */
const BUFFERS_PER_WRITE = 512;

/** Writes everything, going on after short writes. */
export async function writeAll(file: OpenFile, buffers: readonly Uint8Array[], position: number): Promise<void> {
  let rest = buffers.filter((buffer) => buffer.length > 0);
  let at = position;
  while (rest.length > 0) {
    let written = await file.write(rest.slice(0, BUFFERS_PER_WRITE), at);
    if (written <= 0) throw Object.assign(new Error('the file system wrote nothing'), { code: 'EIO' });
    at += written;
    let whole = 0;
    while (whole < rest.length && written >= rest[whole]!.length) written -= rest[whole++]!.length;
    rest = rest.slice(whole);
    if (written > 0) rest[0] = rest[0]!.subarray(written);
  }
}

/** Reads until the buffer is full or the file ends; the bytes read. */
export async function readAll(file: OpenFile, into: Uint8Array, position: number): Promise<number> {
  let total = 0;
  while (total < into.length) {
    const read = await file.read(into.subarray(total), position + total);
    if (read <= 0) break;
    total += read;
  }
  return total;
}

/** The code of a system error (`ENOENT`), '' for anything else. */
export function systemCode(thrown: unknown): string {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : '';
  return typeof code === 'string' ? code : '';
}

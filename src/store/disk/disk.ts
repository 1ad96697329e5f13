/**
 * The few file-system operations of a store, as a port: everything in the store that can fail or be
 * interrupted goes through here, so a test that fails or kills at the Nth operation covers every case. Errors
 * are Node's, with their errno code.
 */
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';

/** An open file. Writes only append. */
export interface DiskFile {
  /** Writes all parts, or rejects with an unknown part of them written. */
  append(parts: readonly Uint8Array[]): Promise<void>;
  /** Exactly the bytes asked for, or rejects with code `ETRUNCATED`. */
  read(byteOffset: number, byteLength: number): Promise<Buffer>;
  /** Data and size are on stable storage when it resolves; the name is not (syncDir). */
  sync(): Promise<void>;
  truncate(byteLength: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

export interface DirEntry {
  readonly name: string;
  readonly isDirectory: boolean;
}

export interface Disk {
  /** A new file to append to and read; EEXIST. */
  create(path: string): Promise<DiskFile>;
  /** An existing file to append to and read, or only to read; ENOENT. */
  open(path: string, mode: 'append' | 'read'): Promise<DiskFile>;
  rename(from: string, to: string): Promise<void>;
  /** A file that may be missing. */
  remove(path: string): Promise<void>;
  /** A directory that may be missing, with all that it holds. */
  removeDir(path: string): Promise<void>;
  /** False if it exists already. */
  makeDir(path: string): Promise<boolean>;
  /** The directory's entries (new, renamed, removed names) are on stable storage when it resolves. */
  syncDir(path: string): Promise<void>;
  /** Empty if the directory is missing. */
  list(path: string): Promise<DirEntry[]>;
  /** Bytes of a file; null if it is missing. */
  size(path: string): Promise<number | null>;
  /** Bytes of the file system that the path is in, and those of them that may still be written. */
  room(path: string): Promise<{ readonly totalBytes: number; readonly freeBytes: number }>;
}

class NodeFile implements DiskFile {
  readonly #handle: fs.FileHandle;
  readonly #path: string;

  constructor(handle: fs.FileHandle, path: string) {
    this.#handle = handle;
    this.#path = path;
  }

  async append(parts: readonly Uint8Array[]): Promise<void> {
    let rest = parts.filter((part) => part.length > 0);
    while (rest.length > 0) {
      let { bytesWritten } = await this.#handle.writev(rest);
      let whole = 0;
      for (; whole < rest.length && bytesWritten >= (rest[whole]?.length ?? 0); whole += 1) {
        bytesWritten -= rest[whole]?.length ?? 0;
      }
      const [partial, ...others] = rest.slice(whole);
      rest = partial === undefined ? [] : [partial.subarray(bytesWritten), ...others];
    }
  }

  async read(byteOffset: number, byteLength: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafeSlow(byteLength);
    for (let done = 0; done < byteLength; ) {
      const { bytesRead } = await this.#handle.read(buffer, done, byteLength - done, byteOffset + done);
      if (bytesRead === 0) {
        throw Object.assign(new Error(`${this.#path}: it ends before byte ${byteOffset + byteLength}`), {
          code: 'ETRUNCATED',
        });
      }
      done += bytesRead;
    }
    return buffer;
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }
  truncate(byteLength: number): Promise<void> {
    return this.#handle.truncate(byteLength);
  }
  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }
  close(): Promise<void> {
    return this.#handle.close();
  }
}

export const nodeDisk: Disk = {
  async create(path) {
    const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_EXCL;
    return new NodeFile(await fs.open(path, flags, 0o600), path);
  },
  async open(path, mode) {
    const flags = mode === 'read' ? constants.O_RDONLY : constants.O_RDWR | constants.O_APPEND;
    return new NodeFile(await fs.open(path, flags), path);
  },
  rename: (from, to) => fs.rename(from, to),
  remove: (path) => fs.rm(path, { force: true }),
  removeDir: (path) => fs.rm(path, { force: true, recursive: true }),
  async makeDir(path) {
    try {
      await fs.mkdir(path, 0o700);
      return true;
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return false;
      throw error;
    }
  },
  async syncDir(path) {
    const handle = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
  async list(path) {
    try {
      const entries = await fs.readdir(path, { withFileTypes: true });
      return entries.map((entry) => ({ name: entry.name, isDirectory: entry.isDirectory() }));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return [];
      throw error;
    }
  },
  async size(path) {
    try {
      return (await fs.stat(path)).size;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null;
      throw error;
    }
  },
  async room(path) {
    const { blocks, bavail, bsize } = await fs.statfs(path);
    return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
  },
};

export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** No room, or none for this user or this file. */
export function isFull(error: unknown): boolean {
  return FULL.has(errnoOf(error) ?? '');
}

/** The temporary name of a file that is being written. */
export function temporaryPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.tmp`);
}

/** The name that a temporary one was to become; null: it is not one of ours, and not ours to remove. */
export function temporaryFor(name: string): string | null {
  return /^\.(.+)\.tmp$/.exec(name)?.[1] ?? null;
}

/** A whole file, durable under its name when it resolves; before that the name has its old bytes or none. */
export async function writeDurably(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const temporary = temporaryPath(path);
  await disk.remove(temporary);
  try {
    const file = await disk.create(temporary);
    try {
      await file.append([bytes]);
      await file.sync();
    } finally {
      await file.close();
    }
    await disk.rename(temporary, path);
  } catch (error) {
    await disk.remove(temporary).catch(() => undefined);
    throw error;
  }
  await disk.syncDir(dirname(path));
}

/** Makes `root/relative` level by level; each new name is durable in its parent. `root` must exist. */
export async function makeDirs(disk: Disk, root: string, relative: string): Promise<void> {
  let parent = root;
  for (const name of relative.split('/')) {
    const path = join(parent, name);
    if (await disk.makeDir(path)) await disk.syncDir(parent);
    parent = path;
  }
}

/**
 * A whole small file; null if it is missing.
 * @throws StillpointError `store-damaged` if it has more than `maxBytes`
 */
export async function readSmallFile(disk: Disk, path: string, maxBytes: number): Promise<Buffer | null> {
  const size = await disk.size(path);
  if (size === null) return null;
  if (size > maxBytes) {
    throw new StillpointError('store-damaged', {
      thing: path,
      reason: `it has ${size} bytes, more than it can have`,
    });
  }
  const file = await disk.open(path, 'read');
  try {
    return await file.read(0, size);
  } finally {
    await file.close();
  }
}

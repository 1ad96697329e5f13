/**
 * Disks for tests: every operation is a numbered step, and a plan decides what happens at it. A crash stops
 * the disk: this step and all later ones fail and change nothing, as for a process that was killed there.
 *
 * A `PowerLossDisk` below it also forgets what was not synced, as far as it may: appended bytes without
 * `sync`, names without `syncDir`.
 */
import { link, mkdir, readdir, rename, rm, stat, truncate } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Disk, type DiskFile, nodeDisk } from '../../../src/store/disk/disk.js';

export interface Step {
  /** From 1. */
  readonly number: number;
  readonly name: string;
  readonly path: string;
}

/**
 * `short`: an append that writes a part and then fails. `crash`: see above. Else the errno
 * code of the step's failure.
 */
export type Fault = 'crash' | 'EIO' | 'ENOSPC' | { readonly short: string };

export class FaultyDisk implements Disk {
  /** Steps so far. */
  stepCount = 0;
  #crashed = false;
  readonly #inner: Disk;
  readonly #plan: (step: Step) => Fault | null;

  constructor(inner: Disk, plan: (step: Step) => Fault | null) {
    this.#inner = inner;
    this.#plan = plan;
  }

  get hasCrashed(): boolean {
    return this.#crashed;
  }

  async step<T>(
    name: string,
    path: string,
    action: () => Promise<T>,
    writePart?: () => Promise<void>,
  ): Promise<T> {
    this.stepCount += 1;
    const fault = this.#crashed ? 'crash' : this.#plan({ number: this.stepCount, name, path });
    if (fault === null) return action();
    if (fault === 'crash') {
      this.#crashed = true;
      throw new Error(`crashed at ${name} ${path}`);
    }
    const code = typeof fault === 'string' ? fault : fault.short;
    if (typeof fault !== 'string') await writePart?.();
    throw Object.assign(new Error(`${code}: injected at ${name} ${path}`), { code });
  }

  async create(path: string): Promise<DiskFile> {
    return new FaultyFile(this, path, await this.step('create', path, () => this.#inner.create(path)));
  }
  async open(path: string, mode: 'append' | 'read'): Promise<DiskFile> {
    return new FaultyFile(this, path, await this.step('open', path, () => this.#inner.open(path, mode)));
  }
  rename(from: string, to: string): Promise<void> {
    return this.step('rename', to, () => this.#inner.rename(from, to));
  }
  remove(path: string): Promise<void> {
    return this.step('remove', path, () => this.#inner.remove(path));
  }
  removeDir(path: string): Promise<void> {
    return this.step('removeDir', path, () => this.#inner.removeDir(path));
  }
  makeDir(path: string): Promise<boolean> {
    return this.step('makeDir', path, () => this.#inner.makeDir(path));
  }
  syncDir(path: string): Promise<void> {
    return this.step('syncDir', path, () => this.#inner.syncDir(path));
  }
  list(path: string) {
    return this.step('list', path, () => this.#inner.list(path));
  }
  size(path: string): Promise<number | null> {
    return this.step('size', path, () => this.#inner.size(path));
  }
  room(path: string) {
    return this.step('room', path, () => this.#inner.room(path));
  }
}

class FaultyFile implements DiskFile {
  readonly #disk: FaultyDisk;
  readonly #path: string;
  readonly #file: DiskFile;

  constructor(disk: FaultyDisk, path: string, file: DiskFile) {
    this.#disk = disk;
    this.#path = path;
    this.#file = file;
  }

  append(parts: readonly Uint8Array[]): Promise<void> {
    const whole = Buffer.concat(parts);
    return this.#disk.step(
      'append',
      this.#path,
      () => this.#file.append(parts),
      () => this.#file.append([whole.subarray(0, Math.ceil(whole.length / 2))]),
    );
  }
  read(byteOffset: number, byteLength: number): Promise<Buffer> {
    return this.#disk.step('read', this.#path, () => this.#file.read(byteOffset, byteLength));
  }
  sync(): Promise<void> {
    return this.#disk.step('sync', this.#path, () => this.#file.sync());
  }
  truncate(byteLength: number): Promise<void> {
    return this.#disk.step('truncate', this.#path, () => this.#file.truncate(byteLength));
  }
  size(): Promise<number> {
    return this.#disk.step('fstat', this.#path, () => this.#file.size());
  }
  /** Not a step: a killed process closes its files too. */
  close(): Promise<void> {
    return this.#file.close();
  }
}

/** A change of a directory that is not synced yet, and how it is taken back. */
interface UnsyncedName {
  readonly dir: string;
  undo(): Promise<void>;
}

/**
 * The real disk; `losePower` then makes it what it may be after the power came back: everything
 * that was not synced is gone.
 */
export class PowerLossDisk implements Disk {
  readonly #trash: string;
  /** Bytes of files that are on stable storage, by path; only of files that were written. */
  readonly #syncedBytes = new Map<string, number>();
  #unsynced: UnsyncedName[] = [];
  #trashCount = 0;

  /** @param trash an empty directory on the same file system, outside of what is tested */
  constructor(trash: string) {
    this.#trash = trash;
  }

  async create(path: string): Promise<DiskFile> {
    const file = await nodeDisk.create(path);
    this.#syncedBytes.set(path, 0);
    this.#note(path, () => rm(path, { force: true }));
    return this.#track(path, file);
  }
  async open(path: string, mode: 'append' | 'read'): Promise<DiskFile> {
    const file = await nodeDisk.open(path, mode);
    if (mode === 'append' && !this.#syncedBytes.has(path)) this.#syncedBytes.set(path, await file.size());
    return mode === 'append' ? this.#track(path, file) : file;
  }
  #track(path: string, file: DiskFile): DiskFile {
    return {
      append: (parts) => file.append(parts),
      read: (byteOffset, byteLength) => file.read(byteOffset, byteLength),
      sync: async () => {
        const size = await file.size();
        await file.sync();
        // A file may be renamed while it is open; what is written then is tracked under no name and kept.
        if (this.#syncedBytes.has(path)) this.#syncedBytes.set(path, size);
      },
      truncate: async (byteLength) => {
        await file.truncate(byteLength);
        this.#syncedBytes.set(path, Math.min(this.#syncedBytes.get(path) ?? 0, byteLength));
      },
      size: () => file.size(),
      close: () => file.close(),
    };
  }

  async rename(from: string, to: string): Promise<void> {
    // What it replaces may be there again after a power cut.
    this.#trashCount += 1;
    const replaced = join(this.#trash, `${this.#trashCount}-${basename(to)}`);
    await link(to, replaced).catch(() => undefined);
    await nodeDisk.rename(from, to);
    const synced = this.#syncedBytes.get(from);
    this.#syncedBytes.delete(from);
    if (synced !== undefined) this.#syncedBytes.set(to, synced);
    this.#note(to, async () => {
      await rename(to, from).catch(() => undefined);
      await rename(replaced, to).catch(() => undefined);
      const bytes = this.#syncedBytes.get(to);
      this.#syncedBytes.delete(to);
      if (bytes !== undefined) this.#syncedBytes.set(from, bytes);
    });
  }

  remove(path: string): Promise<void> {
    return this.#moveAway(path);
  }
  removeDir(path: string): Promise<void> {
    return this.#moveAway(path);
  }
  /** Removed names may come back until their directory is synced. */
  async #moveAway(path: string): Promise<void> {
    this.#trashCount += 1;
    const kept = join(this.#trash, `${this.#trashCount}-${basename(path)}`);
    try {
      await rename(path, kept);
    } catch {
      return;
    }
    this.#note(path, () => rename(kept, path).catch(() => undefined));
  }

  async makeDir(path: string): Promise<boolean> {
    const isNew = await nodeDisk.makeDir(path);
    if (isNew) this.#note(path, () => rm(path, { recursive: true, force: true }));
    return isNew;
  }
  async syncDir(path: string): Promise<void> {
    await nodeDisk.syncDir(path);
    this.#unsynced = this.#unsynced.filter(({ dir }) => dir !== path);
  }
  list(path: string) {
    return nodeDisk.list(path);
  }
  size(path: string): Promise<number | null> {
    return nodeDisk.size(path);
  }
  room(path: string) {
    return nodeDisk.room(path);
  }

  #note(path: string, undo: () => Promise<void>): void {
    this.#unsynced.push({ dir: dirname(path), undo });
  }

  /**
   * @param keep chance from 0 to 1 that an unsynced change of a name, or some of a file's unsynced bytes,
   * made it to the disk
   */
  async losePower(keep: number, random: () => number): Promise<void> {
    for (const { undo } of this.#unsynced.reverse()) if (random() >= keep) await undo();
    this.#unsynced = [];
    for (const [path, synced] of this.#syncedBytes) {
      const size = await stat(path).then(
        (status) => status.size,
        () => 0,
      );
      if (size <= synced) continue;
      await truncate(path, random() < keep ? synced + Math.floor(random() * (size - synced)) : synced);
    }
    this.#syncedBytes.clear();
  }
}

/** All files below a directory, relative, sorted. */
export async function listFiles(dir: string): Promise<string[]> {
  await mkdir(dir, { recursive: true });
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .sort();
}

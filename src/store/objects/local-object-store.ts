/**
 * Objects as files below a directory. The directory has one owner (the store's lock), so "create if absent"
 * is a look and a rename under a claim on the key. That works on file systems without hard links too.
 *
 * State: claims (keys being written) and a bounded cache of open files for reading. A cached file is closed
 * if it has been unused the longest and nobody reads it.
 */
import { dirname, join } from 'node:path';
import { type Disk, type DiskFile, makeDirs, temporaryFor, writeDurably } from '../disk/disk.js';
import { isObjectFolder, isObjectName } from '../disk/layout.js';
import { checkKey, isKey, type ObjectStore, type StoredObject } from './object-store.js';

const OPEN_FILES_MAX = 64;

interface OpenFile {
  readonly file: Promise<DiskFile>;
  readers: number;
}

export class LocalObjectStore implements ObjectStore {
  readonly #disk: Disk;
  readonly #root: string;
  readonly #claims = new Map<string, Promise<boolean>>();
  /** Least recently used first. */
  readonly #open = new Map<string, OpenFile>();

  constructor(disk: Disk, root: string) {
    this.#disk = disk;
    this.#root = root;
  }

  put(key: string, bytes: Uint8Array): Promise<boolean> {
    return this.#createOnce(key, (path) => writeDurably(this.#disk, path, bytes));
  }

  putFile(key: string, source: string): Promise<boolean> {
    return this.#createOnce(key, async (path) => {
      await this.#disk.rename(source, path);
      await this.#disk.syncDir(dirname(path));
      await this.#disk.syncDir(dirname(source));
    });
  }

  async #createOnce(key: string, create: (path: string) => Promise<void>): Promise<boolean> {
    // Who comes second waits for the first's success, or takes its place if it fails.
    for (let first = this.#claims.get(key); first !== undefined; first = this.#claims.get(key)) {
      if (await first.catch(() => false)) return false;
    }
    const claim = this.#create(key, create).finally(() => this.#claims.delete(key));
    this.#claims.set(key, claim);
    return claim;
  }

  async #create(key: string, create: (path: string) => Promise<void>): Promise<boolean> {
    const path = this.#path(key);
    if ((await this.#disk.size(path)) !== null) {
      // It may be there from a put whose last step failed.
      await this.#disk.syncDir(dirname(path));
      return false;
    }
    if (key.includes('/')) await makeDirs(this.#disk, this.#root, dirname(key));
    await create(path);
    return true;
  }

  async read(key: string, byteOffset: number, byteLength: number): Promise<Buffer> {
    const open = this.#openFor(key);
    open.readers += 1;
    try {
      return await (await open.file).read(byteOffset, byteLength);
    } catch (error) {
      // A file that could not be opened or read is not kept open.
      if (this.#open.get(key) === open) this.#open.delete(key);
      throw error;
    } finally {
      open.readers -= 1;
      if (open.readers === 0 && this.#open.get(key) !== open) await closeQuietly(open);
      await this.#closeSurplus();
    }
  }

  size(key: string): Promise<number | null> {
    return this.#disk.size(this.#path(key));
  }

  async list(prefix: string): Promise<StoredObject[]> {
    const found: StoredObject[] = [];
    const visit = async (folder: string): Promise<void> => {
      const entries = await this.#disk.list(this.#path(folder));
      // What has another name is somebody else's.
      const plain = entries.filter(({ name }) => isKey(name));
      await Promise.all(
        plain.map(async ({ name, isDirectory }) => {
          const key = `${folder}/${name}`;
          if (isDirectory) await (isObjectFolder(key) ? visit(key) : undefined);
          else found.push({ key, sizeBytes: (await this.#disk.size(join(this.#root, key))) ?? 0 });
        }),
      );
    };
    await visit(prefix);
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async delete(key: string): Promise<void> {
    const path = this.#path(key);
    const open = this.#open.get(key);
    this.#open.delete(key);
    if (open?.readers === 0) await closeQuietly(open);
    if ((await this.#disk.size(path)) === null) return;
    await this.#disk.remove(path);
    await this.#disk.syncDir(dirname(path));
  }

  withFile<T>(key: string, use: (path: string) => Promise<T>): Promise<T> {
    return use(this.#path(key));
  }

  async close(): Promise<void> {
    const idle = [...this.#open.values()].filter(({ readers }) => readers === 0);
    this.#open.clear();
    await Promise.all(idle.map(closeQuietly));
  }

  /**
   * Removes temporary files of puts that did not finish, and no others: what else there is, is not the
   * store's. For the opening of the store only: nothing may be written meanwhile.
   */
  async removeDebris(prefix: string): Promise<void> {
    const folder = this.#path(prefix);
    for (const { name, isDirectory } of await this.#disk.list(folder)) {
      const key = `${prefix}/${name}`;
      if (isDirectory && isKey(name) && isObjectFolder(key)) await this.removeDebris(key);
      const wanted = isDirectory ? null : temporaryFor(name);
      if (wanted !== null && isObjectName(`${prefix}/${wanted}`)) await this.#disk.remove(join(folder, name));
    }
  }

  #path(key: string): string {
    return join(this.#root, checkKey(key));
  }

  #openFor(key: string): OpenFile {
    const known = this.#open.get(key);
    const open = known ?? { file: this.#disk.open(this.#path(key), 'read'), readers: 0 };
    this.#open.delete(key);
    this.#open.set(key, open);
    return open;
  }

  async #closeSurplus(): Promise<void> {
    for (const [key, open] of this.#open) {
      if (this.#open.size <= OPEN_FILES_MAX) return;
      if (open.readers > 0) continue;
      this.#open.delete(key);
      await closeQuietly(open);
    }
  }
}

async function closeQuietly(open: OpenFile): Promise<void> {
  await open.file.then((file) => file.close()).catch(() => undefined);
}

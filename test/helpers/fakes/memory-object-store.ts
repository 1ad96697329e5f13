/** Objects in memory: the store's port to where packs and manifests are, without a disk. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkKey, type ObjectStore, type StoredObject } from '../../../src/store/objects/object-store.js';

export class MemoryObjectStore implements ObjectStore {
  readonly #objects = new Map<string, Buffer>();

  async put(key: string, bytes: Uint8Array): Promise<boolean> {
    if (this.#objects.has(checkKey(key))) return false;
    this.#objects.set(key, Buffer.from(bytes));
    return true;
  }
  async putFile(key: string, path: string): Promise<boolean> {
    if (!(await this.put(key, await readFile(path)))) return false;
    await rm(path);
    return true;
  }
  async read(key: string, byteOffset: number, byteLength: number): Promise<Buffer> {
    const bytes = this.#objects.get(checkKey(key));
    if (bytes === undefined) throw failure('ENOENT', `${key} is missing`);
    if (byteOffset + byteLength > bytes.length) throw failure('ETRUNCATED', `${key} ends before that`);
    return Buffer.from(bytes.subarray(byteOffset, byteOffset + byteLength));
  }
  async size(key: string): Promise<number | null> {
    return this.#objects.get(checkKey(key))?.length ?? null;
  }
  async list(prefix: string): Promise<StoredObject[]> {
    return [...this.#objects]
      .filter(([key]) => key.startsWith(`${checkKey(prefix)}/`))
      .map(([key, bytes]) => ({ key, sizeBytes: bytes.length }))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  }
  async delete(key: string): Promise<void> {
    this.#objects.delete(checkKey(key));
  }
  async withFile<T>(key: string, use: (path: string) => Promise<T>): Promise<T> {
    const dir = await mkdtemp(join(tmpdir(), 'memory-object-'));
    try {
      const path = join(dir, randomBytes(4).toString('hex'));
      await writeFile(path, await this.read(key, 0, (await this.size(key)) ?? 0));
      return await use(path);
    } finally {
      await rm(dir, { recursive: true });
    }
  }
  async close(): Promise<void> {}
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/** An object store for tests: every operation is a numbered step, and a plan decides what happens at it. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ObjectStore, StoredObject } from '../../../src/store/objects/object-store.js';
import type { Step } from './disk.js';

/**
 * The code of a failure before anything was done; `late`: it is done, and only the answer is lost; `flipBit`:
 * in what is read this bit is wrong, counted from its start and round and round (what reads no bytes of an
 * object is not affected).
 */
export type ObjectFault =
  | 'EIO'
  | 'ENOSPC'
  | 'ETRUNCATED'
  | { readonly late: 'EIO' }
  | { readonly flipBit: number };

export class FaultyObjectStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #plan: (step: Step) => ObjectFault | null;
  #stepCount = 0;

  constructor(inner: ObjectStore, plan: (step: Step) => ObjectFault | null) {
    this.#inner = inner;
    this.#plan = plan;
  }

  async #step<T>(
    name: string,
    key: string,
    action: () => Promise<T>,
    withFlippedBit: (bit: number) => Promise<T> = action,
  ): Promise<T> {
    this.#stepCount += 1;
    const fault = this.#plan({ number: this.#stepCount, name, path: key });
    if (fault === null) return action();
    if (typeof fault !== 'string' && 'flipBit' in fault) return withFlippedBit(fault.flipBit);
    if (typeof fault !== 'string') await action();
    const code = typeof fault === 'string' ? fault : fault.late;
    throw Object.assign(new Error(`${code}: injected at ${name} ${key}`), { code });
  }

  put(key: string, bytes: Uint8Array): Promise<boolean> {
    return this.#step('put', key, () => this.#inner.put(key, bytes));
  }
  putFile(key: string, path: string): Promise<boolean> {
    return this.#step('putFile', key, () => this.#inner.putFile(key, path));
  }
  read(key: string, byteOffset: number, byteLength: number): Promise<Buffer> {
    const read = () => this.#inner.read(key, byteOffset, byteLength);
    return this.#step('read', key, read, async (bit) => flipBit(await read(), bit));
  }
  size(key: string): Promise<number | null> {
    return this.#step('size', key, () => this.#inner.size(key));
  }
  list(prefix: string): Promise<StoredObject[]> {
    return this.#step('list', prefix, () => this.#inner.list(prefix));
  }
  delete(key: string): Promise<void> {
    return this.#step('delete', key, () => this.#inner.delete(key));
  }
  withFile<T>(key: string, use: (path: string) => Promise<T>): Promise<T> {
    return this.#step(
      'withFile',
      key,
      () => this.#inner.withFile(key, use),
      (bit) => this.#inner.withFile(key, (path) => withSpoiltCopy(path, bit, use)),
    );
  }
  /** Not a step: it only frees memory and files. */
  close(): Promise<void> {
    return this.#inner.close();
  }
}

async function withSpoiltCopy<T>(path: string, bit: number, use: (path: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'faulty-object-'));
  try {
    const copy = join(dir, 'object');
    await writeFile(copy, flipBit(await readFile(path), bit));
    return await use(copy);
  } finally {
    await rm(dir, { recursive: true });
  }
}

function flipBit(bytes: Buffer, bit: number): Buffer {
  if (bytes.length === 0) return bytes;
  const at = bit % (bytes.length * 8);
  bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at & 7));
  return bytes;
}

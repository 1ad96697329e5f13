/** Objects on a disk that takes its time, a different one for each call: things overtake each other. */
import { setImmediate } from 'node:timers/promises';
import type { Disk } from '../../../src/store/disk/disk.js';
import { LocalObjectStore } from '../../../src/store/objects/local-object-store.js';
import type { Random } from '../seed.js';

/** Of the event loop. */
const TURNS_MAX = 8;

export class DawdlingObjects extends LocalObjectStore {
  readonly #random: Random;

  constructor(disk: Disk, root: string, random: Random) {
    super(disk, root);
    this.#random = random;
  }

  override async read(key: string, byteOffset: number, byteLength: number): Promise<Buffer> {
    await this.#dawdle();
    const bytes = await super.read(key, byteOffset, byteLength);
    await this.#dawdle();
    return bytes;
  }

  override async putFile(key: string, source: string): Promise<boolean> {
    await this.#dawdle();
    const isNew = await super.putFile(key, source);
    await this.#dawdle();
    return isNew;
  }

  override async put(key: string, bytes: Uint8Array): Promise<boolean> {
    await this.#dawdle();
    return super.put(key, bytes);
  }

  override async delete(key: string): Promise<void> {
    await this.#dawdle();
    return super.delete(key);
  }

  override async withFile<T>(key: string, use: (path: string) => Promise<T>): Promise<T> {
    await this.#dawdle();
    return super.withFile(key, use);
  }

  async #dawdle(): Promise<void> {
    for (let turns = this.#random.below(TURNS_MAX); turns > 0; turns -= 1) await setImmediate();
  }
}

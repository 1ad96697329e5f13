/** Writes that LMDB has queued, and their results. */
import { statfs } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { MiB } from '../../domain/base/limits.js';
import { ensureIndexRoom } from './room.js';

const REASON_WAIT_MS = 1000;
/**
 * With less than this free, a write that failed is taken to have failed for that: LMDB calls a
 * part of it an I/O error.
 */
const ROOM_BYTES = MiB;

/** The promises of some writes, one for all of a transaction: each is looked at, so none fails unseen. */
export class IndexWrites {
  readonly #path: string;
  readonly #promises = new Set<Promise<unknown>>();

  /**
   * @param path of the index
   * @param count of the writes, at most
   * @throws code `ENOSPC` if there may be no room for them
   */
  constructor(path: string, count: number) {
    ensureIndexRoom(path, count);
    this.#path = path;
  }

  add(write: Promise<unknown>): void {
    if (this.#promises.has(write)) return;
    this.#promises.add(write);
    // It may fail before `done` is called, and its reason is another promise that must be looked at.
    write.catch((error) => reasonOf(error));
  }

  /** All are committed when it resolves. Code `ENOSPC` for a full disk. */
  async done(): Promise<void> {
    try {
      await Promise.all(this.#promises);
    } catch (error) {
      const reason = await reasonOf(error);
      const { bavail, bsize } = await statfs(this.#path);
      if (bavail * bsize >= ROOM_BYTES) throw reason;
      throw Object.assign(new Error('there is no space left for the index', { cause: reason }), {
        code: 'ENOSPC',
      });
    }
  }
}

/** One write, which is queued before anything else happens, and committed when it resolves. */
export async function written(path: string, write: () => Promise<unknown>, count: number = 1): Promise<void> {
  const writes = new IndexWrites(path, count);
  writes.add(write());
  await writes.done();
}

/** LMDB says why a transaction failed in a promise of its own. */
async function reasonOf(error: unknown): Promise<unknown> {
  const reason = (error as { commitError?: unknown }).commitError;
  if (!(reason instanceof Promise)) return error;
  const caught = reason.then(
    () => error,
    (cause: unknown) => cause,
  );
  return Promise.race([caught, setTimeout(REASON_WAIT_MS, error, { ref: false })]);
}

/** The clones that earlier backups of an image left, as one session finds and leaves them. */
import { lstat, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { sortClones } from '../../../domain/device/clones.js';
import { type CloneFile, type ImageFile, removeClone, takeClones } from './clone-file.js';
import { type CloneRecord, readRecord, removeRecord, whyNotAsRecorded, writeRecord } from './clone-record.js';

interface KeptClone extends CloneRecord {
  readonly clone: CloneFile;
}

export interface Wish {
  /** That of the clone to be made: what has it already was never finished. */
  readonly sessionId: string;
  /** Null: none is asked for. */
  readonly basePointId: string | null;
  /** Why no clone is to be believed; null: nothing speaks against them. */
  readonly doubt: string | null;
}

/** Locked by this process until `close`. */
export class KeptClones {
  readonly #stateDirectory: string;
  readonly #clones: Set<KeptClone>;
  /** What the session can compare with. */
  readonly base: KeptClone | null;
  /** A clause: why there is a base, or none. */
  readonly reason: string;

  private constructor(
    stateDirectory: string,
    clones: ReadonlySet<KeptClone>,
    base: KeptClone | null,
    reason: string,
  ) {
    this.#stateDirectory = stateDirectory;
    this.#clones = new Set(clones);
    this.base = base;
    this.reason = reason;
  }

  /** What is of no use any more is removed. */
  static async take(image: ImageFile, stateDirectory: string, wish: Wish): Promise<KeptClones> {
    const taken = await takeClones(image);
    const clones = new Set<KeptClone>();
    let problem: string | null = null;
    try {
      for (const clone of taken) {
        const record = await readRecord(stateDirectory, clone.cloneId);
        const why = wish.doubt ?? (await whyNotBelieved(image, clone, record));
        if (record?.pointId === wish.basePointId) problem = why;
        if (record !== null && why === null && clone.cloneId !== wish.sessionId)
          clones.add({ ...record, clone });
        else await remove(stateDirectory, clone);
      }
      const { base, useless } = sortClones([...clones], wish.basePointId);
      const kept = new KeptClones(stateDirectory, clones, base, problem ?? whyBase(base, wish));
      for (const clone of useless) await kept.#remove(clone);
      await removeStaleRecords(image, stateDirectory);
      return kept;
    } catch (error) {
      for (const { handle } of taken) await handle.close();
      throw error;
    }
  }

  knows(pointId: string): boolean {
    return this.#of(pointId) !== undefined;
  }

  /** More of the image differs from the point than its clone tells. @param byteRanges all that does */
  async mark(pointId: string, byteRanges: CloneRecord['alsoChanged']): Promise<void> {
    const known = this.#of(pointId);
    if (known === undefined) throw new Error(`no clone of point ${pointId} is kept`);
    const { clone, ...record } = known;
    await writeRecord(this.#stateDirectory, clone.cloneId, { ...record, alsoChanged: [...byteRanges] });
  }

  /** Another clone has taken their place. */
  async removeAll(): Promise<void> {
    for (const kept of this.#clones) await this.#remove(kept);
  }

  async close(): Promise<void> {
    for (const { clone } of this.#clones) await clone.handle.close();
    this.#clones.clear();
  }

  /** What else differs from the point, in bytes. */
  alsoChangedSince(pointId: string): CloneRecord['alsoChanged'] {
    return this.#of(pointId)?.alsoChanged ?? [];
  }

  #of(pointId: string): KeptClone | undefined {
    return [...this.#clones].find((kept) => kept.pointId === pointId);
  }

  async #remove(kept: KeptClone): Promise<void> {
    this.#clones.delete(kept);
    await remove(this.#stateDirectory, kept.clone);
  }
}

async function whyNotBelieved(
  image: ImageFile,
  clone: CloneFile,
  record: CloneRecord | null,
): Promise<string | null> {
  if (record === null) return 'nothing is recorded of the clone that is kept';
  if (record.imageKey !== image.key) return 'the image is another file than at the last point';
  return whyNotAsRecorded(record, clone, await clone.handle.stat({ bigint: true }));
}

function whyBase(base: KeptClone | null, { basePointId, doubt }: Wish): string {
  if (doubt !== null) return doubt;
  if (base !== null) return 'the clone of the last point shows what has changed since';
  return basePointId === null ? 'there is no point to compare with' : 'no clone of the last point is kept';
}

async function remove(stateDirectory: string, clone: CloneFile): Promise<void> {
  await removeClone(clone);
  await removeRecord(stateDirectory, clone.cloneId);
}

/** Of clones of this image that somebody has removed. */
async function removeStaleRecords(image: ImageFile, stateDirectory: string): Promise<void> {
  for (const cloneId of await readdir(join(stateDirectory, 'clones')).catch(() => [])) {
    const record = await readRecord(stateDirectory, cloneId);
    if (record === null || dirname(record.path) !== dirname(image.path)) continue;
    const isGone = await lstat(record.path).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
    );
    if (isGone) await removeRecord(stateDirectory, cloneId);
  }
}

/** The contents of a pack, from its index or, if that is damaged, from its records. */
import { type Digester, native } from '../../native/index.js';
import { errnoOf } from '../disk/disk.js';
import { packKey } from '../disk/layout.js';
import type { ObjectStore } from '../objects/object-store.js';

export interface PackContents {
  /** PACK_KIND_DATA or PACK_KIND_TREE. */
  readonly kind: number;
  readonly entries: Buffer;
  /** Why its index is not believed; null if it is. */
  readonly salvaged: string | null;
}

/** A pack's index; of a pack whose index is damaged, what its records themselves prove. */
export function readPackEntries(
  objects: ObjectStore,
  packId: string,
  digester: Digester,
): Promise<PackContents> {
  return objects.withFile(packKey(packId), async (path) => {
    try {
      const index = await native.readPackIndex(path);
      if (index.packId === packId) return { ...index, salvaged: null };
      return { ...index, salvaged: `it calls itself pack ${index.packId}` };
    } catch (error) {
      if (!isDataError(error)) throw error;
      return {
        ...(await native.salvagePack(path, digester)),
        salvaged: error instanceof Error ? error.message : String(error),
      };
    }
  });
}

/** The bytes themselves are at fault, not the process, its limits or a disk that is gone. */
export function isDataError(error: unknown): boolean {
  const code = errnoOf(error);
  return (
    code !== undefined &&
    (/^bad-/.test(code) || ['truncated', 'ETRUNCATED', 'EIO', 'ENOENT', 'EILSEQ', 'EUCLEAN'].includes(code))
  );
}
